"""`mlfs trend`, `mlfs reliability` and `mlfs durations`: the weekly review of the pipeline document."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from ops.arguments import Json, read_date, reading_resources
from ops.output import counted, err, findings_short, number, out, plain, show_json, state_text, table
from ops.reports.sources import ReportedDate, ReportReader, read_nights
from ops.reports.weekly_figures import TREND_DAYS_MIN, durations_of, reliability_of, slope
from statemachine.model import State
from worker.errors import Unavailable
from worker.finding_text import as_json

DAYS_DEFAULT, DAYS_MAX = 14, 366
BAR_COLUMNS = 20
# Below these widths a table shows fewer columns, so that the cells stay whole.
TREND_COLUMNS = 74
RELIABILITY_COLUMNS = 116
TROUBLES = ("failed", "late", "missing", "event lost", "empty")
IN_WORDS = "how often, on which days"
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# Source: the weekly review of the pipeline document: investigate days below 80, optimize above 25 minutes.
SCORE_LOW = 80.0
TREND_FIGURES = ("generation", "row_count", "quality_score", "fallback_rate", "missing_rate")
MINUTES_HIGH = 25.0

Days = Annotated[int, typer.Option(min=1, max=DAYS_MAX, help="Number of dates.")]
Last = Annotated[
    date | None, typer.Option("--to", parser=read_date, metavar="DATE", help="The last date; default: tonight.")
]


def trend(days: Days = DAYS_DEFAULT, last: Last = None, as_json: Json = False) -> None:
    """Show score, fallback rate, rows and findings of each analysis date, and the trend of the score.

    Examples:
      mlfs trend
      mlfs trend --days 7 --to 2024-12-15
      mlfs trend --days 30 --json
    """
    nights, reader = nights_of(days, last, with_history=False)
    rows = [_trend_row(night) for night in nights]
    scores = [row["quality_score"] for row in rows if row["quality_score"] is not None]
    answer = {
        "days": rows,
        "score_change_per_night": slope(scores),
        "fallback_change_per_night": slope([r["fallback_rate"] for r in rows if r["fallback_rate"] is not None]),
        "below_80": [row["analysis_date"] for row in rows if (row["quality_score"] or SCORE_LOW) < SCORE_LOW],
        "failed": [row["analysis_date"] for row in rows if row["state"] == State.FAILED],
        "never_opened": [row["analysis_date"] for row in rows if row["state"] is None and row["over"]],
        "not_read": reader.not_read,
    }
    if as_json:
        show_json(answer)
        return
    _show_trend(answer)
    show_not_read(reader)


def _trend_row(night: ReportedDate) -> dict[str, Any]:
    figures = {name: night.figure(name) for name in TREND_FIGURES}
    told = {"findings": as_json(night.findings)}
    return {"analysis_date": night.analysis_date.isoformat(), "state": night.state, "over": night.over} | figures | told


def _show_trend(answer: Mapping[str, Any]) -> None:
    out.print(trend_screen(answer["days"]))
    change = answer["score_change_per_night"]
    if change is None:
        out.print(f"no trend from fewer than {TREND_DAYS_MIN} scores")
    else:
        out.print(f"score {change:+.2f} points a night, fallback {answer['fallback_change_per_night']:+.2%} a night")
    kinds = {
        f"below {SCORE_LOW:g}, look into them with mlfs incident": answer["below_80"],
        "failed, nothing new was published": answer["failed"],
        "never opened, no worker ran": answer["never_opened"],
    }
    for kind, days in kinds.items():
        if days:
            out.print(f"{kind}: {', '.join(days)}", soft_wrap=True)


def _state(row: Mapping[str, Any]) -> str:
    if row["state"]:
        return state_text(row["state"])
    return "[red]never opened[/]" if row["over"] else "[dim]not opened yet[/]"


def trend_screen(days: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return nights one below the other; on a narrow screen without the bars."""
    cells = []
    for row in days:
        score = row["quality_score"]
        filled = 0 if score is None else round(BAR_COLUMNS * score / 100)
        colour = "red" if score is None or score < SCORE_LOW else "green"
        cells.append(
            (
                row["analysis_date"],
                _state(row),
                number(row["row_count"], "d"),
                f"[{colour}]{number(score)}[/]",
                f"[{colour}]{'█' * filled}[/][dim]{'░' * (BAR_COLUMNS - filled)}[/]",
                number(row["fallback_rate"], ".1%"),
                "-" if score is None else findings_short(row),
            )
        )
    names = ("date", "state", "rows", "score", "", "fallback", "findings")
    numbers = {"rows", "score", "fallback"}
    return table(names, cells, numbers=numbers, texts={"findings"}, wide={""}, wide_from=TREND_COLUMNS)


def reliability(days: Days = DAYS_DEFAULT, last: Last = None, as_json: Json = False) -> None:
    """Show for each processor how often the processor failed, was late or missing, by day of the week.

    Examples:
      mlfs reliability
      mlfs reliability --days 60 --json
    """
    nights, reader = nights_of(days, last, with_history=True)
    answer = {**reliability_of(nights), "not_read": reader.not_read}
    if as_json:
        show_json(answer)
        return
    out.print(f"{counted(answer['nights'], 'night')} that {'is' if answer['nights'] == 1 else 'are'} over")
    out.print(reliability_table(answer["processors"]))
    if answer["worst"]:
        out.print(f"most trouble: {answer['worst']}; its nights: mlfs reliability --json")
    show_not_read(reader)


def reliability_table(processors: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return the trouble of each processor; on a narrow screen in words, without what did not happen."""
    cells = []
    for row in processors:
        counts = {name: row[name.replace(" ", "_")] for name in TROUBLES}
        by_weekday = {name: row["by_weekday"].get(name, 0) for name in WEEKDAYS}
        told = [f"{name} {count}" for name, count in (counts | by_weekday).items() if count]
        cells.append(
            (
                row["processor"],
                *(str(count) for count in counts.values()),
                str(row["troubled"]),
                *(str(count or "·") for count in by_weekday.values()),
                ", ".join(told) or "-",
            )
        )
    wide = {*TROUBLES, *WEEKDAYS}
    return table(
        ("processor", *TROUBLES, "troubled", *WEEKDAYS, IN_WORDS),
        cells,
        numbers={*wide, "troubled"},
        texts={IN_WORDS},
        wide=wide,
        narrow={IN_WORDS},
        wide_from=RELIABILITY_COLUMNS,
    )


def durations(days: Days = DAYS_DEFAULT, last: Last = None, as_json: Json = False) -> None:
    """Show the duration of builds: all attempts in the execution log, and phases from the history in the store.

    Examples:
      mlfs durations
      mlfs durations --days 30 --json
    """
    with reading_resources() as parts:
        reader = ReportReader(parts)
        until = last or parts.settings.calendar.tonight(parts.clock.now())
        nights = read_nights(parts, reader, until, days, with_history=True)
        first = until - timedelta(days=days - 1)
        attempts = reader.ask("report_attempts", first_date=first, last_date=until)
    if attempts is None:
        raise Unavailable(f"durations are read from the execution log. {'; '.join(reader.not_read)}")
    answer = durations_of(attempts, nights)
    answer["over_25_minutes"] = [row for row in answer["attempts"] if row["seconds"] > MINUTES_HIGH * 60]
    if as_json:
        show_json(answer)
        return
    _show_durations(answer, days)


def _show_durations(answer: Mapping[str, Any], days: int) -> None:
    if not answer["attempts"]:
        out.print(f"no build of these {days} dates")
        return
    spans = ("p50", "p95", "max")
    phases = [(row["phase"], str(row["times"]), *(f"{row[name]:.2f} s" for name in spans)) for row in answer["phases"]]
    out.print(table(("phase", "times", *spans), phases, numbers={"times", *spans}))
    by_date = [
        (
            row["analysis_date"],
            str(row["attempts"]),
            str(row["published"]),
            f"{row['longest_seconds']:.2f} s",
            number(row["row_count"], "d"),
        )
        for row in answer["days"]
    ]
    heads = ("attempts", "published", "longest", "rows")
    out.print(table(("date", *heads), by_date, numbers=heads))
    if answer["rows_correlation"] is not None:
        out.print(f"correlation of rows and seconds: {answer['rows_correlation']:+.2f}")
    slow = {row["analysis_date"] for row in answer["over_25_minutes"]}
    if slow:
        out.print(f"[red]over {MINUTES_HIGH:g} minutes[/], optimize: {', '.join(sorted(slow))}")


def nights_of(days: int, last: date | None, *, with_history: bool) -> tuple[Sequence[ReportedDate], ReportReader]:
    """Return the nights of a report, oldest first, and the reader with the failed reads."""
    with reading_resources() as parts:
        reader = ReportReader(parts)
        until = last or parts.settings.calendar.tonight(parts.clock.now())
        return read_nights(parts, reader, until, days, with_history=with_history), reader


def show_not_read(reader: ReportReader) -> None:
    """Print on standard error that the report uses the store alone, with the failed reads."""
    if reader.not_read:
        err.print("[yellow]from the state store alone;[/] not read:", plain("; ".join(reader.not_read)), soft_wrap=True)
