"""An upgrade's message says what it changed; the question delays no first publication and fails none."""

import json
from collections.abc import Callable
from dataclasses import replace
from threading import Event
from typing import Any

import pytest
from structlog.testing import capture_logs

from statemachine.model import CellChange, Changes, State
from tests.support.nights import NIGHT, PROCESSORS, REPLAY, success
from tests.support.rigs import LedgerWarehouse, Rig, repair_of
from worker.builds.builder import Builder
from worker.builds.generations import short_diffs
from worker.errors import Unavailable
from worker.features.model import BuildKey

CHANGES = Changes(
    from_generation=1,
    rows_added=2,
    rows_removed=0,
    cells_changed=17,
    largest=(CellChange(column="pace", key=7, label="Nikola Jokić", before=None, after=99.5),),
)


class Site:
    """A night that is built twice, the second time by a replay."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.warehouse = LedgerWarehouse()
        self.asked: list[tuple[str, str]] = []
        self.answer: Callable[[BuildKey], Changes | None] = lambda _key: CHANGES
        for name in PROCESSORS:
            self.rig.engine.apply(NIGHT, success(name))
        self.builder = Builder(
            engine=self.rig.engine,
            warehouse=self.warehouse,  # type: ignore[arg-type]
            clock=self.rig.clock,
            worker="worker-a",
            lease_s=60.0,
            phase3_lookback_days=30,
            observer=self.rig.notes,
            stopwatch=lambda: 0.0,
            follow=repair_of(self.rig, self.warehouse).follow,
            changes_of=self.changes_of,
        )

    def changes_of(self, key: BuildKey) -> Changes | None:
        self.asked.append((key.build_id, self.warehouse.ledger[key.analysis_date].build_id))
        return self.answer(key)

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(entry.message.data) for entry in self.rig.store.outbox(10)]


def test_an_upgrade_tells_what_it_changed_and_a_first_generation_asks_nothing() -> None:
    site = Site()

    site.builder.run_one(NIGHT)
    assert site.asked == []
    site.rig.engine.apply(NIGHT, REPLAY)
    site.builder.run_one(NIGHT)

    # By the time it is asked, the rows are published.
    assert site.asked == [("2024-12-15-g2-a1", "2024-12-15-g2-a1")]
    first, second = site.told()
    assert (first["supersedes"], first["changes"]) == (None, None)
    assert (second["supersedes"], second["state"]) == (1, "done")
    assert second["changes"] == {
        "from_generation": 1,
        "rows_added": 2,
        "rows_removed": 0,
        "cells_changed": 17,
        "largest": [{"column": "pace", "key": 7, "label": "Nikola Jokić", "before": None, "after": 99.5}],
    }


def test_a_number_that_json_cannot_hold_is_told_as_null() -> None:
    site = Site()
    site.builder.run_one(NIGHT)
    site.rig.engine.apply(NIGHT, REPLAY)
    cell = CellChange(column="pace", key=7, label="x", before=float("nan"), after=float("inf"))
    site.answer = lambda _key: replace(CHANGES, largest=(cell,))

    site.builder.run_one(NIGHT)

    [told] = site.told()[1]["changes"]["largest"]
    assert (told["before"], told["after"]) == (None, None)


def test_a_commit_that_was_found_in_the_ledger_is_told_without_changes() -> None:
    """Who finds a commit did not see what was there before."""
    site = Site()
    site.builder.run_one(NIGHT)
    site.rig.engine.apply(NIGHT, REPLAY)
    site.warehouse.lose_reply_of_publish = True

    site.builder.run_one(NIGHT)

    assert [message["changes"] for message in site.told()] == [None, None]
    assert site.asked == []


class Silent(LedgerWarehouse):
    """A warehouse that does not answer when it is asked for publications."""

    def __init__(self) -> None:
        super().__init__()
        self.released = Event()

    def query(self, statement: Any) -> Any:
        if statement.name == "publications":
            self.released.wait(60)
        return super().query(statement)


def test_a_warehouse_that_does_not_answer_holds_up_no_message() -> None:
    warehouse = Silent()
    key = BuildKey(analysis_date=NIGHT, generation=2, attempt=1)

    with capture_logs() as logs:
        assert short_diffs(warehouse, patience_s=0.0)(key) is None  # type: ignore[arg-type] # what it needs of one
    warehouse.released.set()

    assert [(line["event"], line["build_id"]) for line in logs] == [("changes_not_known", "2024-12-15-g2-a1")]


@pytest.mark.parametrize("fault", [Unavailable("no slots"), RuntimeError("a bug")])
def test_a_fault_of_the_question_fails_no_publication(fault: Exception) -> None:
    site = Site()
    site.builder.run_one(NIGHT)
    site.rig.engine.apply(NIGHT, REPLAY)
    site.warehouse.faults["publications"] = [fault]  # type: ignore[list-item] # a bug is no error of ours
    site.answer = short_diffs(site.warehouse)  # type: ignore[arg-type] # what it needs of one

    site.builder.run_one(NIGHT)

    record = site.rig.store.load(NIGHT)
    assert record is not None
    assert (record.state, record.generation) == (State.DONE, 2)
    assert site.told()[1]["changes"] is None
