"""Judgement of a build: calls each family of checks with the facts that the build counted."""

from collections.abc import Mapping

from worker.features.cell_findings import not_finite_findings
from worker.features.findings import Judgement, collect
from worker.features.input_findings import table_findings, unusable_findings
from worker.features.model import BuildRequest, BuildStats, QualityReport
from worker.features.pipeline import Pipeline
from worker.features.profile_findings import profile_findings
from worker.features.report_findings import claim_findings, component_findings
from worker.features.schedule_findings import schedule_findings


def judge(request: BuildRequest, stats: BuildStats, report: QualityReport, pipeline: Pipeline) -> Judgement:
    """Return the findings about the rows of an attempt; a build without rows gets none."""
    if report.row_count == 0:
        return Judgement()
    policy = pipeline.findings
    return collect(
        (
            *component_findings(report, policy),
            *claim_findings(_countable(request.claimed_rows, stats, pipeline), stats.dependency_rows, policy),
            *unusable_findings(stats, pipeline, policy),
            *table_findings(stats, pipeline, policy),
            *not_finite_findings(stats, pipeline, policy),
            *schedule_findings(stats, pipeline, policy),
            *profile_findings(stats, pipeline),
        )
    )


def _countable(claimed: Mapping[str, int], stats: BuildStats, pipeline: Pipeline) -> Mapping[str, int]:
    """Return the claimed rows of processors whose table was counted; an unusable table has a finding of its own."""
    gone = {fault.table for fault in stats.unusable if not fault.column}
    return {
        block.processor: claimed[block.processor]
        for block in pipeline.blocks
        if block.table not in gone and block.processor in claimed
    }
