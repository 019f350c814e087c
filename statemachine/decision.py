"""Values of a decision, and the steps that several rules share.

Model: a rule answers an event with a `Ruling`: the reason, the typed change of the record, and the effects. `decide`
reads the next state from the transition table, makes the next record and returns the `Decision`.

Guarantees: a change names each changed field with the type of the field; version, state and instants of the analysis
date are no fields of a change. `PublishOutcome` is stored in the outbox by the commit of the record. `StartBuild` is a
hint to the deciding worker: after a crash of that worker the wake index shows the ready analysis date to every worker.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import NamedTuple, TypeAlias

from statemachine.evidence import awaited_tables, lost_what_it_stood_on
from statemachine.model import (
    KEEP,
    BuildMode,
    BuildResult,
    Changes,
    Completion,
    DateRecord,
    FailedBecause,
    Failure,
    Keep,
    Lease,
    Policy,
    Retraction,
    State,
    Trigger,
)
from statemachine.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class StartBuild:
    """Claim and build the analysis date now."""

    analysis_date: date


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishOutcome:
    """Publish an outcome message about the end of a generation.

    Attributes:
        record: The record with the result or the failure of the message.
        supersedes: The generation published before, None for a first publication.
        changes: Difference from the superseded generation; None for a first publication and where not known.
    """

    record: DateRecord
    supersedes: int | None
    changes: Changes | None = None


Effect: TypeAlias = StartBuild | PublishOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """New values of a record's fields, named as in `DateRecord`; a field left at `KEEP` stays as before."""

    generation: int | Keep = KEEP
    attempt: int | Keep = KEEP
    own_from: int | Keep = KEEP
    completions: Mapping[str, Completion] | Keep = KEEP
    wake_at: datetime | Keep | None = KEEP
    trigger: Trigger | Keep | None = KEEP
    mode: BuildMode | Keep = KEEP
    relied_on: frozenset[str] | Keep = KEEP
    claimed_runs: Mapping[str, str] | Keep = KEEP
    lease: Lease | Keep | None = KEEP
    result: BuildResult | Keep | None = KEEP
    failure: Failure | Keep | None = KEEP
    requested_by: str | Keep | None = KEEP
    request_reason: str | Keep | None = KEEP
    request_id: str | Keep = KEEP
    as_of: datetime | Keep | None = KEEP
    retractions: tuple[Retraction, ...] | Keep = KEEP


class Ruling(NamedTuple):
    """Answer of a rule to an event; without a change the record stays as stored."""

    reason: Reason
    change: Change | None = None
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Answer of `decide` to an event; no part of the answer is carried out yet.

    Attributes:
        record: The next record; the very same object without a change.
        reason: Why.
        effects: Builds to start and outcomes to publish.
        changed: Whether the record is to be stored.
    """

    record: DateRecord
    reason: Reason
    effects: tuple[Effect, ...] = ()
    changed: bool = True


def next_generation(record: DateRecord, trigger: Trigger, now: datetime, change: Change | None = None) -> Change:
    """Return *change* with the fields of an analysis date made ready for a new generation."""
    return replace(
        change or Change(),
        generation=record.generation + 1,
        attempt=0,
        own_from=0,
        trigger=trigger,
        mode=BuildMode.NORMAL,
        wake_at=now,
        lease=None,
        failure=None,
        requested_by=None,
        request_reason=None,
        request_id="",
        as_of=None,
    )


def start(record: DateRecord) -> tuple[StartBuild]:
    """Return the effect that has the analysis date claimed and built now."""
    return (StartBuild(analysis_date=record.analysis_date),)


def give_up(record: DateRecord, reason: Reason, failure: Failure, owner: str) -> Ruling:
    """Leave the end of the generation to the sweep: an attempt with a lost reply may have published, or still may."""
    lease = record.lease or Lease(owner=owner, until_at=failure.at, claimed_at=failure.at)
    return Ruling(reason, Change(lease=lease, wake_at=failure.at, failure=failure))


def fail(
    record: DateRecord, reason: Reason, because: FailedBecause, message: str, now: datetime, policy: Policy
) -> Ruling:
    """End the generation as failed; start another generation at once if the inputs changed during the attempt.

    Inputs changed in two cases. A person retracted a run of the inputs, and that run may have caused the failure. Or a
    completion arrived, and no missing processor holds back the build.
    """
    if lost_what_it_stood_on(record):
        return Ruling(Reason.RESCUE_FOLLOWS, next_generation(record, Trigger.RETRACTION, now), start(record))
    if record.counted - record.relied_on and not policy.holding_back(record, now):
        return Ruling(Reason.RESCUE_FOLLOWS, next_generation(record, Trigger.RESCUE, now), start(record))
    return end_failed(record, reason, because, message, now, policy)


def end_failed(
    record: DateRecord, reason: Reason, because: FailedBecause, message: str, now: datetime, policy: Policy
) -> Ruling:
    """End the generation as failed and publish the outcome."""
    failure = Failure(because=because, message=message, at=now)
    failed = replace(record, state=State.FAILED, failure=failure, lease=None)
    change = Change(lease=None, wake_at=_still_due(record, because, now, policy), failure=failure)
    return Ruling(reason, change, (PublishOutcome(record=failed, supersedes=None),))


def _still_due(record: DateRecord, because: FailedBecause, now: datetime, policy: Policy) -> datetime | None:
    """Return the next due instant of an analysis date that fails now; None where only a person can continue.

    An analysis date without a publication is built at the deadline: an attempt claimed before the deadline does not
    replace the build at the deadline, even if the attempt ended later. A publication without rows of some tables is
    upgraded until the cutoff. A failed upgrade is not repeated: the same rows would fail again. A cancelled analysis
    date waits for a person (ADR 0004).
    """
    if because is FailedBecause.CANCELLED:
        return None
    if record.result is not None and record.trigger is Trigger.UPGRADE:
        return None
    if record.result is not None:
        look_at = max(now, record.deadline_at)
        return look_at if awaited_tables(record, policy) and look_at < record.upgrade_cutoff_at else None
    claimed_before = record.lease is not None and record.lease.claimed_at < record.deadline_at
    return record.deadline_at if claimed_before else None
