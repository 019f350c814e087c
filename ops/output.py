"""How commands show things: tables for people, JSON for scripts, colour only on a terminal."""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from worker.explain import arrival_text
from worker.features.quality import COMPONENT_POINTS

# A pipe has no width; tables are then as wide as they need for a person who reads the file.
PIPE_COLUMNS = 120


def console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Make a console: as wide as the terminal, or as `COLUMNS` says, or wide enough for a file."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_COLUMNS
    return Console(stderr=stderr, quiet=quiet, highlight=False, width=width)


out = console()
err = console(stderr=True)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def plain(text: str) -> str:
    """Make a text from outside safe to show: no markup, no control characters."""
    return escape(_CONTROL.sub(" ", text))


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


def dates_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Give the overview of several dates."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (
        ("date", "left"),
        ("state", "left"),
        ("gen", "right"),
        ("rows", "right"),
        ("score", "right"),
        ("fallback", "right"),
        ("severity", "left"),
        ("why", "left"),
    ):
        table.add_column(name, justify="right" if justify == "right" else "left")
    for row in rows:
        failure = row.get("failure")
        table.add_row(
            row["analysis_date"],
            state_text(row["state"]),
            str(row["generation"]),
            number(row["row_count"], "d"),
            number(row["quality_score"]),
            number(row["fallback_rate"], ".1%"),
            row["severity"] or "-",
            failure["because"] if failure else row["trigger"] or "-",
        )
    return table


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
        grid.add_row("last failure", plain(f"{answer['failure']['because']}: {answer['failure']['message']}"))
    grid.add_row("next", plain(answer["next"]))
    title = f"{answer['analysis_date']}  {state_text(answer['state'])}"
    return Panel(grid, title=title, subtitle=plain(answer["headline"]), title_align="left", subtitle_align="left")


def history_table(entries: Sequence[Mapping[str, Any]], zone: ZoneInfo) -> Table:
    """Give what happened to a date, oldest first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("at", "from", "to", "gen", "reason", "by", "what"):
        table.add_column(name, overflow="fold", no_wrap=name in {"at", "from", "to", "gen", "reason"})
    for entry in entries:
        at = entry["at"].astimezone(zone)
        table.add_row(
            f"{at:%m-%d %H:%M:%S}",
            entry["before"] or "-",
            state_text(entry["after"]),
            f"{entry['generation']}.{entry['attempt']}",
            entry["reason"],
            plain(entry["actor"]),
            plain(entry["detail"]),
        )
    return table


def _clock(instant: str, zone: ZoneInfo) -> str:
    return f"{datetime.fromisoformat(instant).astimezone(zone):%Y-%m-%d %H:%M %Z}"
