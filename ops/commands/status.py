"""Commands that only read: status, explain, history, config."""

from dataclasses import asdict
from datetime import date
from typing import Annotated, Any

import typer

from ops.arguments import AnalysisDate, Json, complete_date, exit_code, read_date, reading_parts
from ops.output import dates_table, err, explanation_panel, hint, history_table, out, show_hints, show_json
from statemachine.model import DateRecord, State
from worker.date_text import explanation, standing, wall_clock
from worker.errors import CorruptRecord, Refused
from worker.observing.outbox import Untold, untold_by_date
from worker.ports import StateStore
from worker.resources import Resources
from worker.settings import load

DATES_DEFAULT = 14
REFUSED_SHOWN_MAX = 10


def status(
    analysis_date: Annotated[
        str, typer.Argument(metavar="DATE", help="One night; all recent nights without.", autocompletion=complete_date)
    ] = "",
    limit: Annotated[int, typer.Option(help="How many dates.", min=1, max=1000)] = DATES_DEFAULT,
    as_json: Json = False,
) -> None:
    """Show how dates stand. With DATE the exit code tells: 0 done or on its way, 1 failed, 2 never opened, 3 degraded.

    Examples:
      mlfs status
      mlfs status 2024-12-15 --json
    """
    day = read_date(analysis_date) if analysis_date else None
    with reading_parts() as parts:
        untold = untold_by_date(parts.store)
        if day is not None:
            raise typer.Exit(_status_of_one(parts, day, untold.get(day), as_json=as_json))
        records = [record for opened in parts.store.dates(limit) if (record := _readable(parts.store, opened))]
        refused = list(parts.store.parked(limit))
        zone = parts.settings.calendar.zone
        rows = [
            standing(record, waiting) if as_json else _row(parts, record, waiting)
            for record in records
            for waiting in (untold.get(record.analysis_date),)
        ]
    if as_json:
        show_json(rows)
        return
    if not rows:
        out.print("No date was opened yet. Start a worker, or see a whole night:")
        show_hints(hint("run"), hint("demo"))
    else:
        out.print(dates_table(rows))
    if refused:
        out.print(f"\n[yellow]refused messages: {len(refused)}[/], the newest first:")
        for parked in refused[:REFUSED_SHOWN_MAX]:
            out.print(
                f"  {parked.received_at.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}  {parked.reason}: {parked.detail}",
                markup=False,
                soft_wrap=True,
            )


def _readable(store: StateStore, day: date) -> DateRecord | None:
    """Return the record of a date; one that is damaged is reported and hides no other."""
    try:
        return store.load(day)
    except CorruptRecord as exc:
        err.print(f"[red]{exc}[/]")
        return None


def _row(parts: Resources, record: DateRecord, untold: Untold | None) -> dict[str, Any]:
    """Return the line of a date in the table; a waiting date has its completions and its deadline in the line."""
    row = standing(record, untold)
    if record.state is not State.WAITING:
        return row
    policy, zone = parts.settings.policy, parts.settings.calendar.zone
    reported = f"{len(policy.processors) - len(policy.missing(record))} of {len(policy.processors)}"
    return {**row, "waits": f"{reported}, deadline {wall_clock(record.deadline_at, parts.clock.now(), zone)}"}


def _status_of_one(parts: Resources, day: date, untold: Untold | None, *, as_json: bool) -> int:
    record = parts.store.load(day)
    if record is None:
        raise Refused(f"{day} was never opened; see the dates there are: mlfs status")
    show_json(standing(record, untold)) if as_json else out.print(dates_table([_row(parts, record, untold)]))
    return exit_code(record.state)


def explain(analysis_date: AnalysisDate, as_json: Json = False) -> None:
    """Show why a date stands as it does: what arrived, what is missing, what happens next.

    Examples:
      mlfs explain today
      mlfs explain 2024-12-15 --json
    """
    with reading_parts() as parts:
        record = parts.store.load(analysis_date)
        settings, now = parts.settings, parts.clock.now()
        untold = untold_by_date(parts.store).get(analysis_date)
    if record is None:
        raise Refused(f"{analysis_date} was never opened; see the dates there are: mlfs status")
    answer = explanation(record, now, settings.policy, settings.calendar.zone, untold)
    show_json(answer) if as_json else out.print(explanation_panel(answer, settings.calendar.zone))


def history(analysis_date: AnalysisDate, as_json: Json = False) -> None:
    """List every change of a date: when, from where to where, why, by whom.

    Examples:
      mlfs history 2024-12-15
      mlfs history 2024-12-15 --json
    """
    with reading_parts() as parts:
        entries = [asdict(entry) for entry in parts.store.history(analysis_date)]
        zone = parts.settings.calendar.zone
    if not entries:
        raise Refused(f"{analysis_date} has no history; see the dates there are: mlfs status")
    show_json(entries) if as_json else out.print(history_table(entries, zone))


def config(as_json: Json = False) -> None:
    """Show every setting as this process reads it, secrets masked; fails with all faults when one is wrong.

    Examples:
      mlfs config
      MLFS_DEADLINE=23:30 mlfs config --json
    """
    settings = load().describe()
    if as_json:
        show_json(settings)
        return
    width = max(len(name) for name in settings)
    for name, value in settings.items():
        out.print(f"{name:<{width}}  {value}", markup=False)
