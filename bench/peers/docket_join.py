"""The join on pydocket: one task per completion, a set per date in Redis, and a build keyed by its date.

A key is docket's own protection: a task whose key waits or runs is not added again. The mark in Redis is for
completions that are repeated after the build has ended, when the key is forgotten.
"""

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

from docket import Docket, Worker

from bench.peers import sink

PROCESSORS = 4
# Adds the completion and tells how many there are, and whether the build was asked for already, in one step.
_ARRIVED = "redis.call('SADD', KEYS[1], ARGV[1]) return {redis.call('SCARD', KEYS[1]), redis.call('EXISTS', KEYS[2])}"


async def arrived(day: str, processor: str) -> None:
    """Take one completion; ask for the build when it was the fourth."""
    count, fired = _client().eval(_ARRIVED, 2, f"peers:join:{day}", f"peers:fired:{day}", processor)
    if count == PROCESSORS and not fired:
        await _fire(day, "join")


async def deadline(day: str) -> None:
    """Ask for the fallback, unless the build was asked for."""
    if not _client().exists(f"peers:fired:{day}"):
        await _fire(day, "deadline")


async def build(day: str, mode: str) -> None:
    """Build; in a thread, as the build of a warehouse's client would be."""
    await asyncio.to_thread(sink.build, _client(), day, mode)


async def _fire(day: str, mode: str) -> None:
    """Ask first and mark after: asked again, docket still knows the key; the other order would lose the date."""
    await _docket().add(build, key=f"build-{day}")(day, mode)
    _client().set(f"peers:fired:{day}", 1)


TASKS = (arrived, deadline, build)
_open: dict = {}


def _client():
    if "client" not in _open:
        _open["client"] = sink.connect()
    return _open["client"]


def _docket() -> Docket:
    return _open["docket"]


def _make() -> Docket:
    return Docket(name="peers", url=os.environ["PEERS_REDIS"])


async def work() -> None:
    """Run one worker; a dead worker's tasks are taken over after ten seconds, as with the others."""
    async with _make() as docket:
        _open["docket"] = docket
        for task in TASKS:
            docket.register(task)
        async with Worker(
            docket,
            redelivery_timeout=timedelta(seconds=10),
            minimum_check_interval=timedelta(milliseconds=5),
            scheduling_resolution=timedelta(milliseconds=5),
        ) as worker:
            await worker.run_forever()


class Peer:
    """How the run drives it."""

    name = "pydocket"

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._docket = self._loop.run_until_complete(_make().__aenter__())

    def worker(self) -> subprocess.Popen:
        """Start one worker."""
        return subprocess.Popen([sys.executable, "-m", "bench.peers.docket_join"], start_new_session=True)

    def open(self, day: str, deadline_at: float | None) -> None:
        """Ask for the deadline."""
        if deadline_at is not None:
            when = datetime.fromtimestamp(deadline_at, UTC)
            self._loop.run_until_complete(self._docket.add(deadline, when=when)(day))

    def complete(self, day: str, processor: str) -> None:
        """Send one completion."""
        self._loop.run_until_complete(self._docket.add(arrived)(day, processor))

    def close(self) -> None:
        """Close the connection."""
        self._loop.run_until_complete(self._docket.__aexit__(None, None, None))
        self._loop.close()


if __name__ == "__main__":
    asyncio.run(work())
