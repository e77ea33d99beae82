"""Posts as a person writes them: taken in many forms, and refused with the field and the remedy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate
from pydantic import TypeAdapter, ValidationError

from prefect_bluesky import Captions, Image, LinkCard, Post, PublishedPost, ThreadPost, Video
from prefect_bluesky.errors import InvalidInput

FAMILY = "👩‍👩‍👧‍👦"  # one grapheme, 25 bytes
URI = "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3l6oveex3ii2l"
LIST = "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.graph.list/3l6oveex3ii2l"
LONG_LINK = "https://example.com/" + "x" * 400


@pytest.mark.parametrize(
    ("post", "reason"),
    [
        ({"text": ""}, "text: the post is empty"),
        ({"text": " \n\t"}, "text: the post is empty"),
        ({"text": "x" * 301}, "text: it has 301 characters, 1 over the limit of 300"),
        ({"text": FAMILY * 121}, "text: it has 3025 bytes, 25 over the limit of 3000"),
        ({"text": "half \ud83d of it"}, "character 6 is half"),
        ({"text": LONG_LINK, "shorten_links": False}, "text: it has 420 characters"),
        ({"text": LONG_LINK, "shorten_links": False, "split_long_text": True}, "text: it has 420 characters"),
        ({"text": "a", "thread": ["b", "x" * 301]}, r"thread\[1\].text: it has 301 characters"),
        ({"text": "a", "thread": ["b", ""]}, r"thread\[1\].text: the post is empty"),
        ({"text": "x" * 298, "thread": ["b"], "numbered": True}, "text: it has 302 characters"),
        ({"text": "a", "thread": ["b"] * 100}, "thread: it has 101 posts, 1 over"),
        ({"text": "a", "thread": [Post(text="b", quotable=False)]}, r"thread\[0\]\.quotable: only the first post"),
        ({"text": "hi", "numbered": True, "thread": ["  "]}, r"thread\[0\]\.text: the post is empty"),
        ({"text": " " * 400, "split_long_text": True}, "text: the post is empty"),
        ({"text": "x" * 300_001, "split_long_text": True}, "it has 300,001 bytes"),
        ({"text": "a", "link_card": "https://me:secret@x.test/"}, "without a password"),
        ({"text": "a", "languages": ["en-aaaaa-aaaaa"]}, "is not a language"),
        ({"text": "a", "txt": "a"}, "txt"),
        ({"text": "a", "images": ["a.png"], "link_card": URI}, "(?s)link_card.*not a web address"),
        ({"text": "a", "images": ["a.png"], "video": "a.mp4"}, "images and video: a post shows one of them"),
        ({"text": "a", "images": ["a.png"] * 11}, "images"),
        ({"text": "a", "images": [{"source": "a.png", "alt": "x" * 2001}]}, "at most 2000 characters"),
        ({"text": "a", "images": [{"source": "a.png", "storage": "pictures"}]}, "does not name a block"),
        ({"text": "a", "images": [""]}, "source"),
        ({"text": "no link", "link_card": {}}, "link_card: there is no link in the text"),
        ({"text": "a", "link_card": "example.com"}, "url: it is not a web address"),
        ({"text": "a", "link_card": "https://exa mple.com"}, "is not a web address"),
        ({"text": "a", "link_card": "http://["}, "is not a web address"),
        ({"text": "a", "quote": "https://example.com"}, "neither an at:// URI nor the address"),
        ({"text": "a", "reply_to": LIST}, "is a record of the wrong kind. Its kind must be app.bsky.feed.post"),
        ({"text": "a", "languages": ["English"]}, "'English' is not a language"),
        ({"text": "a", "languages": ["en", "de", "fr", "it"]}, "languages"),
        ({"text": "a", "labels": ["funny"]}, "'sexual', 'nudity', 'porn' or 'graphic-media'"),
        ({"text": "a", "tags": ["x" * 65]}, "is not a tag"),
        ({"text": "a", "tags": ["#"]}, "is not a tag"),
        ({"text": "a", "tags": ["x"] * 9}, "tags"),
        ({"text": "a", "replies_from": ["nobody", "followers"]}, "nobody cannot be combined with other rules"),
        ({"text": "a", "replies_from": ["friends"]}, "neither an at:// URI"),
        ({"text": "a", "replies_from": [URI]}, "is not a list. Write followers, following, mentioned, nobody or"),
        ({"text": "a", "reply_to": URI, "replies_from": ["nobody"]}, "replies_from: the post that this one replies to"),
        (
            {"text": "a", "video": {"source": "a.mp4", "captions": [{"source": "a", "language": "??"}]}},
            "not a language",
        ),
        ([], "Post"),
        (["a", 1], "thread"),
        (7, "Post"),
    ],
)
def test_an_impossible_post_is_refused_with_the_reason(post: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Post.model_validate(post)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda: Post(txt="x"), "txt: there is no such field. Did you mean text?"),  # type: ignore[call-arg]
        (lambda: Post(text="x", zzz=1), "zzz: there is no such field. Check its name."),  # type: ignore[call-arg]
        (
            lambda: Post(text="x", thread=[{"text": "y", "lenguages": ["en"]}]),
            "thread.0.lenguages: there is no such field. Did you mean languages?",
        ),
        (
            lambda: Post(text="x", images=[{"source": "a.png", "altt": "A cat"}]),
            "images.0.altt: there is no such field. Did you mean alt?",
        ),
        (lambda: Image(source="a.png", altt="A cat"), "altt: there is no such field. Did you mean alt?"),  # type: ignore[call-arg]
        (lambda: Image(alt="A cat"), "source: it is missing."),  # type: ignore[call-arg]
        (
            lambda: Post(text="x", languages=["en", "de", "fr", "it"]),
            "languages: there are 4, and the limit is 3. Leave some out.",
        ),
        (
            lambda: Post(text="x", labels=["gore"]),
            "labels.0: it is none of those that are known. Write 'sexual', 'nudity', 'porn' or 'graphic-media'.",
        ),
        (lambda: Post(text=7), "text: it is not a text. Write one, in quotes."),
        (
            lambda: Post(text="x" * 301),
            "text: it has 301 characters, 1 over the limit of 300. Shorten it, or set split_long_text to make a thread"
            " of it.",
        ),
    ],
)
def test_a_post_that_is_written_wrong_is_refused_in_plain_words(given: Callable[[], Any], said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        given()
    assert str(refused.value) == said


def test_a_form_still_gets_the_places_of_all_errors() -> None:
    with pytest.raises(ValidationError) as refused:
        Post.model_validate({"txt": "x", "thread": [{"text": "y", "tags": 1}]})
    assert [error["loc"] for error in refused.value.errors()] == [("thread", 0, "tags"), ("txt",)]


def test_a_post_is_one_value() -> None:
    post = Post(text="x")
    with pytest.raises(TypeError, match="not iterable"):
        iter(post)
    assert Post(**dict(post)) == post


@pytest.mark.parametrize("text", ["x" * 300, FAMILY * 120, "\n.", LONG_LINK])
def test_a_text_at_the_limit_is_taken_as_it_is(text: str) -> None:
    assert Post(text=text).text == text


@pytest.mark.parametrize(
    ("given", "post"),
    [
        ("Hello", Post(text="Hello")),
        (["Hello"], Post(text="Hello")),
        (["a", "b"], Post(text="a", thread=(ThreadPost(text="b"),))),
        ([Post(text="a", thread=(ThreadPost(text="b"),)), "c"], Post(text="a", thread=("b", "c"))),
        ({"text": "a", "images": ["a.png"]}, Post(text="a", images=(Image(source="a.png"),))),
        ({"text": "a", "link_card": "http://x.com"}, Post(text="a", link_card=LinkCard(url="http://x.com"))),
        ({"text": "a", "video": "a.mp4"}, Post(text="a", video=Video(source="a.mp4"))),
        ({"text": "a", "quote": PublishedPost(uri=URI, cid="c", url="u")}, Post(text="a", quote=URI)),
        ({"text": "a", "quote": ""}, Post(text="a")),
        ({"text": "a", "images": "a.png"}, Post(text="a", images=["a.png"])),
        ({"text": "a", "languages": "en, de"}, Post(text="a", languages=["en", "de"])),
        ({"text": "https://x.com", "link_card": ""}, Post(text="https://x.com", link_card=LinkCard(url=""))),
        ({"text": "a", "tags": ["#one", " two "]}, Post(text="a", tags=("one", "two"))),
        ({"text": "a", "languages": [" pt-br"]}, Post(text="a", languages=("pt-BR",))),
        ({"text": "a", "languages": ["zh-hant-tw", "DE-1996"]}, Post(text="a", languages=("zh-Hant-TW", "de-1996"))),
        ({"text": "a", "thread": [Post(text="b", numbered=False)]}, Post(text="a", thread=(Post(text="b"),))),
    ],
)
def test_texts_and_lists_are_posts(given: Any, post: Post) -> None:
    assert TypeAdapter(Post).validate_python(given) == post


@pytest.mark.parametrize("attached", [{"images": ["a.png"]}, {"quote": URI}, {"link_card": "http://x.com"}])
def test_a_post_with_something_attached_needs_no_text(attached: dict[str, Any]) -> None:
    assert Post.model_validate(attached).text == ""


def test_a_post_is_json_and_back() -> None:
    post = Post(
        text="Look",
        images=(Image(source=b"\x89PNG", alt="bytes"), Image(source=Path("a.png")), Image(source="b", storage="s3/b")),
        thread=(ThreadPost(text="More", video=Video(source="a.mp4", captions=(Captions(source="c", language="en"),))),),
        replies_from=("mentioned",),
        quotable=False,
    )
    assert Post.model_validate_json(post.model_dump_json()) == post


def test_the_repr_of_an_image_of_megabytes_is_short() -> None:
    assert len(repr(Image(source=b"x" * 1_000_000))) < 200


class TestThread:
    def test_a_long_text_is_split_where_that_is_asked_for(self) -> None:
        text = "First paragraph. " * 10 + "\n\n" + "Second paragraph. " * 10
        posts = Post(text=text, split_long_text=True).posts()
        assert [post.text[:5] for post in posts] == ["First", "Secon"]

    def test_a_text_that_fits_is_not_split(self) -> None:
        assert len(Post(text="One.\n\nTwo.", split_long_text=True, numbered=True).posts()) == 1

    def test_numbers_count(self) -> None:
        posts = Post(text="word " * 120, split_long_text=True, numbered=True).posts()
        assert [post.text[:4] for post in posts] == ["1/3 ", "2/3 ", "3/3 "]
        assert all(len(post.text) <= 300 for post in posts)

    def test_a_continuation_may_be_split_too(self) -> None:
        post = Post(text="a", thread=(ThreadPost(text="word " * 80),), split_long_text=True)
        assert [len(each.text) for each in post.posts()] == [1, 299, 99]

    def test_images_stand_with_the_beginning_and_a_card_with_its_link(self) -> None:
        text = "word " * 70 + "https://example.com"
        with_card = Post(text=text, link_card=LinkCard(), split_long_text=True).posts()
        assert [post.link_card and post.link_card.url for post in with_card] == [None, "https://example.com"]
        with_images = Post(text=text, images=(Image(source="a.png"),), split_long_text=True).posts()
        assert [len(post.images) for post in with_images] == [1, 0]

    def test_a_card_for_no_link_of_the_text_stands_with_the_beginning(self) -> None:
        posts = Post(text="word " * 70, link_card=LinkCard(url="https://example.com"), split_long_text=True).posts()
        assert [bool(post.link_card) for post in posts] == [True, False]

    def test_the_languages_of_the_first_post_hold_for_the_others(self) -> None:
        thread = (ThreadPost(text="b"), ThreadPost(text="c", languages=("de",)))
        posts = Post(text="a", languages=("en",), thread=thread).posts()
        assert [post.languages for post in posts] == [("en",), ("en",), ("de",)]

    def test_a_posts_quote_is_shown_once(self) -> None:
        posts = Post(text="word " * 70, quote=URI, split_long_text=True).posts()
        assert [post.quote for post in posts] == [URI, None]


UNTOUCHED: dict[str, Any] = {
    "text": "",
    "images": [],
    "video": None,
    "link_card": None,
    "languages": [],
    "labels": [],
    "tags": [],
    "thread": [],
    "split_long_text": False,
    "numbered": False,
    "shorten_links": True,
    "replies_from": [],
    "quotable": True,
}
"""What the form of Prefect 3.8.8 sends of fields that nobody filled in."""


class TestForm:
    """The JSON schema, which the Prefect UI makes a form of."""

    def test_every_field_has_a_title_and_a_description(self) -> None:
        schema = Post.model_json_schema()
        for model in (schema, *schema["$defs"].values()):
            for name, field in model["properties"].items():
                assert field.get("title"), name
                assert field.get("description"), name

    @pytest.mark.parametrize(
        ("filled", "post"),
        [
            ({"text": "Hello"}, Post(text="Hello")),
            (
                {"text": "a", "images": [{"source": "a.png", "alt": ""}]},
                Post(text="a", images=(Image(source="a.png"),)),
            ),
            (
                {"text": "https://example.com", "link_card": {"thumbnail": None}},
                Post(text="https://example.com", link_card=LinkCard()),
            ),
            (
                {"text": "a", "video": {"source": "a.mp4", "alt": "", "captions": []}},
                Post(text="a", video=Video(source="a.mp4")),
            ),
            (
                {"text": "a", "thread": [{**{name: UNTOUCHED[name] for name in ("images", "video")}, "text": "b"}]},
                Post(text="a", thread=(ThreadPost(text="b"),)),
            ),
        ],
    )
    def test_the_form_s_answer_is_a_post(self, filled: dict[str, Any], post: Post) -> None:
        sent = UNTOUCHED | filled
        assert Post.model_validate(sent) == post
        assert self.errors(sent) == []

    def test_a_post_from_python_may_be_sent_too(self) -> None:
        """The form sends nulls for empty text fields."""
        assert self.errors(Post(text="https://x.com", link_card=LinkCard()).model_dump(mode="json")) == []

    def test_an_unusable_post_is_refused_before_the_run(self) -> None:
        assert self.errors(UNTOUCHED | {"images": [{"alt": ""}]}) == ["'source' is a required property"]

    @staticmethod
    def errors(sent: dict[str, Any]) -> list[str]:
        """Return a parameter as a Prefect server validates it."""

        def publish(post: Post) -> None: ...

        schema = parameter_schema(publish).model_dump_for_openapi()
        return [error.message for error in validate({"post": sent}, schema)]

    def test_a_text_that_may_be_left_out_is_a_text_field(self) -> None:
        schema = Post.model_json_schema()
        for field in (schema["properties"]["quote"], schema["$defs"]["LinkCard"]["properties"]["url"]):
            assert field["type"] == "string"
            assert "default" not in field

    def test_the_form_shows_no_docstring(self) -> None:
        schema = Post.model_json_schema()
        assert not any("description" in model for model in (schema, *schema["$defs"].values()))

    def test_the_order_survives_a_database_that_sorts_keys(self) -> None:
        schema = Post.model_json_schema()
        fields = schema["$defs"]["Image"]["properties"]
        assert sorted(fields, key=lambda name: fields[name]["position"]) == ["source", "alt", "storage"]
        positions = [field["position"] for field in schema["properties"].values()]
        assert positions == sorted(set(positions))

    def test_the_fields_come_in_the_order_in_which_people_fill_them_in(self) -> None:
        assert list(Post.model_json_schema()["properties"]) == [
            "text",
            "images",
            "video",
            "link_card",
            "quote",
            "languages",
            "labels",
            "tags",
            "thread",
            "split_long_text",
            "numbered",
            "shorten_links",
            "reply_to",
            "replies_from",
            "quotable",
            "expires",
        ]

    def test_nothing_in_it_is_a_choice_between_kinds(self) -> None:
        """The UI preselects the first of a union."""
        schema = Post.model_json_schema()
        for model in (schema, *schema["$defs"].values()):
            for name, field in model["properties"].items():
                kinds = [kind for kind in field.get("anyOf", []) if kind != {"type": "null"}]
                assert len(kinds) <= 1, name
