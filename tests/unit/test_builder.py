"""Claim, build, report: nothing is built twice, and a worker that was replaced changes nothing."""

import threading
from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from statemachine.events import CancelRequested, LeaseRenewed
from statemachine.model import BuildMode, DateRecord, State
from statemachine.reasons import Reason
from tests.conftest import WaitUntil
from tests.support.memory_store import MemoryStore
from tests.support.nights import CACHE, NIGHT, POLICY, PROCESSORS, REPLAY, claimed, probed, success
from tests.support.rigs import WORKER, LedgerWarehouse, Rig, repair_of
from worker.builds.builder import Builder, LeaseKeeper
from worker.builds.queue import BuildQueue
from worker.errors import Fatal, SchemaDrift, Unavailable
from worker.features.model import BuildPhase
from worker.ports import Commit


class Site:
    """A builder with everything around it, on a date whose four successes are in."""

    def __init__(self, store: MemoryStore | None = None, lease_s: float = 60.0) -> None:
        self.seconds = 0.0
        self.rig = Rig(store=store or MemoryStore())
        self.warehouse = LedgerWarehouse()
        for name in PROCESSORS:
            self.rig.engine.apply(NIGHT, success(name))
        self.builder = self.worker("worker-a", lease_s)

    def worker(self, name: str, lease_s: float = 60.0) -> Builder:
        return Builder(
            engine=self.rig.engine,
            warehouse=self.warehouse,  # type: ignore[arg-type]
            clock=self.rig.clock,
            worker=name,
            lease_s=lease_s,
            phase3_lookback_days=30,
            observer=self.rig.notes,
            stopwatch=lambda: self.seconds,
            follow=repair_of(self.rig, self.warehouse).follow,
        )

    def record(self) -> DateRecord:
        record = self.rig.store.load(NIGHT)
        assert record is not None
        return record


def test_a_ready_date_is_built_published_and_reported() -> None:
    site = Site()

    decision = site.builder.run_one(NIGHT)

    assert decision is not None
    assert (State.DONE, Reason.COMMITTED_DONE) == (site.record().state, decision.reason)
    assert ["2024-12-15-g1-a1"] == [key.build_id for key in site.warehouse.published]
    assert [("normal", "done")] == site.rig.notes.builds
    assert site.rig.store.outbox_size() == 1


def test_every_phase_of_a_build_is_timed_in_its_order() -> None:
    site = Site()

    def take_a_minute() -> None:
        site.seconds += 60.0

    site.warehouse.meanwhile = take_a_minute
    site.builder.run_one(NIGHT)

    assert [(phase, 60.0 if phase is BuildPhase.STAGE else 0.0) for phase in BuildPhase] == site.rig.notes.phases


def test_a_phase_that_breaks_off_is_timed_and_those_after_it_are_not() -> None:
    site = Site()
    site.warehouse.faults["stage"] = [Unavailable("no warehouse")]

    site.builder.run_one(NIGHT)

    passed = [BuildPhase.CLAIM, BuildPhase.VALIDATE, BuildPhase.DEPENDENCIES, BuildPhase.STAGE]
    assert passed == [phase for phase, _ in site.rig.notes.phases]


def test_what_fails_after_the_outcome_is_logged_and_hides_nothing() -> None:
    """Attempts are not in the execution log, the players left out are not listed: the dates end as they would."""
    broken, built = Site(), Site()
    broken.warehouse.faults |= {"stage": [Unavailable("no slots")], "log_execution": [Unavailable("no log")]}
    built.warehouse.left_out = 3
    built.warehouse.faults |= {"left_out": [Unavailable("no list")], "log_execution": [Unavailable("no row")]}

    with capture_logs() as logs:
        broken.builder.run_one(NIGHT)
        built.builder.run_one(NIGHT)

    assert (State.READY, State.DONE) == (broken.record().state, built.record().state)
    failure = broken.record().failure
    assert failure is not None
    assert "no slots" in failure.message
    told = [(line["event"], line["error"]) for line in logs if line["log_level"] == "warning"]
    assert told == [
        ("execution_not_logged", "no log"),
        ("execution_not_logged", "no row"),
        ("left_out_not_listed", "no list"),
    ]


def test_a_build_that_the_gate_refuses_never_enters_the_publication() -> None:
    site = Site()
    site.warehouse.players = 150

    site.builder.run_one(NIGHT)

    ended = [phase for phase, _ in site.rig.notes.phases]
    assert [BuildPhase.SCORE, BuildPhase.GATE] == ended[-2:]
    assert [("2024-12-15-g1-a1", "failed", 150)] == [
        (row["build_id"], row["state"], row["row_count"]) for row in site.warehouse.refused
    ]


def test_a_missing_table_ends_in_degraded() -> None:
    site = Site()
    site.warehouse.rows[CACHE] = 0

    site.builder.run_one(NIGHT)

    assert (State.DEGRADED, 1) == (site.record().state, site.record().published_generation)


def test_a_publication_that_nobody_reported_is_told_before_another_generation_is_built() -> None:
    """Its worker died, a person took over, and the gate refuses what comes next: readers see the first one."""
    site = Site()
    site.warehouse.faults["read_ledger"] = [Unavailable("away")]
    site.warehouse.lose_reply_of_publish = True
    site.builder.run_one(NIGHT)
    site.rig.engine.apply(NIGHT, replace(REPLAY, take_over=True))
    site.warehouse.players = 150

    site.builder.run_one(NIGHT)

    assert (State.FAILED, 2, 1) == (site.record().state, site.record().generation, site.record().published_generation)
    told = [(entry.message.topic, entry.message.attributes["generation"]) for entry in site.rig.store.outbox(9)]
    assert [("success", "1"), ("failure", "2")] == told


def test_a_date_that_the_store_lost_is_taken_over_from_the_ledger_and_not_built_again() -> None:
    """A late report opens it anew, and its tables are full; but it is published already."""
    before = Site()
    before.builder.run_one(NIGHT)
    site = Site()
    site.warehouse = before.warehouse

    assert site.worker("worker-b").run_one(NIGHT) is None

    assert (State.DONE, 1, 1) == (site.record().state, site.record().generation, len(site.warehouse.published))


def test_a_date_in_other_hands_is_left_alone() -> None:
    site = Site()
    site.rig.engine.apply(NIGHT, claimed("worker-b"))

    assert site.builder.run_one(NIGHT) is None

    assert ([], []) == (site.warehouse.published, site.rig.notes.builds)


def test_a_claim_takes_a_generation_above_every_one_in_use() -> None:
    """The store was lost and the date begins at generation 1 again, while a build of its former life still runs."""
    site = Site()
    site.warehouse.claims[NIGHT] = (1, 1, "former-life")

    site.builder.run_one(NIGHT)

    assert (2, 2) == (site.record().generation, site.record().published_generation)


@pytest.mark.parametrize(
    ("place", "fault", "state", "reason"),
    [
        ("claimed_token", Unavailable("no warehouse"), State.DONE, Reason.COMMITTED_DONE),
        ("claim", Unavailable("no warehouse"), State.READY, Reason.RETRY_SCHEDULED),
        ("stage", Unavailable("no warehouse"), State.READY, Reason.RETRY_SCHEDULED),
        ("publish", Unavailable("no warehouse"), State.READY, Reason.RETRY_SCHEDULED),
        ("columns", SchemaDrift("no such column"), State.RUNNING, Reason.GIVING_UP),
        ("build_stats", Fatal("access denied"), State.RUNNING, Reason.GIVING_UP),
    ],
)
def test_a_fault_is_retried_or_fatal_by_its_family(place: str, fault: Exception, state: State, reason: Reason) -> None:
    site = Site()
    site.warehouse.faults[place] = [fault]  # type: ignore[list-item]

    decision = site.builder.run_one(NIGHT)

    assert decision is not None
    assert (state, reason) == (site.record().state, decision.reason)


def test_a_warehouse_that_stays_away_spends_the_attempts_and_fails_the_date() -> None:
    site = Site()
    site.warehouse.faults = {name: [Unavailable("no warehouse")] * 9 for name in ("read_ledger", "claim")}

    for _ in range(POLICY.attempts_max):
        site.builder.run_one(NIGHT)
        site.rig.clock.forward(POLICY.retry_delay)
    assert (True, POLICY.attempts_max) == (site.record().giving_up, site.record().attempt)

    site.warehouse.faults.clear()
    repair_of(site.rig, site.warehouse).end_last_attempt(NIGHT)

    assert (State.FAILED, POLICY.attempts_max) == (site.record().state, site.record().attempt)


def test_a_retry_waits_for_its_delay_and_then_succeeds() -> None:
    site = Site()
    site.warehouse.faults["stage"] = [Unavailable("no warehouse")]
    site.builder.run_one(NIGHT)

    assert site.builder.run_one(NIGHT) is None
    site.rig.clock.forward(POLICY.retry_delay)
    site.builder.run_one(NIGHT)

    assert (State.DONE, 2) == (site.record().state, site.record().attempt)


def test_a_build_below_the_gate_is_not_published() -> None:
    site = Site()
    site.warehouse.players = 150

    site.builder.run_one(NIGHT)

    assert (State.FAILED, []) == (site.record().state, site.warehouse.published)
    assert [("normal", "gate_refused")] == site.rig.notes.builds


@pytest.mark.parametrize(("left_out", "reason"), [(450, Reason.NO_DATA), (0, Reason.NO_ROSTER)])
def test_no_data_and_no_roster_fail_at_once(left_out: int, reason: Reason) -> None:
    site = Site()
    site.warehouse.players, site.warehouse.left_out = 0, left_out

    decision = site.builder.run_one(NIGHT)

    assert decision is not None
    assert reason is decision.reason


def test_a_commit_whose_reply_was_lost_is_found_in_the_ledger_and_not_repeated() -> None:
    site = Site()
    site.warehouse.lose_reply_of_publish = True

    site.builder.run_one(NIGHT)

    assert (State.DONE, 1) == (site.record().state, site.record().attempt)
    assert ["2024-12-15-g1-a1"] == [key.build_id for key in site.warehouse.published]
    assert [("normal", "adopted")] == site.rig.notes.builds


def test_a_worker_whose_lease_was_taken_publishes_nothing() -> None:
    """While worker-a stages, its lease expires and worker-b builds; worker-a finds the ledger's door shut."""
    site = Site()

    def overtake() -> None:
        site.rig.clock.forward(POLICY.lease)
        site.rig.engine.apply(NIGHT, probed())
        site.worker("worker-b").run_one(NIGHT)

    site.warehouse.meanwhile = overtake
    decision = site.builder.run_one(NIGHT)

    assert ["2024-12-15-g1-a2"] == [key.build_id for key in site.warehouse.published]
    assert State.DONE is site.record().state
    assert decision is not None
    assert Reason.STALE is decision.reason
    assert site.rig.store.outbox_size() == 1


def test_a_worker_overtaken_by_a_build_that_still_runs_reports_nothing() -> None:
    site = Site()

    def overtake() -> None:
        site.rig.engine.apply(NIGHT, replace(REPLAY, take_over=True))
        site.rig.engine.apply(NIGHT, claimed("worker-b"))
        site.warehouse.claims[NIGHT] = (2, 1, "worker-b")

    site.warehouse.meanwhile = overtake

    assert site.builder.run_one(NIGHT) is None

    assert (State.RUNNING, 2) == (site.record().state, site.record().generation)
    assert ([("normal", "fenced")], []) == (site.rig.notes.builds, site.warehouse.published)


def test_a_build_that_is_cancelled_stops_before_it_publishes() -> None:
    site = Site()
    site.warehouse.meanwhile = lambda: site.rig.engine.apply(NIGHT, CancelRequested(actor="ana", reason="bad rows"))

    assert site.builder.run_one(NIGHT) is None

    assert (State.RUNNING, []) == (site.record().state, site.warehouse.published)
    repair_of(site.rig, site.warehouse).end_last_attempt(NIGHT)
    assert State.FAILED is site.record().state


def test_a_forced_fallback_is_degraded_though_every_table_is_filled() -> None:
    site = Site()
    site.rig.engine.apply(NIGHT, replace(REPLAY, mode=BuildMode.FORCED_FALLBACK))

    site.builder.run_one(NIGHT)

    assert State.DEGRADED is site.record().state


def test_a_report_survives_a_store_that_is_away_for_a_moment() -> None:
    class BlinkingStore(MemoryStore):
        blinks = 0

        def commit(self, commit: Commit) -> bool:
            if self.blinks:
                self.blinks -= 1
                raise Unavailable("no server")
            return super().commit(commit)

    store = BlinkingStore()
    site = Site(store)
    site.warehouse.meanwhile = lambda: setattr(store, "blinks", 1)

    site.builder.run_one(NIGHT)

    assert State.DONE is site.record().state


def test_a_build_that_hangs_does_not_keep_its_date_for_ever(wait_until: WaitUntil) -> None:
    """After an hour (here: an instant) the lease is renewed no more, so that another attempt can have the date."""
    site = Site()
    record = site.rig.engine.apply(NIGHT, claimed(WORKER)).record

    with LeaseKeeper(site.rig.engine, record, WORKER, 0.003, held_max_s=0.003) as keeper:
        wait_until(keeper.lost.is_set, "the keeper gives up")

    assert State.RUNNING is site.record().state
    assert 1 <= len([one for one in site.rig.notes.decisions if one.decision.reason is Reason.LEASE_RENEWED]) <= 3


def test_each_renewal_of_a_lease_is_told_with_its_error() -> None:
    class BlinkingStore(MemoryStore):
        away = False

        def renew(self, held: DateRecord, until_at: datetime, operation_id: str) -> bool:
            if self.away:
                raise Unavailable("no server")
            return super().renew(held, until_at, operation_id)

    store = BlinkingStore()
    site = Site(store=store)
    record = site.rig.engine.apply(NIGHT, claimed(WORKER)).record
    told: list[str | None] = []
    keeper = LeaseKeeper(
        site.rig.engine, record, WORKER, 60.0, passed=lambda error: told.append(None if error is None else str(error))
    )
    for away in (False, True, False):
        store.away = away
        site.rig.clock.forward(timedelta(seconds=1))
        keeper.renew_once()

    assert [None, "no server", None] == told


def test_the_lease_is_renewed_while_the_build_runs(wait_until: WaitUntil) -> None:
    site = Site(lease_s=0.03)

    def renewed() -> bool:
        return any(isinstance(noted.event, LeaseRenewed) for noted in site.rig.notes.decisions)

    site.warehouse.meanwhile = lambda: wait_until(renewed, "the lease is renewed")
    site.builder.run_one(NIGHT)

    assert State.DONE is site.record().state


def test_a_worker_that_notices_the_loss_of_its_lease_stops_at_the_next_step(wait_until: WaitUntil) -> None:
    site = Site(lease_s=0.03)

    def lose() -> None:
        site.rig.engine.apply(NIGHT, replace(REPLAY, take_over=True))
        wait_until(
            lambda: not any(thread.name.startswith("lease-") for thread in threading.enumerate()), "it is noticed"
        )

    site.warehouse.meanwhile = lose

    assert site.builder.run_one(NIGHT) is None
    assert ([("normal", "fenced")], []) == (site.rig.notes.builds, site.warehouse.published)


def test_the_queue_holds_a_date_once_until_it_is_finished_and_gives_the_newest_first() -> None:
    queue, other = BuildQueue(), NIGHT + timedelta(days=1)
    for night in (NIGHT, other, NIGHT):
        queue.put(night)

    taken: list[date | None] = [queue.get(), queue.get()]
    queue.put(NIGHT)
    queue.finished(NIGHT)
    queue.put(NIGHT)
    queue.stop(1)

    assert [other, NIGHT] == taken
    assert [None, NIGHT] == [queue.get(), queue.get()], "who is to stop takes no further date"
