"""A bad message is charged with its own faults: each other message of its group is stored at once."""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from schemas.completion import DEPTH_MAX, TRACE_ATTRIBUTES, Delivery
from statemachine.model import DateRecord, State
from tests.fuzz.judge import judge_deliveries, judge_message
from tests.fuzz.seeds import SHAPES, nested, sized
from tests.support.memory_store import MemoryStore
from tests.support.nights import CACHE, EVENING, NIGHT, POLICY, PROCESSORS, done, success, told, waiting
from tests.support.rigs import Bus, Rig, repair_of
from worker.dead_letters import PAUSE_S
from worker.errors import Fatal, PipelineError, PublishRefused, Unavailable
from worker.history_text import narrate
from worker.intake import RAISES_KEPT_MAX, RAISES_MAX, Intake, Raises, Verdict
from worker.observing.observer import Decided, LogObserver, Notice
from worker.ports import Commit, OutgoingMessage, ParkedMessage

OTHER = NIGHT + timedelta(days=1)
FAULTS = [RecursionError, ValueError, OverflowError, KeyError, MemoryError, UnicodeError, AssertionError]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep stacks off the console: to draw one takes seconds."""
    with capture_logs():
        yield


class Hostile(dict[str, str]):
    """Attributes that raise when they are read, an exception that no parser expects; *spared* names read as empty."""

    def __init__(self, fault: type[Exception], spared: Collection[str] = ()) -> None:
        super().__init__()
        self.fault, self.spared = fault, spared

    def get(self, name: str, default: object = None) -> str:  # type: ignore[override]  # noqa: ARG002 - a dict's shape
        if name in self.spared:
            return ""
        raise self.fault("hostile")


class PickyStore(MemoryStore):
    """Raises at one place, for one date."""

    def __init__(self, place: str, fault: Exception) -> None:
        super().__init__()
        self._place, self._fault = place, fault

    def _may_fail(self, place: str, days: Sequence[date]) -> None:
        if place == self._place and OTHER in days:
            raise self._fault

    def load(self, analysis_date: date) -> DateRecord | None:
        self._may_fail("load", [analysis_date])
        return super().load(analysis_date)

    def load_all(self, analysis_dates: Sequence[date]) -> Mapping[date, DateRecord | None]:
        self._may_fail("load_all", analysis_dates)
        return super().load_all(analysis_dates)

    def commit(self, commit: Commit) -> bool:
        self._may_fail("commit", [commit.record.analysis_date])
        return super().commit(commit)


class UnkeptCopies(MemoryStore):
    """Refuses the one key in which copies of parked messages lie."""

    def park(self, parked: ParkedMessage) -> None:
        raise PipelineError(f"the key of parked messages holds another type: {parked.message_id}")


class Desk:
    """An intake over a store and a bus, on a stopwatch that the test moves."""

    def __init__(self, store: MemoryStore | None = None, bus: Bus | None = None) -> None:
        self.store = store or MemoryStore()
        self.bus = bus or Bus()
        self.rig = Rig(store=self.store)
        self.seconds = 0.0
        self.intake = Intake(
            engine=self.rig.engine,
            store=self.store,
            repair=repair_of(self.rig),
            dead_letters=self.bus,
            dead_letter_topic="dlq",
            processors=PROCESSORS,
            earliest=date(2000, 1, 1),
            clock=self.rig.clock,
            observer=self.rig.notes,
            stopwatch=lambda: self.seconds,
        )

    def take(self, *deliveries: Delivery) -> list[Verdict]:
        return [verdict for _place, verdict in sorted(self.intake.handle_all(deliveries))]

    def states(self) -> list[State]:
        records = [self.store.load(day) for day in self.store.dates(10)]
        return [record.state for record in records if record is not None]

    def reasons(self) -> list[str]:
        return [letter.attributes["mlfs_reason"] for letter in self.bus.confirmed]


def report(processor: str = CACHE, night: date = NIGHT, **more: str) -> bytes:
    extra = "".join(f', "{name}": "{value}"' for name, value in more.items())
    return f'{{"processor": "{processor}", "analysis_date": "{night}", "status": "success"{extra}}}'.encode()


def delivery(data: bytes, message_id: str, attributes: Mapping[str, str] | None = None) -> Delivery:
    return Delivery(
        data=data, attributes={} if attributes is None else attributes, message_id=message_id, published_at=EVENING
    )


def good_four() -> list[Delivery]:
    return [delivery(report(name), name) for name in PROCESSORS]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize("spared", [(), TRACE_ATTRIBUTES], ids=["raises at once", "raises in the group"])
def test_an_exception_while_a_message_is_read_leaves_its_group_untouched(
    fault: type[Exception], place: int, spared: Collection[str]
) -> None:
    desk = Desk()
    group = good_four()
    group.insert(place, delivery(report(), "bad", Hostile(fault, spared)))

    first = desk.take(*group)
    later = [desk.take(group[place]) for _ in range(RAISES_MAX - 1)]

    assert [Verdict.RETRY] == [first.pop(place)]
    assert [Verdict.ACK] * 4 == first
    assert [State.READY] == desk.states()
    assert [[Verdict.RETRY]] * (RAISES_MAX - 2) + [[Verdict.ACK]] == later
    [letter] = desk.bus.confirmed
    assert ["unreadable", fault.__name__] == [
        letter.attributes["mlfs_reason"],
        letter.attributes["mlfs_detail"].split()[0],
    ]


@pytest.mark.parametrize("place", ["load_all", "load", "commit"])
@pytest.mark.parametrize("fault", FAULTS)
def test_an_exception_while_a_message_is_stored_is_charged_to_it_alone(place: str, fault: type[Exception]) -> None:
    desk = Desk(PickyStore(place, fault("a bug")))
    bad = delivery(report(night=OTHER), "bad")

    verdicts = [desk.take(*good_four(), bad), *(desk.take(bad) for _ in range(RAISES_MAX - 1))]

    assert [Verdict.ACK] * 4 == verdicts[0][:4]
    assert State.READY in desk.states()
    if place == "load_all":
        assert [Verdict.ACK] == verdicts[0][4:], "alone, it does not raise"
        return
    assert [Verdict.RETRY, Verdict.RETRY, Verdict.ACK] == [told[-1] for told in verdicts]
    [letter] = desk.bus.confirmed
    assert ("unreadable", fault.__name__, bad.data) == (
        letter.attributes["mlfs_reason"],
        letter.attributes["mlfs_detail"].split()[0],
        letter.data,
    )


@pytest.mark.parametrize("place", ["load_all", "load", "commit"])
def test_a_date_that_the_store_refuses_holds_no_other_date(place: str) -> None:
    desk = Desk(PickyStore(place, PipelineError("the key of this date holds another type")))

    verdicts = desk.take(*good_four(), delivery(report(night=OTHER), "other"))

    assert [Verdict.ACK] * 4 == verdicts[:4]
    assert verdicts[4] is (Verdict.ACK if place == "load_all" else Verdict.RETRY)
    assert State.READY in desk.states()


def test_only_a_store_that_is_away_holds_messages() -> None:
    desk = Desk(PickyStore("load_all", Unavailable("no server")))

    assert [Verdict.HOLD, Verdict.HOLD] == desk.take(delivery(report(), "one"), delivery(report(night=OTHER), "two"))


def test_a_message_that_is_stored_after_all_begins_its_count_anew() -> None:
    store = PickyStore("commit", RuntimeError("now and then"))
    desk = Desk(store)
    message = delivery(report(night=OTHER), "same")

    for _ in range(2):
        assert [[Verdict.RETRY]] * 2 == [desk.take(message), desk.take(message)]
        store._place = "nowhere"
        assert [Verdict.ACK] == desk.take(message)
        store._place = "commit"
        message = delivery(report(PROCESSORS[0], night=OTHER), "same")

    assert [] == desk.bus.confirmed


def test_an_observer_that_raises_undoes_nothing() -> None:
    desk = Desk()

    def broken(notice: Notice) -> None:
        match notice:
            case Decided():
                raise RuntimeError("a bug")

    desk.rig.notes.note = broken  # type: ignore[method-assign]

    assert [Verdict.ACK] * 4 == desk.take(*good_four())
    assert ([State.READY], [NIGHT]) == (desk.states(), desk.rig.started)


def test_exceptions_are_counted_for_a_bounded_number_of_messages() -> None:
    raises = Raises()

    for number in range(RAISES_KEPT_MAX + 1):
        raises.count(str(number))

    assert [1, 2] == [raises.count("0"), raises.count(str(RAISES_KEPT_MAX))]


# --- the dead-letter topic -------------------------------------------------------------------------------------------


class RefusingBus(Bus):
    """Refuses what a rule says, as Pub/Sub does for good."""

    def __init__(self, refuses: Callable[[OutgoingMessage], bool]) -> None:
        super().__init__()
        self.refuses = refuses
        self.tried = 0

    def publish(self, message: OutgoingMessage) -> str:
        self.tried += 1
        if self.refuses(message):
            raise PublishRefused("404 Topic not found")
        return super().publish(message)


class HangingBus(Bus):
    """Confirms nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go_on = threading.Event(), threading.Event()

    def publish(self, message: OutgoingMessage) -> str:
        self.asked.set()
        assert self.go_on.wait(10)
        return super().publish(message)


def test_a_topic_that_refuses_gives_back_bad_messages_alone_and_is_left_alone_for_a_while() -> None:
    bus = RefusingBus(lambda _message: True)
    desk = Desk(bus=bus)
    group = [delivery(b"bad", f"bad-{number}") for number in range(20)]

    verdicts = desk.take(*group, *good_four())

    assert [Verdict.RETRY] * 20 + [Verdict.ACK] * 4 == verdicts
    assert [State.READY] == desk.states()
    tried = bus.tried
    assert tried == 1
    assert [("dlq", True)] == desk.rig.notes.dead_letter_topics

    bus.refuses = lambda _message: False
    assert ([Verdict.RETRY], tried) == (desk.take(group[0]), bus.tried)
    desk.seconds += PAUSE_S
    assert [Verdict.ACK] * 20 == desk.take(*group)
    assert ("dlq", False) == desk.rig.notes.dead_letter_topics[-1]


def test_a_topic_that_does_not_answer_holds_one_thread_at_most() -> None:
    bus = HangingBus()
    desk = Desk(bus=bus)
    first = threading.Thread(target=desk.take, args=(delivery(b"bad", "first"),))
    first.start()
    assert bus.asked.wait(10)

    verdicts = desk.take(*(delivery(b"bad", f"bad-{number}") for number in range(50)), *good_four())

    assert [Verdict.RETRY] * 50 + [Verdict.ACK] * 4 == verdicts
    assert first.is_alive()
    bus.go_on.set()
    first.join(10)
    assert [Verdict.ACK] == desk.take(delivery(b"bad", "later")), "a confirmation ends the pause"


def test_a_letter_that_the_bus_refuses_is_parked_without_the_senders_attributes() -> None:
    desk = Desk(bus=RefusingBus(lambda message: "tenant" in message.attributes))

    assert [Verdict.ACK] == desk.take(delivery(b"bad", "bad", {"tenant": "nba"}))

    [letter] = desk.bus.confirmed
    assert ("not_json", "'tenant'") == (letter.attributes["mlfs_reason"], letter.attributes["mlfs_left_out"])


def test_a_copy_that_the_store_refuses_does_not_bring_the_message_back() -> None:
    desk = Desk(UnkeptCopies())

    assert [Verdict.ACK] == desk.take(delivery(b"bad", "bad"))
    assert ["not_json"] == desk.reasons()


def test_a_parking_that_raises_brings_the_message_back() -> None:
    class Broken(Bus):
        def publish(self, message: OutgoingMessage) -> str:
            raise Fatal(message.event_id)

    desk = Desk(bus=Broken())

    assert [[Verdict.RETRY]] * 5 == [desk.take(delivery(b"bad", "bad")) for _ in range(5)]


# --- every depth and size --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_messages_of_every_depth_are_stored_or_parked_in_groups_and_alone(shape: str) -> None:
    depths = [*range(1, 200), *range(200, 2000, 29), *range(960, 1010)]

    reasons = judge_deliveries([nested(shape, depth) for depth in depths])

    assert {"not_json"} == set(reasons)
    assert len(reasons) == sum(depth > DEPTH_MAX for depth in depths)


@given(depth=st.integers(1, 2000), shape=st.sampled_from(sorted(SHAPES)), place=st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_a_nested_message_leaves_its_group_as_it_is(depth: int, shape: str, place: int) -> None:
    desk = Desk()
    group = good_four()
    group.insert(place, delivery(nested(shape, depth), "nested"))

    assert [Verdict.ACK] * 5 == desk.take(*group)
    assert (["not_json"] if depth > DEPTH_MAX else [], [State.READY]) == (desk.reasons(), desk.states())


@pytest.mark.parametrize("size", [1_000, 60_000, 70_000, 10_000_000])
def test_messages_of_every_size_are_stored_or_parked_in_groups_and_alone(size: int) -> None:
    assert {"too_large"} >= set(judge_deliveries([*sized(size)])) - {"not_json"}


def test_the_depth_that_is_read_does_not_depend_on_the_place_on_the_stack() -> None:
    def further_down(levels: int, body: bytes) -> str:
        return further_down(levels - 1, body) if levels else judge_message(body)

    bodies = {depth: nested("lists", depth) for depth in (DEPTH_MAX, DEPTH_MAX + 1, 985)}

    assert {depth: {judge_message(body), further_down(500, body)} for depth, body in bodies.items()} == {
        DEPTH_MAX: {"accepted"},
        DEPTH_MAX + 1: {"not_json"},
        985: {"not_json"},
    }


# --- a run that comes too late ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "level"), [(done(), "info"), (waiting(*PROCESSORS[:3], CACHE), "debug")])
def test_a_run_that_is_dropped_after_a_publication_is_told_at_info(before: DateRecord, level: str) -> None:
    older = success(CACHE, run="older", at=EVENING - timedelta(hours=1))
    decision = told(before, older)

    with capture_logs() as logs:
        LogObserver().note(
            Decided(
                before=before,
                decision=decision,
                event=older,
                actor="worker-a",
                at=EVENING,
                conflicts=0,
                sentence=narrate(older, before, decision, POLICY),
            )
        )

    assert [(level, "outdated")] == [(line["log_level"], line["reason"]) for line in logs]
