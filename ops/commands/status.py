"""`mlfs status`, `mlfs explain`, `mlfs history`, `mlfs config`: read the state store and the settings.

The commands store no change and create no file.
"""

from dataclasses import asdict
from datetime import date
from functools import partial
from typing import Annotated, Any

import typer

from ops.arguments import AnalysisDate, Json, date_or, exit_code, reading_resources
from ops.output import (
    dates_table,
    err,
    explanation_panel,
    hint,
    history_table,
    list_findings,
    out,
    show_hints,
    show_json,
)
from statemachine.model import DateRecord, State
from worker.date_text import explanation, reported, standing, wall_clock
from worker.errors import CorruptRecord, Refused
from worker.observing.outbox import Untold, untold_by_date
from worker.ports import StateStore
from worker.resources import Resources
from worker.settings import load

DATES_DEFAULT = 14
REFUSED_SHOWN_MAX = 10


def status(
    analysis_date: Annotated[date | None, date_or("Without DATE: the latest dates.")] = None,
    limit: Annotated[int, typer.Option(help="Largest number of dates.", min=1, max=1000)] = DATES_DEFAULT,
    as_json: Json = False,
) -> None:
    """Show the state of the latest dates, or of one date.

    Exit codes with DATE: 0 done or on the way, 1 failed, 2 never opened, 3 degraded.

    Examples:
      mlfs status
      mlfs status 2024-12-15 --json
    """
    with reading_resources() as resources:
        untold = untold_by_date(resources.store)
        if analysis_date is not None:
            raise typer.Exit(_status_of_one(resources, analysis_date, untold.get(analysis_date), as_json=as_json))
        records = [record for opened in resources.store.dates(limit) if (record := _readable(resources.store, opened))]
        refused = list(resources.store.parked(limit))
        zone = resources.settings.calendar.zone
        show = standing if as_json else partial(_row, resources)
        rows = [show(record, untold.get(record.analysis_date)) for record in records]
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
    """Return the record of a date; print a damaged record on standard error and return None."""
    try:
        return store.load(day)
    except CorruptRecord as exc:
        err.print(f"[red]{exc}[/]")
        return None


def _row(resources: Resources, record: DateRecord, untold: Untold | None) -> dict[str, Any]:
    """Return the table row of a date; the row of a waiting date holds the number of completions and the deadline."""
    row = standing(record, untold)
    if record.state is not State.WAITING:
        return row
    policy, zone = resources.settings.policy, resources.settings.calendar.zone
    return {
        **row,
        "waits": f"{reported(record, policy)}, deadline {wall_clock(record.deadline_at, resources.clock.now(), zone)}",
    }


def _load(resources: Resources, day: date) -> DateRecord:
    if (record := resources.store.load(day)) is None:
        raise Refused(f"{day} was never opened; for the opened dates: mlfs status")
    return record


def _status_of_one(resources: Resources, day: date, untold: Untold | None, *, as_json: bool) -> int:
    record = _load(resources, day)
    row = _row(resources, record, untold)
    if as_json:
        show_json(standing(record, untold))
    else:
        out.print(dates_table([row]))
        list_findings(row)
    return exit_code(record.state)


def explain(analysis_date: AnalysisDate, as_json: Json = False) -> None:
    """Explain the state of a date: the completions, the missing processors, the next step.

    While a missing processor may still come, the sentence of `mlfs outlook` follows, after a dry run of the build.

    Examples:
      mlfs explain today
      mlfs explain 2024-12-15 --json
    """
    from ops.commands.outlook import outlook_sentence, progress_printer

    with reading_resources() as resources:
        record = _load(resources, analysis_date)
        settings, now = resources.settings, resources.clock.now()
        untold = untold_by_date(resources.store).get(analysis_date)
        foresight = outlook_sentence(resources, record, progress_printer(as_json=as_json))
    answer = explanation(record, now, settings.policy, settings.calendar.zone, untold) | {"outlook": foresight}
    if as_json:
        show_json(answer)
        return
    out.print(explanation_panel(answer, settings.calendar.zone))
    list_findings(answer)


def history(analysis_date: AnalysisDate, as_json: Json = False) -> None:
    """List every change of a date: time, old and new state, reason, and the person or worker.

    Examples:
      mlfs history 2024-12-15
      mlfs history 2024-12-15 --json
    """
    with reading_resources() as resources:
        entries = [asdict(entry) for entry in resources.store.history(analysis_date)]
        zone = resources.settings.calendar.zone
    if not entries:
        raise Refused(f"{analysis_date} has no history; for the opened dates: mlfs status")
    show_json(entries) if as_json else out.print(history_table(entries, zone))


def config(as_json: Json = False) -> None:
    """Show every setting of this process, with secrets masked; list all faults of wrong settings.

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
