"""`mlfs daily`: the daily checklist of the pipeline document, five checks with figure, threshold, action."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.console import RenderableType

from ops.arguments import EXIT_DEGRADED, EXIT_FAILED, EXIT_UNAVAILABLE, Json, read_date, reading_resources
from ops.output import err, number, out, plain, show_json, table
from ops.reports.sources import PROCESSORS, ReportReader, Row
from statemachine.evidence import publication_is_retracted
from statemachine.model import TERMINAL_STATES, DateRecord, State
from worker.calendar import with_weekday
from worker.date_text import in_zone
from worker.observing.outbox import Untold, untold_by_date
from worker.resources import Resources

# Source: daily checklist and severity levels of the pipeline document.
ROWS_GREEN, ROWS_AMBER = 400, 200
FALLBACK_GREEN, FALLBACK_AMBER = 0.10, 0.50
SCORE_GREEN, SCORE_AMBER = 90.0, 75.0
PREDICTIONS_GREEN, CONFIDENCE_GREEN = 400, 75.0
COLUMNS_WIDE = 100

# Source: the component thresholds of the pipeline document; fewer points are a warning.
COMPONENTS_GREEN: Mapping[str, float] = {
    "phase4_availability": 36.0,
    "phase3_fallback": 18.0,
    "data_freshness": 12.0,
    "dependency_completeness": 15.0,
    "row_completeness": 4.0,
    "null_field_rate": 4.5,
}


class CheckStatus(StrEnum):
    """Result of a check."""

    GREEN = "green"
    AMBER = "amber"
    RED = "red"
    UNKNOWN = "unknown"


EXIT_OF = ((CheckStatus.RED, EXIT_FAILED), (CheckStatus.AMBER, EXIT_DEGRADED), (CheckStatus.UNKNOWN, EXIT_UNAVAILABLE))
"""Exit codes, worst result first; 0 if all checks are green."""
STYLE = {CheckStatus.GREEN: "green", CheckStatus.AMBER: "yellow", CheckStatus.RED: "red", CheckStatus.UNKNOWN: "dim"}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecklistInput:
    """Facts about an analysis date for the checks.

    Attributes:
        day: The analysis date.
        now: Instant of the checks. UTC.
        record: Record from the store; None without a record.
        upstream: Present row counts by table; None if the tables cannot be read.
        predictions: Predictions of Phase 5; empty without the table in this warehouse, None after a failed read.
        untold: The newest outcome message in the outbox, None without a message.
    """

    day: date
    now: datetime
    record: DateRecord | None
    upstream: Mapping[str, Row] | None
    predictions: Row | None
    untold: Untold | None

    @property
    def due(self) -> bool:
        """Whether the analysis date has ended or the deadline has passed."""
        return self.record is None or self.record.state in TERMINAL_STATES or self.now >= self.record.deadline_at


def daily(
    analysis_date: Annotated[str, typer.Argument(metavar="DATE", help="The analysis date; default: last night.")] = "",
    as_json: Json = False,
) -> None:
    """Run the daily checklist of an analysis date: build, dependencies, fallback, quality, predictions of Phase 5.

    Exit codes: 0 all green, 3 a check is amber, 1 a check is red, 4 a check could not be made and no check is amber or
    red (while the warehouse does not answer: the predictions of Phase 5).

    Examples:
      mlfs daily
      mlfs daily 2024-12-15 --json
    """
    given = read_date(analysis_date) if analysis_date else None
    with reading_resources() as parts:
        day = given or parts.settings.calendar.last_night(parts.clock.now())
        reader = ReportReader(parts)
        checks = check(_facts(parts, reader, day))
        zone = parts.settings.calendar.zone
    code = next((code for status, code in EXIT_OF if any(done.status is status for done in checks)), 0)
    if as_json:
        show_json(_answer(day, checks, reader.not_read))
    else:
        out.print(checks_table(day, checks, zone))
        for fault in reader.not_read:
            err.print("not read:", plain(fault), soft_wrap=True)
    raise typer.Exit(code)


def _facts(parts: Resources, reader: ReportReader, day: date) -> ChecklistInput:
    record = parts.store.load(day)
    return ChecklistInput(
        day=day,
        now=parts.clock.now(),
        record=record,
        upstream=reader.upstream(day),
        predictions=reader.predictions(day),
        untold=untold_by_date(parts.store).get(day),
    )


def check(facts: ChecklistInput) -> list[Check]:
    """Run the five checks, in the order of the pipeline document."""
    checks: Sequence[Callable[[ChecklistInput], Check]] = (_built, _dependencies, _fallback, _quality, _phase5)
    return [run(facts) for run in checks]


def _built(facts: ChecklistInput) -> Check:
    record, day = facts.record, facts.day
    name, threshold = "built", f"done, {ROWS_GREEN} players"
    if record is None:
        action = f"no worker has opened it: mlfs doctor, then mlfs replay {day} --reason '…'"
        return Check(name=name, status=CheckStatus.RED, figure="never opened", threshold=threshold, action=action)
    rows = record.result.row_count if record.result else 0
    figure = f"{record.state}, {rows} players"
    if record.result is not None:
        figure += f", published {record.result.committed_at:%Y-%m-%d %H:%M}Z"
    if not facts.due:
        action = f"not due before {record.deadline_at:%Y-%m-%d %H:%M}Z: mlfs explain {day}"
        return Check(name=name, status=CheckStatus.AMBER, figure=figure, threshold=threshold, action=action)
    if record.state is State.FAILED or rows < ROWS_AMBER:
        return Check(
            name=name, status=CheckStatus.RED, figure=figure, threshold=threshold, action=f"P0: mlfs incident {day}"
        )
    if publication_is_retracted(record):
        figure += ", from a run that was taken back"
        return Check(
            name=name, status=CheckStatus.RED, figure=figure, threshold=threshold, action=f"P1: mlfs incident {day}"
        )
    if record.state is not State.DONE or rows < ROWS_GREEN:
        return Check(
            name=name, status=CheckStatus.AMBER, figure=figure, threshold=threshold, action=f"mlfs explain {day}"
        )
    return Check(name=name, status=CheckStatus.GREEN, figure=figure, threshold=threshold)


def _dependencies(facts: ChecklistInput) -> Check:
    held = _rows_held(facts)
    taken_back = facts.record.ignored if facts.record else frozenset()
    empty = [name for name in PROCESSORS if not held.get(name) or name in taken_back]
    filled = len(PROCESSORS) - len(empty)
    where = "at the build" if facts.upstream is None else "now"
    status = CheckStatus.GREEN if not empty else CheckStatus.AMBER if filled else CheckStatus.RED
    if facts.upstream is None and not held:
        status = CheckStatus.UNKNOWN
    shown = ", ".join(f"{name} {'taken back' if name in taken_back else held.get(name, 0)}" for name in PROCESSORS)
    figure = f"{filled} of {len(PROCESSORS)} tables with rows {where} ({shown})"
    action = (
        ""
        if status in {CheckStatus.GREEN, CheckStatus.UNKNOWN}
        else f"run again: {', '.join(empty)}; then mlfs incident"
    )
    return Check(
        name="dependencies",
        status=status,
        figure="no build counted the rows, and no table could be read" if status is CheckStatus.UNKNOWN else figure,
        threshold="4 of 4",
        action=f"{action} {facts.day}" if action else "",
    )


def _rows_held(facts: ChecklistInput) -> Mapping[str, int]:
    if facts.upstream is not None:
        return {name: facts.upstream[name]["row_count"] for name in PROCESSORS}
    result = facts.record.result if facts.record else None
    return result.dependency_rows if result else {}


def _fallback(facts: ChecklistInput) -> Check:
    result = facts.record.result if facts.record else None
    threshold = f"up to {FALLBACK_GREEN:.0%}"
    if result is None:
        return _nothing_published("fallback", facts, threshold)
    rate = result.fallback_rate
    status = (
        CheckStatus.GREEN
        if rate <= FALLBACK_GREEN
        else CheckStatus.AMBER
        if rate <= FALLBACK_AMBER
        else CheckStatus.RED
    )
    action = "" if status is CheckStatus.GREEN else f"which processor fell back: mlfs incident {facts.day}"
    return Check(name="fallback", status=status, figure=f"{rate:.1%}", threshold=threshold, action=action)


def _quality(facts: ChecklistInput) -> Check:
    result = facts.record.result if facts.record else None
    threshold = f"score {SCORE_GREEN:g}, every component green"
    if result is None:
        return _nothing_published("quality", facts, threshold)
    weak = {name: points for name, points in result.components.items() if points < COMPONENTS_GREEN.get(name, 0.0)}
    score = result.quality_score
    status = (
        CheckStatus.RED
        if score < SCORE_AMBER
        else CheckStatus.AMBER
        if score < SCORE_GREEN or weak
        else CheckStatus.GREEN
    )
    low = ", ".join(f"{name} {points:g}" for name, points in weak.items())
    action = {
        CheckStatus.RED: f"P1: mlfs incident {facts.day}",
        CheckStatus.AMBER: f"mlfs incident {facts.day}",
    }.get(status, "")
    figure = f"score {score:.1f}" + (f"; low: {low}" if low else "")
    return Check(name="quality", status=status, figure=figure, threshold=threshold, action=action)


def _nothing_published(name: str, facts: ChecklistInput, threshold: str) -> Check:
    status = CheckStatus.RED if facts.due else CheckStatus.AMBER
    action = f"mlfs incident {facts.day}" if facts.due else f"mlfs explain {facts.day}"
    return Check(name=name, status=status, figure="nothing is published", threshold=threshold, action=action)


def _phase5(facts: ChecklistInput) -> Check:
    threshold = f"told, {PREDICTIONS_GREEN} predictions, confidence {CONFIDENCE_GREEN:g}"
    name = "phase 5"
    record = facts.record
    if record is None or record.result is None:
        return _nothing_published(name, facts, threshold)
    if facts.untold:
        why = facts.untold.error or "the outcome waits in the outbox"
        action = "a worker tries again every second; what the bus needs: mlfs doctor"
        return Check(
            name=name, status=CheckStatus.RED, figure=f"not told yet: {why}", threshold=threshold, action=action
        )
    if facts.predictions is None:
        figure = "told; its predictions could not be read"
        return Check(name=name, status=CheckStatus.UNKNOWN, figure=figure, threshold=threshold)
    if not facts.predictions:
        figure = "told; its predictions are not in this warehouse"
        return Check(name=name, status=CheckStatus.GREEN, figure=figure, threshold="told")
    count, confidence = facts.predictions["prediction_count"], facts.predictions["average_confidence"]
    figure = f"told, {count} predictions, confidence {number(confidence)}"
    if count >= PREDICTIONS_GREEN and (confidence or 0.0) >= CONFIDENCE_GREEN:
        return Check(name=name, status=CheckStatus.GREEN, figure=figure, threshold=threshold)
    status = CheckStatus.AMBER if count else CheckStatus.RED
    action = "ask Phase 5: the outcome was published" + ("" if count else ", and there are no predictions")
    return Check(name=name, status=status, figure=figure, threshold=threshold, action=action)


def _answer(day: date, checks: Sequence[Check], not_read: Sequence[str]) -> dict[str, Any]:
    return {
        "analysis_date": day.isoformat(),
        "weekday": f"{day:%A}",
        "checks": [
            {
                "check": done.name,
                "status": done.status.value,
                "figure": done.figure,
                "threshold": done.threshold,
                "action": done.action,
            }
            for done in checks
        ],
        "not_read": list(not_read),
    }


def checks_table(day: date, checks: Sequence[Check], zone: ZoneInfo) -> RenderableType:
    """Return the checklist; on a narrow screen what is expected and what to do stand below what was found."""
    cells = []
    for done in checks:
        figure, action = (plain(in_zone(text, zone)) for text in (done.figure, done.action))
        do = f"\ndo: {action}" if action else ""
        stacked = f"{figure}\n[dim]expected: {done.threshold}[/]{do}"
        cells.append((f"[{STYLE[done.status]}]{done.status}[/]", done.name, figure, done.threshold, action, stacked))
    return table(
        ("", "check", "found", "expected", "do", "found, expected, to do"),
        cells,
        texts={"found", "expected", "do", "found, expected, to do"},
        wide={"found", "expected", "do"},
        narrow={"found, expected, to do"},
        wide_from=COLUMNS_WIDE,
        title=with_weekday(day),
    )
