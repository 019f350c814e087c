"""One readable example of each rule about findings, limits that a person sets, and a roster that is gone."""

from dataclasses import replace
from datetime import timedelta

import pytest

from statemachine.events import TimerFired
from statemachine.evidence import awaited_tables
from statemachine.model import (
    BuildMode,
    CompletionStatus,
    DateRecord,
    FailedBecause,
    FailureKind,
    FindingSeverity,
    OnRerun,
    State,
    Trigger,
)
from statemachine.reasons import Reason
from tests.support.nights import (
    CACHE,
    CUTOFF,
    DEADLINE,
    DEFENSE,
    EVENING,
    FACTORS,
    MINUTE,
    POLICY,
    REPLAY,
    SECOND,
    SHOTS,
    after,
    broke,
    claimed,
    committed,
    doubted,
    failure,
    finding,
    joined,
    probed,
    result,
    running,
    success,
    told,
    waiting,
    without,
)

BEGUN = EVENING - timedelta(hours=1)
IN_TIME = CUTOFF - SECOND


@pytest.mark.parametrize("rerun", OnRerun)
def test_the_next_run_of_a_doubted_processor_upgrades_whatever_happens_to_other_reruns(rerun: OnRerun) -> None:
    decision = told(doubted(CACHE), success(CACHE, run="2", at=IN_TIME), IN_TIME, replace(POLICY, rerun=rerun))

    assert (State.READY, Reason.UPGRADE_STARTED) == (decision.record.state, decision.reason)
    assert (2, Trigger.UPGRADE) == (decision.record.generation, decision.record.trigger)


def test_the_run_that_the_build_used_upgrades_nothing_when_it_is_delivered_again() -> None:
    decision = told(doubted(CACHE), success(CACHE), IN_TIME)

    assert (State.DEGRADED, Reason.DUPLICATE) == (decision.record.state, decision.reason)


def test_a_run_of_a_processor_that_nobody_doubts_is_held() -> None:
    decision = told(doubted(CACHE), success(SHOTS, run="2", at=IN_TIME), IN_TIME)

    assert (State.DEGRADED, Reason.RERUN_HELD) == (decision.record.state, decision.reason)


def test_a_failure_does_not_displace_the_success_of_a_doubted_processor() -> None:
    decision = told(doubted(CACHE), failure(CACHE, run="2", at=CUTOFF), IN_TIME)

    assert decision.reason is Reason.OUTDATED


def test_after_the_cutoff_the_run_of_a_doubted_processor_comes_too_late() -> None:
    decision = told(doubted(CACHE), success(CACHE, run="2", at=CUTOFF), CUTOFF)

    assert (State.DEGRADED, Reason.UPGRADE_TOO_LATE) == (decision.record.state, decision.reason)


@pytest.mark.parametrize("severity", [FindingSeverity.WARNING, FindingSeverity.NOTE])
def test_only_a_critical_finding_makes_a_processor_doubted(severity: FindingSeverity) -> None:
    decision = told(doubted(CACHE, severity=severity), success(CACHE, run="2", at=IN_TIME), IN_TIME)

    assert decision.reason is Reason.RERUN_HELD


def test_a_run_that_arrives_while_the_doubted_build_runs_is_built_next() -> None:
    record = after(running(), success(CACHE, run="2", at=EVENING + SECOND))

    decision = told(record, committed(state=State.DEGRADED, findings=(finding(CACHE),)), IN_TIME)

    assert (State.READY, Reason.COMMITTED_UPGRADE_FOLLOWS) == (decision.record.state, decision.reason)
    assert decision.record.published_generation == 1


def test_a_run_that_arrives_while_the_doubted_build_runs_and_ends_after_the_cutoff_changes_nothing() -> None:
    record = after(running(), success(CACHE, run="2", at=EVENING + SECOND))

    decision = told(record, committed(state=State.DEGRADED, findings=(finding(CACHE),)), CUTOFF)

    assert (State.DEGRADED, Reason.COMMITTED_DEGRADED) == (decision.record.state, decision.reason)


def _found_and_doubted() -> DateRecord:
    """FACTORS came without its event and is doubted; the build began at the deadline, less a second and a half."""
    found = after(waiting(DEFENSE, SHOTS, CACHE), probed(without()), now=DEADLINE)
    assert found.completions[FACTORS].status is CompletionStatus.FOUND
    return after(found, claimed(), committed(state=State.DEGRADED, findings=(finding(FACTORS),)), now=DEADLINE)


def test_an_event_that_confirms_doubted_rows_is_no_new_run() -> None:
    decision = told(_found_and_doubted(), success(FACTORS, at=DEADLINE - MINUTE), IN_TIME)

    assert (State.DEGRADED, Reason.RECORDED) == (decision.record.state, decision.reason)


def test_an_event_of_a_run_after_the_build_of_doubted_found_rows_upgrades() -> None:
    decision = told(_found_and_doubted(), success(FACTORS, at=DEADLINE + MINUTE), IN_TIME)

    assert (State.READY, Reason.UPGRADE_STARTED) == (decision.record.state, decision.reason)


@pytest.mark.parametrize(
    ("ended", "reason"),
    [(DEADLINE - MINUTE, Reason.COMMITTED_DEGRADED), (DEADLINE, Reason.COMMITTED_UPGRADE_FOLLOWS)],
)
def test_a_doubted_commit_read_from_the_ledger_is_replaced_only_by_a_run_that_ended_after_its_start(
    ended: object, reason: Reason
) -> None:
    """The runs behind a commit that another life of the record made are unknown; its start is known."""
    joined_again = after(waiting(DEFENSE, SHOTS, FACTORS), success(CACHE, run="9", at=ended), now=DEADLINE)  # type: ignore[arg-type]
    event = committed(state=State.DEGRADED, findings=(finding(CACHE),))

    decision = told(joined_again, replace(event, read_from_ledger=True), DEADLINE)

    assert decision.reason is reason
    assert not decision.record.claimed_runs


def test_a_foreign_commit_forgets_the_runs_of_the_claim() -> None:
    """An earlier attempt made the commit; the second attempt was claimed after another run had arrived."""
    second = after(running(), success(CACHE, run="2", at=DEADLINE), TimerFired(), now=EVENING + POLICY.lease)
    reclaimed = after(second, claimed("worker-b"), now=DEADLINE)

    decision = told(reclaimed, committed(attempt=1, state=State.DEGRADED, findings=(finding(CACHE),)), DEADLINE)

    assert decision.reason is Reason.COMMITTED_UPGRADE_FOLLOWS


def test_a_table_that_was_unusable_upgrades_when_its_rows_can_be_counted() -> None:
    """The build counts an unusable table as empty, so the probe of each minute waits for it."""
    published = committed(state=State.DEGRADED, rows=without(CACHE), findings=(finding(CACHE),))
    record = after(running(), published, now=DEADLINE)

    assert told(record, probed(without(CACHE)), DEADLINE + MINUTE).reason is Reason.STILL_MISSING
    assert told(record, probed(without()), DEADLINE + MINUTE).reason is Reason.UPGRADE_STARTED


# --- limits that a person sets ------------------------------------------------------------------


def test_a_replay_as_of_an_instant_keeps_the_instant_until_the_next_generation() -> None:
    asked = told(doubted(CACHE), replace(REPLAY, as_of=BEGUN)).record
    built = after(asked, claimed(), committed(2, state=State.DEGRADED, findings=(finding(CACHE),)))

    upgraded = told(built, success(CACHE, run="2", at=IN_TIME), IN_TIME).record

    assert (asked.as_of, built.as_of) == (BEGUN, BEGUN)
    assert (upgraded.trigger, upgraded.as_of) == (Trigger.UPGRADE, None)


@pytest.mark.parametrize("limit", [{"as_of": BEGUN}, {"mode": BuildMode.FORCED_FALLBACK}])
def test_rows_that_a_person_did_not_want_start_no_build(limit: dict[str, object]) -> None:
    """The rows were there, and the person asked for a build without them."""
    asked = told(doubted(), replace(REPLAY, **limit)).record  # type: ignore[arg-type]
    built = after(asked, claimed(), committed(2, state=State.DEGRADED, rows=without(CACHE)), now=DEADLINE)

    assert not awaited_tables(built, POLICY)
    assert told(built, probed(without()), DEADLINE + MINUTE).reason is Reason.TOO_EARLY
    assert told(built, success(CACHE, run="2", at=IN_TIME), IN_TIME).reason is Reason.RERUN_HELD


def test_a_commit_of_a_higher_generation_in_the_ledger_was_not_limited() -> None:
    asked = told(doubted(CACHE), replace(REPLAY, as_of=BEGUN)).record
    built = after(asked, claimed(), committed(2, state=State.DEGRADED))

    followed = told(built, replace(committed(5), read_from_ledger=True)).record

    assert (followed.generation, followed.as_of) == (5, None)


# --- a roster that is gone ------------------------------------------------------------------


def test_a_build_without_a_roster_fails_and_keeps_the_deadline() -> None:
    decision = told(running(), broke(FailureKind.NO_ROSTER, message="nobody is active"))

    assert (State.FAILED, Reason.NO_ROSTER) == (decision.record.state, decision.reason)
    assert decision.record.failure is not None
    assert decision.record.failure.because == FailedBecause.NO_ROSTER
    assert decision.record.wake_at == DEADLINE


def test_a_record_without_findings_doubts_nobody() -> None:
    record = replace(doubted(), result=replace(result(state=State.DEGRADED), findings=()))

    assert told(record, success(CACHE, run="2", at=IN_TIME), IN_TIME).reason is Reason.RERUN_HELD
    assert joined().result is None
