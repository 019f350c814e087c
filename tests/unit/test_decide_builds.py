"""One readable example of each rule about claims, leases, commits and failed attempts."""

from dataclasses import replace

import pytest

from statemachine.decision import PublishOutcome, StartBuild
from statemachine.events import (
    BuildClaimed,
    BuildCommitted,
    BuildFailed,
    CancelRequested,
    DateOpened,
    LeaseRenewed,
    TimerFired,
)
from statemachine.model import (
    BuildMode,
    CompletionStatus,
    DateRecord,
    FailedBecause,
    FailureKind,
    OnRerun,
    State,
    Trigger,
)
from statemachine.reasons import Reason
from tests.support.nights import (
    CACHE,
    CUTOFF,
    DEADLINE,
    EVENING,
    EVERY_TABLE_FILLED,
    MINUTE,
    NIGHT,
    POLICY,
    PROCESSORS,
    REPLAY,
    SECOND,
    after,
    broke,
    claimed,
    closed,
    committed,
    degraded,
    done,
    failed,
    fallback_running,
    joined,
    past_deadline,
    probed,
    running,
    success,
    told,
    unseen,
    waiting,
    without,
)

START = StartBuild(analysis_date=NIGHT)
LEASE_END = EVENING + POLICY.lease
RETRY_AT = EVENING + POLICY.retry_delay
TAKE_OVER = replace(REPLAY, take_over=True)


def second_attempt() -> DateRecord:
    """Worker-a's lease has expired, worker-b builds the second attempt."""
    return after(after(running(), probed(), now=LEASE_END), claimed("worker-b"), now=LEASE_END)


# --- claims and leases -----------------------------------------------------------------------------------------------


def test_a_claim_takes_the_lease_and_remembers_what_the_build_relies_on() -> None:
    decision = told(joined(), claimed("worker-a"))

    record = decision.record
    assert (State.RUNNING, Reason.CLAIMED, 1) == (record.state, decision.reason, record.attempt)
    assert record.lease is not None
    assert ("worker-a", LEASE_END, EVENING) == (record.lease.owner, record.lease.until_at, record.lease.claimed_at)
    assert (LEASE_END, record.counted) == (record.wake_at, record.relied_on)


@pytest.mark.parametrize(
    "record", [waiting(), running(), done(), degraded(CACHE), failed()], ids=lambda record: record.state
)
def test_only_a_ready_date_can_be_claimed(record: DateRecord) -> None:
    decision = told(record, claimed("worker-b"))

    assert (record, Reason.NOT_READY) == (decision.record, decision.reason)


def test_a_claim_takes_a_generation_above_what_the_ledger_holds() -> None:
    """After a loss of the store the date starts at generation 1 again, but 7 is published already."""
    assert after(joined(), claimed(ledger_claim=(7, 2))).generation == 8


def test_a_second_attempt_keeps_its_generation_above_the_claim_of_the_first() -> None:
    waits_again = after(running(), probed(), now=LEASE_END)

    second = after(waits_again, claimed(ledger_claim=(1, 1)), now=LEASE_END)

    assert (1, 2) == (second.generation, second.attempt)


def test_a_claim_never_takes_a_token_that_was_in_use() -> None:
    """A build by hand, or one of a former life of this record, may still run under it."""
    waits_again = after(running(), probed(), now=LEASE_END)

    taken = after(waits_again, claimed(ledger_claim=(1, 1000)), now=LEASE_END)

    assert (2, 1) == (taken.generation, taken.attempt)


def test_a_living_worker_keeps_its_lease() -> None:
    later = LEASE_END - SECOND

    decision = told(running(), LeaseRenewed(worker="worker-a", generation=1, attempt=1), later)

    assert (Reason.LEASE_RENEWED, later + POLICY.lease) == (decision.reason, decision.record.wake_at)
    assert told(decision.record, probed(), LEASE_END).reason is Reason.TOO_EARLY


@pytest.mark.parametrize(
    ("worker", "generation", "attempt"), [("worker-b", 1, 1), ("worker-a", 2, 1), ("worker-a", 1, 2)]
)
def test_nobody_renews_the_lease_of_another_token(worker: str, generation: int, attempt: int) -> None:
    decision = told(running(), LeaseRenewed(worker=worker, generation=generation, attempt=attempt))

    assert (Reason.STALE, False) == (decision.reason, decision.changed)


def test_an_expired_lease_gives_the_date_to_the_next_worker() -> None:
    decision = told(running(), probed(), LEASE_END)

    assert (State.READY, Reason.LEASE_EXPIRED, (START,)) == (decision.record.state, decision.reason, decision.effects)
    assert (None, LEASE_END, 1) == (decision.record.lease, decision.record.wake_at, decision.record.attempt)
    assert after(decision.record, claimed("worker-b"), now=LEASE_END).attempt == 2


def test_a_date_whose_workers_all_die_fails_in_the_end() -> None:
    record, now = joined(), EVENING
    for _ in range(POLICY.attempts_max):
        record = after(record, claimed(), now=now)
        now += POLICY.lease
        decision = told(record, closed(), now)
        record = decision.record

    assert (State.FAILED, Reason.RETRIES_EXHAUSTED) == (record.state, decision.reason)
    assert record.failure is not None
    assert record.failure.because == FailedBecause.RETRIES_EXHAUSTED


# --- commits that answer nothing that was asked for: ADR 0027 --------------------------------------------------------

BY_HAND = 1_000_123
FORCED = replace(REPLAY, mode=BuildMode.FORCED_FALLBACK, request_id="r1")


def found_commit(generation: int, attempt: int) -> BuildCommitted:
    """A commit that a worker found in the ledger."""
    return replace(committed(generation, attempt), read_from_ledger=True)


@pytest.mark.parametrize(("generation", "raised"), [(1, 2), (5, 6)])
def test_a_commit_in_the_ledger_never_ends_a_replay_that_nobody_has_claimed(generation: int, raised: int) -> None:
    """The date was published by hand, or the store lost its record: the replay counts from 1."""
    decision = told(after(unseen(), FORCED), found_commit(generation, BY_HAND))

    record = decision.record
    assert (State.READY, Reason.COMMITTED_REPLAY_FOLLOWS) == (record.state, decision.reason)
    assert (raised, 0, generation) == (record.generation, record.attempt, record.published_generation)
    assert (BuildMode.FORCED_FALLBACK, "r1", Trigger.REPLAY) == (record.mode, record.request_id, record.trigger)
    outcome, begun = decision.effects
    assert (START, EVENING) == (begun, record.wake_at)
    assert isinstance(outcome, PublishOutcome)
    assert (generation, State.DONE) == (outcome.record.generation, outcome.record.state)


def test_a_commit_found_after_a_claim_that_could_not_read_the_ledger_is_not_the_replays() -> None:
    """The claim may have taken the number of the very commit that is found now."""
    blind = after(unseen(), FORCED, claimed(ledger_claim=None))

    record = after(blind, found_commit(1, 1))

    assert (State.READY, 2, 1) == (record.state, record.generation, record.published_generation)


def test_a_commit_by_hand_beside_the_first_claim_is_not_the_replays() -> None:
    record = after(after(unseen(), FORCED, claimed()), found_commit(1, BY_HAND))

    assert (State.READY, 2, 1) == (record.state, record.generation, record.published_generation)


def test_a_report_of_a_former_life_is_not_the_replays() -> None:
    """It bears the same token and another claimant."""
    claim = BuildClaimed(worker="worker-b", claimant="worker-b/2", ledger_claim=None)
    now_building = after(unseen(), FORCED, claim)

    record = after(now_building, replace(committed(1, 1), claimant="worker-a/1"))

    assert (State.READY, 2) == (record.state, record.generation)


@pytest.mark.parametrize("ledger_claim", [(0, 0), None])
def test_the_replays_own_build_ends_it(ledger_claim: tuple[int, int] | None) -> None:
    record = after(after(unseen(), FORCED, claimed(ledger_claim=ledger_claim)), committed(1, 1))

    assert (State.DONE, 1) == (record.state, record.published_generation)


def test_a_replays_own_commit_whose_report_was_lost_ends_it() -> None:
    """Its claim had read the ledger, so nothing else can bear that token."""
    first = after(unseen(), FORCED, claimed(ledger_claim=(4, 2)))
    silent = after(first, probed(), now=LEASE_END)

    record = after(silent, found_commit(5, 1), now=LEASE_END)

    assert (State.DONE, 5) == (record.state, record.published_generation)


def test_a_cancelled_replay_stays_cancelled_when_an_older_commit_is_found() -> None:
    """The generation is closed under its new number, and fails as it was going to."""
    stopped = after(unseen(), FORCED, claimed(ledger_claim=None), CancelRequested(actor="ana", reason="why"))

    overtaken = told(stopped, found_commit(3, 1))

    record = overtaken.record
    assert (State.RUNNING, Reason.COMMITTED_BY_OLDER_GENERATION) == (record.state, overtaken.reason)
    assert (4, 3) == (record.generation, record.published_generation)
    ended = after(record, closed(4))
    assert ended.failure is not None
    assert (State.FAILED, FailedBecause.CANCELLED) == (ended.state, ended.failure.because)


def test_a_commit_in_the_ledger_ends_what_no_person_asked_for() -> None:
    """Four reports came again after a loss of the store: their build is published already."""
    assert after(joined(), found_commit(1, 1)).state is State.DONE


# --- failed attempts -------------------------------------------------------------------------------------------------


def test_an_unavailable_warehouse_is_tried_again_after_the_delay() -> None:
    decision = told(running(), broke(FailureKind.UNAVAILABLE))

    assert (State.READY, Reason.RETRY_SCHEDULED, RETRY_AT) == (
        decision.record.state,
        decision.reason,
        decision.record.wake_at,
    )
    assert told(decision.record, claimed(), RETRY_AT - SECOND).reason is Reason.TOO_EARLY
    assert told(decision.record, probed(), RETRY_AT).effects == (START,)
    assert after(decision.record, claimed(), now=RETRY_AT).attempt == 2


def test_the_last_attempt_fails_the_generation() -> None:
    record, now = past_deadline(CACHE), DEADLINE
    for attempt in range(1, POLICY.attempts_max + 1):
        record = after(record, claimed(), broke(FailureKind.UNAVAILABLE, attempt=attempt), now=now)
        now += POLICY.retry_delay
    ended = after(record, closed(), now=now)

    assert (State.FAILED, 3, None) == (ended.state, ended.attempt, ended.wake_at)


@pytest.mark.parametrize(
    ("kind", "because"),
    [(FailureKind.FATAL, FailedBecause.FATAL_ERROR), (FailureKind.UNAVAILABLE, FailedBecause.RETRIES_EXHAUSTED)],
)
def test_a_generation_is_given_up_only_after_the_ledger_was_asked(kind: FailureKind, because: FailedBecause) -> None:
    """The reply of a publication may have been lost: what was published must never be called failed."""
    record = after(replace(joined(), attempt=POLICY.attempts_max - 1), claimed())
    given_up = told(record, broke(kind, attempt=record.attempt, message="no such column"))

    assert (State.RUNNING, Reason.GIVING_UP, ()) == (given_up.record.state, given_up.reason, given_up.effects)
    assert Reason.NEEDS_PROBE is told(given_up.record, TimerFired()).reason
    assert Reason.NEEDS_PROBE is told(given_up.record, closed(7)).reason
    ended = told(given_up.record, closed()).record
    assert ended.failure is not None
    assert (State.FAILED, because, "no such column") == (ended.state, ended.failure.because, ended.failure.message)
    found = told(given_up.record, replace(committed(attempt=1), read_from_ledger=True)).record
    assert State.DONE is found.state


def test_a_closed_ledger_says_nothing_about_the_tables() -> None:
    """The date was lost while somebody gave up on it: its next life has a deadline of its own."""
    assert Reason.NEEDS_PROBE is told(waiting(), closed(), DEADLINE).reason


def test_who_has_given_up_does_not_renew_the_lease() -> None:
    given_up = after(running(), broke(FailureKind.FATAL))

    assert Reason.STALE is told(given_up, LeaseRenewed(worker="worker-a", generation=1, attempt=1)).reason


def test_a_report_about_a_former_life_of_the_record_changes_nothing() -> None:
    """The store lost the date; its next life has the same token, and even the same worker."""
    record = after(joined(), replace(claimed(), claimant="worker-a/2"))
    former = {"generation": 1, "attempt": 1, "claimant": "worker-a/1"}

    assert Reason.STALE is told(record, LeaseRenewed(worker="worker-a", **former)).reason
    failure = BuildFailed(failure=FailureKind.FATAL, message="it broke", **former)
    assert Reason.STALE is told(record, failure).reason


@pytest.mark.parametrize(
    ("kind", "because"),
    [
        (FailureKind.GATE_REFUSED, FailedBecause.GATE_REFUSED),
        (FailureKind.NO_DATA, FailedBecause.NO_DATA),
    ],
)
def test_what_another_attempt_cannot_cure_fails_at_once(kind: FailureKind, because: FailedBecause) -> None:
    decision = told(running(), broke(kind, message="no such column"))

    record = decision.record
    assert record.failure is not None
    assert (State.FAILED, because, "no such column") == (record.state, record.failure.because, record.failure.message)
    assert [PublishOutcome] == [type(effect) for effect in decision.effects]


def test_a_stale_failure_cannot_end_a_newer_attempt() -> None:
    record = second_attempt()

    decision = told(record, broke(FailureKind.FATAL, attempt=1), LEASE_END)

    assert (record, Reason.STALE) == (decision.record, decision.reason)


def test_the_fourth_success_during_a_failing_fallback_build_rescues_it_at_once() -> None:
    record = after(fallback_running(CACHE), success(CACHE, at=DEADLINE), now=DEADLINE)

    decision = told(record, broke(FailureKind.GATE_REFUSED), DEADLINE)

    assert (State.READY, Reason.RESCUE_FOLLOWS) == (decision.record.state, decision.reason)
    assert (2, Trigger.RESCUE, (START,)) == (decision.record.generation, decision.record.trigger, decision.effects)


# --- commits ---------------------------------------------------------------------------------------------------------


def test_a_commit_of_a_full_build_ends_in_done_and_tells_the_consumers() -> None:
    decision = told(running(), committed())

    record = decision.record
    assert (State.DONE, Reason.COMMITTED_DONE, None) == (record.state, decision.reason, record.wake_at)
    [outcome] = decision.effects
    assert isinstance(outcome, PublishOutcome)
    assert (State.DONE, 1, None) == (outcome.record.state, outcome.record.generation, outcome.supersedes)


def test_a_commit_of_a_fallback_build_ends_in_degraded() -> None:
    decision = told(fallback_running(CACHE), committed(state=State.DEGRADED, rows=without(CACHE)), DEADLINE)

    assert (State.DEGRADED, Reason.COMMITTED_DEGRADED) == (decision.record.state, decision.reason)
    assert decision.record.wake_at == DEADLINE + POLICY.look_every


def test_a_success_that_came_during_a_fallback_build_upgrades_right_after_it() -> None:
    record = after(fallback_running(CACHE), success(CACHE, at=DEADLINE), now=DEADLINE)
    assert (State.RUNNING, 1) == (record.state, record.generation)

    decision = told(record, committed(state=State.DEGRADED, rows=without(CACHE)), DEADLINE)

    assert (State.READY, Reason.COMMITTED_UPGRADE_FOLLOWS) == (decision.record.state, decision.reason)
    assert (2, Trigger.UPGRADE) == (decision.record.generation, decision.record.trigger)
    outcome, start = decision.effects
    assert isinstance(outcome, PublishOutcome)
    assert (State.DEGRADED, 1) == (outcome.record.state, outcome.record.generation)
    assert start == START


def test_no_upgrade_follows_a_commit_after_the_cutoff() -> None:
    record = after(fallback_running(CACHE), success(CACHE, at=CUTOFF), now=CUTOFF)

    decision = told(record, committed(state=State.DEGRADED, rows=without(CACHE)), CUTOFF)

    assert (State.DEGRADED, Reason.COMMITTED_DEGRADED) == (decision.record.state, decision.reason)
    assert decision.record.wake_at is None


def test_an_upgrade_names_the_generation_it_replaces() -> None:
    upgraded = after(degraded(CACHE), success(CACHE, at=DEADLINE), claimed(), now=DEADLINE)

    [outcome] = told(upgraded, committed(generation=2), DEADLINE).effects

    assert isinstance(outcome, PublishOutcome)
    assert (2, 1) == (outcome.record.generation, outcome.supersedes)


def test_a_second_worker_adopts_what_the_first_had_committed_before_it_died() -> None:
    """The ledger holds attempt 1; attempt 2 finds that out and reports it instead of building again."""
    decision = told(second_attempt(), committed(generation=1, attempt=1), LEASE_END)

    record = decision.record
    assert (State.DONE, Reason.COMMITTED_DONE) == (record.state, decision.reason)
    assert record.attempt == 2
    assert record.result is not None
    assert record.result.attempt == 1


def test_a_commit_is_believed_even_when_the_date_had_been_given_up() -> None:
    decision = told(failed(FailureKind.FATAL), committed(state=State.DEGRADED, rows=without(CACHE)), DEADLINE)

    assert (State.DEGRADED, None) == (decision.record.state, decision.record.failure)


def test_a_stale_build_cannot_finish_a_newer_generation() -> None:
    """A replay took over; what the old build still published stands, but the replay goes on."""
    record = after(running(), TAKE_OVER, claimed("worker-b"))

    decision = told(record, committed(generation=1))

    assert (State.RUNNING, Reason.COMMITTED_BY_OLDER_GENERATION) == (decision.record.state, decision.reason)
    assert (2, 1) == (decision.record.generation, decision.record.published_generation)
    assert decision.record.lease == record.lease


def test_a_commit_of_a_newer_generation_replaces_a_record_that_was_lost_and_rebuilt() -> None:
    decision = told(running(), committed(generation=5, state=State.DEGRADED, rows=without(CACHE)))

    record = decision.record
    assert (5, None) == (record.published_generation, record.lease)
    assert (State.READY, Reason.COMMITTED_UPGRADE_FOLLOWS) == (record.state, decision.reason)
    assert record.generation == 6


def test_a_commit_reported_twice_is_stale() -> None:
    decision = told(done(), committed())

    assert (done(), Reason.STALE, ()) == (decision.record, decision.reason, decision.effects)


def test_a_report_of_what_is_already_superseded_is_stale() -> None:
    newer = after(after(done(), REPLAY, claimed()), committed(generation=2))

    assert told(newer, committed(generation=1)).reason is Reason.STALE
    assert told(after(done(), REPLAY), committed(generation=1)).reason is Reason.STALE


def test_a_confirming_event_after_a_recovered_commit_is_only_recorded() -> None:
    """A record rebuilt from the ledger knows no reports; the ones that come again start nothing."""
    recovered = after(unseen(), committed(generation=3))
    eager = replace(POLICY, rerun=OnRerun.REBUILD)

    decision = told(recovered, success(CACHE), policy=eager)

    assert (State.DONE, Reason.RECORDED) == (decision.record.state, decision.reason)


def test_a_commit_of_an_overtaken_generation_is_told_because_consumers_read_it() -> None:
    record = after(running(), TAKE_OVER, claimed("worker-b"))

    decision = told(record, committed(generation=1))

    outcomes = [effect for effect in decision.effects if isinstance(effect, PublishOutcome)]
    assert [(State.DONE, 1, None)] == [(o.record.state, o.record.generation, o.supersedes) for o in outcomes]


def test_a_new_run_during_the_build_is_rebuilt_afterwards_where_the_policy_says_so() -> None:
    rebuild = replace(POLICY, rerun=OnRerun.REBUILD)
    later = EVENING + SECOND
    record = after(running(), success(CACHE, run="2", at=later), now=later)

    decision = told(record, committed(), later, rebuild)

    assert (State.READY, Reason.COMMITTED_RERUN_FOLLOWS, 2) == (
        decision.record.state,
        decision.reason,
        decision.record.generation,
    )
    assert Trigger.RERUN is decision.record.trigger
    assert State.DONE is told(record, committed(), later).record.state


def test_a_run_from_the_future_is_rebuilt_once_and_not_until_the_clock_has_caught_up() -> None:
    """A worker with a fast clock received it; the next build relies on it, whatever its instant says."""
    rebuild = replace(POLICY, rerun=OnRerun.REBUILD)
    fast = EVENING + 120 * MINUTE
    record = after(running(), success(CACHE, run="2", at=fast), now=fast)
    again = after(record, committed(), claimed(), policy=rebuild, now=EVENING + SECOND)

    decision = told(again, committed(generation=2), EVENING + SECOND, rebuild)

    assert (State.DONE, Reason.COMMITTED_DONE) == (decision.record.state, decision.reason)


def test_an_event_for_rows_that_the_probe_had_found_is_no_new_run() -> None:
    rebuild = replace(POLICY, rerun=OnRerun.REBUILD)
    found_all = after(after(unseen(), success(CACHE)), probed(EVERY_TABLE_FILLED), claimed(), now=DEADLINE)
    record = after(found_all, success(PROCESSORS[0]), now=DEADLINE)

    assert State.DONE is told(record, committed(), DEADLINE, rebuild).record.state


# --- a degraded date that was rebuilt --------------------------------------------------------------------------------


def restored_as_degraded(*missing: str) -> DateRecord:
    """The record was lost and follows the ledger: what has arrived since that build is not known."""
    report = replace(committed(state=State.DEGRADED, rows=without(*missing)), read_from_ledger=True)
    return after(after(unseen(), DateOpened()), report, now=DEADLINE)


def test_a_date_restored_as_degraded_looks_into_the_tables_at_once() -> None:
    record = restored_as_degraded(CACHE)

    assert (State.DEGRADED, DEADLINE) == (record.state, record.wake_at)
    assert Reason.NEEDS_PROBE is told(record, TimerFired(), DEADLINE).reason


def test_rows_found_after_a_loss_upgrade_the_date() -> None:
    decision = told(restored_as_degraded(CACHE), probed(EVERY_TABLE_FILLED), DEADLINE)

    assert (State.READY, Reason.UPGRADE_STARTED, 2) == (
        decision.record.state,
        decision.reason,
        decision.record.generation,
    )
    assert CompletionStatus.FOUND is decision.record.completions[CACHE].status


def test_a_restored_date_that_still_lacks_a_table_is_looked_at_like_any_other() -> None:
    decision = told(restored_as_degraded(CACHE), probed(without(CACHE)), DEADLINE)

    assert (State.DEGRADED, Reason.STILL_MISSING, DEADLINE + POLICY.look_every) == (
        decision.record.state,
        decision.reason,
        decision.record.wake_at,
    )


def test_rows_found_while_the_record_is_rebuilt_upgrade_it_as_well() -> None:
    """Another worker's deadline was quicker than the one that reads the ledger."""
    fresh = after(after(unseen(), DateOpened()), probed(EVERY_TABLE_FILLED), now=DEADLINE)
    report = replace(committed(state=State.DEGRADED, rows=without(CACHE)), read_from_ledger=True)

    assert Reason.COMMITTED_UPGRADE_FOLLOWS is told(fresh, report, DEADLINE).reason


def test_a_date_with_more_attempts_than_a_lowered_bound_fails_instead_of_waiting_for_ever() -> None:
    record = replace(joined(), attempt=POLICY.attempts_max, relied_on=joined().counted)

    decision = told(record, claimed())

    assert (State.RUNNING, Reason.GIVING_UP) == (decision.record.state, decision.reason)
    ended = told(decision.record, closed())
    assert (State.FAILED, Reason.RETRIES_EXHAUSTED) == (ended.record.state, ended.reason)
