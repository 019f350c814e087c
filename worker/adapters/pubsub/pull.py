"""Pull subscriber: passes deliveries of a stream to the handler, and replaces a broken stream.

While the store does not answer, deliveries are *held*: the messages stay leased and are handled again once the store
answers. Flow control keeps the bus from sending more. No held message is returned to the bus, because the bus counts a
return as a failed attempt and forwards the message to the dead-letter topic after a few attempts.

After `hold_max_s` the stream is closed: another worker may receive the messages, and this worker pulls again only when
the store answers. A crash leaves the messages unacknowledged; the bus delivers them again after the lease.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from schemas.completion import Delivery
from worker.adapters.pubsub.stream import Stream
from worker.adapters.pubsub.unary import PullCheck
from worker.adapters.pubsub.watchdog import Action, PullCheckResult, Symptom, Watchdog, WatchPolicy
from worker.errors import Fatal, PipelineError, Unavailable
from worker.intake import Verdict
from worker.observing.observer import (
    CallbackFailed,
    Observer,
    Observers,
    PullingPaused,
    StreamOpened,
    StreamProbed,
    StreamRecycled,
)

log = structlog.get_logger(__name__)

# A fault of a few seconds does not return messages. After a longer fault another worker should receive the messages.
HOLD_MAX_S = 30.0
HOLD_PAUSES_S = (0.2, 0.5, 1.0, 2.0)
# If the store answers but refuses commits, each pause is twice as long as the last pause, up to this limit.
PAUSE_MAX_S = 60.0
CHECK_PAUSE_S = 0.5
RETRY_PAUSE_S = 5.0
CLOSE_TIMEOUT_S = 3.0

HandleAll = Callable[[Sequence[Delivery]], Iterable[tuple[int, Verdict]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PullTuning:
    """Settings of a pull subscriber.

    Attributes:
        messages_max: Deliveries leased at a time. A delivery has a few hundred bytes; a group is stored in a single
            round trip.
        lease_s: Seconds of each lease extension, 10 to 600. The client's own estimate may fall to 10, which a pause of
            the process can exceed.
        hold_max_s: Seconds for which deliveries are held while the store does not answer; then the stream is closed.
        watch: When a silent stream is suspected, and how often it is replaced.
    """

    messages_max: int = 500
    lease_s: int = 60
    hold_max_s: float = HOLD_MAX_S
    watch: WatchPolicy = field(default_factory=WatchPolicy)


class PullSubscriber:
    """Reader of a subscription with a single stream at a time. Call `start`, then `check` regularly, then `stop`.

    Attributes:
        ended: Set when pulling has ended for good without `stop`; `error` holds the cause.
    """

    def __init__(  # noqa: PLR0913 - one collaborator each
        self,
        *,
        project: str,
        subscription: str,
        local_address: str | None,
        handle_all: HandleAll,
        store_answers: Callable[[], bool],
        observer: Observer | None = None,
        tuning: PullTuning | None = None,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = (project, subscription, local_address)
        self._handle_all = handle_all
        self._observer = observer or Observers()
        self._store_answers = store_answers
        self._tuning = tuning or PullTuning()
        self._stopwatch = stopwatch
        self._watchdog = Watchdog(self._tuning.watch, stopwatch())
        self._lock = threading.Lock()
        self._stream: Stream | None = None
        self._openings_seen = 0
        self._stopping = threading.Event()
        self._holding = 0
        self._pause_s = 1.0
        self._resume_at = 0.0
        self.ended = threading.Event()
        self.error: Unavailable | Fatal | None = None

    def start(self) -> None:
        """Open the first stream.

        Raises:
            Unavailable: Google accepts no credentials of this process.
        """
        self._open()

    @property
    def running(self) -> bool:
        """Whether a stream is open according to the client; False while pulling is paused."""
        stream = self._stream
        return stream is not None and stream.running

    def check(self) -> float:
        """Check the stream; return the seconds until the next check.

        Raises:
            Unavailable: Google accepts no credentials of this process; the next check tries again.
        """
        stream = self._stream
        if self._stopping.is_set() or self.ended.is_set():
            return CHECK_PAUSE_S
        if stream is None:
            self._resume()
        elif isinstance(stream.error, Fatal):
            self._give_up(stream.error)
        elif stream.closing.is_set():
            self._pause()
        elif stream.ended.is_set():
            self._judge(Symptom.ENDED)
        elif not self._holding:
            self._watch(stream)
        return CHECK_PAUSE_S

    def stop(self) -> None:
        """Take no more messages, finish the messages in hand, send the acknowledgements and close. Repeatable."""
        self._stopping.set()
        self._close()

    # Streams

    def _open(self) -> None:
        project, subscription, local_address = self._address
        with self._lock:
            if self._stopping.is_set():
                return
            self._openings_seen = 0
            self._stream = Stream(
                project=project,
                subscription=subscription,
                local_address=local_address,
                handle_group=self._handle_group,
                messages_max=self._tuning.messages_max,
                lease_s=self._tuning.lease_s,
            )
        self._watchdog.started(self._stopwatch())

    def _close(self) -> None:
        with self._lock:
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.close(CLOSE_TIMEOUT_S)

    def _pause(self) -> None:
        """Close the stream that held messages for too long, and pull no messages for a while."""
        log.warning("pulling_paused", held_s=self._tuning.hold_max_s, look_again_s=self._pause_s)
        self._observer.note(PullingPaused(paused=True))
        self._resume_at = self._stopwatch() + self._pause_s
        self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)
        self._close()

    def _resume(self) -> None:
        if self._stopwatch() < self._resume_at or not self._store_answers():
            return
        self._open()
        self._observer.note(PullingPaused(paused=False))
        log.info("pulling_resumed")

    # The watchdog

    def _watch(self, stream: Stream) -> None:
        openings, self._openings_seen = stream.openings - self._openings_seen, stream.openings
        if openings:
            self._observer.note(StreamOpened(times=openings))
            self._watchdog.opened(openings, self._stopwatch())
        symptom = self._watchdog.symptom(self._stopwatch())
        if symptom is not None:
            self._judge(symptom)

    def _judge(self, symptom: Symptom) -> None:
        deliveries = self._watchdog.deliveries
        answer = self._ask()
        self._observer.note(StreamProbed(answer=answer))
        action = self._watchdog.judge(symptom, answer, deliveries, self._stopwatch())
        if action is Action.KEEP:
            if symptom is Symptom.ENDED:
                # The bus does not answer, so a new stream would end as well.
                self._resume_at = self._stopwatch() + RETRY_PAUSE_S
                self._close()
            return
        if action is Action.GIVE_UP:
            tried = self._tuning.watch.recycles_max
            self._give_up(
                Unavailable(
                    f"the stream delivers nothing ({symptom}) although the bus answers, and {tried} new connections "
                    "did not help; ending, so that the supervisor of this process starts a new process"
                )
            )
            return
        log.warning("stream_recycled", reason=symptom.value, found=answer.value, in_a_row=self._watchdog.recycles)
        self._observer.note(StreamRecycled(reason=symptom))
        self._close()
        self._open()

    def _ask(self) -> PullCheckResult:
        """Pull a message over a second connection, handle a message that waits, and return the result."""
        try:
            with PullCheck(*self._address) as probe:
                found = probe.ask()
                if found is None:
                    return PullCheckResult.EMPTY
                probe.settle(found, stored=self._is_stored(found.delivery))
        except PipelineError as exc:
            log.warning("bus_not_answering", kind=type(exc).__name__, error=str(exc))
            return PullCheckResult.FAILED
        return PullCheckResult.MESSAGE

    def _is_stored(self, delivery: Delivery) -> bool:
        try:
            return all(verdict is Verdict.ACK for _place, verdict in self._handle_all([delivery]))
        except Exception:
            self._observer.note(CallbackFailed())
            log.exception("callback_failed", message_ids=[delivery.message_id])
            return False

    def _give_up(self, error: Unavailable | Fatal) -> None:
        log.error("stream_given_up", kind=type(error).__name__, error=str(error))
        self.error = error
        self.ended.set()

    # Deliveries

    def _handle_group(self, stream: Stream, messages: Sequence[Any]) -> None:
        """Settle every message of the group: acknowledge the message, or return the message to the bus."""
        self._watchdog.delivered(self._stopwatch())
        left = dict(enumerate(messages))
        try:
            # A closing stream returns the messages in hand: handling the messages now would outlast the shutdown.
            if not stream.closing.is_set() and self._settle(left):
                self._hold(stream, left)
        except BaseException:
            self._observer.note(CallbackFailed())
            log.exception("callback_failed", message_ids=[message.message_id for message in left.values()])
        for message in left.values():
            message.nack()

    def _settle(self, left: dict[int, Any]) -> bool:
        """Handle the messages in *left* and remove settled messages; return whether messages are held for the store."""
        places = list(left)
        for number, verdict in self._handle_all([_delivery(left[place]) for place in places]):
            place = places[number]
            if verdict is Verdict.ACK:
                left.pop(place).ack()
                self._pause_s = 1.0
            elif verdict is Verdict.RETRY:
                left.pop(place).nack()
        return bool(left)

    def _hold(self, stream: Stream, left: dict[int, Any]) -> None:
        """Hold the messages in *left* until the store takes them or the stream closes; close after `hold_max_s`."""
        give_up_at = self._stopwatch() + self._tuning.hold_max_s
        pauses = iter(HOLD_PAUSES_S)
        pause_s = 0.0
        with self._lock:
            self._holding += 1
        try:
            while left and not stream.closing.wait(pause_s := next(pauses, pause_s)):
                if self._store_answers():
                    self._settle(left)
                if left and self._stopwatch() >= give_up_at:
                    stream.begin_close()
        finally:
            self._watchdog.delivered(self._stopwatch())
            with self._lock:
                self._holding -= 1


def _delivery(message: Any) -> Delivery:  # noqa: ANN401 - the client is untyped
    return Delivery(
        data=message.data,
        attributes=dict(message.attributes),
        message_id=message.message_id,
        published_at=message.publish_time,
    )
