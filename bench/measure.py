"""`make measure`: every benchmark at full size, one after the other, into `docs/measured/*.json`. About 10 minutes.

The machine must be quiet. Load above 1 at the start is refused; between the parts the load is the last part's own, so
there what others burn is read directly, for two seconds in which nothing of ours runs.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.report.results import MEASURED
from bench.report.tables import BUSY_MAX, LOAD_MAX
from ops.bench.measure import busy_share, load_1m

WATCHED_S = 2.0
PARTS: Mapping[str, Sequence[str]] = {
    "build": ("build",),
    "intake": ("intake",),
    "workers": ("intake", "--workers", "1,2,4"),
    "latency": ("latency",),
    "deadline": ("deadline", "--open-dates", "1000,10000,100000,1000000"),
    "footprint": ("footprint",),
    "profile": ("profile",),
}
# Seconds each, to see that everything works; no figure of these says anything.
SMALL: Mapping[str, Sequence[str]] = {
    "build": ("build", "--entities", "400,2000", "--runs", "1"),
    "intake": ("intake", "--events", "2000", "--runs", "1"),
    "workers": ("intake", "--workers", "1,2", "--events", "2000", "--runs", "1"),
    "latency": ("latency", "--nights", "4"),
    "deadline": ("deadline", "--open-dates", "100,1000", "--deadlines", "10"),
    "footprint": ("footprint", "--nights", "2", "--runs", "1"),
    "profile": ("profile", "--events", "2000", "--runs", "1"),
}


def measure(name: str, arguments: Sequence[str], folder: Path, watched_s: float = WATCHED_S) -> None:
    """Run one benchmark and write its result; its own progress goes to standard error.

    Raises:
        subprocess.CalledProcessError: It could not be measured; the old result stays.
    """
    busy = busy_share(watched_s)
    if busy > BUSY_MAX:
        say(f"!! {busy:.0%} of the processors are taken by others: the figures of {name} will not be worth much")
    command = [sys.executable, "-m", "ops", "bench", *arguments, "--json"]
    started = time.monotonic()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this program
    answer: dict[str, Any] = json.loads(done.stdout)
    answer["machine"]["busy_before"] = round(busy, 3)
    answer["command"] = " ".join(("mlfs", "bench", *arguments))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    say(f"   {name}: {time.monotonic() - started:.0f} s")


def say(text: str) -> None:
    """Show progress."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main(arguments: Sequence[str] | None = None, load: Callable[[], float] = load_1m) -> int:
    """Read the options and measure; gives the exit code, 1 where the machine is too busy."""
    parser = argparse.ArgumentParser(prog="make measure", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="Parts, separated by commas.")
    parser.add_argument("--small", action="store_true", help="Seconds each, to see that it works.")
    parser.add_argument(
        "--anyway", action="store_true", help="Measure although the machine is busy; the result says so."
    )
    parser.add_argument("--out", type=Path, default=MEASURED, help="Folder of the results.")
    options = parser.parse_args(arguments)
    names = options.only.split(",")
    if unknown := sorted({*names} - PARTS.keys()):
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if (found := load()) > LOAD_MAX:
        say(f"!! the load is {found:.2f}: at most {LOAD_MAX:g} for figures that count")
        if not options.anyway:
            say("   wait, or say --anyway; nothing was measured")
            return 1
    for place, name in enumerate(names, start=1):
        say(f"== {place} of {len(names)}: {name}")
        measure(name, (SMALL if options.small else PARTS)[name], options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
