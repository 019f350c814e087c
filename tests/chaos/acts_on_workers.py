"""What goes wrong with workers: ends, freezes, shortages, clocks."""

import resource
import signal
from collections.abc import Mapping
from pathlib import Path

from tests.chaos.crashing import places_in
from tests.chaos.services import WorkerProcess, pause
from tests.chaos.stage import Act, Stage

CRASH = "worker crashes at a place"
# A start takes seconds, and a place may lie in a night that comes later; then the worker stays armed.
PLACE_WITHIN_TENTHS = 150
START_WITHIN_TENTHS = 200
BUILDS_WITHIN_HUNDREDTHS = 1500
STEP_LASTS_S = 4.0
DIES_AHEAD = 0.4


def kill_worker(stage: Stage) -> str:
    worker = stage.worker()
    worker.meant = True
    worker.signal(signal.SIGKILL)
    pause(0.5)
    return worker.name


def kill_every_worker(stage: Stage) -> str:
    for worker in stage.workers:
        worker.meant = True
        worker.signal(signal.SIGKILL)
    pause(1.0)
    return "all"


def kill_building_worker(stage: Stage) -> str:
    """The worker that holds the lease of a date is killed at once."""
    by_pid = {str(worker.pid): worker for worker in stage.workers}
    for _ in range(BUILDS_WITHIN_HUNDREDTHS):
        for day, owner in stage.watch.leases().items():
            worker = by_pid.get(owner.rpartition("-")[2])
            if worker is not None:
                worker.meant = True
                worker.signal(signal.SIGKILL)
                return f"{worker.name}: {day}"
        pause(0.01)
    return "nobody: nothing was built"


def crash_at_a_place(stage: Stage) -> str:
    """Restart a worker so that it dies at the next registered place; its next start is a sound one."""
    if not stage.places:
        possible = places_in("warehouse" in stage.links)
        stage.places = stage.dice.sample(possible, len(possible))
    sound = [worker for worker in stage.workers if not worker.armed]
    worker = stage.dice.choice(sound or list(stage.workers))
    place = stage.places.pop()
    worker.place = place
    worker.meant = True
    worker.signal(signal.SIGKILL)
    for _ in range(PLACE_WITHIN_TENTHS):
        if worker.place != place:
            break
        pause(0.1)
    return f"{worker.name}: {place}"


def freeze_worker(stage: Stage) -> str:
    """A zombie: it stands still beyond its lease and then goes on with what it had in hand."""
    worker = stage.worker()
    worker.signal(signal.SIGSTOP)
    pause(stage.lease_s * 1.6)
    worker.signal(signal.SIGCONT)
    return worker.name


def stop_worker(stage: Stage) -> str:
    worker = stage.worker()
    worker.meant = True
    worker.signal(signal.SIGTERM)
    for _ in range(100):
        if worker.ended() is not None or not worker.meant:
            break
        pause(0.1)
    return worker.name


def squeeze_memory(stage: Stage) -> str | None:
    """A worker gets no more address space for a while; then the machine kills it, as it would."""
    worker = stage.worker()
    try:
        pages = int(Path(f"/proc/{worker.pid}/statm").read_text(encoding="ascii").split()[0])
        resource.prlimit(worker.pid, resource.RLIMIT_AS, (pages * resource.getpagesize(), resource.RLIM_INFINITY))
    except (OSError, ProcessLookupError):
        return None
    worker.meant = True
    pause(3.0)
    worker.signal(signal.SIGKILL)
    return worker.name


def squeeze_files(stage: Stage) -> str | None:
    """A worker may open nothing more for a while, and must come through by itself."""
    worker = stage.worker()
    try:
        soft, hard = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (8, hard))
        pause(4.0)
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (soft, hard))
    except (OSError, ProcessLookupError):
        return None
    return worker.name


def _faketime() -> Path | None:
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


def skew_clock(stage: Stage) -> str | None:
    """One replica lives minutes ahead or behind for a while, from its start on."""
    library = _faketime()
    if library is None:
        return None
    worker = stage.worker()
    worker.skew_s = stage.dice.choice((-90, -20, 20, 90))
    worker.extra = {"LD_PRELOAD": str(library), "FAKETIME": f"{worker.skew_s:+d}s"}
    worker.meant = True
    worker.signal(signal.SIGKILL)
    pause(12.0)
    hit = f"{worker.name}: {worker.skew_s:+d} s"
    worker.extra, worker.skew_s = {}, 0
    worker.meant = True
    worker.signal(signal.SIGKILL)
    return hit


def step_clock(stage: Stage) -> str | None:
    """The wall clock of a running replica steps forward, beyond every deadline and lease, then back, then is right.

    It may be killed while its clock is ahead: whatever it stored must not bind the others for as long.
    """
    library = _faketime()
    if library is None:
        return None
    worker = stage.worker()
    file = worker.folder / f"{worker.name}.clock"
    _set_clock(file, 0)
    # Only the wall clock steps: Linux never lets the monotonic one.
    worker.clock_file = file
    worker.extra = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    if not _starts_anew(worker):
        return None
    steps = [stage.dice.choice((120, 600, 3600)), stage.dice.choice((-60, -300)), 0]
    dies_ahead = stage.dice.random() < DIES_AHEAD
    for step in steps:
        _set_clock(file, step)
        stage.history.note("clock", name=worker.name, pid=worker.pid, skew_s=step)
        pause(STEP_LASTS_S)
        if step > 0 and dies_ahead:
            break
    worker.extra, worker.clock_file = {}, None
    worker.meant = True
    worker.signal(signal.SIGKILL)
    told = ", ".join(f"{step:+d} s" for step in steps[: 1 if dies_ahead else 3])
    return f"{worker.name}: {told}{', killed while ahead' if dies_ahead else ''}"


def _set_clock(file: Path, ahead_s: int) -> None:
    new = file.with_suffix(".new")
    new.write_text(f"{ahead_s:+d}\n", encoding="ascii")
    new.replace(file)


def _starts_anew(worker: WorkerProcess) -> bool:
    """Kill a worker and wait until its next process serves."""
    before, started = worker.starts, worker.times_served()
    worker.meant = True
    worker.signal(signal.SIGKILL)
    for _ in range(START_WITHIN_TENTHS):
        if worker.starts > before and worker.times_served() > started:
            return True
        pause(0.1)
    return False


WORKER_ACTS: Mapping[str, Act] = {
    "worker killed": kill_worker,
    "worker killed while it builds": kill_building_worker,
    "all workers killed": kill_every_worker,
    CRASH: crash_at_a_place,
    "worker frozen beyond its lease": freeze_worker,
    "worker stopped": stop_worker,
    "worker without memory": squeeze_memory,
    "worker without file descriptors": squeeze_files,
    "worker with a wrong clock": skew_clock,
    "worker whose clock steps": step_clock,
}
