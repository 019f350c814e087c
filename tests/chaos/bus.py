"""Many reports through a bus on which everything goes wrong: `python -m tests.chaos.bus --events 100000`.

Google's clients, the local server with a fault plan, the product's intake and engine, an embedded Valkey. A run ends
when the subscription is empty; then the checker compares what was sent with what the store holds.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path

from ops.bench.bus import PROJECT, SUBSCRIPTION, publish_all
from ops.bench.intake_tasks import make_intake, settings_in
from tests.chaos.sent import Report, reports, violations
from worker.adapters.pubsub.pull import HandleAll, PullSubscriber, PullTuning
from worker.adapters.pubsub.watchdog import WatchPolicy
from worker.local.pubsub.faults import FaultPlan, PlannedFaults
from worker.local.pubsub.server import PubSubServer
from worker.observing import logs
from worker.observing.observer import CallbackFailed, Notice, Received, StreamOpened, StreamRecycled
from worker.resources import ProcessKind, Resources

EVERYTHING = FaultPlan(duplicate=0.05, drop_ack=0.01, reorder=0.5, stall=0.002, close=0.01)
# A processor that is not sure repeats itself; the bus gives that another message id.
REPEATED = 0.05
TUNING = PullTuning(lease_s=10, watch=WatchPolicy(silence_s=1.0, recycles_max=1000))
LOOK_S = 0.05


class Tally:
    """Counts what happened on the way."""

    def __init__(self) -> None:
        self.recycles: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.openings = 0
        self.failures = 0

    def note(self, notice: Notice) -> None:
        match notice:
            case CallbackFailed():
                self.failures += 1
            case StreamOpened():
                self.openings += notice.times
            case StreamRecycled():
                self.recycles[notice.reason] += 1
            case Received():
                self.outcomes[notice.outcome] += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a run did, and what the checker found."""

    reports: int
    published: int
    dates: int
    deliveries: int
    outcomes: dict[str, int]
    faults: dict[str, int]
    stream_openings: int
    streams_recycled: dict[str, int]
    unexpected_failures: int
    seconds: float
    undelivered: int
    violations: list[str] = field(default_factory=list)


def play(folder: Path, events: int, faults: PlannedFaults, timeout_s: float, seed: int = 0) -> Result:
    """Send at least *events* reports, wait until nothing is left or the time is up, check."""
    told = reports(events)
    bodies = _messages(told, seed)
    tally, started = Tally(), list[date]()
    with ExitStack() as stack:
        server = stack.enter_context(PubSubServer(folder / "journal.sqlite", faults=faults))
        parts = stack.enter_context(Resources(settings_in(folder, server.address), ProcessKind.PULL))
        intake = make_intake(parts, started.append, tally)
        began = time.perf_counter()
        publishing = threading.Thread(target=publish_all, args=(server.address, iter(bodies)))
        publishing.start()
        left = _drain(server, publishing, intake.handle_all, tally, timeout_s)
        seconds = time.perf_counter() - began
        found = violations(told, parts.store)
    found += [f"{day}: its build was started {times} times" for day, times in Counter(started).items() if times > 1]
    return Result(
        reports=len(told),
        published=len(bodies),
        dates=len({report.analysis_date for report in told}),
        deliveries=tally.outcomes.total(),
        outcomes=dict(tally.outcomes),
        faults=dict(faults.counts),
        stream_openings=tally.openings,
        streams_recycled=dict(tally.recycles),
        unexpected_failures=tally.failures,
        seconds=round(seconds, 1),
        undelivered=left,
        violations=found,
    )


def _messages(told: Sequence[Report], seed: int) -> list[bytes]:
    chance = random.Random(seed)  # noqa: S311 - an order, not a secret
    bodies = [report.body for report in told]
    bodies += [body for body in bodies if chance.random() < REPEATED]
    chance.shuffle(bodies)
    return bodies


def _drain(
    server: PubSubServer, publishing: threading.Thread, handle_all: HandleAll, tally: Tally, timeout_s: float
) -> int:
    """Pull until the subscription is empty; give what is left of it when the time is up."""
    subscriber = PullSubscriber(
        project=PROJECT,
        subscription=SUBSCRIPTION,
        local_address=server.address,
        handle_all=handle_all,
        store_answers=lambda: True,
        observer=tally,
        tuning=TUNING,
    )
    subscriber.start()
    pause, give_up_at = threading.Event(), time.monotonic() + timeout_s
    path = f"projects/{PROJECT}/subscriptions/{SUBSCRIPTION}"
    try:
        while (publishing.is_alive() or server.undelivered(path)) and time.monotonic() < give_up_at:
            subscriber.check()
            pause.wait(LOOK_S)
    finally:
        subscriber.stop()
    publishing.join()
    return server.undelivered(path)


def main() -> int:
    """Play once and print the result; 1 if anything was lost, applied twice or left over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=1200.0, help="seconds")
    options = parser.parse_args()
    logs.configure("ERROR", sys.stderr)
    faults = PlannedFaults(replace(EVERYTHING, seed=options.seed))
    with tempfile.TemporaryDirectory() as folder:
        result = play(Path(folder), options.events, faults, options.timeout, options.seed)
    sys.stdout.write(json.dumps(asdict(result), indent=2) + "\n")
    return 1 if result.violations or result.undelivered or result.unexpected_failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
