"""Demo run: the folder of a demo, the data, the worker and the screen.

`demo.json` in the folder names scenario and data. A fresh run first removes the state of the earlier run. A killed demo
leaves a complete store; `--resume` continues there, and a fresh run stops a server that is still running.
"""

import hashlib
import json
import shutil
import tempfile
import threading
from contextlib import ExitStack
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from ops import leaving
from ops.demo.player import DeliveryCounter, DemoDriver, night_start, play, prepare_night
from ops.demo.schedule import DemoScenario
from ops.demo.screen import NightScreen
from ops.output import counted, err, hint
from statemachine.model import DateRecord
from worker.adapters.pubsub.unary import receive_waiting
from worker.app import Worker
from worker.clock import OffsetClock
from worker.date_text import summary
from worker.errors import Refused
from worker.local.ownership import DirectoryLock
from worker.local.sample.data import write_sample_data
from worker.local.valkey import EmbeddedValkey
from worker.observing import logs
from worker.pipelines.shipped import PUBLISHED_TABLE
from worker.resources import DEMO_NOTE, ProcessKind, Resources
from worker.settings import Settings

# The generator writes Phase 4 for the last three dates.
GENERATED_NIGHTS_MAX = 3
PACE_ON_TERMINAL_S = 0.35
DEMO_FILES = ("valkey", "pubsub", "warehouse.duckdb")


class DemoRun:
    """Demo: all nights, played by one worker."""

    def __init__(self, settings: Settings, scenario: DemoScenario, data: Path | None, days: list[date]) -> None:
        self._settings = settings
        self._scenario = scenario
        self._data = data
        self._days = days

    def run(self, *, quiet: bool, serve: bool) -> list[dict[str, Any]]:
        """Play all nights in order; return the facts of each night for JSON."""
        settings = self._settings
        with ExitStack() as stack:
            log_file = stack.enter_context((settings.data_dir / "worker.log").open("a", encoding="utf-8"))
            logs.configure(settings.log_level, log_file, trace_project=settings.trace_project)
            resources = stack.enter_context(Resources(settings, ProcessKind.PULL))
            data_dir = self._data_dir(stack)
            resumed = self._prepare(resources, data_dir)
            over = night_start(settings.calendar, self._days[-1] + timedelta(days=1), None)
            stopped = _last_change(resources, self._days[0], over)
            clock = OffsetClock(night_start(settings.calendar, self._days[0], stopped))
            screen = stack.enter_context(NightScreen(settings, clock, quiet=quiet))
            deliveries = DeliveryCounter()
            worker = Worker(resources, clock, (screen, deliveries))
            stack.callback(worker.stop)
            screen.begin(self._days[0], resumed=self._days[0] in resumed)
            worker.start()
            rows = []
            for day in self._days:
                if day != self._days[0]:
                    screen.begin(day, resumed=day in resumed)
                driver = DemoDriver(worker, resources, clock, deliveries, data_dir, say=screen.say)
                play(driver, day, self._scenario, PACE_ON_TERMINAL_S if screen.live else 0.0)
                rows.append(self._row(driver.record(day), resources, screen))
                screen.show_summary(rows[-1])
            if serve:
                screen.stop()
                _serve(worker)
        return rows

    def _prepare(self, resources: Resources, data_dir: Path) -> set[date]:
        """Load the data of the unplayed nights; return the nights with a record of an earlier run."""
        resumed = {day for day in self._days if resources.store.load(day) is not None}
        unplayed = [day for day in self._days if day not in resumed]
        if unplayed:
            prepare_night(resources.embedded_warehouse, data_dir, unplayed, self._scenario)
        return resumed

    def _row(self, record: DateRecord, resources: Resources, screen: NightScreen) -> dict[str, Any]:
        """Return the facts of the night, with the messages that Phase 5 received."""
        settings = self._settings
        told = receive_waiting(settings.pubsub_project, f"{settings.success_topic}-phase5", resources.bus_address)
        on_call = receive_waiting(settings.pubsub_project, f"{settings.failure_topic}-oncall", resources.bus_address)
        published = record.published_generation > 0
        return {
            **summary(record),
            "left_out_players": screen.left_out(record.analysis_date),
            "told": [json.loads(message.data) for message in told],
            "on_call_told": [json.loads(message.data) for message in on_call],
            "table": f"{PUBLISHED_TABLE} in {settings.warehouse}" if published else None,
            "log": str(settings.data_dir / "worker.log"),
            "look_again": hint(f"explain {record.analysis_date}", settings.data_dir),
        }

    def _data_dir(self, stack: ExitStack) -> Path:
        if self._data is not None:
            return self._data
        if len(self._days) > GENERATED_NIGHTS_MAX:
            raise Refused(f"generated data covers {counted(GENERATED_NIGHTS_MAX, 'night')}; for more: --data DIR")
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlfs-sample-")))
        write_sample_data(directory, analysis_date=self._days[-1])
        return directory


def _last_change(resources: Resources, day: date, over: datetime) -> datetime | None:
    """Return the instant of the last change of the date in an earlier run, so that the clock never runs backwards.

    Changes after *over* come from a worker with the machine's clock and do not count: a demo clock from there would
    open today's dates.
    """
    changes = [entry.at for entry in resources.store.history(day) if entry.at < over]
    return changes[-1] if changes else None


def demo_folder(scenario: DemoScenario, data: Path | None) -> str:
    """Return the name of the folder of a demo: each scenario and data folder has a separate folder."""
    if data is None:
        return f"demo-{scenario}"
    resolved = data.resolve()
    return f"demo-{scenario}-{resolved.name}-{hashlib.sha256(str(resolved).encode()).hexdigest()[:8]}"


def prepare_folder(folder: Path, scenario: DemoScenario, data: Path | None, *, resume: bool) -> None:
    """Write the note of the demo into the folder; remove the state of an earlier run unless *resume*.

    Raises:
        Refused: The data folder does not exist; the folder holds data of a worker; the earlier run had other data or
            another scenario.
        Unavailable: Another process uses the folder.
    """
    if data is not None and not data.is_dir():
        raise Refused(f"{data} is not a folder; name a folder of <dataset>.<table>.parquet files")
    wanted = {"scenario": scenario.value, "data": "generated" if data is None else str(data.resolve())}
    note = folder / DEMO_NOTE
    if not note.exists():
        if found := [name for name in DEMO_FILES if (folder / name).exists()]:
            raise Refused(f"{folder} holds data of a worker ({', '.join(found)}), not of a demo; name another --dir")
    elif not resume:
        _forget(folder)
    elif (held := _read_note(note)) != wanted:
        told = (
            "the scenario {scenario} on {data} data".format_map(held)
            if held.keys() >= wanted.keys()
            else "another demo"
        )
        raise Refused(f"{folder} holds {told}; play afresh without --resume, or name another --dir")
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(wanted), encoding="utf-8")


def _read_note(note: Path) -> dict[str, Any]:
    """Return the contents of a note; empty for a note that was cut off, as by a kill during the write."""
    try:
        return dict(json.loads(note.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        return {}


def _forget(folder: Path) -> None:
    """Remove the state of an earlier run, and no other file in the folder.

    Raises:
        Unavailable: A process uses the folder.
    """
    for name in ("valkey", "pubsub"):
        if not (folder / name).is_dir():
            continue
        if name == "valkey":
            # Start takes the lock and adopts a server of a killed demo; stop ends the server.
            valkey = EmbeddedValkey(folder / name)
            valkey.start(wait_for_lock_s=0)
            valkey.stop()
        with DirectoryLock(folder / name) as lock:
            lock.acquire(0)
            shutil.rmtree(folder / name)
    for name in ("warehouse.duckdb", "warehouse.duckdb.wal", "worker.log"):
        (folder / name).unlink(missing_ok=True)


def _serve(worker: Worker) -> None:
    """Keep the worker up until Ctrl-C or SIGTERM."""
    stop = threading.Event()
    leaving.on_signal(stop.set)
    err.print(f"serving {worker.http_address} (/dates, /metrics, /readyz); stop with Ctrl-C")
    if (error := worker.wait(stop)) is not None:
        raise error
