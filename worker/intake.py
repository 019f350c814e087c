"""One delivery in, one verdict out. Never raises, never builds: parse, one commit, acknowledge.

A message is acknowledged only after what it says is stored, or after it is parked with a reason. Anything else leaves
it with the bus, which delivers it again; a repeat is recognised and changes nothing.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from enum import StrEnum

import structlog

from schemas.completion import Delivery, Expectation, Refusal, decode
from schemas.dead_letter import DATA_BYTES_MAX, parked_attributes
from statemachine.events import CompletionReceived
from worker.calendar import FUTURE_DAYS_MAX
from worker.engine import Engine
from worker.errors import CorruptRecord, PipelineError, Unavailable
from worker.observer import Observer
from worker.ports import Clock, OutgoingMessage, ParkedMessage, Publisher, StateStore
from worker.repair import Repair
from worker.tracing import NO_TRACING, Reception, Tracing

log = structlog.get_logger(__name__)


class Verdict(StrEnum):
    """What the bus is told about a delivery."""

    ACK = "ack"
    RETRY = "retry"


class Intake:
    """Turns deliveries into events."""

    def __init__(  # noqa: PLR0913 - one collaborator each
        self,
        *,
        engine: Engine,
        store: StateStore,
        repair: Repair,
        dead_letters: Publisher,
        dead_letter_topic: str,
        processors: tuple[str, ...],
        earliest: date,
        clock: Clock,
        observer: Observer,
        stopwatch: Callable[[], float],
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._engine = engine
        self._store = store
        self._repair = repair
        self._dead_letters = dead_letters
        self._dead_letter_topic = dead_letter_topic
        self._processors = processors
        self._earliest = earliest
        self._clock = clock
        self._observer = observer
        self._stopwatch = stopwatch
        self._tracing = tracing

    def handle(self, delivery: Delivery) -> Verdict:
        """Take one delivery to its end."""
        with self._tracing.receiving(delivery) as reception:
            return self._handle(delivery, reception)

    def _handle(self, delivery: Delivery, reception: Reception) -> Verdict:
        started = self._stopwatch()
        now = self._clock.now()
        latest = now.date() + timedelta(days=FUTURE_DAYS_MAX)
        expected = Expectation(processors=self._processors, earliest=self._earliest, latest=latest)
        processor = "other"
        try:
            analysis_date, completion = decode(delivery, expected, now)
            processor = completion.processor
            if reception.traceparent != completion.traceparent:
                completion = replace(completion, traceparent=reception.traceparent)
            decision = self._engine.apply(analysis_date, CompletionReceived(completion=completion))
            outcome, verdict = decision.reason.value, Verdict.ACK
        except Refusal as refusal:
            outcome, verdict = self._park(delivery, refusal)
        except Unavailable as exc:
            log.warning("delivery_postponed", message_id=delivery.message_id, error=str(exc))
            outcome, verdict = "unavailable", Verdict.RETRY
        except CorruptRecord as exc:
            outcome, verdict = self._replace_damaged(exc), Verdict.RETRY
        except PipelineError as exc:
            log.error("delivery_failed", message_id=delivery.message_id, error=str(exc), kind=type(exc).__name__)
            outcome, verdict = "error", Verdict.RETRY
        self._observer.received(outcome, processor, self._stopwatch() - started)
        reception.ended(outcome, processor)
        return verdict

    def _replace_damaged(self, exc: CorruptRecord) -> str:
        """Begin the date anew; the bus brings this message again, and then it finds a sound record."""
        try:
            self._repair.replace_damaged(exc.analysis_date, str(exc))
        except PipelineError as failed:
            log.warning("repair_postponed", analysis_date=exc.analysis_date.isoformat(), error=str(failed))
            return "error"
        return "quarantined"

    def _park(self, delivery: Delivery, refusal: Refusal) -> tuple[str, Verdict]:
        """Publish to the dead letter topic, then keep a copy for people; if either fails, the bus keeps the message."""
        message = OutgoingMessage(
            event_id=f"refused:{delivery.message_id}",
            topic=self._dead_letter_topic,
            data=delivery.data[:DATA_BYTES_MAX],
            attributes=parked_attributes(delivery, refusal),
        )
        parked = ParkedMessage(
            reason=refusal.reason.value,
            detail=refusal.detail,
            message_id=delivery.message_id,
            received_at=self._clock.now(),
            data=delivery.data[:2048],
            attributes=delivery.attributes,
        )
        try:
            self._dead_letters.publish(message)
            self._store.park(parked)
        except Unavailable as exc:
            log.warning("parking_postponed", message_id=delivery.message_id, error=str(exc))
            return "unavailable", Verdict.RETRY
        log.warning("message_parked", message_id=delivery.message_id, reason=refusal.reason, detail=refusal.detail)
        self._observer.refused(refusal.reason.value, refusal.detail)
        return "refused", Verdict.ACK
