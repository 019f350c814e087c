"""How commands show things: tables for people, JSON for scripts, colour only on a terminal."""

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from worker.date_text import arrival_text, in_zone
from worker.features.quality import COMPONENT_POINTS

# A pipe has no width; tables are then as wide as they need for a person who reads the file.
PIPE_COLUMNS = 120
# Below these a table shows less, so that what it shows stays whole words.
DATES_COLUMNS = 80
HISTORY_COLUMNS = 100


def console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Make a console: as wide as the terminal, or as `COLUMNS` says, or wide enough for a file."""
    stream = sys.stderr if stderr else sys.stdout
    on_terminal = stream is not None and stream.isatty()  # None: the caller closed it; ops/streams.py
    width = None if on_terminal or "COLUMNS" in os.environ else PIPE_COLUMNS
    return Console(stderr=stderr, quiet=quiet, highlight=False, width=width)


@dataclass(frozen=True, slots=True)
class Fitting:
    """A table in two forms, of which the wider is shown where there is room for it."""

    wide: RenderableType
    narrow: RenderableType
    columns_min: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Choose by the width at hand."""
        yield self.wide if options.max_width >= self.columns_min else self.narrow


out = console()
err = console(stderr=True)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def plain(text: str) -> str:
    """Make a text from outside safe to show: no markup, no control characters."""
    return escape(_CONTROL.sub(" ", text))


def hint(command: str, data_dir: Path | None = None) -> str:
    """Return a command line that a person can paste: `mlfs` by the path it was called by, and the data folder.

    Args:
        command: The words behind `mlfs`, as a shell reads them.
        data_dir: The folder the command is about; the folder of this process by default.
    """
    folder = data_dir or os.environ.get("MLFS_DATA_DIR")
    return " ".join(
        [_called(), command, *(["--data-dir", shlex.quote(str(Path(folder).absolute()))] if folder else [])]
    )


def show_hints(*lines: str) -> None:
    """Print command lines, each on a line of its own and whole at any width."""
    for line in lines:
        out.print(f"  {line}", markup=False, soft_wrap=True)


def _called() -> str:
    """Return the words by which a person called this program."""
    called = sys.argv[0]
    if Path(called).name == "__main__.py":
        same = shutil.which("python") == sys.executable
        return f"{'python' if same else shlex.quote(sys.executable)} -m ops"
    on_path = shutil.which("mlfs")
    if os.sep not in called or (on_path is not None and Path(on_path).absolute() == Path(called).absolute()):
        return "mlfs"
    return shlex.quote(called)


def counted(number: int, noun: str) -> str:
    """Return `1 night`, `2 nights`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


STATE_STYLE: Mapping[str, str] = {
    "waiting": "cyan",
    "ready": "blue",
    "running": "blue",
    "done": "green",
    "degraded": "yellow",
    "failed": "red",
}


def show_json(value: object) -> None:
    """Print one JSON document."""
    out.print_json(json.dumps(value, default=_as_text, ensure_ascii=False), indent=2)


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def number(value: float | None, form: str = ".1f") -> str:
    """Give a number, or a dash where there is none."""
    return "-" if value is None else format(value, form)


def state_text(state: str) -> str:
    """Give a state in its colour."""
    return f"[{STATE_STYLE.get(state, 'white')}]{state}[/]"


def dates_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Give the overview of several dates; on a narrow screen without fallback and severity."""
    columns = ("date", "state", "gen", "rows", "score", "fallback", "severity", "why")
    narrow = ("date", "state", "gen", "rows", "score", "why")
    return Fitting(_dates(rows, columns), _dates(rows, narrow), DATES_COLUMNS)


def _dates(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        right = name in {"gen", "rows", "score", "fallback"}
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "why", overflow="fold")
    for row in rows:
        cells = {
            "date": row["analysis_date"],
            "state": state_text(row["state"]),
            "gen": str(row["generation"]),
            "rows": number(row["row_count"], "d"),
            "score": number(row["quality_score"]),
            "fallback": number(row["fallback_rate"], ".1%"),
            "severity": row["severity"] or "-",
            "why": _why(row),
        }
        table.add_row(*(cells[name] for name in columns))
    return table


def _why(row: Mapping[str, Any]) -> str:
    told = [row["failure"]["because"]] if row.get("failure") else []
    if row.get("published_is_retracted"):
        told.append("[red]retracted[/]")
    if row.get("not_told"):
        told.append("[red]not told[/]")
    return " ".join(told) or row.get("waits") or row["trigger"] or "-"


def components_table(row: Mapping[str, Any]) -> Table:
    """Give the six parts of a score with their maxima."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for name, points in (row["components"] or {}).items():
        maximum = COMPONENT_POINTS[name]
        filled = round(20 * points / maximum)
        table.add_row(name, f"{points:.1f} / {maximum}", "[green]" + "█" * filled + "[/][dim]" + "░" * (20 - filled))
    table.add_row("component_total", f"{number(row['component_total'])} / 100", "")
    return table


def explanation_panel(answer: Mapping[str, Any], zone: ZoneInfo) -> Panel:
    """Give the whole story of one date on one screen."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column()
    for entry in answer["processors"]:
        rows = entry["rows_at_build"]
        built = "" if rows is None else f"  [dim](table had {rows} rows at the build)[/]"
        grid.add_row(entry["processor"], plain(arrival_text(entry, zone)) + built)
    grid.add_row("deadline", _clock(answer["deadline_at"], zone))
    grid.add_row("upgrades until", _clock(answer["upgrade_cutoff_at"], zone))
    if answer["failure"]:
        message = in_zone(answer["failure"]["message"], zone)
        grid.add_row("last failure", plain(f"{answer['failure']['because']}: {message}"))
    grid.add_row("stands", plain(answer["headline"]))
    grid.add_row("next", plain(in_zone(answer["next"], zone)))
    title = f"{answer['weekday']} {answer['analysis_date']}  {state_text(answer['state'])}"
    return Panel(grid, title=title, title_align="left")


def history_table(entries: Sequence[Mapping[str, Any]], zone: ZoneInfo) -> RenderableType:
    """Give what happened to a date, oldest first; on a narrow screen without what the line above says, and by whom."""
    wide = _history(entries, zone, ("at", "from", "to", "gen", "reason", "by", "what"))
    return Fitting(wide, _history(entries, zone, ("at", "to", "gen", "what")), HISTORY_COLUMNS)


def _history(entries: Sequence[Mapping[str, Any]], zone: ZoneInfo, columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title=f"times: {zone.key}", title_justify="left")
    if "reason" not in columns:
        table.padding = (0, 1, 0, 0)  # leaves room for the longest reason at 60 columns
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name in {"at", "from", "to", "gen", "reason"})
    for entry in entries:
        detail = plain(in_zone(entry["detail"], zone))
        cells = {
            "at": f"{entry['at'].astimezone(zone):%m-%d %H:%M:%S}",
            "from": entry["before"] or "-",
            "to": state_text(entry["after"]),
            "gen": f"{entry['generation']}.{entry['attempt']}",
            "reason": entry["reason"],
            "by": plain(entry["actor"]),
            "what": detail if "reason" in columns else f"{entry['reason']}: {detail}",
        }
        table.add_row(*(cells[name] for name in columns))
    return table


def _clock(instant: str, zone: ZoneInfo) -> str:
    return f"{datetime.fromisoformat(instant).astimezone(zone):%Y-%m-%d %H:%M %Z}"
