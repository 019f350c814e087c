"""A retraction is in the audit before a build does without the table, and the audit brings it back after a loss."""

import pytest
from structlog.testing import capture_logs

from statemachine.model import RETRACTIONS_MAX, DateRecord, State
from statemachine.reasons import Reason
from tests.support.nights import (
    CACHE,
    CALENDAR,
    DEFENSE,
    EVENING,
    MINUTE,
    NIGHT,
    PROCESSORS,
    done,
    retract,
    retracted,
    success,
    waiting,
)
from tests.support.rigs import WORKER, LedgerWarehouse, Rig
from worker.builds.builder import Builder
from worker.date_text import explanation
from worker.errors import Fatal, Refused, Unavailable
from worker.interventions.audit import Auditor
from worker.interventions.retractions import RetractionAudit, identity_to_take_back


class Stage:
    """A worker on a date whose four successes are in."""

    def __init__(self, warehouse: LedgerWarehouse | None = None) -> None:
        self.rig = Rig()
        self.warehouse = warehouse or LedgerWarehouse()
        for name in PROCESSORS:
            self.rig.engine.apply(NIGHT, success(name))
        self.audit = RetractionAudit(self.rig.engine, self.warehouse)  # type: ignore[arg-type] # what it needs of it
        self.auditor = Auditor(engine=self.rig.engine, log_replay=self.warehouse.log_replay, clock=self.rig.clock)
        self.builder = Builder(
            engine=self.rig.engine,
            warehouse=self.warehouse,  # type: ignore[arg-type] # what a build needs of it
            clock=self.rig.clock,
            worker=WORKER,
            lease_s=60,
            phase3_lookback_days=30,
            observer=self.rig.notes,
            stopwatch=lambda: 0.0,
            settle_retractions=self.audit.settle,
        )

    def record(self) -> DateRecord:
        record = self.rig.store.load(NIGHT)
        assert record is not None
        return record

    def audited(self) -> list[tuple[object, ...]]:
        return [(row["mode"], row["processor"], row["run"], row["requested_by"]) for row in self.warehouse.audits]


ROW = ("retract", CACHE, "run:1", "ana")


def test_a_rebuild_reads_every_table_but_that_one() -> None:
    stage = Stage()
    stage.builder.run_one(NIGHT)
    stage.auditor.apply(NIGHT, retract(CACHE, rebuild=True))

    stage.builder.run_one(NIGHT)

    result = stage.record().result
    assert result is not None
    assert (State.DEGRADED, 2, {CACHE}) == (stage.record().state, result.generation, stage.warehouse.ignored)
    assert {name: 0 if name == CACHE else 400 for name in PROCESSORS} == dict(result.dependency_rows)
    assert [ROW] == stage.audited()


def test_nothing_is_taken_back_without_its_row() -> None:
    stage = Stage()
    stage.warehouse.faults["log_replay"] = [Unavailable("the warehouse is away")]

    with pytest.raises(Unavailable):
        stage.auditor.apply(NIGHT, retract(CACHE))

    assert ((), []) == (stage.record().retractions, stage.audited())


def test_a_store_that_lost_a_retraction_is_told_of_it_before_it_builds() -> None:
    """The bus has delivered all four runs again, the wrong one too."""
    before = Stage()
    before.auditor.apply(NIGHT, retract(CACHE))
    stage = Stage(before.warehouse)
    assert stage.record().counted == set(PROCESSORS)

    stage.builder.run_one(NIGHT)

    assert ({CACHE}, {CACHE}) == (stage.warehouse.ignored, stage.record().ignored)
    assert (State.DEGRADED, [ROW]) == (stage.record().state, stage.audited())


def stage_whose_record_is_full() -> Stage:
    """The audit holds one retraction more than the record, which can take no other."""
    before = Stage()
    before.auditor.apply(NIGHT, retract(CACHE))
    stage = Stage(before.warehouse)
    for number in range(RETRACTIONS_MAX):
        run = str(number + 2)
        stage.rig.engine.apply(NIGHT, success(DEFENSE, run=run, at=EVENING + (number + 1) * MINUTE))
        stage.rig.engine.apply(NIGHT, retract(DEFENSE, run=run))
    assert RETRACTIONS_MAX == len(stage.record().retractions)
    return stage


def test_nothing_is_built_where_a_lost_retraction_no_longer_fits_into_the_record() -> None:
    stage = stage_whose_record_is_full()

    with pytest.raises(Fatal, match="retractions already"):
        stage.audit.settle(stage.record())


def test_recovery_brings_retractions_back_before_the_runs_come_again() -> None:
    before = Stage()
    before.auditor.apply(NIGHT, retract(CACHE))
    rig = Rig()
    audit = RetractionAudit(rig.engine, before.warehouse)  # type: ignore[arg-type] # what it needs of it

    assert [(NIGHT, CACHE)] == [(day, one.processor) for day, one in audit.lost_since(NIGHT, NIGHT)]
    assert [] == audit.restore_since(NIGHT, NIGHT)

    assert [] == audit.lost_since(NIGHT, NIGHT)
    assert Reason.RUN_RETRACTED is rig.engine.apply(NIGHT, success(CACHE)).reason


def test_recovery_says_what_no_longer_fits_and_leaves_the_record_as_it_is() -> None:
    stage = stage_whose_record_is_full()
    before = stage.record()

    with capture_logs() as logs:
        [left] = stage.audit.restore_since(NIGHT, NIGHT)

    assert (NIGHT, CACHE, "run:1") == (left.analysis_date, left.retraction.processor, left.retraction.identity)
    assert f"{NIGHT}: run:1 of {CACHE} was taken back, and the record holds 16 retractions already" in left.because
    assert [("retraction_not_restored", "error", left.because)] == [
        (line["event"], line["log_level"], line["error"]) for line in logs
    ]
    assert before == stage.record()


def test_recovery_names_a_retraction_whose_record_is_damaged() -> None:
    before = Stage()
    before.auditor.apply(NIGHT, retract(CACHE))
    stage = Stage(before.warehouse)
    stage.rig.store._records[NIGHT] = (1, "operation", b"damaged")

    [left] = stage.audit.restore_since(NIGHT, NIGHT)

    assert (CACHE, True) == (left.retraction.processor, "unreadable" in left.because)


@pytest.mark.parametrize(
    ("record", "processor", "run_id", "says"),
    [
        (None, CACHE, None, "never opened"),
        (waiting(CACHE), "somebody", None, "no processor of this pipeline"),
        (waiting(CACHE), PROCESSORS[0], None, "has not reported"),
        (waiting(CACHE), CACHE, "2", "run:1 is"),
    ],
)
def test_a_refusal_names_the_date_and_the_next_step(
    record: DateRecord | None, processor: str, run_id: str | None, says: str
) -> None:
    with pytest.raises(Refused, match=says) as refused:
        identity_to_take_back(NIGHT, record, processor, run_id, PROCESSORS)

    assert NIGHT.isoformat() in str(refused.value)


@pytest.mark.parametrize("run_id", [None, "1", "run:1"])
def test_the_run_that_counts_is_meant_unless_another_is_named(run_id: str | None) -> None:
    assert "run:1" == identity_to_take_back(NIGHT, done(), CACHE, run_id, PROCESSORS)
    assert "run:1" == identity_to_take_back(NIGHT, retracted(CACHE), CACHE, run_id, PROCESSORS)


def test_explain_says_what_was_taken_back_and_by_whom() -> None:
    rig = Rig()
    story = explanation(retracted(CACHE), rig.clock.now(), rig.policy, CALENDAR.zone, None)
    told = next(one for one in story["processors"] if one["processor"] == CACHE)

    assert ("retracted", "run:1", "ana") == (
        told["status"],
        told["retractions"][0]["run"],
        told["retractions"][0]["by"],
    )
    assert "taken back by ana" in story["next"]
