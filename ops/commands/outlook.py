"""`mlfs outlook`: when each missing processor comes, and the score now and with each missing table.

Reads the store, the arrivals of earlier nights, and the tables of the night by a dry run; stores no change.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, astuple
from datetime import date
from typing import Annotated

import typer

from ops.arguments import EXIT_DEGRADED, Json, date_or, read_date, reading_resources
from ops.output import err, list_findings, out, plain, show_json, state_text, table
from statemachine.model import DateRecord
from worker.builds.upstream import read_game_days
from worker.errors import PipelineError, Refused
from worker.foresight.outlook import Stage, foresee, stage_of
from worker.foresight.outlook_text import DateOutlook, describe, rows_of, unopened
from worker.foresight.reading import arrivals_before
from worker.foresight.scores import read_scores
from worker.resources import Resources

NOT_WANTED = "no dry run was wanted (--no-score)"

COLUMNS = ("missing", "by the deadline", "by the cutoff", "half by", "90 % by", "rests on", "rows now", "score with")

Progress = Callable[[str], None]


def outlook(
    analysis_date: Annotated[date | None, date_or("Without DATE: tonight.")] = None,
    no_score: Annotated[
        bool, typer.Option("--no-score", help="Leave the scores out: no dry run, no cost of a build.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show when each missing processor comes, by earlier nights, and the score now and with each missing table.

    A chance is the share of comparable nights: earlier nights on which the processor had not come by this time either,
    of the same weekday if ten such nights are left. The interval is Wilson's of 95 %. Fewer than ten nights give no
    chance. The score now is the score of a dry run: a whole build without publication, which BigQuery bills.

    Exit codes: 0 shown, 2 never opened, 3 shown without the wanted scores, 4 the store or the warehouse is away.

    Examples:
      mlfs outlook
      mlfs outlook 2024-12-15 --no-score
      mlfs outlook tonight --json
    """
    day = analysis_date or read_date("tonight")
    with reading_resources() as resources:
        record = resources.store.load(day)
        if record is None:
            raise Refused(_unopened(resources, day))
        found = read_outlook(resources, record, None if no_score else progress_printer(as_json=as_json))
        zone = resources.settings.calendar.zone
    if as_json:
        show_json(asdict(found))
    else:
        out.print(f"{found.weekday} {found.analysis_date}  {state_text(found.state)}")
        out.print(plain(found.sentence), soft_wrap=True)
        if found.processors:
            rows = [tuple(plain(cell) for cell in astuple(row)) for row in rows_of(found, zone)]
            out.print(table(COLUMNS, rows, numbers={"rows now", "score with"}, texts={"rests on"}, wide={"90 % by"}))
        if found.scores is not None:
            list_findings(asdict(found.scores))
            out.print(f"[dim]{found.assumption}[/]", soft_wrap=True)
    if found.scores_absent is not None and not no_score:
        raise typer.Exit(EXIT_DEGRADED)


def progress_printer(*, as_json: bool) -> Progress:
    """Return the function that prints the steps of a dry run on a terminal, and no step into a pipe or for scripts."""
    shown = err.is_terminal and not as_json
    return (lambda step: err.print(f"[dim]{step}[/]")) if shown else (lambda _step: None)


def read_outlook(resources: Resources, record: DateRecord, progress: Progress | None) -> DateOutlook:
    """Read the outlook of an analysis date; only an open date opens the warehouse.

    An error of the dry run leaves the scores out, and the outlook names the error.

    Args:
        resources: Resources of a reader.
        record: Record of the analysis date.
        progress: Called after each step of the dry run; None for no dry run.

    Raises:
        PipelineError: The arrivals of earlier nights cannot be read.
    """
    settings, clock = resources.settings, resources.clock
    policy, zone = settings.policy, settings.calendar.zone
    if stage_of(record, clock.now(), policy) is not Stage.OPEN:
        return describe(foresee(record, (), clock.now(), policy), None, "", zone)
    arrivals = arrivals_before(resources.warehouse, record.analysis_date)
    scores, why = None, NOT_WANTED
    if progress is not None:
        try:
            scores = read_scores(
                resources.warehouse,
                record,
                policy.missing(record),
                now=clock.now,
                lookback_days=settings.phase3_lookback_days,
                progress=progress,
            )
        except PipelineError as exc:
            why = str(exc)
    return describe(foresee(record, arrivals, clock.now(), policy), scores, why, zone)


def outlook_sentence(resources: Resources, record: DateRecord, progress: Progress) -> str | None:
    """Return the sentence of the outlook, or why there is no outlook; None for a date that is not open."""
    if stage_of(record, resources.clock.now(), resources.settings.policy) is not Stage.OPEN:
        return None
    try:
        return read_outlook(resources, record, progress).sentence
    except PipelineError as exc:
        return f"No outlook: {exc}"


def _unopened(resources: Resources, day: date) -> str:
    calendar, now = resources.settings.calendar, resources.clock.now()
    # Without the schedule the season decides whether a date is expected.
    with suppress(PipelineError):
        calendar = calendar.with_games(read_game_days(resources.warehouse, calendar, day))
    return unopened(day, calendar, now)
