"""What a date's record, and what is known beside it, answer to the questions of a decision. Changes nothing."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from statemachine.events import BuildClaimed, BuildCommitted, BuildFailed, LeaseRenewed
from statemachine.model import (
    BuildMode,
    BuildResult,
    Completion,
    CompletionStatus,
    DateRecord,
    Policy,
    State,
    Trigger,
)


def missing_from_result(record: DateRecord) -> frozenset[str]:
    """Processors whose success would make a new build better than the published one."""
    rows = record.result.dependency_rows if record.result is not None else {}
    empty = {name for name, count in rows.items() if count == 0}
    unreported = {name for name in rows if name not in record.relied_on}
    return frozenset(empty | unreported)


def found(record: DateRecord, names: Iterable[str], probe: Mapping[str, int], now: datetime) -> dict[str, Completion]:
    """Completions of those of *names* whose tables hold rows although no event came."""
    return {
        name: Completion(
            processor=name,
            status=CompletionStatus.FOUND,
            identity=f"probe:{now.isoformat()}",
            completed_at=now,
            received_at=now,
            row_count=probe[name],
        )
        for name in names
        # A processor that said it failed is believed: rows of a broken run are no completion. Neither are those of a
        # run that a person has taken back.
        if probe.get(name, 0) > 0 and name not in record.completions and name not in record.ignored
    }


def awaited_tables(record: DateRecord) -> frozenset[str]:
    """Return the processors whose table was empty at the published build and would be used if it held rows now.

    A processor that said it failed is believed, and the table of a run that was taken back is not read: their rows wait
    for an event. Rows of a processor whose success came before its rows count.
    """
    rows = record.result.dependency_rows if record.result is not None else {}
    failed = frozenset(record.completions) - record.counted
    return frozenset(name for name, count in rows.items() if count == 0) - failed - record.ignored


def next_look(record: DateRecord, now: datetime, policy: Policy) -> datetime:
    """Return when the tables of a degraded date are looked into next: each minute from the deadline, and at the cutoff.

    Before the deadline a processor may still write; its event says when it has finished.
    """
    if not awaited_tables(record):
        return record.upgrade_cutoff_at
    return min(max(now + policy.look_every, record.deadline_at), record.upgrade_cutoff_at)


def free_token(record: DateRecord, event: BuildClaimed) -> tuple[int, int]:
    """Return the next (generation, attempt) above the ledger's newest claim, where that is known. ADR 0007."""
    token = (record.generation, record.attempt + 1)
    if event.ledger_claim is None or token > event.ledger_claim:
        return token
    return event.ledger_claim[0] + 1, 1


def first_own_attempt(record: DateRecord, event: BuildClaimed, token: tuple[int, int]) -> int:
    """Return the `own_from` of a record that is claimed under *token*."""
    generation, attempt = token
    if generation == record.generation and record.own_from:
        return record.own_from
    return 0 if event.ledger_claim is None else attempt


def is_asked_for(record: DateRecord) -> bool:
    """Whether a person waits for a build of the present generation, and no older commit can take its place."""
    return record.state in {State.READY, State.RUNNING} and record.trigger in {Trigger.REPLAY, Trigger.RETRACTION}


def is_own_commit(record: DateRecord, event: BuildCommitted) -> bool:
    """Whether an attempt of the present generation made the commit. ADR 0027.

    A commit of the same number may be older: the record was lost and counts from 1 again, or the date was published by
    hand. The holder of the lease knows what it committed. A commit found in the ledger counts where its attempt was
    claimed in this life of the record and above every token in the ledger.
    """
    result = event.result
    if result.generation != record.generation:
        return False
    if record.lease is not None and not event.found:
        reported = (result.attempt, event.claimant)
        if reported == (record.attempt, record.lease.claimant):
            return True
    return 0 < record.own_from <= result.attempt <= record.attempt


def holds_lease(record: DateRecord, event: LeaseRenewed | BuildFailed) -> bool:
    """Whether the event is about the claim that builds the date now."""
    if record.lease is None:
        return False
    now_building = (record.generation, record.attempt, record.lease.claimant)
    return now_building == (event.generation, event.attempt, event.claimant)


def upgrade_waits(record: DateRecord) -> bool:
    """Whether something counts that the build did not rely on: it arrived, or was found, while it ran."""
    return bool(record.counted - record.relied_on)


def rerun_waits(record: DateRecord) -> bool:
    """Whether a processor that the build relied on reported a new run while it ran."""
    runs = record.reported_runs
    return record.lease is not None and any(
        identity != runs.get(name, identity) for name, identity in record.claimed_runs.items()
    )


def rests_on_retracted(record: DateRecord, result: BuildResult) -> bool:
    """Whether the build of *result* read rows of a run that was taken back after its claim, or just before."""
    # A build that a person asked for in another mode reads no processor's table, also once a later one has begun.
    if mode_of(record, result) is not BuildMode.NORMAL:
        return False
    token, started_at = (result.generation, result.attempt), result.committed_at - timedelta(seconds=result.duration_s)
    return any(
        result.dependency_rows.get(retraction.processor, 0) > 0
        and (token <= retraction.token if retraction.token is not None else started_at <= retraction.at)
        for retraction in record.retractions
    )


def mode_of(record: DateRecord, result: BuildResult) -> BuildMode:
    """Return the data mode of the build: the record's for the present generation, else the mode in the result."""
    return record.mode if result.generation == record.generation else result.mode


def publication_is_retracted(record: DateRecord) -> bool:
    """Whether consumers read rows of a run that a person has taken back."""
    return record.result is not None and rests_on_retracted(record, record.result)


def severity_of(record: DateRecord) -> str | None:
    """Return the document's severity, P0 to P3, of what consumers can read of the date; None where nothing is wrong.

    A failed generation of a date that was published before takes nothing from consumers: P3, or what the publication
    itself earned where that is worse. Without a publication a failed date is P0.
    """
    earned = record.result.severity if record.result is not None else None
    if record.state is not State.FAILED:
        return earned
    return "P0" if record.result is None else min(earned or "P3", "P3")


def lost_what_it_stood_on(record: DateRecord) -> bool:
    """Whether a run that the present attempt relied on was taken back after its claim."""
    return record.mode is BuildMode.NORMAL and any(
        retraction.processor in record.relied_on and retraction.token == (record.generation, record.attempt)
        for retraction in record.retractions
    )
