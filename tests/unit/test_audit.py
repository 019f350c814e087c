"""What a person asks for has its row in the audit before it takes effect."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from statemachine.events import CancelRequested, InterventionEvent, ReplayRequested
from statemachine.model import BuildMode, DateRecord, State
from tests.support.nights import NIGHT, PROCESSORS, retract, success
from tests.support.rigs import WORKER, LedgerWarehouse, Rig, repair_of
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.builds.builder import Builder
from worker.errors import PipelineError, Unavailable
from worker.features.model import Statement
from worker.interventions.audit import Auditor

ASKED = ReplayRequested(
    actor="ana@desk", reason="bad rows upstream", mode=BuildMode.FORCED_FALLBACK, request_id="replay-1"
)
CANCEL = CancelRequested(actor="ana@desk", reason="wrong night", request_id="cancel-1")


class AuditedWarehouse(LedgerWarehouse):
    """The ledger of the rig with an audit in DuckDB, which can refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.duckdb = DuckDbWarehouse(":memory:")
        self.duckdb.ensure_tables()
        self.refuses_audit: list[PipelineError] = []

    def log_replay(self, row: Mapping[str, Any]) -> None:
        if self.refuses_audit:
            raise self.refuses_audit.pop(0)
        self.duckdb.log_replay(row)

    def audit(self) -> list[Mapping[str, Any]]:
        sql = "SELECT * FROM nba_predictions.replay_audit ORDER BY requested_at, request_id"
        return list(self.duckdb.query(Statement(name="audit", sql=sql)))


class Stage:
    """A person and a worker, with one store and one warehouse."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.warehouse = AuditedWarehouse()
        repair = repair_of(self.rig, self.warehouse)
        self.auditor = Auditor(
            engine=self.rig.engine,
            log_replay=self.warehouse.log_replay,
            clock=self.rig.clock,
            unreported=repair.unreported,
        )
        self.builder = Builder(
            engine=self.rig.engine,
            warehouse=self.warehouse,  # type: ignore[arg-type] # what a build needs of it
            clock=self.rig.clock,
            worker=WORKER,
            lease_s=60,
            phase3_lookback_days=30,
            observer=self.rig.notes,
            stopwatch=lambda: 0.0,
            follow=repair.follow,
        )

    def joined(self) -> None:
        for processor in PROCESSORS:
            self.rig.engine.apply(NIGHT, success(processor))

    def published_by_hand(self) -> None:
        """The ledger holds generation 1; the store has never heard of the date."""
        other = Rig()
        for processor in PROCESSORS:
            other.engine.apply(NIGHT, success(processor))
        Builder(
            engine=other.engine,
            warehouse=self.warehouse,  # type: ignore[arg-type] # what a build needs of it
            clock=other.clock,
            worker="by-hand",
            lease_s=60,
            phase3_lookback_days=30,
            observer=other.notes,
            stopwatch=lambda: 0.0,
        ).run_one(NIGHT)

    def record(self) -> DateRecord:
        record = self.rig.store.load(NIGHT)
        assert record is not None
        return record


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.warehouse.duckdb.close()


@pytest.mark.parametrize("event", [ASKED, CANCEL, replace(retract(PROCESSORS[0]), request_id="retract-1")])
def test_what_a_person_asks_for_has_its_row(stage: Stage, event: InterventionEvent) -> None:
    stage.joined()
    asked_at = stage.rig.clock.now()
    stage.auditor.apply(NIGHT, event)

    [row] = stage.warehouse.audit()
    assert (row["requested_at"], row["requested_by"], row["reason"]) == (asked_at, event.actor, event.reason)
    assert (row["request_id"], row["previous_state"]) == (event.request_id, "ready")
    assert stage.rig.store.history(NIGHT)[-1].actor == event.actor


def test_a_replay_and_its_cancel_are_two_rows(stage: Stage) -> None:
    stage.joined()
    for event in (ASKED, CANCEL):
        stage.rig.clock.forward(timedelta(seconds=1))
        stage.auditor.apply(NIGHT, event)

    assert [(row["mode"], row["decision"]) for row in stage.warehouse.audit()] == [
        ("forced_fallback", "replay_accepted"),
        ("cancel", "cancelled"),
    ]


def test_a_replay_of_a_date_published_by_hand_opens_the_next_generation_at_once(stage: Stage) -> None:
    stage.published_by_hand()

    accepted = stage.auditor.apply(NIGHT, ASKED).record
    stage.builder.run_one(NIGHT)

    assert (State.READY, 2, 1) == (accepted.state, accepted.generation, accepted.published_generation)
    [row] = stage.warehouse.audit()
    assert ("done", 1) == (row["previous_state"], row["previous_generation"])
    ended = stage.record()
    assert ended.result is not None
    assert (State.DEGRADED, 2, 75.0) == (ended.state, ended.generation, ended.result.quality_score)


def test_a_replay_stored_beside_the_ledger_builds_above_it_all_the_same(stage: Stage) -> None:
    """Neither command nor worker could read the ledger when it was asked for."""
    stage.published_by_hand()
    stage.rig.engine.apply(NIGHT, ASKED)
    stage.builder.run_one(NIGHT)

    ended = stage.record()
    assert (State.DEGRADED, 2, 2) == (ended.state, ended.generation, len(stage.warehouse.published))
    assert ["ml_feature_store_v2:2024-12-15:1", "ml_feature_store_v2:2024-12-15:2"] == [
        entry.message.event_id for entry in stage.rig.store.outbox(10)
    ]


def test_a_plan_speaks_of_the_generation_that_would_be_built(stage: Stage) -> None:
    stage.published_by_hand()

    before, planned = stage.auditor.plan(NIGHT, ASKED)

    assert (State.DONE, 2) == (before.state, planned.record.generation)
    assert stage.rig.store.load(NIGHT) is None


def test_without_its_row_nothing_is_changed(stage: Stage) -> None:
    stage.warehouse.refuses_audit = [Unavailable("the warehouse is away")]

    with pytest.raises(Unavailable, match="the warehouse is away"):
        stage.auditor.apply(NIGHT, ASKED)

    assert stage.rig.store.load(NIGHT) is None
