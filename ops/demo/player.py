"""Player of a scheduled night, and the driver of `mlfs demo`.

The player reads the schedule and calls a driver for each moment. `DemoDriver` drives the real worker of this process on
embedded resources; only the four processors and the clock are played. `ops.demo.rehearsal` holds the driver for a
worker in another process.
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
# The source of every fallback.
PHASE3_TABLES = (
    "nba_analytics.player_game_summary",
    "nba_analytics.team_offense_game_summary",
    "nba_analytics.team_defense_game_summary",
)
SETTLE_TIMEOUT_S = 60.0
OPEN_TIMEOUT_S = 1.0
_POLL_S = 0.01
# At one second after the deadline the timer of the fallback is due.
_AFTER_DEADLINE = timedelta(seconds=1)


class DeliveryCounter:
    """Number of deliveries that the worker has finished."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def note(self, notice: Notice) -> None:
        """Count a delivery, unless the bus delivers the message again."""
        if isinstance(notice, Received) and notice.outcome not in {"unavailable", "error"}:
            with self._lock:
                self.count += 1


class Driver(Protocol):
    """Effects of a played analysis date on a worker of this process, or on a worker in another process."""

    def begin(self, day: date, scenario: DemoScenario) -> None:
        """Bring the night to the first moment."""

    def move_to(self, day: date, moment: Moment) -> datetime:
        """Wait for the time of *moment*, or move the clock; return the completion time of the moment."""

    def write(self, processor: str, day: date) -> int:
        """Write the rows of a processor for the night; return the number."""

    def publish(self, day: date, processor: str, facts: Mapping[str, str | int]) -> None:
        """Publish the completion of a processor."""

    def pass_deadline(self, day: date) -> None:
        """Wait for the deadline, or move the clock behind the deadline."""

    def settle(self, day: date) -> None:
        """Wait until the worker has handled the moment, if the driver can see the end."""

    def say(self, text: str) -> None:
        """Print a line for a person."""


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
        say: Prints a line for a person.
    """

    worker: Worker
    resources: Resources
    clock: OffsetClock
    deliveries: DeliveryCounter
    data_dir: Path
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        self._calendar = self.resources.settings.calendar
        self._store = self.resources.store
        # The count includes the deliveries of earlier nights.
        self._expected = self.deliveries.count
        self._pause = threading.Event()

    def begin(self, day: date, scenario: DemoScenario) -> None:  # noqa: ARG002 - the driver's shape
        """Move the clock to the evening, so that the sweep opens the date; open an earlier date by an event."""
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
        _table, rows = load_parquet_slice(self.resources.embedded_warehouse, path, day)
        return rows

    def publish(self, day: date, processor: str, facts: Mapping[str, str | int]) -> None:
        """Publish a completion to the embedded bus."""
        topic = self.resources.settings.topic
        self.resources.publisher.publish(completion(topic, day, processor, f"{processor}-{day}", facts))
        self._expected += 1

    def pass_deadline(self, day: date) -> None:
        """Move the clock behind the deadline."""
        self.clock.jump_to(self.record(day).deadline_at + _AFTER_DEADLINE)

    def settle(self, day: date) -> None:
        """Wait until the worker has done all work that is due at this instant."""
        self.worker.sweep_now()
        for _ in range(round(SETTLE_TIMEOUT_S / _POLL_S)):
            if self._at_rest(self.record(day)):
                return
            self._pause.wait(_POLL_S)
        raise Unavailable(f"{day}: the worker did not come to rest within {SETTLE_TIMEOUT_S:.0f} s; see worker.log")

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
    """Load the data without the Phase 4 rows of the nights, which the played processors write later.

    Args:
        warehouse: Embedded warehouse.
        data_dir: Folder of `<dataset>.<table>.parquet` files.
        nights: Dates of the nights.
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
    """Return the first instant of the clock: early in the evening, or the last change of an interrupted night."""
    first = min(moment.at for moment in SCHEDULES[DemoScenario.NOMINAL])
    evening = calendar.at(analysis_date, WallClock(0, first))
    start = evening - timedelta(minutes=5)
    return max(start, last_change_at) if last_change_at is not None else start
