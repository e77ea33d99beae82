"""Texts of all scripts: counted as each PDS counts them, and marked so that it takes them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_bluesky import BlueskyCredentials, Post
from prefect_bluesky.errors import RequestRefused
from prefect_bluesky.posts.richtext import count_graphemes
from prefect_bluesky.protocol import xrpc
from prefect_bluesky.sessions.session_auth import SessionAuth
from tests.support import WRITE, Pds, record_at

# A PDS is asked for each example, and it is the same one for all of them.
asked = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

clusters = st.sampled_from(
    [
        "👩‍👩‍👧‍👦",
        "👍🏽",
        "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
        "🇩🇪",
        "🇩",
        "e\u0301\u0323",
        "\r\n",
        "\u1112\u1161\u11ab",
        "क्षि",
        "น้ำ",
        "ශ්‍රී",
        "שָׁלוֹם",
        "\u202eسلم\u202c",
        "\u200d",
        "\ufe0f",
        "\u0600",
        "\x00",
    ]
)
texts = st.lists(clusters | st.characters(codec="utf-8"), max_size=60).map("".join)
words = texts.map(lambda text: re.sub(r"[\s@#\0]", "", text))
prose = st.lists(
    st.one_of(
        st.just("word"),
        words,
        st.just("#tag"),
        words.map(lambda word: f"#{word}"),
        words.map(lambda word: f"https://x.com/{word}"),
    ),
    min_size=1,
    max_size=8,
).map(lambda words: " ".join(["A", *words]))


@asked
@given(text=texts)
def test_a_reader_sees_as_many_characters_as_the_server_counts(credentials: BlueskyCredentials, text: str) -> None:
    too_long = text + "x" * 301
    account = credentials.ensure_session()
    record = {"$type": "app.bsky.feed.post", "text": too_long, "createdAt": "2026-11-22T00:00:00Z"}
    create = {"$type": f"{WRITE}#create", "collection": "app.bsky.feed.post", "value": record}
    auth = SessionAuth(credentials._authenticator())
    with pytest.raises(RequestRefused) as refused:
        xrpc.procedure(account.pds_url, WRITE, {"repo": account.did, "writes": [create]}, auth=auth)
    counted = re.search(r"grapheme too big \(maximum 300, got (\d+)\)", str(refused.value))
    assert counted is not None
    assert count_graphemes(too_long) == int(counted[1])


@asked
@given(text=prose)
def test_the_server_takes_every_text_and_its_facets_mark_what_they_say(
    pds: Pds, credentials: BlueskyCredentials, text: str
) -> None:
    stored: dict[str, Any] = record_at(pds, credentials.publish(Post(text=text)).uri)["value"]
    data = stored["text"].encode()
    for facet in stored.get("facets", []):
        (feature,) = facet["features"]
        marked = data[facet["index"]["byteStart"] : facet["index"]["byteEnd"]].decode()
        if feature["$type"].endswith("#tag"):
            assert marked.casefold().endswith(feature["tag"].removeprefix("$").casefold())
        else:
            shown = marked.removesuffix("...").replace("/", "")
            assert shown in feature["uri"].replace("/", "")
