"""What an account may do by its owner's grant: what is missing is named before anything is sent, and told once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prefect.client.orchestration import get_client
from prefect.events import ReceivedEvent, ResourceSpecification
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter

from prefect_bluesky import AuthError, AuthProblem, BlueskyCredentials, BlueskyOAuthClient, Image, Post, Video
from prefect_bluesky.alerts import events
from prefect_bluesky.prefect_api import given_block
from prefect_bluesky.sessions.granted_session import GrantedSession
from tests.pds.server import Account, RealPds
from tests.support import forget_processes_memory, picture, texts
from tests.world import wait_for

pytestmark = [pytest.mark.pds, pytest.mark.usefixtures("prefect_api", "directory")]

WRITE, UPLOAD = "com.atproto.repo.applyWrites", "com.atproto.repo.uploadBlob"
ONLY_TEXT = "repo:app.bsky.feed.post?action=create"

Grant = Callable[[str], BlueskyCredentials]


@pytest.fixture
def pds(real_pds: RealPds) -> RealPds:
    return real_pds


@pytest.fixture
def grant(real_pds: RealPds, account: Account) -> Grant:
    """Let the account's owner grant rights, once, and load the account's saved block as a flow does."""

    def granted(rights: str) -> BlueskyCredentials:
        name = account.handle.replace(".", "-")
        client = BlueskyOAuthClient(rights=rights)
        block = BlueskyCredentials(handle=account.handle, service_url=real_pds.url, oauth_client=client)
        block.save(name, overwrite=True)
        visit = block.visit()
        visit.take(real_pds.consent(account, visit.link()))
        forget_processes_memory()
        return given_block(name, BlueskyCredentials, "account")

    return granted


def heard(account: Account, *names: str) -> list[ReceivedEvent]:
    """Return the events of an account."""
    about = EventResourceFilter(labels=ResourceSpecification({"did": account.did}))
    with get_client(sync_client=True) as client:
        return client.read_events(EventFilter(event=EventNameFilter(name=list(names)), resource=about), limit=50).events


NEEDS = {
    "replies_from": (Post(text="a", replies_from=("followers",)), "replies_from needs the right create"),
    "quotable": (Post(text="a", quotable=False), "quotable=False needs the right create"),
    "image": (Post(text="a", images=[Image(source=picture(4, 4), alt="Red")]), "images needs the right create"),
    "video": (Post(text="a", video=Video(source=b"", alt="A film")), "video needs the right video"),
}


@pytest.mark.parametrize("field", NEEDS)
def test_a_post_that_needs_more_is_refused_before_anything_is_sent(
    field: str, grant: Grant, real_pds: RealPds, account: Account
) -> None:
    credentials = grant(ONLY_TEXT)
    before = len(real_pds.requests())
    post, said = NEEDS[field]
    with pytest.raises(AuthError, match=said) as refused:
        credentials.publish(post)
    assert refused.value.problem is AuthProblem.INSUFFICIENT_SCOPE
    assert not {WRITE, UPLOAD} & {request.nsid for request in real_pds.requests()[before:]}


def test_of_many_posts_only_those_that_need_more_are_refused(grant: Grant, real_pds: RealPds, account: Account) -> None:
    outcomes = grant(ONLY_TEXT).publish_many([("one", "1"), (NEEDS["quotable"][0], "2"), ("three", "3")])
    assert [isinstance(each, AuthError) for each in outcomes] == [False, True, False]
    assert sorted(texts(real_pds, account)) == ["one", "three"]


def test_a_deletion_without_the_right_is_refused_before_it_is_sent(grant: Grant, real_pds: RealPds) -> None:
    credentials = grant("create")
    post = credentials.publish("stays")
    before = len(real_pds.requests())
    with pytest.raises(AuthError, match="to delete a post needs the right delete"):
        credentials.delete_post(post)
    assert "com.atproto.repo.deleteRecord" not in {request.nsid for request in real_pds.requests()[before:]}


def test_with_the_right_a_post_is_deleted(grant: Grant, real_pds: RealPds, account: Account) -> None:
    credentials = grant("create delete")
    credentials.delete_post(credentials.publish("goes"))
    assert texts(real_pds, account) == []


def test_a_permission_set_allows_what_its_lexicon_says(grant: Grant, real_pds: RealPds, account: Account) -> None:
    name = "app.bsky.authCreatePosts"
    permission = {
        "type": "permission",
        "resource": "repo",
        "action": ["create"],
        "collection": ["app.bsky.feed.post", "app.bsky.feed.postgate", "app.bsky.feed.threadgate"],
    }
    about = {"title": "Create Bluesky Posts", "detail": "Can not update or delete posts."}
    main = {"type": "permission-set", **about, "permissions": [permission]}
    real_pds.publish_lexicon({"lexicon": 1, "id": name, "defs": {"main": main}})
    credentials = grant(f"include:{name} blob:image/*")
    post = credentials.publish(Post(text="a", quotable=False, images=[Image(source=picture(4, 4), alt="Red")]))
    assert texts(real_pds, account) == ["a"]
    with pytest.raises(AuthError, match="to delete a post needs the right delete"):
        credentials.delete_post(post)


def test_people_are_told_once_and_again_when_the_right_is_granted(grant: Grant, account: Account) -> None:
    credentials = grant(ONLY_TEXT)
    for _ in range(2):
        with pytest.raises(AuthError):
            credentials.publish(NEEDS["quotable"][0])
    wait_for(lambda: heard(account, events.AUTH_FAILED), "the incident")
    (failed,) = heard(account, events.AUTH_FAILED)
    assert "quotable=False needs the right create" in failed.payload["explanation"]
    assert "authorize" in failed.payload["remedy"]
    grant("create").publish(NEEDS["quotable"][0])
    wait_for(lambda: heard(account, events.AUTH_RECOVERED), "the end of the incident")
    (recovered,) = heard(account, events.AUTH_RECOVERED)
    assert recovered.resource["incident"] == failed.resource["incident"]


def test_a_grant_that_is_about_to_end_and_has_no_spare_session_is_told_once(grant: Grant, account: Account) -> None:
    credentials = grant("create")
    store = credentials.session_store()
    for _ in range(2):
        saved = store.load()
        assert saved
        session = saved.document.session
        assert isinstance(session, GrantedSession)
        long_ago = datetime.now(UTC) - timedelta(hours=2)
        old = replace(session, received_at=long_ago, granted_at=datetime.now(UTC) - timedelta(days=12))
        store.save(replace(saved.document, session=old), saved)
        forget_processes_memory()
        assert credentials.ensure_session().action == "refreshed"
    wait_for(lambda: heard(account, events.VISIT_DUE), "the event")
    (due,) = heard(account, events.VISIT_DUE)
    assert due.payload["reason"].startswith("The grant ends then. There is no spare session")
    assert due.payload["until"] == f"{old.ends_at:%Y-%m-%d}"
