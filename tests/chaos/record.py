"""`make chaos-report`: play the long runs one after the other, keep what they said, write it on docs/reliability.md.

Each run is a process of its own, as a person would start it. What they said goes to docs/measured/chaos.json after each
of them, so an interrupted series keeps what it has; the page's table is made from that file and from nothing else.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.chaos.report import FAMILIES, families

ROOT = Path(__file__).parents[2]
PAGE, MEASURED = ROOT / "docs" / "reliability.md", ROOT / "docs" / "measured" / "chaos.json"
_PART = re.compile(r"(<!-- measured: chaos -->\n)(.*?)(<!-- end of measured -->)", re.DOTALL)
# Minutes of each at most; coming to rest is on top. The last one ends when every place had its turn.
RUNS: Sequence[tuple[float, Sequence[str]]] = (
    (5.0, ("--seed", "7")),
    (5.0, ("--seed", "11", "--store", "valkey", "--workers", "3")),
    (3.5, ("--seed", "5", "--store", "sentinel")),
    (3.5, ("--seed", "3", "--store", "embedded")),
    (3.5, ("--seed", "13", "--warehouse", "duckdb")),
    (8.0, ("--seed", "2", "--places")),
)
SOAK = ("--nights", "2000", "--events", "100000")


def play(module: str, words: Sequence[str]) -> dict[str, Any] | None:
    """Play one run; None if it ended without a report."""
    with tempfile.TemporaryDirectory(prefix="mlfs-record-") as folder:
        file = Path(folder) / "report.json"
        ended = subprocess.run([sys.executable, "-m", module, *words, "--json", str(file)], cwd=ROOT, check=False)
        if not file.exists():
            return None
        return {"arguments": " ".join(words), "code": ended.returncode, **json.loads(file.read_text(encoding="utf-8"))}


def kept(report: Mapping[str, Any]) -> dict[str, Any]:
    """A chaos run's report, with its invariants in short: how much each looked at, and what broke it."""
    found = report["verdict"]["invariants"]
    return {
        **{name: value for name, value in report.items() if name != "verdict"},
        "families": {name: {"kinds": kinds, "acts": acts} for name, kinds, acts in families(report)},
        "checked": {name: one["checked"] for name, one in found.items()},
        "violations": {name: one["violations"] for name, one in found.items() if one["violations"]},
    }


def _run_row(run: Mapping[str, Any]) -> str:
    acts = [f"{run['families'][name]['acts']} of {run['families'][name]['kinds']}" for name in FAMILIES]
    violations = sum(len(broken) for broken in run["violations"].values())
    cells = [
        f"`{run['arguments']}`", f"{run['server']}, {run['workers']} workers", sum(run["nights"].values()), *acts,
        len(run["crash places reached"]), run["lines"].get("published", 0), f"{run['seconds']:.0f}",
        f"{run['load_at_begin']:g} to {run['load_at_end']:g}", violations,
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def _runs_part(runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    first = runs[0]
    yield f"Begun {first['began']} on {first['machine']}, Python {first['python']}. Load is the average of the last"
    yield "minute, when a run began and when it was judged. A cell of faults says how many acts of how many kinds."
    yield ""
    names = ["`make chaos ARGS=`", "store", "nights", *FAMILIES, "crash places", "reports", "seconds", "load"]
    yield f"| {' | '.join([*names, 'violations'])} |"
    yield "|" + "---|" * (len(names) + 1)
    yield from (_run_row(run) for run in runs)
    yield ""
    for run in runs:
        idle = [name for name, count in run["checked"].items() if not count]
        what = f"`{run['arguments']}`"
        if idle:
            yield f"- {what}: nothing to look at for {'; '.join(idle)}."
        if run["not possible here"]:
            yield f"- {what}: not possible there: {', '.join(run['not possible here'])}."
        if not run["settled"]:
            yield f"- {what}: it did not come to rest in time."
        for name, broken in run["violations"].items():
            yield f"- {what}: **{name}**: {len(broken)} violations, the first: {broken[0]}"


def _soak_part(soak: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield (
        f'`make soak ARGS="{soak["arguments"]}"`, begun {soak["began"]}, {soak["seconds"]:.0f} s, load '
        f"{soak['load_at_begin']:g} to {soak['load_at_end']:g}: {soak['nights']} nights, {soak['events']} reports, "
        f"{soak['commits']['commits']} commits on {soak['commits']['dates']} dates, "
        f"{soak['store']['bytes_per_finished_date']:g} bytes a finished date."
    )
    yield ""
    yield "| worker | quantity | first | last | growth per 1,000 nights |"
    yield "|---|---|---|---|---|"
    for worker, slopes in soak["growth_per_1000_nights"].items():
        for name, slope in slopes.items():
            first, last = soak["first"][worker][name], soak["last"][worker][name]
            yield f"| {worker} | {name} | {first:g} | {last:g} | {slope:g} |"
    yield ""
    yield "Nothing was unbounded." if not soak["faults"] else "\n".join(f"- {fault}" for fault in soak["faults"])


def made(page: str, measured: Mapping[str, Any]) -> str:
    """The page, with what was measured between its marks."""
    lines = list(_runs_part(measured["runs"]))
    if measured.get("soak"):
        lines += _soak_part(measured["soak"])
    return _PART.sub(lambda part: part[1] + "\n".join(lines).strip() + "\n" + part[3], page)


def write(measured: Mapping[str, Any]) -> None:
    MEASURED.parent.mkdir(exist_ok=True)
    MEASURED.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    PAGE.write_text(made(PAGE.read_text(encoding="utf-8"), measured), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the minutes of each run, for a shorter series")
    parser.add_argument("--no-soak", action="store_true", help="keep what the soak said the last time")
    parser.add_argument("--only-soak", action="store_true", help="keep what the other runs said the last time")
    chosen = parser.parse_args()
    measured: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))
    if not chosen.only_soak:
        measured["runs"] = []
    failed = False
    for minutes, words in () if chosen.only_soak else RUNS:
        report = play("tests.chaos.run", ["--minutes", f"{minutes * chosen.share:g}", *words])
        failed |= report is None or report["code"] != 0
        if report is not None:
            measured["runs"].append(kept(report))
            write(measured)
    if not chosen.no_soak:
        soak = play("tests.chaos.soak", SOAK)
        failed |= soak is None or soak["code"] != 0
        if soak is not None:
            measured["soak"] = soak
            write(measured)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
