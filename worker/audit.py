"""What people asked for, written to the replay audit before it takes effect.

Over HTTP a worker is asked, and it has the warehouse at hand: `Auditor` writes the row, then applies the intervention.
A command may not be able to reach the warehouse at all (a DuckDB file has one owner, the worker). A replay takes effect
when its build publishes; so before a build for a replay `ReplayAudit` looks for the row, writes it where there is none,
and an attempt that can do neither does not build. A request has an id, so the two never write it twice.

The row says what was asked and what the state machine answered to the plan; the date's history says what happened. A
row without its change in the history is an intervention that another change overtook, or a worker that died between
the two.
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any, NamedTuple

import structlog

from statemachine.decide import Decision
from statemachine.events import CancelRequested, CompletionRetracted, EventKind, ReplayRequested
from statemachine.model import RETRACTIONS_MAX, DateRecord, Retraction
from statemachine.reasons import Reason
from worker.engine import Engine
from worker.errors import Refused
from worker.features.model import Statement
from worker.features.records import replay_row
from worker.ports import Clock, StateStore, Warehouse

log = structlog.get_logger(__name__)

Intervention = ReplayRequested | CancelRequested | CompletionRetracted
CANCEL_MODE = "cancel"
RETRACT_MODE = "retract"


def _log(row: Mapping[str, Any]) -> None:
    log.info("audit", audit=True, **{name: str(value) for name, value in row.items() if value is not None})


class Auditor:
    """Applies interventions, audit first."""

    def __init__(
        self,
        *,
        engine: Engine,
        log_replay: Callable[[Mapping[str, Any]], None],
        clock: Clock,
        tell: Callable[[Mapping[str, Any]], None] = _log,
    ) -> None:
        """Wire it.

        Args:
            engine: Plans and applies.
            log_replay: `Warehouse.log_replay`.
            clock: The shell's clock.
            tell: Told of each row that was written; the log by default.
        """
        self._tell = tell
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
        if not planned.changed and planned.reason is not Reason.DUPLICATE:
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
        if planned.reason is Reason.DUPLICATE:
            # The very same request took effect, and its answer was lost: it is audited already.
            return planned
        row = replay_row(
            analysis_date,
            requested_at=self._clock.now(),
            requested_by=event.actor,
            reason=event.reason,
            mode=_mode(event),
            previous_state=before.state.value if before.version else None,
            previous_generation=before.published_generation,
            decision=planned.reason.value,
            request_id=None if isinstance(event, CancelRequested) else event.request_id,
            idempotency_key=idempotency_key,
            retraction=taken_back(planned.record, event) if isinstance(event, CompletionRetracted) else None,
        )
        self._log_replay(row)
        self._tell(row)
        decision = self._engine.apply(analysis_date, event, actor=event.actor)
        if not decision.changed and decision.reason is not Reason.DUPLICATE:
            raise Refused(refusal(decision.record, decision.reason))
        return decision


def _mode(event: Intervention) -> str:
    match event:
        case ReplayRequested():
            return event.mode.value
        case CancelRequested():
            return CANCEL_MODE
        case CompletionRetracted():
            return RETRACT_MODE


def taken_back(record: DateRecord, event: CompletionRetracted) -> Retraction | None:
    """Find what the event took back; None where it did not."""
    about = (event.processor, event.identity)
    return next((one for one in record.retractions if (one.processor, one.identity) == about), None)


def refusal(before: DateRecord, reason: Reason) -> str:
    """Say why an intervention is refused, and what to do instead."""
    day = before.analysis_date.isoformat()
    hints: dict[str, str] = {
        Reason.REPLAY_REFUSED_RUNNING: "a build is running; wait for it, or take over with force",
        Reason.CANCEL_REFUSED: f"it is {before.state}, there is nothing to stop; to build it again, replay it",
        Reason.RETRACTION_REFUSED: "that run is not what counts now, the date was cancelled, or "
        f"{RETRACTIONS_MAX} runs were taken back already; see: mlfs explain {day}",
    }
    return f"{day}: {hints.get(reason, reason.value)}"


class _Request(NamedTuple):
    at: datetime
    previous_state: str | None


class ReplayAudit:
    """Sees to it that a replay has its row before it is built."""

    def __init__(self, store: StateStore, warehouse: Warehouse) -> None:
        self._store = store
        self._warehouse = warehouse

    def write(self, record: DateRecord) -> None:
        """Write the row of the replay that *record* is claimed for, unless it is there.

        Raises:
            Unavailable: Store or warehouse could not serve; nothing may be built yet.
            Fatal: The audit table cannot be read or written.
        """
        requested_by = record.requested_by or "unknown"
        request = self._request(record)
        request_id = record.request_id or f"{requested_by}@{request.at.isoformat()}"
        asked = {"analysis_date": record.analysis_date, "request_id": request_id}
        known = self._warehouse.query(
            Statement(name="replay_audited", sql=self._warehouse.pipeline.text("replay_audited"), parameters=asked)
        )
        if known[0]["row_count"]:
            return
        committed = self._warehouse.read_ledger(record.analysis_date)
        self._warehouse.log_replay(
            replay_row(
                record.analysis_date,
                requested_at=request.at,
                requested_by=requested_by,
                reason=record.request_reason or "",
                mode=record.mode.value,
                previous_state=request.previous_state,
                previous_generation=committed.generation if committed is not None else 0,
                decision=Reason.REPLAY_ACCEPTED.value,
                request_id=request_id,
            )
        )

    def _request(self, record: DateRecord) -> _Request:
        """Find the request in the history; where that is lost, the claim stands in for it."""
        for entry in reversed(self._store.history(record.analysis_date)):
            if entry.event == EventKind.REPLAY_REQUESTED and entry.reason == Reason.REPLAY_ACCEPTED:
                return _Request(entry.at, entry.before or None)
        return _Request(record.lease.claimed_at if record.lease is not None else record.opened_at, None)
