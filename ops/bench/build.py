"""`mlfs bench build`: time, memory and statements of a build beside two yardsticks, up to a million entities."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from ops.bench.measure import in_child, spread, verdict

# A million entities, against one CREATE TABLE of the same select.
TIME_RATIO_MAX = 1.5
MEMORY_RATIO_MAX = 1.5
# A night, against the bare join.
COLD_RATIO_MAX = 6.0
WARM_RATIO_MAX = 3.0
# The targets speak of these two sizes; the others show how the figures grow.
NIGHT_ENTITIES = 400
LARGE_ENTITIES = 1_000_000
FIGURES = ("seconds", "warm_seconds", "cpu_seconds", "peak_mb")


def measure_build(
    sizes: Sequence[int], runs: int, memory_limit: str, threads: int, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Measure every size; yardsticks and build take turns, each run in a new process on a copy of the same file.

    Args:
        sizes: Numbers of entities.
        runs: Rounds per size; the medians are compared.
        memory_limit: DuckDB's, with a unit, for all.
        threads: DuckDB's, for all.
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
    """Run a task on a copy, which is read once beforehand: neither side waits for the disk in the other's place."""
    shutil.copyfile(source, copy)
    try:
        return in_child(task, path=str(copy), **means)
    finally:
        copy.unlink()
        copy.with_name(f"{copy.name}.wal").unlink(missing_ok=True)


def _summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: spread([run[name] for run in runs]) for name in FIGURES if runs[0].get(name) is not None}


def _ratios(ours: Sequence[dict[str, Any]], yardstick: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Divide the medians of each figure that both have."""
    both = [name for name in FIGURES if None not in (ours[0].get(name), yardstick[0].get(name))]
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
        counts = [known for result in results if (known := result["build"]["statements"]) is not None]
        targets.append(verdict("warehouse statements more than at the smallest size", max(counts) - counts[0], 0))
    return targets
