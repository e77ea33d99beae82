"""Every kind of post, read back from the sandbox and from a real PDS: it equals what was meant, as was computed."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from PIL import Image as Picture

from prefect_bluesky import (
    BlueskyCredentials,
    Captions,
    Image,
    LinkCard,
    Post,
    PublishedPost,
    ThreadPost,
    Video,
    sandbox,
)
from prefect_bluesky.errors import InvalidInput, KeyConflict, RequestRefused, SourceUnavailable
from tests.support import LOGIN, WRITE, Pds, block, counted, picture, record_at, texts, web_page
from tests.test_mp4 import track, video

POST = "app.bsky.feed.post"


class Author:
    """An account, and what it has published."""

    def __init__(self, pds: Pds) -> None:
        self.pds = pds
        self.account = pds.create_account()
        self.credentials: BlueskyCredentials = block(pds, self.account)

    def publish(self, post: Any, key: str | None = None) -> dict[str, Any]:
        """Publish a post, and read its record back."""
        return self.stored(self.credentials.publish(post, key))

    def stored(self, post: PublishedPost, collection: str = POST) -> dict[str, Any]:
        """A record as the PDS has it; its CID is the one that was computed."""
        found = record_at(self.pds, post.uri.replace(POST, collection))
        if collection == POST:
            assert found["cid"] == post.cid
        value: dict[str, Any] = found["value"]
        return value


@pytest.fixture
def author(pds: Pds) -> Author:
    return Author(pds)


def blob(author: Author, reference: dict[str, Any]) -> bytes:
    """The bytes of a blob, as the PDS has them."""
    params = {"did": author.account.did, "cid": reference["ref"]["$link"]}
    answer = httpx.get(f"{author.pds.url}/xrpc/com.atproto.sync.getBlob", params=params, trust_env=False)
    assert len(answer.raise_for_status().content) == reference["size"]
    return answer.content


class TestThread:
    def test_each_post_answers_the_one_before(self, author: Author) -> None:
        published = author.credentials.publish(["one", "two", "three"])
        assert published.posts[0].uri == published.uri
        first, second, third = (author.stored(post) for post in published.posts)
        references = [{"uri": post.uri, "cid": post.cid} for post in published.posts]
        assert [post["text"] for post in (first, second, third)] == ["one", "two", "three"]
        assert "reply" not in first
        assert second["reply"] == {"root": references[0], "parent": references[0]}
        assert third["reply"] == {"root": references[0], "parent": references[1]}
        assert first["createdAt"] < second["createdAt"] < third["createdAt"]

    def test_a_thread_is_one_request(self, author: Author) -> None:
        author.credentials.ensure_session()
        with counted(author.pds) as requests:
            author.credentials.publish(["one", "two", "three"])
        assert requests == {WRITE: 1}

    def test_a_thread_with_one_refused_post_is_not_published(self, author: Author) -> None:
        # Only the server knows this one's limit to be exceeded.
        unchecked = Post.model_construct(text="fine", thread=(ThreadPost.model_construct(text="x" * 301),))
        with pytest.raises(RequestRefused, match="grapheme too big"):
            author.credentials.publish(unchecked)
        assert texts(author.pds, author.account) == []

    def test_a_long_text_becomes_numbered_posts(self, author: Author) -> None:
        text = "\n\n".join(f"Paragraph {number}. " + "And so on. " * 20 for number in range(3))
        published = author.credentials.publish(Post(text=text, split_long_text=True, numbered=True))
        assert [author.stored(post)["text"][:15] for post in published.posts] == [
            "1/3 Paragraph 0",
            "2/3 Paragraph 1",
            "3/3 Paragraph 2",
        ]

    def test_a_hundred_of_the_longest_go_out_at_once(self, author: Author) -> None:
        published = author.credentials.publish(["é" * 300] * 100)
        assert len(published.posts) == 100
        assert len(texts(author.pds, author.account)) == 100

    def test_the_same_key_finds_all_of_it(self, author: Author) -> None:
        first = author.credentials.publish(["one", "two"], key="thread")
        assert author.credentials.publish(["one", "two"], key="thread") == first
        assert texts(author.pds, author.account) == ["one", "two"]

    @pytest.mark.parametrize("other", [["one", "other"], ["one", "two", "three"], "one"])
    def test_another_thread_under_its_key_is_a_conflict(self, author: Author, other: Any) -> None:
        author.credentials.publish(["one", "two"], key="thread")
        with pytest.raises(KeyConflict):
            author.credentials.publish(other, key="thread")
        assert texts(author.pds, author.account) == ["one", "two"]


class TestImages:
    def test_an_image_is_shown_with_its_shape_and_alt_text(self, author: Author) -> None:
        record = author.publish(Post(text="Look", images=(Image(source=picture(300, 200), alt="A red picture"),)))
        (image,) = record["embed"]["images"]
        assert record["embed"]["$type"] == "app.bsky.embed.images"
        assert (image["alt"], image["aspectRatio"]) == ("A red picture", {"width": 300, "height": 200})
        with Picture.open(io.BytesIO(blob(author, image["image"]))) as shown:
            assert shown.size == (300, 200)

    def test_four_are_images_and_more_are_a_gallery(self, author: Author) -> None:
        images = [Image(source=picture(10 + number, 10), alt=f"{number}") for number in range(10)]
        four = author.publish(Post(images=images[:4]))["embed"]
        ten = author.publish(Post(images=images))["embed"]
        assert (four["$type"], len(four["images"])) == ("app.bsky.embed.images", 4)
        assert (ten["$type"], [item["alt"] for item in ten["items"]]) == (
            "app.bsky.embed.gallery",
            [f"{number}" for number in range(10)],
        )

    @pytest.mark.slow
    def test_an_image_of_many_megabytes_is_made_to_fit(self, author: Author) -> None:
        record = author.publish(Post(images=(Image(source=picture(3000, 2000, noise=True)),)))
        assert record["embed"]["images"][0]["image"]["size"] <= 976 * 1024

    @pytest.mark.parametrize(
        ("source", "problem"),
        [
            (picture(100, 100)[:200], r"thread\[0\].images\[1\]"),
            (b"no image", r"thread\[0\].images\[1\]"),
            ("/no/such/file.png", "/no/such/file.png: there is no such file"),
        ],
    )
    def test_an_unusable_attachment_is_named_and_nothing_is_published(
        self, author: Author, source: Any, problem: str
    ) -> None:
        images = (Image(source=picture(10, 10)), Image(source=source))
        with pytest.raises((InvalidInput, SourceUnavailable), match=problem):
            author.credentials.publish(["first", ThreadPost(text="second", images=images)])
        assert texts(author.pds, author.account) == []

    def test_a_retry_needs_no_image_that_is_gone(self, author: Author, tmp_path: Any) -> None:
        path = tmp_path / "gone.png"
        path.write_bytes(picture(20, 20))
        post = Post(text="once", images=(Image(source=path, alt="gone"),))
        first = author.credentials.publish(post, key="k")
        path.unlink()
        assert author.credentials.publish(post, key="k") == first


class TestVideo:
    def test_a_video_goes_through_the_video_service_with_its_shape_and_captions(
        self, author: Author, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        captions = Captions(source=b"WEBVTT\n\n00:00.000 --> 00:01.000\nHello\n", language="en")
        clip = Video(source=video(track(640, 360)), alt="A clip", captions=(captions,))
        with sandbox.run_video_service(author.pds.url) as service:
            monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_VIDEO_SERVICE_URL", service.url)
            embed = author.publish(Post(text="Watch", video=clip))["embed"]
        assert embed["$type"] == "app.bsky.embed.video"
        assert (embed["alt"], embed["aspectRatio"]) == ("A clip", {"width": 640, "height": 360})
        assert blob(author, embed["video"]) == video(track(640, 360))
        assert [(each["lang"], each["file"]["mimeType"]) for each in embed["captions"]] == [("en", "text/vtt")]

    def test_a_moving_picture_is_shown_as_one(self, author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
        frames = [Picture.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
        file = io.BytesIO()
        frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
        with sandbox.run_video_service(author.pds.url) as service:
            monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_VIDEO_SERVICE_URL", service.url)
            embed = author.publish(Post(text="Look", video=Video(source=file.getvalue(), alt="It moves")))["embed"]
        assert (embed["$type"], embed["presentation"]) == ("app.bsky.embed.video", "gif")
        assert (embed["alt"], embed["aspectRatio"]) == ("It moves", {"width": 64, "height": 48})

    @pytest.mark.parametrize(
        ("clip", "problem"),
        [
            (Video(source=b"no video"), "video: the file is neither MP4 nor GIF"),
            (
                Video(source=video(track(1, 1)), captions=(Captions(source=b"no captions", language="en"),)),
                r"video\.captions\[0\]: the file is no WebVTT file",
            ),
        ],
    )
    def test_a_file_of_another_kind_is_named_before_anything_is_sent(
        self, author: Author, clip: Video, problem: str
    ) -> None:
        with counted(author.pds) as requests, pytest.raises(InvalidInput, match=problem):
            author.credentials.publish(Post(video=clip))
        assert set(requests) <= {LOGIN}


@pytest.mark.usefixtures("loopback_is_allowed")
class TestLinkCard:
    PAGE = b"""<title>Plain</title><meta property="og:title" content="A title">
        <meta name="description" content="What it says"><meta property="og:image" content="/picture.png">"""

    def test_a_link_card_shows_the_page_s_own_description(self, author: Author) -> None:
        with web_page(self.PAGE, {"/picture.png": picture(64, 32)}) as url:
            external = author.publish(Post(text=f"Read {url}", link_card=LinkCard()))["embed"]["external"]
        with Picture.open(io.BytesIO(blob(author, external.pop("thumb")))) as thumb:
            assert thumb.size == (64, 32)
        assert external == {"uri": url, "title": "A title", "description": "What it says"}

    def test_a_card_names_the_records_of_its_article(self, author: Author) -> None:
        client, did = author.credentials.get_client(), author.account.did
        kinds = ("site.standard.document", "site.standard.publication")
        records = []
        for kind in kinds:
            at = "2026-12-01T08:00:00.000Z"
            record = {"$type": kind, "title": "An article", "name": "A site", "publishedAt": at}
            record |= {"site": f"at://{did}/{kinds[1]}/3l6oveex3ii2l", "url": "https://example.com"}
            data = {"repo": did, "collection": kind, "rkey": "3l6oveex3ii2l", "record": record}
            records.append(client.com.atproto.repo.put_record(data))
        links = "".join(f'<link rel="{kind}" href="at://{did}/{kind}/3l6oveex3ii2l">' for kind in kinds)
        with web_page(f"<title>An article</title>{links}".encode()) as url:
            post = Post(text="Read", link_card=LinkCard(url=url))
            preview = author.credentials.publish(post, dry_run=True)
            external = author.publish(post)["embed"]["external"]
        assert [f"of the article: {each.uri}" in str(preview) for each in records] == [True, True]
        assert external["associatedRefs"] == [{"uri": each.uri, "cid": each.cid} for each in records]

    @pytest.mark.parametrize(
        "href",
        [
            "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/site.standard.document/none",
            "at://{did}/app.bsky.feed.post/3l6",
            "https://example.com",
            "",
        ],
    )
    def test_a_record_that_is_none_of_an_article_stops_no_post(self, author: Author, href: str) -> None:
        link = f'<link rel="site.standard.document" href="{href.format(did=author.account.did)}">'
        with web_page(f"<title>An article</title>{link}".encode()) as url:
            external = author.publish(Post(text="Read", link_card=LinkCard(url=url)))["embed"]["external"]
        assert "associatedRefs" not in external

    def test_the_person_s_title_and_description_override_the_page_s(self, author: Author) -> None:
        card = LinkCard(url="https://example.com", title="Mine", description="", thumbnail=picture(8, 8))
        external = author.publish(Post(link_card=card))["embed"]["external"]
        assert external.pop("thumb")["mimeType"] == "image/png"
        assert external == {"uri": "https://example.com", "title": "Mine", "description": ""}

    @pytest.mark.parametrize(
        "serve",
        [
            lambda: web_page(b"\x00\xff<html", status=500),
            lambda: web_page(b'<title>T</title><meta property="og:image" content="/broken.png">'),
            lambda: web_page(b""),
        ],
        ids=["error", "broken picture", "empty"],
    )
    def test_a_broken_page_stops_no_post(self, author: Author, serve: Callable[[], Any]) -> None:
        with serve() as url:
            external = author.publish(Post(text="Read", link_card=LinkCard(url=url)))["embed"]["external"]
        assert external["uri"] == url
        assert external["title"]
        assert "thumb" not in external

    def test_a_page_in_a_private_network_is_not_read(self, author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PREFECT_INTEGRATIONS_BLUESKY_ALLOW_PRIVATE_ADDRESSES", "false")
        with web_page(self.PAGE) as url:
            external = author.publish(Post(text="Read", link_card=LinkCard(url=url)))["embed"]["external"]
        assert external["title"] == url.removeprefix("http://")


class TestReferences:
    def test_a_quote_shows_the_post_of_another_account(self, author: Author) -> None:
        quoted = Author(author.pds).credentials.publish("Quote me")
        embed = author.publish(Post(text="Well said", quote=quoted))["embed"]
        assert embed == {"$type": "app.bsky.embed.record", "record": {"uri": quoted.uri, "cid": quoted.cid}}

    def test_a_quote_by_its_address_in_the_app(self, author: Author) -> None:
        quoted = author.credentials.publish("Quote me")
        assert author.publish(Post(quote=quoted.url))["embed"]["record"] == {"uri": quoted.uri, "cid": quoted.cid}

    def test_a_quote_stands_beside_images(self, author: Author) -> None:
        quoted = author.credentials.publish("Quote me")
        embed = author.publish(Post(text="Look", quote=quoted, images=(Image(source=picture(9, 9)),)))["embed"]
        assert embed["$type"] == "app.bsky.embed.recordWithMedia"
        assert embed["record"]["record"]["uri"] == quoted.uri
        assert embed["media"]["$type"] == "app.bsky.embed.images"

    def test_a_reply_belongs_to_its_thread(self, author: Author) -> None:
        thread = author.credentials.publish(["one", "two"])
        answered = thread.posts[1]
        record = author.publish(Post(text="I agree", reply_to=answered, thread=(ThreadPost(text="And more"),)))
        assert record["reply"] == {
            "root": {"uri": thread.uri, "cid": thread.cid},
            "parent": {"uri": answered.uri, "cid": answered.cid},
        }

    @pytest.mark.parametrize("field", ["quote", "reply_to"])
    @pytest.mark.parametrize("authority", ["nobody.test", "{did}"])
    def test_a_record_that_is_not_there_is_named(self, author: Author, field: str, authority: str) -> None:
        uri = f"at://{authority.format(did=author.account.did)}/{POST}/3l6oveex3ii2l"
        with pytest.raises(InvalidInput, match=uri):
            author.credentials.publish(Post.model_validate({"text": "Hm", field: uri}))


class TestDetails:
    def test_languages_content_warnings_and_tags(self, author: Author) -> None:
        post = Post(
            text="Art", languages=("en", "pt-BR"), labels=("nudity", "graphic-media"), tags=("art", "two words")
        )
        record = author.publish(post)
        assert record["langs"] == ["en", "pt-BR"]
        assert [value["val"] for value in record["labels"]["values"]] == ["nudity", "graphic-media"]
        assert record["tags"] == ["art", "two words"]

    @pytest.mark.parametrize(
        ("rules", "allow"),
        [
            (("nobody",), []),
            (("mentioned", "followers", "following"), ["mentionRule", "followerRule", "followingRule"]),
        ],
    )
    def test_a_threadgate_says_who_may_reply(self, author: Author, rules: Any, allow: list[str]) -> None:
        published = author.credentials.publish(Post(text="Quiet", replies_from=rules))
        gate = author.stored(published, "app.bsky.feed.threadgate")
        assert gate["post"] == published.uri
        assert [rule["$type"] for rule in gate["allow"]] == [f"app.bsky.feed.threadgate#{rule}" for rule in allow]

    def test_a_list_may_reply(self, author: Author) -> None:
        client = author.credentials.get_client()
        made = client.com.atproto.repo.create_record(
            {
                "repo": author.account.did,
                "collection": "app.bsky.graph.list",
                "record": {
                    "$type": "app.bsky.graph.list",
                    "name": "Friends",
                    "purpose": "app.bsky.graph.defs#curatelist",
                    "createdAt": "2026-11-22T00:00:00Z",
                },
            }
        )
        published = author.credentials.publish(Post(text="Friends only", replies_from=(made.uri,)))
        gate = author.stored(published, "app.bsky.feed.threadgate")
        assert gate["allow"] == [{"$type": "app.bsky.feed.threadgate#listRule", "list": made.uri}]

    def test_a_postgate_forbids_quotes(self, author: Author) -> None:
        published = author.credentials.publish(Post(text="Not to be quoted", quotable=False))
        gate = author.stored(published, "app.bsky.feed.postgate")
        assert gate["post"] == published.uri
        assert gate["embeddingRules"] == [{"$type": "app.bsky.feed.postgate#disableRule"}]


class TestDryRun:
    def test_the_preview_equals_the_later_post(self, author: Author) -> None:
        post = Post(
            text="Look https://example.com/a/long/path/to/a/page",
            images=(Image(source=picture(20, 10), alt="red"),),
            thread=(ThreadPost(text="And more"),),
            quotable=False,
        )
        with counted(author.pds) as requests:
            preview = author.credentials.publish(post, key="k", dry_run=True)
        assert WRITE not in requests
        assert "com.atproto.repo.uploadBlob" not in requests
        published = author.credentials.publish(post, key="k")
        assert [post.uri for post in preview.posts] == [post.uri for post in published.posts]
        for previewed, sent in zip(preview.posts, published.posts, strict=True):
            stored = author.stored(sent)
            untimed = {"createdAt", "reply"}
            assert {name: value for name, value in previewed.record.items() if name not in untimed} == {
                name: value for name, value in stored.items() if name not in untimed
            }


class TestDelete:
    def test_a_thread_goes_with_its_gates_and_may_be_deleted_again(self, author: Author) -> None:
        published = author.credentials.publish(
            Post(text="one", thread=(ThreadPost(text="two"),), quotable=False, replies_from=("nobody",))
        )
        author.credentials.publish("stays")
        for _ in range(2):
            author.credentials.delete_post(published)
            assert texts(author.pds, author.account) == ["stays"]
        for collection in ("app.bsky.feed.threadgate", "app.bsky.feed.postgate"):
            with pytest.raises(httpx.HTTPStatusError):
                author.stored(published, collection)

    def test_a_post_by_its_address(self, author: Author) -> None:
        author.credentials.delete_post(author.credentials.publish("gone").url)
        assert texts(author.pds, author.account) == []

    def test_a_deleted_post_may_be_published_again_under_its_key(self, author: Author) -> None:
        author.credentials.delete_post(author.credentials.publish("again", key="k"))
        author.credentials.publish("again", key="k")
        assert texts(author.pds, author.account) == ["again"]

    @pytest.mark.parametrize(
        "uri", ["at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3l6", "alice", "at://x.y"]
    )
    def test_deleting_another_account_s_post_is_refused(self, author: Author, uri: str) -> None:
        with pytest.raises(InvalidInput, match="post: "):
            author.credentials.delete_post(uri)
