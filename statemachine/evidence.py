"""Pure questions about a record, a result and an event, asked by the rules, pages and reports."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType

from statemachine.events import BuildClaimed, BuildCommitted, BuildFailed, LeaseRenewed
from statemachine.model import (
    BuildMode,
    BuildResult,
    Completion,
    CompletionStatus,
    DateRecord,
    FindingSeverity,
    Policy,
    State,
    Trigger,
)


def missing_from_result(record: DateRecord, policy: Policy) -> frozenset[str]:
    """Return the required processors whose success would make a new build better than the published build.

    A build limited by a person, to Phase 3 or to an instant, says nothing about the table of a processor.
    """
    result = record.result
    rows = result.dependency_rows if result is not None else {}
    limited = result is not None and is_limited(record, result)
    empty = {name for name, count in rows.items() if count == 0 and not limited}
    unreported = {name for name in rows if name not in record.relied_on}
    return frozenset(empty | unreported) - policy.optional


def built_without(record: DateRecord, processor: str, policy: Policy) -> bool:
    """Return whether the published build found no row of an optional processor. ADR 0036."""
    rows = record.result.dependency_rows if record.result is not None else {}
    return processor in policy.optional and rows.get(processor) == 0


def doubted_processors(record: DateRecord) -> frozenset[str]:
    """Return the processors that a critical finding about the published build names. ADR 0034."""
    findings = record.result.findings if record.result is not None else None
    critical = (finding for finding in findings or () if finding.severity is FindingSeverity.CRITICAL)
    return frozenset(finding.processor for finding in critical if finding.processor)


def replaces_doubted(record: DateRecord, arrived: Completion) -> bool:
    """Return whether *arrived* is a success of a doubted processor and a run unknown to the published build.

    Where the record names the run at the claim of the build, every other run is unknown. Otherwise (rows without an
    event, a commit found in the ledger) a run is unknown if the run ended after the start of the build.
    """
    result = record.result
    if result is None or arrived.status is not CompletionStatus.SUCCESS:
        return False
    if arrived.processor not in doubted_processors(record):
        return False
    used = record.claimed_runs.get(arrived.processor)
    return arrived.identity != used if used is not None else arrived.completed_at > _started_at(result)


def _started_at(result: BuildResult) -> datetime:
    return result.committed_at - timedelta(seconds=result.duration_s)


def with_found(
    record: DateRecord, names: Iterable[str], probe: Mapping[str, int], now: datetime
) -> Mapping[str, Completion]:
    """Return the completions of the record, with a found completion for each of *names* with rows and no event."""
    found = {
        name: Completion(
            processor=name,
            status=CompletionStatus.FOUND,
            identity=f"probe:{now.isoformat()}",
            completed_at=now,
            received_at=now,
            row_count=probe[name],
        )
        for name in names
        # Rows of a run that the processor reported as failed are no completion, nor are rows of a retracted run.
        if probe.get(name, 0) > 0 and name not in record.completions and name not in record.ignored
    }
    return MappingProxyType({**record.completions, **found})


def awaited_tables(record: DateRecord, policy: Policy) -> frozenset[str]:
    """Return the required processors whose table was empty at the published build, and whose rows would be used now.

    After a reported failure or a retraction rows wait for an event. After a reported success late rows count. A build
    limited by a person, to Phase 3 or to an instant, did not look at the table, so rows are no reason for a new build.
    """
    result = record.result
    rows = result.dependency_rows if result is not None and not is_limited(record, result) else {}
    failed = frozenset(record.completions) - record.counted
    return frozenset(name for name, count in rows.items() if count == 0) - failed - record.ignored - policy.optional


def next_look(record: DateRecord, now: datetime, policy: Policy) -> datetime:
    """Return the next probe of a degraded analysis date: each minute from the deadline, and at the cutoff.

    Before the deadline a processor may still write, and the event of the processor reports the end.
    """
    if not awaited_tables(record, policy):
        return record.upgrade_cutoff_at
    return min(max(now + policy.look_every, record.deadline_at), record.upgrade_cutoff_at)


def free_token(record: DateRecord, event: BuildClaimed) -> tuple[int, int]:
    """Return the next (generation, attempt), above the newest claim in the ledger if known. ADR 0007."""
    token = (record.generation, record.attempt + 1)
    if event.ledger_claim is None or token > event.ledger_claim:
        return token
    return event.ledger_claim[0] + 1, 1


def first_own_attempt(record: DateRecord, event: BuildClaimed, token: tuple[int, int]) -> int:
    """Return `own_from` of a record claimed under *token*."""
    generation, attempt = token
    if generation == record.generation and record.own_from:
        return record.own_from
    return 0 if event.ledger_claim is None else attempt


def is_asked_for(record: DateRecord) -> bool:
    """Return whether a person requested the present generation, so that no older commit may replace the build."""
    return record.state in {State.READY, State.RUNNING} and record.trigger in {Trigger.REPLAY, Trigger.RETRACTION}


def is_own_commit(record: DateRecord, event: BuildCommitted) -> bool:
    """Return whether an attempt of the present generation made the commit. ADR 0027.

    A commit of the same number may be older: a lost record counts from 1 again, and a manual build may have published.
    The report of the lease holder is trusted. A commit found in the ledger counts if the attempt was claimed after the
    last loss of the record and above every token in the ledger.
    """
    result = event.result
    if result.generation != record.generation:
        return False
    if record.lease is not None and not event.read_from_ledger:
        reported = (result.attempt, event.claimant)
        if reported == (record.attempt, record.lease.claimant):
            return True
    return 0 < record.own_from <= result.attempt <= record.attempt


def holds_lease(record: DateRecord, event: LeaseRenewed | BuildFailed) -> bool:
    """Return whether the event belongs to the running claim."""
    if record.lease is None:
        return False
    now_building = (record.generation, record.attempt, record.lease.claimant)
    return now_building == (event.generation, event.attempt, event.claimant)


def upgrade_waits(record: DateRecord, policy: Policy) -> bool:
    """Return whether the published build lacks a required completion that counts, or a run of a doubted processor.

    Such a completion was received or found during the build.
    """
    unused = record.counted - record.relied_on - policy.optional
    return bool(unused) or any(replaces_doubted(record, completion) for completion in record.completions.values())


def rerun_waits(record: DateRecord, result: BuildResult, policy: Policy) -> bool:
    """Return whether the build of *result* lacks a run reported during the build.

    The run is a new run of a processor used by the build, or the run of an optional processor without rows in the
    build.
    """
    runs, built = record.reported_runs, replace(record, result=result)
    late = (name for name in runs if name not in record.relied_on and built_without(built, name, policy))
    return record.lease is not None and (
        any(identity != runs.get(name, identity) for name, identity in record.claimed_runs.items()) or any(late)
    )


def rests_on_retracted(record: DateRecord, result: BuildResult) -> bool:
    """Return whether the build of *result* read rows of a run retracted after the claim, or just before."""
    # A build in another mode reads no processor's table, also after the start of a later build.
    if mode_of(record, result) is not BuildMode.NORMAL:
        return False
    token, started_at = (result.generation, result.attempt), _started_at(result)
    return any(
        result.dependency_rows.get(retraction.processor, 0) > 0
        and (token <= retraction.token if retraction.token is not None else started_at <= retraction.at)
        for retraction in record.retractions
    )


def mode_of(record: DateRecord, result: BuildResult) -> BuildMode:
    """Return the data mode of the build: the record's for the present generation, else the mode in the result."""
    return record.mode if result.generation == record.generation else result.mode


def is_limited(record: DateRecord, result: BuildResult) -> bool:
    """Return whether a person limited the build of *result*: to Phase 3, or to the rows of an earlier instant."""
    as_of = record.as_of if result.generation == record.generation else None
    return as_of is not None or mode_of(record, result) is BuildMode.FORCED_FALLBACK


def publication_is_retracted(record: DateRecord) -> bool:
    """Return whether consumers read rows of a retracted run."""
    return record.result is not None and rests_on_retracted(record, record.result)


def severity_of(record: DateRecord) -> str | None:
    """Return the severity, P0 to P3, of the publication that consumers can read; None without a fault.

    A failed generation after a publication leaves the publication readable: P3, or the severity of the publication if
    worse. A failed analysis date without a publication is P0.
    """
    earned = record.result.severity if record.result is not None else None
    if record.state is not State.FAILED:
        return earned
    return "P0" if record.result is None else min(earned or "P3", "P3")


def lost_what_it_stood_on(record: DateRecord) -> bool:
    """Return whether a person retracted a run used by the present attempt, after the claim."""
    return record.mode is BuildMode.NORMAL and any(
        retraction.processor in record.relied_on and retraction.token == (record.generation, record.attempt)
        for retraction in record.retractions
    )
