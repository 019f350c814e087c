"""What people asked for, written to the replay audit before it takes effect.

One door for every request, from a command, over HTTP and from the page: the record follows the ledger, the plan is
made, the row is written, the event is applied. A crash after the row leaves a row without a change in the date's
history; so does a change of the date between the plan and the event. A change without a row is impossible.

What counts as a reason that a person gives: text that a reader can see. Pure.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import structlog

from statemachine.decide import Decision
from statemachine.events import BuildCommitted, CancelRequested, CompletionRetracted, InterventionEvent, ReplayRequested
from statemachine.model import RETRACTIONS_MAX, DateRecord, Retraction
from statemachine.reasons import Reason
from worker.engine import Engine
from worker.errors import Refused
from worker.features.records import replay_row
from worker.ports import Clock

log = structlog.get_logger(__name__)

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
        unreported: Callable[[date], BuildCommitted | None] = lambda _day: None,
        tell: Callable[[Mapping[str, Any]], None] = _log,
    ) -> None:
        """Wire it.

        Args:
            engine: Plans and applies.
            log_replay: `Warehouse.log_replay`.
            clock: The clock of the changes; the row bears its time.
            unreported: `Repair.unreported`: what the record has to follow before a person's request is decided.
            tell: Told of each row that was written; the log by default.
        """
        self._unreported = unreported
        self._tell = tell
        self._engine = engine
        self._log_replay = log_replay
        self._clock = clock

    def plan(self, analysis_date: date, event: InterventionEvent) -> tuple[DateRecord, Decision]:
        """Return the record that the intervention would meet, and what would become of it. Changes nothing.

        Raises:
            Refused: It makes no sense in this state; says what to do instead.
            Unavailable: The store does not answer.
        """
        return self._plan(analysis_date, event, self._unreported(analysis_date))

    def _plan(
        self, analysis_date: date, event: InterventionEvent, unreported: BuildCommitted | None
    ) -> tuple[DateRecord, Decision]:
        before, planned = self._engine.preview(analysis_date, event, after=unreported)
        if not planned.changed and planned.reason is not Reason.DUPLICATE:
            raise Refused(refusal(before, planned.reason))
        return before, planned

    def followed(self, record: DateRecord) -> DateRecord:
        """Let the record follow a commit in the ledger that the record does not know; return the record as it is then.

        Raises:
            Unavailable: The store does not answer.
        """
        unreported = self._unreported(record.analysis_date)
        return record if unreported is None else self._engine.apply(record.analysis_date, unreported).record

    def apply(self, analysis_date: date, event: InterventionEvent, *, idempotency_key: str | None = None) -> Decision:
        """Write the audit row, then apply the event.

        Raises:
            Refused: It makes no sense in this state, or no longer does; the date is as it was.
            Unavailable: The store or the warehouse does not answer. Without an audit row nothing was changed.
            Fatal: The warehouse refuses the row; nothing was changed.
        """
        unreported = self._unreported(analysis_date)
        before, planned = self._plan(analysis_date, event, unreported)
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
            request_id=event.request_id or None,
            idempotency_key=idempotency_key,
            retraction=taken_back(planned.record, event) if isinstance(event, CompletionRetracted) else None,
        )
        self._log_replay(row)
        self._tell(row)
        if unreported is not None:
            self._engine.apply(analysis_date, unreported)
        decision = self._engine.apply(analysis_date, event, actor=event.actor)
        if not decision.changed and decision.reason is not Reason.DUPLICATE:
            raise Refused(refusal(decision.record, decision.reason))
        return decision


def _mode(event: InterventionEvent) -> str:
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
        Reason.REPLAY_REFUSED_RUNNING: f"a build is running; wait for it (mlfs status {day}) or take over with --force "
        "(over HTTP: force)",
        Reason.CANCEL_REFUSED: f"it is {before.state}, there is nothing to stop; to build it again: "
        f"mlfs replay {day} --reason '…'",
        Reason.RETRACTION_REFUSED: "that run is not what counts now, the date was cancelled, or "
        f"{RETRACTIONS_MAX} runs were taken back already; see: mlfs explain {day}",
    }
    return f"{day}: {hints.get(reason, reason.value)}"


REASON_CHARS_MAX = 500

# White space, controls, and what Unicode shows as nothing: format characters, fillers, variation selectors, joiners.
# Written as characters, since the readers of the API's description have no common escape beyond U+FFFF.
_BLANK = (
    "\x00-\x1f\x7f-\x9f\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u115f-\u1160\u17b4-\u17b5"
    "\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
SEEN_PATTERN = rf"[^\s{_BLANK}]"


def read_reason(text: str) -> str:
    """Return a reason without white space around it.

    Raises:
        ValueError: The text is too long, cannot be stored, or shows nothing.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be UTF-8") from None
    if len(text) > REASON_CHARS_MAX or not re.search(SEEN_PATTERN, text):
        raise ValueError(f"must be 1 to {REASON_CHARS_MAX} characters, one of them visible")
    return text.strip()
