"""Usable upstream tables and columns: compare the found columns with the catalogue, and name each fault. Pure.

Model: a build reads through `Unusable`. A table that is gone, denied or retyped counts as empty, a column counts as
NULL in every row, and a column of another type that holds the same values is cast. Without the columns that find and
order the rows (date, key, `processed_at`; the games of the schedule), a table is unusable as a whole: rows without a
key join no entity, and of several rows for a key only `processed_at` shows the newest.

Names of columns are compared without case, because BigQuery and DuckDB do the same.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches

from statemachine.model import BuildMode
from worker.features.model import BuildRequest, UpstreamFault
from worker.features.pipeline import PHASE4_DATE, PROCESSED, Pipeline
from worker.features.sql import Unusable

ABSENT = "does not exist"
"""Text of the fault of a missing table."""

ALL_NULL = frozenset({"NULL", '"NULL"'})
"""DuckDB's names of the type of a column without any value."""

ACCEPTED_TYPES: Mapping[str, frozenset[str]] = {
    "FLOAT64": frozenset({"FLOAT64", "INT64", "NUMERIC", "BIGNUMERIC", *ALL_NULL}),
    "INT64": frozenset({"INT64", "NUMERIC", "BIGNUMERIC", *ALL_NULL}),
    # An instant without a zone is read as UTC. DuckDB's names are those of files of pandas.
    "TIMESTAMP": frozenset(
        {"TIMESTAMP", "DATETIME", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMPTZ_NS", *ALL_NULL}
    ),
    **{kind: frozenset({kind, *ALL_NULL}) for kind in ("STRING", "BOOL", "DATE")},
}
"""Types that hold the same values, by wanted type. A number with a fraction is no INT64 and reads as NULL."""

ALIKE_MIN = 0.75
"""Similarity from which a column may be the renamed column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usable:
    """Result of a comparison of upstream tables with the catalogue.

    Attributes:
        faults: Unusable tables and columns.
        casts: (table, column) of each column with another type that holds the same values.
    """

    faults: tuple[UpstreamFault, ...] = ()
    casts: frozenset[tuple[str, str]] = frozenset()

    @property
    def without(self) -> Unusable:
        """Return the tables and columns that a statement replaces by typed NULLs or casts."""
        return Unusable(
            tables=frozenset(fault.table for fault in self.faults if not fault.column),
            columns=frozenset((fault.table, fault.column) for fault in self.faults if fault.column),
            casts=self.casts,
        )

    def also(self, faults: Iterable[UpstreamFault]) -> "Usable":
        """Return the result with further faults; a fault of a whole table replaces faults of columns of the table."""
        every = (*self.faults, *faults)
        gone = {fault.table for fault in every if not fault.column}
        kept = {(fault.table, fault.column): fault for fault in every if not fault.column or fault.table not in gone}
        return replace(self, faults=tuple(kept.values()))


def compare(pipeline: Pipeline, found: Mapping[str, Mapping[str, str]]) -> Usable:
    """Compare the columns of upstream tables with the catalogue.

    Args:
        pipeline: Pipeline of the tables.
        found: {table: {column: BigQuery type}} of the compared tables; no columns for a missing table.
    """
    faults: list[UpstreamFault] = []
    casts: set[tuple[str, str]] = set()
    readable = pipeline.readable
    for table, columns in found.items():
        essential = essential_columns(pipeline, table)
        listed = pipeline.upstream_tables[table].columns
        drifted = find_drift(table, readable[table], columns, listed)
        faults += [_whole_table(fault) if fault.column in essential else fault for fault in drifted]
        casts |= {(table, name) for name in _other_types(readable[table], listed, columns)}
    usable = Usable().also(faults)
    broken = usable.without
    return replace(
        usable,
        casts=frozenset(cast for cast in casts if cast not in broken.columns and cast[0] not in broken.tables),
    )


def _other_types(
    wanted_columns: Mapping[str, str], listed: Mapping[str, str], columns: Mapping[str, str]
) -> Iterator[str]:
    """Yield the columns whose type is neither the read type nor the listed type."""
    types = {name.casefold(): kind for name, kind in columns.items()}
    for name, wanted in wanted_columns.items():
        kind = types.get(name.casefold(), wanted)
        if kind not in {wanted, listed.get(name)}:
            yield name


def _whole_table(fault: UpstreamFault) -> UpstreamFault:
    """Return the fault of a table whose rows cannot be found or ordered without the column."""
    said = fault.text.removeprefix(fault.table).removeprefix(".").strip()
    use = "ordered" if fault.column == PROCESSED else "found"
    return UpstreamFault(
        table=fault.table, found=f"is unusable: {said}, and no row can be {use} without {fault.column}"
    )


def find_drift(
    table: str, wanted_columns: Mapping[str, str], actual: Mapping[str, str], listed: Collection[str] = ()
) -> tuple[UpstreamFault, ...]:
    """Return the differences between an upstream table and the catalogue; empty for a usable table.

    Args:
        table: Name of the table, `dataset.table`.
        wanted_columns: Columns read by a build, in the same form as *actual*.
        actual: Columns of the table as {name: BigQuery type}; empty for a missing table.
        listed: Further columns of the catalogue; none of these is the new name of a missing column.
    """
    if not actual:
        return (UpstreamFault(table=table, found=ABSENT),)
    types = {name.casefold(): kind for name, kind in actual.items()}
    faults = []
    for column, wanted in wanted_columns.items():
        kind = types.get(column.casefold())
        if kind is None:
            found = f"absent{_renamed(column, {*wanted_columns, *listed}, actual)}"
            faults.append(UpstreamFault(table=table, column=column, wanted=wanted, found=found))
        elif kind not in ACCEPTED_TYPES.get(wanted, {wanted}):
            faults.append(UpstreamFault(table=table, column=column, wanted=wanted, found=kind))
    return tuple(faults)


def _renamed(column: str, described: Collection[str], actual: Collection[str]) -> str:
    """Return a hint at the column that may be the missing column under another name; empty without such a column."""
    known = {name.casefold() for name in described}
    others = [name for name in actual if name.casefold() not in known]
    alike = get_close_matches(column, others, n=1, cutoff=ALIKE_MIN)
    return f"; {alike[0]} is there" if alike else ""


def essential_columns(pipeline: Pipeline, table: str) -> frozenset[str]:
    """Return the columns without which no row of the table can be found or ordered."""
    if table in pipeline.references:
        return frozenset(pipeline.references[table])
    columns = {PROCESSED}
    if table == pipeline.entity.roster:
        key = next(column for column in pipeline.listed if column.name == pipeline.entity.key)
        columns |= {pipeline.upstream_tables[table].date, *key.columns}
    if pipeline.schedule is not None and table == pipeline.schedule.table:
        columns |= {pipeline.upstream_tables[table].date, pipeline.schedule.game, *pipeline.schedule.sides}
    for phase3 in pipeline.phase3_tables:
        if phase3.name == table:
            columns |= {phase3.date, phase3.key}
    for block in pipeline.blocks:
        if block.table == table:
            columns |= {PHASE4_DATE, block.key}
    return frozenset(columns)


def tables_read(request: BuildRequest, pipeline: Pipeline) -> tuple[str, ...]:
    """Return the upstream tables that a build reads: no table for a copy, no Phase 4 table for a forced fallback."""
    if request.mode is BuildMode.YESTERDAY:
        return ()
    other = {pipeline.entity.roster, *(table.name for table in pipeline.phase3_tables)}
    other |= {block.table for block in pipeline.blocks if request.reads(block.processor)}
    if pipeline.schedule is not None:
        other.add(pipeline.schedule.table)
    passed_over = {block.table for block in pipeline.blocks} - other
    return tuple(table for table in pipeline.upstream if table not in passed_over)
