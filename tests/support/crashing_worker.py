"""`mlfs run` that ends by SIGKILL at a named place: `python -m tests.support.crashing_worker PLACE`.

The product has no hooks for this. One method of an adapter is replaced by one that kills this process just before or
just after the real method runs: no handler, no `finally`, no flush gets a turn.
"""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ops import cli
from statemachine.model import State
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.adapters.pubsub.publish import PubSubPublisher
from worker.adapters.redis.store import RedisStore
from worker.features.model import Statement

Applies = Callable[..., bool]


@dataclass(frozen=True, slots=True)
class Place:
    """Before or after the first call of a method that *applies* says is the one."""

    owner: Any
    method: str
    after: bool
    applies: Applies


def every_call(*_arguments: object) -> bool:
    return True


def flips(_cursor: object, change: Statement) -> bool:
    """The statement that points the ledger at the rows, in a transaction that has not committed."""
    return change.name == "publish"


def commit_of(state: State) -> Applies:
    """The commit that brings the night into *state*."""
    return lambda commit: commit.record.state is state


def commits_of(state: State) -> Applies:
    """The group of commits, made by the intake, with one that brings the night into *state*."""
    return lambda commits: any(commit.record.state is state for commit in commits)


PLACES = {
    "before the commit of the fourth report": Place(RedisStore, "commit_all", False, commits_of(State.READY)),
    "after the commit of the fourth report": Place(RedisStore, "commit_all", True, commits_of(State.READY)),
    "after the claim": Place(RedisStore, "commit", True, commit_of(State.RUNNING)),
    "after the rows are staged": Place(DuckDbWarehouse, "stage", True, every_call),
    "before the warehouse publishes": Place(DuckDbWarehouse, "publish", False, every_call),
    "between the quality and the pointer": Place(DuckDbWarehouse, "_changed", False, flips),
    "after the warehouse published": Place(DuckDbWarehouse, "publish", True, every_call),
    "after the attempt is logged": Place(DuckDbWarehouse, "log_execution", True, every_call),
    "after the commit of the result": Place(RedisStore, "commit", True, commit_of(State.DONE)),
    "before the outcome is published": Place(PubSubPublisher, "publish", False, every_call),
    # The outbox is what is left to tell: to die before it forgets is to die after the bus has confirmed.
    "after the outcome is published": Place(RedisStore, "remove_from_outbox", False, every_call),
}


def die_at(place: Place) -> None:
    """Put the trap in the method's place."""
    original = getattr(place.owner, place.method)

    def trap(self: object, *arguments: Any) -> Any:
        here = place.applies(*arguments)
        if here and not place.after:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = original(self, *arguments)
        if here and place.after:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(place.owner, place.method, trap)


if __name__ == "__main__":
    die_at(PLACES[sys.argv[1]])
    sys.argv[1:] = ["run"]
    cli.main()
