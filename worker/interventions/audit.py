"""Interventions of people, written to the replay audit before the event is applied; the texts of all refusals.

The record follows the ledger, the plan is made, the audit row is written, the event is applied. A crash after the row
leaves a row without a change in the history of the date; a change of the date between plan and event leaves the same. A
change without a row is impossible.

The last part checks texts that people give: a reason and a name must show at least one character. Pure.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

import structlog

from statemachine.decide import Decision
from statemachine.events import BuildCommitted, CancelRequested, CompletionRetracted, InterventionEvent, ReplayRequested
from statemachine.invariants import YEARS
from statemachine.model import RETRACTIONS_MAX, BuildMode, DateRecord, Retraction, State
from statemachine.reasons import Reason
from worker.engine import Engine
from worker.errors import Refused
from worker.features.generations import read_instant
from worker.features.records import replay_row
from worker.ports import Clock

log = structlog.get_logger(__name__)

CANCEL_MODE = "cancel"
RETRACT_MODE = "retract"


def log_row(row: Mapping[str, Any]) -> None:
    """Write a row of the audit to the log."""
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
        log_row: Callable[[Mapping[str, Any]], None] = log_row,
    ) -> None:
        """Wire the auditor.

        Args:
            engine: Plans and applies.
            log_replay: `Warehouse.log_replay`.
            clock: Clock of the changes; the audit row bears the same time.
            unreported: `Repair.unreported`: the commit that the record has to follow before the request is decided.
            log_row: Called with each row after the row was written; writes the row to the log by default.
        """
        self._unreported = unreported
        self._log_row = log_row
        self._engine = engine
        self._log_replay = log_replay
        self._clock = clock

    def plan(self, analysis_date: date, event: InterventionEvent) -> tuple[DateRecord, Decision]:
        """Return the record that the intervention would meet, and the decision. Changes nothing.

        Raises:
            Refused: The intervention makes no sense in this state; the message names the next step.
            Unavailable: The store does not answer.
        """
        return self._plan(analysis_date, event, self._unreported(analysis_date))

    def _plan(
        self, analysis_date: date, event: InterventionEvent, unreported: BuildCommitted | None
    ) -> tuple[DateRecord, Decision]:
        before, planned = self._engine.preview(analysis_date, event, after=unreported)
        _refuse(before, planned, event)
        return before, planned

    def followed(self, record: DateRecord) -> DateRecord:
        """Apply a commit of the ledger unknown to the record; return the record afterwards.

        Raises:
            Unavailable: The store does not answer.
        """
        unreported = self._unreported(record.analysis_date)
        return record if unreported is None else self._engine.apply(record.analysis_date, unreported).record

    def apply(self, analysis_date: date, event: InterventionEvent, *, idempotency_key: str | None = None) -> Decision:
        """Write the audit row, then apply the event.

        Raises:
            Refused: The intervention makes no sense in this state; the date is unchanged.
            Unavailable: The store or the warehouse does not answer. Without an audit row nothing was changed.
            Fatal: The warehouse refuses the row; nothing was changed.
        """
        unreported = self._unreported(analysis_date)
        before, planned = self._plan(analysis_date, event, unreported)
        if planned.reason is Reason.DUPLICATE:
            # The same request took effect and the answer was lost: the audit has the row already.
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
            as_of=event.as_of if isinstance(event, ReplayRequested) else None,
        )
        self._log_replay(row)
        self._log_row(row)
        if unreported is not None:
            self._engine.apply(analysis_date, unreported)
        decision = self._engine.apply(analysis_date, event, actor=event.actor)
        _refuse(decision.record, decision, event)
        return decision


def _mode(event: InterventionEvent) -> str:
    match event:
        case ReplayRequested():
            return event.mode.value
        case CancelRequested():
            return CANCEL_MODE
        case CompletionRetracted():
            return RETRACT_MODE


def taken_back(record: DateRecord, event: CompletionRetracted) -> Retraction:
    """Return the retraction of the event's run; of a repeated request the retraction that the request made before."""
    about = (event.processor, event.identity)
    same_run = [known for known in record.retractions if (known.processor, known.identity) == about]
    return (same_run or [known for known in record.retractions if known.request_id == event.request_id])[0]


def why_refused(before: DateRecord, decision: Decision, event: InterventionEvent) -> str | None:
    """Return why the intervention is refused, with the next step; None for an intervention that takes effect.

    Args:
        before: The record that the intervention meets.
        decision: The decision on the intervention.
        event: The intervention.
    """
    day = before.analysis_date.isoformat()
    if decision.reason is Reason.DUPLICATE:
        return None
    if isinstance(event, ReplayRequested) and not event.take_over:
        copy = copy_over_done(day, event.mode, before.state)
        if copy is not None:
            return copy
    if decision.changed:
        return None
    hints: dict[str, str] = {
        Reason.REPLAY_REFUSED_RUNNING: f"{day}: a build is running; wait for it (mlfs status {day}) "
        "or take over with --force (over HTTP: force)",
        Reason.CANCEL_REFUSED: f"{day}: it is {before.state}, there is nothing to stop; to build it again: "
        f"mlfs replay {day} --reason '…'",
        Reason.RETRACTION_REFUSED: f"{day}: that run is not what counts now, the date was cancelled, or "
        f"{RETRACTIONS_MAX} runs were taken back already; see: mlfs explain {day}",
    }
    return hints.get(decision.reason, f"{day}: {decision.reason}")


def copy_over_done(day: str, mode: BuildMode, state: str | None) -> str | None:
    """Return why yesterday's rows may not replace the rows of a complete build; None where the copy replaces none."""
    if mode is not BuildMode.YESTERDAY or state != State.DONE:
        return None
    return (
        f"{day} is done: yesterday's rows would replace better ones; to do it all the same: "
        f"mlfs replay {day} --source yesterday --force --reason '…'"
    )


def _refuse(before: DateRecord, decision: Decision, event: InterventionEvent) -> None:
    if why := why_refused(before, decision, event):
        raise Refused(why)


def read_as_of(text: str) -> datetime:
    """Return the instant up to which a build reads upstream rows, in UTC, from ISO 8601 with a zone.

    Raises:
        Refused: The text is not an instant, has no zone, or lies outside the years that a record may hold.
    """
    instant = read_instant(text)
    if not YEARS[0] <= instant.year <= YEARS[1]:
        raise Refused(f"{text} is not in the years {YEARS[0]} to {YEARS[1]}")
    return instant


REASON_CHARS_MAX = 500

# White space, controls, and what Unicode shows as nothing: format characters, fillers, variation selectors, joiners.
# Written as characters, since the readers of the API's description have no common escape beyond U+FFFF.
_BLANK = (
    "\x00-\x1f\x7f-\x9f\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u115f-\u1160\u17b4-\u17b5"
    "\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
SEEN_PATTERN = rf"[^\s{_BLANK}]"


def read_reason(text: str, chars_max: int = REASON_CHARS_MAX) -> str:
    """Return a reason, or another text of a person, without white space around the text.

    Raises:
        ValueError: The text is too long, cannot be stored, or shows no character.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be UTF-8") from None
    if len(text) > chars_max or not re.search(SEEN_PATTERN, text):
        raise ValueError(f"must be 1 to {chars_max} characters, one of them visible")
    return text.strip()
