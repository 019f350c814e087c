"""The five checks of the daily checklist of the pipeline document. Pure.

`mlfs daily` shows the checks. `mlfs incident` makes the same checks: a date with an amber check is an incident. The
thresholds of score, rows, fallback and components are the pipeline's; expectations about Phase 5 are the document's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from ops.output import number
from ops.reports.facts import DateFacts, Evidence
from statemachine.model import BuildResult, State
from worker.features.findings import Check as CheckName
from worker.features.quality import QualityPolicy, Severity
from worker.finding_text import short

# Source: "Check Phase 5 integration" of the daily checklist in the pipeline document.
PREDICTIONS_GREEN, CONFIDENCE_GREEN = 400, 75.0


class CheckStatus(StrEnum):
    """Result of a check."""

    GREEN = "green"
    AMBER = "amber"
    RED = "red"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Check of the checklist.

    Attributes:
        name: Name of the check.
        status: Result of the check.
        figure: Measured figure.
        threshold: Expected figure.
        action: Next step; empty without a step.
    """

    name: str
    status: CheckStatus
    figure: str
    threshold: str
    action: str = ""


def check(facts: DateFacts) -> list[Check]:
    """Run the five checks, in the order of the pipeline document."""
    checks: Sequence[Callable[[DateFacts], Check]] = (_built, _dependencies, _fallback, _quality, _phase5)
    return [run(facts) for run in checks]


def describe_checks(checks: Sequence[Check]) -> list[dict[str, str]]:
    """Return the checks for JSON."""
    return [
        {
            "check": done.name,
            "status": done.status.value,
            "figure": done.figure,
            "threshold": done.threshold,
            "action": done.action,
        }
        for done in checks
    ]


def _built(facts: DateFacts) -> Check:
    record, day, rows_min = facts.record, facts.day, facts.pipeline.quality.rows_min

    def found(status: CheckStatus, figure: str, action: str = "") -> Check:
        many = facts.pipeline.entity.plural
        return Check(name="built", status=status, figure=figure, threshold=f"done, {rows_min} {many}", action=action)

    waits = f"not due before {record.deadline_at:%Y-%m-%d %H:%M}Z: mlfs incident {day}"
    if not facts.opened and record.result is None:
        if not facts.over:
            return found(CheckStatus.AMBER, "not opened yet", waits)
        action = f"no worker has opened it: mlfs doctor, then mlfs replay {day} --reason '…'"
        return found(CheckStatus.RED, "never opened", action)
    rows = record.result.row_count if record.result else 0
    figure = f"{record.state}, {rows} {facts.pipeline.entity.plural}"
    if record.result is not None:
        figure += f", published {record.result.committed_at:%Y-%m-%d %H:%M}Z"
    if not facts.over:
        return found(CheckStatus.AMBER, figure, waits)
    if record.state is State.FAILED and rows >= rows_min:
        return found(CheckStatus.AMBER, f"{figure}; a later generation failed", f"mlfs incident {day}")
    if rows < rows_min:
        return found(CheckStatus.RED, figure, f"mlfs incident {day}")
    if facts.published_is_retracted:
        return found(CheckStatus.RED, f"{figure}, from a run that was taken back", f"mlfs incident {day}")
    if record.state is not State.DONE:
        return found(CheckStatus.AMBER, figure, f"mlfs incident {day}")
    return found(CheckStatus.GREEN, figure)


def _dependencies(facts: DateFacts) -> Check:
    names, absent = facts.pipeline.processors, facts.absent
    unknown = facts.with_evidence(Evidence.UNKNOWN)
    threshold = f"{len(names)} of {len(names)}"
    if len(unknown) == len(names):
        figure = "no build counted the rows, and no table could be read"
        return Check(name="dependencies", status=CheckStatus.UNKNOWN, figure=figure, threshold=threshold)
    where = "now" if facts.upstream else "by build and events"
    filled = len(facts.with_evidence(Evidence.ROWS))
    figure = f"{filled} of {len(names)} tables with rows {where} ({', '.join(_held(facts, name) for name in names)})"
    status = CheckStatus.GREEN
    if absent and not filled and not unknown:
        # Rows that were there at the build and have gone since do not spoil the published rows.
        status = CheckStatus.AMBER if all(facts.held_at_build(name) for name in names) else CheckStatus.RED
    elif absent:
        status = CheckStatus.AMBER
    elif unknown:
        status = CheckStatus.UNKNOWN
    if not facts.over and status is CheckStatus.RED:
        status = CheckStatus.AMBER
    action = f"run again: {', '.join(absent)}; then mlfs incident {facts.day}" if absent and facts.over else ""
    return Check(name="dependencies", status=status, figure=figure, threshold=threshold, action=action)


def _held(facts: DateFacts, processor: str) -> str:
    """Return the processor with the number of rows, or with the reason for the absence of a number."""
    evidence, name = facts.evidence(processor), facts.listed([processor])
    if evidence in {Evidence.RETRACTED, Evidence.UNUSABLE, Evidence.FAILED, Evidence.UNKNOWN}:
        told = {Evidence.RETRACTED: "taken back", Evidence.FAILED: "reported failed", Evidence.UNKNOWN: "not read"}
        return f"{name} {told.get(evidence, 'unusable')}"
    held = facts.held_now(processor)
    if held is None:
        held = facts.held_at_build(processor)
    return f"{name} {'reported' if held is None else held}"


def _level(policy: QualityPolicy, name: str) -> Severity:
    return next(level for level in policy.severities if level.name == name)


def _fallback(facts: DateFacts) -> Check:
    green, amber = (_level(facts.pipeline.quality, name).fallback for name in ("P3", "P1"))
    result = facts.record.result
    threshold = f"up to {float(green):.0%}"
    if result is None:
        return _nothing_published("fallback", facts, threshold)
    rate = Fraction(result.fallback_rate)
    status = CheckStatus.GREEN if rate <= green else CheckStatus.AMBER if rate <= amber else CheckStatus.RED
    action = "" if status is CheckStatus.GREEN else f"which processor fell back: mlfs incident {facts.day}"
    figure = f"{result.fallback_rate:.1%}"
    return Check(name="fallback", status=status, figure=figure, threshold=threshold, action=action)


def low_components(facts: DateFacts, result: BuildResult) -> Mapping[str, float]:
    """Return the components below a threshold of `[findings]` in the pipeline's definition, with their points."""
    policy = facts.pipeline.findings
    return {
        name: points
        for name, points in result.components.items()
        if points < max(policy.warning_below.get(name, 0), policy.critical_below.get(name, 0))
    }


def _quality(facts: DateFacts) -> Check:
    policy, result = facts.pipeline.quality, facts.record.result
    green = _level(policy, "P3").score
    threshold = f"score {green:g}, no component low, no finding"
    if result is None:
        return _nothing_published("quality", facts, threshold)
    low = low_components(facts, result)
    # The components stand in the figure with their points.
    others = [finding for finding in facts.grave_findings if finding.check != CheckName.COMPONENT_LOW]
    told = short(others) if others else ""
    status = CheckStatus.GREEN
    if result.quality_score < policy.score_min:
        status = CheckStatus.RED
    elif result.quality_score < green or low or facts.grave_findings:
        status = CheckStatus.AMBER
    weak = ", ".join(f"{name} {points:g}" for name, points in low.items())
    parts = (f"score {result.quality_score:.1f}", weak and f"low: {weak}", told)
    action = "" if status is CheckStatus.GREEN else f"mlfs incident {facts.day}"
    figure = "; ".join(filter(None, parts))
    return Check(name="quality", status=status, figure=figure, threshold=threshold, action=action)


def _nothing_published(name: str, facts: DateFacts, threshold: str) -> Check:
    status = CheckStatus.RED if facts.over else CheckStatus.AMBER
    action = f"mlfs incident {facts.day}"
    return Check(name=name, status=status, figure="nothing is published", threshold=threshold, action=action)


def predictions_expected(rows: int) -> int:
    """Return the number of predictions that the document expects of *rows* published players."""
    return min(PREDICTIONS_GREEN, rows)


def _phase5(facts: DateFacts) -> Check:
    result = facts.record.result
    expected = predictions_expected(result.row_count) if result is not None else PREDICTIONS_GREEN
    threshold = f"told, {expected} predictions, confidence {CONFIDENCE_GREEN:g}"

    def found(status: CheckStatus, figure: str, action: str = "", expected: str = threshold) -> Check:
        return Check(name="phase 5", status=status, figure=figure, threshold=expected, action=action)

    if result is None:
        return _nothing_published("phase 5", facts, threshold)
    if facts.untold is not None:
        why = facts.untold.error or "the outcome waits in the outbox"
        status = CheckStatus.RED if facts.settled else CheckStatus.AMBER
        return found(
            status, f"not told yet: {why}", "a worker tries again every second; what the bus needs: mlfs doctor"
        )
    if facts.ledger_is_ahead and not facts.predictions:
        figure = f"generation {result.generation} is unknown to the store: whether Phase 5 was told is not known"
        return found(CheckStatus.UNKNOWN, figure, "restore lost records: mlfs recover")
    if facts.predictions is None:
        return found(CheckStatus.UNKNOWN, "told; its predictions could not be read")
    if not facts.predictions:
        return found(CheckStatus.GREEN, "told; its predictions are not in this warehouse", expected="told")
    count, confidence = facts.predictions["prediction_count"], facts.predictions["average_confidence"]
    if not count and facts.now < facts.record.upgrade_cutoff_at:
        return found(CheckStatus.GREEN, "told; no predictions yet")
    figure = f"told, {count} predictions, confidence {number(confidence)}"
    if count >= expected and (confidence or 0.0) >= CONFIDENCE_GREEN:
        return found(CheckStatus.GREEN, figure)
    status = CheckStatus.AMBER if count else CheckStatus.RED
    return found(
        status, figure, "ask Phase 5: the outcome was published" + ("" if count else ", and there are no predictions")
    )
