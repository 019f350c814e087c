"""Figures of the weekly review, computed from analysis dates and attempts. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from statistics import StatisticsError, correlation, fmean, quantiles
from typing import Any

from ops.reports.facts import Row
from ops.reports.sources import PROCESSORS, ReportedDate
from statemachine.events import EventKind
from statemachine.model import CompletionStatus, State

TREND_DAYS_MIN = 3
SECONDS_DIGITS = 3
TROUBLES = ("failed", "late", "missing", "event_lost", "empty")


def slope(values: Sequence[float]) -> float | None:
    """Return the least-squares change per value; None for fewer than `TREND_DAYS_MIN` values."""
    if len(values) < TREND_DAYS_MIN:
        return None
    middle, mean = (len(values) - 1) / 2, fmean(values)
    spread = sum((place - middle) ** 2 for place in range(len(values)))
    return round(sum((place - middle) * (value - mean) for place, value in enumerate(values)) / spread, 4)


def reliability_of(nights: Sequence[ReportedDate]) -> dict[str, Any]:
    """Count for each processor the analysis dates with a trouble, over all dates past the end or the deadline.

    Args:
        nights: Analysis dates with histories. A date that is not over, or of which neither store nor warehouse knows,
            is not counted.

    Returns:
        `nights`, `processors` (for each the count of every kind of trouble, `troubled` dates, `by_weekday`, `dates`),
        `worst` (the processor with most troubled dates; None after a tie).
    """
    over = [night for night in nights if night.over and (night.record is not None or night.published is not None)]
    rows: list[dict[str, Any]] = []
    for processor in PROCESSORS:
        troubles = {night.analysis_date: kinds for night in over if (kinds := set(_troubles(night, processor)))}
        counts = Counter(kind for kinds in troubles.values() for kind in kinds)
        weekdays = Counter(f"{day:%a}" for day in troubles)
        rows.append(
            {
                "processor": processor,
                **{kind: counts[kind] for kind in TROUBLES},
                "troubled": len(troubles),
                "by_weekday": dict(weekdays),
                "dates": {day.isoformat(): sorted(kinds) for day, kinds in troubles.items()},
            }
        )
    first, second, *_rest = sorted(rows, key=lambda row: row["troubled"], reverse=True)
    worst = first["processor"] if first["troubled"] > second["troubled"] else None
    return {"nights": len(over), "processors": rows, "worst": worst}


def _troubles(night: ReportedDate, processor: str) -> Iterator[str]:
    """Yield the troubles of a processor for an analysis date.

    failed: the processor reported a failure, also before a later success. late: the success came after the deadline.
    missing: no success and no rows. event_lost: a probe found rows, and no event came. empty: the processor reported
    success and the table had no row at the build.
    """
    record, rows = night.record, night.rows_at_build(processor)
    if record is None:
        if rows == 0:
            yield "missing"
        return
    completion = record.completions.get(processor)
    if _reported_failure(night, processor):
        yield "failed"
    if completion is None or completion.status is CompletionStatus.FAILED:
        if not rows:
            yield "missing"
    elif completion.status is CompletionStatus.FOUND:
        yield "event_lost"
    elif completion.received_at > record.deadline_at:
        yield "late"
    elif rows == 0:
        yield "empty"


def _reported_failure(night: ReportedDate, processor: str) -> bool:
    completion = night.record.completions.get(processor) if night.record else None
    if completion is not None and completion.status is CompletionStatus.FAILED:
        return True
    said = f"{processor} reported {CompletionStatus.FAILED}"
    return any(
        entry.event == EventKind.COMPLETION_RECEIVED and entry.detail.startswith(said) for entry in night.history
    )


def durations_of(attempts: Sequence[Row], nights: Sequence[ReportedDate]) -> dict[str, Any]:
    """Compute the durations of attempts from the execution log, and of phases from the histories in the store.

    Args:
        attempts: Rows of the execution log.
        nights: Analysis dates with histories.

    Returns:
        `phases` (`phase`, `times`, `p50`, `p95`, `max` in seconds): `attempt` claim to end of published attempts;
        `failed attempt`; `queue` ready to claim; `build` claim to commit by the history. `attempts`, `days`,
        `rows_correlation` (of published attempts; None for too few attempts or equal row counts).
    """
    rows = [_attempt(row) for row in attempts]
    good = [row for row in rows if row["state"] != State.FAILED]
    phases = {
        "attempt": [row["seconds"] for row in good],
        "failed attempt": [row["seconds"] for row in rows if row["state"] == State.FAILED],
        **_phases(nights),
    }
    return {
        "phases": [{"phase": name, **spread_of(spans)} for name, spans in phases.items() if spans],
        "attempts": rows,
        "days": _by_day(rows),
        "rows_correlation": correlation_of([(row["row_count"], row["seconds"]) for row in good]),
    }


def _attempt(row: Row) -> dict[str, Any]:
    return {
        "analysis_date": row["analysis_date"].isoformat(),
        "generation": row["generation"],
        "attempt": row["attempt"],
        "trigger": row["trigger"],
        "mode": row["mode"],
        "state": row["state"],
        "started_at": row["started_at"].isoformat(),
        "seconds": round((row["completed_at"] - row["started_at"]).total_seconds(), SECONDS_DIGITS),
        "row_count": row["row_count"],
        "error": row["error"],
    }


def _by_day(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    days: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        days[row["analysis_date"]].append(row)
    return [
        {
            "analysis_date": day,
            "attempts": len(of_day),
            "published": sum(1 for row in of_day if row["state"] != State.FAILED),
            "longest_seconds": max(row["seconds"] for row in of_day),
            "row_count": max((row["row_count"] for row in of_day if row["row_count"] is not None), default=None),
        }
        for day, of_day in days.items()
    ]


def _phases(nights: Sequence[ReportedDate]) -> dict[str, list[float]]:
    spans: dict[str, list[float]] = {"queue": [], "build": []}
    names = {(State.READY, State.RUNNING): "queue", (State.RUNNING, State.DONE): "build"}
    names[State.RUNNING, State.DEGRADED] = "build"
    for night in nights:
        since: dict[str, datetime] = {}
        for entry in night.history:
            name = names.get((State(entry.before), State(entry.after))) if entry.before else None
            if name and entry.before in since:
                spans[name].append((entry.at - since[entry.before]).total_seconds())
            if entry.before != entry.after:
                since = {entry.after: entry.at}
    return spans


def spread_of(seconds: Sequence[float]) -> dict[str, Any]:
    """Return number, median, 95th percentile (interpolated) and highest of the values, at least one."""
    cuts = quantiles(seconds, n=20, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 19
    p50, p95 = (round(cut, SECONDS_DIGITS) for cut in (cuts[9], cuts[18]))
    return {"times": len(seconds), "p50": p50, "p95": p95, "max": round(max(seconds), SECONDS_DIGITS)}


def correlation_of(pairs: Sequence[tuple[float | None, float]]) -> float | None:
    """Return the correlation of two series; None for fewer than `TREND_DAYS_MIN` pairs, or a series of equal values."""
    known = [(rows, seconds) for rows, seconds in pairs if rows is not None]
    if len(known) < TREND_DAYS_MIN:
        return None
    try:
        return round(correlation(*zip(*known, strict=True)), 2)
    except StatisticsError:
        return None  # all nights had the same number of rows
