"""Calendars, ideas, feeds and pages as a careless person writes them, by a seed; and what must not become of them.

A text is made of words that occur once (`w1`, `w2`), between marks that mean something to a format. Whatever reads it
either refuses it with its place, or gives back each word. A word of a comment (`c1`) is never given back.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from prefect_bluesky.channels import fit
from prefect_bluesky.channels.bluesky import RULES
from prefect_bluesky.compose import read_items
from prefect_bluesky.compose.idea import read_idea, read_idea_file
from prefect_bluesky.compose.templates import TemplateGenerator
from prefect_bluesky.errors import BlueskyError, DoesNotFit, InvalidInput
from prefect_bluesky.media import File
from prefect_bluesky.planning import Unusable, read_calendar
from tests.support import web_page

# fmt: off
_MARKS = [
    " ", " ", " ", " #", "# ", " # ", ": ", ":", " - ", "- ", "\n- ", "* ", "*", "**", "_", "`", '"', "'", "''",
    "\\", "|", "> ", "\n> ", "&", "&amp;", "!", "! ", "%", "@", "{", "}", "[", "]", "(", ")", ",", ";", "\t", "\n",
    "\n\n", "\r\n", "\n  ", "---", "\n---\n", "+++", "...", "?", "? ", "<b>", "</b>", "<br/>", "<", ">", "~", "~~",
    "$", "=", "\n===\n", "1. ", "\n1. ", "\n# ", "#tag ", "https://example.com/", "![a](b.png)",
    "[a](https://example.com)", "{{ x }}", "…", "é", "日本", "😀", "\u200b", "\ufeff", "\u2028", "\x0b", "null", "yes",
    "2026-12-01", ": |", ": >", "<<: ", "&a ", "*a ",
]
# fmt: on

_WORD = re.compile(r"w\d+x")


@dataclass
class Words:
    """Makes words, each once."""

    random: Random
    count: int = 0

    def word(self) -> str:
        self.count += 1
        return f"w{self.count}x"

    def text(self) -> str:
        """Return a text that begins with a word or a mark."""
        parts = [self.random.choice(_MARKS)] if self.random.random() < 0.3 else []
        for _ in range(self.random.randint(1, 6)):
            parts += [self.word(), self.random.choice(_MARKS)]
        return "".join(parts)


def words_of(text: str) -> list[str]:
    """Return the words of a text, in order."""
    return re.findall(r"w\d+x", text)


@dataclass
class Outcome:
    """What became of a case: refused, or read."""

    refused: str = ""
    faults: list[str] = field(default_factory=list)


Case = Callable[[Random, Path], Outcome]


def _calendar(folder: Path, name: str, written: str, texts: list[str], *, rest: str = "") -> Outcome:
    """Read a calendar, and compare it with the texts that were meant."""
    (folder / name).write_bytes(written.encode())
    try:
        entries = read_calendar(File(source=str(folder / name))).entries
    except InvalidInput as refused:
        named = re.search(r"line \d+|row \d+|post \d+|column|object|list|file", refused.reason)
        return Outcome(str(refused), [] if named else [f"no place: {refused}"])
    faults = [f"no reason: {place}" for place, each in entries if isinstance(each, Unusable) and not each.reason]
    if any(isinstance(each, Unusable) for _, each in entries):
        # What is refused by itself is named; the others are whole.
        usable = [each for _, each in entries if not isinstance(each, Unusable)]
        read = [words_of(each.post.text) for each in usable if each.account == "alice"]
        meant = [words_of(text) for text in texts]
        faults += [f"another text than was meant: {each}" for each in read if each not in meant]
        return Outcome("in part", faults)
    read = [words_of(" ".join(part.text for part in each.post.posts())) for _, each in entries]  # type: ignore[union-attr]
    if read != [words_of(text) for text in texts]:
        faults.append(f"meant {[words_of(text) for text in texts]}, read {read}")
    return Outcome("", faults)


def yaml(random: Random, folder: Path) -> Outcome:
    words = Words(random)
    texts = [words.text() for _ in range(random.randint(1, 3))]
    lines = []
    for text in texts:
        dash = random.choice(["- ", "- ", "- ", "-  "])
        style = random.choice(["plain", "plain", "'", '"', "|"])
        if style == "plain" and "\n# " not in text:
            shown = text  # with "\\n# " it would be a text and a comment, as a comment should be written
        elif style in {"'", "plain"}:
            shown = "'" + text.replace("'", "''") + "'"
        elif style == '"':
            shown = json.dumps(text, ensure_ascii=random.random() < 0.5)
        else:
            shown = "|\n" + "\n".join(f"      {line}" for line in text.splitlines())
        fields = [f"account: alice{random.choice(['', '  # a comment', ' # c'])}", f"text: {shown}"]
        if random.random() < 0.2:
            fields.append("at: 2027-12-01 08:00")
        lines += [f"{dash}{fields[0]}", *(f"{' ' * len(dash)}{each}" for each in fields[1:])]
    return _calendar(folder, "c.yaml", "\n".join(lines) + "\n", texts)


def as_json(random: Random, folder: Path) -> Outcome:
    words = Words(random)
    texts = [words.text() for _ in range(random.randint(1, 3))]
    entries = [json.dumps({"account": "alice", "text": text}, ensure_ascii=random.random() < 0.5) for text in texts]
    if random.random() < 0.2:
        entries[0] = entries[0].replace("}", f', "text": "{words.word()}"}}')  # the name a second time
        texts[0] += " lost"
    return _calendar(folder, "c.json", f"[{', '.join(entries)}]", texts)


def table(random: Random, folder: Path) -> Outcome:
    words = Words(random)
    texts = [words.text() for _ in range(random.randint(1, 4))]
    file = io.StringIO()
    ends = random.choice(["\n", "\r\n", "\r"])
    # Python alone leaves a line break without quotes where lines end in another one.
    is_quoted = ends == "\r" or random.random() < 0.5
    separator = random.choice(",;\t|")
    writer = csv.writer(
        file, delimiter=separator, lineterminator=ends, quoting=csv.QUOTE_ALL if is_quoted else csv.QUOTE_MINIMAL
    )
    more = [""] * random.choice([0, 0, 1, 3])
    if random.random() < 0.2:
        writer.writerow([""] * 3)
    writer.writerow(["account", "text", *more])
    for text in texts:
        writer.writerow(["alice", text, *more])
        if random.random() < 0.1:
            writer.writerow([])
    written = random.choice(["", "\ufeff"]) + file.getvalue()
    if random.random() < 0.1 and '"' in written:
        # A quote is missing: what is read then may be anything, but for a traceback.
        return Outcome(_calendar(folder, "c.csv", written.replace('"', "", 1), texts).refused)
    return _calendar(folder, "c.csv", written, texts)


def markdown(random: Random, folder: Path) -> Outcome:
    words = Words(random)
    texts, parts = [], []
    for number in range(random.randint(1, 3)):
        text = words.text()
        texts.append(text)
        comment = random.choice(["", "", f"<!-- c{number} -->", f"\n<!-- c{number}\n\nc{number} -->\n"])
        parts.append(f"---\naccount: alice\n---\n{text}{comment}\n")
    outcome = _calendar(folder, "c.md", "\n".join(parts), texts)
    if not outcome.refused:
        entries = read_calendar(File(source=str(folder / "c.md"))).entries
        said = [each.post.text for _, each in entries if not isinstance(each, Unusable)]
        outcome.faults += [f"a comment: {text}" for text in said if re.search(r"\bc\d\b", text)]
    return outcome


def idea(random: Random, folder: Path) -> Outcome:
    """An idea, as notes or as a file of Markdown, with the drafts that are made of it by rule."""
    words = Words(random)
    text = "\n\n".join(words.text() for _ in range(random.randint(1, 8)))
    try:
        if random.random() < 0.5:
            read = read_idea(text)
        else:
            (folder / "idea.md").write_text(text, newline="")
            read = read_idea_file(File(source=str(folder / "idea.md")))
    except BlueskyError as refused:
        return Outcome(str(refused))
    faults = []
    for draft in TemplateGenerator().generate(read, RULES, 20):
        try:
            posts = fit(draft, RULES).posts
        except DoesNotFit as refused:
            faults += [] if draft.kind == "thread" else [f"does not fit: {refused}"]
            continue
        said = words_of(" ".join(posts))
        if draft.kind == "thread" and said != words_of(f"{read.title} {read.text}"):
            faults.append(f"a thread of {words_of(f'{read.title} {read.text}')} says {said}")
        if len(said) != len(set(said)):
            faults.append(f"said twice: {said}")
    return Outcome("", faults)


def feed(random: Random, folder: Path) -> Outcome:
    words = Words(random)
    dates = ["Tue, 01 Dec 2026 08:00:00 GMT", "0001-01-01T00:00:00+02:00", "9999-12-31T23:59:59-05:00", "gestern", ""]
    items, names = [], []
    for _ in range(random.randint(1, 4)):
        name = words.word()
        names.append(name)
        link = random.choice(
            [f"https://example.com/{name}", f"https://example.com/{name}!", f" https://example.com/{name} x"]
        )
        guid = random.choice(
            ["", f"<guid>https://example.com/{name}</guid>", f'<guid isPermaLink="false">{name}</guid>']
        )
        date = random.choice(dates)
        items.append(f"<item><title>{name}</title><link>{link}</link>{guid}<pubDate>{date}</pubDate></item>")
    data = f'<rss version="2.0"><channel><title>A</title>{"".join(items)}</channel></rss>'
    is_whole = random.random() < 0.8
    if not is_whole:
        cut = random.randint(0, len(data))
        data = data[:cut] + random.choice(_MARKS) + data[cut:]
    with web_page(data.encode()) as url:
        try:
            read = read_items(url)
        except BlueskyError as refused:
            return Outcome(str(refused))
    found = {name for item in read for name in _WORD.findall(" ".join(item.parameters.values()))}
    return Outcome("", [f"lost: {set(names) - found}"] if is_whole and set(names) - found else [])


def page(random: Random, folder: Path) -> Outcome:
    words = Words(random)
    parts = ["<html><head><title>", words.text(), "</title></head><body><article>"]
    for _ in range(random.randint(1, 6)):
        tag = random.choice(["p", "h2", "li", "div", "blockquote"])
        parts.append(f"<{tag}>{words.text()}. {words.text()}</{tag}>")
    encoding = random.choice(["utf-8", "utf-16", "cp1252", "shift_jis"])
    data = "".join([*parts, "</article></body></html>"]).encode(encoding, "replace")
    with web_page(data) as url:
        try:
            read = read_idea("", f"{url}/page")
        except BlueskyError as refused:
            return Outcome(str(refused))
    faults = []
    for draft in TemplateGenerator().generate(read, RULES, 20):
        try:
            fit(draft, RULES)
        except DoesNotFit as refused:
            faults += [] if draft.kind == "thread" else [f"does not fit: {refused}"]
    return Outcome("", faults)


CASES: dict[str, Case] = {
    "YAML": yaml,
    "JSON": as_json,
    "CSV": table,
    "Markdown": markdown,
    "ideas": idea,
    "feeds": feed,
    "pages": page,
}
