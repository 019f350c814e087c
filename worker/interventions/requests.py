"""The one service through which people change an analysis date: replay, cancel, retract.

HTTP routes, the status page and commands hand the service an event. The service plans, refuses, writes the audit row,
applies the event, answers, and waits for the end of a generation. A request under an idempotency key takes effect once.

Guarantees: no change without an audit row; one text for each refusal; audit row and history bear the same clock. A
crash before the audit row changes nothing. A crash after the audit row leaves a row without a change, and the key taken
for `PENDING`. The same request under the same key bears the same `request_id` for a day, and by the id the state
machine recognises a replay or a retraction that took effect.
"""

import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

from statemachine.decide import Decision
from statemachine.events import CompletionRetracted, InterventionEvent, ReplayRequested
from statemachine.model import TERMINAL_STATES, DateRecord
from worker.calendar import Calendar
from worker.date_text import summary
from worker.errors import CorruptRecord
from worker.interventions.audit import Auditor
from worker.interventions.idempotency import IdempotentRequests, StoredResponse
from worker.interventions.retractions import identity_to_take_back
from worker.ports import Clock, RequestLog, StateStore

POLL_S = 0.2
Consent = Callable[[InterventionEvent, DateRecord, Decision], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class InterventionAnswer:
    """Answer to an intervention.

    Attributes:
        record: The record after the change; None for a repeat of an answered request under the same key.
        outcome: `applied`, `event` and `reason`. For a repeat of an answered request: the whole stored answer.
    """

    record: DateRecord | None
    outcome: Mapping[str, Any]

    @property
    def facts(self) -> dict[str, Any]:
        """Summary of the date with the outcome."""
        return {**(summary(self.record) if self.record else {}), **self.outcome}

    @property
    def generation(self) -> int:
        """Generation of the date after the change."""
        return int(self.record.generation if self.record else self.outcome["generation"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Interventions:
    """Plans and applies interventions.

    Attributes:
        store: Holds the records.
        auditor: Plans; applies after the audit row is written.
        requests: Remembers requests by key.
        replace_damaged: Sets an unreadable record aside and opens the analysis date again.
        calendar: Computes the league's day, part of a request id.
        clock: Clock of the changes.
        processors: Names of the pipeline's processors.
        publish_outcomes: Called after each change, for a process without a relay loop.
    """

    store: StateStore
    auditor: Auditor
    requests: RequestLog
    replace_damaged: Callable[[date, str], object]
    calendar: Calendar
    clock: Clock
    processors: Sequence[str]
    publish_outcomes: Callable[[], None]

    def request_id(self, key: str | None, caller: str, day: date) -> str:
        """Return the id of a request; under a key the same id for a day, so a repeat finds the change."""
        if key is None:
            return uuid.uuid4().hex
        today = self.calendar.league_day(self.clock.now())
        return uuid.uuid5(uuid.NAMESPACE_OID, f"{caller}/{key}/{day}/{today}").hex

    def plan(self, day: date, event: InterventionEvent) -> tuple[InterventionEvent, DateRecord, Decision]:
        """Return the event, the record before the event, and the decision; change no record.

        The returned event of a retraction bears the identity of the run.

        Args:
            day: The analysis date.
            event: A replay, a cancel or a retraction. The identity of a retraction may be a run's id, or empty for the
                run that counts.

        Raises:
            Refused: The event makes no sense in this state; the message names the next step.
            CorruptRecord: The record of the date is unreadable.
            Unavailable: The store does not answer.
        """
        event = self._with_run(day, event)
        return event, *self.auditor.plan(day, event)

    def ask(
        self,
        day: date,
        event: InterventionEvent,
        *,
        caller: str,
        key: str | None = None,
        consent: Consent | None = None,
    ) -> InterventionAnswer:
        """Apply the event to the date, once for each key.

        Args:
            day: The analysis date.
            event: As for `plan`; an event without a request id gets the id that belongs to caller, key and day.
            caller: Name of the sender. The same key of another caller stands for another request.
            key: Idempotency key.
            consent: Called with the plan before the audit row; False stops after the plan, as for a dry run.

        Raises:
            Refused: The event makes no sense in this state, or the key stands for another request.
            Unavailable: Store or warehouse does not answer. Without an audit row nothing was changed.
            Fatal: The warehouse refuses the audit row; nothing was changed.
        """
        if key is None:
            return self._act(day, event, caller, key, consent)
        acted: list[InterventionAnswer] = []

        def act() -> StoredResponse:
            acted.append(self._act(day, event, caller, key, consent))
            return StoredResponse(status=0, body=acted[0].facts)

        request = {"event": event.kind, "analysis_date": day.isoformat(), **_wanted(event)}
        stored = IdempotentRequests(self.requests).run(key, caller, request, act)
        return acted[0] if acted else InterventionAnswer(record=None, outcome=stored.body)

    def _act(
        self, day: date, event: InterventionEvent, caller: str, key: str | None, consent: Consent | None
    ) -> InterventionAnswer:
        event = replace(event, request_id=event.request_id or self.request_id(key, caller, day))
        if consent is not None:
            event, before, planned = self.plan(day, event)
            if not consent(event, before, planned):
                return _answer(planned, event, applied=False)
        else:
            self._replace_if_damaged(day)
            event = self._with_run(day, event)
        decision = self.auditor.apply(day, event, idempotency_key=key)
        self.publish_outcomes()
        applied = decision.changed or not isinstance(event, CompletionRetracted)
        return _answer(decision, event, applied=applied)

    def _replace_if_damaged(self, day: date) -> None:
        try:
            self.store.load(day)
        except CorruptRecord as exc:
            self.replace_damaged(day, str(exc))

    def _with_run(self, day: date, event: InterventionEvent) -> InterventionEvent:
        """Return a retraction with the identity of the run that the retraction is about."""
        if not isinstance(event, CompletionRetracted):
            return event
        record = self.store.load(day)
        identity = identity_to_take_back(day, record, event.processor, event.identity or None, self.processors)
        return replace(event, identity=identity)

    def wait(self, day: date, generation: int, wait_s: float) -> DateRecord | None:
        """Wait for the end of the generation or of a later generation; return None when the time is up.

        Raises:
            Unavailable: The store does not answer.
        """
        pause = threading.Event()
        for _ in range(max(1, round(wait_s / POLL_S))):
            record = self.store.load(day)
            if record is not None and has_ended(record, generation):
                return record
            pause.wait(POLL_S)
        return None


def has_ended(record: DateRecord, generation: int) -> bool:
    """Return whether the generation, or a later generation, has ended."""
    return record.generation >= generation and record.state in TERMINAL_STATES


def _wanted(event: InterventionEvent) -> dict[str, Any]:
    """Return what the request wants as JSON values; equal for the repeats of a request.

    A limit that the request does not set is left out, so that a release with a new limit recognises older requests.
    """
    as_of = event.as_of if isinstance(event, ReplayRequested) else None
    limits = {} if as_of is None else {"as_of": as_of.isoformat()}
    no_wishes = {"actor", "request_id", "as_of"}
    return {**{name: value for name, value in asdict(event).items() if name not in no_wishes}, **limits}


def _answer(decision: Decision, event: InterventionEvent, *, applied: bool) -> InterventionAnswer:
    outcome = {"applied": applied, "event": event.kind.value, "reason": decision.reason.value}
    return InterventionAnswer(record=decision.record, outcome=outcome)
