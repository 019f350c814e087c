"""`mlfs review`: the monthly infrastructure review of the pipeline document, as far as stored evidence reaches.

Store and warehouse show nights, durations, retries, costs, requests of people and parked messages. A point of the
document's list without stored evidence stands in the answer as not known, with the place to look. The command only
reads.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from ops.arguments import Json, reading_resources
from ops.output import number, out, plain, show_json, table
from ops.reports.cost import GIB_PER_DAY_MAX, SLOT_HOURS_PER_DAY_MAX, days_of
from ops.reports.facts import Row
from ops.reports.impact import ReadDate, read_dates
from ops.reports.sources import ReportReader, read_nights
from ops.reports.weekly import MINUTES_HIGH, show_not_read
from ops.reports.weekly_figures import durations_of
from statemachine.evidence import severity_of
from statemachine.model import State
from worker.features.model import StepCost
from worker.ports import ParkedMessage
from worker.resources import Resources
from worker.settings import Settings

MONTHS_PER_YEAR = 12
PARKED_MAX = 10_000
NOT_KNOWN = "not known"
_MONTH = re.compile(r"[1-9]\d{3}-(0[1-9]|1[0-2])")


def read_month(text: str) -> date:
    """Return the first day of a month written as `2024-12`."""
    if not _MONTH.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is no month; write 2024-12")
    return date.fromisoformat(f"{text}-01")


def review(
    month: Annotated[
        date | None,
        typer.Option("--month", parser=read_month, metavar="MONTH", help="2024-12; default: the month before tonight."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the monthly review: nights, durations, retries, costs, dead letters, requests of people, infrastructure.

    Points of the document's infrastructure review without evidence in store and warehouse (redeliveries, retention of
    the topics, permissions) stand as not known, with the command or metric that shows them.

    Examples:
      mlfs review
      mlfs review --month 2024-12
      mlfs review --month 2024-12 --json
    """
    with reading_resources() as parts:
        reader = ReportReader(parts)
        calendar = parts.settings.calendar
        first = month or _month_before(calendar.tonight(reader.now))
        last = _next_month(first) - timedelta(days=1)
        nights = read_nights(parts, reader, last, (last - first).days + 1)
        attempts = reader.ask("report_attempts", first_date=first, last_date=last)
        answer = {
            "month": f"{first:%Y-%m}",
            "nights": nights_of_month(read_dates(parts, reader, nights), reader.now),
            "durations": _durations(attempts),
            "costs": _costs(parts, reader, first, last, calendar.zone),
            "requests": _requests(reader.ask("report_requests", first_date=first, last_date=last)),
            "dead_letters": _dead_letters(parts.store.parked(PARKED_MAX), first, last, calendar.zone),
            "outbox_waiting": parts.store.outbox_size(),
            "infrastructure": list(_infrastructure(parts.settings)),
            "not_read": reader.not_read,
        }
    if as_json:
        show_json(answer)
        return
    _show(answer)
    show_not_read(reader)


def _month_before(day: date) -> date:
    return (day.replace(day=1) - timedelta(days=1)).replace(day=1)


def _next_month(first: date) -> date:
    return date(first.year + first.month // MONTHS_PER_YEAR, first.month % MONTHS_PER_YEAR + 1, 1)


def nights_of_month(dates: Sequence[ReadDate], now: datetime) -> dict[str, Any]:
    """Return the number of nights by end, by severity and by publication in time; *now* is UTC."""
    over = [read for read in dates if read.night.over]
    records = [read.night.record for read in over if read.night.record is not None]
    severities = Counter(severity_of(record) or "none" for record in records)
    in_time = sum(1 for read in over if read.at_cutoff is not None)
    return {
        "over": len(over),
        **{state.value: sum(1 for read in over if read.night.state == state) for state in _ENDS},
        "never_opened": sum(1 for read in over if read.night.state is None),
        "published_by_cutoff": in_time,
        "late": sum(1 for read in over if read.at_cutoff is None and read.publications),
        "replaced_after_cutoff": sum(1 for read in over if "replaced after the cutoff" in read.marks(now)),
        "severities": dict(sorted(severities.items())),
    }


_ENDS = (State.DONE, State.DEGRADED, State.FAILED)


def _durations(attempts: Sequence[Row] | None) -> dict[str, Any] | None:
    """Return durations and retries of the attempts; None if the execution log could not be read."""
    if attempts is None:
        return None
    figures = durations_of(attempts, [])
    rows = figures["attempts"]
    builds = {(row["analysis_date"], row["generation"]) for row in rows}
    retried = {(row["analysis_date"], row["generation"]) for row in rows if _is_retry(row, rows)}
    return {
        "phases": figures["phases"],
        "generations": len(builds),
        "attempts": len(rows),
        "failed_attempts": sum(1 for row in rows if row["state"] == State.FAILED),
        "retried_generations": len(retried),
        "over_25_minutes": sorted({row["analysis_date"] for row in rows if row["seconds"] > MINUTES_HIGH * 60}),
    }


def _is_retry(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> bool:
    generation = (row["analysis_date"], row["generation"])
    return any(
        (other["analysis_date"], other["generation"]) == generation and other["attempt"] < row["attempt"]
        for other in rows
    )


def _costs(parts: Resources, reader: ReportReader, first: date, last: date, zone: ZoneInfo) -> dict[str, Any] | None:
    """Return the sums of the month, and the days above a limit; None if the costs could not be read."""
    since, until = (datetime.combine(day, time(), zone) for day in (first, last + timedelta(days=1)))
    steps: Sequence[StepCost] | None = reader.from_warehouse(lambda: parts.warehouse.costs(since, until))
    if steps is None:
        return None
    days = days_of(steps)
    return {
        "billed": not parts.settings.warehouse.startswith("duckdb:"),
        "query_count": sum(day["query_count"] for day in days),
        "total_slot_hours": round(sum(day["total_slot_hours"] for day in days), 4),
        "total_gb_processed": round(sum(day["total_gb_processed"] for day in days), 4),
        "usd": round(sum(day["usd"] for day in days), 4),
        "days_to_optimize": [day["execution_date"] for day in days if day["optimize"]],
    }


def _requests(rows: Sequence[Row] | None) -> dict[str, int] | None:
    """Return the number of requests by mode; None if the audit could not be read."""
    return None if rows is None else dict(sorted(Counter(row["mode"] for row in rows).items()))


def _dead_letters(parked: Sequence[ParkedMessage], first: date, last: date, zone: ZoneInfo) -> dict[str, int]:
    """Return the number of parked messages by reason, by the kept copies in the store."""
    inside = (copy for copy in parked if first <= copy.received_at.astimezone(zone).date() <= last)
    return dict(sorted(Counter(copy.reason for copy in inside).items()))


def _infrastructure(settings: Settings) -> Iterator[dict[str, str]]:
    """Yield the points of the document's infrastructure review: what is known here, and where to look."""
    points = (
        (
            "permissions of the service account",
            NOT_KNOWN,
            "mlfs doctor; ops/terraform/roles.yaml holds the least rights",
        ),
        (
            "retention of topics and subscriptions",
            NOT_KNOWN,
            f"gcloud pubsub subscriptions describe {settings.subscription}; the document asks for 7 days",
        ),
        (
            "redelivered and duplicate messages",
            NOT_KNOWN,
            "metric mlfs_events_total, by outcome; the dashboard's intake",
        ),
        ("messages in the dead-letter subscription", NOT_KNOWN, "mlfs dlq list"),
        (
            "timeout of a BigQuery job",
            f"{settings.bigquery_job_timeout_s:g} s",
            "MLFS_BIGQUERY_JOB_TIMEOUT_S; above the longest attempt",
        ),
        (
            "deadline and upgrade cutoff",
            f"{settings.calendar.deadline} and {settings.calendar.upgrade_cutoff}",
            "late nights and late reports: mlfs reliability",
        ),
        ("thresholds of the alerts", NOT_KNOWN, "severities above against the pages of the month: false alarms?"),
        ("optimization of the build", NOT_KNOWN, f"attempts over {MINUTES_HIGH:g} minutes above; mlfs durations"),
    )
    yield from ({"point": point, "known": known, "look": look} for point, known, look in points)


def _show(answer: Mapping[str, Any]) -> None:
    figures = list(_figures(answer))
    out.print(f"[bold]review of {answer['month']}[/]")
    out.print(table(("", "figure"), figures, texts={"", "figure"}, header=False))
    rows = [tuple(plain(row[name]) for name in ("point", "known", "look")) for row in answer["infrastructure"]]
    out.print(
        table(("infrastructure", "known here", "look at"), rows, texts={"infrastructure", "known here", "look at"})
    )


def _figures(answer: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    nights = answer["nights"]
    yield "nights that are over", _listed({name: nights[name] for name in ("over", *_ENDS, "never_opened")})
    timely = ("published_by_cutoff", "late", "replaced_after_cutoff")
    yield "publications", _listed({name: nights[name] for name in timely})
    yield "severities", _listed(nights["severities"])
    yield from _duration_figures(answer["durations"])
    yield from _cost_figures(answer["costs"])
    requests = answer["requests"]
    yield "requests of people", NOT_KNOWN if requests is None else _listed(requests)
    yield "parked messages, by kept copies", _listed(answer["dead_letters"])
    yield "outcomes waiting for the bus now", str(answer["outbox_waiting"])


def _duration_figures(durations: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if durations is None:
        yield "attempts", NOT_KNOWN
        return
    counts = ("attempts", "failed_attempts", "generations", "retried_generations")
    yield "attempts", _listed({name: durations[name] for name in counts})
    for phase in durations["phases"]:
        spans = ", ".join(f"{name} {number(phase[name], '.2f')} s" for name in ("p50", "p95", "max"))
        yield f"duration of an {phase['phase']}" if phase["phase"] == "attempt" else phase["phase"], spans
    yield f"attempts over {MINUTES_HIGH:g} minutes", ", ".join(durations["over_25_minutes"]) or "none"


def _cost_figures(costs: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if costs is None:
        yield "costs", NOT_KNOWN
        return
    if not costs["billed"]:
        yield "costs", "none: the embedded warehouse bills no query"
        return
    spent = f"{costs['total_slot_hours']:.3f} slot hours, {costs['total_gb_processed']:.3f} GiB, {costs['usd']:.4f} USD"
    yield "costs", f"{spent}, {costs['query_count']} queries"
    limits = f"above {SLOT_HOURS_PER_DAY_MAX:g} slot hours or {GIB_PER_DAY_MAX:g} GiB"
    yield f"days {limits}", ", ".join(costs["days_to_optimize"]) or "none"


def _listed(counts: Mapping[str, int]) -> str:
    """Return counts in one line: `over 30, done 28`; `none` without counts."""
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items()) or "none"
