"""`mlfs bench build`: time, memory and statements of a build beside the bare join, up to a million entities."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from ops.bench.measure import in_child, spread, verdict

TIME_RATIO_MAX = 1.5
MEMORY_RATIO_MAX = 2.0
NIGHT_SECONDS_MAX = 0.5
# The targets speak of these two sizes; the others show how the figures grow.
NIGHT_ENTITIES = 400
LARGE_ENTITIES = 1_000_000


def measure_build(
    sizes: Sequence[int], runs: int, memory_limit: str, threads: int, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Measure every size; the bare join and the build take turns, each run in a new process on a copy of the same file.

    Args:
        sizes: Numbers of entities.
        runs: Pairs per size; the medians are compared.
        memory_limit: DuckDB's, with a unit, for both.
        threads: DuckDB's, for both.
        progress: Told what is being measured.

    Returns:
        `sizes`, one entry each, and `targets`.
    """
    means: dict[str, Any] = {"memory_limit": memory_limit, "threads": threads}
    with tempfile.TemporaryDirectory(prefix="mlfs-bench-") as folder:
        results = [_measure_size(Path(folder), size, runs, means, progress) for size in sizes]
    return {**means, "sizes": results, "targets": _targets(results)}


def _measure_size(
    folder: Path, entities: int, runs: int, means: dict[str, Any], progress: Callable[[str], None]
) -> dict[str, Any]:
    source = folder / "source.duckdb"
    source.unlink(missing_ok=True)
    progress(f"{entities:,} entities: generating")
    generated = in_child("generate", path=str(source), entities=entities, **means)
    pairs = []
    for run in range(1, runs + 1):
        progress(f"{entities:,} entities: run {run} of {runs}")
        pairs.append(tuple(_run_copy(task, source, folder / "run.duckdb", means) for task in ("bare", "build")))
    bare, build = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return {
        "entities": entities,
        "rows": build[0]["rows"],
        "quality_score": build[0]["quality_score"],
        "generated_in_s": generated["seconds"],
        "bare": _summary(bare),
        "build": {
            **_summary(build),
            "statements": max(run["statements"] for run in build),
            "steps_s": {step: median(run["steps"][step] for run in build) for step in build[0]["steps"]},
        },
        "time_ratio": _ratio(build, bare, "seconds"),
        "cpu_ratio": _ratio(build, bare, "cpu_seconds"),
        "memory_ratio": _ratio(build, bare, "peak_mb"),
    }


def _run_copy(task: str, source: Path, copy: Path, means: dict[str, Any]) -> dict[str, Any]:
    """Run a task on a copy, which is read once beforehand: neither side waits for the disk in the other's place."""
    shutil.copyfile(source, copy)
    try:
        return in_child(task, path=str(copy), **means)
    finally:
        copy.unlink()
        copy.with_name(f"{copy.name}.wal").unlink(missing_ok=True)


def _summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: spread([run[name] for run in runs]) for name in ("seconds", "cpu_seconds", "peak_mb")}


def _ratio(ours: Sequence[dict[str, Any]], yardstick: Sequence[dict[str, Any]], name: str) -> float:
    return float(median(run[name] for run in ours) / median(run[name] for run in yardstick))


def _targets(results: Sequence[dict[str, Any]]) -> list[Any]:
    targets = []
    for result in results:
        if result["entities"] == NIGHT_ENTITIES:
            seconds = result["build"]["seconds"]["median"]
            targets.append(verdict("seconds of a night of 400", seconds, NIGHT_SECONDS_MAX))
        if result["entities"] == LARGE_ENTITIES:
            targets.append(verdict("time against the bare join, 1,000,000", result["time_ratio"], TIME_RATIO_MAX))
            targets.append(verdict("memory against the bare join, 1,000,000", result["memory_ratio"], MEMORY_RATIO_MAX))
    if len(results) > 1:
        counts = [result["build"]["statements"] for result in results]
        targets.append(verdict("warehouse statements more than at the smallest size", max(counts) - counts[0], 0))
    return targets
