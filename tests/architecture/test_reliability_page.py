"""docs/reliability.md names tests, acts and places: each of them exists, and every act and invariant is on the page."""

import ast
import re
from pathlib import Path

import pytest

from tests.chaos.check import INVARIANTS
from tests.chaos.crashing import PLACES
from tests.chaos.nemesis import ACTS

TESTS = Path(__file__).parents[1]
PAGE = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8")
FAULTS_MIN = 50
ROWS = re.findall(r"^\| (\d+) \|(.*)\|$", PAGE, re.MULTILINE)


def named(kind: str) -> set[str]:
    return set(re.findall(rf"`{kind}: ([^`]+)`", PAGE))


def named_tests() -> list[tuple[str, str]]:
    return sorted(set(re.findall(r"`([a-z_/0-9]+\.py)::(test_[a-z0-9_]+)`", PAGE)))


@pytest.mark.parametrize(("file", "name"), named_tests())
def test_every_test_on_the_page_exists(file: str, name: str) -> None:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))

    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_act_and_place_on_the_page_exists_and_every_act_is_there() -> None:
    assert named("act") == set(ACTS)
    assert named("place") <= set(PLACES)


def test_every_fault_has_a_proof() -> None:
    assert [int(number) for number, _rest in ROWS] == list(range(1, len(ROWS) + 1))
    assert len(ROWS) >= FAULTS_MIN
    assert [number for number, rest in ROWS if not re.search(r"`(act|place): |`[a-z_/]+\.py::test_", rest)] == []


def test_every_invariant_of_the_judge_is_on_the_page() -> None:
    assert [name for name in INVARIANTS if f"| {name} |" not in PAGE] == []
