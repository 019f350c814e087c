"""Estimate of a build on a played night: duration, score and earned state. Pure.

Model: a backtest reads no upstream table, so the build of a played night is estimated from the Phase 4 tables that hold
rows at the claim. Where recorded builds found rows in exactly these tables, the score is the median of their scores.
Otherwise the pipeline's own rules score a night in which every active entity has every block: from Phase 4 where the
table holds rows, from Phase 3 elsewhere. The duration is the median of the recorded builds.

Limits: findings depend on the content of the tables, so an estimated build has no findings. The warehouse of an
estimated build always answers.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import lru_cache
from statistics import median
from types import MappingProxyType

from statemachine.model import BuildMode
from worker.features.model import BlockCounts, BuildStats, QualityReport
from worker.features.pipeline import Pipeline
from worker.features.plan import counts_for_score
from worker.features.quality import score

# Seconds. The target of a night on BigQuery, for a span of nights without a recorded build.
BUILD_S_DEFAULT = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedBuild:
    """Build of a recorded night that passed the quality gate.

    Attributes:
        filled: Processors whose Phase 4 table held rows.
        row_count: Rows of the build.
        quality_score: 0 to 100.
        duration_s: Seconds from the claim to the publication.
    """

    filled: frozenset[str]
    row_count: int
    quality_score: float
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildEstimates:
    """Estimates for the builds of played nights.

    Attributes:
        pipeline: Pipeline with the blocks and the rules of the score.
        build_s: Seconds from the claim to the publication.
        row_count: Rows of a build.
        recorded: Median score of the recorded builds, 0 to 100, by the processors whose table held rows.
        builds: Number of recorded builds behind the estimates; 0 for the defaults.
    """

    pipeline: Pipeline
    build_s: float
    row_count: int
    recorded: Mapping[frozenset[str], float]
    builds: int

    def rows(self, filled: frozenset[str]) -> dict[str, int]:
        """Return the rows in the table of each processor at the claim."""
        return {name: self.row_count if name in filled else 0 for name in self.pipeline.processors}

    def report(self, filled: frozenset[str], optional: frozenset[str]) -> QualityReport:
        """Return the estimated score and verdict of a build.

        A recorded build passed the quality gate, so a build with a recorded score passes, too. A recorded
        score does not hold for rules that make another absent processor optional, because the absence then costs no
        point.

        Args:
            filled: Processors whose table holds rows at the claim.
            optional: Processors that are optional under the tried rules.
        """
        pipeline = with_optional(self.pipeline, optional)
        estimated = _score_of(pipeline, self.row_count, filled)
        known = self.recorded.get(filled)
        if known is None or (optional ^ self.pipeline.optional_processors) - filled:
            return estimated
        return replace(estimated, quality_score=known, gate_passed=True)

    def score_lost(self, quality_score: float) -> float:
        """Return the points between *quality_score* and the estimate for a build from all tables; never negative."""
        whole = self.report(frozenset(self.pipeline.processors), self.pipeline.optional_processors)
        return max(0.0, whole.quality_score - quality_score)


# The score depends on the age of the newest source alone, so any date stands for the analysis date.
_DATE = date(2024, 1, 2)


@lru_cache(maxsize=64)
def with_optional(pipeline: Pipeline, optional: frozenset[str]) -> Pipeline:
    """Return the pipeline in which exactly the processors of *optional* are optional; the same object each time."""
    if optional == pipeline.optional_processors:
        return pipeline
    blocks = tuple(replace(block, required=block.processor not in optional) for block in pipeline.blocks)
    return replace(pipeline, blocks=blocks)


@lru_cache(maxsize=4096)
def _score_of(pipeline: Pipeline, row_count: int, filled: frozenset[str]) -> QualityReport:
    """Return the score of a night in which every active entity has every block."""
    blocks = {}
    for block in pipeline.blocks:
        each = len(pipeline.features_of(block.name))
        cells, has_rows = row_count * each, block.processor in filled
        blocks[block.name] = BlockCounts(
            players=row_count,
            cells_each=each,
            phase4_cells=cells if has_rows else 0,
            phase3_cells=0 if has_rows else cells,
        )
    stats = BuildStats(
        analysis_date=_DATE,
        row_count=row_count,
        dependency_rows={name: row_count if name in filled else 0 for name in pipeline.processors},
        blocks=blocks,
        required_nulls=0,
        # Phase 3 ends with the games of the evening before.
        newest_source_date=_DATE if filled else _DATE - timedelta(days=1),
        left_out_count=0,
    )
    return score(counts_for_score(stats, pipeline), BuildMode.NORMAL, pipeline.quality)


def estimate_builds(pipeline: Pipeline, builds: Sequence[RecordedBuild]) -> BuildEstimates:
    """Return the estimates from the recorded builds of a span of nights.

    Args:
        pipeline: Pipeline of the nights.
        builds: Recorded builds; without builds the duration is `BUILD_S_DEFAULT`.
    """
    by_tables: dict[frozenset[str], list[float]] = defaultdict(list)
    for build in builds:
        by_tables[build.filled].append(build.quality_score)
    # Without a recorded build: the rows that earn all points of the component.
    whole_night = max(pipeline.quality.rows_min, *(rows for rows, _points in pipeline.quality.row_points))
    return BuildEstimates(
        pipeline=pipeline,
        build_s=median(build.duration_s for build in builds) if builds else BUILD_S_DEFAULT,
        row_count=round(median(build.row_count for build in builds)) if builds else whole_night,
        recorded=MappingProxyType({filled: median(scores) for filled, scores in by_tables.items()}),
        builds=len(builds),
    )
