"""One delivery in, one verdict out: acknowledged only once it is stored, or parked with a reason."""

import json
from datetime import date

import pytest

from schemas.completion import Delivery
from statemachine.model import State
from tests.support.memory_store import MemoryStore
from tests.support.nights import CACHE, EVENING, NIGHT, PROCESSORS
from tests.support.rigs import Bus, Rig, repair_of
from worker.engine import COMMIT_TRIES_MAX
from worker.errors import Unavailable
from worker.intake import Intake, Verdict
from worker.ports import Commit, ParkedMessage


class FailingStore(MemoryStore):
    """Fails the calls it is told to."""

    def __init__(self, *failing: str) -> None:
        super().__init__()
        self.failing = set(failing)

    def commit(self, commit: Commit) -> bool:
        if "commit" in self.failing:
            raise Unavailable("no server")
        return "conflict" not in self.failing and super().commit(commit)

    def barrier(self) -> None:
        if "barrier" in self.failing:
            raise Unavailable("too few replicas")

    def park(self, parked: ParkedMessage) -> None:
        if "park" in self.failing:
            raise Unavailable("no server")
        super().park(parked)


class Desk:
    """An intake with everything around it."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.rig = Rig(store=self.store)
        self.bus = Bus()
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
            stopwatch=lambda: 0.0,
        )

    def take(self, data: bytes, **attributes: str) -> Verdict:
        return self.intake.handle(
            Delivery(data=data, attributes=attributes, message_id="message-7", published_at=EVENING)
        )


def body(processor: str = CACHE, night: str = "2024-12-15") -> bytes:
    return json.dumps({"processor": processor, "analysis_date": night, "status": "success"}).encode()


def test_a_good_message_is_stored_and_then_acknowledged() -> None:
    desk = Desk()

    assert Verdict.ACK is desk.take(body())

    record = desk.store.load(NIGHT)
    assert record is not None
    assert {CACHE} == set(record.completions)
    assert [("recorded", CACHE)] == desk.rig.notes.deliveries


def test_four_messages_make_the_date_ready() -> None:
    desk = Desk()

    assert [Verdict.ACK] * 4 == [desk.take(body(name)) for name in PROCESSORS]

    record = desk.store.load(NIGHT)
    assert record is not None
    assert (State.READY, [NIGHT]) == (record.state, desk.rig.started)


def test_a_message_delivered_twice_is_acknowledged_twice_and_counts_once() -> None:
    desk = Desk()

    assert [Verdict.ACK, Verdict.ACK] == [desk.take(body()), desk.take(body())]

    assert ["recorded", "duplicate"] == [outcome for outcome, _ in desk.rig.notes.deliveries]


@pytest.mark.parametrize(
    ("failing", "outcome"), [("commit", "unavailable"), ("conflict", "error")], ids=["absent", "contested"]
)
def test_what_could_not_be_stored_stays_with_the_bus(failing: str, outcome: str) -> None:
    desk = Desk(FailingStore(failing))

    assert (Verdict.HOLD if failing == "commit" else Verdict.RETRY) is desk.take(body())

    assert [(outcome, CACHE)] == desk.rig.notes.deliveries
    assert (None, []) == (desk.store.load(NIGHT), desk.bus.confirmed)
    assert COMMIT_TRIES_MAX > 1


def test_a_repeat_is_acknowledged_only_once_the_first_is_durable() -> None:
    """The first delivery's reply was lost; the second finds it stored, but on too few replicas."""
    store = FailingStore()
    desk = Desk(store)
    desk.take(body())
    store.failing.add("barrier")

    assert Verdict.HOLD is desk.take(body())


def test_a_bad_message_is_parked_with_its_reason_and_acknowledged() -> None:
    desk = Desk()

    assert Verdict.ACK is desk.take(b"\x00 not json", traceparent="00-1")

    [dead_letter] = desk.bus.confirmed
    assert ("dlq", b"\x00 not json") == (dead_letter.topic, dead_letter.data)
    assert ("not_json", "message-7", "00-1") == tuple(
        dead_letter.attributes[name] for name in ("mlfs_reason", "mlfs_message_id", "traceparent")
    )
    [kept] = desk.store.parked(10)
    assert ("not_json", "message-7", EVENING) == (kept.reason, kept.message_id, kept.received_at)
    assert (["not_json"], [("refused", "other")]) == (desk.rig.notes.refusals, desk.rig.notes.deliveries)


@pytest.mark.parametrize(("failing", "verdict"), [("bus", Verdict.RETRY), ("park", Verdict.HOLD)])
def test_a_bad_message_that_cannot_be_parked_stays_with_the_bus(failing: str, verdict: Verdict) -> None:
    """Without the store the message is held: given back, it would be published again with each delivery."""
    desk = Desk(FailingStore(failing))
    desk.bus.refuse = lambda _message: failing == "bus"

    assert verdict is desk.take(b"")

    assert [] == desk.rig.notes.refusals
    assert list(desk.store.parked(10)) == []


def test_a_huge_bad_message_is_kept_for_people_only_in_part() -> None:
    desk = Desk()

    desk.take(b"x" * 1_000_000, **{f"attribute-{number}": "x" for number in range(90)})

    assert len(desk.store.parked(1)[0].data) == 2048
    assert len(desk.bus.confirmed[0].data) == 1_000_000
    assert len(desk.bus.confirmed[0].attributes) < 100


@pytest.mark.parametrize("night", ["2024-12-24", "1999-12-31"])
def test_a_wrong_clock_cannot_open_dates_without_bound(night: str) -> None:
    desk = Desk()

    assert Verdict.ACK is desk.take(body(night=night))

    assert ["date_out_of_range"] == desk.rig.notes.refusals
    assert list(desk.store.dates(10)) == []


def test_a_message_about_a_damaged_record_begins_the_date_anew_and_comes_again() -> None:
    desk = Desk()
    desk.store._records[NIGHT] = (3, "operation", b"damaged")

    assert [Verdict.RETRY, Verdict.ACK] == [desk.take(body()), desk.take(body())]

    record = desk.store.load(NIGHT)
    assert record is not None
    assert {CACHE} == set(record.completions)
    assert [(NIGHT, b"damaged")] == desk.store.quarantined


def together(desk: Desk, *bodies: bytes) -> list[Verdict]:
    """The verdicts of a group, by place; each place exactly once."""
    deliveries = [
        Delivery(data=data, attributes={}, message_id=f"message-{place}", published_at=EVENING)
        for place, data in enumerate(bodies)
    ]
    verdicts = list(desk.intake.handle_all(deliveries))
    assert sorted(place for place, _verdict in verdicts) == list(range(len(bodies)))
    return [verdict for _place, verdict in sorted(verdicts)]


def test_messages_that_wait_together_end_as_they_would_one_by_one() -> None:
    desk, alone = Desk(), Desk()
    bodies = [body(PROCESSORS[0]), b"no json", *(body(name) for name in PROCESSORS), body(night="2024-12-16")]

    assert [Verdict.ACK] * 7 == together(desk, *bodies)

    assert [Verdict.ACK] * 7 == [alone.take(data) for data in bodies]
    for night in (NIGHT, date(2024, 12, 16)):
        ours, theirs = desk.store.load(night), alone.store.load(night)
        assert ours is not None
        assert theirs is not None
        assert (ours.state, set(ours.completions)) == (theirs.state, set(theirs.completions))
    assert ([NIGHT], 1) == (desk.rig.started, len(desk.bus.confirmed))
    assert desk.rig.notes.deliveries[-1] == ("refused", "other")


@pytest.mark.parametrize("failing", ["commit", "conflict"])
def test_of_a_group_what_could_not_be_stored_stays_with_the_bus(failing: str) -> None:
    desk = Desk(FailingStore(failing))

    later = Verdict.HOLD if failing == "commit" else Verdict.RETRY
    assert [later, Verdict.ACK, later] == together(desk, body(), b"no json", body(night="2024-12-16"))

    assert desk.store.load(NIGHT) is None


def test_an_empty_group_has_no_verdicts() -> None:
    assert together(Desk()) == []
