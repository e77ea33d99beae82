"""Previews of posts."""

from __future__ import annotations

import re

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from prefect_bluesky import Image, LinkCard, Post, Preview, ThreadPost, Video, sandbox
from prefect_bluesky.posts.preview import ARTIFACT_KEY
from prefect_bluesky.prefect_api.artifact_text import literal_markdown
from tests.support import WRITE, block, counted, picture

POST = Post(
    text="*Look* at https://example.com/a/long/path/to/a/page by @alice.test #prefect",
    images=(Image(source=picture(40, 20), alt="A [red] picture"), Image(source=picture(10, 10))),
    languages=("en",),
    labels=("nudity",),
    tags=("art",),
    thread=(ThreadPost(text="```json\nAnd more", link_card=LinkCard(url="http://127.0.0.1/", title="A <b>card</b>")),),
    quotable=False,
)


def test_without_an_account_it_shows_all_but_what_a_server_knows() -> None:
    preview = POST.preview()
    assert [post.text for post in preview.posts] == [
        "*Look* at example.com/a/long/path/... by @alice.test #prefect",
        "```json\nAnd more",
    ]
    assert [(post.characters, post.bytes) for post in preview.posts] == [(61, 61), (16, 16)]
    assert len(preview.pictures) == 2


def test_as_text_it_shows_the_posts_their_counts_and_what_is_attached() -> None:
    # How many bytes an image takes is its encoder's business.
    shown = re.sub(r"\d+ bytes of", "N bytes of", str(POST.preview()))
    assert shown.splitlines()[:4] == [
        "[1/2] 61 characters, 61 bytes",
        "*Look* at example.com/a/long/path/... by @alice.test #prefect",
        "  + image, 40 x 20, N bytes of image/png: “A [red] picture”",
        "  + image, 10 x 10, N bytes of image/png: no alt text",
    ]


def test_a_gif_is_shown_as_a_moving_picture() -> None:
    gif = picture(40, 20, "GIF")
    preview = Post(video=Video(source=gif, alt="It moves")).preview()
    assert f"moving picture, {len(gif)} bytes: It moves" in str(preview)
    assert re.search(r"!\[\]\(data:image/jpeg;base64,[\w/+=]+\)  \nmoving picture", preview.markdown)


def test_as_markdown_it_shows_the_text_literally_with_its_links_and_images() -> None:
    markdown = POST.preview().markdown
    assert r"\*Look\* at [example.com/a/long/path/...](<https://example.com/a/long/path/to/a/page>)" in markdown
    assert "[#prefect](<https://bsky.app/hashtag/prefect>)" in markdown
    assert re.search(r"!\[\]\(data:image/jpeg;base64,[\w/+=]+\)  \nimage, 40 x 20.*“A \\\[red\\\] picture”\n", markdown)
    assert r"A \<b>card" in markdown
    assert "| languages | en |" in markdown
    assert markdown.index("## 2 of 2") < markdown.index("## Records")
    assert '"$type": "app.bsky.feed.postgate"' in markdown


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("one\n\n\nfour", "one  \n\u00a0  \n\u00a0  \nfour"),
        ("    no code", "\u00a0\u00a0\u00a0\u00a0no code"),
        ("# a\n- b\n1. c\n> d", "\\# a  \n\\- b  \n1\\. c  \n\\> d"),
        ("a\n===", "a  \n\\==="),
        ("snake_case, __bold__", r"snake_case, \_\_bold\_\_"),
        ("R&D &amp; [x] `y` ~~z~~", r"R&D \&amp; \[x\] \`y\` \~\~z\~\~"),
        ("", ""),
    ],
)
def test_a_text_is_shown_as_it_is(text: str, markdown: str) -> None:
    assert literal_markdown(text) == markdown


def test_no_alt_text_can_end_its_line() -> None:
    post = Post(text="", images=(Image(source=picture(10, 10), alt="One.\n\n# Two"),))
    assert "“One. # Two”\n" in post.preview().markdown


def test_no_text_can_close_the_code_that_it_stands_in() -> None:
    assert "````json\n" in POST.preview().markdown


@pytest.mark.usefixtures("prefect_api")
def test_in_a_run_it_is_an_artifact_and_nothing_is_sent(sandbox_pds: sandbox.Sandbox) -> None:
    credentials = block(sandbox_pds, sandbox_pds.create_account())

    @flow
    def look() -> Preview:
        return credentials.publish("Not yet", dry_run=True)

    with counted(sandbox_pds) as requests:
        preview = look()
    assert WRITE not in requests
    with get_client(sync_client=True) as client:
        filters = ArtifactFilter(key=ArtifactFilterKey(any_=[ARTIFACT_KEY]))
        artifacts = client.read_artifacts(artifact_filter=filters)
    assert preview.markdown in [artifact.data for artifact in artifacts]
