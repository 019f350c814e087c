"""The pages of the documentation, taken apart: fenced blocks, inline code, links, headings."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES: Sequence[Path] = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "ops").rglob("*.md")),
    *sorted((ROOT / "bench").rglob("*.md")),
)
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
PROGRAMS = ("mlfs", "make", "curl", "export", "gcloud", "kubectl", "docker", "terraform", "bq", "printf", "mkdir", "cd")
_ASSIGNED = re.compile(r"[A-Z_]+=\S+ ")


class Kind(StrEnum):
    """What a fenced block is."""

    SESSION = "session"
    """Commands behind `$ `, each followed by what it prints."""
    COMMANDS = "commands"
    JSON = "json"
    PYTHON = "python"
    SQL = "sql"
    DRAWING = "drawing"
    """A picture in characters, or an output without its command."""


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; *page* is its path from the root, *line* that of its fence, from 1."""

    page: str
    line: int
    language: str
    text: str

    @property
    def name(self) -> tuple[str, str]:
        """Page and first line, by which the tables of the tests name a block: it survives what is added above it."""
        return self.page, self.text.partition("\n")[0].strip()

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def kind(self) -> Kind:
        if self.language in {"json", "python", "sql"}:
            return Kind(self.language)
        if self.language:
            return Kind.DRAWING
        if self.text.startswith("$ "):
            return Kind.SESSION
        if all(program(line) in PROGRAMS for line in self.commands()):
            return Kind.COMMANDS
        try:
            json.loads(self.text)
        except ValueError:
            return Kind.DRAWING
        return Kind.JSON

    def commands(self) -> list[str]:
        """Give its command lines, continued ones joined, comments cut off."""
        joined = re.sub(r"\\\n\s*", "", self.text)
        lines = [re.sub(r"(^|\s)# .*$", "", line).strip() for line in joined.splitlines()]
        return [line for line in lines if line]

    def dialogue(self) -> list[tuple[str, str]]:
        """Give each command of a session with the output that is printed below it."""
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]
        return [(command, output) for command, _, output in (part.partition("\n") for part in parts)]


def program(line: str) -> str:
    """Give the program that a command line starts, behind its assignments."""
    while _ASSIGNED.match(line):
        line = _ASSIGNED.sub("", line, count=1)
    return line.split(" ", 1)[0].removeprefix(".venv/bin/")


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in _FENCE.finditer(text):
            yield Block(named(page), text.count("\n", 0, found.start()) + 1, found[1], found[2])


def prose(page: Path) -> str:
    """Give a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def code_spans(page: Path) -> list[str]:
    """Give every inline code of a page, in one line each."""
    return [" ".join(span.split()) for span in _INLINE.findall(prose(page))]


def links(page: Path) -> list[str]:
    """Give the targets of its links and pictures."""
    return _LINK.findall(_INLINE.sub("code", prose(page)))


def anchors(page: Path) -> set[str]:
    """Give the anchors that GitHub makes of its headings."""
    made: set[str] = set()
    for heading in _HEADING.findall(prose(page)):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while (candidate := f"{slug}-{number}" if number else slug) in made:
            number += 1
        made.add(candidate)
    return made
