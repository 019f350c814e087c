"""One player for the schedules of the nights, and the driver of `mlfs demo`.

The player reads the schedule and tells a driver what happens. `DemoDriver` drives the real worker of this process on
embedded parts; only the four processors and the passing of time are played. `ops.demo.rehearsal` holds the driver for a
worker elsewhere.
"""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Protocol

from ops.demo.schedule import PROCESSORS, SCHEDULES, Act, DemoScenario, Moment
from statemachine.events import DateOpened
from statemachine.model import DateRecord, State
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.app import Worker
from worker.calendar import Calendar, WallClock
from worker.clock import OffsetClock
from worker.errors import Unavailable
from worker.local.parquet_folder import delete_slice, load_parquet_folder, load_parquet_slice
from worker.observing.observer import Notice, Received
from worker.ports import OutgoingMessage
from worker.resources import Resources

PHASE4 = "nba_precompute"
# Without these a fallback has nothing to fall back to.
PHASE3_TABLES = (
    "nba_analytics.player_game_summary",
    "nba_analytics.team_offense_game_summary",
    "nba_analytics.team_defense_game_summary",
)
SETTLE_TIMEOUT_S = 60.0
OPEN_TIMEOUT_S = 1.0
_POLL_S = 0.01
# After the deadline has passed the drain grace is over; past it the fallback is due.
_AFTER_DEADLINE = timedelta(seconds=1)


class DeliveryCounter:
    """Counts deliveries that the worker has finished with."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def note(self, notice: Notice) -> None:
        """Count a delivery, unless the bus delivers the message again."""
        if isinstance(notice, Received) and notice.outcome not in {"unavailable", "error"}:
            with self._lock:
                self.count += 1


class Driver(Protocol):
    """The world around the schedule of one analysis date: a worker of this process, or a worker elsewhere."""

    def begin(self, day: date, scenario: DemoScenario) -> None:
        """Bring the night to the first moment."""

    def move_to(self, day: date, moment: Moment) -> datetime:
        """Let the time of *moment* come; return the instant at which a report of this moment completed."""

    def write(self, processor: str, day: date) -> int:
        """Write the rows of a processor for the night; return the number."""

    def publish(self, day: date, processor: str, facts: Mapping[str, str | int]) -> None:
        """Publish the completion of a processor."""

    def pass_deadline(self, day: date) -> None:
        """Let the deadline pass."""

    def settle(self, day: date) -> None:
        """Wait until the worker has dealt with the moment, as far as the driver can see."""

    def say(self, text: str) -> None:
        """Show a person one line."""


def play(driver: Driver, day: date, scenario: DemoScenario, pace_s: float) -> None:
    """Play the schedule of a scenario on one analysis date.

    Raises:
        Unavailable: The worker did not answer in time.
    """
    pause = threading.Event()
    driver.begin(day, scenario)
    for moment in SCHEDULES[scenario]:
        completed = {"completed_at": driver.move_to(day, moment).isoformat()}
        match moment.act:
            case Act.COMPLETE:
                rows = driver.write(moment.processor, day)
                driver.say(f"{moment.processor} wrote {rows} rows and published its completion")
                driver.publish(day, moment.processor, {**completed, "row_count": rows})
            case Act.REPEAT:
                driver.say(f"the bus delivers the completion of {moment.processor} again")
                driver.publish(day, moment.processor, completed)
            case Act.DEADLINE:
                driver.say("the deadline passes")
                driver.pass_deadline(day)
        driver.settle(day)
        pause.wait(pace_s)


def completion(topic: str, day: date, processor: str, run_id: str, facts: Mapping[str, str | int]) -> OutgoingMessage:
    """Return the completion event of a processor."""
    body = {"processor": processor, "analysis_date": day.isoformat(), "status": "success", "run_id": run_id, **facts}
    return OutgoingMessage(event_id="", topic=topic, data=json.dumps(body).encode(), attributes={})


@dataclass
class DemoDriver:
    """Drives the worker of this process: loads the rows, publishes to the embedded bus, moves the clock.

    Attributes:
        deliveries: An observer of the worker.
        data_dir: Folder of the Phase 4 rows to come.
        say: Shows a person one line.
    """

    worker: Worker
    parts: Resources
    clock: OffsetClock
    deliveries: DeliveryCounter
    data_dir: Path
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        self._calendar = self.parts.settings.calendar
        self._store = self.parts.store
        # Deliveries of the nights before are in the count already.
        self._expected = self.deliveries.count
        self._pause = threading.Event()

    def begin(self, day: date, scenario: DemoScenario) -> None:  # noqa: ARG002 - the driver's shape
        """Begin on the evening, and let the calendar open the date; a date behind its mark is opened here."""
        self.clock.jump_to(night_start(self._calendar, day, None))
        self.worker.sweep_now()
        for _ in range(round(OPEN_TIMEOUT_S / _POLL_S)):
            if self._store.load(day) is not None:
                return
            self._pause.wait(_POLL_S)
        self.worker.engine.apply(day, DateOpened())

    def move_to(self, day: date, moment: Moment) -> datetime:
        """Move the clock to the moment."""
        at = self._calendar.at(day, WallClock(0, moment.at))
        self.clock.jump_to(at)
        return at

    def write(self, processor: str, day: date) -> int:
        """Load the rows of a processor into the warehouse."""
        path = self.data_dir / f"{PHASE4}.{processor}.parquet"
        _table, rows = load_parquet_slice(self.parts.embedded_warehouse, path, day)
        return rows

    def publish(self, day: date, processor: str, facts: Mapping[str, str | int]) -> None:
        """Publish a completion to the embedded bus."""
        topic = self.parts.settings.topic
        self.parts.publisher.publish(completion(topic, day, processor, f"{processor}-{day}", facts))
        self._expected += 1

    def pass_deadline(self, day: date) -> None:
        """Move the clock behind the deadline."""
        self.clock.jump_to(self.record(day).deadline_at + _AFTER_DEADLINE)

    def settle(self, day: date) -> None:
        """Wait until the worker has nothing left to do at this instant of the night."""
        self.worker.sweep_now()
        for _ in range(round(SETTLE_TIMEOUT_S / _POLL_S)):
            if self._at_rest(self.record(day)):
                return
            self._pause.wait(_POLL_S)
        raise Unavailable(f"{day}: the worker did not come to rest within {SETTLE_TIMEOUT_S:.0f} s; see its log")

    def record(self, day: date) -> DateRecord:
        """Return the record of the night, a fresh record where none is stored."""
        return self._store.load(day) or self._calendar.fresh_record(day, self.clock.now())

    def _at_rest(self, record: DateRecord) -> bool:
        overdue = record.wake_at is not None and record.wake_at <= self.clock.now()
        busy = record.state is State.RUNNING or (record.state is State.READY and overdue)
        waiting_past_deadline = record.state in {State.WAITING, State.FAILED} and overdue
        heard = self.deliveries.count >= self._expected
        return heard and not busy and not waiting_past_deadline and self._store.outbox_size() == 0


def prepare_night(
    warehouse: DuckDbWarehouse, data_dir: Path, nights: list[date], scenario: DemoScenario
) -> list[tuple[str, int]]:
    """Load the data as it stands before the first processor of the night: without that night's Phase 4 rows.

    Args:
        warehouse: Where to load.
        data_dir: Folder of `<dataset>.<table>.parquet` files.
        nights: The dates to be played.
        scenario: `no-data` leaves Phase 3 empty.

    Returns:
        (`dataset.table`, rows) as loaded.
    """
    empty = PHASE3_TABLES if scenario is DemoScenario.NO_DATA else ()
    tables = load_parquet_folder(warehouse, data_dir, structure_only=empty)
    for day in nights:
        for processor in PROCESSORS:
            delete_slice(warehouse, f"{PHASE4}.{processor}", day)
    return tables


def night_start(calendar: Calendar, analysis_date: date, last_change_at: datetime | None) -> datetime:
    """Give the instant at which to start the clock: early on the evening, or where an interrupted night stopped."""
    first = min(moment.at for moment in SCHEDULES[DemoScenario.NOMINAL])
    evening = calendar.at(analysis_date, WallClock(0, first))
    start = evening - timedelta(minutes=5)
    return max(start, last_change_at) if last_change_at is not None else start
