"""Intake: parse each delivery, commit the completion, return a verdict to the bus. The intake never builds.

Deliveries that wait together share a trip to the store and an fsync.

Guarantees: the intake raises no exception. A message is acknowledged after the commit, or after the message is parked
with a reason. After any other end, and after a crash, the bus delivers the message again. A repeat is recognised and
changes no state.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from enum import StrEnum

import structlog
from opentelemetry.trace import Span, Tracer

from schemas.completion import Delivery, Expectation, Refusal, RefusalReason, decode
from statemachine.events import CompletionReceived
from worker.calendar import FUTURE_DAYS_MAX
from worker.canary import CANARY
from worker.dead_letters import NotParked, Parking
from worker.engine import Engine
from worker.errors import CorruptRecord, PipelineError, Unavailable
from worker.observing.observer import Observer, Received
from worker.observing.tracing import NO_SPANS, TRACEPARENT, is_recorded, receiving, trace_attributes
from worker.ports import Clock, Publisher, StateStore
from worker.repair import Repair

log = structlog.get_logger(__name__)

# After so many exceptions for the same message, the message is the cause.
RAISES_MAX = 3
# Ten thousand message ids take about two megabytes.
RAISES_KEPT_MAX = 10_000


class Verdict(StrEnum):
    """Verdict on a delivery, for the bus."""

    ACK = "ack"
    RETRY = "retry"
    HOLD = "hold"
    """The store is unavailable. The pull listener keeps the delivery; elsewhere HOLD is the same as RETRY."""


class Raises:
    """Number of unexpected exceptions for each message in this process. Bounded and thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: OrderedDict[str, int] = OrderedDict()

    def count(self, message_id: str) -> int:
        """Count another exception of the message; return the number of exceptions."""
        with self._lock:
            count = self._counts.pop(message_id, 0) + 1
            self._counts[message_id] = count
            if len(self._counts) > RAISES_KEPT_MAX:
                self._counts.popitem(last=False)
        return count

    def forget(self, message_id: str) -> None:
        """Forget a message that is stored or parked."""
        # The counts are nearly always empty: a good message costs a comparison and no lock.
        if self._counts:
            with self._lock:
                self._counts.pop(message_id, None)


class Intake:
    """Decodes deliveries and applies the events."""

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
        tracer: Tracer = NO_SPANS,
        canary: Callable[[Delivery], None] = lambda _delivery: None,
    ) -> None:
        self._engine = engine
        self._canary = canary
        self._repair = repair
        self._parking = Parking(
            store=store,
            bus=dead_letters,
            topic=dead_letter_topic,
            clock=clock,
            observer=observer,
            stopwatch=stopwatch,
        )
        self._raises = Raises()
        self._processors = processors
        self._earliest = earliest
        self._clock = clock
        self._observer = observer
        self._stopwatch = stopwatch
        self._tracer = tracer

    def handle_all(self, deliveries: Sequence[Delivery]) -> Iterator[tuple[int, Verdict]]:
        """Store or park several deliveries; deliveries in a common commit come first.

        Yields:
            The place of a delivery and the verdict, as soon as the verdict is known; every place once.
        """
        # A delivery with a recorded span is stored alone, because the span covers one trip to the store.
        if len(deliveries) > 1 and not any(is_recorded(self._tracer, delivery) for delivery in deliveries):
            alone = yield from self._handle_together(deliveries)
        else:
            alone = range(len(deliveries))
        for place in alone:
            yield place, self.handle(deliveries[place])

    def _handle_together(self, deliveries: Sequence[Delivery]) -> Generator[tuple[int, Verdict], None, Sequence[int]]:
        """Store deliveries in a common trip; return the places of the deliveries to handle alone."""
        started, now = self._stopwatch(), self._clock.now()
        expected = self._expectation(now)
        places, happened, alone = [], [], []
        for place, delivery in enumerate(deliveries):
            try:
                if CANARY in delivery.attributes:
                    alone.append(place)
                    continue
                analysis_date, completion = decode(delivery, expected, now)
            except Exception:  # noqa: BLE001 - handled alone, the message raises again and is charged
                alone.append(place)
            else:
                places.append(place)
                happened.append((analysis_date, CompletionReceived(completion=completion)))
        try:
            decisions = self._engine.apply_all(happened)
        except Unavailable as exc:
            log.warning("deliveries_postponed", count=len(places), error=str(exc), kind=type(exc).__name__)
            for place, (_day, event) in zip(places, happened, strict=True):
                self._note("unavailable", event.completion.processor, started)
                yield place, Verdict.HOLD
            return alone
        except Exception as exc:  # noqa: BLE001 - handled alone, the message that raises is charged
            # A message or an analysis date is the cause. Handled alone, a message meets no fault of another message.
            log.warning("deliveries_parted", count=len(places), error=str(exc), kind=type(exc).__name__)
            return range(len(deliveries))
        for place, (_day, event), decision in zip(places, happened, decisions, strict=True):
            if decision is None:
                alone.append(place)
                continue
            self._note(decision.reason.value, event.completion.processor, started)
            yield place, Verdict.ACK
        return alone

    def _note(self, outcome: str, processor: str, started: float) -> None:
        seconds = self._stopwatch() - started
        self._observer.note(Received(outcome=outcome, processor=processor, seconds=seconds))

    def _expectation(self, now: datetime) -> Expectation:
        latest = now.date() + timedelta(days=FUTURE_DAYS_MAX)
        return Expectation(processors=self._processors, earliest=self._earliest, latest=latest)

    def handle(self, delivery: Delivery) -> Verdict:
        """Store or park a delivery; charge an unexpected exception to the delivery."""
        try:
            with receiving(self._tracer, delivery) as span:
                verdict = self._handle(delivery, span)
        except Exception as exc:  # noqa: BLE001 - charged to the message, and logged there
            return self.charge(delivery, exc)
        if verdict is Verdict.ACK:
            self._raises.forget(delivery.message_id)
        return verdict

    def charge(self, delivery: Delivery, error: Exception) -> Verdict:
        """Count an unexpected exception of the delivery: RETRY twice, then park the delivery as unreadable."""
        times = self._raises.count(delivery.message_id)
        kind = type(error).__name__
        log.error("message_raised", message_id=delivery.message_id, kind=kind, times=times, exc_info=error)
        if times < RAISES_MAX:
            self._note("raised", "other", self._stopwatch())
            return Verdict.RETRY
        detail = f"{kind} was raised each of {times} times; the log line message_raised of the worker has the stack"
        # If the attributes are the cause, the copy without attributes can be parked.
        for parked in (delivery, replace(delivery, attributes={})):
            try:
                return self.refuse(parked, Refusal(RefusalReason.UNREADABLE, detail))
            except Exception:
                log.exception("parking_raised", message_id=delivery.message_id)
        return Verdict.RETRY

    def _hand_to_canary(self, delivery: Delivery) -> Verdict:
        """Hand a message of a canary to the canary: no metric of deliveries and no dead letter shows the message."""
        try:
            self._canary(delivery)
        except Unavailable as exc:
            log.warning("canary_postponed", message_id=delivery.message_id, error=str(exc))
            return Verdict.HOLD
        except PipelineError as exc:
            log.error("canary_not_stored", message_id=delivery.message_id, error=str(exc), kind=type(exc).__name__)
        return Verdict.ACK

    def _handle(self, delivery: Delivery, span: Span) -> Verdict:
        if CANARY in delivery.attributes:
            return self._hand_to_canary(delivery)
        started = self._stopwatch()
        now = self._clock.now()
        expected = self._expectation(now)
        processor = "other"
        try:
            analysis_date, completion = decode(delivery, expected, now)
            processor = completion.processor
            if own := trace_attributes(span):
                completion = replace(completion, traceparent=own[TRACEPARENT])
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
        self._note(outcome, processor, started)
        span.set_attributes({"mlfs.outcome": outcome, "mlfs.processor": processor})
        return verdict

    def refuse(self, delivery: Delivery, refusal: Refusal) -> Verdict:
        """Park a delivery refused before the intake, such as a push body without a valid envelope."""
        started = self._stopwatch()
        outcome, verdict = self._park(delivery, refusal)
        self._note(outcome, "other", started)
        return verdict

    def _replace_damaged(self, exc: CorruptRecord) -> str:
        """Replace the damaged record; the bus delivers the message again and the message meets a sound record."""
        try:
            self._repair.replace_damaged(exc.analysis_date, str(exc))
        except PipelineError as failed:
            log.warning("repair_postponed", analysis_date=exc.analysis_date.isoformat(), error=str(failed))
            return "error"
        return "quarantined"

    def _park(self, delivery: Delivery, refusal: Refusal) -> tuple[str, Verdict]:
        """Park the delivery; hold the delivery while the state store is unavailable."""
        try:
            self._parking.park(delivery, refusal)
        except NotParked as exc:
            log.warning("parking_postponed", message_id=delivery.message_id, error=str(exc))
            return "not_parked", Verdict.RETRY
        except Unavailable as exc:
            log.warning("parking_postponed", message_id=delivery.message_id, error=str(exc))
            return "unavailable", Verdict.HOLD
        self._raises.forget(delivery.message_id)
        return "refused", Verdict.ACK
