"""Google's client, local server: a broken stream is replaced, an absent store costs nothing, a stop loses nothing.

Time is a number that the tests move; only the client's own threads are waited for.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from schemas.completion import Delivery
from tests.support.buses import PROJECT, SUBSCRIPTION, LocalBus, Watched, local_bus
from tests.support.rigs import Notes
from worker.adapters.pubsub.pull import PullSubscriber, PullTuning
from worker.adapters.pubsub.watchdog import WatchPolicy
from worker.errors import Fatal, Unavailable
from worker.intake import Verdict
from worker.local.pubsub.faults import FaultHooks, FaultPlan, PlannedFaults
from worker.local.pubsub.model import CallRefused, RefusalCode

TIMEOUT_S = 10.0


class Desk:
    """A handler that remembers, over a store that may be away; and a subscriber on a clock of its own."""

    def __init__(self, bus: LocalBus, **watch: float) -> None:
        self.now = 1000.0
        self.store_is_there = True
        self.stored: list[bytes] = []
        self.held: list[bytes] = []
        self.in_hand, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.notes = Notes()
        self.subscriber = PullSubscriber(
            project=PROJECT,
            subscription=SUBSCRIPTION,
            local_address=bus.address,
            handle_all=self.handle_all,
            store_answers=lambda: self.store_is_there,
            observer=self.notes,
            tuning=PullTuning(watch=WatchPolicy(**{"silence_s": 120.0, **watch})),  # type: ignore[arg-type]
            stopwatch=lambda: self.now,
        )

    def handle_all(self, deliveries: Sequence[Delivery]) -> Iterable[tuple[int, Verdict]]:
        self.in_hand.set()
        assert self.go_on.wait(TIMEOUT_S)
        for place, delivery in enumerate(deliveries):
            (self.stored if self.store_is_there else self.held).append(delivery.data)
            yield place, Verdict.ACK if self.store_is_there else Verdict.HOLD

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.subscriber.check()


@contextmanager
def at_work(bus: LocalBus, **watch: float) -> Iterator[Desk]:
    desk = Desk(bus, **watch)
    desk.subscriber.start()
    try:
        yield desk
    finally:
        desk.subscriber.stop()


def test_a_silent_stream_is_replaced_and_its_message_handled_within_two_minutes(wait_until) -> None:
    faults = Watched(silent=1)
    with local_bus(faults) as bus, at_work(bus) as desk:
        wait_until(lambda: faults.streams, "the stream is open")
        bus.publish(b"waited")
        desk.later(119.0)
        assert ([], []) == (desk.stored, desk.notes.recycles)

        desk.later(1.0)

        assert ([b"waited"], ["silent"], ["message"]) == (desk.stored, desk.notes.recycles, desk.notes.answers)
        bus.publish(b"later")
        wait_until(lambda: desk.stored == [b"waited", b"later"], "the new stream delivers")
        desk.subscriber.stop()
        assert bus.take_waiting() == []


def test_a_process_that_new_streams_do_not_cure_ends_and_says_why(wait_until) -> None:
    faults = Watched(silent=99)
    with local_bus(faults) as bus, at_work(bus, recycles_max=2) as desk:
        bus.publish(b"1", b"2", b"3", b"4")
        for seconds in (120.0, 30.0, 30.0):
            assert not desk.subscriber.ended.is_set()
            desk.later(seconds)

        assert desk.subscriber.ended.is_set()
        assert isinstance(desk.subscriber.error, Unavailable)
        assert "2 new connections did not help" in str(desk.subscriber.error)
        assert sorted(desk.stored) == [b"1", b"2", b"3"], "what the questions found is not lost"
        desk.subscriber.stop()
        wait_until(lambda: bus.take_waiting() == [b"4"], "the rest is still there")


def test_an_idle_stream_is_left_alone(wait_until) -> None:
    faults = Watched()
    with local_bus(faults) as bus, at_work(bus) as desk:
        wait_until(lambda: faults.streams, "the stream is open")
        for _ in range(3):
            desk.later(120.0)

        assert (["empty"] * 3, []) == (desk.notes.answers, desk.notes.recycles)
        bus.publish(b"at last")
        wait_until(lambda: desk.stored == [b"at last"], "the stream still delivers")
        assert len(faults.streams) == 1


def test_a_bus_that_is_away_is_waited_for(wait_until) -> None:
    with local_bus() as bus, at_work(bus) as desk:
        bus.publish(b"before")
        wait_until(lambda: desk.stored, "the stream delivers")
        bus.server.stop()

        desk.later(120.0)
        desk.later(120.0)

        assert (["failed", "failed"], []) == (desk.notes.answers, desk.notes.recycles)
        assert not desk.subscriber.ended.is_set()


def test_a_stream_that_ends_again_and_again_is_replaced(wait_until) -> None:
    with local_bus(PlannedFaults(FaultPlan(close=1.0))) as bus, at_work(bus, reopens_max=2) as desk:
        bus.publish(b"waited")
        wait_until(lambda: desk.later(0.0) or desk.notes.recycles, "the stream is replaced", timeout_s=20.0)

        assert desk.notes.recycles == ["reopening"]
        assert desk.stored == [b"waited"]
        assert desk.notes.openings >= 3


class Denied(FaultHooks):
    def on_stream(self, _subscription: str, _stream: str) -> bool:
        raise CallRefused(RefusalCode.PERMISSION_DENIED, "no right to consume")


def test_a_right_that_is_missing_ends_the_process_at_once(wait_until) -> None:
    with local_bus(Denied()) as bus, at_work(bus) as desk:
        wait_until(lambda: desk.later(0.0) or desk.subscriber.ended.is_set(), "pulling has ended")

        assert isinstance(desk.subscriber.error, Fatal)


def test_a_short_absence_of_the_store_gives_no_message_back(wait_until) -> None:
    faults = Watched()
    with local_bus(faults) as bus, at_work(bus) as desk:
        desk.store_is_there = False
        bus.publish(*(b"%d" % number for number in range(20)))
        wait_until(lambda: len(faults.sent) == 20, "all are delivered")
        wait_until(lambda: desk.held, "the store is missed")
        desk.later(29.0)
        assert desk.subscriber.running

        desk.store_is_there = True

        wait_until(lambda: len(desk.stored) == 20, "all are stored")
        assert len(faults.sent) == 20, "each was delivered once"
        assert desk.notes.pauses == []


def test_a_long_absence_of_the_store_closes_the_stream_until_it_answers(wait_until) -> None:
    """Each message is given back once, not again and again: the bus counts that against it."""
    faults = Watched()
    with local_bus(faults) as bus, at_work(bus) as desk:
        desk.store_is_there = False
        bus.publish(b"1", b"2")
        wait_until(lambda: len(faults.sent) == 2, "both are delivered")
        wait_until(lambda: desk.later(31.0) or desk.notes.pauses, "pulling pauses")
        assert not desk.subscriber.running
        for _ in range(5):
            desk.later(60.0)
        assert len(faults.sent) == 2, "nothing is pulled meanwhile"

        desk.store_is_there = True
        desk.later(60.0)

        wait_until(lambda: sorted(desk.stored) == [b"1", b"2"], "both are stored")
        assert desk.notes.pauses == [True, False]
        assert len(faults.sent) == 4


def test_a_stop_in_the_middle_neither_loses_nor_repeats_a_stored_message(wait_until, tmp_path) -> None:
    """The server is started anew, so that what it had sent into the closing stream is no longer leased."""
    bodies = [b"%d" % number for number in range(3000)]
    with local_bus(journal=tmp_path / "journal.sqlite") as bus, at_work(bus) as desk:
        publishing = threading.Thread(target=bus.publish, args=bodies)
        publishing.start()
        wait_until(lambda: len(desk.stored) > 500, "it is busy")

        desk.subscriber.stop()

        publishing.join()
    with local_bus(journal=tmp_path / "journal.sqlite") as bus:
        rest = bus.take_waiting()
    assert rest, "it was stopped too late to show anything"
    assert sorted(desk.stored + rest) == sorted(bodies)


def test_a_stop_waits_for_what_is_in_hand_and_its_acknowledgement(wait_until, tmp_path) -> None:
    with local_bus(journal=tmp_path / "journal.sqlite") as bus, at_work(bus) as desk:
        desk.go_on.clear()
        bus.publish(b"in hand")
        assert desk.in_hand.wait(TIMEOUT_S)
        stopping = threading.Thread(target=desk.subscriber.stop)
        stopping.start()
        wait_until(lambda: not desk.subscriber.running, "it is stopping")
        # A stop that waits for nobody would be over by then.
        stopping.join(0.3)

        desk.go_on.set()

        stopping.join()
    with local_bus(journal=tmp_path / "journal.sqlite") as bus:
        assert ([b"in hand"], []) == (desk.stored, bus.take_waiting())


@pytest.mark.parametrize("text", ["duplicate=2", "flood=0.1", "stall=x", "close_with=OK", "duplicate"])
def test_a_fault_plan_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text.partition("=")[0]):
        FaultPlan.parse(text)


def test_a_fault_plan_is_read_from_text() -> None:
    read = FaultPlan.parse("duplicate=0.5, drop_ack=0.25,close_with=INTERNAL,seed=7")

    assert FaultPlan(duplicate=0.5, drop_ack=0.25, close_with="INTERNAL", seed=7) == read
