"""What the acts of a chaos run can reach."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.history import History, StoreWatch
from tests.chaos.links import Link
from tests.chaos.services import Service, WorkerProcess
from tests.chaos.stores import EmbeddedStore, SentinelStore, SingleStore


@dataclass
class Stage:
    """What the nemesis can reach.

    Attributes:
        links: Between the workers and `store`, `bus` and `warehouse`; an embedded store has none.
    """

    workers: Sequence[WorkerProcess]
    store: SingleStore | SentinelStore | EmbeddedStore
    bus: Service
    warehouse: Service
    links: Mapping[str, Link]
    watch: StoreWatch
    history: History
    lease_s: float
    recover: Callable[[], None]
    dice: random.Random
    places: list[str] = field(default_factory=list)

    def worker(self) -> WorkerProcess:
        return self.dice.choice(self.workers)

    @property
    def single(self) -> SingleStore | None:
        return self.store if isinstance(self.store, SingleStore) else None


Act = Callable[[Stage], str | None]
