"""`mlfs bench intake`, `latency`, `deadline` and `footprint`: a running worker against its yardsticks."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from ops.bench.measure import in_folder, percentiles, spread, verdict

INTAKE_RATIO_MIN = 0.8
INTAKE_PER_S_MIN = 5000
HOP_EXTRA_P50_MS_MAX = 2.0
HOP_EXTRA_P99_MS_MAX = 10.0
DEADLINE_P99_MS_MAX = 50.0
IDLE_MB_MAX = 120.0
READY_S_MAX = 2.0
BYTES_PER_DATE_MAX = 4096

OPEN_DATES_MAX = 1_000_000

Progress = Callable[[str], None]


def measure_intake(events: int, runs: int, progress: Progress) -> dict[str, Any]:
    """Drain the same backlog with a callback that only acknowledges and with the worker's intake, in turns."""
    noop, intake = [], []
    for run in range(1, runs + 1):
        progress(f"{events:,} events: run {run} of {runs}")
        noop.append(in_folder("noop", events=events))
        intake.append(in_folder("intake", events=events))
    summary = {
        name: {field: spread([run[field] for run in done]) for field in ("events_per_s", "cpu_us_per_event", "peak_mb")}
        for name, done in (("noop", noop), ("intake", intake))
    }
    rate = summary["intake"]["events_per_s"]["median"]
    ratio = rate / summary["noop"]["events_per_s"]["median"]
    targets = [
        verdict("events/s against a callback that does nothing", ratio, INTAKE_RATIO_MIN, at_least=True),
        verdict("events/s of one process", rate, INTAKE_PER_S_MIN, at_least=True),
    ]
    return {"events": events, **summary, "ratio": ratio, "targets": targets}


def measure_latency(nights: int, progress: Progress) -> dict[str, Any]:
    """Time a message to a callback, and a fourth completion to the claim of its build, each *nights* times."""
    progress(f"{nights} messages to a callback that does nothing")
    hop = percentiles(in_folder("hop", nights=nights)["ms"])
    progress(f"{nights} nights of 400, each to its end")
    claim = percentiles(in_folder("claim", nights=nights)["ms"])
    targets = [
        verdict("p50 ms beyond the hop", claim["p50"] - hop["p50"], HOP_EXTRA_P50_MS_MAX),
        verdict("p99 ms beyond the hop", claim["p99"] - hop["p99"], HOP_EXTRA_P99_MS_MAX),
    ]
    return {"nights": nights, "hop_ms": hop, "claim_ms": claim, "targets": targets}


def measure_deadline(sizes: Sequence[int], deadlines: int, progress: Progress) -> dict[str, Any]:
    """Let deadlines pass with no other date open, then beside each of *sizes* open dates; a store of its own each."""
    progress(f"{deadlines} deadlines, no other date open")
    alone = in_folder("deadline", open_dates=0, deadlines=deadlines)
    measured = []
    for open_dates in sizes:
        progress(f"opening {open_dates:,} dates, then {deadlines} deadlines")
        many = in_folder("deadline", open_dates=open_dates, deadlines=deadlines)
        measured.append(
            {
                "open_dates": open_dates,
                "lag_ms": percentiles(many["lag_ms"]),
                "opened_in_s": many["opened_in_s"],
                "opened_per_s": open_dates / many["opened_in_s"],
                "store_bytes_per_date": many["store_bytes"] / open_dates,
            }
        )
    worst = max(size["lag_ms"]["p99"] for size in measured)
    return {
        "deadlines": deadlines,
        "alone_lag_ms": percentiles(alone["lag_ms"]),
        "sizes": measured,
        "targets": [verdict("p99 ms of lag", worst, DEADLINE_P99_MS_MAX)],
    }


def measure_footprint(nights: int, runs: int, progress: Progress) -> dict[str, Any]:
    """Start `mlfs run` and read its memory when idle; play nights and read what they leave in the store."""
    idle: list[dict[str, Any]] = []
    for run in range(1, runs + 1):
        progress(f"start {run} of {runs}")
        idle.append(in_folder("idle"))
    progress(f"{nights} nights of 400")
    stored = in_folder("finished", nights=nights)
    ready, memory = _of(idle, "ready_s"), _of(idle, "idle_mb")
    targets = [
        verdict("MB when idle", median(memory), IDLE_MB_MAX),
        verdict("seconds from start to ready", median(ready), READY_S_MAX),
        verdict("bytes in the store per finished date", stored["bytes_per_date"], BYTES_PER_DATE_MAX),
    ]
    return {"ready_s": spread(ready), "idle_mb": spread(memory), "nights": nights, "store": stored, "targets": targets}


def _of(runs: Sequence[dict[str, Any]], name: str) -> list[float]:
    return [float(run[name]) for run in runs]
