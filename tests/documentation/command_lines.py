"""Command lines of the documentation against the real command: which names and options exist."""

import re
import shlex
from enum import EnumType
from pathlib import Path
from typing import Any

import typer

from ops.cli import app
from tests.documentation.pages import ROOT

ROOT_COMMAND = typer.main.get_command(app)
MAKE_TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
_REDIRECTED = re.compile(r"(?:\s*(?:\d?>>? ?\S+|&|\| .*))+$")
_MLFS = re.compile(r"^(?:[A-Z_]+=\S+ )*(?:(?:docker|kubectl) .*(?:exec \S+|--) )?(?:\.venv/bin/)?(mlfs(?:\s.*)?)$")
# What stands for a value that the reader fills in: DATE, PLAYER_ID, N, '…'.
_PLACEHOLDER = re.compile(r"…|[A-Z][A-Z_0-9]*|…?.*…")


def mlfs_part(line: str) -> str | None:
    """Give what of a command line is our command, if any: `docker compose exec worker mlfs status`."""
    found = _MLFS.search(line)
    return found[1] if found else None


def fault(line: str) -> str | None:
    """Say what the real command would not know of a line that begins with `mlfs`; values may be placeholders."""
    line = re.sub(r"\[([^]]+)\]", r"\1", line.replace("[OPTIONS]", ""))  # of a usage line
    try:
        words = shlex.split(_REDIRECTED.sub("", line))[1:]
    except ValueError as error:
        return str(error)
    command: Any = ROOT_COMMAND
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        name = words.pop(0)
        if _PLACEHOLDER.fullmatch(name):
            return None
        if name not in command.commands:
            return f"no command {name!r}"
        command = command.commands[name]
    return _words_fault(command, words)


def _words_fault(command: Any, words: list[str]) -> str | None:
    options = {
        name: one
        for one in command.params
        if one.param_type_name == "option"
        for name in (*one.opts, *one.secondary_opts)
    }
    taken = sum(one.nargs for one in command.params if one.param_type_name == "argument")
    left, given = list(words), 0
    while left:
        word = left.pop(0)
        if word in {"…", "--help", "-h"}:
            continue
        if not word.startswith("-"):
            given += 1
        elif word not in options:
            return f"{command.name} has no option {word}"
        elif left and not options[word].is_flag:
            values = [left.pop(0) for _ in range(min(options[word].nargs, len(left)))]
            if said := next(filter(None, (_value_fault(options[word], value) for value in values)), None):
                return f"{word} {said}"
    return f"{command.name} takes {taken} arguments, not {given}" if given > taken else None


def _value_fault(option: Any, value: str) -> str | None:
    kind = option.type_descriptor.annotation
    choices = [str(one.value) for one in kind] if isinstance(kind, EnumType) else [value]
    return None if value in choices or _PLACEHOLDER.fullmatch(value) else f"is one of {choices}, not {value!r}"


def make_fault(line: str) -> str | None:
    """Say which target of a line that begins with `make` does not exist."""
    words = [word for word in shlex.split(line)[1:] if "=" not in word and not _PLACEHOLDER.fullmatch(word)]
    gone = [word for word in words if word not in MAKE_TARGETS]
    return f"no target {gone}" if gone else None


def missing_paths(line: str) -> list[str]:
    """Give the paths of the repository that a line names and that do not exist."""
    words = re.findall(r"(?<![\w/.-])(?:ops|docs|tests|worker|schemas|statemachine|bench|\.ci)/[\w./*-]*[\w*]", line)
    return [word for word in words if not _exists(word)]


def _exists(path: str) -> bool:
    if "*" in path:
        return any(ROOT.glob(path))
    return Path(ROOT / path).exists()
