"""What must be true once all faults have ended and everything has come to rest."""

from datetime import date, timedelta
from typing import TYPE_CHECKING

from statemachine.model import DateRecord, OnRerun
from tests.simulation.checker import BY_HAND_MIN, ROWS_MIN
from tests.simulation.moves import ENDED, PUBLISHED

if TYPE_CHECKING:
    from tests.simulation.world import World

# From the last success until a full night is out: a delivery, a retry of each attempt, a lease that has to expire.
SETTLES_IN = timedelta(minutes=12)


def check_end(world: "World") -> None:
    """Judge the end of a run in liveness mode."""
    checker, bus, server = world.checker, world.bus, world.server
    checker.demand(bus.unacked == 0, "convergence", f"{bus.unacked} messages are not acknowledged")
    checker.demand(not server.waiting_messages, "convergence", f"{server.waiting_messages} outcomes are not published")
    _check_arrivals(world)
    for day in world.schedule.nights:
        record = checker.records.get(day)
        if record is None:
            _check_unknown(world, day)
        else:
            _check_night(world, day, record)


def _check_arrivals(world: "World") -> None:
    """Every report that counted lies in the table; what a store has lost nobody can write."""
    checker, marks = world.checker, world.server.memory._arrivals
    checker.demand(not world.server.arrivals_due, "convergence", f"arrivals of {sorted(marks)} are not written")
    left = {day for day, *_report in checker.counted - world.tables.arrivals.keys()}
    unmarked = left - marks.keys() if not world.server.losses else set()
    checker.demand(not unmarked, "each counted report arrives once", f"{sorted(unmarked)} lack arrivals")


def _check_unknown(world: "World", day: date) -> None:
    """A date that nobody reported and the calendar did not expect may be unknown; any other may not."""
    reported = any(about[0] == day for about in world.checker.sent)
    expired = world.boundary.injected["expire"] > 0
    world.checker.demand(expired or not reported, "convergence", f"{day} was reported and is unknown")


def _check_night(world: "World", day: date, record: DateRecord) -> None:
    checker = world.checker
    what = f"{day} {record.state} g{record.generation}"
    checker.demand(record.state in ENDED, "convergence", what)
    row = world.tables.read_ledger(day)
    generation = row.generation if row is not None else 0
    if row is not None and row.attempt >= BY_HAND_MIN:
        # A build by hand tells the state machine nothing: the record follows when the date is built again.
        return
    if record.state in PUBLISHED:
        checker.demand(
            record.generation == generation, "the record follows the ledger", f"{what}, ledger g{generation}"
        )
        assert row is not None
        checker.demand(record.state == row.state, "the record follows the ledger", f"{what}, ledger {row.state}")
        event_id = f"p:{day}:{generation}"
        checker.demand(event_id in checker.told, "done => published", f"{what}: {event_id} was never told")
    elif record.attempt or record.failure is None or record.failure.because != "cancelled":
        # A cancel of a date that was lost, and that nobody has built again, looks at the record alone (ADR 0004).
        checker.demand(
            record.generation > generation or not generation,
            "the record follows the ledger",
            f"{what}, ledger g{generation}",
        )
    if generation:
        rows = world.tables.target[day]
        assert row is not None
        checker.demand(rows == (row.generation, row.attempt), "readers see one generation", f"{what}: rows of {rows}")
    if row is not None and record.state in PUBLISHED and not world.server.losses:
        left = checker.retractions.left(day, row.generation, row.attempt)
        checker.demand(not left, "what rests on a retracted run is replaced", f"{what}: {sorted(left)}")
    _check_full(world, day, record, what)


def _check_full(world: "World", day: date, record: DateRecord, what: str) -> None:
    """Four successes with their rows, in time, faults over in time: the night is done, whatever happened on the way."""
    night, schedule = world.schedule.nights[day], world.schedule
    if night.complete_by is None or night.players < ROWS_MIN:
        return
    healthy_from = night.complete_by if schedule.calm else max(night.complete_by, schedule.heal_at)
    in_time = healthy_from + SETTLES_IN < record.upgrade_cutoff_at
    if in_time and not _is_excused(world, record):
        world.checker.demand(record.state == "done", "no acked completion lost", f"{what}: four successes were in time")
    once = schedule.calm and schedule.rerun is OnRerun.HOLD and not night.doubted
    if once and healthy_from + SETTLES_IN < record.deadline_at:
        world.checker.demand(record.generation == 1, "fallback only when something was missing", what)


def _is_excused(world: "World", record: DateRecord) -> bool:
    """Faults that may cost a night: attempts used up, access denied, a worker two hours ahead."""
    if record.state == "failed" and record.failure is not None:
        denied = record.failure.because == "fatal_error" and world.boundary.injected["fatal"] > 0
        return denied or record.failure.because == "retries_exhausted"
    return world.jumped
