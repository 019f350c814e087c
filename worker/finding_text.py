"""Texts and JSON form of the findings of a build, the same for commands, pages, API and reports. Pure.

A result has findings, or no finding, or was stored before builds were judged. The third case is `None` in
`BuildResult.findings` and is shown as `not judged`: missing knowledge is never shown as `no findings`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated

from pydantic import ConfigDict, Field

from statemachine.model import Finding, FindingSeverity
from worker.features.findings import evidence, shown_fields

NO_FINDINGS = "no findings"
NOT_JUDGED = "not judged"
# Findings of the highest severity that a short text names; further findings are counted.
NAMED_MAX = 2
# Severities that an overview marks; a note changes neither state nor severity.
DOUBTS = frozenset({FindingSeverity.CRITICAL, FindingSeverity.WARNING})
_NOUNS = {
    FindingSeverity.CRITICAL: "critical finding",
    FindingSeverity.WARNING: "warning",
    FindingSeverity.NOTE: "note",
}


@dataclass(frozen=True, kw_only=True)
class FindingModel:
    """A reason why the rows of an analysis date may be wrong, as shown to people and scripts."""

    __pydantic_config__ = ConfigDict(extra="ignore")

    check: Annotated[str, Field(examples=["unchanged"], description="Name of the check.")]
    severity: Annotated[str, Field(examples=["critical"], description="`note warning critical`")]
    subject: Annotated[str, Field(description="The judged table, column, feature, team or component.")]
    observed: Annotated[str, Field(description="The measured figure.")]
    expected: Annotated[str, Field(description="The figure that the check accepts.")]
    next_step: Annotated[str, Field(description="The next step of the person on call.")]


AnyFinding = Finding | FindingModel


def shown(findings: Sequence[Finding] | None) -> list[FindingModel] | None:
    """Return findings as shown; None stands for a result that was never judged."""
    if findings is None:
        return None
    return [FindingModel(**shown_fields(finding)) for finding in findings]


def as_json(findings: Sequence[Finding] | None) -> list[dict[str, str]] | None:
    """Return findings for scripts; None stands for a result that was never judged."""
    return None if findings is None else [shown_fields(finding) for finding in findings]


def short(findings: Sequence[AnyFinding] | None) -> str:
    """Return the findings on one line: `1 critical finding: unchanged pace; 2 warnings`."""
    if findings is None:
        return NOT_JUDGED
    groups = [(FindingSeverity(level), list(group)) for level, group in groupby(findings, lambda found: found.severity)]
    if not groups:
        return NO_FINDINGS
    level, first = groups[0]
    named = ", ".join(f"{found.check} {found.subject}" for found in first[:NAMED_MAX])
    more = f" and {len(first) - NAMED_MAX} more" if len(first) > NAMED_MAX else ""
    others = (_count(name, len(rest)) for name, rest in groups[1:])
    return "; ".join((f"{_count(level, len(first))}: {named}{more}", *others))


def finding_line(finding: AnyFinding) -> str:
    """Return check, subject, observed and expected figure: `shifted pace: PSI 1.9, expected below 0.25`."""
    return f"{finding.check} {finding.subject}: {evidence_of(finding)}"


def evidence_of(finding: AnyFinding) -> str:
    """Return the observed and the expected figure of a finding."""
    return evidence(finding.observed, finding.expected)


def brief(findings: Sequence[AnyFinding] | None) -> str:
    """Return the number of findings of the highest severity: `2 critical`, `none`, `not judged`."""
    if not findings:
        return NOT_JUDGED if findings is None else "none"
    severity = worst(findings)
    number = sum(finding.severity == severity for finding in findings)
    return f"{number} {severity}" if severity == FindingSeverity.CRITICAL else _count(FindingSeverity(severity), number)


def worst(findings: Sequence[AnyFinding] | None) -> str:
    """Return the highest severity, empty without a finding."""
    return findings[0].severity if findings else ""


def _count(level: FindingSeverity, number: int) -> str:
    return f"{number} {_NOUNS[level]}{'' if number == 1 else 's'}"
