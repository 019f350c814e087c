"""Local Pub/Sub broker: topics, subscriptions and messages in memory; the caller passes the time.

Model: a topic copies each published message into the backlog of every existing subscription whose filter accepts the
message. A message without a subscription is dropped, as in the real service.

Guarantees: at least one delivery for each subscription until the retention ends; messages of an ordering key in order;
dead letters after the number of attempts in the policy. Every change goes to the journal before the method returns, and
the caller decides when the journal commits. Therefore a crash loses only uncommitted changes, and repeats only messages
whose acknowledgement was not committed.

A single thread calls the broker, so the broker takes no locks. Instants are seconds since the Unix epoch.
"""

import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from worker.local.pubsub.backlog import Backlog, Phase
from worker.local.pubsub.filter import compile_filter
from worker.local.pubsub.journal import BatchRetention, Journal, Stored
from worker.local.pubsub.model import (
    DELETED_TOPIC,
    Batch,
    CallRefused,
    Draft,
    Message,
    RefusalCode,
    StoredSubscription,
    SubscriptionSpec,
    TopicSpec,
)

MICROSECONDS: Final = 1_000_000


class Subscription:
    """Subscription with a backlog; also the keeper of the backlog."""

    def __init__(
        self, stored: StoredSubscription, broker: "Broker", shelf: BatchRetention, serials: Iterator[int]
    ) -> None:
        self.stored = stored
        self.is_being_deleted = False
        self.accepts = compile_filter(stored.spec.filter)
        self.backlog = Backlog(stored.spec, self, serials)
        self._broker = broker
        self._shelf = shelf

    @property
    def spec(self) -> SubscriptionSpec:
        """The present settings."""
        return self.stored.spec

    def change(self, stored: StoredSubscription) -> None:
        """Store new settings in memory and in the journal."""
        self.stored = stored
        self.backlog.spec = stored.spec
        self._shelf.journal.put_subscription(stored)

    def on_ready(self) -> None:
        """See `Keeper`."""
        self._broker.ready.add(self.spec.name)

    def on_acked(self, message: Message) -> None:
        """See `Keeper`."""
        self._shelf.journal.put_acked(self.stored.number, message)

    def on_unacked(self, message: Message) -> None:
        """See `Keeper`."""
        self._shelf.journal.drop_acked(self.stored.number, message)

    def on_gone(self, message: Message) -> None:
        """See `Keeper`."""
        if self._shelf.release(message.batch) and not self.is_being_deleted:
            self._shelf.journal.put_acked(self.stored.number, message)

    def on_exhausted(self, message: Message, attempt: int, now: float) -> bool:
        """See `Keeper`."""
        return self._broker.dead_letter(self.spec, message, attempt, now)


class Broker:
    """Registry of topics and subscriptions by name.

    Attributes:
        ready: Names of subscriptions with possibly deliverable messages. The caller empties the set.
        subscription_changes: Counter of created, changed and deleted subscriptions.
    """

    def __init__(self, journal: Journal, started_at: float) -> None:
        self.ready: set[str] = set()
        self.subscription_changes = 0
        self._journal = journal
        self._shelf = BatchRetention(journal)
        self._numbers = itertools.count(int(started_at * MICROSECONDS))
        self._topics: dict[str, TopicSpec] = {}
        self._subscriptions: dict[str, Subscription] = {}

    def restore(self, stored: Stored) -> None:
        """Restore the content of the journal. Delivery attempts start again at one.

        Numbers continue after the highest stored number, even if the clock is behind this number.
        """
        highest = max(
            [subscription.number for subscription in stored.subscriptions]
            + [batch.messages[-1].number for batch in stored.batches],
            default=0,
        )
        self._numbers = itertools.count(max(next(self._numbers), highest + 1))
        self._topics = {topic.name: topic for topic in stored.topics}
        for known in stored.subscriptions:
            self._subscriptions[known.spec.name] = Subscription(known, self, self._shelf, self._numbers)
        for batch in stored.batches:
            self._restore_batch(batch, stored.acked)

    # Topics

    def create_topic(self, topic: TopicSpec) -> None:
        """Create a topic; raise `CallRefused` if the name is taken."""
        if topic.name in self._topics:
            raise CallRefused(RefusalCode.ALREADY_EXISTS, f"Topic already exists (resource={topic.name})")
        self._topics[topic.name] = topic
        self._journal.put_topic(topic)

    def topic(self, name: str) -> TopicSpec:
        """Return the settings of a topic; raise `CallRefused` if the topic does not exist."""
        if name not in self._topics:
            raise CallRefused(RefusalCode.NOT_FOUND, f"Topic not found (resource={name})")
        return self._topics[name]

    def topics(self) -> list[TopicSpec]:
        """Return all topics, by name."""
        return [self._topics[name] for name in sorted(self._topics)]

    def update_topic(self, topic: TopicSpec) -> None:
        """Replace the settings of an existing topic."""
        self.topic(topic.name)
        self._topics[topic.name] = topic
        self._journal.put_topic(topic)

    def delete_topic(self, name: str) -> None:
        """Delete a topic. The subscriptions keep the backlog and get no messages from a new topic of this name."""
        self.topic(name)
        del self._topics[name]
        until = next(self._numbers)
        for subscription in self._subscriptions.values():
            if subscription.spec.topic == name:
                spec = replace(subscription.spec, topic=DELETED_TOPIC)
                subscription.change(replace(subscription.stored, spec=spec, until=until))
        self._journal.drop_topic(name)

    # Subscriptions

    def create_subscription(self, spec: SubscriptionSpec) -> None:
        """Create a subscription for all messages published afterwards.

        Raises:
            CallRefused: The name is taken, a topic does not exist, or the filter cannot be read.
        """
        if spec.name in self._subscriptions:
            raise CallRefused(RefusalCode.ALREADY_EXISTS, f"Subscription already exists (resource={spec.name})")
        self.topic(spec.topic)
        self._check_dead_letter_topic(spec)
        number = next(self._numbers)
        stored = StoredSubscription(number=number, spec=spec, source_topic=spec.topic, since=number)
        self._subscriptions[spec.name] = Subscription(stored, self, self._shelf, self._numbers)
        self.subscription_changes += 1
        self._journal.put_subscription(stored)

    def subscription(self, name: str) -> Subscription:
        """Return a subscription; raise `CallRefused` if the subscription does not exist."""
        if name not in self._subscriptions:
            raise CallRefused(RefusalCode.NOT_FOUND, f"Subscription does not exist (resource={name})")
        return self._subscriptions[name]

    def subscriptions(self) -> list[SubscriptionSpec]:
        """Return the settings of all subscriptions, by name."""
        return [self._subscriptions[name].spec for name in sorted(self._subscriptions)]

    def update_subscription(self, spec: SubscriptionSpec) -> None:
        """Replace the settings of an existing subscription.

        Raises:
            CallRefused: The subscription does not exist, or topic, filter or ordering would change.
        """
        subscription = self.subscription(spec.name)
        old = subscription.spec
        if (spec.topic, spec.filter, spec.ordered) != (old.topic, old.filter, old.ordered):
            raise CallRefused(
                RefusalCode.INVALID_ARGUMENT,
                "topic, filter and enable_message_ordering are not mutable; create another subscription",
            )
        self._check_dead_letter_topic(spec)
        subscription.change(replace(subscription.stored, spec=spec))
        self.subscription_changes += 1

    def delete_subscription(self, name: str) -> None:
        """Delete a subscription and the backlog."""
        subscription = self.subscription(name)
        subscription.is_being_deleted = True
        subscription.backlog.clear()
        del self._subscriptions[name]
        self.ready.add(name)
        self.subscription_changes += 1
        self._journal.drop_subscription(subscription.stored.number)

    # Messages

    def publish(self, topic: str, drafts: Iterable[Draft], now: float) -> list[int]:
        """Number the messages, add the messages to every matching subscription, and return the numbers.

        Raises:
            CallRefused: The topic does not exist.
        """
        self.topic(topic)
        first = next(self._numbers)
        numbers = itertools.chain((first,), self._numbers)
        messages = tuple(
            Message(number, first, now, draft.data, draft.attributes, draft.ordering_key)
            for draft, number in zip(drafts, numbers, strict=False)
        )
        takers = [subscription for subscription in self._subscriptions.values() if subscription.spec.topic == topic]
        wanted = [(taker, message) for taker in takers for message in messages if taker.accepts(message.attributes)]
        if wanted:
            self._shelf.put(Batch(first, topic, messages), len(wanted))
        for taker, message in wanted:
            taker.backlog.admit(message)
        return [message.number for message in messages]

    def dead_letter(self, spec: SubscriptionSpec, message: Message, attempt: int, now: float) -> bool:
        """Publish a copy of *message* to the dead-letter topic of *spec*; return False if the topic is gone."""
        if spec.dead_letter is None or spec.dead_letter.topic not in self._topics:
            return False
        _, project, _, short_name = spec.name.split("/")
        published_at = datetime.fromtimestamp(message.published_at, tz=UTC)
        source = {
            "CloudPubSubDeadLetterSourceDeliveryCount": str(attempt),
            "CloudPubSubDeadLetterSourceSubscription": short_name,
            "CloudPubSubDeadLetterSourceSubscriptionProject": project,
            "CloudPubSubDeadLetterSourceTopicPublishTime": published_at.isoformat(timespec="milliseconds"),
        }
        draft = Draft(message.data, {**message.attributes, **source}, message.ordering_key)
        self.publish(spec.dead_letter.topic, [draft], now)
        return True

    # Time

    def next_due_at(self) -> float | None:
        """Return the next instant for `advance`; sometimes no lease or delay has ended then."""
        dues = [subscription.backlog.next_due_at() for subscription in self._subscriptions.values()]
        return min((due for due in dues if due is not None), default=None)

    def advance(self, now: float) -> None:
        """Advance every subscription to *now*."""
        for subscription in list(self._subscriptions.values()):
            subscription.backlog.advance(now)

    def _check_dead_letter_topic(self, spec: SubscriptionSpec) -> None:
        if spec.dead_letter is not None and spec.dead_letter.topic not in self._topics:
            raise CallRefused(RefusalCode.NOT_FOUND, f"Dead letter topic not found (resource={spec.dead_letter.topic})")

    def _restore_batch(self, batch: Batch, acked: Collection[tuple[int, int]]) -> None:
        """Restore the messages of a stored batch in the subscriptions that hold the messages."""
        held = [
            (taker, message, phase)
            for taker in self._subscriptions.values()
            for message in batch.messages
            if (phase := _phase_of(taker, batch, message, acked)) is not None
        ]
        self._shelf.restore(batch.number, len(held))
        if not held:
            self._journal.drop_batch(batch.number)
        for taker, message, phase in held:
            taker.backlog.restore(message, phase)


def _phase_of(taker: Subscription, batch: Batch, message: Message, acked: Collection[tuple[int, int]]) -> Phase | None:
    """Return the phase of a stored message in a subscription; None for a message of other subscriptions."""
    known = taker.stored
    is_in_time = known.since <= message.number and (known.until is None or message.number < known.until)
    if known.source_topic != batch.topic or not is_in_time or not taker.accepts(message.attributes):
        return None
    if (known.number, message.number) not in acked:
        return Phase.READY
    return Phase.ACKED if known.spec.retain_acked else None
