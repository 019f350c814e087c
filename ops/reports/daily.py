"""`mlfs daily`: the daily checklist of the pipeline document, five checks with figure, threshold, action."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.console import RenderableType

from ops.arguments import EXIT_DEGRADED, EXIT_FAILED, EXIT_UNAVAILABLE, Json, date_or, reading_resources
from ops.output import err, out, plain, show_findings, show_json, table
from ops.reports.checks import Check, CheckStatus, check, describe_checks
from ops.reports.facts import DateFacts
from ops.reports.sources import ReportReader
from worker.calendar import with_weekday
from worker.date_text import in_zone
from worker.finding_text import as_json

COLUMNS_WIDE = 100
EXIT_OF = ((CheckStatus.RED, EXIT_FAILED), (CheckStatus.AMBER, EXIT_DEGRADED), (CheckStatus.UNKNOWN, EXIT_UNAVAILABLE))
"""Exit codes, worst result first; 0 if all checks are green."""
STYLE = {CheckStatus.GREEN: "green", CheckStatus.AMBER: "yellow", CheckStatus.RED: "red", CheckStatus.UNKNOWN: "dim"}


def daily(
    analysis_date: Annotated[date | None, date_or("The analysis date; default: last night.")] = None,
    as_json: Json = False,
) -> None:
    """Run the daily checklist of an analysis date: build, dependencies, fallback, quality, predictions of Phase 5.

    Thresholds come from the pipeline's definition (`mlfs config` names the file). A date without games that no worker
    has opened needs no checks.

    Exit codes: 0 all green, 3 a check is amber, 1 a check is red, 4 a check could not be made and no check is amber or
    red (while the warehouse does not answer: the predictions of Phase 5).

    Examples:
      mlfs daily
      mlfs daily 2024-12-15 --json
    """
    with reading_resources() as parts:
        calendar = parts.settings.calendar
        day = analysis_date or calendar.last_night(parts.clock.now())
        reader = ReportReader(parts)
        record = parts.store.load(day)
        expected = record is not None or calendar.expected(day)
        facts = reader.facts(day, record) if expected else None
    checks = check(facts) if facts is not None else []
    if as_json:
        show_json(_answer(day, facts, checks, reader.not_read))
    else:
        _show(day, facts, checks, calendar.zone)
        for fault in reader.not_read:
            err.print("not read:", plain(fault), soft_wrap=True)
    raise typer.Exit(next((code for status, code in EXIT_OF if any(done.status is status for done in checks)), 0))


def _answer(day: date, facts: DateFacts | None, checks: Sequence[Check], not_read: Sequence[str]) -> dict[str, Any]:
    return {
        "analysis_date": day.isoformat(),
        "weekday": f"{day:%A}",
        "expected": facts is not None,
        "checks": describe_checks(checks),
        "findings": as_json(facts.findings) if facts is not None else None,
        "not_read": list(not_read),
    }


def _show(day: date, facts: DateFacts | None, checks: Sequence[Check], zone: ZoneInfo) -> None:
    if facts is None:
        out.print(f"{with_weekday(day)}: no night is expected, and none was opened")
        return
    out.print(checks_table(day, checks, zone))
    if facts.findings:
        show_findings({"findings": as_json(facts.findings)})


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
