"""Difference between two published generations of an analysis date. Pure.

A single statement compares the rows and returns lines in groups (`templates/sql/diff.sql`); this module reads the
lines.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from statemachine.model import CellChange, Changes
from worker.features.findings import shown_fields
from worker.features.generations import PublishedGeneration, instant_text
from worker.features.model import Statement
from worker.features.pipeline import Entity, Pipeline

Line = Mapping[str, Any]

LARGEST_SHOWN_MAX = 3
"""Number of changes of a column, or of the whole analysis date in an outcome message, that are shown by name."""

ROWS_LISTED_MAX = 20
"""Number of added or removed rows that are shown by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePair:
    """Differing cells of a column, grouped by the source before and after.

    Attributes:
        before: `phase4`, `phase3`, `yesterday`, `missing`, or `none` where the block did not apply.
        after: The same values as *before*.
        cells: Number of cells with another value or another source.
        changed: Number of these cells with another value.
    """

    before: str
    after: str
    cells: int
    changed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LargestChange:
    """Changed cell, with the score of the row before and after."""

    key: int | str
    label: str
    before: float | None
    after: float | None
    before_source: str
    after_source: str
    before_score: float
    after_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDiff:
    """Column with differing cells.

    Attributes:
        column: Name of the column.
        cells_changed: Number of cells with another value.
        sources: Cells by source before and after.
        largest: The largest changes, largest first.
    """

    column: str
    cells_changed: int
    sources: Sequence[SourcePair]
    largest: Sequence[LargestChange]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDiff:
    """Row of a single generation, missing in the other generation."""

    key: int | str
    label: str
    quality_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationDiff:
    """Difference between two generations.

    Attributes:
        analysis_date: The analysis date.
        before: First generation.
        after: Second generation.
        rows_added: Number of rows that only `after` has.
        rows_removed: Number of rows that only `before` has.
        added: The first added rows, by key.
        removed: The first removed rows, by key.
        columns: Columns with differing cells, most changed cells first.
    """

    analysis_date: date
    before: PublishedGeneration
    after: PublishedGeneration
    rows_added: int
    rows_removed: int
    added: Sequence[RowDiff]
    removed: Sequence[RowDiff]
    columns: Sequence[ColumnDiff]

    @property
    def cells_changed(self) -> int:
        """Number of cells with another value in rows that exist in both generations."""
        return sum(column.cells_changed for column in self.columns)


def plan_diff(analysis_date: date, before: str, after: str, pipeline: Pipeline) -> Statement:
    """Plan the comparison of two builds."""
    return Statement(
        name="diff",
        sql=pipeline.text("diff"),
        parameters={
            "analysis_date": analysis_date,
            "before_build": before,
            "after_build": after,
            "largest_max": ROWS_LISTED_MAX,
        },
    )


def read_diff(
    analysis_date: date,
    before: PublishedGeneration,
    after: PublishedGeneration,
    lines: Sequence[Line],
    entity: Entity,
) -> GenerationDiff:
    """Read the answer to the statement `diff`."""
    columns = [_read_column(name, lines, entity) for name in dict.fromkeys(_features(lines))]
    added, removed = (list(_read_rows(what, side, lines, entity)) for what, side in _SIDES)
    return GenerationDiff(
        analysis_date=analysis_date,
        before=before,
        after=after,
        rows_added=_count("added", lines),
        rows_removed=_count("removed", lines),
        added=added,
        removed=removed,
        columns=sorted(columns, key=lambda column: (-column.cells_changed, column.column)),
    )


_SIDES = (("added", "after"), ("removed", "before"))


def _features(lines: Sequence[Line]) -> Iterator[str]:
    return (line["feature"] for line in lines if line["what"] == "cell")


def _count(what: str, lines: Sequence[Line]) -> int:
    return next((line["cells"] for line in lines if line["what"] == what), 0)


def _read_rows(what: str, side: str, lines: Sequence[Line], entity: Entity) -> Iterator[RowDiff]:
    for line in lines:
        if line["what"] == what:
            score = line[f"{side}_score"]
            yield RowDiff(key=line[entity.key], label=str(line[entity.label]), quality_score=score)


def _read_column(name: str, lines: Sequence[Line], entity: Entity) -> ColumnDiff:
    own = [line for line in lines if line["feature"] == name]
    groups = {(line["before_source"], line["after_source"]): line for line in own}
    pairs = [
        SourcePair(before=before, after=after, cells=line["cells"], changed=line["changed"])
        for (before, after), line in groups.items()
    ]
    largest = sorted((line for line in own if line["differs"]), key=lambda line: (-line["size"], line[entity.key]))
    return ColumnDiff(
        column=name,
        cells_changed=sum(pair.changed for pair in pairs),
        sources=pairs,
        largest=[_read_cell(line, entity) for line in largest[:LARGEST_SHOWN_MAX]],
    )


def _read_cell(line: Line, entity: Entity) -> LargestChange:
    return LargestChange(
        key=line[entity.key],
        label=str(line[entity.label]),
        before=line["before_value"],
        after=line["after_value"],
        before_source=line["before_source"],
        after_source=line["after_source"],
        before_score=line["before_score"],
        after_score=line["after_score"],
    )


def describe(found: GenerationDiff) -> dict[str, Any]:
    """Return a diff in the JSON form for scripts and HTTP."""
    return {
        "analysis_date": found.analysis_date.isoformat(),
        "before": _described(found.before),
        "after": _described(found.after),
        "rows_added": found.rows_added,
        "rows_removed": found.rows_removed,
        "cells_changed": found.cells_changed,
        "added": [asdict(row) for row in found.added],
        "removed": [asdict(row) for row in found.removed],
        "columns": [asdict(column) for column in found.columns],
    }


def _described(published: PublishedGeneration) -> dict[str, Any]:
    return {
        "generation": published.generation,
        "build_id": published.build_id,
        "published_at": instant_text(published.committed_at),
        "state": published.state,
        "quality_score": published.quality_score,
        "findings": None if published.findings is None else [shown_fields(found) for found in published.findings],
        "row_count": published.row_count,
    }


def read_changes(from_generation: int, lines: Sequence[Line], entity: Entity) -> Changes:
    """Return the short form of a diff for an outcome message, from the answer to the statement `diff`.

    Columns have different units, so the size of a change is relative to the mean size of the changes in the column.
    """
    groups = {(line["feature"], line["before_source"], line["after_source"]): line for line in lines}
    cells = [line for line in lines if line["what"] == "cell" and line["differs"]]
    cells.sort(key=lambda line: (-_weight(line), line["feature"], line[entity.key]))
    return Changes(
        from_generation=from_generation,
        rows_added=_count("added", lines),
        rows_removed=_count("removed", lines),
        cells_changed=sum(line["changed"] for line in groups.values() if line["what"] == "cell"),
        largest=tuple(
            CellChange(
                column=line["feature"],
                key=line[entity.key],
                label=str(line[entity.label]),
                before=line["before_value"],
                after=line["after_value"],
            )
            for line in cells[:LARGEST_SHOWN_MAX]
        ),
    )


def _weight(line: Line) -> float:
    return float(line["size"] / line["typical"]) if line["typical"] else 0.0
