"""A worker published and died before it said so: whoever comes next finds it in the ledger. Found by simulation."""

import pytest

from statemachine.events import TimerFired
from statemachine.model import BuildMode, State
from statemachine.reasons import Reason
from tests.support.nights import (
    CACHE,
    DEADLINE,
    MINUTE,
    NIGHT,
    POLICY,
    PROCESSORS,
    after,
    claimed,
    committed,
    fallback_running,
    success,
    told,
    without,
)
from tests.support.rigs import LedgerWarehouse, Rig, repair_of
from worker.builds.builder import Builder
from worker.builds.steps import run_build
from worker.errors import Fatal, Fenced, PipelineError, Unavailable
from worker.features.model import BuildKey, BuildRequest
from worker.repair import Repair


def test_an_adopted_commit_does_not_count_what_arrived_after_it() -> None:
    """The fallback was built without the cache; its success came, the worker died, a second claim found the commit."""
    expired = after(fallback_running(CACHE), success(CACHE), TimerFired(), now=DEADLINE + POLICY.lease)
    reclaimed = after(expired, claimed("worker-b"), now=DEADLINE + MINUTE)
    report = committed(attempt=1, state=State.DEGRADED, rows=without(CACHE))

    decision = told(reclaimed, report, now=DEADLINE + MINUTE)

    assert (Reason.COMMITTED_UPGRADE_FOLLOWS, 2) == (decision.reason, decision.record.generation)


class Night:
    """A date whose first attempt published and was never heard of again."""

    def __init__(self, attempts: int) -> None:
        self.rig = Rig()
        self.warehouse = LedgerWarehouse()
        for name in PROCESSORS:
            self.rig.engine.apply(NIGHT, success(name))
        for number in range(1, attempts + 1):
            decision = self.rig.engine.apply(NIGHT, claimed(f"worker-{number}"))
            if number == 1:
                self.publish(decision.record.attempt)
            self.rig.clock.forward(POLICY.lease)
            if number < attempts:
                self.rig.engine.apply(NIGHT, TimerFired())

    def publish(self, attempt: int) -> None:
        request = BuildRequest(
            key=BuildKey(analysis_date=NIGHT, generation=1, attempt=attempt),
            mode=BuildMode.NORMAL,
            trigger="join",
            phase3_lookback_days=30,
            as_of=None,
            started_at=self.rig.clock.now(),
            claimant="worker-a",
        )
        run_build(self.warehouse, request, now=self.rig.clock.now)  # type: ignore[arg-type]

    @property
    def repair(self) -> Repair:
        return repair_of(self.rig, self.warehouse)

    @property
    def state(self) -> State:
        record = self.rig.store.load(NIGHT)
        assert record is not None
        return record.state


def test_the_last_attempt_is_not_failed_before_the_ledger_was_looked_into() -> None:
    night = Night(attempts=POLICY.attempts_max)

    decision = night.rig.engine.apply(NIGHT, TimerFired())

    assert (Reason.NEEDS_PROBE, State.RUNNING) == (decision.reason, night.state)


def test_what_the_ledger_holds_ends_the_last_attempt_as_published() -> None:
    night = Night(attempts=POLICY.attempts_max)

    night.repair.end_last_attempt(NIGHT)

    assert State.DONE is night.state


def test_an_empty_ledger_ends_the_last_attempt_as_failed() -> None:
    night = Night(attempts=POLICY.attempts_max)
    night.warehouse.ledger.clear()

    night.repair.end_last_attempt(NIGHT)

    assert State.FAILED is night.state


def test_what_is_called_failed_can_no_longer_be_published() -> None:
    """A worker that fell silent wakes up after somebody was told that its generation failed."""
    night = Night(attempts=POLICY.attempts_max)
    night.warehouse.ledger.clear()
    night.repair.end_last_attempt(NIGHT)

    with pytest.raises(Fenced):
        night.publish(attempt=POLICY.attempts_max)

    assert (State.FAILED, {}) == (night.state, night.warehouse.ledger)


def test_two_workers_may_end_one_generation() -> None:
    night = Night(attempts=POLICY.attempts_max)
    night.warehouse.ledger.clear()
    night.warehouse.faults["read_ledger"] = [Unavailable("away")]

    night.repair.end_last_attempt(NIGHT)
    night.repair.end_last_attempt(NIGHT)

    assert State.FAILED is night.state


def test_while_the_warehouse_is_away_nothing_is_decided_about_the_last_attempt() -> None:
    night = Night(attempts=POLICY.attempts_max)
    night.warehouse.faults["read_ledger"] = [Unavailable("away")]

    night.repair.end_last_attempt(NIGHT)

    assert State.RUNNING is night.state


@pytest.mark.parametrize("fault", [Unavailable("away"), Fatal("access denied")])
def test_a_fault_of_a_later_attempt_does_not_hide_the_commit_of_an_earlier_one(fault: PipelineError) -> None:
    night = Night(attempts=1)
    night.rig.engine.apply(NIGHT, TimerFired())
    night.warehouse.faults["claim"] = [fault]
    builder = Builder(
        engine=night.rig.engine,
        warehouse=night.warehouse,  # type: ignore[arg-type]
        clock=night.rig.clock,
        worker="worker-b",
        lease_s=60.0,
        phase3_lookback_days=30,
        observer=night.rig.notes,
        stopwatch=lambda: 0.0,
    )

    builder.run_one(NIGHT)

    assert State.DONE is night.state
