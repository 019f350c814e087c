"""The list of what an emulator cannot do forgives exactly what it says, and each entry names a test that exists."""

import ast
from pathlib import Path

import pytest

from tests.second_opinion.expected import CANNOT
from tests.second_opinion.judge import Cannot, Judge
from tests.second_opinion.run import ASKED, main
from tests.support import second_opinion
from tests.support.second_opinion import EMULATORS, rows_differ

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
PLAYED = """
import pytest

@pytest.fixture(params=["memory", "bigquery"])
def warehouse(request):
    return request.param

@pytest.fixture
def bigquery_address():
    return "nowhere"

def test_that_works(warehouse): ...
def test_that_fails(warehouse):
    raise ValueError("400 no such function: FOO")
def test_of_the_server(bigquery_address): ...
"""


def played(pytester: pytest.Pytester, *cannot: Cannot) -> tuple[dict[str, int], str]:
    pytester.makepyfile(PLAYED)
    done = pytester.runpytest_inprocess("-p", "no:randomly", plugins=[Judge("it 1.0", cannot)])
    return done.parseoutcomes(), done.stdout.str() + done.stderr.str()


def test_only_the_tests_that_speak_to_bigquery_run(pytester: pytest.Pytester) -> None:
    assert played(pytester)[0] == {"passed": 2, "failed": 1, "deselected": 2}


def test_a_listed_failure_is_expected_and_printed_with_the_answer(pytester: pytest.Pytester) -> None:
    outcomes, text = played(pytester, Cannot("test_that_fails", r"no such function: \w+", "it has no FOO"))

    assert outcomes == {"passed": 2, "xfailed": 1, "deselected": 2}
    assert "what it 1.0 cannot do: 1" in text
    assert "test_that_fails: it has no FOO\n    400 no such function: FOO" in text


def test_a_listed_test_that_fails_in_another_way_fails_the_run(pytester: pytest.Pytester) -> None:
    outcomes, text = played(pytester, Cannot("test_that_fails", "quota", "it has quotas"))

    assert (outcomes["failed"], outcomes.get("xfailed")) == (1, None)
    assert "the list expects a failure that says 'quota'" in text


def test_a_listed_test_that_passes_fails_the_run(pytester: pytest.Pytester) -> None:
    outcomes, text = played(pytester, Cannot("test_that_works", "", "it cannot"))

    assert outcomes["failed"] == 2
    assert "it 1.0 can do this now: remove test_that_works from the list" in text


def test_an_entry_may_name_one_parameter(pytester: pytest.Pytester) -> None:
    outcomes, _ = played(pytester, Cannot("test_that_fails[bigquery]", "FOO", "it has no FOO"))

    assert outcomes["xfailed"] == 1


def test_an_entry_that_names_no_test_stops_the_run(pytester: pytest.Pytester) -> None:
    outcomes, text = played(pytester, Cannot("test_that_is_gone", "", "it cannot"))

    assert "passed" not in outcomes
    assert "no such test, remove or rename the entry: test_that_is_gone" in text


def test_every_entry_names_a_test_of_the_contract_or_of_the_night() -> None:
    trees = [ast.parse((ROOT / path).read_text(encoding="utf-8")) for path in ASKED]
    there = {node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)}

    assert set(CANNOT) == set(EMULATORS)
    listed = [entry.test.partition("[")[0] for entries in CANNOT.values() for entry in entries]
    assert [name for name in listed if name not in there] == []


def test_without_the_right_python_nothing_is_asked_and_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(second_opinion, "PYTHON", (3, 99))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert main([]) == 0

    assert "SKIPPED, nothing was compared: python3.99 is not installed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_difference_is_told_by_row_and_column() -> None:
    ours, theirs = [{"a": 1, "b": 2}, {"a": 3, "b": None}], [{"a": 1, "b": 2}, {"a": 3, "b": 0}, {"a": 5, "b": 6}]

    assert [*rows_differ(ours, theirs)] == ["2 rows against 3", "row 1, b: None against 0"]
    assert [*rows_differ(ours, ours)] == []
