"""Running a task in a child process, and what several runs say together."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from statistics import median, quantiles
from typing import Any

from worker.errors import Unavailable

# A million entities on a slow machine take minutes; longer than this, something hangs.
CHILD_TIMEOUT_S = 1800


def in_child(task: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever JSON carries
    """Run a task of `ops.bench.child` in a new process and give its answer, with `peak_mb` added.

    Raises:
        Unavailable: The process failed or did not end.
    """
    command = [sys.executable, "-m", "ops.bench.child", task, json.dumps(arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_TIMEOUT_S, check=False)  # noqa: S603 - this program
    except subprocess.TimeoutExpired as exc:
        raise Unavailable(f"the benchmark {task} did not end within {CHILD_TIMEOUT_S} s") from exc
    if done.returncode != 0:
        raise Unavailable(f"the benchmark {task} failed:\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def in_folder(task: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever JSON carries
    """Run a task in a child process, with a folder of its own that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="mlfs-bench-") as folder:
        return in_child(task, folder=folder, **arguments)


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Give median, lowest, highest and every value, in the order measured."""
    return {"median": median(values), "low": min(values), "high": max(values), "runs": list(values)}


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Give p50, p99 and the highest of two values or more."""
    cuts = quantiles(values, n=100, method="inclusive")
    return {"p50": cuts[49], "p99": cuts[98], "max": max(values)}


def verdict(name: str, value: float, limit: float, *, at_least: bool = False) -> Mapping[str, Any]:
    """Compare a figure with its target."""
    met = value >= limit if at_least else value <= limit
    return {"target": name, "value": value, "limit": limit, "at_least": at_least, "met": met}
