"""A person's intervention: planned, written into the audit table, then done. In that order, whoever asks for it.

The row says what was asked and what the state machine answered to the plan; the date's history says what happened. A
row without its change in the history is an intervention that another change overtook, or a worker that died between
the two.
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

import structlog

from statemachine.decide import Decision
from statemachine.events import CancelRequested, ReplayRequested
from statemachine.model import DateRecord
from statemachine.reasons import Reason
from worker.engine import Engine
from worker.errors import Refused
from worker.ports import Clock

log = structlog.get_logger(__name__)

Intervention = ReplayRequested | CancelRequested


class Auditor:
    """Applies interventions, audit first."""

    def __init__(self, *, engine: Engine, log_replay: Callable[[Mapping[str, Any]], None], clock: Clock) -> None:
        """Wire it.

        Args:
            engine: Plans and applies.
            log_replay: `Warehouse.log_replay`.
            clock: The shell's clock.
        """
        self._engine = engine
        self._log_replay = log_replay
        self._clock = clock

    def plan(self, analysis_date: date, event: Intervention) -> tuple[DateRecord, Decision]:
        """Say what the intervention would do, without doing it.

        Raises:
            Refused: It makes no sense in this state; says what to do instead.
            Unavailable: The store does not answer.
        """
        before, planned = self._engine.preview(analysis_date, event)
        if not planned.changed:
            raise Refused(refusal(before, planned.reason))
        return before, planned

    def apply(self, analysis_date: date, event: Intervention, *, idempotency_key: str | None = None) -> Decision:
        """Write the audit row, then apply the event.

        Raises:
            Refused: It makes no sense in this state, or no longer does; the date is as it was.
            Unavailable: The store or the warehouse does not answer. Without an audit row nothing was changed.
            Fatal: The warehouse refuses the row; nothing was changed.
        """
        before, planned = self.plan(analysis_date, event)
        row = audit_row(before, planned, event, at=self._clock.now(), idempotency_key=idempotency_key)
        self._log_replay(row)
        log.info("audit", audit=True, **{name: str(value) for name, value in row.items() if value is not None})
        decision = self._engine.apply(analysis_date, event, actor=event.actor)
        if not decision.changed:
            raise Refused(refusal(decision.record, decision.reason))
        return decision


def audit_row(
    before: DateRecord, planned: Decision, event: Intervention, *, at: datetime, idempotency_key: str | None
) -> dict[str, Any]:
    """Give the row of `replay_audit`: who, why, on what, and what was decided."""
    return {
        "analysis_date": before.analysis_date,
        "requested_at": at,
        "requested_by": event.actor,
        "reason": event.reason,
        "mode": event.mode.value if isinstance(event, ReplayRequested) else "cancel",
        "idempotency_key": idempotency_key,
        "previous_state": before.state.value if before.version else None,
        "previous_generation": before.generation if before.version else None,
        "decision": planned.reason.value,
    }


def refusal(before: DateRecord, reason: Reason) -> str:
    """Say why an intervention is refused, and what to do instead."""
    day = before.analysis_date.isoformat()
    hints: dict[str, str] = {
        Reason.REPLAY_REFUSED_RUNNING: "a build is running; wait for it, or take over with force",
        Reason.CANCEL_REFUSED: f"it is {before.state}, there is nothing to stop; to build it again, replay it",
    }
    return f"{day}: {hints.get(reason, reason.value)}"
