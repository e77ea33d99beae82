"""Pages that describe themselves, in every way that pages do."""

import time
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prefect_bluesky.posts.richtext import count_graphemes
from prefect_bluesky.web.fetch import Fetched
from prefect_bluesky.web.page import Page, read_page

FAMILY = "👩‍👩‍👧‍👦"  # one grapheme, seven characters
NOTHING = Page("", "")


def page(html: str | bytes, content_type: str = "text/html", charset: str | None = None) -> Page:
    data = html.encode() if isinstance(html, str) else html
    return read_page(Fetched("https://site.test/news/today?a=b", content_type, charset, data))


def meta(**contents: str) -> str:
    """Meta elements, one for each name, with `_` for `:`."""
    return "".join(
        f'<meta property="{name.replace("_", ":")}" content="{content}">' for name, content in contents.items()
    )


@pytest.mark.parametrize(
    ("html", "title"),
    [
        ("", ""),
        ("<title>Plain</title>", "Plain"),
        ("<TITLE>Loud</TITLE>", "Loud"),
        (meta(twitter_title="X") + "<title>Plain</title>", "X"),
        (meta(twitter_title="X", og_title="Graph") + "<title>Plain</title>", "Graph"),
        (meta(og_title=" \n ", twitter_title="X"), "X"),
        (meta(og_title="first") + meta(og_title="second"), "first"),
        ('<meta name="og:title" content="by name">', "by name"),
        ('<META CONTENT="loud" PROPERTY=" OG:Title ">', "loud"),
        ("<meta property=og:title content=bare/>", "bare/"),
        ('<meta property="og:title" property="x" content="twice" content="y">', "twice"),
        ('<meta name="x" property="og:title" content="both">', "both"),
        ('<meta property="og:title" content="a > b & c &amp; d &lt;e&gt; &eacute;&#x1F600;">', "a > b & c & d <e> é😀"),
        ("<title>\n  several\n\tlines&nbsp; </title>", "several lines"),
        ("<title>a &lt;b&gt; &#99;</title>", "a <b> c"),
        ("<title></title><title>second</title>", "second"),
        ("<title>first</title><svg><title>drawing</title></svg>", "first"),
        ("<title>cut off", "cut off"),
        ('<!-- <meta property="og:title" content="old"> --><title>new</title>', "new"),
        ('<script>"<title>not this</title>"</script><title>this</title>', "this"),
        ('<style>a:after {content: "<title>not this</title>"}</style><title>this</title>', "this"),
        ('<meta property="og:title">', ""),
        ("<meta content='of nothing'>", ""),
        ("nothing but text", ""),
        ("https://not.a/page", ""),
        ("<?xml version='1.0'?><rss><title>Feed</title></rss>", "Feed"),
        (meta(og_title="before") + "<![broken[ <title>after</title>", "before"),
        (meta(og_title="before") + f'<meta content="&#{"9" * 5000};">', "before"),
        (meta(og_title="before") + "<!-- never closed", "before"),
    ],
)
def test_the_title_is_what_the_page_calls_itself_for_others(html: str, title: str) -> None:
    assert page(html).title == title


@pytest.mark.parametrize(
    ("html", "description"),
    [
        ("<p>text</p>", ""),
        (meta(description="plain"), "plain"),
        (meta(description="plain", twitter_description="X"), "X"),
        (meta(description="plain", twitter_description="X", og_description="Graph"), "Graph"),
        ('<meta name="Description" content=" a\u00a0\n b ">', "a b"),
    ],
)
def test_the_description_is_found_likewise(html: str, description: str) -> None:
    assert page(html).description == description


@pytest.mark.parametrize(
    ("html", "image_url"),
    [
        ("<img src='/a.png'>", None),
        (meta(og_image="https://cdn.test/a.png?x=1&amp;y=2"), "https://cdn.test/a.png?x=1&y=2"),
        (meta(og_image="/a.png"), "https://site.test/a.png"),
        (meta(og_image="a.png"), "https://site.test/news/a.png"),
        (meta(og_image="//cdn.test/a.png"), "https://cdn.test/a.png"),
        (meta(og_image=" /a b\nü.png "), "https://site.test/a%20b%20%C3%BC.png"),
        (meta(og_image="a.png") + '<base href="/images/">', "https://site.test/images/a.png"),
        ('<base target="x"><base href="//cdn.test/">' + meta(og_image="a.png"), "https://cdn.test/a.png"),
        ('<base href="data:x">' + meta(og_image="a.png"), "https://site.test/news/a.png"),
        ('<base href="https://xn--0/">' + meta(og_image="a.png"), "https://site.test/news/a.png"),
        ('<base href="http://[::1/">' + meta(og_image="https://cdn.test/a.png"), "https://cdn.test/a.png"),
        (meta(twitter_image="/x", twitter_image_src="/y"), "https://site.test/x"),
        (meta(twitter_image_src="/y"), "https://site.test/y"),
        (meta(twitter_image="/x", og_image="/a"), "https://site.test/a"),
        (meta(og_image="/a", og_image_url="/b"), "https://site.test/b"),
        (meta(og_image_url="/b") + "<meta property=og:image:secure_url content=/c>", "https://site.test/c"),
        (meta(og_image="data:image/png;base64,AA", twitter_image="/x"), "https://site.test/x"),
        (meta(og_image="javascript:alert(1)"), None),
        (meta(og_image="file:///etc/passwd"), None),
        (meta(og_image="http://[::1/a.png"), None),
        (meta(og_image=""), None),
    ],
)
def test_the_image_is_an_absolute_url_of_the_web(html: str, image_url: str | None) -> None:
    assert next(iter(page(html).image_urls), None) == image_url


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("text/html", Page("x", "")),
        ("application/xhtml+xml", Page("x", "")),
        ("", Page("x", "")),
        ("text/plain", NOTHING),
        ("application/pdf", NOTHING),
        ("image/png", Page("", "", ("https://site.test/news/today?a=b",))),
    ],
)
def test_only_a_page_is_read_and_an_image_is_its_own(content_type: str, expected: Page) -> None:
    assert page("<title>x</title>", content_type) == expected


@pytest.mark.parametrize(
    ("encoding", "charset", "declared"),
    [
        ("utf-8", None, ""),
        ("utf-8", "UTF-8", '<meta charset="iso-8859-1">'),
        ("utf-8", None, '<meta charset="utf-16">'),
        ("utf-8", "no-such", '<meta charset="no-such-either">'),
        ("utf-8", "punycode", ""),
        ("utf-8", "unicode_escape", ""),
        ("utf-8", "rot13", ""),
        ("utf-8", "a\0b\ud800", ""),
        ("utf-8-sig", "iso-8859-1", ""),
        ("utf-16", None, ""),
        ("utf-16-le", "utf-16le", ""),
        ("cp1252", "ISO-8859-1", ""),
        ("cp1252", None, '<meta charset="us-ascii">'),
        ("cp1252", None, "<meta http-equiv=Content-Type content='text/html; charset=latin1'>"),
        ("cp1252", "no-such", "<?xml version='1.0' encoding='windows-1252'?>"),
    ],
)
def test_a_page_is_read_in_its_encoding(encoding: str, charset: str | None, declared: str) -> None:
    html = f"{declared}<title>“Grüße” … €</title>"
    assert page(html.encode(encoding), charset=charset).title == "“Grüße” … €"


@pytest.mark.parametrize(
    ("encoding", "name", "text"),
    [("cp932", "Shift_JIS", "①髙い"), ("gb18030", "gb2312", "镕€"), ("cp949", "EUC-KR", "똠방각하")],
)
def test_an_encoding_is_what_browsers_mean_by_its_name(encoding: str, name: str, text: str) -> None:
    assert page(f"<title>{text}</title>".encode(encoding), charset=name).title == text


@pytest.mark.parametrize(
    ("label", "encoding", "text"),
    [
        ("x-sjis", "cp932", "日本語"),
        ("x-euc-jp", "euc-jp", "日本語"),
        ("x-cp1251", "cp1251", "Привет"),
        ("windows-874", "cp874", "ไทย"),
        ("ks_c_5601-1989", "cp949", "한국어"),
        ("x-gbk", "gbk", "中文"),
        ("iso88592", "iso8859-2", "Łódź"),
    ],
)
def test_each_label_of_the_encoding_standard_is_known(label: str, encoding: str, text: str) -> None:
    assert page(f"<title>{text}</title>".encode(encoding), charset=label).title == text


def test_a_page_that_says_no_encoding_and_is_not_in_utf_8_is_in_windows_1252() -> None:
    assert page("<title>Caf\xe9 “à la carte”</title>".encode("cp1252")).title == "Café “à la carte”"


def test_of_a_page_that_is_cut_within_a_character_the_rest_is_read() -> None:
    assert page("<title>Grüße</title>é".encode()[:-1]).title == "Grüße"


@pytest.mark.parametrize("letter", ["x", FAMILY, "e\u0301", "🇩🇪", "क्षि"])
def test_long_texts_are_cut_between_graphemes(letter: str) -> None:
    fits = page(meta(og_title=letter * 300, og_description=letter * 1000))
    assert fits == Page(letter * 300, letter * 1000)
    cut = page(meta(og_title=letter * 301, og_description=letter * 1001))
    assert cut == Page(letter * 299 + "…", letter * 999 + "…")


def test_all_images_of_a_page_are_candidates() -> None:
    html = meta(og_image="/a.svg") + meta(og_image="/b.jpg") + '<meta name="twitter:image" content="/c.jpg">'
    assert page(html).image_urls == tuple(f"https://site.test/{name}" for name in ("a.svg", "b.jpg", "c.jpg"))


def test_an_attribute_with_two_names_gives_both() -> None:
    assert page('<meta property="og:title twitter:title" content="Both">').title == "Both"


@pytest.mark.parametrize("invisible", ["\u200b", "\u2060 \ufeff", "\u3164"])
def test_a_title_that_nobody_sees_is_none(invisible: str) -> None:
    assert page(meta(og_title=invisible) + "<title>Seen</title>").title == "Seen"


def test_a_cut_leaves_no_space_before_the_ellipsis() -> None:
    assert page(meta(og_title="x" * 298 + " y")).title == "x" * 298 + " y"
    assert page(meta(og_title="x" * 298 + " yy")).title == "x" * 298 + "…"


def test_a_letter_with_a_million_accents_is_cut_too() -> None:
    assert page(meta(og_title="ab" + "\u0301" * 1_000_000)).title == "a…"


HOSTILE = {
    "deep": "<div>" * 100_000,
    "deep title": "<title>" + "<b>x" * 100_000,
    "open tags": "<a " * 300_000,
    "open values": '<a b="' * 150_000,
    "comments": "<!--" * 250_000,
    "declarations": "<!" * 500_000,
    "brackets": "<" * 300_000,
    "references": "<title>" + "&" * 1_000_000,
    "attributes": "<meta " + "a=b " * 100_000 + ">",
    "void": "<meta>" * 60_000 + "</x>" * 100_000,
    "nulls": "\0" * 1_000_000,
    "scripts": "<script>" + "</" * 500_000,
    "declared": '<meta charset="' * 60_000,
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=list(HOSTILE))
def test_no_page_takes_long_or_fails(hostile: str) -> None:
    started = time.process_time()
    assert page(meta(og_title="before") + hostile).title == "before"
    assert time.process_time() - started < 10  # linear: a tenth of it; quadratic: minutes to hours


def test_an_encoding_of_pythons_own_is_not_used() -> None:
    """Punycode is read in quadratic time."""
    assert page("<title>x</title>" + "a" * 1_000_000, charset="punycode").title == "x"


SYNTAX = ["<", ">", "/", "=", '"', "'", "&", ";", "<!", "<!--", "-->", "<?", "<![", "]]>", "<!DOCTYPE", "<![CDATA["]
TAGS = ["<meta", "</meta", "<base", "<title", "<title>", "</title>", "<script>", "</script>", "<div>", "property="]
WORDS = ["name=", "content=", "href=", "og:title", "og:image", "description", "http://", "https://x.test/", "..", "["]
REFERENCES = ["&#xD800;", "&#0;", "&#xFFFFFFFF;", "&amp", "&#x", "\0", "\x85", "\ud800", "\u0301", FAMILY]
PIECES = st.sampled_from(SYNTAX + TAGS + WORDS + REFERENCES)
MARKUP = st.lists(PIECES | st.text(max_size=3), max_size=40).map(
    lambda pieces: " ".join(pieces).encode("utf-8", "surrogatepass")
)
META = st.builds(
    '<base href="{}"><meta property="{}" content="{}"><title>{}'.format,
    st.text(max_size=9),
    st.sampled_from(["og:title", "og:description", "og:image", "twitter:image:src"]),
    st.text() | st.sampled_from([*REFERENCES, "http://\ud800/", "/&#xD800;"]),
    st.text() | st.sampled_from(REFERENCES),
).map(lambda html: html.encode("utf-8", "surrogatepass"))


@given(
    st.binary() | MARKUP | META,
    st.sampled_from(["text/html", "", "image/png"]),
    st.none() | st.text() | st.sampled_from(["utf-8", "utf-16", "utf-7", "idna", "undefined", "hz", "iso-2022-jp"]),
)
@example(b"<title>&#xD800;</title>", "text/html", None)
@example(b"<meta property=og:image content=http://x&#xD800;>", "text/html", None)
def test_any_bytes_give_a_page_that_can_be_posted(data: bytes, content_type: str, charset: str | None) -> None:
    found = page(data, content_type, charset)
    for text, limit in ((found.title, 300), (found.description, 1000), ("".join(found.image_urls), 100_000)):
        assert "\0" not in text
        assert text == text.strip()
        assert text.encode().decode() == text
        assert count_graphemes(text) <= limit
    for url in found.image_urls:
        assert urlsplit(url).scheme in {"http", "https"}
        assert urlsplit(url).netloc
