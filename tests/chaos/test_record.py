"""The last reports on docs/reliability.md are those of docs/measured/chaos.json, and a bad one cannot look good."""

import json
from typing import Any

from tests.chaos.check import INVARIANTS
from tests.chaos.record import MEASURED, PAGE, made

MARKS = "<!-- measured: chaos -->\n<!-- end of measured -->"


def _measured() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))
    return found


def test_the_page_says_what_was_measured() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert made(page, _measured()) == page


def test_every_run_was_judged_by_every_invariant_of_today() -> None:
    for run in _measured()["runs"]:
        assert set(run["checked"]) == set(INVARIANTS), run["arguments"]


def test_violations_unrest_and_acts_left_out_stand_on_the_page() -> None:
    measured = _measured()
    run = {
        **measured["runs"][0],
        "settled": False,
        "not possible here": ["worker whose clock steps"],
        "violations": {"the gate is respected": ["build 7", "build 8"]},
    }

    page = made(MARKS, {"runs": [run]})

    assert "| 2 |" in page
    assert "**the gate is respected**: 2 violations, the first: build 7" in page
    assert "did not come to rest" in page
    assert "not possible there: worker whose clock steps" in page
