"""Judgement of a build: calls each family of checks with the facts that the build counted.

Model: each family yields findings from counts; no family reads a table. A next step names the analysis date as DATE,
and the judgement puts the date in place of the word, so that a stored or published finding names the real command.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date

from statemachine.model import Finding, FindingSeverity
from worker.features.findings import Found, Judgement, collect
from worker.features.input_findings import table_findings, unusable_findings
from worker.features.model import BuildRequest, BuildStats, QualityReport
from worker.features.pipeline import Pipeline
from worker.features.profile_findings import profile_findings
from worker.features.report_findings import claim_findings, component_findings, not_finite_findings
from worker.features.schedule_findings import schedule_findings

DATE_WORD = re.compile(r"\bDATE\b")


def judge(request: BuildRequest, stats: BuildStats, report: QualityReport, pipeline: Pipeline) -> Judgement:
    """Return the findings about the rows of an attempt; a build without rows gets none.

    Args:
        request: The attempt, with the rows that events claim.
        stats: Counts of the attempt.
        report: Score of the attempt.
        pipeline: Pipeline with the rules of the checks.
    """
    if report.row_count == 0:
        return Judgement()
    policy = pipeline.findings
    found = (
        *component_findings(report, policy),
        *claim_findings(_countable(request.claimed_rows, stats, pipeline), stats.dependency_rows, policy),
        *unusable_findings(stats, pipeline, policy),
        *table_findings(stats, pipeline, policy),
        *not_finite_findings(stats, pipeline, policy),
        *schedule_findings(stats, pipeline, policy),
        *profile_findings(stats, pipeline),
    )
    absent = pipeline.absent_optional(stats.dependency_rows)
    judgement = collect(_weighed(one, absent) for one in found)
    return replace(judgement, findings=tuple(_dated(one, request.key.analysis_date) for one in judgement.findings))


def _weighed(found: Found, absent: frozenset[str]) -> Found:
    """Return a finding that names an absent optional processor as a note: the absence degrades no analysis date."""
    if found.finding.processor not in absent:
        return found
    return Found(finding=replace(found.finding, severity=FindingSeverity.NOTE))


def _dated(finding: Finding, analysis_date: date) -> Finding:
    """Return a finding whose next step names the analysis date."""
    return replace(finding, next_step=DATE_WORD.sub(analysis_date.isoformat(), finding.next_step))


def _countable(claimed: Mapping[str, int], stats: BuildStats, pipeline: Pipeline) -> Mapping[str, int]:
    """Return the claimed rows of processors whose table was counted; an unusable table has a finding of its own."""
    gone = {fault.table for fault in stats.unusable if not fault.column}
    return {
        block.processor: claimed[block.processor]
        for block in pipeline.blocks
        if block.table not in gone and block.processor in claimed
    }
