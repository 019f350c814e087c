"""What a worker does with a record that a newer release has stored, as happens while versions run side by side.

A newer minor release only adds fields, each with a default: an older worker reads past them, and drops them when it
changes the date, so the newer one finds its defaults. A form that an older worker would misread has a higher schema
number: it is refused by name, and laid aside whole.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
import redis

from schemas.record import SCHEMA
from statemachine.events import CancelRequested
from tests.support.nights import CACHE, NIGHT, PROCESSORS, SHOTS, success
from tests.support.rigs import Rig
from worker.adapters.redis.client import connect
from worker.adapters.redis.store import RedisStore
from worker.errors import CorruptRecord

_pipelines = (f"releases-{number}" for number in count())


class Shelf:
    """A store, and the bytes in it."""

    def __init__(self, client: redis.Redis) -> None:
        pipeline = next(_pipelines)
        self.store = RedisStore(client, pipeline)
        self.rig = Rig(store=self.store)
        self._client = client
        self._prefix = f"{{mlfs:{pipeline}}}"

    def stored(self, kind: str = "date") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._client.hget(f"{self._prefix}:{kind}:{NIGHT}", "r") or b"{}")  # type: ignore[arg-type]
        return found

    def rewrite(self, body: dict[str, Any]) -> None:
        self._client.hset(f"{self._prefix}:date:{NIGHT}", "r", json.dumps(body))


@pytest.fixture
def shelf(valkey_url: str) -> Iterator[Shelf]:
    with connect(valkey_url) as client:
        made = Shelf(client)
        made.rig.engine.apply(NIGHT, success(CACHE))
        yield made


def test_a_record_with_fields_of_a_newer_release_is_read_and_its_night_goes_on(shelf: Shelf) -> None:
    before = shelf.store.load(NIGHT)
    newer = shelf.stored() | {"mood": {"calm": True}}
    newer["completions"][CACHE]["weather"] = "rain"
    shelf.rewrite(newer)

    assert before == shelf.store.load(NIGHT)
    for name in PROCESSORS:
        shelf.rig.engine.apply(NIGHT, success(name))
    record = shelf.store.load(NIGHT)
    assert record is not None
    assert ("ready", 1, set(PROCESSORS)) == (record.state, record.generation, set(record.completions))


def test_a_worker_that_changes_the_date_drops_the_fields_that_it_does_not_know(shelf: Shelf) -> None:
    shelf.rewrite(shelf.stored() | {"mood": "calm"})

    shelf.rig.engine.apply(NIGHT, success(SHOTS))

    kept = shelf.stored()
    assert ("mood" in kept, {CACHE, SHOTS}) == (False, set(kept["completions"]))


def test_a_record_of_a_newer_schema_is_refused_by_name_and_laid_aside_whole(shelf: Shelf) -> None:
    newer = shelf.stored() | {"schema": SCHEMA + 1, "shape": ["other"]}
    shelf.rewrite(newer)

    with pytest.raises(
        CorruptRecord, match=f"schema {SCHEMA + 1} is not known here; this release reads up to {SCHEMA}"
    ):
        shelf.store.load(NIGHT)
    shelf.store.quarantine(NIGHT)

    assert (None, newer) == (shelf.store.load(NIGHT), shelf.stored("corrupt"))


# --- the history -----------------------------------------------------------------------------------------------------

# What the former release read of a change: these values in this order, and none behind them.
FORMER_VALUES = 9


def changes(shelf: Shelf) -> list[list[Any]]:
    return [json.loads(change) for change in shelf._client.lrange(f"{shelf._prefix}:changes:{NIGHT}", 0, -1)]  # type: ignore[union-attr]


def test_a_change_keeps_its_place_for_the_former_release_and_only_reports_come_behind(shelf: Shelf) -> None:
    shelf.rig.engine.apply(NIGHT, success(CACHE))
    shelf.rig.engine.apply(NIGHT, CancelRequested(actor="ana", reason="why"))
    told, cancelled = changes(shelf)

    assert (FORMER_VALUES + 1, FORMER_VALUES) == (len(told), len(cancelled))
    assert ["completion_received", "", "waiting", "recorded", 0, 0, "worker-a"] == told[1:8]


def test_changes_of_the_former_release_and_of_a_newer_one_are_read(shelf: Shelf) -> None:
    [change] = shelf.store.history(NIGHT)
    [told] = changes(shelf)
    reports = [[*report, "of a newer release"] for report in told[FORMER_VALUES]]
    for values in (told[:FORMER_VALUES], [*told[:FORMER_VALUES], reports, {"mood": "calm"}]):
        shelf._client.rpush(f"{shelf._prefix}:changes:{NIGHT}", json.dumps(values))

    assert [change, replace(change, reports=()), change] == list(shelf.store.history(NIGHT))
