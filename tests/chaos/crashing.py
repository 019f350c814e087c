"""`mlfs run` that ends by SIGKILL at a named place: `python -m tests.chaos.crashing PLACE`.

The places of `tests.support.crashing_worker` and more: around every write that a night makes outside the process, and
before and after what a lost store makes a worker do. A place in the warehouse lies in both of them, except where a job
of BigQuery runs.
"""

import sys

from ops import cli
from statemachine.model import State
from tests.support.crashing_worker import Applies, Place, commit_of, commits_of, die_at, every_call, flips
from worker.adapters.bigquery.jobs import JobRunner, JobSpec
from worker.adapters.bigquery.warehouse import BigQueryWarehouse
from worker.adapters.duckdb import warehouse
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.adapters.pubsub.publish import PubSubPublisher
from worker.adapters.redis.store import RedisStore
from worker.features.model import BuildKey, Statement


def _stored(state: State, *, after: bool) -> tuple[Place, ...]:
    """A commit into *state*, alone or in a group."""
    return (
        Place(RedisStore, "commit", after, commit_of(state)),
        Place(RedisStore, "commit_all", after, commits_of(state)),
    )


def _warehouse(method: str, *, after: bool) -> tuple[Place, ...]:
    """A call of the warehouse, whichever the worker has."""
    return tuple(Place(owner, method, after, every_call) for owner in (BigQueryWarehouse, DuckDbWarehouse))


def _job(step: str) -> tuple[Place, ...]:
    """A job was accepted, and its answer has not come."""
    return (Place(JobRunner, "_begin", True, _names(f"-{step}")),)


def _names(part: str) -> Applies:
    def applies(spec: JobSpec, *_rest: object) -> bool:
        return part in spec.job_id

    return applies


def _flips(_key: BuildKey, change: Statement, *_rest: object) -> bool:
    return flips(change)


PLACES: dict[str, tuple[Place, ...]] = {
    "before a report is stored": _stored(State.WAITING, after=False),
    "after a report is stored, before its ack": _stored(State.WAITING, after=True),
    "before the commit of the fourth report": _stored(State.READY, after=False),
    "after the commit of the fourth report": _stored(State.READY, after=True),
    "before the claim": (Place(RedisStore, "commit", False, commit_of(State.RUNNING)),),
    "after the claim": (Place(RedisStore, "commit", True, commit_of(State.RUNNING)),),
    "before the ledger is claimed": _warehouse("claim", after=False),
    "while the claiming job runs": _job("claim"),
    "after the ledger is claimed": _warehouse("claim", after=True),
    "before the rows are staged": _warehouse("stage", after=False),
    "while the staging job runs": _job("features"),
    "after the rows are staged": _warehouse("stage", after=True),
    "before the warehouse publishes": _warehouse("publish", after=False),
    "while the job about the quality runs": _job("history"),
    "between the quality and the pointer": (
        Place(BigQueryWarehouse, "_guarded", False, _flips),
        Place(warehouse, "_changed", False, flips),
    ),
    "while the publishing job runs": _job("publish"),
    "after the warehouse published": _warehouse("publish", after=True),
    "before the attempt is logged": _warehouse("log_execution", after=False),
    "after the attempt is logged": _warehouse("log_execution", after=True),
    "before the commit of the result": (Place(RedisStore, "commit", False, commit_of(State.DONE)),),
    "after the commit of the result": (Place(RedisStore, "commit", True, commit_of(State.DONE)),),
    "before the commit of a fallback's result": (Place(RedisStore, "commit", False, commit_of(State.DEGRADED)),),
    "after the commit of a fallback's result": (Place(RedisStore, "commit", True, commit_of(State.DEGRADED)),),
    "before the commit of a failure": (Place(RedisStore, "commit", False, commit_of(State.FAILED)),),
    "after the commit of a failure": (Place(RedisStore, "commit", True, commit_of(State.FAILED)),),
    "before the outcome is published": (Place(PubSubPublisher, "publish", False, every_call),),
    "after the outcome is published": (Place(RedisStore, "remove_from_outbox", False, every_call),),
    "after the outbox forgot it": (Place(RedisStore, "remove_from_outbox", True, every_call),),
    "before a message is parked": (Place(RedisStore, "park", False, every_call),),
    "after a message is parked": (Place(RedisStore, "park", True, every_call),),
}


def places_in(bigquery: bool) -> list[str]:
    """The places that a worker on BigQuery, or on a DuckDB file, can reach."""
    return [
        name for name, places in PLACES.items() if bigquery or any(place.owner is not JobRunner for place in places)
    ]


if __name__ == "__main__":
    for place in PLACES[sys.argv[1]]:
        die_at(place)
    sys.argv[1:] = ["run"]
    cli.main()
