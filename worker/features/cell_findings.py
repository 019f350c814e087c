"""Findings about single values of Phase 4: values that are no number. Pure.

Model: NaN and infinity count as NULL wherever a statement reads an upstream row, so a published cell never holds either,
and the cell comes from Phase 3 or is missing. The count of such values is the evidence: a processor that divides by zero
writes rows that look complete. The count covers the rows of the analysis date in the tables that the build reads;
a retracted processor and a forced fallback give no count. A NaN of Phase 3 makes a missing cell and is not counted.
"""

from collections.abc import Iterator

from worker.features.findings import Check, FindingPolicy, Found
from worker.features.model import BuildStats
from worker.features.pipeline import Pipeline


def not_finite_findings(stats: BuildStats, pipeline: Pipeline, policy: FindingPolicy) -> Iterator[Found]:
    """Yield a finding for each feature with NaN or infinite values in the Phase 4 rows of the analysis date.

    Args:
        stats: Counts of the build, with the number of such values by feature and the rows of each Phase 4 table.
        pipeline: Owner of the features.
        policy: Thresholds of the check. The measure is the share of the feature's values in the table.
    """
    for feature in pipeline.features:
        count = stats.not_finite.get(feature.name, 0)
        if not count:
            continue
        block = pipeline.block_of(feature)
        # Rows that arrive between two statements may make more values than rows.
        rows = max(count, stats.dependency_rows.get(block.processor, 0))
        yield from policy.judge(
            Check.NOT_FINITE,
            count / rows,
            subject=feature.name,
            observed=f"{count} of {rows} cells are NaN or infinite",
            expected=f"{feature.unit}; NULL for a missing value",
            next_step=f"ask the owner of {block.processor} to correct {feature.name} in {block.table} and to run again",
            processor=block.processor,
        )
