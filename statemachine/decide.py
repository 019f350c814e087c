"""The only function that changes an analysis date.

Model: the rules of an event stand in the module of the event's source: a processor (`completions`), an instant
(`timers`), a worker (`builds`), a person (`interventions`). A rule returns the reason, the change and the effects.
`decide` reads the next state from the transition table and makes the next record.

Guarantees: `decide` is total and pure. Every event in every state gets a decision; an event without effect returns the
record unchanged, with the reason. A reason missing from the table raises an exception.
"""

from datetime import datetime
from typing import assert_never

from statemachine.builds import build_failed, claimed, committed, renewed
from statemachine.completions import completion_received
from statemachine.decision import Decision, Ruling
from statemachine.events import (
    BuildClaimed,
    BuildCommitted,
    BuildFailed,
    CancelRequested,
    CompletionReceived,
    CompletionRetracted,
    DateOpened,
    Event,
    LeaseRenewed,
    ReplayRequested,
    TimerFired,
)
from statemachine.interventions import cancel, replay, retract
from statemachine.model import DateRecord, Policy
from statemachine.reasons import Reason
from statemachine.table import TRANSITIONS
from statemachine.timers import opened, timer_fired

__all__ = ["Decision", "decide"]


def decide(record: DateRecord, event: Event, *, now: datetime, policy: Policy) -> Decision:
    """Return next record, reason and effects of *event* on *record* (version 0 for a new analysis date) at *now*."""
    reason, change, effects = _rule(record, event, now, policy)
    state = TRANSITIONS[record.state][event.kind][reason]
    if change is not None:
        # The store extends the lease of the stored record, which keeps the version.
        version = record.version if reason is Reason.LEASE_RENEWED else record.version + 1
        after = record.with_change(change, state=state, version=version)
        return Decision(record=after, reason=reason, effects=effects)
    if state is not record.state:
        raise AssertionError(f"{record.state}/{event.kind}/{reason} leads to {state}, and no field changes")
    return Decision(record=record, reason=reason, effects=effects, changed=False)


def _rule(record: DateRecord, event: Event, now: datetime, policy: Policy) -> Ruling:  # noqa: C901 - one case each
    match event:
        case DateOpened():
            return opened(record)
        case CompletionReceived():
            return completion_received(record, event.completion, now, policy)
        case TimerFired():
            return timer_fired(record, event, now, policy)
        case BuildClaimed():
            return claimed(record, event, now, policy)
        case LeaseRenewed():
            return renewed(record, event, now, policy)
        case BuildCommitted():
            return committed(record, event, now, policy)
        case BuildFailed():
            return build_failed(record, event, now, policy)
        case ReplayRequested():
            return replay(record, event, now)
        case CancelRequested():
            return cancel(record, event, now, policy)
        case CompletionRetracted():
            return retract(record, event, now, policy)
        case _:
            assert_never(event)
