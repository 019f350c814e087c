"""Deliveries in, verdicts out. Never raises, never builds: parse, one commit, acknowledge.

Deliveries that wait together are stored together: one trip to the store and one fsync there serve all of them.

A message is acknowledged only after what it says is stored, or after it is parked with a reason. Anything else leaves
it with the bus, which delivers it again; a repeat is recognised and changes nothing.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
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
    HOLD = "hold"
    """Not now: the store is away. Kept in hand where that is possible, else as RETRY."""


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

    def handle_all(self, deliveries: Sequence[Delivery]) -> Iterator[tuple[int, Verdict]]:
        """Take several deliveries to their end, those that can be stored together first.

        Yields:
            The place of a delivery and its verdict, as soon as it is known; every place once.
        """
        # A traced delivery has spans of its own, so it is taken by itself; that costs a trip to the store each.
        if len(deliveries) > 1 and self._tracing is NO_TRACING:
            alone = yield from self._handle_together(deliveries)
        else:
            alone = range(len(deliveries))
        for place in alone:
            yield place, self.handle(deliveries[place])

    def _handle_together(self, deliveries: Sequence[Delivery]) -> Generator[tuple[int, Verdict], None, Sequence[int]]:
        """Store what can be stored in one trip; give the places of those that must be taken one by one."""
        started, now = self._stopwatch(), self._clock.now()
        expected = self._expectation(now)
        places, happened, alone = [], [], []
        for place, delivery in enumerate(deliveries):
            try:
                analysis_date, completion = decode(delivery, expected, now)
            except Refusal:
                alone.append(place)
            else:
                places.append(place)
                happened.append((analysis_date, CompletionReceived(completion=completion)))
        try:
            decisions = self._engine.apply_all(happened)
        except PipelineError as exc:
            log.warning("deliveries_postponed", count=len(places), error=str(exc), kind=type(exc).__name__)
            for place, (_day, event) in zip(places, happened, strict=True):
                self._observer.received("unavailable", event.completion.processor, self._stopwatch() - started)
                yield place, Verdict.HOLD if isinstance(exc, Unavailable) else Verdict.RETRY
            return alone
        for place, (_day, event), decision in zip(places, happened, decisions, strict=True):
            if decision is None:
                alone.append(place)
                continue
            self._observer.received(decision.reason.value, event.completion.processor, self._stopwatch() - started)
            yield place, Verdict.ACK
        return alone

    def _expectation(self, now: datetime) -> Expectation:
        latest = now.date() + timedelta(days=FUTURE_DAYS_MAX)
        return Expectation(processors=self._processors, earliest=self._earliest, latest=latest)

    def handle(self, delivery: Delivery) -> Verdict:
        """Take one delivery to its end."""
        with self._tracing.receiving(delivery) as reception:
            return self._handle(delivery, reception)

    def _handle(self, delivery: Delivery, reception: Reception) -> Verdict:
        started = self._stopwatch()
        now = self._clock.now()
        expected = self._expectation(now)
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
            outcome, verdict = "unavailable", Verdict.HOLD
        except CorruptRecord as exc:
            outcome, verdict = self._replace_damaged(exc), Verdict.RETRY
        except PipelineError as exc:
            log.error("delivery_failed", message_id=delivery.message_id, error=str(exc), kind=type(exc).__name__)
            outcome, verdict = "error", Verdict.RETRY
        self._observer.received(outcome, processor, self._stopwatch() - started)
        reception.ended(outcome, processor)
        return verdict

    def refuse(self, delivery: Delivery, refusal: Refusal) -> Verdict:
        """Park what could not even be read as a delivery, such as a push body that is none."""
        started = self._stopwatch()
        outcome, verdict = self._park(delivery, refusal)
        self._observer.received(outcome, "other", self._stopwatch() - started)
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
            return "unavailable", Verdict.HOLD
        log.warning("message_parked", message_id=delivery.message_id, reason=refusal.reason, detail=refusal.detail)
        self._observer.refused(refusal.reason.value, refusal.detail)
        return "refused", Verdict.ACK
