"""Outcomes leave the store at least once, in order per date, and are forgotten only when the bus has confirmed them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.memory_store import MemoryStore
from tests.support.nights import NIGHT, done
from tests.support.rigs import Bus, Notes
from worker.errors import Fatal, Unavailable
from worker.ports import Commit, OutgoingMessage
from worker.relay import BATCH_MAX, REFUSALS_MAX, Relay, Relayed


class ForgetfulStore(MemoryStore):
    """Loses the first removal: the worker dies between confirmation and removal."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = False

    def remove_from_outbox(self, entry_id: str) -> None:
        if not self.lost:
            self.lost = True
            raise Unavailable("no server")
        super().remove_from_outbox(entry_id)


def filled(store: MemoryStore, *names: str) -> MemoryStore:
    """Put messages `<key>-<number>` into the outbox; the key is the ordering key."""
    messages = [
        OutgoingMessage(event_id=name, topic="success", data=b"{}", attributes={}, ordering_key=name.split("-")[0])
        for name in names
    ]
    version = (record.version if (record := store.load(NIGHT)) else 0) + 1
    store.commit(Commit(record=replace(done(), version=version), operation_id=f"o{version}", messages=messages))
    return store


def waiting(store: MemoryStore) -> list[str]:
    return [entry.message.event_id for entry in store.outbox(1000)]


def sent(bus: Bus) -> list[str]:
    return [message.event_id for message in bus.confirmed]


def test_confirmed_messages_leave_the_outbox_in_order() -> None:
    store, bus, notes = filled(MemoryStore(), "a-1", "b-1", "a-2"), Bus(), Notes()

    passed = Relay(store=store, publisher=bus, observer=notes).run_once()

    assert Relayed(published=3, left=0) == passed
    assert (["a-1", "b-1", "a-2"], []) == (sent(bus), waiting(store))
    assert sent(bus) == notes.published


def test_an_empty_outbox_is_nothing_to_do() -> None:
    assert Relayed(published=0, left=0) == Relay(store=MemoryStore(), publisher=Bus(), observer=Notes()).run_once()


def test_what_is_not_confirmed_stays_and_holds_back_only_its_own_date() -> None:
    store, bus, notes = filled(MemoryStore(), "a-1", "a-2", "b-1"), Bus(), Notes()
    bus.refuse = lambda message: message.event_id == "a-1"
    relay = Relay(store=store, publisher=bus, observer=notes)

    assert Relayed(published=1, left=2) == relay.run_once()
    assert (["b-1"], ["a-1", "a-2"], ["a-1"]) == (sent(bus), waiting(store), notes.not_published)

    bus.refuse = lambda _message: False
    assert Relayed(published=2, left=0) == relay.run_once()
    assert ["b-1", "a-1", "a-2"] == sent(bus)


def test_a_crash_between_confirmation_and_removal_publishes_again_under_the_same_id() -> None:
    store, bus = filled(ForgetfulStore(), "a-1"), Bus()
    relay = Relay(store=store, publisher=bus, observer=Notes())

    with pytest.raises(Unavailable):
        relay.run_once()
    relay.run_once()

    assert (["a-1", "a-1"], []) == (sent(bus), waiting(store))


def test_one_pass_takes_a_bounded_batch() -> None:
    names = [f"{NIGHT + timedelta(days=number)}" for number in range(BATCH_MAX + 1)]
    store, bus = filled(MemoryStore(), *names), Bus()
    relay = Relay(store=store, publisher=bus, observer=Notes())

    assert Relayed(published=BATCH_MAX, left=0) == relay.run_once()
    assert Relayed(published=1, left=0) == relay.run_once()
    assert names == sent(bus)


def test_a_topic_that_refuses_holds_back_no_other() -> None:
    """The failure topic lost its permission, and a hundred dates have failed: the successes behind them are told."""
    store, bus = MemoryStore(), Bus()
    refused = [
        OutgoingMessage(event_id=f"f-{number}", topic="failure", data=b"{}", attributes={}, ordering_key=f"f{number}")
        for number in range(BATCH_MAX)
    ]
    store.commit(Commit(record=replace(done(), version=1), operation_id="o1", messages=refused))
    store.commit(
        Commit(
            record=replace(done(), version=2, revision="o1"),
            operation_id="o2",
            messages=[OutgoingMessage(event_id="s", topic="success", data=b"{}", attributes={}, ordering_key="s")],
        )
    )
    tries: list[str] = []
    bus.refuse = lambda message: message.topic == "failure" and not tries.append(message.event_id)

    passed = Relay(store=store, publisher=bus, observer=Notes()).run_once()

    assert (["s"], Relayed(published=1, left=BATCH_MAX)) == (sent(bus), passed)
    assert len(tries) == REFUSALS_MAX, "each refusal may take a time-out"


@pytest.mark.parametrize("error", [Fatal("no right"), ValueError("a bug")])
def test_an_outcome_that_the_publisher_cannot_take_holds_back_no_other_date(error: Exception) -> None:
    store, bus, notes = filled(MemoryStore(), "a-1", "b-1"), Bus(), Notes()

    def refuse(message: OutgoingMessage) -> bool:
        if message.event_id == "a-1":
            raise error
        return False

    bus.refuse = refuse

    assert Relayed(published=1, left=1) == Relay(store=store, publisher=bus, observer=notes).run_once()
    assert (["b-1"], ["a-1"], ["a-1"]) == (sent(bus), waiting(store), notes.not_published)
