"""The only door through which an analysis date changes.

`decide` is total and pure: every event in every state gets a decision; one that no longer matters returns the record
unchanged, with the reason. What each kind of event means stands in the module of whoever caused it: a processor
(`completions`), an instant (`timers`), a worker (`builds`), a person (`interventions`).
"""

from datetime import datetime
from typing import assert_never

from statemachine.builds import build_failed, claimed, committed, renewed
from statemachine.completions import completion_received
from statemachine.decision import Decision
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
from statemachine.interventions import asked
from statemachine.model import DateRecord, Policy
from statemachine.timers import opened, timer_fired

__all__ = ["Decision", "decide"]


def decide(record: DateRecord, event: Event, *, now: datetime, policy: Policy) -> Decision:
    """Say what *event* does to *record*, without doing it.

    Args:
        record: The record as last stored; version 0 for a date seen for the first time.
        event: What happened to this date.
        now: Instant of the decision, aware, UTC. The core reads no clock.
        policy: The pipeline's rules.

    Returns:
        The next record, the reason, and the effects to store with it in one commit.
    """
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
        case ReplayRequested() | CancelRequested() | CompletionRetracted():
            return asked(record, event, now, policy)
        case _:
            assert_never(event)
