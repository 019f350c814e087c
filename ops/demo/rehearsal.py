"""Rehearsed night: the player writes as the four processors, and reads the outcomes as Phase 5.

The worker is another process in real time. A broken-off rehearsal leaves written rows and published completions; the
next rehearsal skips decided nights and repeats the other nights with the same run ids.
"""

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
# The drain grace is 30 s at most; a later deadline belongs to tonight and is too far away to wait for.
DEADLINE_WITHIN_S = 60.0
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Folder:
    """Folder of the upstream files; a folder below holds the rows that the processors will write."""

    path: Path

    @property
    def to_come(self) -> Path:
        """Folder of the Phase 4 files with the rows of every night."""
        return self.path / "to-come"

    def nights(self) -> list[date]:
        """Return the playable nights, in order."""
        sources = [self.source(name) for name in PROCESSORS]
        return dates_in(sources[0]) if all(path.exists() for path in sources) else []

    def source(self, processor: str) -> Path:
        """Return the file with all rows of a processor."""
        return self.to_come / f"{PHASE4}.{processor}.parquet"

    def write(self, processor: str, day: date) -> int:
        """Write the rows of a processor for a night; return the number."""
        return write_night(self.path / f"{PHASE4}.{processor}.parquet", self.source(processor), day)


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """Result of a night, with the messages to Phase 5 and to the person on call, in order."""

    analysis_date: date
    scenario: DemoScenario
    told: tuple[OutcomeMessage, ...]
    state: State

    @property
    def as_expected(self) -> bool:
        """Whether the night ended in the state of the scenario."""
        return self.state is ENDS_AS[self.scenario]

    def row(self) -> dict[str, Any]:
        """Return the result for JSON."""
        return {
            "analysis_date": self.analysis_date.isoformat(),
            "scenario": self.scenario.value,
            "state": self.state.value,
            "as_expected": self.as_expected,
            "told": [outcome.model_dump(mode="json") for outcome in self.told],
        }


@dataclass
class Rehearsal:
    """Driver of a worker in another process: writes upstream files and uses the bus, in real time.

    Attributes:
        resources: Bus and store of the worker.
        folder: Upstream files.
        clock: Clock of the real time.
        show: Prints a line for a person.
        pace_s: Pause between two moments.
    """

    resources: Resources
    folder: Folder
    clock: Clock
    show: Callable[[str], None]
    pace_s: float
    _heard: list[OutcomeMessage] = field(default_factory=list)
    _pause: threading.Event = field(default_factory=threading.Event)

    def play(self, day: date, scenario: DemoScenario) -> Played:
        """Play a night to the end.

        Raises:
            Refused: The scenario needs a deadline that is too far away.
            Unavailable: The worker did not answer in time.
        """
        self.say(f"{day}: {scenario.value}")
        record = self.resources.store.load(day)
        if record is not None and record.state in DECIDED and not self._still_played(record, scenario):
            self.say(f"was {record.state.value} before, generation {record.generation}; not played again")
            return Played(analysis_date=day, scenario=scenario, told=(), state=record.state)
        play(self, day, scenario, self.pace_s)
        self._wait_for(day, ENDS_AS[scenario])
        told = self._told(day)
        return Played(analysis_date=day, scenario=scenario, told=told, state=told[-1].state)

    def _still_played(self, record: DateRecord, scenario: DemoScenario) -> bool:
        """Return whether a degraded night is still played: the completions upgrade the date before the cutoff."""
        upgradable = record.state is State.DEGRADED and self.clock.now() < record.upgrade_cutoff_at
        return upgradable and scenario is not DemoScenario.OUTAGE

    def begin(self, day: date, scenario: DemoScenario) -> None:
        """Open the date of an outage by a failed completion: a date of the past is opened by an event only."""
        self._refuse_far_deadline(day, scenario)
        if scenario is DemoScenario.OUTAGE:
            self.say(f"{PROCESSORS[0]} reports that it failed")
            failed = {"status": "failed", "error": "rehearsed outage", "completed_at": self.clock.now().isoformat()}
            self.publish(day, PROCESSORS[0], failed)

    def _refuse_far_deadline(self, day: date, scenario: DemoScenario) -> None:
        if all(moment.act is not Act.DEADLINE for moment in SCHEDULES[scenario]):
            return
        record = self.resources.store.load(day)
        calendar = self.resources.settings.calendar
        deadline_at = record.deadline_at if record is not None else calendar.at(day, calendar.deadline)
        if deadline_at > self.clock.now() + timedelta(seconds=DEADLINE_WITHIN_S):
            raise Refused(f"{day}: its deadline is still to come; {scenario.value} can be played on an earlier date")

    def move_to(self, day: date, moment: Moment) -> datetime:  # noqa: ARG002 - the driver's shape
        """Return the real time."""
        return self.clock.now()

    def write(self, processor: str, day: date) -> int:
        """Write the rows of a processor into the upstream file."""
        return self.folder.write(processor, day)

    def publish(self, day: date, processor: str, facts: Mapping[str, str | int]) -> None:
        """Publish a completion to the bus of the worker."""
        topic = self.resources.settings.topic
        self.resources.publisher.publish(completion(topic, day, processor, f"rehearsal-{processor}-{day}", facts))

    def pass_deadline(self, day: date) -> None:
        """Wait until the deadline has degraded the date."""
        self._wait_for(day, State.DEGRADED)

    def settle(self, day: date) -> None:
        """Return at once: the state of the other worker is unknown here."""

    def say(self, text: str) -> None:
        """Print a line for a person, with the time in the league's zone."""
        zone = self.resources.settings.calendar.zone
        self.show(f"{self.clock.now().astimezone(zone):%H:%M:%S} {text}")

    def _wait_for(self, day: date, state: State) -> None:
        """Read outcomes until the date has *state* or has failed."""
        known = len(self._told(day))
        for _ in range(round(ANSWER_WITHIN_S / _POLL_S)):
            self._listen()
            told = self._told(day)
            for outcome in told[known:]:
                self.say(f"Phase 5 is told: {_text(outcome)}")
            known = len(told)
            if told and told[-1].state in {state, State.FAILED}:
                return
            self._pause.wait(_POLL_S)
        raise Unavailable(
            f"{day}: no outcome {state.value} was published within {ANSWER_WITHIN_S:.0f} s; does a worker run?"
        )

    def _listen(self) -> None:
        settings = self.resources.settings
        for subscription in (f"{settings.success_topic}-phase5", f"{settings.failure_topic}-oncall"):
            for message in receive_waiting(settings.pubsub_project, subscription, self.resources.bus_address):
                outcome = OutcomeMessage.model_validate_json(message.data)
                if all(outcome.event_id != heard.event_id for heard in self._heard):
                    self._heard.append(outcome)

    def _told(self, day: date) -> tuple[OutcomeMessage, ...]:
        told = [outcome for outcome in self._heard if outcome.analysis_date == day]
        return tuple(sorted(told, key=lambda outcome: outcome.generation))


def _text(outcome: OutcomeMessage) -> str:
    instead = f", instead of generation {outcome.supersedes}" if outcome.supersedes else ""
    return (
        f"{outcome.state.value}, generation {outcome.generation}{instead}: {outcome.row_count} rows, "
        f"score {outcome.quality_score}, fallback {outcome.fallback_rate:.1%}"
    )
