"""One rehearsed night: the four processors on one side of the worker, Phase 5 on the other."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from ops.demo.player import PHASE4, completion, play
from ops.demo.schedule import PROCESSORS, SCHEDULES, Act, DemoScenario, Moment
from schemas.outcome import OutcomeMessage
from statemachine.model import DateRecord, State
from worker.adapters.pubsub.unary import receive_waiting
from worker.errors import Refused, Unavailable
from worker.local.parquet_folder import dates_in, write_night
from worker.ports import Clock
from worker.resources import Resources

ENDS_AS: Mapping[DemoScenario, State] = {
    DemoScenario.NOMINAL: State.DONE,
    DemoScenario.MISSING_PROCESSOR: State.DONE,
    DemoScenario.OUTAGE: State.DEGRADED,
}
DECIDED = frozenset({State.DONE, State.DEGRADED, State.FAILED})
# A build of a generated night takes a second; a busy machine and a bus that starts may take a minute.
ANSWER_WITHIN_S = 90.0
# The drain grace is 30 s at most; a deadline further off is tonight's, and nobody waits for that.
DEADLINE_WITHIN_S = 60.0
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Folder:
    """Where the upstream files lie; what the processors are still to write lies in a folder below."""

    path: Path

    @property
    def to_come(self) -> Path:
        """The Phase 4 files with the rows of every night."""
        return self.path / "to-come"

    def nights(self) -> list[date]:
        """Give the nights that can be played, in order."""
        sources = [self.source(name) for name in PROCESSORS]
        return dates_in(sources[0]) if all(path.exists() for path in sources) else []

    def source(self, processor: str) -> Path:
        """Where the rows to come of a processor's table are."""
        return self.to_come / f"{PHASE4}.{processor}.parquet"

    def write(self, processor: str, day: date) -> int:
        """Write a processor's rows of a night; give their number."""
        return write_night(self.path / f"{PHASE4}.{processor}.parquet", self.source(processor), day)


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """How a night went: what Phase 5 and the person on call were told, in order."""

    analysis_date: date
    scenario: DemoScenario
    told: tuple[OutcomeMessage, ...]
    state: State

    @property
    def as_expected(self) -> bool:
        """Whether the night ended as its scenario should."""
        return self.state is ENDS_AS[self.scenario]

    def row(self) -> dict[str, Any]:
        """Give it to scripts."""
        return {
            "analysis_date": self.analysis_date.isoformat(),
            "scenario": self.scenario.value,
            "state": self.state.value,
            "as_expected": self.as_expected,
            "told": [one.model_dump(mode="json") for one in self.told],
        }


@dataclass
class Rehearsal:
    """Drives a worker of another process by the upstream files and the bus, in real time.

    Attributes:
        parts: Bus and store of that worker.
        folder: The upstream files.
        clock: The real time.
        show: Shows a person one line.
        pace_s: Pause between two moments.
    """

    parts: Resources
    folder: Folder
    clock: Clock
    show: Callable[[str], None]
    pace_s: float
    _heard: list[OutcomeMessage] = field(default_factory=list)
    _pause: threading.Event = field(default_factory=threading.Event)

    def play(self, day: date, scenario: DemoScenario) -> Played:
        """Play one night to its end.

        Raises:
            Refused: The scenario waits for a deadline that is still far off.
            Unavailable: The worker did not answer in time.
        """
        self.say(f"{day}: {scenario.value}")
        record = self.parts.store.load(day)
        if record is not None and record.state in DECIDED and not self._still_played(record, scenario):
            self.say(f"was {record.state.value} before, generation {record.generation}; not played again")
            return Played(analysis_date=day, scenario=scenario, told=(), state=record.state)
        play(self, day, scenario, self.pace_s)
        self._wait_for(day, ENDS_AS[scenario])
        told = self._told(day)
        return Played(analysis_date=day, scenario=scenario, told=told, state=told[-1].state)

    def _still_played(self, record: DateRecord, scenario: DemoScenario) -> bool:
        """Tonight may have been degraded by its deadline before its processors were played; they upgrade it."""
        upgradable = record.state is State.DEGRADED and self.clock.now() < record.upgrade_cutoff_at
        return upgradable and scenario is not DemoScenario.OUTAGE

    def begin(self, day: date, scenario: DemoScenario) -> None:
        """Open the date of an outage: a failure counts as little as silence, and a date of the past needs an event."""
        self._refuse_far_deadline(day, scenario)
        if scenario is DemoScenario.OUTAGE:
            self.say(f"{PROCESSORS[0]} reports that it failed")
            failed = {"status": "failed", "error": "rehearsed outage", "completed_at": self.clock.now().isoformat()}
            self.publish(day, PROCESSORS[0], failed)

    def _refuse_far_deadline(self, day: date, scenario: DemoScenario) -> None:
        if all(moment.act is not Act.DEADLINE for moment in SCHEDULES[scenario]):
            return
        record = self.parts.store.load(day)
        calendar = self.parts.settings.calendar
        deadline_at = record.deadline_at if record is not None else calendar.at(day, calendar.deadline)
        if deadline_at > self.clock.now() + timedelta(seconds=DEADLINE_WITHIN_S):
            raise Refused(f"{day}: its deadline is still to come; {scenario.value} can be played on an earlier date")

    def move_to(self, day: date, moment: Moment) -> datetime:  # noqa: ARG002 - the driver's shape
        """Return the real time, which no driver moves."""
        return self.clock.now()

    def write(self, processor: str, day: date) -> int:
        """Write the rows of a processor into the upstream file."""
        return self.folder.write(processor, day)

    def publish(self, day: date, processor: str, facts: Mapping[str, str | int]) -> None:
        """Publish a completion to the bus of the worker."""
        topic = self.parts.settings.topic
        self.parts.publisher.publish(completion(topic, day, processor, f"rehearsal-{processor}-{day}", facts))

    def pass_deadline(self, day: date) -> None:
        """Wait until the deadline has degraded the date."""
        self._wait_for(day, State.DEGRADED)

    def settle(self, day: date) -> None:
        """Wait for no answer: a worker elsewhere answers in its own time."""

    def say(self, text: str) -> None:
        """Show a person one line, with the time of the league."""
        zone = self.parts.settings.calendar.zone
        self.show(f"{self.clock.now().astimezone(zone):%H:%M:%S} {text}")

    def _wait_for(self, day: date, state: State) -> None:
        """Listen until the date's outcome is told; a failure ends the wait too."""
        known = len(self._told(day))
        for _ in range(round(ANSWER_WITHIN_S / _POLL_S)):
            self._listen()
            told = self._told(day)
            for one in told[known:]:
                self.say(f"Phase 5 is told: {_text(one)}")
            known = len(told)
            if told and told[-1].state in {state, State.FAILED}:
                return
            self._pause.wait(_POLL_S)
        raise Unavailable(f"{day}: nobody was told that it is {state.value} within {ANSWER_WITHIN_S:.0f} s")

    def _listen(self) -> None:
        settings = self.parts.settings
        for subscription in (f"{settings.success_topic}-phase5", f"{settings.failure_topic}-oncall"):
            for message in receive_waiting(settings.pubsub_project, subscription, self.parts.bus_address):
                outcome = OutcomeMessage.model_validate_json(message.data)
                if all(outcome.event_id != one.event_id for one in self._heard):
                    self._heard.append(outcome)

    def _told(self, day: date) -> tuple[OutcomeMessage, ...]:
        told = [one for one in self._heard if one.analysis_date == day]
        return tuple(sorted(told, key=lambda one: one.generation))


def _text(outcome: OutcomeMessage) -> str:
    instead = f", instead of generation {outcome.supersedes}" if outcome.supersedes else ""
    return (
        f"{outcome.state.value}, generation {outcome.generation}{instead}: {outcome.row_count} rows, "
        f"score {outcome.quality_score}, fallback {outcome.fallback_rate:.1%}"
    )
