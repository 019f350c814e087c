"""Count the files that a completion, a build and a replay enter: `python -m tests.measurements.files_entered`.

A file is entered when a function of the file is called, on the thread of the act, between the call and the return of
the act's root function. The completion is the third of four, handled by `mlfs run`; the build follows the fourth; the
replay is a request of the built analysis date to the worker, `POST /dates/DATE/replay`: plan, refusal, audit row,
commit and answer. Store, bus and warehouse are the embedded ones.

Prints a table, or JSON with `--json`. Exit code 1 when a count is above the limit.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

import httpx

ROOT = Path(__file__).parents[2]
PACKAGES = ("statemachine", "schemas", "worker", "ops")
DATE = "2024-12-15"
PROCESSORS = (
    "team_defense_zone_analysis",
    "player_shot_zone_analysis",
    "player_composite_factors",
    "player_daily_cache",
)
ROOTS: Mapping[tuple[str, str], str] = {
    ("worker/intake.py", "handle_all"): "completion",
    ("worker/builds/builder.py", "run_one"): "build",
    ("worker/interventions/requests.py", "ask"): "replay",
}
LIMITS: Mapping[str, int | None] = {"completion": 17, "build": None, "replay": 28}
WAIT_S = 60.0


class Recorder:
    """Profile function of one process: appends a JSON line with act and entered files whenever an act returns."""

    def __init__(self, report: Path) -> None:
        self._report = report
        self._local = threading.local()

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        """Note a call or a return of the interpreter on the calling thread."""
        if event not in {"call", "return"}:
            return
        code = frame.f_code
        if not code.co_filename.startswith(str(ROOT)):
            return
        file = code.co_filename[len(str(ROOT)) + 1 :]
        if file.split("/")[0] not in PACKAGES:
            return
        root = getattr(self._local, "root", None)
        if event == "call" and root is None and (file, code.co_name) in ROOTS:
            self._local.root, self._local.files = frame, set()
        elif event == "return" and frame is root:
            self._local.root = None
            line = {"act": ROOTS[file, code.co_name], "files": sorted(self._local.files)}
            with self._report.open("a", encoding="utf-8") as report:
                report.write(json.dumps(line) + "\n")
            return
        if getattr(self._local, "root", None) is not None and code.co_name != "<module>":
            self._local.files.add(file)


def run_recorded(report: Path, arguments: Sequence[str]) -> None:
    """Run `mlfs` in this process with the recorder on every thread; `main` of this module starts such a child."""
    recorder = Recorder(report)
    threading.setprofile(recorder)
    sys.setprofile(recorder)
    from ops.__main__ import main as mlfs  # noqa: PLC0415 - after the recorder

    sys.argv = ["mlfs", *arguments]
    mlfs()


def count_files(folder: Path) -> dict[str, list[str]]:
    """Play one analysis date with four completions and a replay; return the entered files of each act."""
    report = folder / "report.jsonl"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFS_")}
    environment |= {"MLFS_DATA_DIR": str(folder / "data"), "MLFS_HTTP_PORT": "0", "MLFS_SEASON": "02-29..02-29"}
    child = [sys.executable, "-m", "tests.measurements.files_entered", "--record", str(report), "--"]

    def mlfs(*arguments: str) -> None:
        command = [sys.executable, "-m", "ops", *arguments]
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)

    def acts(name: str) -> list[list[str]]:
        lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
        return [line["files"] for line in map(json.loads, lines) if line["act"] == name]

    def wait_for(name: str, count: int) -> list[str]:
        end = time.monotonic() + WAIT_S
        while len(found := acts(name)) < count:
            if time.monotonic() > end:
                raise TimeoutError(f"{DATE}: {name} {count} did not end within {WAIT_S:.0f} s")
            threading.Event().wait(0.2)
        return found[count - 1]

    mlfs("load", str(folder / "sample"), "--generate", DATE)
    with (folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen([*child, "run"], cwd=ROOT, env=environment, stdout=log)
    try:
        entered = {}
        for number, processor in enumerate(PROCESSORS, start=1):
            mlfs("emit", DATE, processor)
            files = wait_for("completion", number)
            if number == len(PROCESSORS) - 1:
                entered["completion"] = files
        entered["build"] = wait_for("build", 1)
        # A worker renders each statement once, at the first use: the second replay is the usual one.
        for number in (1, 2):
            url = f"{address(folder / 'worker.log')}/dates/{DATE}/replay"
            httpx.post(url, json={"reason": f"files counted, {number}"}).raise_for_status()
            entered["replay"] = wait_for("replay", number)
            wait_for("build", number + 1)
    finally:
        worker.terminate()
        worker.wait(30)
    return entered


def address(log: Path) -> str:
    """Return the address of the worker's HTTP listener, as the worker has logged the address."""
    lines = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("{"))
    return next(str(line["http"]) for line in lines if line["message"] == "worker_started")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="Print the files of each act as JSON.")
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.record:
        run_recorded(asked.record, asked.arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        entered = count_files(Path(folder))
    if asked.json:
        print(json.dumps(entered, indent=2))  # noqa: T201
    for act, files in entered.items():
        if not asked.json:
            limit = LIMITS[act]
            print(f"{act:<11} {len(files):>3} files" + (f", at most {limit}" if limit else ""))  # noqa: T201
    if any(limit is not None and len(entered[act]) > limit for act, limit in LIMITS.items()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
