"""Findings about the score's components and about the rows that the processors claimed. Pure."""

from collections.abc import Iterator, Mapping

from statemachine.model import Finding, FindingSeverity
from worker.features.findings import Check, FindingPolicy, Found
from worker.features.model import QualityReport


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
        severity = policy.severity(Check.CLAIMED_ROWS_DIFFER, abs(rows - there) / max(rows, there))
        if severity is None:
            continue
        yield Found(
            finding=Finding(
                check=Check.CLAIMED_ROWS_DIFFER,
                severity=severity,
                subject=processor,
                observed=f"the table holds {there} rows",
                expected=f"{rows} rows, by the event of the processor",
                next_step=f"ask the owner of {processor} whether the run wrote all rows",
                processor=processor,
            ),
            refuses=policy.refuses(Check.CLAIMED_ROWS_DIFFER, abs(rows - there) / max(rows, there)),
        )
