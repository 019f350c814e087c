"""Commands about the generations of a date: diff, vacuum."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.console import RenderableType

from ops.arguments import AnalysisDate, Json, reading_parts
from ops.output import number, out, plain, show_json, table
from worker.builds.generations import compare_generations
from worker.builds.vacuum import vacuum as delete_rows
from worker.features.diff import ColumnDiff, GenerationDiff, LargestChange, RowDiff, describe

VALUE_FORM = ".4g"


def diff(
    analysis_date: AnalysisDate,
    generations: Annotated[
        tuple[int, int] | None, typer.Option("--generations", metavar="A B", help="Which two to compare.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what changed from one published generation of a date to another: rows, cells by column and source.

    Without --generations it compares the published generation with the one that was published before it. Times are the
    league's; UTC in JSON. Exit code 2: there are no two generations to compare; the message names those there are.

    Examples:
      mlfs diff 2024-12-15
      mlfs diff 2024-12-15 --generations 1 3
      mlfs diff 2024-12-15 --json
    """
    with reading_parts() as parts:
        found = compare_generations(parts.warehouse, analysis_date, generations)
        zone = parts.settings.calendar.zone
    show_json(describe(found)) if as_json else _show(found, zone)


def _show(found: GenerationDiff, zone: ZoneInfo) -> None:
    for name, one in (("before", found.before), ("after", found.after)):
        out.print(
            f"{name:<6}  generation {one.generation}, {one.state or '-'}, {one.row_count} rows, quality score "
            f"{number(one.quality_score)}, published {one.committed_at.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}",
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
            ", ".join(f"{_from_to(one.before, one.after)} {one.cells}" for one in column.sources),
            "\n".join(map(_largest, column.largest)),
        )
        for column in columns
    ]
    names = ("column", "cells", "by source", "largest change")
    return table(names, cells, numbers={"cells"}, texts={"by source", "largest change"})


def _from_to(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


def _largest(one: LargestChange) -> str:
    values = f"{number(one.before, VALUE_FORM)} → {number(one.after, VALUE_FORM)}"
    return f"{plain(one.label)} ({one.key}) {values}, row score {number(one.before_score)} → {number(one.after_score)}"


def vacuum(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would go, delete nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Delete rows of attempts that were never published, and of generations superseded MLFS_KEEP_GENERATIONS days ago.

    It does not ask. A worker does the same once a day. What is published stays, and so do ledger and histories.

    Examples:
      mlfs vacuum --dry-run
      mlfs vacuum --json
    """
    with reading_parts() as parts:
        keep_days = parts.settings.keep_generations
        done = delete_rows(parts.warehouse, parts.clock.now(), keep_days, dry_run=dry_run)
    if as_json:
        show_json({**asdict(done), "keep_generations": keep_days, "dry_run": dry_run})
        return
    verb = "would be deleted" if dry_run else "deleted"
    out.print(f"{done.unpublished_rows} rows of attempts that were never published: {verb}")
    if done.superseded_rows is None:
        out.print("superseded generations: all are kept (MLFS_KEEP_GENERATIONS=0)")
    else:
        out.print(f"{done.superseded_rows} rows of generations superseded {keep_days} days ago or earlier: {verb}")
