"""A replay leaves its row in the audit before it builds, once, and does not build without it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from statemachine.events import BuildClaimed, ReplayRequested
from statemachine.model import BuildMode, DateRecord, State
from tests.support.nights import NIGHT, PROCESSORS, success
from tests.support.rigs import WORKER, LedgerWarehouse, Rig
from worker.adapters.warehouse_duckdb import DuckDbWarehouse
from worker.audit import Auditor, ReplayAudit
from worker.builder import Builder
from worker.errors import PipelineError, Unavailable
from worker.features.model import Statement

ASKED = ReplayRequested(actor="ana@desk", reason="bad rows upstream", mode=BuildMode.FORCED_FALLBACK)


class AuditedWarehouse(LedgerWarehouse):
    """The ledger of the rig with an audit in DuckDB, which can refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.duckdb = DuckDbWarehouse(":memory:")
        self.duckdb.ensure_tables()
        self.refuses_audit: list[PipelineError] = []
        self.published_at_audit: list[int] = []

    def query(self, statement: Statement) -> Any:
        return self.duckdb.query(statement) if statement.name == "replay_audited" else super().query(statement)

    def log_replay(self, row: Mapping[str, Any]) -> None:
        if self.refuses_audit:
            raise self.refuses_audit.pop(0)
        self.published_at_audit.append(len(self.published))
        self.duckdb.log_replay(row)

    def audit(self) -> list[Mapping[str, Any]]:
        sql = "SELECT * FROM nba_predictions.replay_audit ORDER BY requested_at"
        return list(self.duckdb.query(Statement(name="audit", sql=sql)))


class Stage:
    def __init__(self) -> None:
        self.rig = Rig()
        self.warehouse = AuditedWarehouse()
        self.audit = ReplayAudit(self.rig.store, self.warehouse)  # type: ignore[arg-type] # what an audit needs of it
        self.builder = Builder(
            engine=self.rig.engine,
            warehouse=self.warehouse,  # type: ignore[arg-type] # what a build needs of it
            clock=self.rig.clock,
            worker=WORKER,
            lease_s=60,
            phase3_lookback_days=30,
            observer=self.rig.notes,
            stopwatch=lambda: 0.0,
            audit_replay=self.audit.write,
        )

    def published_once(self) -> None:
        for processor in PROCESSORS:
            self.rig.engine.apply(NIGHT, success(processor))
        self.builder.run_one(NIGHT)

    def record(self) -> DateRecord:
        record = self.rig.store.load(NIGHT)
        assert record is not None
        return record


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.warehouse.duckdb.close()


def test_only_a_replay_is_audited(stage: Stage) -> None:
    stage.published_once()

    assert stage.warehouse.audit() == []


def test_the_row_is_there_before_the_replay_publishes(stage: Stage) -> None:
    stage.published_once()
    asked_at = stage.rig.clock.now()
    stage.rig.engine.apply(NIGHT, ASKED)
    stage.builder.run_one(NIGHT)

    [row] = stage.warehouse.audit()
    assert (row["requested_by"], row["reason"], row["mode"]) == ("ana@desk", "bad rows upstream", "forced_fallback")
    assert (row["previous_state"], row["previous_generation"], row["decision"]) == ("done", 1, "replay_accepted")
    assert row["requested_at"] == asked_at
    assert stage.warehouse.published_at_audit == [1]
    assert len(stage.warehouse.published) == 2


def test_nothing_is_built_while_the_audit_cannot_be_written(stage: Stage) -> None:
    stage.warehouse.refuses_audit = [Unavailable("the warehouse is away")]
    stage.rig.engine.apply(NIGHT, ASKED)
    stage.builder.run_one(NIGHT)

    assert stage.warehouse.published == []
    assert stage.record().state is State.READY
    assert "the warehouse is away" in (stage.record().failure.message if stage.record().failure else "")


def test_a_second_attempt_writes_no_second_row(stage: Stage) -> None:
    stage.rig.engine.apply(NIGHT, ASKED)
    claimed = stage.rig.engine.apply(NIGHT, BuildClaimed(worker=WORKER)).record
    stage.audit.write(claimed)
    stage.audit.write(claimed)

    assert len(stage.warehouse.audit()) == 1


def test_a_replay_that_was_audited_when_it_was_asked_for_gets_no_second_row(stage: Stage) -> None:
    """Over HTTP the row is written first; the build finds it by the request's id, and needs no other."""
    auditor = Auditor(engine=stage.rig.engine, log_replay=stage.warehouse.log_replay, clock=stage.rig.clock)
    auditor.apply(NIGHT, replace(ASKED, request_id="r1"), idempotency_key="k1")
    stage.rig.clock.forward(stage.rig.policy.lease)
    stage.builder.run_one(NIGHT)

    [row] = stage.warehouse.audit()
    assert (row["request_id"], row["idempotency_key"], row["decision"]) == ("r1", "k1", "replay_accepted")
    assert len(stage.warehouse.published) == 1


def test_two_replays_are_two_rows(stage: Stage) -> None:
    for _ in range(2):
        stage.rig.clock.forward(stage.rig.policy.lease)
        stage.rig.engine.apply(NIGHT, ASKED)
        stage.builder.run_one(NIGHT)

    assert [row["previous_generation"] for row in stage.warehouse.audit()] == [0, 1]
