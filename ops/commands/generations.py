"""`mlfs diff` and `mlfs vacuum`: compare two published generations of a date, delete unused rows.

Both read and delete in the warehouse alone. A vacuum deletes in single statements; after a crash the next vacuum
deletes the rest.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.console import RenderableType

from ops.arguments import AnalysisDate, Json, reading_resources
from ops.output import number, out, plain, show_json, table
from worker.builds.generations import compare_generations
from worker.builds.vacuum import vacuum as delete_rows
from worker.features.diff import ColumnDiff, GenerationDiff, LargestChange, RowDiff, describe
from worker.finding_text import short

VALUE_FORM = ".4g"


def diff(
    analysis_date: AnalysisDate,
    generations: Annotated[
        tuple[int, int] | None, typer.Option("--generations", metavar="A B", help="Two generations to compare.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the changes between two published generations of a date: rows, and cells by column and source.

    Without --generations the command compares the published generation with the generation published before. Times are
    in the league's zone, in JSON in UTC. Exit code 2: the date has no two such generations; the message names the
    existing generations.

    Examples:
      mlfs diff 2024-12-15
      mlfs diff 2024-12-15 --generations 1 3
      mlfs diff 2024-12-15 --json
    """
    with reading_resources() as resources:
        found = compare_generations(resources.warehouse, analysis_date, generations)
        zone = resources.settings.calendar.zone
    show_json(describe(found)) if as_json else _show(found, zone)


def _show(found: GenerationDiff, zone: ZoneInfo) -> None:
    for name, build in (("before", found.before), ("after", found.after)):
        out.print(
            f"{name:<6}  generation {build.generation}, {build.state or '-'}, {build.row_count} rows, quality score "
            f"{number(build.quality_score)}, {short(build.findings)}, "
            f"published {build.committed_at.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}",
            soft_wrap=True,
        )
    out.print(
        f"rows added {found.rows_added}, removed {found.rows_removed}; cells changed {found.cells_changed}",
        soft_wrap=True,
    )
    for sign, rows, count in (("+", found.added, found.rows_added), ("-", found.removed, found.rows_removed)):
        _show_rows(sign, rows, count)
    if found.columns:
        out.print(_columns_table(found.columns))


def _show_rows(sign: str, rows: Sequence[RowDiff], count: int) -> None:
    for row in rows:
        out.print(f"{sign} {plain(row.label)} ({row.key}), row score {number(row.quality_score)}", soft_wrap=True)
    if count > len(rows):
        out.print(f"{sign} … and {count - len(rows)} more")


def _columns_table(columns: Sequence[ColumnDiff]) -> RenderableType:
    cells = [
        (
            column.column,
            str(column.cells_changed),
            ", ".join(f"{_from_to(source.before, source.after)} {source.cells}" for source in column.sources),
            "\n".join(map(_largest, column.largest)),
        )
        for column in columns
    ]
    names = ("column", "cells", "by source", "largest change")
    return table(names, cells, numbers={"cells"}, texts={"by source", "largest change"})


def _from_to(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


def _largest(change: LargestChange) -> str:
    values = f"{number(change.before, VALUE_FORM)} → {number(change.after, VALUE_FORM)}"
    scores = f"{number(change.before_score)} → {number(change.after_score)}"
    return f"{plain(change.label)} ({change.key}) {values}, row score {scores}"


def vacuum(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the rows; delete no row.")] = False,
    as_json: Json = False,
) -> None:
    """Delete the rows of unpublished attempts, and of generations superseded MLFS_KEEP_GENERATIONS days ago.

    The command asks no question; a worker does the same once a day. Published rows, the ledger and the histories stay.

    Examples:
      mlfs vacuum --dry-run
      mlfs vacuum --json
    """
    with reading_resources() as resources:
        keep_days = resources.settings.keep_generations
        done = delete_rows(resources.warehouse, resources.clock.now(), keep_days, dry_run=dry_run)
    if as_json:
        show_json({**asdict(done), "keep_generations": keep_days, "dry_run": dry_run})
        return
    verb = "would be deleted" if dry_run else "deleted"
    out.print(f"{done.unpublished_rows} rows of attempts that were never published: {verb}")
    if done.superseded_rows is None:
        out.print("superseded generations: all are kept (MLFS_KEEP_GENERATIONS=0)")
    else:
        out.print(f"{done.superseded_rows} rows of generations superseded {keep_days} days ago or earlier: {verb}")
