"""`mlfs daily`: the pipeline document's daily checklist, five checks with figure, threshold and what to do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.console import RenderableType

from ops.arguments import EXIT_DEGRADED, EXIT_FAILED, EXIT_UNAVAILABLE, Json, guest_clock, read_date, reading_parts
from ops.output import err, number, out, plain, show_json, table
from ops.reports.sources import PROCESSORS, ReportReader, Row
from statemachine.evidence import publication_is_retracted
from statemachine.model import TERMINAL_STATES, DateRecord, State
from worker.calendar import with_weekday
from worker.date_text import in_zone
from worker.observing.outbox import Untold, untold_by_date
from worker.resources import Resources

# Source: the document's daily checklist and its severity levels.
ROWS_GREEN, ROWS_AMBER = 400, 200
FALLBACK_GREEN, FALLBACK_AMBER = 0.10, 0.50
SCORE_GREEN, SCORE_AMBER = 90.0, 75.0
PREDICTIONS_GREEN, CONFIDENCE_GREEN = 400, 75.0
COLUMNS_WIDE = 100

# Source: the document's thresholds of each component: points from which it is no warning.
COMPONENTS_GREEN: Mapping[str, float] = {
    "phase4_availability": 36.0,
    "phase3_fallback": 18.0,
    "data_freshness": 12.0,
    "dependency_completeness": 15.0,
    "row_completeness": 4.0,
    "null_field_rate": 4.5,
}


class CheckStatus(StrEnum):
    """How a check came out."""

    GREEN = "green"
    AMBER = "amber"
    RED = "red"
    UNKNOWN = "unknown"


EXIT_OF = ((CheckStatus.RED, EXIT_FAILED), (CheckStatus.AMBER, EXIT_DEGRADED), (CheckStatus.UNKNOWN, EXIT_UNAVAILABLE))
"""Worst first; 0 where all are green."""
STYLE = {CheckStatus.GREEN: "green", CheckStatus.AMBER: "yellow", CheckStatus.RED: "red", CheckStatus.UNKNOWN: "dim"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the checklist.

    Attributes:
        name: What is looked at.
        light: How it came out.
        figure: What was found.
        threshold: What is expected.
        action: What to do; empty where nothing is.
    """

    name: str
    light: CheckStatus
    figure: str
    threshold: str
    action: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecklistInput:
    """All that the checks look at, of one date.

    Attributes:
        day: The date.
        now: Instant of the look. UTC.
        record: As the store has it; None for a date it has not seen.
        upstream: What the tables hold now, by table; None where they could not be read.
        predictions: Phase 5's own; empty where its table is not in this warehouse, None where it could not be read.
        untold: The newest outcome that still waits in the outbox.
    """

    day: date
    now: datetime
    record: DateRecord | None
    upstream: Mapping[str, Row] | None
    predictions: Row | None
    untold: Untold | None

    @property
    def due(self) -> bool:
        """Whether there should be a result by now."""
        return self.record is None or self.record.state in TERMINAL_STATES or self.now >= self.record.deadline_at


def daily(
    analysis_date: Annotated[str, typer.Argument(metavar="DATE", help="The night; last night's without.")] = "",
    as_json: Json = False,
) -> None:
    """Go through the daily checklist of one night: was it built, from what, how good, can Phase 5 go on.

    Exit codes: 0 all green, 3 something is amber, 1 something is red, 4 nothing worse than a check that could not be
    made (while the warehouse does not answer: Phase 5's predictions).

    Examples:
      mlfs daily
      mlfs daily 2024-12-15 --json
    """
    given = read_date(analysis_date) if analysis_date else None
    with reading_parts() as parts:
        day = given or parts.settings.calendar.last_night(guest_clock(parts).now())
        witness = ReportReader(parts)
        checks = check(_morning(parts, witness, day))
        zone = parts.settings.calendar.zone
    code = next((code for light, code in EXIT_OF if any(one.light is light for one in checks)), 0)
    if as_json:
        show_json(_answer(day, checks, witness.not_read))
    else:
        _show(day, checks, zone)
        for what in witness.not_read:
            err.print("not read:", plain(what), soft_wrap=True)
    raise typer.Exit(code)


def _morning(parts: Resources, witness: ReportReader, day: date) -> ChecklistInput:
    record = parts.store.load(day)
    return ChecklistInput(
        day=day,
        now=guest_clock(parts).now(),
        record=record,
        upstream=witness.upstream(day),
        predictions=witness.predictions(day),
        untold=untold_by_date(parts.store).get(day),
    )


def check(morning: ChecklistInput) -> list[Check]:
    """Make the five checks, in the document's order."""
    checks: Sequence[Callable[[ChecklistInput], Check]] = (_built, _dependencies, _fallback, _quality, _phase5)
    return [one(morning) for one in checks]


def _built(morning: ChecklistInput) -> Check:
    record, day = morning.record, morning.day
    name, threshold = "built", f"done, {ROWS_GREEN} players"
    if record is None:
        action = f"no worker has opened it: mlfs doctor, then mlfs replay {day} --reason '…'"
        return Check(name=name, light=CheckStatus.RED, figure="never opened", threshold=threshold, action=action)
    rows = record.result.row_count if record.result else 0
    figure = f"{record.state}, {rows} players"
    if record.result is not None:
        figure += f", published {record.result.committed_at:%Y-%m-%d %H:%M}Z"
    if not morning.due:
        action = f"not due before {record.deadline_at:%Y-%m-%d %H:%M}Z: mlfs explain {day}"
        return Check(name=name, light=CheckStatus.AMBER, figure=figure, threshold=threshold, action=action)
    if record.state is State.FAILED or rows < ROWS_AMBER:
        return Check(
            name=name, light=CheckStatus.RED, figure=figure, threshold=threshold, action=f"P0: mlfs incident {day}"
        )
    if publication_is_retracted(record):
        figure += ", from a run that was taken back"
        return Check(
            name=name, light=CheckStatus.RED, figure=figure, threshold=threshold, action=f"P1: mlfs incident {day}"
        )
    if record.state is not State.DONE or rows < ROWS_GREEN:
        return Check(
            name=name, light=CheckStatus.AMBER, figure=figure, threshold=threshold, action=f"mlfs explain {day}"
        )
    return Check(name=name, light=CheckStatus.GREEN, figure=figure, threshold=threshold)


def _dependencies(morning: ChecklistInput) -> Check:
    held = _rows_held(morning)
    taken_back = morning.record.ignored if morning.record else frozenset()
    empty = [name for name in PROCESSORS if not held.get(name) or name in taken_back]
    filled = len(PROCESSORS) - len(empty)
    where = "at the build" if morning.upstream is None else "now"
    light = CheckStatus.GREEN if not empty else CheckStatus.AMBER if filled else CheckStatus.RED
    if morning.upstream is None and not held:
        light = CheckStatus.UNKNOWN
    shown = ", ".join(f"{name} {'taken back' if name in taken_back else held.get(name, 0)}" for name in PROCESSORS)
    figure = f"{filled} of {len(PROCESSORS)} tables with rows {where} ({shown})"
    action = (
        ""
        if light in {CheckStatus.GREEN, CheckStatus.UNKNOWN}
        else f"run again: {', '.join(empty)}; then mlfs incident"
    )
    return Check(
        name="dependencies",
        light=light,
        figure="no build has counted them, and they could not be read" if light is CheckStatus.UNKNOWN else figure,
        threshold="4 of 4",
        action=f"{action} {morning.day}" if action else "",
    )


def _rows_held(morning: ChecklistInput) -> Mapping[str, int]:
    if morning.upstream is not None:
        return {name: morning.upstream[name]["row_count"] for name in PROCESSORS}
    result = morning.record.result if morning.record else None
    return result.dependency_rows if result else {}


def _fallback(morning: ChecklistInput) -> Check:
    result = morning.record.result if morning.record else None
    threshold = f"up to {FALLBACK_GREEN:.0%}"
    if result is None:
        return _nothing_published("fallback", morning, threshold)
    rate = result.fallback_rate
    light = (
        CheckStatus.GREEN
        if rate <= FALLBACK_GREEN
        else CheckStatus.AMBER
        if rate <= FALLBACK_AMBER
        else CheckStatus.RED
    )
    action = "" if light is CheckStatus.GREEN else f"which processor fell back: mlfs incident {morning.day}"
    return Check(name="fallback", light=light, figure=f"{rate:.1%}", threshold=threshold, action=action)


def _quality(morning: ChecklistInput) -> Check:
    result = morning.record.result if morning.record else None
    threshold = f"score {SCORE_GREEN:g}, every component green"
    if result is None:
        return _nothing_published("quality", morning, threshold)
    weak = {name: points for name, points in result.components.items() if points < COMPONENTS_GREEN.get(name, 0.0)}
    score = result.quality_score
    light = (
        CheckStatus.RED
        if score < SCORE_AMBER
        else CheckStatus.AMBER
        if score < SCORE_GREEN or weak
        else CheckStatus.GREEN
    )
    low = ", ".join(f"{name} {points:g}" for name, points in weak.items())
    action = {
        CheckStatus.RED: f"P1: mlfs incident {morning.day}",
        CheckStatus.AMBER: f"mlfs incident {morning.day}",
    }.get(light, "")
    figure = f"score {score:.1f}" + (f"; low: {low}" if low else "")
    return Check(name="quality", light=light, figure=figure, threshold=threshold, action=action)


def _nothing_published(name: str, morning: ChecklistInput, threshold: str) -> Check:
    light = CheckStatus.RED if morning.due else CheckStatus.AMBER
    action = f"mlfs incident {morning.day}" if morning.due else f"mlfs explain {morning.day}"
    return Check(name=name, light=light, figure="nothing is published", threshold=threshold, action=action)


def _phase5(morning: ChecklistInput) -> Check:
    threshold = f"told, {PREDICTIONS_GREEN} predictions, confidence {CONFIDENCE_GREEN:g}"
    name = "phase 5"
    record = morning.record
    if record is None or record.result is None:
        return _nothing_published(name, morning, threshold)
    if morning.untold:
        why = morning.untold.error or "the outcome waits in the outbox"
        action = "a worker tries again every second; what the bus needs: mlfs doctor"
        return Check(
            name=name, light=CheckStatus.RED, figure=f"not told yet: {why}", threshold=threshold, action=action
        )
    if morning.predictions is None:
        figure = "told; its predictions could not be read"
        return Check(name=name, light=CheckStatus.UNKNOWN, figure=figure, threshold=threshold)
    if not morning.predictions:
        figure = "told; its predictions are not in this warehouse"
        return Check(name=name, light=CheckStatus.GREEN, figure=figure, threshold="told")
    count, confidence = morning.predictions["prediction_count"], morning.predictions["average_confidence"]
    figure = f"told, {count} predictions, confidence {number(confidence)}"
    if count >= PREDICTIONS_GREEN and (confidence or 0.0) >= CONFIDENCE_GREEN:
        return Check(name=name, light=CheckStatus.GREEN, figure=figure, threshold=threshold)
    light = CheckStatus.AMBER if count else CheckStatus.RED
    action = "ask Phase 5: it was told of this night" + ("" if count else " and predicted nothing")
    return Check(name=name, light=light, figure=figure, threshold=threshold, action=action)


def _answer(day: date, checks: Sequence[Check], not_read: Sequence[str]) -> dict[str, Any]:
    return {
        "analysis_date": day.isoformat(),
        "weekday": f"{day:%A}",
        "checks": [
            {
                "check": one.name,
                "status": one.light.value,
                "figure": one.figure,
                "threshold": one.threshold,
                "action": one.action,
            }
            for one in checks
        ],
        "not_read": list(not_read),
    }


def _show(day: date, checks: Sequence[Check], zone: ZoneInfo) -> None:
    out.print(checks_table(day, checks, zone))


def checks_table(day: date, checks: Sequence[Check], zone: ZoneInfo) -> RenderableType:
    """Return the checklist; on a narrow screen what is expected and what to do stand below what was found."""
    cells = []
    for one in checks:
        figure, action = (plain(in_zone(text, zone)) for text in (one.figure, one.action))
        do = f"\ndo: {action}" if action else ""
        stacked = f"{figure}\n[dim]expected: {one.threshold}[/]{do}"
        cells.append((f"[{STYLE[one.light]}]{one.light}[/]", one.name, figure, one.threshold, action, stacked))
    return table(
        ("", "check", "found", "expected", "do", "found, expected, to do"),
        cells,
        texts={"found", "expected", "do", "found, expected, to do"},
        wide={"found", "expected", "do"},
        narrow={"found, expected, to do"},
        wide_from=COLUMNS_WIDE,
        title=with_weekday(day),
    )
