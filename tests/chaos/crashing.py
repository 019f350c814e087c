"""`mlfs run` on BigQuery that ends by SIGKILL at a named place: `python -m tests.chaos.crashing PLACE`.

The places of `tests.support.crashing_worker` and more: around every write that a night makes outside the process, and
before and after what a lost store makes a worker do.
"""

import sys

from ops import cli
from statemachine.model import State
from tests.support.crashing_worker import Place, commit_of, commits_of, die_at, every_call
from worker.adapters.pubsub_publish import PubSubPublisher
from worker.adapters.redis_store import RedisStore
from worker.adapters.warehouse_bigquery import BigQueryWarehouse
from worker.adapters.warehouse_bigquery_jobs import Jobs, JobSpec


def _stored(state: State, *, after: bool) -> tuple[Place, ...]:
    """A commit into *state*, alone or in a group."""
    return (
        Place(RedisStore, "commit", after, commit_of(state)),
        Place(RedisStore, "commit_all", after, commits_of(state)),
    )


def _publishes(spec: JobSpec, *_rest: object) -> bool:
    return "-publish-" in spec.job_id


PLACES: dict[str, tuple[Place, ...]] = {
    "before a report is stored": _stored(State.WAITING, after=False),
    "after a report is stored, before its ack": _stored(State.WAITING, after=True),
    "before the commit of the fourth report": _stored(State.READY, after=False),
    "after the commit of the fourth report": _stored(State.READY, after=True),
    "before the claim": (Place(RedisStore, "commit", False, commit_of(State.RUNNING)),),
    "after the claim": (Place(RedisStore, "commit", True, commit_of(State.RUNNING)),),
    "before the ledger is claimed": (Place(BigQueryWarehouse, "claim", False, every_call),),
    "after the ledger is claimed": (Place(BigQueryWarehouse, "claim", True, every_call),),
    "before the rows are staged": (Place(BigQueryWarehouse, "stage", False, every_call),),
    "after the rows are staged": (Place(BigQueryWarehouse, "stage", True, every_call),),
    "before the warehouse publishes": (Place(BigQueryWarehouse, "publish", False, every_call),),
    "while the publishing job runs": (Place(Jobs, "_begin", True, _publishes),),
    "after the warehouse published": (Place(BigQueryWarehouse, "publish", True, every_call),),
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


if __name__ == "__main__":
    for place in PLACES[sys.argv[1]]:
        die_at(place)
    sys.argv[1:] = ["run"]
    cli.main()
