"""What a chaos run says of itself: on which machine it was played, and its table for people."""

import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from tests.chaos.acts_on_readers import READER_ACTS
from tests.chaos.acts_on_services import SERVICE_ACTS
from tests.chaos.acts_on_the_network import NETWORK_ACTS
from tests.chaos.acts_on_the_store import STORE_ACTS
from tests.chaos.acts_on_workers import WORKER_ACTS
from tests.chaos.crashing import places_in
from tests.chaos.history import utc_now
from tests.chaos.stores import binary_of

FAMILIES = {
    "workers and their clocks": WORKER_ACTS,
    "store": STORE_ACTS,
    "bus and warehouse": SERVICE_ACTS,
    "links between them": NETWORK_ACTS,
    "readers of logs and pages": READER_ACTS,
}


def load() -> float:
    """The machine's load average over the last minute."""
    return round(os.getloadavg()[0], 2)


def machine_of(store: str) -> dict[str, Any]:
    """Where and when a run begins."""
    binary = binary_of("valkey" if store in {"valkey", "embedded"} else "redis")
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.split()
    return {
        "began": utc_now().isoformat(timespec="seconds"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count() or 0} processors",
        "python": platform.python_version(),
        "server": f"{told[0]} {told[2].removeprefix('v=')}",
        "load_at_begin": load(),
    }


def families(report: Mapping[str, Any]) -> Iterator[tuple[str, int, int]]:
    """Each family of faults: how many kinds of it were played, and how many acts."""
    for name, acts in FAMILIES.items():
        played = [count for act, count in report["faults"].items() if act in acts]
        yield name, len(played), sum(played)


def table(report: Mapping[str, Any]) -> str:
    """The report for people."""
    verdict = report["verdict"]
    lines = [
        f"chaos, seed {report['seed']}, {report['store']} ({report['server']}), {report['warehouse']}, "
        f"{report['workers']} workers, {report['seconds']:g} s, "
        f"load {report['load_at_begin']:g} to {report['load_at_end']:g}",
        f"observed: {report['lines']}",
        "",
        f"{'invariant':<62} {'checked':>8} {'violations':>10}",
    ]
    for name, found in verdict["invariants"].items():
        lines.append(f"{name:<62} {found['checked']:>8} {len(found['violations']):>10}")
        lines += [f"    {what}" for what in found["violations"][:5]]
    lines += ["", f"{'fault':<62} {'acts':>8}"]
    lines += [f"{name:<62} {count:>8}" for name, count in report["faults"].items()]
    if report["not possible here"]:
        lines.append(f"not possible here: {', '.join(report['not possible here'])}")
    lines += ["", f"{'faults by kind':<44} {'kinds':>8} {'acts':>8}"]
    lines += [f"{name:<44} {kinds:>8} {acts:>8}" for name, kinds, acts in families(report)]
    places = len(places_in(report["warehouse"] == "bigquery"))
    lines.append(f"{'crash places reached':<44} {len(report['crash places reached']):>8} of {places}")
    by_kind = ", ".join(f"{name} {count}" for name, count in report["nights"].items())
    lines.append(f"{'nights':<44} {sum(report['nights'].values()):>8} ({by_kind})")
    lines.append(f"{'violations':<44} {verdict['violations']:>8}")
    if not report["settled"]:
        lines.append("it did not come to rest in time")
    return "\n".join(lines)
