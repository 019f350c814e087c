"""Rules of every record and of every change, checked before each commit and after each read."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from statemachine.model import PUBLISHED_STATES, RETRACTIONS_MAX, DateRecord, FailedBecause, Policy, State, Trigger

# Each clock and each wall clock can show an instant of these years; a sender may leave an instant at the year 1.
YEARS = (1900, 2999)
# More rows than any table of a night has. What is larger, or no number, fits no column of the ledger.
NUMBER_MAX = 10**12


def violations(record: DateRecord) -> tuple[str, ...]:
    """Return the names of the rules broken by *record*; empty for a sound record."""
    state = record.state
    result = record.result
    instants_are_utc = all(_is_utc(instant) for instant in _instants(record))
    rules = {
        "lease_exactly_while_running": (record.lease is not None) == (state is State.RUNNING),
        "wake_set_while_something_is_due": record.wake_at is not None
        or state in {State.DEGRADED, State.DONE, State.FAILED},
        "nothing_due_when_done": record.wake_at is None or state is not State.DONE,
        "failed_waits_for_its_deadline_or_for_rows": record.wake_at is None
        or state is not State.FAILED
        or _waits_for_its_deadline_or_for_rows(record),
        "waiting_has_a_generation_only_after_a_retraction": state is not State.WAITING
        or record.generation == 0
        or bool(record.retractions),
        "waiting_has_published_nothing": state is not State.WAITING or result is None,
        "active_states_have_a_generation": state in {State.WAITING, State.FAILED} or record.generation >= 1,
        "running_has_an_attempt": state is not State.RUNNING or record.attempt >= 1,
        "published_states_have_their_result": state not in PUBLISHED_STATES
        or (result is not None and result.generation == record.generation and result.state is state),
        "failed_says_why": state is not State.FAILED or record.failure is not None,
        "result_is_not_from_the_future": result is None or result.generation <= record.generation,
        "counters_are_not_negative": min(record.version, record.generation, record.attempt) >= 0,
        # A comparison with NaN does not hold.
        "numbers_are_in_range": all(-NUMBER_MAX <= number <= NUMBER_MAX for number in _numbers(record)),
        "deadline_before_cutoff": not instants_are_utc or record.deadline_at <= record.upgrade_cutoff_at,
        "instants_are_utc": instants_are_utc,
        "completions_under_their_own_name": all(
            name == completion.processor for name, completion in record.completions.items()
        ),
        "retracted_runs_do_not_count": not any(map(record.withdrawn, record.completions.values())),
        "retractions_are_bounded": len(record.retractions) <= RETRACTIONS_MAX,
    }
    return tuple(name for name, holds in rules.items() if not holds)


def _waits_for_its_deadline_or_for_rows(record: DateRecord) -> bool:
    cancelled = record.failure is not None and record.failure.because == FailedBecause.CANCELLED
    if cancelled or record.wake_at is None:
        return False
    if record.result is None:
        return record.wake_at == record.deadline_at
    return record.deadline_at <= record.wake_at <= record.upgrade_cutoff_at


def _instants(record: DateRecord) -> Iterator[datetime]:
    """Yield every instant of the record."""
    yield from (record.opened_at, record.deadline_at, record.upgrade_cutoff_at)
    if record.wake_at is not None:
        yield record.wake_at
    if record.as_of is not None:
        yield record.as_of
    for completion in record.completions.values():
        yield from (completion.completed_at, completion.received_at)
    for retraction in record.retractions:
        yield from (retraction.completed_at, retraction.at)
    if record.lease is not None:
        yield from (record.lease.until_at, record.lease.claimed_at)
    if record.result is not None:
        yield record.result.committed_at
    if record.failure is not None:
        yield record.failure.at


def _numbers(record: DateRecord) -> Iterator[float]:
    """Yield every number of the record."""
    yield from (record.version, record.generation, record.attempt, record.own_from)
    for completion in record.completions.values():
        if completion.row_count is not None:
            yield completion.row_count
    for retraction in record.retractions:
        yield from retraction.token or ()
    if (result := record.result) is not None:
        yield from (result.generation, result.attempt, result.row_count, result.left_out)
        yield from (result.quality_score, result.component_total, result.fallback_rate, result.missing_rate)
        yield from (result.duration_s, *result.components.values(), *result.dependency_rows.values())


def _is_utc(instant: datetime) -> bool:
    return (instant.tzinfo is UTC or instant.utcoffset() == timedelta(0)) and YEARS[0] <= instant.year <= YEARS[1]


def change_violations(before: DateRecord, after: DateRecord, policy: Policy) -> tuple[str, ...]:
    """Return the names of the rules broken by the step from *before* to *after*, or by *after* alone."""
    rules = {
        "same_date": before.analysis_date == after.analysis_date,
        "version_rises_by_one_except_with_a_renewed_lease": after.version == before.version + 1
        or (before.lease is not None and after == before.with_lease_until(after.wake_at)),
        "generation_never_falls": after.generation >= before.generation,
        "attempt_never_falls_within_a_generation": after.generation != before.generation
        or after.attempt >= before.attempt,
        "attempts_are_bounded": after.state is not State.RUNNING
        or after.giving_up
        or after.attempt <= policy.attempts_max,
        "a_success_leaves_only_for_its_retraction": all(
            after.withdrawn(before.completions[name]) for name in before.counted - after.counted
        ),
        "retractions_are_never_forgotten": after.retractions[: len(before.retractions)] == before.retractions,
        "published_generation_never_falls": after.published_generation >= before.published_generation,
        "deadline_never_moves": (before.deadline_at, before.upgrade_cutoff_at)
        == (after.deadline_at, after.upgrade_cutoff_at),
        # A claim above the ledger raises the generation too, and completions may have arrived before the claim.
        "deadline_build_lacks_a_completion": after.state is not State.READY
        or after.generation == before.generation
        or after.trigger is not Trigger.DEADLINE
        or bool(policy.missing(after)),
        "waiting_only_while_something_is_missing": after.state is not State.WAITING or bool(policy.missing(after)),
    }
    return (*violations(after), *(name for name, holds in rules.items() if not holds))
