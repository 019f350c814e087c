"""`mlfs bench profile`: one completion's processor time by part of its way, and a build's time by phase."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from ops.bench.hot_path import PARTS
from ops.bench.measure import in_folder, spread
from ops.bench.sampling import divided

# The first build of a process is short; its median needs more runs than the intake's.
BUILDS_PER_RUN = 3


def measure_profile(
    events: int, sample_hz: int, runs: int, progress: Callable[[str], None], builds_per_run: int = BUILDS_PER_RUN
) -> dict[str, Any]:
    """Drain the backlog without and with the profiler, in turns, then build nights of 400.

    Returns:
        `parts`: for each part of the hot path its `share` and `us`, microseconds of an event, of the total
        *without* the profiler. `threads_us`: the same total by kind of thread, from the kernel alone. `plain`,
        `sampled`: rate and cost of both. `build_phases_ms`, `build_ms`.
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
        **{name: _summary(done) for name, done in (("plain", plain), ("sampled", sampled))},
        "parts": _parts(plain, sampled),
        "threads_us": _by_thread(plain, events),
        "unnamed": sampled[-1]["unnamed"],
        "build_phases_ms": {phase: spread([one["phases_ms"][phase] for one in builds]) for phase in phases},
        "build_ms": spread([one["total_ms"] for one in builds]),
        "targets": [],
    }


def _summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {field: spread([run[field] for run in runs]) for field in ("events_per_s", "cpu_us_per_event")}


def _parts(plain: Sequence[Mapping[str, Any]], sampled: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Divide the cost without the profiler: by kind of thread as the kernel counted it, inside a kind by samples."""
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
