"""The sentence of each decision, for the history, the logs and the screen of the demo. Pure."""

from datetime import datetime

from statemachine.decide import Decision
from statemachine.events import (
    BuildClaimed,
    BuildCommitted,
    BuildFailed,
    CancelRequested,
    CompletionReceived,
    CompletionRetracted,
    DateOpened,
    Event,
    InterventionEvent,
    LeaseRenewed,
    ReplayRequested,
    TimerFired,
)
from statemachine.evidence import awaited_tables, replaces_doubted
from statemachine.model import BuildMode, CompletionStatus, DateRecord, Policy, State
from statemachine.reasons import Reason
from worker.finding_text import short


def narrate(event: Event, before: DateRecord, decision: Decision, policy: Policy) -> str:
    """Return the sentence for the event and the decision."""
    after = decision.record
    match event:
        case DateOpened():
            return f"opened; deadline {after.deadline_at:%Y-%m-%d %H:%M}Z"
        case CompletionReceived(completion=completion):
            rows = "" if completion.row_count is None else f", {completion.row_count} rows"
            said = f"{completion.processor} reported {completion.status}{rows}"
            if decision.reason is Reason.UPGRADE_STARTED and replaces_doubted(before, completion):
                return f"{said}; a critical finding had named its earlier run"
            return f"{said}: {completion.error}" if completion.error else said
        case TimerFired():
            return _timer(before, decision, policy)
        case BuildClaimed(worker=worker):
            return f"{worker} claimed generation {after.generation}, attempt {after.attempt}"
        case LeaseRenewed(worker=worker):
            return f"{worker} renewed its lease"
        case BuildCommitted(result=result):
            said = (
                f"generation {result.generation} published as {result.state}: {result.row_count} rows, "
                f"score {result.quality_score:.1f}, fallback {result.fallback_rate:.1%}, {short(result.findings)}"
            )
            follows = decision.reason is Reason.COMMITTED_REPLAY_FOLLOWS
            return f"{said}; the requested build follows as generation {after.generation}" if follows else said
        case BuildFailed(failure=failure, message=message):
            return f"attempt {before.attempt} ended as {failure}: {message}{_again(after, policy)}"
        case ReplayRequested() | CancelRequested() | CompletionRetracted():
            return _asked(event, decision)


def _asked(event: InterventionEvent, decision: Decision) -> str:
    match event:
        case ReplayRequested(actor=actor, reason=reason, mode=mode, as_of=as_of):
            return f"{actor} asked for a replay ({replay_text(mode, as_of)}): {reason}"
        case CancelRequested(actor=actor, reason=reason):
            return f"{actor} cancelled: {reason}"
        case CompletionRetracted():
            return _retraction(event, decision)


def replay_text(mode: BuildMode, as_of: datetime | None) -> str:
    """Return what the build of a replay may read: `normal, as of 2024-12-15 22:00:00Z`; *as_of* in UTC."""
    return mode.value if as_of is None else f"{mode}, as of {as_of:%Y-%m-%d %H:%M:%S}Z"


def _retraction(event: CompletionRetracted, decision: Decision) -> str:
    again = ", as the audit log shows" if event.taken_back_at is not None else ""
    said = f"{event.actor} took back {event.processor} ({event.identity}){again}: {event.reason}"
    follows = {
        Reason.WAITS_AGAIN: "it waits for another run",
        Reason.FALLBACK_FOLLOWS: "the deadline has passed, the date is built without that table",
        Reason.REBUILD_STARTED: "the date is built again without that table",
    }.get(decision.reason)
    return f"{said}; {follows}" if follows else said


def _again(after: DateRecord, policy: Policy) -> str:
    """Return the next automatic step after a failure; empty if the analysis date waits for a person."""
    if after.state is not State.FAILED or after.wake_at is None:
        return ""
    if after.result is not None:
        return f"; rows of {', '.join(sorted(awaited_tables(after, policy)))} still upgrade the publication"
    return f"; built again at the deadline, {after.wake_at:%Y-%m-%d %H:%M}Z"


def _timer(before: DateRecord, decision: Decision, policy: Policy) -> str:
    """Return the sentence for a fired timer; the state before the event tells the timers apart."""
    after = decision.record
    found = sorted(
        name
        for name, completion in after.completions.items()
        if completion.status is CompletionStatus.FOUND and name not in before.completions
    )
    if after.failure is not None and after.failure is not before.failure:
        return f"{after.failure.message}{_again(after, policy)}"
    if decision.reason is Reason.UPGRADE_STARTED:
        without_event = f", without their event: {', '.join(found)}" if found else ""
        return f"the tables hold rows that were missing at the build{without_event}"
    if before.state in {State.WAITING, State.FAILED} and after.generation > before.generation:
        text = f"deadline {before.deadline_at:%Y-%m-%d %H:%M}Z passed"
        if found:
            text += f"; no event, but rows found: {', '.join(found)}"
        if decision.reason is Reason.FOUND_ALL:
            return text
        only = "" if policy.holding_back(after, before.deadline_at) else "only optional processors are missing, "
        return f"{text}; {only}missing rows fall back to Phase 3"
    return f"{decision.reason.replace('_', ' ')} while {before.state}"
