"""A whole night driven by requests alone: nothing runs between them, as on a service without background CPU."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from tests.support.nights import CACHE, DEADLINE, EVENING, MORNING, NIGHT, NO_ROWS, PROCESSORS, SECOND
from tests.support.rigs import ModelClock
from tests.support.services import Service
from worker.errors import Unavailable


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(clock=ModelClock(MORNING), listens=True) as running:
        yield running


def test_four_pushes_and_a_tick_publish_the_night(service: Service) -> None:
    opened = service.tick()
    service.clock.instant = EVENING
    pushed = service.push_all()
    before = service.state()
    ticked = service.tick()

    assert ([204] * 4, 1, ("ready", 1)) == (pushed, opened["opened"], before)
    assert [{"analysis_date": "2024-12-15", "state": "done", "generation": 1, "reason": "committed_done"}] == (
        ticked["built"]
    )
    assert ([("done", 1)], 0) == (service.told(), service.store.outbox_size())


def test_the_deadline_falls_back_and_a_late_push_upgrades(service: Service) -> None:
    service.tick()
    service.clock.instant = EVENING
    service.warehouse.rows = {**service.warehouse.rows, CACHE: 0}
    for processor in PROCESSORS:
        if processor != CACHE:
            service.push(processor)
    service.clock.instant = DEADLINE - SECOND
    early = service.tick()
    service.clock.instant = DEADLINE
    fallback = service.tick()
    after_fallback = service.state()
    service.warehouse.rows[CACHE] = 400
    service.push(CACHE)
    upgrade = service.tick()

    assert [] == early["built"]
    assert ["degraded", "done"] == [fallback["built"][0]["state"], upgrade["built"][0]["state"]]
    assert (("degraded", 1), ("done", 2)) == (after_fallback, service.state())
    assert [("degraded", 1), ("done", 2)] == service.told()


def test_a_night_without_any_event_meets_its_deadline(service: Service) -> None:
    service.tick()
    service.warehouse.rows = dict(NO_ROWS)
    service.clock.instant = DEADLINE

    service.tick()

    assert (("degraded", 1), [("degraded", 1)]) == (service.state(), service.told())


def test_a_retry_is_made_by_the_tick_at_which_it_is_due(service: Service) -> None:
    service.clock.instant = EVENING
    service.warehouse.faults["stage"] = [Unavailable("the warehouse is away")]
    service.push_all()
    first = service.tick()
    second = service.tick()
    service.clock.forward(timedelta(minutes=5))
    third = service.tick()

    assert (["ready"], [], ["done"]) == tuple([one["state"] for one in t["built"]] for t in (first, second, third))


def test_an_outcome_that_the_bus_did_not_take_is_told_by_the_next_tick(service: Service) -> None:
    service.clock.instant = EVENING
    service.bus.refuse = lambda _message: True
    service.push_all()
    first = service.tick()
    service.bus.refuse = lambda _message: False
    second = service.tick()

    assert ((0, 1), (1, 0)) == ((first["published"], first["left"]), (second["published"], second["left"]))


def test_ticks_at_the_same_moment_build_and_tell_once(service: Service) -> None:
    service.clock.instant = EVENING
    service.push_all()
    with ThreadPoolExecutor(8) as pool:
        ticks = list(pool.map(lambda _: service.tick(), range(16)))

    service.tick()
    assert 1 == sum(len(ticked["built"]) for ticked in ticks)
    assert [("done", 1)] == service.told()
    assert 1 == len(service.warehouse.published)


def test_another_instance_goes_on_where_the_first_one_ended(service: Service) -> None:
    service.clock.instant = EVENING
    service.push_all()
    with Service(store=service.store, clock=service.clock) as second:
        ticked = second.tick()

    assert ["done"] == [one["state"] for one in ticked["built"]]
    assert [("done", 1)] == second.told()


def test_with_loops_a_push_is_enough(wait_until: Any) -> None:
    with Service(clock=ModelClock(EVENING), listens=True, serve_loops=True) as service:
        service.push_all()

        wait_until(lambda: service.told() == [("done", 1)], "the loops build and tell")
        assert service.client.get("/livez").json()["faults"] == []


def test_without_the_store_a_tick_is_unavailable_and_repeatable(service: Service) -> None:
    def away(*_: object) -> None:
        raise Unavailable("no server")

    service.store.outbox = away

    answer = service.client.post("/tick")

    assert (503, "urn:mlfs:problem:unavailable") == (answer.status_code, answer.json()["type"])


def test_a_date_lists_what_happened_to_it(service: Service) -> None:
    service.clock.instant = EVENING
    service.push_all()
    service.tick()

    history = json.loads(service.client.get(f"/dates/{NIGHT}/history").text)

    assert ["recorded"] * 3 + ["join_complete", "claimed", "committed_done"] == [entry["reason"] for entry in history]
