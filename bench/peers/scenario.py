"""The scenarios, the same for each peer. A peer has `worker()`, `open()`, `complete()`, `close()`."""

import random
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any

PROCESSORS = ("0", "1", "2", "3")
# After how long each peer is told to take a dead worker's work for lost; the worker of mlfs: its lease.
REDELIVERY_S = 10
KILL_EVERY_S = 4.0
PACE_S = 0.1
SEED = 7
SETTLE_MAX_S = 120.0
# So long without a new entry means that nothing comes any more: four times the redelivery.
QUIET_S = 4 * REDELIVERY_S
WARM_DATES = 20


def days(count: int, label: str) -> list[str]:
    """Name dates; a scenario's label keeps them apart."""
    return [f"{label}-{number:05d}" for number in range(count)]


@contextmanager
def working(peer: Any, processes: int):
    """Keep workers running for the block."""
    workers = [peer.worker() for _ in range(processes)]
    try:
        yield
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
            worker.wait()


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Return once *condition* holds; raises TimeoutError."""
    ends = time.time() + seconds
    while not condition():
        if time.time() > ends:
            raise TimeoutError(f"{what} not within {seconds:g} s")
        time.sleep(0.002)


def throughput(peer: Any, read: Callable[[], dict], dates: int, processes: int) -> dict[str, float]:
    """Queue all completions, date after date, then start the workers; first build to last build is the time taken."""
    names = days(dates, f"many{processes}")
    for day in names:
        peer.open(day, None)
        for processor in PROCESSORS:
            peer.complete(day, processor)
    with working(peer, processes):
        wait_for(lambda: len(_of(read(), names)) == dates, 180, f"{dates} builds")
    starts = sorted(builds.started[0] for builds in _of(read(), names).values())
    return {"events_per_s": 4 * (dates - 1) / (starts[-1] - starts[0])}


def latency(peer: Any, read: Callable[[], dict], dates: int) -> dict[str, float]:
    """One date after the other: from the fourth completion's sending to the start of the build, milliseconds."""
    names = days(dates + WARM_DATES, "one")
    waits = []
    with working(peer, 1):
        for day in names:
            peer.open(day, None)
            for processor in PROCESSORS[:3]:
                peer.complete(day, processor)
            time.sleep(0.05)
            sent = time.time()
            peer.complete(day, PROCESSORS[3])
            wait_for(lambda day=day: bool(read().get(day) and read()[day].started), 60, f"the build of {day}")
            waits.append((read()[day].started[0] - sent) * 1000)
    return _spread(waits[WARM_DATES:])


def deadline(peer: Any, read: Callable[[], dict], dates: int) -> dict[str, float]:
    """Three of four completions, a deadline each, 20 ms apart: how late the builds start, milliseconds."""
    names = days(dates, "late")
    with working(peer, 1):
        peer.open("warm-00000", None)
        for processor in PROCESSORS:
            peer.complete("warm-00000", processor)
        wait_for(lambda: bool(_of(read(), ["warm-00000"])), 60, "the first build")
        first = time.time() + 5
        deadlines = {day: first + 0.02 * place for place, day in enumerate(names)}
        for day, at in deadlines.items():
            peer.open(day, at)
            for processor in PROCESSORS[:3]:
                peer.complete(day, processor)
        wait_for(lambda: len(_of(read(), names)) == dates, 120, f"{dates} deadlines")
    book = _of(read(), names)
    return _spread([(book[day].started[0] - at) * 1000 for day, at in deadlines.items()])


def kill(peer: Any, names: Sequence[str], settled: Callable[[], bool]) -> int:
    """Send each completion twice, shuffled, while the worker is killed every few seconds; give the number of kills."""
    chance = random.Random(SEED)
    sendings = [(day, processor) for day in names for processor in PROCESSORS] * 2
    # Shuffled among neighbours only: dates come roughly one after the other.
    sendings = sorted(sendings, key=lambda sending: (names.index(sending[0]) + chance.uniform(0, 3), chance.random()))
    for day in names:
        peer.open(day, None)
    worker: subprocess.Popen = peer.worker()
    kills, next_kill, pause = 0, time.time() + KILL_EVERY_S, PACE_S / 2
    for day, processor in sendings:
        peer.complete(day, processor)
        time.sleep(pause)
        if time.time() >= next_kill:
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            worker = peer.worker()
            kills, next_kill = kills + 1, time.time() + KILL_EVERY_S + chance.uniform(0, 1)
    ends = time.time() + SETTLE_MAX_S
    while not settled() and time.time() < ends:
        time.sleep(0.2)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    return kills


def quiet(read: Callable[[], dict], names: Sequence[str]) -> Callable[[], bool]:
    """Make a test for: nothing has been written down for a while."""
    last = [0, time.time()]

    def check() -> bool:
        count = sum(len(builds.started) + len(builds.ended) for builds in _of(read(), names).values())
        if count != last[0]:
            last[:] = [count, time.time()]
        return time.time() - last[1] > QUIET_S

    return check


def judged(book: dict, names: Sequence[str]) -> dict[str, int]:
    """Count dates whose build never ended, began more than once, ended more than once."""
    found = [book.get(day) for day in names]
    return {
        "lost": sum(builds is None or not builds.ended for builds in found),
        "started_again": sum(builds is not None and len(builds.started) > 1 for builds in found),
        "finished_twice": sum(builds is not None and len(builds.ended) > 1 for builds in found),
    }


def _of(book: dict, names: Sequence[str]) -> dict:
    return {day: book[day] for day in names if day in book and book[day].started}


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {"p50": statistics.median(ordered), "p99": ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]}
