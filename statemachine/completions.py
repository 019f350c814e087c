"""Rules of a processor's report, by the state of the analysis date."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import assert_never

from statemachine.decision import Change, Ruling, next_generation, start
from statemachine.evidence import built_without, missing_from_result, replaces_doubted
from statemachine.model import (
    Completion,
    CompletionStatus,
    DateRecord,
    FailedBecause,
    OnRerun,
    OnUpstreamFailure,
    Policy,
    State,
    Trigger,
)
from statemachine.reasons import Reason


def completion_received(record: DateRecord, arrived: Completion, now: datetime, policy: Policy) -> Ruling:
    """Keep a report that outranks the known report of the processor, and start a generation where due."""
    no_news = _no_news(record, arrived)
    if no_news is not None:
        return Ruling(no_news)
    kept = MappingProxyType({**record.completions, arrived.processor: arrived})
    if arrived.status is CompletionStatus.FAILED and record.state is not State.WAITING:
        return Ruling(Reason.FAILURE_RECORDED, Change(completions=kept))
    match record.state:
        case State.WAITING:
            return _completion_while_waiting(record, kept, arrived, now, policy)
        case State.READY | State.RUNNING:
            return Ruling(Reason.RECORDED, Change(completions=kept))
        case State.DEGRADED if arrived.processor in missing_from_result(record, policy):
            return _upgrade(record, kept, now)
        case State.DEGRADED if replaces_doubted(record, arrived):
            return _upgrade(record, kept, now)
        case State.DONE | State.DEGRADED:
            return _completion_after_publication(record, kept, arrived, now, policy)
        case State.FAILED:
            return _completion_after_failed(record, kept, now, policy)
        case _:
            assert_never(record.state)


def _no_news(record: DateRecord, arrived: Completion) -> Reason | None:
    """Return the reason for which the report changes no record; None for a report with news."""
    if record.withdrawn(arrived):
        return Reason.RUN_RETRACTED
    known = record.completions.get(arrived.processor)
    if known is None:
        return None
    if (known.identity, known.status) == (arrived.identity, arrived.status):
        return Reason.DUPLICATE
    return Reason.OUTDATED if known.precedence >= arrived.precedence else None


def _completion_while_waiting(
    record: DateRecord, kept: Mapping[str, Completion], arrived: Completion, now: datetime, policy: Policy
) -> Ruling:
    change = Change(completions=kept)
    if not policy.missing(replace(record, completions=kept)):
        return Ruling(Reason.JOIN_COMPLETE, next_generation(record, Trigger.JOIN, now, change), start(record))
    all_reported = all(name in kept for name in policy.processors)
    if all_reported and policy.on_upstream_failure is OnUpstreamFailure.FALLBACK_NOW:
        change = next_generation(record, Trigger.UPSTREAM_FAILED, now, change)
        return Ruling(Reason.UPSTREAM_FAILED, change, start(record))
    failed = arrived.status is CompletionStatus.FAILED
    reason = Reason.FAILURE_RECORDED if failed else Reason.RECORDED
    return Ruling(reason, replace(change, wake_at=record.deadline_at))


def _completion_after_publication(
    record: DateRecord, kept: Mapping[str, Completion], arrived: Completion, now: datetime, policy: Policy
) -> Ruling:
    known = record.completions.get(arrived.processor)
    if arrived.processor in record.ignored:
        # The publication holds rows of a retracted run, or no rows of this processor: the new run replaces both.
        return _upgrade(record, kept, now)
    confirms = known is None or known.status is CompletionStatus.FOUND
    if confirms and not built_without(record, arrived.processor, policy):
        # The build had found rows in the table; the event only confirms the rows.
        return Ruling(Reason.RECORDED, Change(completions=kept))
    # The published build used an earlier run of the processor, or no run of an optional processor.
    change = Change(completions=kept)
    if policy.rerun is OnRerun.HOLD:
        return Ruling(Reason.RERUN_HELD, change)
    return Ruling(Reason.RERUN_STARTED, next_generation(record, Trigger.RERUN, now, change), start(record))


def _upgrade(record: DateRecord, kept: Mapping[str, Completion], now: datetime) -> Ruling:
    """Start a generation with the missing rows until the cutoff; afterwards only record the report."""
    change = Change(completions=kept)
    if now >= record.upgrade_cutoff_at:
        return Ruling(Reason.UPGRADE_TOO_LATE, change)
    return Ruling(Reason.UPGRADE_STARTED, next_generation(record, Trigger.UPGRADE, now, change), start(record))


def _completion_after_failed(
    record: DateRecord, kept: Mapping[str, Completion], now: datetime, policy: Policy
) -> Ruling:
    change = Change(completions=kept)
    # A cancel by a person holds until a person replays: data known to be bad must not be published. ADR 0004.
    cancelled = record.failure is not None and record.failure.because == FailedBecause.CANCELLED
    if policy.holding_back(replace(record, completions=kept), now) or cancelled:
        return Ruling(Reason.RECORDED, change)
    return Ruling(Reason.RESCUE_STARTED, next_generation(record, Trigger.RESCUE, now, change), start(record))
