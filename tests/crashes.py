"""A thread published through crashes, each attempt in a new worker process; and what it has come to in the end."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx

from prefect_bluesky import Image, Post, PublishedPost, ThreadPost
from prefect_bluesky.protocol.records import (
    POST_COLLECTION,
    POSTGATE_COLLECTION,
    THREADGATE_COLLECTION,
    blob_reference,
    cid,
)
from tests import proxy
from tests.fates import Destiny, Life
from tests.pds.server import RealPds
from tests.support import Account, Pds, block, picture
from tests.worker import Worker, publish_under

_RETRYABLE = {"ServiceUnavailable", "RateLimited"}
_PATIENCE, _IMPATIENCE = 30.0, 2.0
_AT_ONCE = 2 * (os.cpu_count() or 1)


class Stage:
    """A PDS, with somebody to mention and something to quote.

    Args:
        pds: the PDS, under no other load that changes what its accounts hold.
    """

    def __init__(self, pds: Pds) -> None:
        self.pds = pds
        friend = pds.create_account()
        self.friend: str = friend.handle
        self.quoted = block(pds, friend).publish("Something to quote").uri
        # One for all: a client takes 20 ms to make.
        self.http = httpx.Client(base_url=f"{pds.url}/xrpc/", trust_env=False, timeout=_PATIENCE)

    def close(self) -> None:
        """Have no more of it; the PDS stays."""
        self.http.close()

    def ask(self, method: str, **params: Any) -> httpx.Response:
        """Ask the PDS itself, past every proxy."""
        return self.http.get(method, params=params)

    def records(self, account: Account, collection: str) -> list[dict[str, Any]]:
        """An account's records of one kind, in the order of their keys."""
        answer = self.ask(
            "com.atproto.repo.listRecords", repo=account.did, collection=collection, reverse=True, limit=100
        )
        found: list[dict[str, Any]] = answer.raise_for_status().json()["records"]
        return found

    def thread(self, name: str) -> Post:
        """Five posts with images, a mention, a quote, a link and gates."""
        images = [Image(source=picture(16 + number, 16), alt=f"{name}: image {number}") for number in range(4)]
        return Post(
            text=f"{name} 1/5",
            images=tuple(images[:2]),
            replies_from=("mentioned",),
            quotable=False,
            shorten_links=False,
            thread=(
                ThreadPost(text=f"{name} 2/5 for @{self.friend}"),
                ThreadPost(text=f"{name} 3/5", images=(images[2],), quote=self.quoted),
                ThreadPost(text=f"{name} 4/5 https://example.com #crash"),
                ThreadPost(text=f"{name} 5/5", images=(images[3],)),
            ),
        )


_COLLECTIONS = (POST_COLLECTION, THREADGATE_COLLECTION, POSTGATE_COLLECTION)

WRONGS = ("duplicates", "losses", "orphans", "wrong_order", "wrong_cids", "wrong_answers")


@dataclass
class Run:
    """The outcome of a run.

    Attributes:
        name: which one.
        destiny: what befell its workers.
        lives: how many workers it took.
        answers: what those were told that lived to hear of the post.
        wrong: what is not as it should be, by its name in `WRONGS`.
    """

    name: str
    destiny: Destiny = field(default_factory=Destiny)
    lives: int = 0
    answers: list[PublishedPost] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)


def run(stage: Stage, name: str, lives: Sequence[Life]) -> Run:
    """Publish one thread through what befalls its workers, then by one that is left alone; judge what is there then.

    Args:
        stage: where.
        name: what to call the run.
        lives: what befalls its workers.
    """
    done = Run(name)
    account = stage.pds.create_account()
    post = stage.thread(f"run {name}")
    for life in (*lives, ()):
        deaths = done.destiny.deaths
        outcome = _live(stage.pds, account, post, life, done.destiny)
        done.lives += 1
        if isinstance(outcome, PublishedPost):
            done.answers.append(outcome)
        elif done.destiny.deaths == deaths and (outcome not in _RETRYABLE or not life):
            done.wrong["wrong_answers"] = f"worker {done.lives} ended in {outcome}"
    done.destiny.fulfil()
    done.wrong |= judge(stage, account, post, done.answers)
    return done


def run_all(plans: Iterable[tuple[Stage, str, Sequence[Life]]]) -> list[Run]:
    """Make runs, some of them at the same time, each as `run` does."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        made = [threads.submit(copy_context().run, partial(run, *plan)) for plan in plans]
        return [each.result() for each in made]


def _live(pds: Pds, account: Account, post: Post, life: Life, destiny: Destiny) -> Any:
    """Let a new worker publish; its outcome, or None if it had no time to say so."""
    patience = _IMPATIENCE if any(fault.fate == "timed out" for fault in life) else _PATIENCE
    with closing(Worker()) as worker, proxy.run(pds.url, destiny.of(life, worker.shoot)) as url:
        credentials = block(pds, account).model_copy(update={"service_url": url})
        try:
            worker.prepare(publish_under, credentials, post, "the thread", patience)
            worker.go()
            return worker.outcome()
        except EOFError:
            return None
        finally:
            worker.kill()


def judge(stage: Stage, account: Account, post: Post, answers: Sequence[PublishedPost]) -> dict[str, str]:
    """Return the defects of an account's records, which are to be one thread and nothing else.

    Args:
        stage: where it lies.
        account: whose it is.
        post: what was written.
        answers: what workers were told of it.
    """
    collections = stage.ask("com.atproto.repo.describeRepo", repo=account.did).raise_for_status().json()["collections"]
    records = {collection: stage.records(account, collection) for collection in {*collections, *_COLLECTIONS}}
    wanted = Counter({(POST_COLLECTION, part.text): 1 for part in post.posts()})
    wanted.update([(THREADGATE_COLLECTION, ""), (POSTGATE_COLLECTION, "")])
    found = Counter((kind, record["value"].get("text", "")) for kind, those in records.items() for record in those)
    wrong: dict[str, str] = {}
    if again := {each: times for each, times in found.items() if each in wanted and times > 1}:
        wrong["duplicates"] = str(again)
    if strange := found.keys() - wanted.keys():
        wrong["orphans"] = str(strange)
    if missing := wanted.keys() - found.keys():
        wrong["losses"] = str(missing)
    if not wrong:
        posts = records[POST_COLLECTION]
        wrong |= dict(_flaws(post, posts, records[THREADGATE_COLLECTION] + records[POSTGATE_COLLECTION]))
        if isinstance(stage.pds, RealPds):
            # The sandbox gives no blobs out. It has checked that each was there when the records came.
            wrong |= dict(_lost_blobs(stage, account, posts))
        right = _as_answered(account, posts)
        if other := [answer for answer in answers if answer != right]:
            wrong["wrong_answers"] = f"{other} for {right}"
    return wrong


def _flaws(post: Post, posts: Sequence[dict[str, Any]], gates: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Return the defects of a complete thread."""
    values = [each["value"] for each in posts]
    if [value["text"] for value in values] != [part.text for part in post.posts()]:
        yield "wrong_order", "texts"
    times = [value["createdAt"] for value in values]
    if times != sorted(set(times)):
        yield "wrong_order", f"times: {times}"
    if [[image["alt"] for image in _images(value)] for value in values] != [
        [image.alt for image in part.images] for part in post.posts()
    ]:
        yield "wrong_order", "images"
    references = [{"uri": each["uri"], "cid": each["cid"]} for each in posts]
    replies = [None, *({"root": references[0], "parent": parent} for parent in references[:-1])]
    if [value.get("reply") for value in values] != replies:
        yield "wrong_cids", "a post does not answer the one before it"
    if any(gate["value"]["post"] != posts[0]["uri"] for gate in gates):
        yield "orphans", "a gate of another post"
    if any(cid(each["value"]) != each["cid"] for each in (*posts, *gates)):
        yield "wrong_cids", "a record is not what its CID says"


def _images(value: dict[str, Any]) -> list[dict[str, Any]]:
    embed = value.get("embed", {})
    images: list[dict[str, Any]] = embed.get("media", embed).get("images", [])
    return images


def _lost_blobs(stage: Stage, account: Account, posts: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    references = [image["image"] for each in posts for image in _images(each["value"])]
    for reference in references:
        answer = stage.ask("com.atproto.sync.getBlob", did=account.did, cid=reference["ref"]["$link"])
        if answer.is_error or blob_reference(answer.content, reference["mimeType"]) != reference:
            yield "losses", f"blob {reference}"
    kept = stage.ask("com.atproto.sync.listBlobs", did=account.did).raise_for_status().json()["cids"]
    if set(kept) != {reference["ref"]["$link"] for reference in references}:
        yield "orphans", f"blobs {kept}"


def _as_answered(account: Account, posts: Sequence[dict[str, Any]]) -> PublishedPost:
    first, *others = (
        PublishedPost(
            uri=each["uri"],
            cid=each["cid"],
            url=f"https://bsky.app/profile/{account.handle}/post/{each['uri'].rsplit('/', 1)[1]}",
        )
        for each in posts
    )
    return first.model_copy(update={"posts": (first, *others)})
