"""Play a degraded night and draw what a real Prometheus answers to the dashboard's queries: `make panels`."""

import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from zoneinfo import ZoneInfo

from tests.panels.drawing import Series, Span, picture
from tests.support.alerting import ROOT
from tests.support.observed_night import CHANNEL, DEGRADED, FAILED, ObservedNight, missing_program, observed_night
from tests.support.panels import Panel, finite, panels
from worker.clock import SystemClock

FOLDER = ROOT / "docs" / "img"
DEADLINE_IN = timedelta(seconds=40)
# Long enough for a person to see on the pictures what follows what.
BETWEEN_S = 15.0
STEP_S = 0.5
BYTES_MAX = 150_000
ROWS = {
    "Is tonight OK?": "tonight",
    "The last ten dates": "dates",
    "Arrivals against the deadline": "arrivals",
    "Quality": "quality",
    "Intake": "intake",
    "Builds and outcomes": "builds",
    "Process": "process",
}


def now() -> float:
    return SystemClock().now().timestamp()


def pause(seconds: float) -> None:
    threading.Event().wait(max(seconds, 0.0))


def play(night: ObservedNight) -> tuple[float, Sequence[tuple[float, str, str]]]:
    """Play the night; return a moment at which the night is degraded and the alerts fire, and what to mark."""
    pause(3.0)
    night.report_in_time()
    marks = [(now(), "a failure", "orange"), (night.deadline_at.timestamp(), "deadline", "red")]
    night.report_failure()
    night.notice(CHANNEL, "firing", FAILED)
    night.wait_for(1)
    night.notice(CHANNEL, "firing", DEGRADED)
    pause(BETWEEN_S)
    degraded_at = now()
    marks.append((degraded_at, "run again", "blue"))
    night.run_again()
    night.wait_for(2)
    night.over(CHANNEL, DEGRADED)
    pause(BETWEEN_S)
    return degraded_at, marks


def ask(night: ObservedNight, row: Sequence[Panel], start: float, end: float) -> Mapping[str, Sequence[Series]]:
    """Every answer to the panels of a row; figures and tables show the present, the others the course."""
    answers: dict[str, Sequence[Series]] = {}
    for panel in row:
        begin = end if panel.kind in {"stat", "table", "bargauge"} else start
        answers[panel.title] = [
            (target, one)
            for target in panel.targets
            for one in finite(night.ask_range(target.expr, begin, end, STEP_S))
        ]
    return answers


def draw(night: ObservedNight) -> list[Path]:
    """Draw one picture a row, from the first scrape to now."""
    start = night.started_at
    degraded_at, marks = play(night)
    end = now()
    zone = ZoneInfo(night.program.environment["MLFS_TIMEZONE"])
    drawn = []
    for title, group in groupby(panels(), key=lambda panel: panel.row):
        row = list(group)
        moments = [("degraded", degraded_at), ("the end", end)] if title == "Is tonight OK?" else [("", end)]
        parts = []
        for name, at in moments:
            text = f"{title}   {name}, {datetime.fromtimestamp(at, zone):%H:%M:%S}" if name else title
            parts.append((text, ask(night, row, start, at), Span(start, at, zone, marks)))
        path = FOLDER / f"dashboard-{ROWS[title]}.png"
        picture(row, parts, path)
        drawn.append(path)
    return drawn


def main() -> int:
    if (missing := missing_program()) is not None:
        sys.stderr.write(f"{missing}\n")
        return 1
    with (
        tempfile.TemporaryDirectory(prefix="mlfs-panels-") as folder,
        observed_night(Path(folder), deadline_in=DEADLINE_IN) as night,
    ):
        drawn = draw(night)
    for path in drawn:
        size = path.stat().st_size
        sys.stdout.write(f"{path.relative_to(ROOT)}: {size:,} bytes\n")
        if size > BYTES_MAX:
            sys.stderr.write(f"{path} is larger than {BYTES_MAX:,} bytes\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
