"""`mlfs cost`: the cost of the pipeline by day and step; also the estimates of `mlfs build --dry-run`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from ops.arguments import Json, reading_resources
from ops.output import number, out, show_json, table
from worker.features.model import StatementEstimate, StepCost

GIB = 1024**3
MS_PER_HOUR = 3_600_000
USD_DIGITS = 4

# Source: the monthly cost analysis of the pipeline document. A day above a limit calls for faster queries.
SLOT_HOURS_PER_DAY_MAX = 2.0
GIB_PER_DAY_MAX = 50.0

EMBEDDED_NOTE = "embedded warehouse: nothing is billed; the attempts come from the execution log"


def cost(
    days: Annotated[int, typer.Option(min=1, max=180, help="Number of days.")] = 30,
    as_json: Json = False,
) -> None:
    """Show bytes, slot time and price of the pipeline's BigQuery jobs, by day and by step.

    Days are days of UTC, as on BigQuery's bill: a build at 23:40 in New York belongs to the next day, and the analysis
    date stands beside the day. A day above 2 slot hours or 50 GiB is marked for optimization. The embedded warehouse
    bills no query; the command counts the attempts instead.

    Examples:
      mlfs cost
      mlfs cost --days 7 --json
    """
    with reading_resources() as parts:
        until = parts.clock.now()
        steps = parts.warehouse.costs(until - timedelta(days=days), until)
        billed = not parts.settings.warehouse.startswith("duckdb:")
    answer = {
        "zone": "UTC",
        "days": days_of(steps),
        "steps": [_step(step) for step in steps],
        "usd": round(sum(step.usd for step in steps), USD_DIGITS),
        "note": "" if billed else EMBEDDED_NOTE,
    }
    if as_json:
        show_json(answer)
        return
    _show(answer, days)


def describe_estimates(estimates: Sequence[StatementEstimate]) -> list[dict[str, Any]]:
    """Return the estimates for JSON and for the table."""
    return [
        {
            "statement": estimate.name,
            "bytes_processed": estimate.bytes_processed,
            "usd": round(estimate.usd, 6),
            "reads": list(estimate.reads),
        }
        for estimate in estimates
    ]


def estimates_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return a table of what each statement would read."""
    cells = [
        (
            row["statement"],
            "not billed" if row["bytes_processed"] is None else f"{row['bytes_processed']:,}",
            f"{row['usd']:.6f}",
            "\n".join(row["reads"]),
        )
        for row in rows
    ]
    # Names of tables are wider than a narrow screen: whole, on two lines if need be.
    return table(("statement", "bytes", "USD", "reads"), cells, numbers={"bytes", "USD"}, texts={"statement", "reads"})


def days_of(steps: Sequence[StepCost]) -> list[dict[str, Any]]:
    """Return the sums of each day of UTC, newest first; `optimize` marks a day above a limit of the document."""
    return [_day(day, of_day) for day, of_day in _by_day(steps).items()]


def _by_day(steps: Sequence[StepCost]) -> dict[date, list[StepCost]]:
    days: dict[date, list[StepCost]] = defaultdict(list)
    for step in steps:
        days[step.executed_on].append(step)
    return dict(sorted(days.items(), reverse=True))


def _day(day: date, steps: Sequence[StepCost]) -> dict[str, Any]:
    slot_hours = sum(step.slot_ms for step in steps) / MS_PER_HOUR
    gib = sum(step.bytes_processed for step in steps) / GIB
    return {
        "execution_date": day.isoformat(),
        "query_count": sum(step.jobs for step in steps),
        "total_slot_hours": round(slot_hours, 4),
        "total_gb_processed": round(gib, 4),
        "usd": round(sum(step.usd for step in steps), USD_DIGITS),
        "optimize": slot_hours > SLOT_HOURS_PER_DAY_MAX or gib > GIB_PER_DAY_MAX,
    }


def _step(step: StepCost) -> dict[str, Any]:
    return {
        "execution_date": step.executed_on.isoformat(),
        "analysis_date": step.analysis_date.isoformat() if step.analysis_date else None,
        "step": step.step,
        "query_count": step.jobs,
        "bytes_processed": step.bytes_processed,
        "bytes_billed": step.bytes_billed,
        "slot_ms": step.slot_ms,
        "usd": round(step.usd, 6),
    }


def _show(answer: Mapping[str, Any], days: int) -> None:
    if answer["note"]:
        out.print(answer["note"])
    if not answer["days"]:
        out.print(f"no jobs of this pipeline in the last {days} days")
        return
    by_day = [
        (
            row["execution_date"],
            str(row["query_count"]),
            number(row["total_slot_hours"], ".3f"),
            number(row["total_gb_processed"], ".3f"),
            f"{row['usd']:.4f}",
            "[red]optimize[/]" if row["optimize"] else "",
        )
        for row in answer["days"]
    ]
    numbers = {"queries", "slot hours", "GiB", "USD", "bytes billed"}
    out.print(table(("UTC day", "queries", "slot hours", "GiB", "USD", ""), by_day, numbers=numbers))
    by_step = [
        (
            row["execution_date"],
            row["analysis_date"] or "-",
            row["step"],
            str(row["query_count"]),
            f"{row['bytes_billed']:,}",
            f"{row['usd']:.6f}",
        )
        for row in answer["steps"]
    ]
    out.print(table(("UTC day", "date", "step", "queries", "bytes billed", "USD"), by_step, numbers=numbers))
