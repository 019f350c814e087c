"""The measured process: `python -m ops.bench.child TASK ARGUMENTS` runs one task and prints its answer as JSON."""

import json
import resource
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

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
    "phases": ("ops.bench.phase_task", "phases"),
    "hop": ("ops.bench.nights_tasks", "hop"),
    "claim": ("ops.bench.nights_tasks", "claim"),
    "finished": ("ops.bench.nights_tasks", "finished"),
    "idle": ("ops.bench.idle_task", "idle"),
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
