"""Judgement of a build: calls each family of checks with the facts that the build counted."""

from worker.features.findings import Judgement, collect
from worker.features.model import BuildRequest, BuildStats, QualityReport
from worker.features.pipeline import Pipeline
from worker.features.report_findings import claim_findings, component_findings, not_finite_findings
from worker.features.schedule_findings import schedule_findings


def judge(request: BuildRequest, stats: BuildStats, report: QualityReport, pipeline: Pipeline) -> Judgement:
    """Return the findings about the rows of an attempt; a build without rows gets none."""
    if report.row_count == 0:
        return Judgement()
    policy = pipeline.findings
    return collect(
        (
            *component_findings(report, policy),
            *claim_findings(request.claimed_rows, stats.dependency_rows, policy),
            *not_finite_findings(stats, pipeline, policy),
            *schedule_findings(stats, pipeline, policy),
        )
    )
