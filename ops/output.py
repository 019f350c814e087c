"""Output of commands: tables for people, JSON for scripts, colour only on a terminal."""

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from worker.date_text import arrival_text, in_zone
from worker.features.quality import COMPONENT_POINTS, score_sentence
from worker.finding_text import DOUBTS, FindingModel, finding_line, short, worst

# Width without a terminal: a pipe has no width, and a person may read the file later.
PIPE_COLUMNS = 120
# Below these widths a table shows fewer columns, so that the words stay whole.
DATES_COLUMNS = 80
LARGEST_WIDTH = 10_000
HISTORY_COLUMNS = 100


def console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Return a console with the width of the terminal, or of `COLUMNS`, or `PIPE_COLUMNS`."""
    stream = sys.stderr if stderr else sys.stdout
    on_terminal = stream is not None and stream.isatty()  # None: a closed stream, see ops/streams.py
    width = None if on_terminal or "COLUMNS" in os.environ else PIPE_COLUMNS
    return Console(stderr=stderr, quiet=quiet, highlight=False, width=width)


@dataclass(frozen=True, slots=True)
class Fitting:
    """Several forms of one thing, the widest first: the first form with room for every word is shown, else the last."""

    forms: Sequence[tuple[int, RenderableType]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Choose by the width at hand."""
        for columns_min, form in self.forms:
            needed = Measurement.get(console, options.update(width=LARGEST_WIDTH), form).minimum
            if options.max_width >= max(columns_min, needed):
                yield form
                return
        yield self.forms[-1][1]


def table(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Collection[str] = (),
    texts: Collection[str] = (),
    wide: Collection[str] = (),
    narrow: Collection[str] = (),
    wide_from: int = 0,
    title: str = "",
    header: bool = True,
) -> RenderableType:
    """Return a table whose words and numbers are whole at any width.

    Where even the narrow form has no room, each row becomes a paragraph with one line for each cell.

    Args:
        names: The heads of all columns.
        rows: A cell for each of the names, with markup.
        numbers: Columns that are set to the right.
        texts: Columns that may take several lines; every other cell stays on one line.
        wide: Columns of the wide form alone.
        narrow: Columns of the narrow form alone.
        wide_from: The least width of the wide form.
        title: Stands above the table.
        header: Whether the names stand above the columns.
    """
    widest = [max(Text.from_markup(cell).cell_len for cell in cells) for cells in zip(names, *rows, strict=True)]

    def form(left_out: Collection[str], *, tight: bool = False) -> Table:
        made = Table(box=None, pad_edge=False, show_header=header, header_style="bold", title=title or None)
        made.title_justify, made.padding = "left", (0, 1, 0, 0) if tight else (0, 1)
        shown = [index for index, name in enumerate(names) if name not in left_out]
        for index in shown:
            name = names[index]
            justify: JustifyMethod = "right" if name in numbers else "left"
            whole = None if name in texts else widest[index]
            made.add_column(name, justify=justify, overflow="fold", no_wrap=whole is not None, min_width=whole)
        for row in rows:
            made.add_row(*(row[index] for index in shown))
        return made

    paragraphs = Table.grid(padding=(0, 1, 0, 0))
    paragraphs.title, paragraphs.title_justify = title or None, "left"
    paragraphs.add_column(style="bold", no_wrap=True)
    paragraphs.add_column(overflow="fold")
    for row in rows:
        if paragraphs.row_count:
            paragraphs.add_row()
        for name, cell in zip(names, row, strict=True):
            if name not in narrow and cell:
                paragraphs.add_row(name, cell.strip())
    forms = [(wide_from, form(narrow))] if wide or narrow else []
    return Fitting([*forms, (0, form(wide)), (0, form(wide, tight=True)), (0, paragraphs)])


out = console()
err = console(stderr=True)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def one_line(text: str) -> str:
    """Return a text from outside without control characters, which a terminal would obey."""
    return _CONTROL.sub(" ", text)


def plain(text: str) -> str:
    """Return a text from outside without control characters and with escaped markup."""
    return escape(one_line(text))


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


SEVERITY_STYLE: Mapping[str, str] = {"critical": "bold red", "warning": "yellow", "note": "dim"}


def findings_of(row: Mapping[str, Any]) -> list[FindingModel] | None:
    """Return the findings of a row in the JSON form; None if the rows were never judged."""
    found = row.get("findings")
    return None if found is None else [FindingModel(**one) for one in found]


def findings_short(row: Mapping[str, Any]) -> str:
    """Return the findings of a row in the JSON form on one line, with the markup of the highest severity."""
    found = findings_of(row)
    return severity_text(worst(found), plain(short(found)))


def severity_text(severity: str, text: str) -> str:
    """Return a text with the markup of a severity; an empty severity has no markup."""
    return f"[{SEVERITY_STYLE[severity]}]{text}[/]" if severity else text


def show_findings(row: Mapping[str, Any]) -> None:
    """Print the findings of a row in the JSON form, first the short form, then two lines for each finding.

    A command in a next step stays on one line.
    """
    text = "none" if findings_of(row) == [] else findings_short(row)
    out.print(f"findings: {text}", soft_wrap=True)
    list_findings(row)


def list_findings(row: Mapping[str, Any]) -> None:
    """Print two lines for each finding of a row in the JSON form; nothing without a finding."""
    for finding in findings_of(row) or ():
        severity = severity_text(finding.severity, f"{finding.severity:<8}")
        out.print(f"  {severity}  {plain(finding_line(finding))}", soft_wrap=True)
        out.print(f"            next: {plain(finding.next_step)}", soft_wrap=True)


def show_json(value: object) -> None:
    """Print a JSON document; NaN and infinity, which JSON does not know, become null."""
    out.print_json(json.dumps(_finite(value), default=_as_text, ensure_ascii=False, allow_nan=False), indent=2)


def _finite(value: object) -> object:
    """Return the value with None in place of each NaN and infinity."""
    match value:
        case float():
            return value if isfinite(value) else None
        case dict():
            return {key: _finite(part) for key, part in value.items()}
        case list() | tuple():
            return [_finite(part) for part in value]
        case _:
            return value


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def number(value: float | None, form: str = ".1f") -> str:
    """Return the formatted number, a dash for None."""
    return "-" if value is None else format(value, form)


def state_text(state: str) -> str:
    """Return the state with the markup of the colour."""
    return f"[{STATE_STYLE.get(state, 'white')}]{state}[/]"


def dates_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return the overview of several dates; on a narrow screen findings join the reason, and some figures are left out.

    A row without findings in the JSON form is a row whose findings are not known. Where nothing is published, nothing
    was judged, and the reason gets the room of the findings.
    """
    cells: list[tuple[str, ...]] = [
        (
            row["analysis_date"],
            state_text(row["state"]),
            str(row["generation"]),
            number(row["row_count"], "d"),
            number(row["quality_score"]),
            number(row["fallback_rate"], ".1%"),
            row["severity"] or "-",
            "-" if row["quality_score"] is None else findings_short(row),
            _why(row),
            " ".join((_why(row), *_grave(row))),
        )
        for row in rows
    ]
    names: tuple[str, ...] = (
        "date",
        "state",
        "gen",
        "rows",
        "score",
        "fallback",
        "severity",
        "findings",
        "why",
        "reason",
    )
    if all(row["quality_score"] is None for row in rows):
        at = names.index("findings")
        names, cells = (*names[:at], *names[at + 1 :]), [(*cell[:at], *cell[at + 1 :]) for cell in cells]
    return table(
        names,
        cells,
        numbers={"gen", "rows", "score", "fallback"},
        texts={"findings", "why", "reason"} & {*names},
        wide={"fallback", "severity", "findings", "why"} & {*names},
        narrow={"reason"},
        wide_from=DATES_COLUMNS,
    )


def _grave(row: Mapping[str, Any]) -> list[str]:
    """Return the short form of findings above a note, as a list of at most one text."""
    return [findings_short(row)] if worst(findings_of(row)) in DOUBTS else []


def _why(row: Mapping[str, Any]) -> str:
    told = [row["failure"]["because"]] if row.get("failure") else []
    if row.get("published_is_retracted"):
        told.append("[red]retracted[/]")
    if row.get("not_told"):
        told.append("[red]not told[/]")
    return " ".join(told) or row.get("waits") or row["trigger"] or "-"


def components_table(row: Mapping[str, Any]) -> RenderableType:
    """Return the six parts of a score, their maxima and the sentence about both; on a narrow screen without bars."""
    cells = []
    for name, points in (row["components"] or {}).items():
        maximum = COMPONENT_POINTS[name]
        filled = round(20 * points / maximum)
        bar = "[green]" + "█" * filled + "[/][dim]" + "░" * (20 - filled) + "[/]"
        cells.append((name, f"{points:.1f} / {maximum}", bar))
    cells.append(("component_total", f"{number(row['component_total'])} / 100", ""))
    parts = table(("component", "points", "bar"), cells, numbers={"points"}, wide={"bar"}, header=False)
    figures = (row[name] for name in ("quality_score", "component_total", "fallback_rate", "missing_rate"))
    return Group(parts, Text(score_sentence(*figures)))


def explanation_panel(answer: Mapping[str, Any], zone: ZoneInfo) -> Panel:
    """Return the explanation of an analysis date as a panel."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", overflow="fold")
    grid.add_column(overflow="fold")
    for entry in answer["processors"]:
        rows = entry["rows_at_build"]
        built = "" if rows is None else f"  [dim](table had {rows} rows at the build)[/]"
        grid.add_row(entry["processor"], plain(arrival_text(entry, zone)) + built)
    grid.add_row("deadline", _clock(answer["deadline_at"], zone))
    grid.add_row("upgrades until", _clock(answer["upgrade_cutoff_at"], zone))
    if answer["failure"]:
        message = in_zone(answer["failure"]["message"], zone)
        grid.add_row("last failure", plain(f"{answer['failure']['because']}: {message}"))
    if answer["quality_score"] is not None:
        grid.add_row("findings", findings_short(answer))
    grid.add_row("stands", plain(answer["headline"]))
    grid.add_row("severity", answer["severity"] or "none")
    grid.add_row("next", plain(answer["next"]))
    if answer.get("outlook"):
        grid.add_row("outlook", plain(answer["outlook"]))
    title = f"{answer['weekday']} {answer['analysis_date']}  {state_text(answer['state'])}"
    return Panel(grid, title=title, title_align="left")


def history_table(entries: Sequence[Mapping[str, Any]], zone: ZoneInfo) -> RenderableType:
    """Return the changes of a date, oldest first; on a narrow screen without the former state and the actor."""
    cells = []
    for entry in entries:
        detail = plain(in_zone(entry["detail"], zone))
        cells.append(
            (
                f"{entry['at'].astimezone(zone):%m-%d %H:%M:%S}",
                entry["before"] or "-",
                state_text(entry["after"]),
                f"{entry['generation']}.{entry['attempt']}",
                entry["reason"],
                plain(entry["actor"]),
                detail,
                f"{entry['reason']}: {detail}",
            )
        )
    return table(
        ("at", "from", "to", "gen", "reason", "by", "what", "why"),
        cells,
        texts={"by", "what", "why"},
        wide={"from", "reason", "by", "what"},
        narrow={"why"},
        wide_from=HISTORY_COLUMNS,
        title=f"times: {zone.key}",
    )


def _clock(instant: str, zone: ZoneInfo) -> str:
    return f"{datetime.fromisoformat(instant).astimezone(zone):%Y-%m-%d %H:%M %Z}"
