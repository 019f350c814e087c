"""Plays one night against a running worker: writes the processors' tables, publishes their events, moves the clock.

The worker under it is the real one: it pulls from the local bus with Google's client, stores in the embedded Valkey
and builds in the embedded warehouse. Only the four processors and the passing of time are played.
"""

import json
import threading
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path

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
from worker.ports import OutgoingMessage, Publisher, StateStore

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


class NightPlayer:
    """One night of one date."""

    def __init__(
        self,
        *,
        worker: Worker,
        store: StateStore,
        warehouse: DuckDbWarehouse,
        publisher: Publisher,
        topic: str,
        clock: OffsetClock,
        calendar: Calendar,
        deliveries: DeliveryCounter,
        data_dir: Path,
        analysis_date: date,
        scenario: DemoScenario,
        say: Callable[[str], None],
        pace_s: float,
    ) -> None:
        self._worker = worker
        self._store = store
        self._warehouse = warehouse
        self._publisher = publisher
        self._topic = topic
        self._clock = clock
        self._calendar = calendar
        self._deliveries = deliveries
        self._data_dir = data_dir
        self._day = analysis_date
        self._scenario = scenario
        self._say = say
        self._pace_s = pace_s
        # Deliveries of the nights before are in the count already.
        self._expected = deliveries.count
        self._pause = threading.Event()

    def play(self) -> DateRecord:
        """Play the whole schedule and give the record as it stands afterwards.

        Raises:
            Unavailable: The worker did not come to rest in time.
        """
        self._open()
        for moment in SCHEDULES[self._scenario]:
            self._clock.jump_to(self._calendar.at(self._day, WallClock(0, moment.at)))
            self._act(moment)
            self._settle()
            self._pause.wait(self._pace_s)
        return self._record()

    def _open(self) -> None:
        """Begin on the evening, and let the calendar open the date; one behind its mark is opened here."""
        self._clock.jump_to(night_start(self._calendar, self._day, None))
        self._worker.sweep_now()
        for _ in range(round(OPEN_TIMEOUT_S / _POLL_S)):
            if self._store.load(self._day) is not None:
                return
            self._pause.wait(_POLL_S)
        self._worker.engine.apply(self._day, DateOpened())

    def _act(self, moment: Moment) -> None:
        match moment.act:
            case Act.COMPLETE:
                path = self._data_dir / f"{PHASE4}.{moment.processor}.parquet"
                _table, rows = load_parquet_slice(self._warehouse, path, self._day)
                self._say(f"{moment.processor} wrote {rows} rows and published its completion")
                self._publish(moment.processor, rows, moment)
            case Act.REPEAT:
                self._say(f"the bus delivers the completion of {moment.processor} again")
                self._publish(moment.processor, None, moment)
            case Act.DEADLINE:
                record = self._record()
                self._say("the deadline passes")
                self._clock.jump_to(record.deadline_at + _AFTER_DEADLINE)
        self._worker.sweep_now()

    def _publish(self, processor: str, rows: int | None, moment: Moment) -> None:
        body: dict[str, str | int] = {
            "processor": processor,
            "analysis_date": self._day.isoformat(),
            "status": "success",
            "run_id": f"{processor}-{self._day}",
            "completed_at": self._calendar.at(self._day, WallClock(0, moment.at)).isoformat(),
        }
        if rows is not None:
            body["row_count"] = rows
        self._publisher.publish(
            OutgoingMessage(event_id="", topic=self._topic, data=json.dumps(body).encode(), attributes={})
        )
        self._expected += 1

    def _settle(self) -> None:
        """Wait until the worker has nothing left to do at this instant of the night."""
        for _ in range(round(SETTLE_TIMEOUT_S / _POLL_S)):
            if self._at_rest():
                return
            self._pause.wait(_POLL_S)
        raise Unavailable(f"{self._day}: the worker did not come to rest within {SETTLE_TIMEOUT_S:.0f} s; see its log")

    def _at_rest(self) -> bool:
        record = self._record()
        now = self._clock.now()
        overdue = record.wake_at is not None and record.wake_at <= now
        busy = record.state is State.RUNNING or (record.state is State.READY and overdue)
        waiting_past_deadline = record.state in {State.WAITING, State.FAILED} and overdue
        heard = self._deliveries.count >= self._expected
        return heard and not busy and not waiting_past_deadline and self._store.outbox_size() == 0

    def _record(self) -> DateRecord:
        record = self._store.load(self._day)
        if record is None:
            return self._calendar.fresh_record(self._day, self._clock.now())
        return record


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
