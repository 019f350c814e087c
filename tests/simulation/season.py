"""A season without faults: one worker made of the product's own parts plays recorded arrivals, each at its instant.

Time stands still but for the season's own loop. While a build is at work the loop goes on inside the warehouse's call,
so reports and sweeps come during builds as they do to a worker with several threads.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from schemas.completion import Delivery
from tests.simulation.boundary import Boundary
from tests.simulation.bus import Bus
from tests.simulation.checker import Checker
from tests.simulation.doubts import Doubts
from tests.simulation.plan import Intensity, Mode, Night, Schedule, at
from tests.simulation.process import Process
from tests.simulation.reader import LogReader
from tests.simulation.run import quiet
from tests.simulation.store import Server, cheap_codec
from tests.simulation.warehouse import Tables
from worker.features.arrivals import Arrival
from worker.foresight.estimated_builds import with_optional
from worker.intake import Verdict

if TYPE_CHECKING:
    from statemachine.model import OnRerun, OnUpstreamFailure
    from worker.features.model import Publication

PLAYERS = 400
# Before a probe found them, rows lay in their table since some moment after the probe before.
FOUND_SINCE = timedelta(seconds=30)
ROWS, REPORT, MIDNIGHT, RENEWAL, SWEEP = range(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeasonRules:
    """What a season is played under."""

    deadline: str
    upgrade_cutoff: str
    on_upstream_failure: "OnUpstreamFailure"
    rerun: "OnRerun"
    build_s: float
    players: int = PLAYERS
    optional: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One publication, as the ledger saw it."""

    generation: int
    trigger: str
    committed_at: datetime
    state: str
    quality_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of one night."""

    analysis_date: date
    state: str
    generations: int
    builds: tuple[Published, ...]


class Witness(Checker):
    """The judge of every simulation, who also writes down each publication."""

    seen: dict[date, list[Published]]

    def ledger_committed(self, publication, staged, worth) -> None:
        super().ledger_committed(publication, staged, worth)
        request, report = publication.request, publication.report
        self.seen.setdefault(request.key.analysis_date, []).append(
            Published(
                generation=request.key.generation,
                trigger=request.trigger,
                committed_at=publication.committed_at,
                state=str(report.earned_state),
                quality_score=report.quality_score,
            )
        )


class NoDoubts(Doubts):
    """The events of a season claim the rows that their tables hold, so nothing is doubted."""

    def judged(self, publication: "Publication") -> frozenset[str]:  # noqa: ARG002 - the judge's shape
        return frozenset()


class SlowBuilds(Boundary):
    """Nothing breaks; a build takes its time, and the season goes on meanwhile."""

    def __init__(self, season: "Season", rng: Random) -> None:
        super().__init__(rng, season, Intensity(slow_build=1.0))
        self._season = season

    def hang(self, process: Process, seconds: float, where: str) -> None:  # noqa: ARG002 - the season knows how long
        self._season.pass_time(timedelta(seconds=self._season.rules.build_s))


class Season:
    """One worker and the nights of a span. It is the `World` of its process."""

    sabotage: frozenset[str] = frozenset()

    def __init__(self, arrivals: Sequence[Arrival], rules: SeasonRules) -> None:
        self.rules = rules
        days = sorted({arrival.analysis_date for arrival in arrivals})
        self.now = at(days[0], 0, 0)
        self.schedule = _schedule(days, rules, self.now)
        self.rng = Random(0)  # noqa: S311 - it decides nothing here
        self.checker = Witness(self.schedule, doubts=NoDoubts())
        self.checker.seen = {}
        self.boundary = SlowBuilds(self, self.rng)
        self.bus = Bus(self.rng, Intensity(), self.checker)
        self.server = Server(self.checker, self.sabotage)
        self.tables = Tables(self.schedule.nights, self.checker, self.sabotage)
        self.reader = LogReader(self)  # type: ignore[arg-type]
        self.process = Process(self, "w1", timedelta())  # type: ignore[arg-type]
        self.process.warehouse.pipeline = with_optional(self.process.warehouse.pipeline, rules.optional)
        self._numbers = count()
        self._ahead: list[tuple[datetime, int, int, Callable[[], None]]] = []
        self._swept_at = self.now
        self._building = False
        for arrival in arrivals:
            self._expect(arrival)
        for day in range((days[-1] - days[0]).days + 2):
            self._push(at(days[0] + timedelta(days=day), 0, 0), MIDNIGHT, self._sweep)

    def _push(self, instant: datetime, rank: int, act: Callable[[], None]) -> None:
        heappush(self._ahead, (instant, rank, next(self._numbers), act))

    def _expect(self, arrival: Arrival) -> None:
        """Turn a recorded arrival into what the outside did: rows, and a message but for rows found by a probe."""
        rows = arrival.rows_found if arrival.rows_found is not None else arrival.rows_claimed
        if rows and (arrival.status != "failed" or arrival.rows_found):
            since = arrival.received_at - FOUND_SINCE if arrival.status == "found" else arrival.completed_at
            self._push(since, ROWS, lambda: self._fill(arrival, rows))
        if arrival.status != "found":
            self._push(arrival.received_at, REPORT, lambda: self._deliver(arrival))

    def _fill(self, arrival: Arrival, rows: int) -> None:
        self.tables.fill(arrival.analysis_date, arrival.processor, self.now, rows)

    def _deliver(self, arrival: Arrival) -> None:
        body = {
            "processor": arrival.processor,
            "analysis_date": arrival.analysis_date.isoformat(),
            "status": arrival.status,
            "run_id": arrival.run,
            "completed_at": arrival.completed_at.isoformat(),
            **({} if arrival.rows_claimed is None else {"row_count": arrival.rows_claimed}),
        }
        data = json.dumps(body).encode()
        about = self.checker.about(data)
        assert about is not None
        self.checker.sent.add(about)
        delivery = Delivery(data=data, attributes={}, message_id=f"m{next(self._numbers)}", published_at=self.now)
        assert list(self.process.intake.handle_all([delivery])) == [(0, Verdict.ACK)]

    def _sweep(self) -> None:
        self._swept_at = self.now
        self.process.sweeper.run_once()

    def play(self) -> dict[date, Ended]:
        """Play the nights to their ends."""
        with quiet(), cheap_codec():
            self._play_until(None)
        return {
            day: Ended(
                analysis_date=day,
                state=str(record.state),
                generations=record.generation,
                builds=tuple(self.checker.seen.get(day, ())),
            )
            for day, record in self.checker.records.items()
            if day in self.schedule.nights
        }

    def pass_time(self, span: timedelta) -> None:
        """Let the season go on for a span, ends included."""
        until = self.now + span
        self._play_until(until)
        self.now = until

    def _play_until(self, until: datetime | None) -> None:
        while (coming := min(self._candidates(), key=lambda one: one[:2], default=None)) is not None:
            instant, rank, act = coming
            if until is not None and instant > until:
                return
            if rank in {ROWS, REPORT, MIDNIGHT}:
                heappop(self._ahead)
            self.now = max(self.now, instant)
            act()
            while self.process.has_queued and not self._building:
                self._building = True
                self.process.build_next()
                self._building = False

    def _candidates(self) -> Iterator[tuple[datetime, int, Callable[[], None]]]:
        if self._ahead:
            instant, rank, _number, act = self._ahead[0]
            yield instant, rank, act
        for keeper in self.process.keepers:
            yield keeper.due_at, RENEWAL, lambda keeper=keeper: self._renew(keeper)
        wake = self.server.memory.next_wake(self._swept_at)
        if wake is not None and (self._ahead or self._is_open()):
            yield wake, SWEEP, self._sweep

    def _renew(self, keeper) -> None:
        keeper.due_at = self.now + timedelta(seconds=20)
        keeper.renew_once()

    def _is_open(self) -> bool:
        """Whether a night of the schedule still waits; the calendar has opened a further one, which has no arrivals."""
        return any(day in self.schedule.nights for day in self.server.wakes)


def _schedule(days: Sequence[date], rules: SeasonRules, start: datetime) -> Schedule:
    nights: Mapping[date, Night] = {day: Night(day=day, phase3=True, players=rules.players) for day in days}
    return Schedule(
        seed=0,
        mode=Mode.LIVENESS,
        workers=1,
        build_threads=1,
        on_upstream_failure=rules.on_upstream_failure,
        rerun=rules.rerun,
        drain_grace=timedelta(),
        first_start=start,
        intensity=Intensity(),
        heal_at=start,
        end_at=start,
        calm=True,
        deadline=rules.deadline,
        upgrade_cutoff=rules.upgrade_cutoff,
        optional=rules.optional,
        nights=dict(nights),
    )
