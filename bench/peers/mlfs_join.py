"""The same scenario on `mlfs run`, as it is shipped: real builds of 400 players, published in DuckDB.

Everything that mlfs adds to the join is in its figures: Google's client and a Pub/Sub server, an fsync before each
acknowledgement, a claim, a real build with its score and its ledger, an outbox.
"""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from bench.peers.scenario import REDELIVERY_S, kill
from ops.bench.build_tasks import NIGHT, generate
from ops.bench.bus import PROJECT, SUBSCRIPTION, TOPIC, bus_process
from ops.bench.nights_tasks import ENTITIES
from statemachine.reasons import Reason
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.adapters.pubsub.publish import PubSubPublisher
from worker.adapters.redis.client import connect
from worker.adapters.redis.store import RedisStore
from worker.features.model import Statement
from worker.pipelines.shipped import PIPELINE, PROCESSORS
from worker.ports import OutgoingMessage

_COMMITS = """
SELECT analysis_date, generation, COUNT(*) AS commits
FROM nba_predictions.ml_feature_store_v2_execution_log
WHERE state IN ('done', 'degraded')
GROUP BY analysis_date, generation
"""


class Peer:
    """How the run drives it."""

    name = "mlfs"

    def __init__(self, folder: Path, address: str) -> None:
        self._folder = folder
        self._bus = PubSubPublisher(PROJECT, address)
        self._environment = {
            **os.environ,
            "MLFS_DATA_DIR": str(folder),
            "MLFS_WAREHOUSE": f"duckdb://{folder}/warehouse.duckdb",
            "MLFS_REDIS_URL": os.environ["PEERS_REDIS"],
            "MLFS_PUBSUB": f"emulator://{address}",
            "MLFS_PUBSUB_PROJECT": PROJECT,
            "MLFS_TOPIC": TOPIC,
            "MLFS_SUBSCRIPTION": SUBSCRIPTION,
            "MLFS_LEASE_S": str(REDELIVERY_S),
            "MLFS_HTTP_PORT": "0",
        }

    def worker(self) -> "subprocess.Popen[bytes]":
        """Start one worker."""
        with (self._folder / "worker.log").open("ab") as log:
            command = [sys.executable, "-m", "ops", "run"]
            return subprocess.Popen(command, env=self._environment, stdout=log, stderr=log, start_new_session=True)

    def open(self, day: str, deadline_at: float | None) -> None:
        """Leave it to the first completion."""

    def complete(self, day: str, processor: str) -> None:
        """Publish one completion."""
        name = PROCESSORS[int(processor)]
        body = {"processor": name, "analysis_date": day, "status": "success", "row_count": ENTITIES, "run_id": "1"}
        self._bus.publish(OutgoingMessage(event_id="", topic=TOPIC, data=json.dumps(body).encode(), attributes={}))

    def close(self) -> None:
        """Close the client."""
        self._bus.close()


def settled(days: list[str]) -> bool:
    """Tell whether each date has ended."""
    with closing(RedisStore(connect(os.environ["PEERS_REDIS"]), PIPELINE)) as store:
        records = store.load_all([date.fromisoformat(day) for day in days])
    return all(record is not None and record.state.value == "done" for record in records.values())


def outcome(folder: Path, days: list[str]) -> dict[str, Any]:
    """Count what the dates came to: claims in their histories, commits in the warehouse's log."""
    with closing(RedisStore(connect(os.environ["PEERS_REDIS"]), PIPELINE)) as store:
        stories = {day: store.history(date.fromisoformat(day)) for day in days}
    with closing(DuckDbWarehouse(str(folder / "warehouse.duckdb"))) as warehouse:
        rows = warehouse.query(Statement(name="commits", sql=_COMMITS, parameters={}))
    built = {row["analysis_date"].isoformat() for row in rows}
    claims = [sum(entry.reason == Reason.CLAIMED for entry in story) for story in stories.values()]
    return {
        "lost": len(set(days) - built),
        "started_again": sum(count > 1 for count in claims),
        "finished_twice": sum(row["commits"] > 1 for row in rows),
    }


def main() -> None:
    """Play the scenario and print its figures as JSON."""
    nights = int(sys.argv[1])
    days = [(NIGHT - timedelta(days=back)).isoformat() for back in reversed(range(nights))]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        generate(str(folder / "warehouse.duckdb"), ENTITIES, "1GB", 2, nights)
        address = stack.enter_context(bus_process(folder))
        peer = Peer(folder, address)
        kills = kill(peer, days, lambda: settled(days))
        peer.close()
        print(json.dumps({"kills": kills, **outcome(folder, days)}))


if __name__ == "__main__":
    main()
