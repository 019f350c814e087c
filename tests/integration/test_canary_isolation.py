"""A night with the canary and a night without are the same night for everybody who reads."""

import base64
import re
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.grid_day import DAY, DEFINITION, MODELS, GridDay
from worker.canary import CANARY, Step

SUBSCRIPTION = "projects/grid-ops/subscriptions/grid-day-ahead-worker"
PATHS = ("/", "/dates", f"/dates/{DAY}", f"/dates/{DAY}/history", f"/dates/{DAY}/diff", "/healthz", "/openapi.json")
RANDOM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}")
"""The idempotency key of each form, and the claimant of each claim."""


def push_canary(grid: GridDay, number: int) -> int:
    """Hand the message of a journey to the worker, as the bus would."""
    message = {
        "data": base64.b64encode(b"no completion").decode(),
        "attributes": {CANARY: "grid_day_ahead"},
        "messageId": f"canary-{number}",
        "publishTime": "2025-03-30T05:00:00Z",
    }
    return grid.client.post("/pubsub/push", json={"message": message, "subscription": SUBSCRIPTION}).status_code


def played(redis_url: str, *, canary: bool) -> tuple[dict[str, Any], list[str], dict[str, float]]:
    """What readers meet of a played day, the keys of the state store, and the canary's ages."""
    with GridDay(redis_url) as grid:
        grid.put_all()
        for number, model in enumerate(MODELS):
            if canary:
                assert push_canary(grid, number) in {200, 204}
            grid.push(model)
            grid.tick()
        seen: dict[str, Any] = {path: RANDOM.sub("", grid.client.get(path).text) for path in PATHS}
        seen["outcomes"] = grid.outcomes()
        tables = grid.parts.warehouse.pipeline.tables
        for table in tables.all:
            rows = grid.query(f"SELECT * FROM {table}")  # noqa: S608 -- of the definition
            seen[table] = sorted(RANDOM.sub("", str(row)) for row in rows)
        lines = grid.client.get("/metrics").text.splitlines()
        # The same day stands in another process: its own counters and seconds may differ.
        seen["dates"] = [line for line in lines if line.startswith(("mlfs_date", "mlfs_dependency", "mlfs_outbox"))]
        seen["events"] = [line for line in lines if line.startswith(("mlfs_events", "mlfs_transitions"))]
        ages = {
            line.partition('"')[2].partition('"')[0]: float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("mlfs_canary_step_age_seconds{")
        }
    with redis.Redis.from_url(redis_url) as server:
        keys = sorted(key.decode() for key in server.keys("*"))
    return seen, keys, ages


def test_a_day_with_the_canary_is_the_day_without_for_everybody_who_reads(
    tmp_path: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFS_PIPELINE", str(DEFINITION))
    monkeypatch.setenv("MLFS_REDIS_URL", valkey_url)
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path / "off"))
    without, _keys, no_ages = played(valkey_url, canary=False)
    monkeypatch.setenv("MLFS_CANARY", "on")
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path / "on"))
    beside, keys, ages = played(valkey_url, canary=True)

    for name, seen in without.items():
        assert seen == beside[name], name
    assert ({}, list(Step)) == (no_ages, list(ages))
    assert any(key.startswith("{mlfs:grid_day_ahead}:canary:date:") for key in keys)
    assert not [key for key in keys if "1900-01-01" in key and ":canary:" not in key]


def test_a_worker_without_a_canary_takes_the_messages_of_others_and_loses_none(
    tmp_path: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several workers only some may have the setting, and a message may be another pipeline's."""
    monkeypatch.setenv("MLFS_PIPELINE", str(DEFINITION))
    monkeypatch.setenv("MLFS_REDIS_URL", valkey_url)
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path))
    with GridDay(valkey_url) as grid:
        assert push_canary(grid, 1) in {200, 204}
        store = grid.parts.store
        known = store.apart("canary").dates(10)
        lines = grid.client.get("/metrics").text

    assert (1, (), ()) == (len(known), tuple(store.dates(10)), tuple(store.parked(10)))
    assert "mlfs_canary" not in lines
