"""The sweep: every deadline fires, nothing falls back before the tables were looked at, one bad date stops no other."""

from collections.abc import Callable, Mapping
from datetime import date, time, timedelta

import pytest

from statemachine.model import CompletionStatus, DateRecord, FailureKind, State
from tests.support.memory_store import MemoryStore
from tests.support.nights import (
    CACHE,
    CALENDAR,
    CUTOFF,
    DEADLINE,
    EVENING,
    EVERY_TABLE_FILLED,
    MINUTE,
    NIGHT,
    NO_ROWS,
    POLICY,
    PROCESSORS,
    REPLAY,
    SECOND,
    broke,
    claimed,
    committed,
    success,
    without,
)
from tests.support.rigs import LedgerWarehouse, Rig, repair_of
from worker import sweep
from worker.builds.builder import Builder
from worker.calendar import WallClock
from worker.errors import CommitRefused, Fatal, PipelineError, SweepFailed, Unavailable
from worker.ports import Commit
from worker.sweep import PROBE_PATIENCE, Sweep, Sweeper

GRACE = CALENDAR.drain_grace
NEXT_NIGHT = NIGHT + timedelta(days=1)


class Probe:
    """What the four tables hold, or the error of looking."""

    def __init__(self, rows: Mapping[str, int] = NO_ROWS) -> None:
        self.rows = rows
        self.error: PipelineError | None = None
        self.asked: list[date] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def __call__(self, night: date) -> Mapping[str, int]:
        self.asked.append(night)
        if self.error is not None:
            raise self.error
        rows = self.rows
        self.meanwhile()
        return rows


class Watch:
    """A sweeper started in the evening, with everything around it."""

    def __init__(self, rig: Rig | None = None, probe: Probe | None = None) -> None:
        self.rig = rig or Rig()
        self.probe = probe or Probe()
        self.warehouse = LedgerWarehouse()
        self.failed: list[date] = []
        self.games: frozenset[date] = frozenset()
        self.sweeper = Sweeper(
            engine=self.rig.engine,
            store=self.rig.store,
            calendar=CALENDAR,
            clock=self.rig.clock,
            repair=repair_of(self.rig, self.warehouse),
            probe=self.probe,
            date_failed=lambda night, _error: self.failed.append(night),
            game_days=lambda _now: self.games,
        )

    def sweep(self, at: object = None) -> Sweep:
        if at is not None:
            self.rig.clock.instant = at  # type: ignore[assignment]
        return self.sweeper.run_once()

    def record(self, night: date = NIGHT) -> DateRecord:
        record = self.rig.store.load(night)
        assert record is not None
        return record


def test_the_first_sweep_opens_tonight_and_the_next_one_opens_nothing() -> None:
    watch = Watch()

    assert Sweep(opened=1, due=0, failed=0) == watch.sweep()
    assert Sweep(opened=0, due=0, failed=0) == watch.sweep()

    assert (State.WAITING, DEADLINE) == (watch.record().state, watch.record().wake_at)
    assert watch.rig.store.last_opened() == NIGHT


def test_a_night_without_events_reaches_its_deadline_and_falls_back() -> None:
    watch = Watch()
    watch.sweep()
    watch.sweep(DEADLINE - SECOND)
    assert State.WAITING is watch.record().state

    assert Sweep(opened=0, due=1, failed=0) == watch.sweep(DEADLINE)

    assert (State.READY, PROCESSORS) == (watch.record().state, POLICY.missing(watch.record()))
    assert [NIGHT] == watch.rig.started


def test_a_day_without_a_game_is_opened_only_once_the_schedule_has_one() -> None:
    watch = Watch()
    watch.games = frozenset({NIGHT - timedelta(days=1), NIGHT + timedelta(days=2)})
    assert watch.sweep().opened == 0

    watch.games |= {NIGHT}

    assert watch.sweep().opened == 1
    assert State.WAITING is watch.record().state


def test_every_missed_night_is_opened_after_a_downtime() -> None:
    watch = Watch()
    watch.rig.store.set_last_opened(NIGHT - timedelta(days=3))

    assert watch.sweep().opened == 3

    nights = [NIGHT, NIGHT - timedelta(days=1), NIGHT - timedelta(days=2)]
    assert nights == list(watch.rig.store.dates(10))
    assert [DEADLINE, EVENING + GRACE, EVENING + GRACE] == [watch.record(night).wake_at for night in nights]


def test_rows_that_are_there_count_even_if_their_events_were_lost() -> None:
    watch = Watch(probe=Probe(without(CACHE)))
    watch.sweep()

    watch.sweep(DEADLINE)

    assert (CACHE,) == POLICY.missing(watch.record())
    assert CompletionStatus.FOUND is watch.record().completions[PROCESSORS[0]].status


def test_after_a_start_queued_messages_are_read_before_a_deadline_fires() -> None:
    rig = Rig()
    rig.engine.apply(NIGHT, success(CACHE))
    rig.clock.instant = DEADLINE + 5 * SECOND
    watch = Watch(rig)

    watch.sweep()
    assert (State.WAITING, []) == (watch.record().state, watch.probe.asked)

    watch.sweep(DEADLINE + 5 * SECOND + GRACE)
    assert (State.READY, [NIGHT]) == (watch.record().state, watch.probe.asked)


@pytest.mark.parametrize("error", [Unavailable("no warehouse"), Fatal("denied")], ids=["unavailable", "denied"])
def test_a_deadline_waits_for_the_tables_only_so_long(error: PipelineError) -> None:
    """The whole delay stays below the 40 s within which a deadline must fire."""
    watch = Watch()
    watch.probe.error = error
    watch.sweep()

    watch.sweep(DEADLINE)
    assert State.WAITING is watch.record().state

    watch.sweep(DEADLINE + PROBE_PATIENCE)
    assert State.READY is watch.record().state
    assert timedelta(seconds=40) > GRACE + PROBE_PATIENCE


def test_the_tables_are_looked_at_only_for_a_deadline() -> None:
    watch = Watch()
    for event in (*(success(name) for name in PROCESSORS), claimed()):
        watch.rig.engine.apply(NIGHT, event)

    watch.sweep(EVENING + POLICY.lease)

    assert (State.READY, 1, []) == (watch.record().state, watch.record().attempt, watch.probe.asked)


def test_a_ready_date_that_nobody_builds_is_offered_again_with_each_sweep() -> None:
    watch = Watch()
    for name in PROCESSORS:
        watch.rig.engine.apply(NIGHT, success(name))

    watch.sweep()
    watch.sweep()

    assert [NIGHT] * 3 == watch.rig.started


def test_the_upgrade_window_closes_by_itself() -> None:
    watch = Watch()
    watch.sweep()
    watch.sweep(DEADLINE)
    for event in (claimed(), committed(state=State.DEGRADED, rows=NO_ROWS)):
        watch.rig.engine.apply(NIGHT, event)

    watch.sweep(CUTOFF)

    assert (State.DEGRADED, None) == (watch.record().state, watch.record().wake_at)
    assert watch.sweep().due == 0


def test_a_date_that_failed_before_its_deadline_is_built_at_it() -> None:
    watch = Watch(probe=Probe(EVERY_TABLE_FILLED))
    watch.sweep()
    for event in (REPLAY, claimed(), broke(FailureKind.NO_DATA)):
        watch.rig.engine.apply(NIGHT, event)
    watch.sweep(DEADLINE - SECOND)
    assert State.FAILED is watch.record().state

    watch.sweep(DEADLINE)

    assert (State.READY, 2, ()) == (watch.record().state, watch.record().generation, POLICY.missing(watch.record()))


@pytest.mark.parametrize("error", [Unavailable("no warehouse"), Fatal("denied")], ids=["unavailable", "denied"])
def test_the_deadline_of_a_failed_date_waits_for_the_tables_only_so_long(error: PipelineError) -> None:
    watch = Watch()
    watch.sweep()
    for event in (REPLAY, claimed(), broke(FailureKind.NO_DATA)):
        watch.rig.engine.apply(NIGHT, event)
    watch.probe.error = error

    watch.sweep(DEADLINE)
    assert State.FAILED is watch.record().state

    watch.sweep(DEADLINE + PROBE_PATIENCE)
    assert State.READY is watch.record().state


def degraded_night(probe: Probe) -> Watch:
    """A night that was published at its deadline, when all tables were empty."""
    watch = Watch(probe=probe)
    watch.sweep()
    watch.sweep(DEADLINE)
    for event in (claimed(), committed(state=State.DEGRADED, rows=NO_ROWS)):
        watch.rig.engine.apply(NIGHT, event)
    probe.asked.clear()
    return watch


def test_the_tables_of_a_degraded_date_are_looked_into_once_a_minute() -> None:
    watch = degraded_night(Probe())

    for seconds in range(0, 301, 5):
        watch.sweep(DEADLINE + seconds * SECOND)

    assert len(watch.probe.asked) == 5


def test_rows_that_come_after_the_deadline_without_their_event_upgrade_the_date() -> None:
    watch = degraded_night(Probe())
    watch.sweep(DEADLINE + MINUTE)
    assert State.DEGRADED is watch.record().state

    watch.probe.rows = EVERY_TABLE_FILLED
    watch.sweep(DEADLINE + 2 * MINUTE)

    assert (State.READY, 2, ()) == (watch.record().state, watch.record().generation, POLICY.missing(watch.record()))


def test_the_last_look_is_at_the_cutoff() -> None:
    watch = degraded_night(Probe())
    watch.sweep(CUTOFF - 10 * SECOND)
    watch.probe.rows = EVERY_TABLE_FILLED

    watch.sweep(CUTOFF)

    assert (State.READY, 2) == (watch.record().state, watch.record().generation)


def test_rows_that_come_while_a_look_hangs_over_the_cutoff_upgrade_the_date() -> None:
    watch = degraded_night(Probe())

    def hang() -> None:
        watch.probe.rows, watch.rig.clock.instant = EVERY_TABLE_FILLED, CUTOFF + SECOND

    watch.probe.meanwhile = hang
    watch.sweep(CUTOFF - 50 * SECOND)
    assert State.DEGRADED is watch.record().state
    watch.sweep(CUTOFF + 2 * SECOND)

    assert (State.READY, 2) == (watch.record().state, watch.record().generation)


@pytest.mark.parametrize("error", [Unavailable("no warehouse"), Fatal("denied")], ids=["unavailable", "denied"])
def test_the_upgrade_window_closes_also_while_nobody_can_look(error: PipelineError) -> None:
    watch = degraded_night(Probe())
    watch.probe.error = error

    watch.sweep(DEADLINE + MINUTE)
    watch.sweep(DEADLINE + MINUTE + PROBE_PATIENCE)
    assert DEADLINE + 2 * MINUTE + PROBE_PATIENCE == watch.record().wake_at

    watch.sweep(CUTOFF)
    watch.sweep(CUTOFF + PROBE_PATIENCE)
    assert (State.DEGRADED, None) == (watch.record().state, watch.record().wake_at)


def test_a_mark_ahead_of_the_clock_is_lowered_and_the_nights_are_opened(capsys: pytest.CaptureFixture[str]) -> None:
    """The store's clock was a month ahead once: no night would be opened for a month."""
    watch = Watch()
    watch.rig.store.set_last_opened(NIGHT + timedelta(days=30))

    swept = watch.sweep()

    assert (CALENDAR.catch_up_days + 1, NIGHT) == (swept.opened, watch.rig.store.last_opened())
    assert State.WAITING is watch.record().state
    assert capsys.readouterr().out.count("calendar_corrected") == 1
    assert watch.sweep().opened == 0
    assert "calendar_corrected" not in capsys.readouterr().out


def test_a_replica_that_came_to_midnight_first_is_not_ahead(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch()
    watch.sweep()
    watch.rig.store.set_last_opened(NEXT_NIGHT)

    swept = watch.sweep(CALENDAR.at(NEXT_NIGHT, WallClock(0, time(0))) - SECOND)

    assert (0, NEXT_NIGHT) == (swept.opened, watch.rig.store.last_opened())
    assert "calendar_corrected" not in capsys.readouterr().out


def test_a_damaged_record_begins_anew_and_stops_no_other_date() -> None:
    store = MemoryStore()
    watch = Watch(Rig(store=store))
    watch.rig.store.set_last_opened(NIGHT - timedelta(days=2))
    watch.sweep()
    earlier = NIGHT - timedelta(days=1)
    store._records[earlier] = (1, "operation", b"damaged")

    swept = watch.sweep(DEADLINE)

    assert Sweep(opened=0, due=2, failed=1) == swept
    assert ([earlier], [(earlier, b"damaged")]) == (watch.failed, store.quarantined)
    assert (State.READY, State.WAITING) == (watch.record().state, watch.record(earlier).state)


def test_a_damaged_record_of_a_night_to_be_opened_does_not_hold_up_the_deadlines() -> None:
    store = MemoryStore()
    watch = Watch(Rig(store=store))
    watch.sweep()
    store._records[NEXT_NIGHT] = (1, "operation", b"damaged")

    watch.sweep(DEADLINE + timedelta(hours=3))

    assert (State.READY, State.WAITING) == (watch.record().state, watch.record(NEXT_NIGHT).state)
    assert watch.rig.store.last_opened() == NEXT_NIGHT


def test_a_date_that_others_keep_changing_does_not_stop_the_rest() -> None:
    earlier = NIGHT - timedelta(days=1)

    class ContestedStore(MemoryStore):
        def commit(self, commit: Commit) -> bool:
            return commit.record.analysis_date != earlier and super().commit(commit)

    watch = Watch(Rig(store=ContestedStore()))
    watch.rig.store.set_last_opened(NIGHT - timedelta(days=2))

    assert Sweep(opened=2, due=0, failed=1) == watch.sweep()
    assert [earlier] == watch.failed

    watch.sweep(DEADLINE)
    assert State.READY is watch.record().state


class RefusingStore(MemoryStore):
    """Refuses the commits of some dates, with any error."""

    def __init__(self, error: Exception, *nights: date) -> None:
        super().__init__()
        self.error = error
        self.nights = nights

    def commit(self, commit: Commit) -> bool:
        if commit.record.analysis_date in self.nights:
            raise self.error
        return super().commit(commit)


EARLIER = NIGHT - timedelta(days=1)


@pytest.mark.parametrize("error", [CommitRefused(EARLIER, "WRONGTYPE"), ValueError("a bug"), OverflowError("year")])
def test_a_date_whose_handling_fails_in_any_way_does_not_stop_the_rest(error: Exception) -> None:
    watch = Watch(Rig(store=RefusingStore(error, EARLIER)))
    watch.rig.store.set_last_opened(NIGHT - timedelta(days=2))

    swept = watch.sweep()
    swept.check()

    assert (Sweep(opened=2, due=0, failed=1), [EARLIER]) == (swept, watch.failed)
    watch.sweep(DEADLINE)
    assert State.READY is watch.record().state


def test_a_sweep_in_which_every_date_fails_is_a_failed_pass_and_a_single_date_is_not() -> None:
    everywhere = Watch(Rig(store=RefusingStore(CommitRefused(NIGHT, "OOM"), NIGHT, EARLIER)))
    everywhere.rig.store.set_last_opened(NIGHT - timedelta(days=2))
    alone = Watch(Rig(store=RefusingStore(CommitRefused(NIGHT, "WRONGTYPE"), NIGHT)))

    with pytest.raises(SweepFailed, match="each of 2 analysis dates failed"):
        everywhere.sweep().check()
    alone.sweep().check()

    assert [NIGHT] == alone.failed


def test_a_record_that_is_gone_while_its_wake_remains_is_opened_again() -> None:
    """A worker set the damaged record aside and died before it had begun anew."""
    store = MemoryStore()
    watch = Watch(Rig(store=store))
    watch.sweep()
    store._records[NIGHT] = (1, "operation", b"damaged")
    store.quarantine(NIGHT)

    watch.sweep()
    assert (State.WAITING, DEADLINE) == (watch.record().state, watch.record().wake_at)

    watch.sweep(DEADLINE)
    assert State.READY is watch.record().state


def test_a_lost_record_follows_the_ledger() -> None:
    store = MemoryStore()
    watch = Watch(Rig(store=store), Probe(EVERY_TABLE_FILLED))
    for name in PROCESSORS:
        watch.rig.engine.apply(NIGHT, success(name))
    builder = Builder(
        engine=watch.rig.engine,
        warehouse=watch.warehouse,  # type: ignore[arg-type]
        clock=watch.rig.clock,
        worker="worker-a",
        lease_s=60.0,
        phase3_lookback_days=30,
        observer=watch.rig.notes,
        stopwatch=lambda: 0.0,
    )
    builder.run_one(NIGHT)
    store._records[NIGHT] = (1, "operation", b"damaged")
    store._wake[NIGHT] = EVENING

    watch.sweep()

    assert (State.DONE, 1) == (watch.record().state, watch.record().published_generation)
    assert len(watch.warehouse.published) == 1


def test_dates_that_wait_for_a_build_hide_no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backfill has made more dates ready than one pass looks at, and they are overdue longer than tonight."""
    monkeypatch.setattr(sweep, "BATCH_MAX", 3)
    watch = Watch(Rig())
    watch.sweep()
    for offset in range(1, 8):
        for name in PROCESSORS:
            watch.rig.engine.apply(NIGHT - timedelta(days=offset), success(name))

    for _ in range(4):
        watch.sweep(DEADLINE)

    assert State.READY is watch.record().state


def test_an_absent_store_ends_the_sweep() -> None:
    class AbsentStore(MemoryStore):
        def last_opened(self) -> date | None:
            raise Unavailable("no server")

    with pytest.raises(Unavailable):
        Watch(Rig(store=AbsentStore())).sweep()
