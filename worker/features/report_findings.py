"""Findings about the score's components and about the rows of the processors: claimed rows, and values. Pure.

NaN and infinity count as NULL wherever a statement reads an upstream row: the cell comes from Phase 3 or is missing,
and the score counts the cell so. The count of such values is the evidence of the cause, because a processor that
divides by zero writes rows that look complete. The count covers the Phase 4 rows of the analysis date in the tables
that the build reads; a retracted processor and a forced fallback give no count.
"""

from collections.abc import Iterator, Mapping

from statemachine.model import Finding, FindingSeverity
from worker.features.findings import Check, FindingPolicy, Found
from worker.features.model import BuildStats, QualityReport
from worker.features.pipeline import Feature, Pipeline


def component_findings(report: QualityReport, policy: FindingPolicy) -> Iterator[Found]:
    """Yield a finding for each component of the score below a threshold.

    Source: "Quality Score Monitoring" of the pipeline document, the thresholds of each component.
    """
    for name, points in report.components.items():
        critical, warning = policy.critical_below.get(name), policy.warning_below.get(name)
        if critical is not None and points < critical:
            yield Found(finding=_low(name, points, critical, FindingSeverity.CRITICAL))
        elif warning is not None and points < warning:
            yield Found(finding=_low(name, points, warning, FindingSeverity.WARNING))


def _low(name: str, points: float, least: float, severity: FindingSeverity) -> Finding:
    return Finding(
        check=Check.COMPONENT_LOW,
        severity=severity,
        subject=name,
        observed=f"{points:g} points",
        expected=f"{least:g} points or more",
        next_step="look up what is missing: mlfs explain DATE",
    )


def claim_findings(claimed: Mapping[str, int], found: Mapping[str, int], policy: FindingPolicy) -> Iterator[Found]:
    """Yield a finding for each processor whose event claims other rows than the table holds.

    Args:
        claimed: Rows that each processor's event claims to have written; a processor without a claim is absent.
        found: Rows of the date in each processor's table.
        policy: Thresholds of the check.
    """
    for processor, rows in claimed.items():
        there = found.get(processor, 0)
        if rows == there:
            continue
        yield from policy.judge(
            Check.CLAIMED_ROWS_DIFFER,
            abs(rows - there) / max(rows, there),
            subject=processor,
            observed=f"the table holds {there} rows",
            expected=f"{rows} rows, by the event of the processor",
            next_step=f"ask the owner of {processor} whether the run wrote all rows",
            processor=processor,
        )


def not_finite_findings(stats: BuildStats, pipeline: Pipeline, policy: FindingPolicy) -> Iterator[Found]:
    """Yield a finding for each feature with NaN or infinite values in the Phase 4 rows of the analysis date.

    The findings come in the order of the features. The measure is the share of the feature's values in the table.

    Args:
        stats: Counts of the build, with the number of such values by feature and the rows of each Phase 4 table.
        pipeline: Owner of the features.
        policy: Thresholds of the check.
    """
    for feature in pipeline.features:
        if count := stats.not_finite.get(feature.name, 0):
            yield from _of_feature(feature, count, stats, pipeline, policy)


def _of_feature(
    feature: Feature, count: int, stats: BuildStats, pipeline: Pipeline, policy: FindingPolicy
) -> Iterator[Found]:
    """Yield the finding about a feature with *count* values that are no number.

    The processor of the feature's block is named, so that a new run of the processor replaces the rows.
    """
    block = pipeline.block_of(feature)
    # A value of a table without counted rows is the whole table.
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
