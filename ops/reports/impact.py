"""`mlfs impact`: what each analysis date meant for Phase 5, the fourth week of the pipeline document's weekly review.

The ledger shows what Phase 5 could read and from when on; the table of Phase 5 shows the predictions. The figures are
computed by pure functions; the command only reads.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean
from typing import Any

from rich.console import RenderableType

from ops.arguments import Json, reading_resources
from ops.output import counted, number, out, plain, show_json, state_text, table
from ops.reports.checks import CONFIDENCE_GREEN, predictions_expected
from ops.reports.facts import Row
from ops.reports.sources import ReportedDate, ReportReader, iso, read_nights
from ops.reports.weekly import DAYS_DEFAULT, SCORE_LOW, Days, Last, show_not_read
from ops.reports.weekly_figures import correlation_of
from statemachine.model import BuildMode, FindingSeverity, State
from worker.errors import Unavailable
from worker.features.records import read_findings
from worker.resources import Resources

COLUMNS_WIDE = 110
DIGITS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadDate:
    """What Phase 5 could read of an analysis date.

    Attributes:
        night: The analysis date.
        cutoff_at: Instant at which Phase 5 starts, the upgrade cutoff and SLA. UTC.
        publications: Publications in order, from the ledger.
        predictions: Predictions of Phase 5; empty without the table, None if unknown.
    """

    night: ReportedDate
    cutoff_at: datetime
    publications: Sequence[Row]
    predictions: Row | None

    @property
    def at_cutoff(self) -> Row | None:
        """The publication that Phase 5 read at the cutoff; None if nothing was published by then."""
        by_then = [row for row in self.publications if row["committed_at"] <= self.cutoff_at]
        return by_then[-1] if by_then else None

    @property
    def newest(self) -> Row | None:
        """The publication that consumers read now; None without a publication."""
        return self.publications[-1] if self.publications else None

    def marks(self, now: datetime) -> Iterator[str]:
        """Yield what a person should look at; *now* is UTC."""
        newest, at_cutoff = self.newest, self.at_cutoff
        if newest is None:
            if self.night.over:
                yield "nothing published"
            return
        if at_cutoff is None and now > self.cutoff_at:
            yield "late"
        elif at_cutoff is not None and at_cutoff is not newest:
            yield "replaced after the cutoff"
        read = at_cutoff or newest
        if read["mode"] == BuildMode.YESTERDAY:
            yield "yesterday's rows"
        if read["state"] == State.DEGRADED:
            yield "degraded"
        if read["quality_score"] is not None and read["quality_score"] < SCORE_LOW:
            yield f"score below {SCORE_LOW:g}"
        if any(finding.severity is FindingSeverity.CRITICAL for finding in read_findings(read["findings"]) or ()):
            yield "critical finding"
        yield from self._marks_of_predictions(read)

    def _marks_of_predictions(self, read: Row) -> Iterator[str]:
        if not self.predictions:
            return
        count, confidence = self.predictions["prediction_count"], self.predictions["average_confidence"]
        if not count:
            yield "no predictions"
        elif count < predictions_expected(read["row_count"] or 0):
            yield "few predictions"
        if confidence is not None and confidence < CONFIDENCE_GREEN:
            yield "unsure predictions"


def impact(days: Days = DAYS_DEFAULT, last: Last = None, as_json: Json = False) -> None:
    """Show what each analysis date meant for Phase 5: what was readable at the cutoff, and the predictions.

    For each date: first publication, the generation that Phase 5 read at the upgrade cutoff (when Phase 5 starts), its
    score and fallback rate, later replacements, number and mean confidence of the predictions. The summary compares
    the predictions of sound dates with those of marked dates. Without Phase 5's table in this warehouse the
    predictions are not known. The command needs the warehouse.

    Examples:
      mlfs impact
      mlfs impact --days 30 --to 2024-12-15
      mlfs impact --json
    """
    with reading_resources() as parts:
        reader = ReportReader(parts)
        until = last or parts.settings.calendar.tonight(reader.now)
        dates = read_dates(parts, reader, read_nights(parts, reader, until, days))
    answer = {**impact_of(dates, reader.now), "not_read": reader.not_read}
    if as_json:
        show_json(answer)
        return
    _show(answer)
    show_not_read(reader)


def read_dates(parts: Resources, reader: ReportReader, nights: Sequence[ReportedDate]) -> list[ReadDate]:
    """Read publications and predictions of *nights*.

    Raises:
        Unavailable: The ledger could not be read.
    """
    if not nights:
        return []
    first, until = nights[0].analysis_date, nights[-1].analysis_date
    rows = reader.ask("report_publications", first_date=first, last_date=until)
    if rows is None:
        raise Unavailable(f"what Phase 5 could read is read from the ledger. {'; '.join(reader.not_read)}")
    predictions = reader.predictions(first, until)
    calendar = parts.settings.calendar
    return [
        ReadDate(
            night=night,
            cutoff_at=calendar.at(night.analysis_date, calendar.upgrade_cutoff),
            publications=[row for row in rows if row["analysis_date"] == night.analysis_date],
            predictions=None if predictions is None else predictions.get(night.analysis_date, {}),
        )
        for night in nights
    ]


def impact_of(dates: Sequence[ReadDate], now: datetime) -> dict[str, Any]:
    """Return the figures of the report; *now* is UTC.

    Returns:
        `dates` (a row for each date), `sound` and `marked` (number of dates with predictions, mean number and mean
        confidence of the predictions), `score_correlation` (of the read score and the mean confidence; None for too
        few dates), `predictions_known`.
    """
    rows = [_row(read, now) for read in dates]
    predicted = [row for row in rows if row["prediction_count"] is not None]
    pairs = [
        (row["quality_score"], row["average_confidence"]) for row in predicted if row["average_confidence"] is not None
    ]
    return {
        "dates": rows,
        "sound": _means([row for row in predicted if not row["marks"]]),
        "marked": _means([row for row in predicted if row["marks"]]),
        "score_correlation": correlation_of(pairs),
        "predictions_known": bool(predicted),
    }


def _row(read: ReadDate, now: datetime) -> dict[str, Any]:
    at_cutoff, newest = read.at_cutoff, read.newest
    used = at_cutoff or newest or {}
    first = read.publications[0]["committed_at"] if read.publications else None
    predictions = read.predictions or {}
    return {
        "analysis_date": read.night.analysis_date.isoformat(),
        "state": read.night.state,
        "first_published_at": iso(first),
        "minutes_after_cutoff": None if first is None else round((first - read.cutoff_at).total_seconds() / 60, DIGITS),
        "generation_at_cutoff": at_cutoff["generation"] if at_cutoff else None,
        "generation_now": newest["generation"] if newest else None,
        "row_count": used.get("row_count"),
        "quality_score": used.get("quality_score"),
        "fallback_rate": used.get("fallback_rate"),
        "prediction_count": predictions.get("prediction_count"),
        "average_confidence": predictions.get("average_confidence"),
        "marks": list(read.marks(now)),
    }


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    confidences = [row["average_confidence"] for row in rows if row["average_confidence"] is not None]
    return {
        "dates": len(rows),
        "predictions": round(fmean(row["prediction_count"] for row in rows), DIGITS) if rows else None,
        "confidence": round(fmean(confidences), DIGITS) if confidences else None,
    }


def _show(answer: Mapping[str, Any]) -> None:
    out.print(impact_table(answer["dates"]))
    if not answer["predictions_known"]:
        out.print("predictions: not known, Phase 5's table is absent or could not be read")
        return
    for name in ("sound", "marked"):
        means = answer[name]
        if means["dates"]:
            out.print(
                f"{counted(means['dates'], f'{name} date')}: {number(means['predictions'])} predictions, confidence "
                f"{number(means['confidence'])} in the mean"
            )
    if answer["score_correlation"] is not None:
        out.print(f"correlation of score and confidence: {answer['score_correlation']:+.2f}")


def impact_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return the dates, oldest first; on a narrow screen without fallback and confidence."""
    cells = [
        (
            row["analysis_date"],
            state_text(row["state"]) if row["state"] else "-",
            number(row["generation_at_cutoff"], "d"),
            number(row["generation_now"], "d"),
            number(row["quality_score"]),
            number(row["fallback_rate"], ".1%"),
            number(row["prediction_count"], "d"),
            number(row["average_confidence"]),
            plain(", ".join(row["marks"])) or "-",
        )
        for row in rows
    ]
    names = ("date", "state", "read at cutoff", "read now", "score", "fallback", "predictions", "confidence", "look at")
    numbers = set(names) - {"date", "state", "look at"}
    return table(
        names, cells, numbers=numbers, texts={"look at"}, wide={"fallback", "confidence"}, wide_from=COLUMNS_WIDE
    )
