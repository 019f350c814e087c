"""Measurements of `mlfs bench`: each function runs the tasks, compares the medians and judges the targets.

- `intake`, `latency`, `deadline`, `footprint`: a running worker beside a yardstick.
- `intake --workers`: throughput of several worker processes.
- `build`: time, memory and statements of a build beside two yardsticks, up to a million entities.
- `profile`: processor time of a completion by part of the hot path, and time of a build by phase.

Measured task and yardstick run in turns, so a busy minute of the machine slows both. Every task uses a temporary
folder; a crash leaves the folder `mlfs-bench-…` of the running task.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from ops.bench.measure import in_child, in_folder, percentiles, spread, verdict
from ops.bench.sampling import PARTS, divided

# Targets of intake, latency, deadline and footprint.
INTAKE_RATIO_MIN = 0.8
INTAKE_PER_S_MIN = 5000
HOP_EXTRA_P50_MS_MAX = 2.0
HOP_EXTRA_P99_MS_MAX = 10.0
DEADLINE_P99_MS_MAX = 50.0
IDLE_MB_MAX = 120.0
READY_S_MAX = 2.0
BYTES_PER_DATE_MAX = 4096

# Limit of `mlfs bench deadline --open-dates`.
OPEN_DATES_MAX = 1_000_000

# Targets of a build of a million entities, against a `CREATE TABLE` of the same select.
TIME_RATIO_MAX = 1.5
MEMORY_RATIO_MAX = 1.5
# Targets of a build of a night, against the bare join.
COLD_RATIO_MAX = 6.0
WARM_RATIO_MAX = 3.0
# Only these two sizes have targets; the other sizes show the growth of the figures.
NIGHT_ENTITIES = 400
LARGE_ENTITIES = 1_000_000
BUILD_FIGURES = ("seconds", "warm_seconds", "cpu_seconds", "peak_mb")
WORKER_FIGURES = ("events_per_s", "cpu_us_per_event", "store_cpu_us_per_event", "team_mb")
# The first build of a process is short, so the median needs more runs than the intake.
BUILDS_PER_RUN = 3

Progress = Callable[[str], None]


def measure_intake(events: int, runs: int, progress: Progress) -> dict[str, Any]:
    """Drain the same backlog with a callback that only acknowledges and with the intake of the worker, in turns."""
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
    """Time a message to a callback, and a fourth completion to the claim of the build, each *nights* times."""
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
    """Time deadlines with no other date open, then beside each of *sizes* open dates; each time with a new store."""
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
    """Start `mlfs run` and read the idle memory; play nights and read the bytes in the store."""
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


def measure_build(
    sizes: Sequence[int], runs: int, memory_limit: str, threads: int, progress: Progress
) -> dict[str, Any]:
    """Measure every size; yardsticks and build run in turns, each in a new process on a copy of the same file.

    Args:
        sizes: Numbers of entities.
        runs: Rounds per size; the medians are compared.
        memory_limit: Memory of DuckDB for all tasks, with a unit.
        threads: Threads of DuckDB for all tasks.
        progress: Called with the name of each measurement.

    Returns:
        `sizes`, with an entry for each size, and `targets`.
    """
    means: dict[str, Any] = {"memory_limit": memory_limit, "threads": threads}
    with tempfile.TemporaryDirectory(prefix="mlfs-bench-") as folder:
        results = [_measure_size(Path(folder), size, runs, means, progress) for size in sizes]
    return {**means, "sizes": results, "targets": _targets(results)}


def _measure_size(folder: Path, entities: int, runs: int, means: dict[str, Any], progress: Progress) -> dict[str, Any]:
    source = folder / "source.duckdb"
    source.unlink(missing_ok=True)
    progress(f"{entities:,} entities: generating")
    generated = in_child("generate", path=str(source), entities=entities, **means)
    warm = {"warm": entities == NIGHT_ENTITIES}
    tasks = {"bare": warm, "same_select": {}, "build": warm}
    ran: dict[str, list[dict[str, Any]]] = {task: [] for task in tasks}
    for run in range(1, runs + 1):
        progress(f"{entities:,} entities: run {run} of {runs}")
        for task, more in tasks.items():
            ran[task].append(_run_copy(task, source, folder / "run.duckdb", {**means, **more}))
    build = ran["build"]
    return {
        "entities": entities,
        "rows": build[0]["rows"],
        "quality_score": build[0]["quality_score"],
        "generated_in_s": generated["seconds"],
        **{task: _summary(ran[task]) for task in ("bare", "same_select")},
        "build": {
            **_summary(build),
            "statements": build[0]["statements"],
            "steps_s": {step: median(run["steps"][step] for run in build) for step in build[0]["steps"]},
        },
        "against_same_select": _ratios(build, ran["same_select"]),
        "against_bare": _ratios(build, ran["bare"]),
    }


def _run_copy(task: str, source: Path, copy: Path, means: dict[str, Any]) -> dict[str, Any]:
    """Run a task on a new copy: the copy is in the cache of the system, so no task waits for the disk."""
    shutil.copyfile(source, copy)
    try:
        return in_child(task, path=str(copy), **means)
    finally:
        copy.unlink()
        copy.with_name(f"{copy.name}.wal").unlink(missing_ok=True)


def _summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: spread([run[name] for run in runs]) for name in BUILD_FIGURES if runs[0].get(name) is not None}


def _ratios(ours: Sequence[dict[str, Any]], yardstick: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Divide the medians of each figure measured by both sides."""
    both = [name for name in BUILD_FIGURES if None not in (ours[0].get(name), yardstick[0].get(name))]
    return {name: median(run[name] for run in ours) / median(run[name] for run in yardstick) for name in both}


def _targets(results: Sequence[dict[str, Any]]) -> list[Any]:
    targets = []
    for result in results:
        if result["entities"] == NIGHT_ENTITIES:
            against = result["against_bare"]
            targets.append(verdict("a night of 400 against the bare join", against["seconds"], COLD_RATIO_MAX))
            targets.append(verdict("the same in a warm process", against["warm_seconds"], WARM_RATIO_MAX))
        if result["entities"] == LARGE_ENTITIES:
            against = result["against_same_select"]
            targets.append(verdict("time against the same select, 1,000,000", against["seconds"], TIME_RATIO_MAX))
            targets.append(verdict("memory against the same select, 1,000,000", against["peak_mb"], MEMORY_RATIO_MAX))
    if len(results) > 1:
        counts = [result["build"]["statements"] for result in results]
        targets.append(verdict("warehouse statements more than at the smallest size", max(counts) - counts[0], 0))
    return targets


def measure_profile(
    events: int, sample_hz: int, runs: int, progress: Progress, builds_per_run: int = BUILDS_PER_RUN
) -> dict[str, Any]:
    """Drain the backlog without and with the profiler, in turns, then build nights of 400.

    Returns:
        `parts`: for each part of the hot path `share` and `us`, the microseconds of an event, of the total *without*
        the profiler. `threads_us`: the same total by kind of thread, counted by the kernel. `plain`, `sampled`: rate
        and cost without and with the profiler. `build_phases_ms`, `build_ms`.
    """
    plain, sampled = [], []
    for run in range(1, runs + 1):
        progress(f"{events:,} events: run {run} of {runs}")
        plain.append(in_folder("intake", events=events))
        progress(f"{events:,} events, {sample_hz} samples a second: run {run} of {runs}")
        sampled.append(in_folder("intake", events=events, sample_hz=sample_hz))
    progress(f"{builds_per_run * runs} builds of 400")
    builds = [in_folder("phases") for _ in range(builds_per_run * runs)]
    phases = list(builds[0]["phases_ms"])
    return {
        "events": events,
        "sample_hz": sample_hz,
        "samples": sum(sum(met.values()) for run in sampled for met in run["thread_samples"].values()),
        **{name: _rates_of(done) for name, done in (("plain", plain), ("sampled", sampled))},
        "parts": _parts(plain, sampled),
        "threads_us": _by_thread(plain, events),
        "unnamed": sampled[-1]["unnamed"],
        "build_phases_ms": {phase: spread([build["phases_ms"][phase] for build in builds]) for phase in phases},
        "build_ms": spread([build["total_ms"] for build in builds]),
        "targets": [],
    }


def _rates_of(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {field: spread([run[field] for run in runs]) for field in ("events_per_s", "cpu_us_per_event")}


def _parts(plain: Sequence[Mapping[str, Any]], sampled: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Divide the cost without the profiler: by the kernel among the kinds of thread, by samples within a kind."""
    total = median(run["cpu_us_per_event"] for run in plain)
    kinds = {kind for run in plain for kind in run["thread_cpu_s"]}
    spent = {kind: sum(run["thread_cpu_s"].get(kind, 0.0) for run in plain) for kind in kinds}
    samples: dict[str, Counter[str]] = {}
    for run in sampled:
        for kind, met in run["thread_samples"].items():
            samples.setdefault(kind, Counter()).update(met)
    seconds = divided(spent, samples)
    whole = sum(seconds.values())
    shares = {part: seconds.get(part, 0.0) / whole for part in PARTS}
    return {part: {"us": total * share, "share": share} for part, share in shares.items()}


def _by_thread(plain: Sequence[Mapping[str, Any]], events: int) -> dict[str, float]:
    kinds = sorted({kind for run in plain for kind in run["thread_cpu_s"]})
    return {kind: median(run["thread_cpu_s"].get(kind, 0.0) for run in plain) / events * 1e6 for kind in kinds}


def measure_workers(events: int, teams: Sequence[int], runs: int, progress: Progress) -> dict[str, Any]:
    """Drain the same backlog with teams of several sizes, each beside a team of the same size that only acknowledges.

    Args:
        events: Completions in the backlog.
        teams: Numbers of worker processes.
        runs: Rounds of each team; the teams run in turns, so that a busy minute slows all teams.
        progress: Called with the name of each run.

    Returns:
        `teams`: for each team both sides, `ratio` (intake against the callback that only acknowledges) and
        `against_one`, the rate against a single worker; None without a measured single worker. `targets` is empty:
        the targets apply to a single process.
    """
    done: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for run in range(1, runs + 1):
        for processes in teams:
            progress(f"{events:,} events, {processes} processes: run {run} of {runs}")
            for callback in ("noop", "intake"):
                answer = in_folder("workers", events=events, processes=processes, callback=callback)
                done.setdefault((processes, callback), []).append(answer)
    rates = {team: median(run["events_per_s"] for run in answers) for team, answers in done.items()}
    single = rates.get((1, "intake"))
    measured = [
        {
            "workers": processes,
            **{
                callback: {field: spread([run[field] for run in done[processes, callback]]) for field in WORKER_FIGURES}
                for callback in ("noop", "intake")
            },
            "smallest_share": min(run["shares"][0] for run in done[processes, "intake"]),
            "ratio": rates[processes, "intake"] / rates[processes, "noop"],
            "against_one": None if single is None else rates[processes, "intake"] / single,
        }
        for processes in teams
    ]
    return {"events": events, "runs": runs, "teams": measured, "targets": []}
