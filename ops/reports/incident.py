"""`mlfs incident DATE`: the first ten minutes of the incident playbook in the pipeline document. Changes no state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.cells import cell_len
from rich.table import Table

from ops.arguments import EXIT_DEGRADED, EXIT_FAILED, AnalysisDate, Json, reading_resources
from ops.output import err, out, plain, show_json, state_text
from ops.reports.checks import describe_checks
from ops.reports.facts import DateFacts
from ops.reports.incident_record import read_record, record_text, write_record
from ops.reports.next_steps import Step, next_steps
from ops.reports.sources import ReportReader, iso
from ops.reports.symptoms import minutes_left, time_left
from ops.reports.triage import Cause, Diagnosis, RootCause, diagnose
from statemachine.model import CompletionStatus
from worker.calendar import with_weekday
from worker.date_text import in_zone, standing
from worker.errors import Refused
from worker.finding_text import as_json

SEVERE = frozenset({"P0", "P1"})
RESPONSE: Mapping[str, str] = {
    "P0": "immediately; Phase 5 cannot predict",
    "P1": "within 2 hours; Phase 5's predictions are unreliable",
    "P2": "within 4 hours; predictions are acceptable but worse",
    "P3": "next business day; note it for the weekly review",
}
"""Source: the document's severity levels."""
MEANING: Mapping[RootCause, str] = {
    RootCause.A: "all Phase 4 dependencies failed",
    RootCause.B: "some Phase 4 dependencies failed",
    RootCause.C: "all dependencies present, the feature store failed",
}

RecordFile = Annotated[
    Path | None,
    typer.Option("--record", metavar="FILE", help="Also write the record of the incident, Markdown; - for the output."),
]


def incident(
    analysis_date: AnalysisDate,
    record_file: RecordFile = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing FILE of --record.")] = False,
    as_json: Json = False,
) -> None:
    """Show severity, symptoms, root cause and next commands for an analysis date. Changes no state.

    The command needs the state store. If the warehouse cannot be read, the command names the error and uses builds and
    events only; unread tables count as unknown. Before the deadline the command shows the missing and failed processors
    and the minutes left. With --record the command writes time line, findings, requests of people, the generations
    that Phase 5 could read, and the sections of the post-incident review, to be filled in within 48 hours.

    Exit codes: 0 no fault, or the analysis date is not over, 1 P0 or P1, 3 P2 or P3, or a processor reported a failure
    before the deadline.

    Examples:
      mlfs incident today
      mlfs incident 2024-12-15 --json
      mlfs incident 2024-12-15 --record incident-2024-12-15.md
      mlfs incident 2024-12-15 --record - | less
    """
    with reading_resources() as parts:
        reader = ReportReader(parts)
        calendar = parts.settings.calendar
        stored = parts.store.load(analysis_date)
        if stored is None and not calendar.expected(analysis_date):
            raise Refused(f"{analysis_date}: no night is expected, and none was opened; see: mlfs status")
        facts = reader.facts(analysis_date, stored)
        found = diagnose(facts)
        steps = next_steps(facts, found)
        if record_file is not None:
            text = record_text(read_record(parts, reader, facts), found, steps, calendar.zone)
            write_record(record_file, text, overwrite=overwrite)
    answer = _answer(facts, found, steps, reader)
    if as_json and str(record_file) != "-":
        show_json(answer)
    elif str(record_file) != "-":
        _show(facts, answer, reader, calendar.zone)
    raise typer.Exit(_exit_code(facts, found))


def _exit_code(facts: DateFacts, found: Diagnosis) -> int:
    if found.severity is None:
        failed = any(one.status is CompletionStatus.FAILED for one in facts.record.completions.values())
        return EXIT_DEGRADED if failed and not facts.over else 0
    return EXIT_FAILED if found.severity in SEVERE else EXIT_DEGRADED


def _answer(facts: DateFacts, found: Diagnosis, steps: Sequence[Step], reader: ReportReader) -> dict[str, Any]:
    return {
        **standing(facts.record, facts.untold),
        "severity": found.severity,
        "respond": RESPONSE[found.severity] if found.severity else None,
        "opened": facts.opened,
        "over": facts.over,
        "minutes_left": minutes_left(facts),
        "symptoms": list(found.symptoms),
        "cause": found.cause.value if found.cause else None,
        "scenario": found.scenario.value if found.scenario else None,
        "why": found.why,
        "findings": as_json(facts.findings),
        "checks": describe_checks(found.checks),
        "commands": [{"command": command, "purpose": purpose} for command, purpose in steps],
        "upstream": {
            source: {
                "table": look.table,
                "row_count": look.row_count,
                "last_processed": iso(look.last_processed),
                "fault": look.fault,
            }
            for source, look in facts.upstream.items()
        }
        or None,
        "not_read": reader.not_read,
    }


def _show(facts: DateFacts, answer: Mapping[str, Any], reader: ReportReader, zone: ZoneInfo) -> None:
    out.print(f"{with_weekday(facts.day)}  {state_text(answer['state'])}  {_head(facts, answer)}", soft_wrap=True)
    for symptom in answer["symptoms"]:
        out.print(f"  - {plain(in_zone(symptom, zone))}", soft_wrap=True)
    scenario = answer["scenario"]
    named = f"[bold]scenario {scenario}[/], {MEANING[RootCause(scenario)]}: " if scenario else ""
    if not scenario and answer["cause"] not in {None, Cause.CANCELLED, Cause.UNKNOWN}:
        named = f"[bold]cause {answer['cause']}[/]: "
    out.print(f"{named}{plain(in_zone(answer['why'], zone))}", soft_wrap=True)
    show_commands([(step["command"], in_zone(step["purpose"], zone)) for step in answer["commands"]])
    for fault in reader.not_read:
        err.print("not read:", plain(fault), soft_wrap=True)


def _head(facts: DateFacts, answer: Mapping[str, Any]) -> str:
    if answer["severity"]:
        return f"[bold red]{answer['severity']}[/]: {answer['respond']}"
    if not facts.over:
        return f"[cyan]not over[/]: {time_left(facts)} left until the deadline"
    return "[green]no incident[/]"


def show_commands(steps: Sequence[Step]) -> None:
    """Print the commands. A command stays on a single line at any width, so that a person can copy the command."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("next")
    table.add_column("what for")
    for command, purpose in steps:
        table.add_row(plain(command), plain(purpose))
    if sum(max(map(cell_len, column)) for column in zip(*steps, strict=True)) + 2 <= out.width:
        out.print(table)
        return
    out.print("[bold]next[/]")
    for command, purpose in steps:
        out.print(plain(command), soft_wrap=True)
        out.print(f"    [dim]{plain(purpose)}[/]", soft_wrap=True)
