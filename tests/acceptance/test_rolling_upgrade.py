"""This version and the commit before it share one Redis, one bus and one warehouse, and replace each other.

A small part of `make upgrade-test`. The commit before may bear another DuckDB, so the warehouse is the BigQuery peer.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.upgrade.judge import Evidence, violations
from tests.upgrade.run import play
from tests.upgrade.stage import NoHistory, Stage, unpack

NIGHTS = 4


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_nights_end_soundly_while_versions_replace_each_other_there_and_back(tmp_path: Path) -> None:
    try:
        old = unpack("HEAD~1", tmp_path / "old")
    except NoHistory as exc:
        pytest.skip(f"no older version to run beside this one: {exc}")
    with Stage(tmp_path, NIGHTS) as stage:
        result, evidence = play(stage, old, batch=2, plan=(("old", True), ("new", False)))

    assert [] == result.violations
    assert {"done": 3, "degraded": 1} == result.states
    assert {"kill -9: old -> new": 1, "SIGTERM: new -> old": 1} == result.replacements
    assert {"old", "new"} >= set(result.builds_by)
    _the_judge_notices(next(one for one in evidence if one.expected == "done" and one.replays))


def _the_judge_notices(sound: Evidence) -> None:
    """What it found sound it finds unsound once anything is wrong with it."""
    assert sound.record is not None
    damages: dict[str, Callable[[Evidence], Evidence]] = {
        "no acked completion lost": lambda one: replace(one, record=None),
        "one commit per generation": lambda one: replace(one, executions=[*one.executions, one.executions[0]]),
        "done => published": lambda one: replace(one, outcomes=one.outcomes[1:]),
        "published => committed": lambda one: replace(one, ledger={**(one.ledger or {}), "row_count": 1}),
        "all or nothing": lambda one: replace(one, visible={**one.visible, 1: 3}),
        "legal move": lambda one: replace(one, history=[replace(one.history[0], reason="claimed"), *one.history[1:]]),
        "monotone generation": lambda one: replace(one, history=one.history[::-1]),
        "same final result": lambda one: replace(one, expected="degraded"),
        "one request, one generation": lambda one: replace(one, replays=0),
    }
    for invariant, damage in damages.items():
        assert any(invariant in what for what in violations(damage(sound))), invariant


def test_a_revision_that_is_not_here_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(NoHistory, match=r"no commit or tag|git is not installed|no git repository"):
        unpack("0123456789abcdef0123456789abcdef01234567", tmp_path / "old")
