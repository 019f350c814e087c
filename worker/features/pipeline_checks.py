"""What has to fit together in a pipeline's definition, apart from its SQL. Pure; gives every fault at once."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

from worker.features.pipeline import Pipeline
from worker.features.quality import COMPONENTS, QualityPolicy, Severity

POINTS_IN_ALL = 100


def find_faults(pipeline: Pipeline) -> list[str]:
    """Give one sentence fragment per fault, in the words of the file; empty for a sound definition."""
    return [
        *_repeated(pipeline),
        *_block_faults(pipeline),
        *_feature_faults(pipeline),
        *_entity_faults(pipeline),
        *_table_faults(pipeline),
        *_type_faults(pipeline),
        *_quality_faults(pipeline.quality),
    ]


def _repeated(pipeline: Pipeline) -> Iterator[str]:
    features = [feature.name for feature in pipeline.features]
    others = Counter(column.name for column in pipeline.output_columns) - Counter(features)
    yield from _twice("block", (block.name for block in pipeline.blocks))
    yield from _twice("processor", pipeline.processors)
    yield from _twice("feature", features)
    yield from _twice("published column", [*others.elements(), *set(features)])
    yield from _twice("table", pipeline.tables.all)


def _twice(kind: str, names: Iterable[str]) -> Iterator[str]:
    yield from (f"the {kind} {name} is there {count} times" for name, count in Counter(names).items() if count > 1)


def _block_faults(pipeline: Pipeline) -> Iterator[str]:
    identity = {column.name for column in pipeline.identity}
    for block in pipeline.blocks:
        if block.key not in identity:
            yield f"the block {block.name} is joined by {block.key}, which is no identity column"
        if not pipeline.features_of(block.name):
            yield f"the block {block.name} has no feature"


def _feature_faults(pipeline: Pipeline) -> Iterator[str]:
    blocks = {block.name for block in pipeline.blocks}
    for feature in pipeline.features:
        if feature.block not in blocks:
            yield f"the feature {feature.name} belongs to the block {feature.block}, which does not exist"
    if not pipeline.required_fields:
        yield "no feature is required; the NULL-field component has nothing to count"


def _entity_faults(pipeline: Pipeline) -> Iterator[str]:
    entity = pipeline.entity
    identity = {column.name for column in pipeline.identity}
    for what, name in (("key", entity.key), ("label", entity.label)):
        if name not in identity:
            yield f"the entity's {what} {name} is no identity column"
    if entity.must_have not in {feature.name for feature in pipeline.features}:
        yield f"the entity must have {entity.must_have}, which is no feature"
    if entity.roster not in pipeline.reads:
        yield f"the entity's roster {entity.roster} is not under reads"
    for column in pipeline.identity:
        known = pipeline.reads.get(column.table, {})
        for name in column.columns if column.table else ():
            if name not in known:
                yield f"the identity column {column.name} comes from {column.table}.{name}, which is not under reads"


def _table_faults(pipeline: Pipeline) -> Iterator[str]:
    read = {*pipeline.reads, *(block.table for block in pipeline.blocks)}
    read |= {feature.phase3_table for feature in pipeline.features}
    for table in pipeline.tables.all:
        if table in read:
            yield f"the table {table} is read and written; a build would read itself"


def _type_faults(pipeline: Pipeline) -> Iterator[str]:
    """Find upstream columns that are declared twice with different types; a build would expect either, unnoticed."""
    known: dict[tuple[str, str], str] = {}
    for table, column, kind in _declared(pipeline):
        if (first := known.setdefault((table, column), kind)) != kind:
            yield f"{table}.{column} is {first} in one place and {kind} in another"


def _declared(pipeline: Pipeline) -> Iterator[tuple[str, str, str]]:
    yield from ((table, name, kind) for table, columns in pipeline.reads.items() for name, kind in columns.items())
    tables = {block.name: block.table for block in pipeline.blocks}
    key_types = {column.name: column.type for column in pipeline.identity}
    for block in pipeline.blocks:
        yield block.table, "analysis_date", "DATE"
        yield block.table, "processed_at", "TIMESTAMP"
        if block.key in key_types:
            yield block.table, block.key, key_types[block.key]
    for feature in pipeline.features:
        if feature.block in tables:
            yield tables[feature.block], feature.name, feature.type
        yield feature.phase3_table, feature.phase3_column, feature.type


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
    """Find what the rule that the first level counts makes unreachable, or makes a milder night look worse."""
    names = [level.name for level in levels]
    if any(later <= earlier for earlier, later in pairwise(names)):
        yield f"quality.severities are {', '.join(names)}; each is there once, the worst, P0, first"
        return
    # A score or number of rows of 0, a fallback of 1 are no thresholds: nothing is below the one or above the other.
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
