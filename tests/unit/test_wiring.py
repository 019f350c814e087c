"""The wiring of a process: when its resources open, and how each kind of process drives the queue of builds."""

import threading
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.support.nights import NIGHT
from tests.support.rigs import ModelClock
from tests.support.services import StandIns
from worker.app import Worker
from worker.builds.queue import BackgroundBuilds, BuildQueue, RequestBuilds
from worker.errors import Refused, Unavailable
from worker.resources import ProcessKind, Resources
from worker.settings import load

LATER = NIGHT + timedelta(days=1)


class OpenedInOrder(StandIns):
    """Notes when the resources open, among the threads that start."""

    seen: list[str]

    def open(self) -> None:
        self.seen.append("resources")


@pytest.mark.parametrize("kind", [ProcessKind.PULL, ProcessKind.PUSH])
def test_every_resource_is_open_before_the_first_thread_starts(
    kind: ProcessKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(threading.Thread, "start", lambda thread: seen.append(thread.name))
    # The sender of lineage events is the one thread that a worker starts while it is wired.
    settings = load({}, http_port=0, openlineage=f"file://{tmp_path}/events.jsonl")
    resources = OpenedInOrder(settings, ModelClock(), kind)
    resources.seen = seen
    Worker(resources, ModelClock())  # type: ignore[arg-type]

    assert seen == ["resources", "openlineage"]


def test_a_worker_opens_all_that_its_threads_will_use_and_closes_it(tmp_path: Path) -> None:
    with Resources(load(data_dir=tmp_path), ProcessKind.PULL) as resources:
        resources.open()
        opened = set(vars(resources))
        server = resources._valkey
    assert {"store", "requests", "warehouse", "tracer", "bus_address", "publisher", "dead_letter_publisher"} <= opened
    assert server is not None
    assert not server._is_running()


def test_a_reader_makes_no_resource_and_a_command_makes_it(tmp_path: Path) -> None:
    settings = load(data_dir=tmp_path)
    with Resources(settings, ProcessKind.READER) as resources:
        for name in ("store", "bus_address", "warehouse"):
            with pytest.raises(Refused, match=str(tmp_path)):
                getattr(resources, name)
    assert list(tmp_path.iterdir()) == []

    with Resources(settings, ProcessKind.COMMAND) as resources:
        assert resources.store.dates(1) == []
    assert (tmp_path / "valkey").is_dir()


Build = Callable[[date], None]


def requests(build: Build, failed: list[Exception], queue: BuildQueue, threads: int = 1) -> RequestBuilds:
    return RequestBuilds(queue, build, failed.append, threads=threads, stopwatch=lambda: 0.0)


def test_a_request_builds_what_waits_the_newest_first_and_each_date_once() -> None:
    built: list[date] = []
    builds = requests(built.append, [], BuildQueue())
    for day in (NIGHT, LATER, NIGHT):
        builds.put(day)

    assert builds.advance(until=30.0) == []
    assert built == [LATER, NIGHT]


@pytest.mark.parametrize("error", [Unavailable("no store"), KeyError("a bug")])
def test_a_build_that_fails_stops_no_other_and_its_date_can_be_queued_again(error: Exception) -> None:
    built: list[date] = []
    failed: list[Exception] = []

    def build(day: date) -> None:
        built.append(day)
        if len(built) == 1:
            raise error

    queue = BuildQueue()
    builds = BackgroundBuilds(queue, build, failed.append)
    builds.put(LATER)
    builds.put(NIGHT)
    assert builds.build_next()
    builds.put(LATER)
    assert builds.build_next()
    queue.stop(1)

    assert not builds.build_next()
    assert (built, failed) == ([LATER, LATER], [error])


def test_a_date_is_not_built_by_two_requests_at_once_and_its_build_outlasts_the_request() -> None:
    gate, began = threading.Event(), threading.Event()
    built: list[date] = []

    def build(day: date) -> None:
        built.append(day)
        began.set()
        gate.wait(30)

    builds = requests(build, [], BuildQueue(), threads=2)
    builds.put(NIGHT)
    first = threading.Thread(target=builds.advance, args=(30.0,), daemon=True)
    first.start()
    assert began.wait(30)
    builds.put(NIGHT)
    assert builds.advance(until=30.0) == []
    gate.set()
    first.join(30)

    assert built == [NIGHT]


def test_work_begins_no_build_after_the_time_of_the_request() -> None:
    built: list[date] = []
    builds = requests(built.append, [], BuildQueue())
    builds.put(NIGHT)

    builds.advance(until=0.0)
    assert built == []
    builds.advance(until=1.0)
    assert built == [NIGHT]
