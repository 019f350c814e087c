"""Two worker processes act on the same date at the same instant, over one real server."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import date, timedelta
from itertools import count

import pytest

from statemachine.model import DateRecord, State, Trigger
from statemachine.reasons import Reason
from tests.support.nights import CACHE, DEFENSE, FACTORS, NIGHT, PROCESSORS, SHOTS
from tests.support.racing import Lane, Ran, claim, prepare, remember, report, sweep
from worker.adapters.redis.client import connect
from worker.adapters.redis.store import RedisStore
from worker.sweep import BATCH_MAX

JOINS, DEADLINES, CLAIMS = 2000, BATCH_MAX, 300
GENERATIONS = 3
_pipelines = (f"races-{number}" for number in count())


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """Two processes that share nothing but a barrier."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn, initializer=remember, initargs=(spawn.Barrier(2),)) as both:
        yield both


@pytest.fixture(scope="module", params=["valkey_url", "redis_server_url"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


class Course:
    """A pipeline of its own, over so many nights."""

    def __init__(self, processes: ProcessPoolExecutor, url: str, nights: int) -> None:
        self.nights = [NIGHT + timedelta(days=offset) for offset in range(nights)]
        self._processes = processes
        self._url, self._pipeline = url, next(_pipelines)

    def prepare(self, *processors: str) -> None:
        """Let *processors* report for every night, each process for half of them."""
        halves = [self._lane("even", self.nights[::2]), self._lane("odd", self.nights[1::2])]
        for half in [self._processes.submit(prepare, lane, *processors) for lane in halves]:
            half.result()

    def race(self, *runs: tuple[Callable[..., Ran], *tuple[object, ...]]) -> tuple[Ran, Ran]:
        """Run both at once, as worker-a and worker-b; each is a racer's function and its arguments after the lane."""
        started = [
            self._processes.submit(run, self._lane(f"worker-{name}", self.nights), *arguments)
            for name, (run, *arguments) in zip("ab", runs, strict=True)
        ]
        first, second = (racer.result() for racer in started)
        assert first.conflicts + second.conflicts > len(self.nights) / 20, "they hardly ever met: this was no race"
        return first, second

    def _lane(self, worker: str, nights: list[date]) -> Lane:
        return Lane(self._url, self._pipeline, worker, nights)

    def records(self) -> Iterator[tuple[DateRecord, list[str]]]:
        """Every night's record, with the reasons in its history."""
        with connect(self._url) as client:
            store = RedisStore(client, self._pipeline)
            for night in self.nights:
                record = store.load(night)
                assert record is not None
                yield record, [entry.reason for entry in store.history(night)]


def test_the_last_two_reports_at_the_same_instant_start_each_date_exactly_once(
    processes: ProcessPoolExecutor, url: str
) -> None:
    course = Course(processes, url, JOINS)
    course.prepare(DEFENSE, SHOTS)

    first, second = course.race((report, FACTORS), (report, CACHE))

    once_each = [(night, 1) for night in course.nights]
    assert once_each == sorted(first.of(Reason.JOIN_COMPLETE) + second.of(Reason.JOIN_COMPLETE))
    assert course.nights == sorted(first.started + second.started)
    for record, told in course.records():
        assert (State.READY, Trigger.JOIN, 1, 0) == (record.state, record.trigger, record.generation, record.attempt)
        assert set(PROCESSORS) == record.counted
        assert ["recorded", "recorded", "recorded", "join_complete"] == told
        assert len(told) == record.version


def test_a_deadline_and_the_fourth_report_at_the_same_instant_end_in_one_build(
    processes: ProcessPoolExecutor, url: str
) -> None:
    """Whichever comes first starts the date; the report that comes second is kept, for the upgrade that follows."""
    course = Course(processes, url, DEADLINES)
    course.prepare(DEFENSE, SHOTS, FACTORS)

    swept, reported = course.race((sweep,), (report, CACHE))

    assert swept.swept is not None
    assert (0, DEADLINES, 0) == (swept.swept.opened, swept.swept.due, swept.swept.failed)
    joined, passed = reported.of(Reason.JOIN_COMPLETE), swept.of(Reason.DEADLINE_PASSED)
    assert [(night, 1) for night in course.nights] == sorted(joined + passed)
    endings = {
        Trigger.JOIN: ["recorded", "recorded", "recorded", "join_complete"],
        Trigger.DEADLINE: ["recorded", "recorded", "recorded", "deadline_passed", "recorded"],
    }
    for record, told in course.records():
        assert (State.READY, 1, 0) == (record.state, record.generation, record.attempt)
        assert ((record.analysis_date, 1) in joined) == (record.trigger is Trigger.JOIN)
        assert set(PROCESSORS) == record.counted
        assert endings[record.trigger] == told
        assert len(told) == record.version


def test_of_two_claims_at_the_same_instant_exactly_one_wins_each_generation(
    processes: ProcessPoolExecutor, url: str
) -> None:
    course = Course(processes, url, CLAIMS)
    course.prepare(*PROCESSORS)

    first, second = course.race((claim, GENERATIONS), (claim, GENERATIONS))

    won = {"worker-a": first.of(Reason.CLAIMED), "worker-b": second.of(Reason.CLAIMED)}
    once_each = [(night, generation) for night in course.nights for generation in range(1, GENERATIONS + 1)]
    assert once_each == sorted(won["worker-a"] + won["worker-b"])
    for record, told in course.records():
        assert (State.RUNNING, GENERATIONS, 1) == (record.state, record.generation, record.attempt)
        assert record.lease is not None
        assert (record.analysis_date, GENERATIONS) in won[record.lease.owner]
        assert GENERATIONS == told.count("claimed")
        assert len(told) == record.version
