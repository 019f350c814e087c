"""Scores of a dry run: of the tables as the tables are now, and with tables of missing processors.

The dry run is a build without claim and publication: a crash leaves no trace. The other scores are arithmetic on the
counts of the dry run, under one assumption: the table of a processor is whole, so that each entity with a row has each
cell of the block from Phase 4. Entities without a row stay without a row.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from statemachine.model import BuildMode, DateRecord
from worker.builds.builder import claimed_rows
from worker.builds.steps import run_build
from worker.features.model import BlockCounts, BuildKey, BuildRequest, BuildStats, QualityReport
from worker.features.pipeline import Block, Pipeline
from worker.features.plan import counts_for_score
from worker.features.quality import score
from worker.ports import Warehouse

ASSUMPTION = "a score with a table assumes that the table is whole"
TRIGGER = "outlook"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Score of the tables at an instant, and with tables of missing processors.

    Attributes:
        scored_at: Start of the dry run, UTC.
        now: Score and findings of a build now.
        refusal: Reason why a build now would publish no row; empty if a build would publish.
        rows: Rows in the table of each processor, by processor.
        with_each: Score with the table of one missing processor, by processor; empty without rows to score.
        with_all: Score with the tables of every missing processor; None without rows to score.
    """

    scored_at: datetime
    now: QualityReport
    refusal: str
    rows: Mapping[str, int]
    with_each: Mapping[str, QualityReport]
    with_all: QualityReport | None


def read_scores(
    warehouse: Warehouse,
    record: DateRecord,
    missing: Collection[str],
    *,
    now: Callable[[], datetime],
    lookback_days: int,
    progress: Callable[[str], None] = lambda _text: None,
) -> Scores:
    """Build an analysis date without publication and score the rows, also with the tables of *missing* processors.

    Args:
        warehouse: Warehouse of the tables.
        record: Record of the analysis date; a retracted run is not read.
        missing: Processors that do not count yet.
        now: Clock, UTC.
        lookback_days: Maximal age of a Phase 3 row.
        progress: Called after each step of the dry run.

    Raises:
        Unavailable: The warehouse does not answer.
        Fatal: No build can read the tables.
    """
    request = _dry_request(record, now(), lookback_days)
    outcome = run_build(warehouse, request, now=now, progress=progress, publish=False)
    pipeline, stats = warehouse.pipeline, outcome.stats

    def with_(processors: Collection[str]) -> QualityReport:
        whole = counts_for_score(with_tables(stats, processors, pipeline), pipeline)
        return score(whole, BuildMode.NORMAL, pipeline.quality)

    return Scores(
        scored_at=request.started_at,
        now=outcome.report,
        refusal=outcome.message,
        rows=stats.dependency_rows,
        with_each={name: with_((name,)) for name in missing} if stats.row_count else {},
        with_all=with_(missing) if stats.row_count else None,
    )


def _dry_request(record: DateRecord, at: datetime, lookback_days: int) -> BuildRequest:
    return BuildRequest(
        key=BuildKey(analysis_date=record.analysis_date, generation=record.generation + 1, attempt=1),
        mode=BuildMode.NORMAL,
        trigger=TRIGGER,
        phase3_lookback_days=lookback_days,
        as_of=None,
        started_at=at,
        claimant=TRIGGER,
        ignored=record.ignored,
        claimed_rows=claimed_rows(record, record.ignored),
    )


def with_tables(stats: BuildStats, processors: Collection[str], pipeline: Pipeline) -> BuildStats:
    """Return the counts of a build in which the tables of *processors* are whole."""
    filled = [block for block in pipeline.blocks if block.processor in processors]
    blocks = {block.name: _filled(stats.blocks[block.name], stats.left_out_count) for block in filled}
    no_longer_null = sum(_required_nulls(stats, block, pipeline) for block in filled)
    return replace(
        stats,
        dependency_rows={
            **stats.dependency_rows,
            **{block.processor: max(stats.row_count, stats.dependency_rows[block.processor]) for block in filled},
        },
        blocks={**stats.blocks, **blocks},
        required_nulls=max(0, stats.required_nulls - no_longer_null),
        newest_source_date=stats.analysis_date if filled else stats.newest_source_date,
    )


def _filled(block: BlockCounts, left_out: int) -> BlockCounts:
    """Return a block with each cell from Phase 4, except for entities without a row: at most all entities left out."""
    most = max((block.players - left_out) * block.cells_each, block.phase4_cells + block.phase3_cells)
    return replace(block, phase4_cells=most, phase3_cells=0)


def _required_nulls(stats: BuildStats, block: Block, pipeline: Pipeline) -> int:
    """Return the NULLs in the required features of a block; 0 if not known, or if the block needs a game."""
    if pipeline.needs_game(block):
        return 0
    profiles = (stats.profile.features.get(one.name) for one in pipeline.features_of(block.name) if one.required)
    return sum(profile.row_count - profile.present_count for profile in profiles if profile is not None)
