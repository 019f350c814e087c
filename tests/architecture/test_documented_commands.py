"""Every `mlfs` line that a page tells people to type is one that the program takes."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import typer

from ops.cli import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "ops").glob("*/README.md")])
_FENCED = re.compile(r"^```[a-z]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(mlfs [^`]+)`")
# A command that is only spoken of.
_NAME = re.compile(r"mlfs( [a-z-]+)*")
# In running text a word in capitals stands for something, and brackets or bars for a choice.
_PLACEHOLDER = re.compile(r"\b[A-Z]{2,}\b|[\[\]|…<>]|\.\.\.")
# Typer brings a Click of its own and exports no name for this one: the parent of a bad parameter.
UsageError: type[Exception] = typer.BadParameter.__base__  # type: ignore[assignment]
_ENDS = {"|", "||", "&&", "&", ";", ">", "2>", "<"}


def command_lines(text: str) -> Iterator[list[str]]:
    """The arguments of each `mlfs` in fenced blocks, and of those in the text that hold no placeholder."""
    for block in _FENCED.findall(text):
        lines = block.replace("\\\n", " ").splitlines()
        # Where there is a prompt, the other lines are output; so is what is indented.
        typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")] or lines
        for line in typed:
            yield from _commands(line.rstrip())
    for line in _INLINE.findall(_FENCED.sub("", text)):
        if not _PLACEHOLDER.search(line) and not _NAME.fullmatch(line):
            yield from _commands(line)


def _commands(line: str) -> Iterator[list[str]]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return  # a line of output with an apostrophe
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    if not words or words[0].removeprefix(".venv/bin/") != "mlfs":
        return
    end = next((place for place, word in enumerate(words) if word in _ENDS), len(words))
    yield words[1:end]


def parse(words: list[str]) -> None:
    """Read *words* as the program would, up to the point where it would act.

    Raises:
        UsageError: The program would refuse them.
    """
    command: Any = typer.main.get_command(app)
    context = None
    name = "mlfs"
    while hasattr(command, "commands"):
        context = command.make_context(name, list(words), parent=context)
        rest = [*context._protected_args, *context.args]
        if not rest:
            return
        name, command, words = command.resolve_command(context, rest)
    command.make_context(name, list(words), parent=context)


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """`--data-dir` of a parsed command line sets MLFS_DATA_DIR; later tests of this process see the old value."""
    with mock.patch.dict(os.environ):
        yield


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_line_of_a_page_is_one_that_the_program_takes(page: Path) -> None:
    refused = []
    for words in command_lines(page.read_text(encoding="utf-8")):
        try:
            parse(words)
        except typer.Exit:
            continue  # --help
        except UsageError as exc:
            refused.append(f"mlfs {shlex.join(words)}: {exc}")

    assert [] == refused


def test_a_line_that_the_program_refuses_is_noticed() -> None:
    lines = list(
        command_lines("```\n$ A=1 mlfs replay --frm 2024-12-01 \\\n  --yes | head  # no\n```\nand `mlfs nonsense 1`")
    )

    assert [["replay", "--frm", "2024-12-01", "--yes"], ["nonsense", "1"]] == lines
    for words in lines:
        with pytest.raises(UsageError):
            parse(words)
