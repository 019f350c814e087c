"""Faults between the local Pub/Sub server and the clients: none, or random faults of a plan."""

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

from worker.local.pubsub.model import CallRefused, LeasedMessage, RefusalCode

SHARES = ("duplicate", "drop_ack", "reorder", "stall", "close")
CLOSE_CODES = frozenset({"UNAVAILABLE", "INTERNAL", "ABORTED", "NOT_FOUND", "PERMISSION_DENIED"})


class FaultHooks:
    """Hooks called in the thread of the server. This class is the default without faults."""

    def on_deliver(self, subscription: str, deliveries: Sequence[LeasedMessage]) -> Sequence[LeasedMessage]:  # noqa: ARG002
        """Return the deliveries that reach the consumer; *deliveries* are leased already."""
        return deliveries

    def on_acknowledge(self, subscription: str, ack_ids: Sequence[str]) -> Sequence[str]:  # noqa: ARG002
        """Return the acknowledgements that reach the broker."""
        return ack_ids

    def on_stream(self, subscription: str, stream: str) -> bool:  # noqa: ARG002
        """Return whether a stream may get more messages; otherwise the stream stays open and silent.

        Raises:
            CallRefused: The stream ends with this status.
        """
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """Probability of each fault, 0 to 1; as text `duplicate=0.05,drop_ack=0.02,seed=7`.

    Attributes:
        duplicate: A delivery is sent twice.
        drop_ack: An acknowledgement is lost on the way.
        reorder: A response's messages are shuffled.
        stall: A stream falls silent without ending, while the client lives; drawn at each response.
        close: A stream ends with *close_with*; drawn at each response.
        close_with: A gRPC status; the real client opens the stream again after UNAVAILABLE, INTERNAL or ABORTED.
        seed: Seed of the sequence of faults.
    """

    duplicate: float = 0.0
    drop_ack: float = 0.0
    reorder: float = 0.0
    stall: float = 0.0
    close: float = 0.0
    close_with: str = "UNAVAILABLE"
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a plan.

        Raises:
            ValueError: The text names an unknown fault, or a value out of bounds.
        """
        words = dict(part.strip().partition("=")[::2] for part in text.split(",") if part.strip())
        if unknown := set(words) - {field.name for field in fields(cls)}:
            raise ValueError(f"{', '.join(sorted(unknown))}: no such fault; known are {', '.join(SHARES)}")
        close_with = words.pop("close_with", "UNAVAILABLE")
        if close_with not in CLOSE_CODES:
            raise ValueError(f"close_with is one of {', '.join(sorted(CLOSE_CODES))}")
        seed = words.pop("seed", "0")
        if not seed.isdecimal():
            raise ValueError(f"seed={seed} is not a whole number")
        return cls(close_with=close_with, seed=int(seed), **{name: _share(name, text) for name, text in words.items()})


def _share(name: str, text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"{name}={text} is not a number from 0 to 1")
    return share


class PlannedFaults(FaultHooks):
    """Faults of a plan: the same calls in the same order get the same faults.

    Attributes:
        counts: Number of faults, by the name in the plan.
    """

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan
        self._random = random.Random(plan.seed)  # noqa: S311 - faults, not secrets
        self._silent: set[str] = set()
        self.counts: Counter[str] = Counter()

    def on_deliver(self, subscription: str, deliveries: Sequence[LeasedMessage]) -> Sequence[LeasedMessage]:  # noqa: ARG002
        """Return the deliveries with planned repetitions and in planned order."""
        sent = list(deliveries)
        sent += [delivery for delivery in deliveries if self._happens("duplicate", self._plan.duplicate)]
        if len(sent) > 1 and self._happens("reorder", self._plan.reorder):
            self._random.shuffle(sent)
        return sent

    def on_acknowledge(self, subscription: str, ack_ids: Sequence[str]) -> Sequence[str]:  # noqa: ARG002
        """Return the acknowledgements without the planned losses."""
        return [ack_id for ack_id in ack_ids if not self._happens("drop_ack", self._plan.drop_ack)]

    def on_stream(self, subscription: str, stream: str) -> bool:  # noqa: ARG002
        """Close the stream or let the stream fall silent, as planned."""
        if stream not in self._silent and self._happens("close", self._plan.close):
            raise CallRefused(RefusalCode[self._plan.close_with], "Closed by the fault plan.")
        if stream not in self._silent and self._happens("stall", self._plan.stall):
            self._silent.add(stream)
        return stream not in self._silent

    def _happens(self, fault: str, share: float) -> bool:
        happens = self._random.random() < share
        self.counts[fault] += happens
        return happens
