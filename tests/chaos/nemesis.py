"""What goes wrong in a chaos run: a seeded bag of acts, one at a time, each undone before the next.

Every act notes when it began, when its cause was gone, and what it hit. An act gives None where this machine or this
run cannot do it; the report says so.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from tests.chaos.acts_on_readers import READER_ACTS
from tests.chaos.acts_on_services import SERVICE_ACTS
from tests.chaos.acts_on_the_network import NETWORK_ACTS
from tests.chaos.acts_on_the_store import STORE_ACTS
from tests.chaos.acts_on_workers import CRASH, WORKER_ACTS
from tests.chaos.history import now
from tests.chaos.stage import Act, Stage
from tests.chaos.stores import EmbeddedStore

CRASHES_MORE = 5

ACTS: Mapping[str, Act] = {**WORKER_ACTS, **STORE_ACTS, **SERVICE_ACTS, **NETWORK_ACTS, **READER_ACTS}


class Nemesis:
    """Draws acts from a bag until it is empty, and then from a new one."""

    def __init__(self, stage: Stage, chosen: Sequence[str] = ()) -> None:
        self.stage = stage
        self._fixed = list(chosen)
        self._bag: list[str] = []
        self.done: Counter[str] = Counter()
        self.impossible: set[str] = set()

    @property
    def has_more(self) -> bool:
        return bool(self._fixed)

    def strike(self) -> str:
        """One act."""
        name = self._next()
        if isinstance(self.stage.store, EmbeddedStore):
            # The act before may have ended the worker, and its child with it.
            self.stage.store.serves()
        began = now()
        hit = ACTS[name](self.stage)
        if hit is None:
            self.impossible.add(name)
        else:
            self.done[name] += 1
            self.stage.history.note("act", act=name, hit=hit, begin=began, end=now(), life=self.stage.watch.life)
        return f"{name}: {hit}"

    def _next(self) -> str:
        if self._fixed:
            return self._fixed.pop(0)
        if not self._bag:
            possible = sorted(set(ACTS) - self.impossible)
            # Places are many, so a bag holds several of them.
            bag = [*possible, *[CRASH] * CRASHES_MORE]
            self._bag = self.stage.dice.sample(bag, len(bag))
        return self._bag.pop()
