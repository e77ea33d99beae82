"""What the pages say is so: links, commands, calendars, and facts that other files state."""

import io
import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import fields
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import TypeAdapter

import prefect_bluesky
from prefect_bluesky import __main__ as command
from prefect_bluesky.media.files import File
from prefect_bluesky.planning.calendar import Unusable, read_calendar
from prefect_bluesky.settings import BlueskySettings
from prefect_bluesky.setup.automations import Parts, automations
from prefect_bluesky.setup.declared import declared_deployments
from tests import pages
from tests.pages import PAGES, ROOT

DOCS = ROOT / "docs"


class TestAllPages:
    """The README, the pages of docs/, and the others."""

    @pytest.mark.parametrize("page", PAGES)
    def test_the_linked_files_exist(self, page: str) -> None:
        missing = []
        for link in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text()):
            if "://" in link:
                continue
            target, _, anchor = link.partition("#")
            path = (ROOT / page).parent / target if target else ROOT / page
            if not path.exists() or (anchor and anchor not in _anchors(path)):
                missing.append(link)
        assert missing == []

    @pytest.mark.parametrize("page", PAGES)
    def test_the_commands_that_it_gives_are_understood(self, page: str) -> None:
        refused = {shlex.join(typed): why for typed in pages.commands(page) if (why := _refusal(typed))}
        assert refused == {}

    @pytest.mark.parametrize("page", PAGES)
    def test_the_scripts_that_it_names_take_the_options_that_it_gives(self, page: str) -> None:
        wrong = []
        for typed in _scripts((ROOT / page).read_text()):
            name, *arguments = typed
            options = [each.partition("=")[0] for each in arguments if each.startswith("--")]
            if not (ROOT / name).exists() or not set(options) <= _options(name):
                wrong.append(typed)
        assert wrong == []

    @pytest.mark.parametrize("page", PAGES)
    def test_its_calendars_can_be_read(self, page: str, tmp_path: Path) -> None:
        for number, text in enumerate(text for found in pages.examples(page, "yaml").values() for text in found):
            file = tmp_path / f"{number}.yaml"
            file.write_text(text)
            entries = read_calendar(File(source=str(file))).entries
            assert [entry for _, entry in entries if isinstance(entry, Unusable)] == []

    def test_the_readme_and_the_site_name_each_page_of_docs(self) -> None:
        site = (ROOT / "mkdocs.yml").read_text()
        named = re.findall(r"\]\(docs/([\w-]+\.md)\)", (ROOT / "README.md").read_text())
        there = {page.name for page in DOCS.glob("*.md")}
        assert there - set(named) == set()
        assert there | {f"reference/{page.name}" for page in (DOCS / "reference").glob("*.md")} <= set(
            re.findall(r": ([\w/-]+\.md)$", site, re.MULTILINE)
        )


class TestFacts:
    """Single pages."""

    def test_the_problems_are_those_of_the_code(self) -> None:
        made = runpy.run_path(str(DOCS / "problems.py"))
        assert made["PAGE"].read_text() == made["page"](), "Run it: uv run docs/problems.py"

    def test_the_settings_are_those_of_the_code(self) -> None:
        adapter: Any = TypeAdapter  # a field's annotation may be None
        defaults = {
            name.upper(): adapter(field.annotation).dump_python(field.default, mode="json")
            for name, field in BlueskySettings.model_fields.items()
        }
        shown = {
            name: str(value).lower() if isinstance(value, bool) else str(value or "")
            for name, value in defaults.items()
        }
        rows = re.findall(r"^\| `([A-Z_]+)` \| (?:`(.*?)`)? ?\|", (DOCS / "settings.md").read_text(), re.MULTILINE)
        assert dict(rows) == {name: value.removesuffix(".0") for name, value in shown.items()}

    @pytest.mark.parametrize("command", ["uv run flows/demo.py", "uv run pytest"])
    def test_the_readme_sets_everything_up_on_a_fresh_machine(self, command: str) -> None:
        assert f"\npip install -q uv && {command}\n" in (ROOT / "README.md").read_text()

    def test_the_commands_are_those_that_there_are(self) -> None:
        rows = re.findall(r"^\| `prefect-bluesky ([\w-]+)` \|", (DOCS / "install.md").read_text(), re.MULTILINE)
        assert sorted(rows) == sorted([*command._COMMANDS, command._COMPLETION])

    def test_the_reference_has_each_public_name(self) -> None:
        named = re.findall(
            r"^::: prefect_bluesky\.(\w+)$", (DOCS / "reference" / "prefect_bluesky.md").read_text(), re.MULTILINE
        )
        assert sorted(named) == sorted(prefect_bluesky.__all__)

    def test_prefect_cloud_gets_what_the_setup_makes(self) -> None:
        deployments = {each.name: uuid4() for each in fields(Parts) if each.name != "notification"}
        made = [len(automations(Parts(notification, **deployments))) for notification in (uuid4(), None)]
        page = (DOCS / "cloud.md").read_text()
        assert f"| automations | {made[0]} with `--notify`, {made[1]} without |" in page
        assert f"| deployments | {len(declared_deployments())} |" in page

    def test_the_deployments_are_those_that_are_declared(self) -> None:
        rows = re.findall(r"^\| `(start here|automatic)` \| (.*) \|$", (DOCS / "alerts.md").read_text(), re.MULTILINE)
        declared = {(tag, each["name"]) for each in declared_deployments() for tag in each["tags"] if tag != "bluesky"}
        assert {(tag, name) for tag, names in rows for name in re.findall(r"`([\w-]+)`", names)} == declared

    def test_the_versions_are_those_that_ci_installs(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        wanted = [
            *project["dependencies"],
            *(each for extra in project["optional-dependencies"].values() for each in extra),
        ]
        allowed = dict(_bounds(wanted))
        locked = {
            each["name"]: each.get("version") for each in tomllib.loads((ROOT / "uv.lock").read_text())["package"]
        }
        for name, oldest, now, newest in _versions():
            least, most = allowed[name]
            assert (oldest, newest) == (least, f"below {most}" if most else "any"), name
            assert now == locked[name.lower().replace(".", "-")], name


def _versions() -> list[list[str]]:
    """Return the rows of the first table of versions.md, without Python."""
    table = (DOCS / "versions.md").read_text().split("\n\n")[2]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return [row for row in rows if row[0] != "Python"]


def _bounds(dependencies: list[str]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the name of each dependency with its lowest version, and the version below which it must be."""
    for each in dependencies:
        name = re.match(r"[\w.-]+", each)
        assert name is not None
        least, most = re.search(r">=([\d.]+)", each), re.search(r"<([\d.]+)", each)
        yield name[0], (least[1] if least else "", most[1] if most else "")


def _refusal(typed: list[str]) -> str:
    """Return why a command of `prefect-bluesky` is refused; nothing if it is understood."""
    name, *rest = typed
    if name == "…" or name.startswith("--"):
        return ""
    if name == command._COMPLETION:
        return "" if set(rest) <= {*command._SHELLS, "--help"} else f"no shell: {rest}"
    if name not in command._COMMANDS:
        return "no command"
    said = io.StringIO()
    parser: Any = command._module(name).parser()
    try:
        with redirect_stderr(said), redirect_stdout(io.StringIO()):
            parser.parse_args(rest)
    except SystemExit as end:
        return said.getvalue() if end.code else ""
    return ""


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page, as GitHub names them."""
    headings = re.findall(r"(?m)^#+ (.*)", page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _scripts(text: str) -> Iterator[list[str]]:
    """The commands that run a script of ours, without what stands before its name."""
    for line in re.findall(r"(?m)^(?:.*&& )?uv run (?:--group \w+ )?(\S+\.py.*)$", text):
        yield shlex.split(line, comments=True)
    for inline in re.findall(r"`uv run (\S+\.py[^`]*)`", text):
        yield shlex.split(inline)


def _options(script: str) -> set[str]:
    """The options that a script knows: each is named where its parser is made."""
    return set(re.findall(r'add_argument\(\s*"(--[\w-]+)"', (ROOT / script).read_text()))
