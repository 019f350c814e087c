"""The local Pub/Sub broker, its filters and its journal: every guarantee without a socket and without waiting."""

import contextlib
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from google.pubsub_v1 import types
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.errors import Refused
from worker.local.pubsub.backlog import STALE_ACK_ID, TIMERS_KEPT_MIN
from worker.local.pubsub.broker import Broker, Subscription
from worker.local.pubsub.calls import Calls
from worker.local.pubsub.faults import FaultHooks
from worker.local.pubsub.filter import compile_filter
from worker.local.pubsub.journal import Journal, SqliteJournal
from worker.local.pubsub.model import (
    CallRefused,
    Consumer,
    DeadLetterPolicy,
    Draft,
    LeasedMessage,
    RefusalCode,
    RetryPolicy,
    SubscriptionSpec,
    TopicSpec,
)

T0 = 1_734_307_200.0
TOPIC = "projects/p/topics/events"
DEAD = "projects/p/topics/dead"
SUB = "projects/p/subscriptions/worker"
DEAD_SUB = "projects/p/subscriptions/dead"


class World:
    """A broker with one topic and one subscription, and a consumer without limits."""

    def __init__(self, journal=None, **spec) -> None:
        self.broker = Broker(journal or Journal(), T0)
        self.broker.create_topic(TopicSpec(name=TOPIC))
        self.broker.create_topic(TopicSpec(name=DEAD))
        self.broker.create_subscription(SubscriptionSpec(name=DEAD_SUB, topic=DEAD))
        self.broker.create_subscription(SubscriptionSpec(name=SUB, topic=TOPIC, **spec))
        self.consumer = consumer("worker-1")

    @property
    def subscription(self) -> Subscription:
        return self.broker.subscription(SUB)

    def publish(self, *bodies: str, key: str = "", at: float = T0, **attributes: str) -> list[int]:
        return self.broker.publish(TOPIC, [Draft(body.encode(), attributes, key) for body in bodies], at)

    def take(self, at: float = T0, who: Consumer | None = None, limit: int = 100) -> list[LeasedMessage]:
        return self.subscription.backlog.take(who or self.consumer, at, limit)

    def next_take(self, now: float) -> tuple[float, list[LeasedMessage]]:
        """Go from one due instant to the next until something is delivered; give when, and what."""
        while not (taken := self.take(at=now)):
            now = self.broker.next_due_at()
            self.broker.advance(now)
        return now, taken

    def ack(self, *deliveries: LeasedMessage, at: float = T0) -> dict[str, str]:
        return self.subscription.backlog.acknowledge([delivery.ack_id for delivery in deliveries], at)

    def nack(self, *deliveries: LeasedMessage, at: float = T0) -> dict[str, str]:
        return self.subscription.backlog.modify([delivery.ack_id for delivery in deliveries], 0, at)

    def dead_letters(self) -> list[LeasedMessage]:
        return self.broker.subscription(DEAD_SUB).backlog.take(consumer("undertaker"), T0, 100)


def consumer(name: str, **limits: int) -> Consumer:
    return Consumer(name=name, ack_deadline_s=10, **limits)


def bodies(deliveries: Iterable[LeasedMessage]) -> list[str]:
    return [delivery.message.data.decode() for delivery in deliveries]


# Delivery and leases


def test_every_subscription_gets_its_own_copy_of_what_is_published_after_its_creation():
    """A message published before a subscription exists is not its message; one published after is everybody's."""
    world = World()
    world.publish("early")
    late = SubscriptionSpec(name="projects/p/subscriptions/late", topic=TOPIC)
    world.broker.create_subscription(late)
    world.publish("common")
    assert bodies(world.take()) == ["early", "common"]
    assert bodies(world.broker.subscription(late.name).backlog.take(consumer("other"), T0)) == ["common"]


def test_a_leased_message_is_nobodys_until_its_lease_ends():
    """A second consumer gets nothing while the lease holds, and the message, with its id, once it has ended."""
    world = World()
    world.publish("a")
    (first,) = world.take()
    assert world.take(who=consumer("worker-2"), at=T0 + 9) == []
    assert world.broker.next_due_at() == T0 + 10
    world.broker.advance(T0 + 10)
    (second,) = world.take(who=consumer("worker-2"), at=T0 + 10)
    assert second.message.number == first.message.number
    assert second.ack_id != first.ack_id


@pytest.mark.parametrize("seconds", [3, 10, 600])
def test_a_modified_deadline_counts_from_the_request_whether_it_is_earlier_or_later(seconds):
    """The lease ends exactly that long after the request, not before."""
    world = World()
    world.publish("a")
    (delivery,) = world.take()
    world.subscription.backlog.modify([delivery.ack_id], seconds, T0 + 1)
    world.broker.advance(T0 + 1 + seconds - 0.001)
    assert world.take(at=T0 + seconds) == []
    world.broker.advance(T0 + 1 + seconds)
    assert bodies(world.take(at=T0 + 1 + seconds)) == ["a"]


def test_an_acknowledged_message_never_comes_again():
    """Neither after its lease nor after its retention is there anything left to do."""
    world = World()
    world.publish("a")
    world.ack(*world.take())
    world.broker.advance(T0 + 11)
    assert world.take(at=T0 + 11) == []
    assert len(world.subscription.backlog) == 0
    assert world.broker.next_due_at() is None


def test_a_late_acknowledgement_still_counts_without_exactly_once_delivery():
    """Work that was done is not repeated because its acknowledgement came after the lease."""
    world = World()
    world.publish("a")
    (delivery,) = world.take()
    world.broker.advance(T0 + 10)
    assert world.ack(delivery, at=T0 + 11) == {}
    assert world.take(at=T0 + 11) == []


@pytest.mark.parametrize("ack_id", ["", "garbage", "1-", "-1", "1-2-3", "1.5-2"])
def test_an_ack_id_that_no_server_made_is_refused_and_changes_nothing(ack_id):
    """The good ack ids of the same request are left alone, so that the caller may send them again."""
    world = World()
    world.publish("a")
    (delivery,) = world.take()
    with pytest.raises(CallRefused) as refused:
        world.subscription.backlog.acknowledge([delivery.ack_id, ack_id], T0)
    assert refused.value.code is RefusalCode.INVALID_ARGUMENT
    assert len(world.subscription.backlog) == 1


@pytest.mark.parametrize("limits", [{"messages_max": 2}, {"bytes_max": 2}])
def test_flow_control_stops_at_its_limit_and_goes_on_when_something_is_settled(limits):
    """Outstanding messages and bytes are counted per consumer; an acknowledgement, refusal or expiry makes room."""
    world = World()
    world.publish("a", "b", "c", "d", "e")
    limited = consumer("limited", **limits)
    first, second = world.take(who=limited)
    assert world.take(who=limited) == []
    world.ack(first)
    (third,) = world.take(who=limited)
    world.nack(second)
    assert bodies(world.take(who=limited)) == ["b"]
    world.broker.advance(T0 + 10)
    assert limited.messages_held == limited.bytes_held == 0
    assert bodies(world.take(who=limited)) == ["b", "c"]
    assert third.message.data == b"c"


def test_one_take_is_bounded_by_count_and_by_bytes():
    """However large the backlog, one response stays of a size that a client can read."""
    world = World()
    world.publish(*["x"] * 1000)
    assert len(world.take(limit=10_000)) == 250
    other = World()
    other.publish(*["y" * 3_000_000] * 3)
    assert len(other.take()) == 2


def test_timers_of_settled_leases_do_not_pile_up():
    """A hundred thousand short leases leave a bounded number of timers behind."""
    world = World()
    for _ in range(400):
        world.publish(*["x"] * 250)
        world.ack(*world.take(limit=250))
    world.take()
    assert len(world.subscription.backlog._timers) <= TIMERS_KEPT_MIN + 250


# Failed deliveries


def test_without_a_retry_policy_a_refused_message_comes_again_at_once():
    """The default of the service."""
    world = World()
    (number,) = world.publish("a")
    world.nack(*world.take())
    assert SUB in world.broker.ready
    assert [delivery.message.number for delivery in world.take()] == [number]


@pytest.mark.parametrize("ending", ["nack", "expiry"])
def test_a_retry_policy_doubles_the_wait_up_to_its_maximum(ending):
    """Minimum 2 s and maximum 10 s give 2, 4, 8, 10, 10; a lease that ends waits like a refusal."""
    world = World(retry=RetryPolicy(min_backoff_s=2, max_backoff_s=10))
    world.publish("a")
    now, waits = T0, []
    (delivery,) = world.take()
    for _ in range(5):
        if ending == "nack":
            world.nack(delivery, at=now)
        else:
            now += 10
            world.broker.advance(now)
        again_at, (delivery,) = world.next_take(now)
        waits.append(again_at - now)
        now = again_at
    assert waits == [2, 4, 8, 10, 10]


def test_after_its_last_attempt_a_message_goes_to_the_dead_letter_topic_with_its_origin():
    """Five deliveries, counted from 1, then a copy that says where it came from; nothing stays behind."""
    world = World(dead_letter=DeadLetterPolicy(topic=DEAD, attempts_max=5))
    world.publish("poison", kind="bad")
    attempts = []
    for _ in range(5):
        (delivery,) = world.take()
        attempts.append(delivery.attempt)
        world.nack(delivery, at=T0 + 7)
    assert attempts == [1, 2, 3, 4, 5]
    assert world.take() == []
    (dead,) = world.dead_letters()
    assert dead.message.data == b"poison"
    assert dead.message.published_at == T0 + 7
    assert dead.message.attributes == {
        "kind": "bad",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": "worker",
        "CloudPubSubDeadLetterSourceSubscriptionProject": "p",
        "CloudPubSubDeadLetterSourceTopicPublishTime": "2024-12-16T00:00:00.000+00:00",
    }


def test_without_a_dead_letter_policy_no_attempt_is_reported():
    """The attempt is 0 on the wire, which the real client shows as None."""
    world = World()
    world.publish("a")
    world.nack(*world.take())
    assert [delivery.attempt for delivery in world.take()] == [0]


def test_a_message_is_kept_when_its_dead_letter_topic_is_gone():
    """Losing the topic must not lose the message: it is delivered for as long as it is retained."""
    world = World(dead_letter=DeadLetterPolicy(topic=DEAD, attempts_max=5))
    world.publish("poison")
    world.broker.delete_topic(DEAD)
    for _ in range(6):
        world.nack(*world.take())
    assert [delivery.attempt for delivery in world.take()] == [7]


# Exactly-once ack ids


def test_exactly_once_honours_only_the_present_lease():
    """A repeated, an expired and a superseded ack id are each reported, and change nothing."""
    world = World(exactly_once=True)
    world.publish("a", "b")
    first, second = world.take()
    assert world.ack(first) == {}
    assert world.ack(first) == {first.ack_id: STALE_ACK_ID}
    assert world.ack(second, at=T0 + 10) == {second.ack_id: STALE_ACK_ID}
    world.broker.advance(T0 + 10)
    (again,) = world.take(at=T0 + 10)
    assert world.ack(second, at=T0 + 11) == {second.ack_id: STALE_ACK_ID}
    assert world.nack(second, at=T0 + 11) == {second.ack_id: STALE_ACK_ID}
    assert world.ack(again, at=T0 + 11) == {}


# Ordering keys


def test_messages_of_one_key_come_in_order_and_stay_with_one_consumer():
    """While worker-1 holds a message of a key, worker-2 gets only other keys."""
    world = World(ordered=True)
    world.publish("a1", "a2", "a3", key="a")
    world.publish("b1", key="b")
    first = world.take(limit=1)
    assert bodies(first) == ["a1"]
    other = consumer("worker-2")
    assert bodies(world.take(who=other)) == ["b1"]
    assert bodies(world.take()) == ["a2", "a3"]
    world.publish("a4", key="a")
    assert world.take(who=other) == []
    assert bodies(world.take()) == ["a4"]


def test_a_key_moves_to_another_consumer_once_everything_held_is_acknowledged():
    """Otherwise a consumer that has gone would own its keys for ever."""
    world = World(ordered=True)
    world.publish("a1", "a2", key="a")
    held = world.take(limit=1)
    other = consumer("worker-2")
    assert world.take(who=other) == []
    world.ack(*held)
    assert bodies(world.take(who=other)) == ["a2"]


def test_a_refused_message_brings_back_the_later_ones_of_its_key_even_if_acknowledged():
    """0 1 2 3 4, then 1 refused after 2 was acknowledged: 1 2 3 4 again, and the old ack ids of 3 and 4 are void."""
    world = World(ordered=True)
    world.publish("0", "1", "2", "3", "4", key="k")
    d0, d1, d2, d3, d4 = world.take()
    world.ack(d0, d2)
    world.nack(d1)
    world.ack(d3, d4)
    again = world.take()
    assert bodies(again) == ["1", "2", "3", "4"]
    world.ack(*again)
    assert len(world.subscription.backlog) == 0


def test_a_key_waits_as_a_whole_while_one_of_its_messages_is_delayed():
    """The backoff of the refused message holds up the later ones, but no other key."""
    world = World(ordered=True, retry=RetryPolicy(min_backoff_s=5, max_backoff_s=5))
    world.publish("a1", "a2", key="a")
    d1, _ = world.take()
    world.nack(d1)
    world.publish("a3", key="a")
    world.publish("b1", key="b")
    assert bodies(world.take()) == ["b1"]
    world.broker.advance(T0 + 5)
    assert bodies(world.take(at=T0 + 5)) == ["a1", "a2", "a3"]


def test_a_dead_letter_frees_the_later_messages_of_its_key():
    """One poisoned message must not stop its key for the whole retention."""
    world = World(ordered=True, dead_letter=DeadLetterPolicy(topic=DEAD, attempts_max=5))
    world.publish("poison", "good", key="k")
    for _ in range(5):
        delivered = world.take()
        world.nack(delivered[0])
    assert bodies(world.dead_letters()) == ["poison"]
    world.ack(*delivered[1:])
    assert len(world.subscription.backlog) == 0


def test_without_ordering_a_key_means_nothing():
    """Two consumers share one key at will."""
    world = World()
    world.publish("a1", "a2", key="a")
    world.take(limit=1)
    assert bodies(world.take(who=consumer("worker-2"))) == ["a2"]


# Retention, seek, administration


def test_what_is_not_acknowledged_within_the_retention_is_dropped():
    """Seven days after its publication, leased or not, a message is gone; nothing grows without bound."""
    world = World()
    world.publish("old", "held")
    world.take(limit=1)
    world.publish("new", at=T0 + 86_400)
    world.broker.advance(T0 + 7 * 86_400)
    assert bodies(world.take(at=T0 + 7 * 86_400)) == ["new"]


@pytest.mark.parametrize("ordered", [False, True])
def test_a_seek_brings_acknowledged_messages_back_where_they_are_retained(ordered):
    """Everything published at or after the instant comes again; what was published before it does not."""
    world = World(retain_acked=True, ordered=ordered)
    world.publish("1", key="k", at=T0)
    world.publish("2", key="k", at=T0 + 1)
    world.publish("3", key="k", at=T0 + 2)
    one, two, _ = world.take(at=T0 + 2)
    world.ack(one, two, at=T0 + 2)
    world.subscription.backlog.seek(T0 + 1)
    world.broker.advance(T0 + 30)
    again = world.take(at=T0 + 30)
    assert bodies(again) == ["2", "3"]
    world.ack(*again, at=T0 + 30)
    assert world.take(at=T0 + 30) == []


def test_a_seek_past_the_newest_message_discards_the_backlog():
    """Leased messages are discarded too; a message published afterwards is delivered."""
    world = World()
    world.publish("1", "2")
    world.take(limit=1)
    world.subscription.backlog.seek(T0 + 1)
    world.publish("3", at=T0 + 2)
    world.broker.advance(T0 + 60)
    assert bodies(world.take(at=T0 + 60)) == ["3"]


def test_a_deleted_topic_leaves_the_backlog_but_brings_nothing_new_even_under_its_old_name():
    """The subscription shows `_deleted-topic_`; a new topic of the same name is another topic."""
    world = World()
    world.publish("kept")
    world.broker.delete_topic(TOPIC)
    world.broker.create_topic(TopicSpec(name=TOPIC))
    world.publish("of the new topic")
    assert world.subscription.spec.topic == "_deleted-topic_"
    assert bodies(world.take()) == ["kept"]


@pytest.mark.parametrize("change", [{"topic": DEAD}, {"filter": "attributes:a"}, {"ordered": True}])
def test_what_decides_a_subscriptions_messages_cannot_be_changed(change):
    """Topic, filter and ordering are fixed at creation."""
    world = World()
    with pytest.raises(CallRefused) as refused:
        world.broker.update_subscription(replace(world.subscription.spec, **change))
    assert refused.value.code is RefusalCode.INVALID_ARGUMENT


# Filters


@pytest.mark.parametrize(
    ("expression", "matching", "other"),
    [
        ("", {}, None),
        ('attributes.status = "success"', {"status": "success"}, {"status": "failed"}),
        ('attributes.status="success"', {"status": "success"}, {}),
        ('attributes.status != "failed"', {}, {"status": "failed"}),
        ("attributes:status", {"status": ""}, {"other": "x"}),
        ('attributes:"a.b/c"', {"a.b/c": "x"}, {"a": "x"}),
        ('attributes."k-1" = "say \\"hi\\""', {"k-1": 'say "hi"'}, {"k-1": "say hi"}),
        ('hasPrefix(attributes.date, "2024-")', {"date": "2024-12-15"}, {"date": "2025-01-01"}),
        ('hasPrefix(attributes.date, "")', {"date": ""}, {}),
        ("NOT attributes:a", {}, {"a": "1"}),
        ("-attributes:a", {}, {"a": "1"}),
        ('attributes:a AND attributes.b = "2"', {"a": "1", "b": "2"}, {"a": "1"}),
        ("attributes:a OR attributes:b", {"b": "2"}, {}),
        ("attributes:a AND (attributes:b OR NOT attributes:c)", {"a": "1"}, {"a": "1", "c": "1"}),
    ],
)
def test_a_filter_lets_through_what_it_says(expression, matching, other):
    """Each form of the filter language, with a message it takes and one it leaves."""
    accepts = compile_filter(expression)
    assert accepts(matching)
    assert other is None or not accepts(other)


@pytest.mark.parametrize(
    "expression",
    [
        "attributes", "attributes.a", 'attributes.a == "1"', "attributes.a = 1", 'attributes.a > "1"', "attributes:",
        'data = "x"', "attributes:a AND", "attributes:a attributes:b", "(attributes:a", "attributes:a)",
        "attributes:a AND attributes:b OR attributes:c", 'hasPrefix(attributes:a, "x")', 'attributes.a = "open',
        "attributes:a and attributes:b", "NOT", "attributes:" + "a" * 256,
    ],
)  # fmt: skip
def test_a_filter_that_cannot_be_read_is_refused(expression):
    """A filter silently taken for something else would lose messages."""
    with pytest.raises(CallRefused) as refused:
        compile_filter(expression)
    assert refused.value.code is RefusalCode.INVALID_ARGUMENT


@given(st.text(max_size=300))
def test_any_text_is_either_a_filter_or_refused(expression):
    """No input makes the parser fail in another way."""
    with contextlib.suppress(CallRefused):
        assert compile_filter(expression)({"a": "b"}) in {True, False}


# The journal


def reopened(path: Path) -> tuple[Broker, SqliteJournal]:
    journal = SqliteJournal(path)
    broker = Broker(journal, T0 + 3600)
    broker.restore(journal.load())
    return broker, journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pubsub.sqlite"


def test_topics_subscriptions_and_what_is_unacknowledged_survive_a_restart(path):
    """With all their settings; acknowledged and filtered messages stay away, and new numbers are higher."""
    journal = SqliteJournal(path)
    world = World(
        journal,
        labels={"team": "data"},
        ack_deadline_s=33,
        retention_s=1_000.5,
        filter="NOT attributes:skip",
        retry=RetryPolicy(min_backoff_s=0.5, max_backoff_s=8),
        dead_letter=DeadLetterPolicy(topic=DEAD, attempts_max=7),
        ordered=True,
        push_endpoint="http://127.0.0.1:9/push?token=1",
        expiration_s=None,
    )
    world.publish("done", "open", key="k", colour="red")
    world.publish("unwanted", skip="1")
    done, opened = world.take()
    world.ack(done)
    journal.commit()
    journal.close()
    broker, journal = reopened(path)
    assert broker.topics() == [TopicSpec(name=DEAD), TopicSpec(name=TOPIC)]
    assert broker.subscription(SUB).spec == world.subscription.spec
    (again,) = broker.subscription(SUB).backlog.take(consumer("w"), T0 + 3600)
    assert again.message == opened.message
    assert broker.publish(TOPIC, [Draft(b"x", {}, "")], T0 + 3600)[0] > again.message.number
    journal.close()


def test_an_acknowledgement_from_before_the_restart_is_honoured_after_it(path):
    """The worker's work is not repeated only because the server was restarted in between."""
    journal = SqliteJournal(path)
    world = World(journal)
    world.publish("a")
    (delivery,) = world.take()
    journal.commit()
    journal.close()
    broker, journal = reopened(path)
    broker.subscription(SUB).backlog.acknowledge([delivery.ack_id], T0 + 3600)
    assert broker.subscription(SUB).backlog.take(consumer("w"), T0 + 3600) == []
    journal.close()


def test_retained_messages_can_be_sought_after_a_restart(path):
    """Acknowledged ones stay away until the seek and come back with it, which itself survives a restart."""
    journal = SqliteJournal(path)
    world = World(journal, retain_acked=True)
    world.publish("a", "b")
    world.ack(*world.take(limit=1))
    journal.commit()
    journal.close()
    broker, journal = reopened(path)
    assert bodies(broker.subscription(SUB).backlog.take(consumer("w"), T0 + 1)) == ["b"]
    broker.subscription(SUB).backlog.seek(T0)
    journal.commit()
    journal.close()
    broker, journal = reopened(path)
    assert bodies(broker.subscription(SUB).backlog.take(consumer("w"), T0 + 1)) == ["a", "b"]
    journal.close()


def test_a_subscription_to_a_recreated_topic_is_told_apart_after_a_restart(path):
    """The old one keeps its backlog, the new topic's messages are not added to it."""
    journal = SqliteJournal(path)
    world = World(journal)
    world.publish("old")
    world.broker.delete_topic(TOPIC)
    world.broker.create_topic(TopicSpec(name=TOPIC))
    world.broker.create_subscription(SubscriptionSpec(name="projects/p/subscriptions/new", topic=TOPIC))
    world.publish("new")
    journal.commit()
    journal.close()
    broker, journal = reopened(path)
    assert bodies(broker.subscription(SUB).backlog.take(consumer("w"), T0 + 1)) == ["old"]
    assert bodies(broker.subscription("projects/p/subscriptions/new").backlog.take(consumer("w"), T0 + 1)) == ["new"]
    journal.close()


def test_the_journal_forgets_what_everybody_has_acknowledged(path):
    """Messages and acknowledgements leave the file together, so that it does not grow with the years."""
    journal = SqliteJournal(path)
    world = World(journal)
    other = "projects/p/subscriptions/other"
    world.broker.create_subscription(SubscriptionSpec(name=other, topic=TOPIC))
    world.publish("a", "b")
    journal.commit()
    world.ack(*world.take())
    journal.commit()
    assert len(journal.load().batches) == 1
    assert len(journal.load().acked) == 2
    world.broker.delete_subscription(other)
    journal.commit()
    assert journal.load().batches == []
    assert journal.load().acked == set()
    journal.close()


def test_a_full_disk_refuses_publishers_loses_nothing_confirmed_and_piles_nothing_up(path):
    """Refusals are `UNAVAILABLE`, on which publishers try again; once there is room everything is written."""
    journal = SqliteJournal(path)
    world = World(journal)
    calls = Calls(world.broker, journal, FaultHooks())
    calls.commit()
    request = types.PublishRequest.pb()(topic=TOPIC, messages=[{"data": b"x" * 200_000}])
    (pages,) = journal._connection.execute("PRAGMA page_count").fetchone()
    journal._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    for _ in range(5):
        with pytest.raises(CallRefused) as refused:
            calls.publish(request, T0)
        assert refused.value.code is RefusalCode.UNAVAILABLE
    assert len(world.subscription.backlog) == 1
    journal._connection.execute("PRAGMA max_page_count = 1000000")
    calls.publish(request, T0)
    journal.close()
    broker, journal = reopened(path)
    assert len(broker.subscription(SUB).backlog) == 2
    journal.close()


def test_a_journal_belongs_to_one_server(path):
    """A second server on the same file would deliver everything twice."""
    journal = SqliteJournal(path)
    with pytest.raises(Refused, match="stop the server"):
        SqliteJournal(path)
    journal.close()


def test_a_journal_of_a_newer_server_is_left_alone(path):
    """An older program must not guess at tables it does not know."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(Refused, match="newer server"):
        SqliteJournal(path)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 4), st.sampled_from(["", "a", "b"])),
        st.tuples(st.just("take"), st.integers(1, 5), st.sampled_from(["w1", "w2"])),
        st.tuples(st.sampled_from(["ack", "nack"]), st.integers(0, 9), st.just("")),
        st.tuples(st.sampled_from(["wait", "restart"]), st.integers(1, 15), st.just("")),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, ordered=st.booleans(), has_retry=st.booleans())
def test_no_message_is_lost_and_no_settled_one_returns_whatever_happens(tmp_path_factory, steps, ordered, has_retry):
    """Any mix of publishing, taking, acknowledging, refusing, waiting and restarting ends with exactly the rest.

    "The rest" is what no honoured acknowledgement settled. Without ordering that is every acknowledged message; with
    ordering a replay may bring acknowledged ones back, so there it is only required that nothing is lost and that each
    key comes in order.
    """
    file = tmp_path_factory.mktemp("journal") / "pubsub.sqlite"
    journal = SqliteJournal(file)
    world = World(journal, ordered=ordered, retry=RetryPolicy(min_backoff_s=3) if has_retry else None)
    now, held, published, acked = T0, [], [], set()
    for action, amount, name in steps:
        if action == "publish":
            published += world.publish(*["x"] * amount, key=name, at=now)
        elif action == "take":
            held += world.take(at=now, who=consumer(name), limit=amount)
        elif action == "wait":
            now += amount
            world.broker.advance(now)
        elif action == "restart":
            journal.commit()
            journal.close()
            world.broker, journal = reopened(file)
        elif held and action == "nack":
            world.nack(held[amount % len(held)], at=now)
        elif held:
            delivery = held[amount % len(held)]
            world.ack(delivery, at=now)
            acked.add(delivery.message.number)
    for _ in range(2):  # leases end, then the delays that this began
        now += 3600
        world.broker.advance(now)
    rest = [delivery.message for delivery in world.take(at=now, limit=250)]
    journal.close()
    numbers = [message.number for message in rest]
    assert set(published) - acked <= set(numbers)
    assert len(set(numbers)) == len(numbers)
    assert ordered or set(numbers) == set(published) - acked
    keyed = [(message.ordering_key, message.number) for message in rest if ordered and message.ordering_key]
    assert sorted(keyed, key=lambda pair: pair[0]) == sorted(keyed)
