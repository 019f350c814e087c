"""The build of the comparison and the book it keeps: a Redis stream with one entry per start and per end of a build.

It stands for the warehouse: what a build does to the outside cannot be taken back. Times are seconds since 1970 on the
one machine that everything runs on.
"""

import os
import time
from collections import defaultdict
from dataclasses import dataclass, field

import redis

STREAM = "peers:builds"


@dataclass
class Builds:
    """What happened to one date: instants at which a build of it began, and at which one ended."""

    started: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    modes: list[str] = field(default_factory=list)


def connect() -> "redis.Redis":
    """Connect to the server that the run has started."""
    return redis.Redis.from_url(os.environ["PEERS_REDIS"])


def build(client: "redis.Redis", day: str, mode: str) -> None:
    """Write down the start, work for as long as the scenario says, write down the end."""
    client.xadd(STREAM, {"day": day, "what": "started", "mode": mode, "at": time.time()})
    seconds = float(os.environ.get("PEERS_BUILD_S", "0"))
    if seconds:
        time.sleep(seconds)
    client.xadd(STREAM, {"day": day, "what": "ended", "mode": mode, "at": time.time()})


def read(client: "redis.Redis") -> dict[str, Builds]:
    """Read the book, by date."""
    book: dict[str, Builds] = defaultdict(Builds)
    for _entry, fields in client.xrange(STREAM):
        builds = book[fields[b"day"].decode()]
        (builds.started if fields[b"what"] == b"started" else builds.ended).append(float(fields[b"at"]))
        if fields[b"what"] == b"started":
            builds.modes.append(fields[b"mode"].decode())
    return book
