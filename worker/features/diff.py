"""What differs between two published generations of a date. Pure.

One statement compares the rows and answers with lines in groups (`templates/sql/diff.sql`); this module reads them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from statemachine.model import CellChange, Changes
from worker.features.generations import PublishedGeneration, instant_text
from worker.features.model import Statement
from worker.features.pipeline import Entity, Pipeline

Line = Mapping[str, Any]

LARGEST_SHOWN_MAX = 3
"""Changes of a column, or of the whole night in an outcome message, that are shown by name."""

ROWS_LISTED_MAX = 20
"""Rows added or removed that are shown by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePair:
    """Cells of one column whose source was one and is another, or the same.

    Attributes:
        before: `phase4`, `phase3`, `yesterday`, `missing`, or `none` where the block did not apply.
        after: Likewise.
        cells: Cells whose value or source differs.
        changed: Those of them whose value differs.
    """

    before: str
    after: str
    cells: int
    changed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LargestChange:
    """One cell that changed, and what the row was worth before and after."""

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
    """One column in which cells differ.

    Attributes:
        column: Its name.
        cells_changed: Cells whose value differs.
        sources: By source before and after.
        largest: The largest changes, largest first.
    """

    column: str
    cells_changed: int
    sources: Sequence[SourcePair]
    largest: Sequence[LargestChange]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDiff:
    """A row that only one of the generations has."""

    key: int | str
    label: str
    quality_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationDiff:
    """Everything that differs.

    Attributes:
        analysis_date: The date.
        before: The one generation.
        after: The other one.
        rows_added: Rows that only `after` has.
        rows_removed: Rows that only `before` has.
        added: The first of them, by key.
        removed: The first of them, by key.
        columns: Columns in which cells differ, the one with the most changed cells first.
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
        """Cells of rows that both have, whose value differs."""
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
    """Return a diff as scripts and callers over HTTP read it."""
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


def _described(one: PublishedGeneration) -> dict[str, Any]:
    return {
        "generation": one.generation,
        "build_id": one.build_id,
        "published_at": instant_text(one.committed_at),
        "state": one.state,
        "quality_score": one.quality_score,
        "row_count": one.row_count,
    }


def read_changes(from_generation: int, lines: Sequence[Line], entity: Entity) -> Changes:
    """Read the answer to the statement `diff` in short, for an outcome message.

    Columns have different units: a change is as large as it is beside the mean size of its column's differing cells.
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
