"""The rendered SQL that lies in tests/golden is what the templates and the shipped definition make today."""

from difflib import unified_diff
from pathlib import Path

import pytest

from tests.golden.write import HERE, lying, made
from worker.features.sql import WIDTH

GOLDEN = made()


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.relative_to(HERE).as_posix())
def test_the_rendered_text_is_the_one_that_was_reviewed(path: Path) -> None:
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    diff = "\n".join(unified_diff(before.splitlines(), GOLDEN[path].splitlines(), "reviewed", "rendered", lineterm=""))

    assert diff == "", f"{path.name} renders differently; if the difference is meant, run: make golden\n{diff}"


def test_no_file_is_left_of_a_statement_that_is_gone() -> None:
    assert lying() == GOLDEN.keys(), "run: make golden"


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.relative_to(HERE).as_posix())
def test_a_rendered_text_can_be_read(path: Path) -> None:
    lines = GOLDEN[path].splitlines()

    assert [line for line in lines if len(line) > WIDTH or line != line.rstrip() or "{" in line] == []
    assert GOLDEN[path].endswith("\n")
    assert "" not in lines
