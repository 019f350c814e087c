"""Looks into the dead-letter subscription, and sends messages from it again. Broken off at any point, nothing is lost.

Every message is held by a lease while somebody looks. It is removed only after the bus has confirmed that it was sent
again; all others are given back. Broken off between the two, a message is sent twice: its first id comes with it, so
that it counts once.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from schemas.dead_letter import DeadLetter
from worker.errors import PipelineError

# Whoever sent the message has not repaired anything by the fifth time; a person should look.
REDRIVES_MAX = 5
TAKE_MAX = 500
# The longest lease Pub/Sub gives; a person may have to read a plan before it ends.
LEASE_S = 600
# What one look may hold in memory.
HELD_BYTES_MAX = 100_000_000
# One request: Pub/Sub takes 1,000 messages and 10 MB of one ordering key, and a failed one should not hold up many.
BATCH_MAX = 100
BATCH_BYTES_MAX = 9_100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLetter:
    """A dead letter under a lease of ours; *handle* names the lease."""

    letter: DeadLetter
    handle: str


class DeadLetterQueue(Protocol):
    """The dead-letter subscription. Every method may raise `Unavailable` or `Fatal`."""

    def take(self, limit: int) -> Sequence[HeldLetter]:
        """Lease some of what waits; empty when nothing comes any more."""

    def give_back(self, held: Collection[HeldLetter]) -> None:
        """End leases: the messages wait again, at once."""

    def send_again(self, letters: Sequence[DeadLetter]) -> None:
        """Publish to the source topic, all or none; returns when confirmed."""

    def remove(self, held: Collection[HeldLetter]) -> None:
        """Acknowledge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What waits, oldest copy first; *more* says that there may be others beyond the limit."""

    held: Sequence[HeldLetter]
    more: bool


@contextmanager
def looking(queue: DeadLetterQueue, limit: int) -> Iterator[Look]:
    """Hold up to *limit* messages for the time of the block; those not removed in it are given back."""
    held: dict[str, HeldLetter] = {}
    try:
        more = _take_all(queue, limit, held)
        yield Look(held=sorted(held.values(), key=_age), more=more)
    finally:
        # A lease that was removed meanwhile is known to the bus as ended; giving it back changes nothing.
        queue.give_back(held.values())


def _take_all(queue: DeadLetterQueue, limit: int, held: dict[str, HeldLetter]) -> bool:
    size = 0
    while len(held) < limit and size < HELD_BYTES_MAX:
        known = len(held)
        for one in queue.take(min(TAKE_MAX, limit - known)):
            size += len(one.letter.data)
            # One that comes again has lost its lease: only the newest one counts.
            held[one.letter.message_id] = one
        if len(held) == known:
            return False
    return True


def _age(held: HeldLetter) -> tuple[object, str]:
    return held.letter.published_at, held.letter.message_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which messages are meant: all, or those of some reasons, or those of some ids (the copy's or the first one)."""

    reasons: frozenset[str] = frozenset()
    message_ids: frozenset[str] = frozenset()

    def takes(self, letter: DeadLetter) -> bool:
        """Whether *letter* is meant."""
        by_reason = not self.reasons or letter.reason in self.reasons
        by_id = not self.message_ids or bool(self.message_ids & {letter.message_id, letter.original_message_id})
        return by_reason and by_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would be sent again, and what was meant but stays, with why."""

    chosen: Sequence[HeldLetter]
    left: Sequence[tuple[DeadLetter, str]]


def plan_redrive(look: Look, selection: Selection, *, count_max: int, subscription: str) -> Plan:
    """Choose from what waits.

    Args:
        look: What waits.
        selection: What is meant.
        count_max: How many at most.
        subscription: The worker's own, short name: what Pub/Sub forwarded from another one does not belong to us.
    """
    chosen: list[HeldLetter] = []
    left: list[tuple[DeadLetter, str]] = []
    for held in look.held:
        if not selection.takes(held.letter):
            continue
        why = _obstacle(held.letter, subscription) or ("beyond --max" if len(chosen) >= count_max else None)
        if why is None:
            chosen.append(held)
        else:
            left.append((held.letter, why))
    return Plan(chosen=chosen, left=left)


def _obstacle(letter: DeadLetter, subscription: str) -> str | None:
    if letter.redriven >= REDRIVES_MAX:
        return f"sent again {letter.redriven} times already, {REDRIVES_MAX} is the most"
    if letter.truncated:
        return "only the beginning of its body was kept"
    if letter.source_subscription not in {None, subscription}:
        return f"it belongs to the subscription {letter.source_subscription}"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriven:
    """What was done.

    Attributes:
        sent: Sent again and confirmed, in order.
        removed: How many of them were removed from the dead letters, too.
        error: What broke it off, None when nothing did.
    """

    sent: Sequence[DeadLetter]
    removed: int
    error: PipelineError | None


def redrive(
    queue: DeadLetterQueue, chosen: Sequence[HeldLetter], progress: Callable[[int], None] = lambda _count: None
) -> Redriven:
    """Send *chosen* again, batch by batch, and remove each batch once it is confirmed; stops at the first fault."""
    sent: list[DeadLetter] = []
    removed = 0
    try:
        for batch in _batches(chosen):
            letters = [held.letter for held in batch]
            queue.send_again(letters)
            sent += letters
            queue.remove(batch)
            removed += len(batch)
            progress(removed)
    except PipelineError as exc:
        return Redriven(sent=sent, removed=removed, error=exc)
    return Redriven(sent=sent, removed=removed, error=None)


def _batches(chosen: Sequence[HeldLetter]) -> Iterator[list[HeldLetter]]:
    batch: list[HeldLetter] = []
    size = 0
    for held in chosen:
        length = len(held.letter.data)
        full = len(batch) == BATCH_MAX or size + length > BATCH_BYTES_MAX
        if batch and (full or batch[0].letter.ordering_key != held.letter.ordering_key):
            yield batch
            batch, size = [], 0
        batch.append(held)
        size += length
    if batch:
        yield batch
