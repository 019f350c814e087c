"""Checks of a pipeline's definition without the rendered SQL. Pure functions; every fault is reported at once."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

from worker.features.pipeline import PHASE4_DATE, Feature, Pipeline
from worker.features.quality import COMPONENTS, QualityPolicy, Severity
from worker.features.usable import ACCEPTED_TYPES

POINTS_IN_ALL = 100

NUMBERS = frozenset({"FLOAT64", "INT64", "NUMERIC"})
"""Types of a feature that may have a range."""


def find_faults(pipeline: Pipeline) -> list[str]:
    """Return a sentence fragment for each fault, in the words of the file; empty for a sound definition."""
    found = [
        *_repeated(pipeline),
        *_block_faults(pipeline),
        *_feature_faults(pipeline),
        *_entity_faults(pipeline),
        *_schedule_faults(pipeline),
        *_table_faults(pipeline),
        *_view_faults(pipeline),
    ]
    # Faults of types are reported only if the names fit together.
    return [*found, *([] if found else _type_faults(pipeline)), *_quality_faults(pipeline.quality)]


def _repeated(pipeline: Pipeline) -> Iterator[str]:
    features = [feature.name for feature in pipeline.features]
    others = Counter(column.name for column in pipeline.output_columns) - Counter(features)
    yield from _twice("block", (block.name for block in pipeline.blocks))
    yield from _twice("processor", pipeline.processors)
    yield from _twice("feature", features)
    yield from _twice("published column", [*others.elements(), *set(features)])
    yield from _twice("table", pipeline.tables.all)
    sources = (*{block.name for block in pipeline.blocks}, *(table.short for table in pipeline.phase3_tables))
    yield from _twice("name of a block or Phase 3 table", sources)
    yield from _twice("name inside the statements", _inside(pipeline))
    for table in pipeline.phase3_tables:
        names = {one.name for one in pipeline.features_from(table.name)}
        yield from _twice(f"column of {table.name} in the statements", (*_JOINED, table.key, table.date, *names))
    for block in pipeline.blocks:
        names = {one.name for one in pipeline.features_of(block.name)}
        yield from _twice(f"column of {block.table} in the statements", (*_JOINED, block.key, *names))


_JOINED = ("seen", "processed_at")
"""Columns selected by statements from each upstream table, besides key, date and features."""


def _inside(pipeline: Pipeline) -> Iterator[str]:
    """Yield every column made by the statements, once for each statement part that makes the column."""
    yield from {column.name for column in pipeline.output_columns}
    yield from {f"phase4_{feature.name}" for feature in pipeline.features}
    yield from (f"{table.short}_{end}" for table in pipeline.phase3_tables for end in ("date", "gap"))
    for name in {block.name for block in pipeline.blocks}:
        yield from (f"{name}_{end}" for end in ("cells", "phase4_cells", "phase3_cells", pipeline.entity.plural))
    yield from (f"{block.name}_there" for block in pipeline.blocks if not block.required)
    yield from ("phase4_cells", "present_cells", "cells_wanted", "fallback_rate", "left_out_reason", "copied_date")


def _twice(kind: str, names: Iterable[str]) -> Iterator[str]:
    yield from (f"the {kind} {name} is there {count} times" for name, count in Counter(names).items() if count > 1)


def _block_faults(pipeline: Pipeline) -> Iterator[str]:
    identity = {column.name for column in pipeline.identity}
    for block in pipeline.blocks:
        if block.matches not in identity:
            yield f"the block {block.name} is joined by {block.matches}, which is no identity column"
        if not (features := pipeline.features_of(block.name)):
            yield f"the block {block.name} has no feature"
        if needed := [] if block.required else _needed(features, pipeline):
            yield f"the block {block.name} is optional, and a row needs its {', '.join(needed)}"
        if (day := pipeline.upstream_tables[block.table].date) != PHASE4_DATE:
            yield f"upstream.{block.table} lies by {day}; a Phase 4 table lies by {PHASE4_DATE}"


def _needed(features: Sequence[Feature], pipeline: Pipeline) -> list[str]:
    """Return the features without which an entity gets no row, or whose NULLs count."""
    return [feature.name for feature in features if feature.required or feature.name == pipeline.entity.must_have]


def _feature_faults(pipeline: Pipeline) -> Iterator[str]:
    blocks = {block.name for block in pipeline.blocks}
    for feature in pipeline.features:
        if feature.block not in blocks:
            yield f"the feature {feature.name} belongs to the block {feature.block}, which does not exist"
        yield from _range_faults(feature)
    if not pipeline.required_fields:
        yield "no feature is required; the NULL-field component has nothing to count"


def _range_faults(feature: Feature) -> Iterator[str]:
    if feature.range is None:
        if feature.bins:
            yield f"features.{feature.name}.bins stand without a range"
        return
    low, high = feature.range
    if feature.type not in NUMBERS:
        yield f"features.{feature.name}.range is of numbers, and the feature is {feature.type}"
    if low >= high:
        yield f"features.{feature.name}.range begins at {low:g} and ends at {high:g}; the lowest value comes first"
    if any(left >= right for left, right in pairwise(feature.bins)):
        yield f"features.{feature.name}.bins do not ascend"
    if outside := [edge for edge in feature.bins if not low <= edge <= high]:
        yield f"features.{feature.name}.bins hold {outside[0]:g}, which lies outside the range {low:g} to {high:g}"


def _view_faults(pipeline: Pipeline) -> Iterator[str]:
    if not pipeline.optional.joined_view:
        return
    for feature in pipeline.features:
        if feature.phase4.columns != (feature.phase4.sql,):
            yield f"optional.joined_view holds plain columns, and the feature {feature.name} is an expression"


def _entity_faults(pipeline: Pipeline) -> Iterator[str]:
    entity = pipeline.entity
    listed = {column.name for column in pipeline.listed}
    for what, name in (("key", entity.key), ("label", entity.label)):
        if name not in listed:
            yield f"the entity's {what} {name} is no identity column of the roster"
    if entity.must_have not in {feature.name for feature in pipeline.features}:
        yield f"the entity must have {entity.must_have}, which is no feature"


def _schedule_faults(pipeline: Pipeline) -> Iterator[str]:
    if (schedule := pipeline.schedule) is None:
        return
    types = {column.name: column.type for column in pipeline.identity}
    if schedule.team not in {column.name for column in pipeline.listed}:
        yield f"schedule.team {schedule.team} is no identity column of the roster"
    for key, name, kind in (
        ("opponent", schedule.opponent, types.get(schedule.team)),
        ("plays", schedule.plays, "BOOL"),
    ):
        if name not in types:
            yield f"schedule.{key} {name} is no identity column"
        elif types[name] != kind:
            yield f"schedule.{key} {name} is {types[name]}, not {kind}"


def _table_faults(pipeline: Pipeline) -> Iterator[str]:
    for table in pipeline.tables.all:
        if table in pipeline.upstream_tables:
            yield f"the table {table} is read and written; a build would read itself"
    identity = {column.name for column in pipeline.identity}
    schedule = () if pipeline.schedule is None else (pipeline.schedule.table,)
    for name in dict.fromkeys((pipeline.entity.roster, *schedule, *(one.name for one in pipeline.phase3_tables))):
        if not pipeline.upstream_tables[name].date:
            yield f"upstream.{name} is missing, or lacks date: the column that says of which date a row is"
    for phase3 in pipeline.phase3_tables:
        if phase3.matches not in identity:
            yield f"upstream.{phase3.name} is joined by {phase3.matches}, which is no identity column"


def _type_faults(pipeline: Pipeline) -> Iterator[str]:
    """Find upstream columns declared with two types: a build would expect either type without notice."""
    known = {
        (table.name, name): kind for table in pipeline.upstream_tables.values() for name, kind in table.columns.items()
    }
    for table, column, kind in pipeline.columns_read():
        first = known.setdefault((table, column), kind)
        listed = pipeline.upstream_tables[table].columns.get(column)
        if first != kind and listed not in ACCEPTED_TYPES.get(kind, ()):
            yield f"{table}.{column} is {first} in one place and {kind} in another"


def _quality_faults(quality: QualityPolicy) -> Iterator[str]:
    points = quality.points
    if set(points) != set(COMPONENTS):
        yield f"quality.points names {', '.join(sorted(points))}; the components are {', '.join(COMPONENTS)}"
        return
    if (total := sum(points.values())) != POINTS_IN_ALL:
        yield f"quality.points sum to {total}, not {POINTS_IN_ALL}"
    if max(quality.freshness_points) != points["data_freshness"]:
        yield f"quality.freshness_points give {max(quality.freshness_points)} at most, not {points['data_freshness']}"
    if _rises(quality.freshness_points):
        yield "quality.freshness_points rise with age; older data is never worth more"
    if (best := max(worth for _rows, worth in quality.row_points)) != points["row_completeness"]:
        yield f"quality.row_points give {best} at most, not {points['row_completeness']}"
    if any(low >= high for (high, _), (low, _) in pairwise(quality.row_points)):
        yield "quality.row_points are not ordered from most rows to fewest"
    elif _rises([worth for _rows, worth in quality.row_points]):
        yield "quality.row_points rise with fewer rows"
    rates = [rate for rate, _lost in quality.penalty_line]
    if rates[0] != 0 or rates[-1] != 1 or any(left >= right for left, right in pairwise(rates)):
        yield "quality.penalty_line does not rise from rate 0 to rate 1"
    elif _rises([-lost for _rate, lost in quality.penalty_line]):
        yield "quality.penalty_line falls; more fallback never costs less"
    yield from _severity_faults(quality.severities)


def _rises(values: Sequence[int | Fraction]) -> bool:
    return any(later > earlier for earlier, later in pairwise(values))


def _severity_faults(levels: Sequence[Severity]) -> Iterator[str]:
    """Find severities out of order, without threshold, or with a stricter threshold at a milder level."""
    names = [level.name for level in levels]
    if any(later <= earlier for earlier, later in pairwise(names)):
        yield f"quality.severities are {', '.join(names)}; each is there once, the worst, P0, first"
        return
    # A score of 0, a row count of 0 and a fallback rate of 1 are no thresholds: no build lies beyond these limits.
    thresholds: dict[str, list[tuple[str, int | Fraction]]] = {
        "score": [(level.name, level.score) for level in levels if level.score > 0],
        "rows": [(level.name, level.rows) for level in levels if level.rows > 0],
        "fallback": [(level.name, -level.fallback) for level in levels if level.fallback < 1],
    }
    applicable = {name for given in thresholds.values() for name, _threshold in given}
    yield from (f"quality.severities: {name} has no threshold" for name in names if name not in applicable)
    for key, given in thresholds.items():
        for (worse, strict), (milder, loose) in pairwise(given):
            if loose < strict:
                yield f"quality.severities: {milder} asks for worse {key} than {worse}; a milder level begins earlier"
