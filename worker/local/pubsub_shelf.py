"""What the broker tells its journal, and what a journal gives back after a restart."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from worker.local.pubsub_model import Batch, Message, StoredSubscription, TopicSpec


class Journal(Protocol):
    """Where the broker writes down what must survive it."""

    def put_topic(self, topic: TopicSpec) -> None:
        """Remember a topic, replacing what was known of it."""

    def drop_topic(self, name: str) -> None:
        """Forget a topic."""

    def put_subscription(self, subscription: StoredSubscription) -> None:
        """Remember a subscription, replacing what was known of it."""

    def drop_subscription(self, number: int) -> None:
        """Forget a subscription and its acknowledgements."""

    def put_batch(self, batch: Batch) -> None:
        """Remember published messages."""

    def drop_batch(self, number: int) -> None:
        """Forget a batch and the acknowledgements of its messages."""

    def put_acked(self, subscription: int, message: Message) -> None:
        """Remember that a subscription is done with a message; once is enough."""

    def drop_acked(self, subscription: int, message: Message) -> None:
        """Forget that; a seek brought the message back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a journal remembers: the argument of `Broker.restore`. *acked* holds (subscription, message) numbers."""

    topics: Sequence[TopicSpec] = ()
    subscriptions: Sequence[StoredSubscription] = ()
    batches: Sequence[Batch] = ()
    acked: Collection[tuple[int, int]] = ()


class Shelf:
    """Keeps each batch in the journal for as long as any subscription holds one of its messages."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._holders: dict[int, int] = {}

    def put(self, batch: Batch, holders: int) -> None:
        """Store a batch that *holders* entries of backlogs refer to."""
        self.restore(batch.number, holders)
        self.journal.put_batch(batch)

    def restore(self, number: int, holders: int) -> None:
        """Count the holders of a batch that is stored already."""
        self._holders[number] = holders

    def release(self, number: int) -> bool:
        """Count one holder less; say whether the batch is still stored."""
        self._holders[number] -= 1
        if self._holders[number] > 0:
            return True
        del self._holders[number]
        self.journal.drop_batch(number)
        return False
