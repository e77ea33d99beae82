"""The pages outside docs/ as pages of the site: a hook of mkdocs, so that no page has a second copy.

Every link works on GitHub as it stands. The hook makes it lead to the same place on the site.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]

PAGES = {
    "README.md": "index.md",
    "deployments/README.md": "deploying.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
"""The pages outside docs/ by their paths, and their names on the site."""

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
_CODE = re.compile(r"(?ms)^```.*?^```")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside docs/, and the files that pages link to."""
    for path, name in PAGES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / path)))
    pages = files.documentation_pages()
    linked = {
        _path(page.src_uri, target) for page in pages for target in _LINK.findall(_CODE.sub("", page.content_string))
    }
    for path in sorted(linked - PAGES.keys()):
        if not path.startswith("docs/") and (ROOT / path).is_file():
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make the links of a page lead to where their targets are on the site."""
    here = page.file.src_uri

    def moved(link: re.Match[str]) -> str:
        path = _path(here, link[1])
        there = PAGES.get(path, path.removeprefix("docs/"))
        return posixpath.relpath(there, posixpath.dirname(here) or ".")

    return _outside_code(markdown, lambda text: _LINK.sub(moved, text))


def _path(page: str, target: str) -> str:
    """Return the path from the repository's root that a link of a page leads to."""
    source = {name: path for path, name in PAGES.items()}.get(page, f"docs/{page}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target))


def _outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """Change a page's text, and leave its blocks of code alone."""
    parts = re.split(r"(?ms)(^```.*?^```)", markdown)
    return "".join(part if number % 2 else change(part) for number, part in enumerate(parts))
