"""Links, mentions and hashtags of 10,000 texts, beside those of the Bluesky app's own library (@atproto/api)."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from random import Random

import pytest

from prefect_bluesky.posts import find_entities
from tests.pds import install

pytestmark = [pytest.mark.pds, pytest.mark.slow]

# fmt: off
_PARTS = [
    "word", "#tag", "＃tag", "#1", "#a1", "#tag's", "#tag...", "#👩\u200d💻", "#", "@alice.bsky.social", "@x.y",
    "@bad", "a@b.c", "$AAPL", "https://example.com/a_b", "https://ex.com:8080/", "https://user:pw@e.com/x",
    "https://exa＃mple.com", "https://例え.jp", "https://127.0.0.1/x", "(https://x.io)", "http://", "https://",
    "//x.com", "foo:bar", "localhost", "example.com", "www.x.org/path?q=1#f", "README.md", "t.co/x",
    "127.0.0.1", "xn--a.com", "Ü.de", "😀.com", "🦋", "é", "日本語", "\n", "\t", " ", "  ", ".", ",", "!", "?",
    "…", "’s", '"', "'", "(", ")", "[", "]", "-", "_", "~", "*", "&", "=", "%20", "\\", "|", "\u200b", "\ufeff",
    "\u200d",
]
# fmt: on

Facet = list[object]


def text(random: Random) -> str:
    return "".join(random.choice(_PARTS) + random.choice(["", " ", ""]) for _ in range(random.randint(1, 10)))


def shown(found: list[Facet]) -> list[Facet]:
    """Return the facets that the app shows: of two that overlap the first, and none that leads to no host."""
    apart: list[Facet] = []
    for each in sorted(found, key=lambda facet: facet[:2]):
        if not apart or each[0] >= apart[-1][1]:  # type: ignore[operator]
            apart.append(each)
    return [each for each in apart if not (each[2] == "link" and _leads_nowhere(str(each[3])))]


def _leads_nowhere(uri: str) -> bool:
    return not uri.partition("://")[2].strip() or uri.partition("://")[2][0] in "/?#"


def test_they_are_those_of_the_app(tmp_path: Path) -> None:
    random = Random(1)
    texts = [text(random) for _ in range(10_000)]
    modules = install.installed() / "node_modules"
    (tmp_path / "node_modules").symlink_to(modules)
    script = shutil.copy(Path(__file__).parent / "pds" / "facets.mjs", tmp_path)
    done = subprocess.run(
        [install.node(), "--preserve-symlinks", "--preserve-symlinks-main", script],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    wrong = []
    for written, found in zip(texts, json.loads(done.stdout), strict=True):
        ours: list[Facet] = [
            [len(written[: each.start].encode()), len(written[: each.end].encode()), each.kind, each.value]
            for each in find_entities(written)
        ]
        if ours != shown(found):
            wrong.append((written, ours, shown(found)))
    assert wrong == []
