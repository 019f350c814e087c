"""Backtest: recorded nights played through `decide` under other rules. Pure.

Model: a night is the recorded arrivals of an analysis date. The date opens at midnight in the league's zone, or at the
first report if earlier. Then reports, due timers and builds follow in the order of their instants. A timer fires at its
instant, a build is claimed as soon as the date is ready, and a build takes the estimated time. The rules of production
decide: `statemachine.decide.decide` with a policy and a calendar.

The tables: a table holds rows from the end of the first successful run on. Rows that a probe found without a report
came between two probes, so these rows count from half a pause before the probe. A run that reported a failure fills the
table only if the recorded build found rows and no later report of the processor followed.

Guarantees: the same arrivals and rules give the same result, and equal the result of a worker without faults: a test
plays the same nights through engine, intake, sweeper and builder. Interventions of people are left out.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from functools import partial
from itertools import groupby
from operator import attrgetter

from statemachine.decide import decide
from statemachine.decision import StartBuild
from statemachine.events import (
    BuildClaimed,
    BuildCommitted,
    BuildFailed,
    CompletionReceived,
    DateOpened,
    Event,
    TimerFired,
)
from statemachine.model import (
    BuildResult,
    Completion,
    CompletionStatus,
    FailureKind,
    Policy,
    State,
    Trigger,
)
from worker.calendar import NIGHT_ENDS, Calendar, WallClock
from worker.features.arrivals import Arrival
from worker.features.model import QualityReport
from worker.foresight.estimated_builds import BuildEstimates

WORKER = "backtest"
MIDNIGHT = WallClock(0, time(0))
NIGHT_OVER = WallClock(1, NIGHT_ENDS)
# A cutoff a week after the deadline is ten thousand probes of a degraded date, one a minute.
STEPS_MAX = 20_000


class NotPlayed(StrEnum):
    """Reason for leaving an expected night out."""

    NO_ARRIVALS = "no report is recorded"
    AFTER_THE_NIGHT = "all reports came after the night, as in a backfill"
    ONLY_BUILDS = "builds are recorded in place of reports, as after a loss of the state store"


class Ending(StrEnum):
    """End of a played night."""

    DONE = "done"
    UPGRADED = "upgraded"
    """Degraded first, done later."""
    DEGRADED = "degraded"
    FAILED = "failed"
    """No generation was published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Rules of a backtest: policy of the state machine, and calendar with deadline and cutoff."""

    policy: Policy
    calendar: Calendar


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """Recorded night.

    Attributes:
        analysis_date: Date in the league's calendar.
        arrivals: Arrivals of the date, by `received_at`; at least one.
        expected: Whether a worker opens the date at midnight; otherwise the first report opens the date.
    """

    analysis_date: date
    arrivals: tuple[Arrival, ...]
    expected: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedBuild:
    """Published build of a played night.

    Attributes:
        generation: Generation of the build.
        trigger: Reason of the generation.
        committed_at: Instant of the publication. UTC.
        state: Earned state, done or degraded.
        quality_score: Estimated score, 0 to 100.
        score_lost: Points below the estimate for a build from all tables.
    """

    generation: int
    trigger: Trigger | None
    committed_at: datetime
    state: State | None
    quality_score: float
    score_lost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedNight:
    """Result of a played night.

    Attributes:
        analysis_date: Date in the league's calendar.
        state: State of the date at the end.
        generations: Number of generations, published or not.
        builds: Published builds, in order.
    """

    analysis_date: date
    state: State
    generations: int
    builds: tuple[PlayedBuild, ...]

    @property
    def ending(self) -> Ending:
        """Return the end of the night for consumers: the last publication counts."""
        if not self.builds:
            return Ending.FAILED
        if self.builds[-1].state is State.DEGRADED:
            return Ending.DEGRADED
        return Ending.UPGRADED if self.builds[0].state is State.DEGRADED else Ending.DONE


def nights_of(
    arrivals: Sequence[Arrival], calendar: Calendar, first: date, last: date
) -> tuple[list[Night], dict[date, NotPlayed]]:
    """Return the nights to play, and the reason for each expected night that cannot be played.

    Args:
        arrivals: Arrivals of the analysis dates *first* to *last*, by analysis date and instant.
        calendar: Calendar with the days of the games, where known.
        first: First analysis date.
        last: Last analysis date, included.
    """
    by_date = {day: tuple(group) for day, group in groupby(arrivals, key=attrgetter("analysis_date"))}
    nights, left_out = [], {}
    for offset in range((last - first).days + 1):
        day = first + timedelta(days=offset)
        reports, expected = by_date.get(day, ()), calendar.expected(day)
        why = _why_not(reports, calendar.at(day, NIGHT_OVER))
        if why is None:
            nights.append(Night(analysis_date=day, arrivals=reports, expected=expected))
        elif reports or expected:
            left_out[day] = why
    return nights, left_out


def _why_not(reports: Sequence[Arrival], over_at: datetime) -> NotPlayed | None:
    """Return why the reports of a date cannot be played; None for a night that can be played."""
    if not reports:
        return NotPlayed.NO_ARRIVALS
    if not all(arrival.is_timed for arrival in reports):
        return NotPlayed.ONLY_BUILDS
    return NotPlayed.AFTER_THE_NIGHT if reports[0].received_at >= over_at else None


def play_night(night: Night, rules: Rules, estimates: BuildEstimates) -> PlayedNight:
    """Return the end of a recorded night under *rules*."""
    play = _Play(night, rules, estimates)
    play.run()
    return PlayedNight(
        analysis_date=night.analysis_date,
        state=play.record.state,
        generations=play.record.generation,
        builds=tuple(play.builds),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Build:
    """Build in work: the processors whose table held rows at the claim, and both instants."""

    filled: frozenset[str]
    claimed_at: datetime
    ends_at: datetime


class _Play:
    """One night while the night is played, instant by instant."""

    def __init__(self, night: Night, rules: Rules, estimates: BuildEstimates) -> None:
        self._rules = rules
        self._estimates = estimates
        self._day = night.analysis_date
        self._reports = deque(arrival for arrival in night.arrivals if arrival.status != CompletionStatus.FOUND)
        self._filled_at = filled_at(night.arrivals, rules.policy.look_every)
        first = night.arrivals[0].received_at
        self._opens_at = min(rules.calendar.at(self._day, MIDNIGHT), first) if night.expected else first
        self._build: _Build | None = None
        self.record = rules.calendar.fresh_record(self._day, self._opens_at)
        self.builds: list[PlayedBuild] = []

    def run(self) -> None:
        """Play the night until no step is due."""
        self._apply(DateOpened(), self._opens_at)
        for _step in range(STEPS_MAX):
            due = min(self._due(), key=lambda step: step[0], default=None)
            if due is None:
                return
            due[1](due[0])
        raise AssertionError(f"{self._day}: {STEPS_MAX} steps and no end of the night")

    def _due(self) -> Iterator[tuple[datetime, Callable[[datetime], None]]]:
        """Yield the next steps with their instants; of steps at the same instant the first is played first."""
        if self._reports:
            yield self._reports[0].received_at, self._report
        if self._build is not None:
            # The worker renews the lease during the build, so the lease never expires.
            yield self._build.ends_at, partial(self._end_build, self._build)
        elif self.record.wake_at is not None:
            yield self.record.wake_at, self._timer

    def _report(self, now: datetime) -> None:
        self._apply(CompletionReceived(completion=_completion(self._reports.popleft())), now)

    def _timer(self, now: datetime) -> None:
        self._apply(TimerFired(probe=self._estimates.rows(self._filled(now)), looked_at=now), now)

    def _claim(self, now: datetime) -> None:
        self._apply(BuildClaimed(worker=WORKER), now)
        ends_at = now + timedelta(seconds=self._estimates.build_s)
        self._build = _Build(filled=self._filled(now), claimed_at=now, ends_at=ends_at)

    def _end_build(self, build: _Build, now: datetime) -> None:
        self._build = None
        report = self._estimates.report(build.filled, self._rules.policy.optional)
        if report.gate_passed:
            result = self._result(build, report)
            self.builds.append(self._played(result))
            self._apply(BuildCommitted(result=result), now)
            return
        refused = BuildFailed(
            generation=self.record.generation,
            attempt=self.record.attempt,
            failure=FailureKind.GATE_REFUSED,
            message=report.gate_message,
        )
        self._apply(refused, now)

    def _result(self, build: _Build, report: QualityReport) -> BuildResult:
        return BuildResult(
            generation=self.record.generation,
            attempt=self.record.attempt,
            state=report.earned_state,
            row_count=report.row_count,
            quality_score=report.quality_score,
            component_total=report.component_total,
            components=report.components,
            fallback_rate=report.fallback_rate,
            missing_rate=report.missing_rate,
            severity=report.severity,
            dependency_rows=self._estimates.rows(build.filled),
            left_out=0,
            committed_at=build.ends_at,
            duration_s=(build.ends_at - build.claimed_at).total_seconds(),
        )

    def _played(self, result: BuildResult) -> PlayedBuild:
        return PlayedBuild(
            generation=result.generation,
            trigger=self.record.trigger,
            committed_at=result.committed_at,
            state=result.state,
            quality_score=result.quality_score,
            score_lost=self._estimates.score_lost(result.quality_score),
        )

    def _filled(self, now: datetime) -> frozenset[str]:
        return frozenset(name for name, since in self._filled_at.items() if since <= now)

    def _apply(self, event: Event, now: datetime) -> None:
        decision = decide(self.record, event, now=now, policy=self._rules.policy)
        self.record = decision.record
        if any(isinstance(effect, StartBuild) for effect in decision.effects):
            self._claim(now)


def filled_at(arrivals: Sequence[Arrival], look_every: timedelta) -> Mapping[str, datetime]:
    """Return the instant (UTC) from which the table of each processor holds rows; a table without rows is absent.

    Args:
        arrivals: Arrivals of one analysis date, by `received_at`.
        look_every: Pause between two probes.
    """
    filled: dict[str, datetime] = {}
    last = {arrival.processor: arrival for arrival in arrivals}
    for arrival in arrivals:
        rows = arrival.rows_claimed if arrival.rows_found is None else arrival.rows_found
        match arrival.status:
            case CompletionStatus.SUCCESS if rows != 0:
                since = min(arrival.completed_at, arrival.received_at)
            case CompletionStatus.FOUND:
                since = arrival.received_at - look_every / 2
            case CompletionStatus.FAILED if last[arrival.processor] is arrival and arrival.rows_found:
                since = min(arrival.completed_at, arrival.received_at)
            case _:
                continue
        filled[arrival.processor] = min(since, filled.get(arrival.processor, since))
    return filled


def _completion(arrival: Arrival) -> Completion:
    return Completion(
        processor=arrival.processor,
        status=CompletionStatus(arrival.status),
        identity=arrival.run,
        completed_at=arrival.completed_at,
        received_at=arrival.received_at,
        row_count=arrival.rows_claimed,
    )
