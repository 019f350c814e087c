"""`mlfs incident DATE`: the first ten minutes of the incident playbook in the pipeline document. Changes no state."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import typer
from rich.cells import cell_len
from rich.table import Table

from ops.arguments import EXIT_DEGRADED, EXIT_FAILED, AnalysisDate, Json, reading_resources
from ops.output import err, out, plain, show_json, state_text
from ops.reports.sources import ReportReader, iso
from ops.reports.triage import RESPONSE, Diagnosis, RootCause, TriageInput, diagnose
from worker.calendar import with_weekday
from worker.date_text import in_zone, standing
from worker.errors import Refused
from worker.observing.outbox import untold_by_date

SEVERE = frozenset({"P0", "P1"})
MEANING: Mapping[RootCause, str] = {
    RootCause.A: "all Phase 4 dependencies failed",
    RootCause.B: "some Phase 4 dependencies failed",
    RootCause.C: "all dependencies present, the feature store failed",
}


def incident(analysis_date: AnalysisDate, as_json: Json = False) -> None:
    """Show severity, symptoms, root cause and next commands for an analysis date. Changes no state.

    The command needs the state store. If the warehouse cannot be read, the command names the error and uses builds and
    events only.

    Exit codes: 0 no fault, or the analysis date is not over, 1 P0 or P1, 3 P2 or P3.

    Examples:
      mlfs incident today
      mlfs incident 2024-12-15 --json
    """
    with reading_resources() as parts:
        now = parts.clock.now()
        reader = ReportReader(parts)
        stored = parts.store.load(analysis_date)
        calendar = parts.settings.calendar
        if stored is None and not calendar.expected(analysis_date):
            raise Refused(f"{analysis_date}: no night is expected, and none was opened; see: mlfs status")
        # No worker has opened the analysis date: use the record of an opening in time.
        opened_at = calendar.at(analysis_date, calendar.deadline) if stored is None else now
        record = stored or calendar.fresh_record(analysis_date, min(now, opened_at))
        triage = TriageInput(
            record=record,
            now=now,
            policy=parts.settings.policy,
            upstream=reader.upstream(analysis_date),
            untold=untold_by_date(parts.store).get(analysis_date),
        )
        found = diagnose(triage)
    answer = _answer(triage, found, reader, opened=stored is not None)
    if as_json:
        show_json(answer)
    else:
        _show(analysis_date, answer, reader, calendar.zone)
    if found.severity is None:
        raise typer.Exit(0)
    raise typer.Exit(EXIT_FAILED if found.severity in SEVERE else EXIT_DEGRADED)


def _answer(triage: TriageInput, found: Diagnosis, reader: ReportReader, *, opened: bool) -> dict[str, Any]:
    symptoms = list(found.symptoms) if opened else ["no worker has ever opened this date", *found.symptoms]
    return {
        **standing(triage.record, triage.untold),
        "severity": found.severity,
        "respond": RESPONSE[found.severity] if found.severity else None,
        "opened": opened,
        "symptoms": symptoms,
        "scenario": found.scenario.value if found.scenario else None,
        "why": found.why,
        "commands": [{"command": command, "purpose": purpose} for command, purpose in found.commands],
        "upstream": None
        if triage.upstream is None
        else {
            name: {"row_count": row["row_count"], "last_processed": iso(row["last_processed"])}
            for name, row in triage.upstream.items()
        },
        "not_read": reader.not_read,
    }


def _show(day: date, answer: Mapping[str, Any], reader: ReportReader, zone: ZoneInfo) -> None:
    severity = answer["severity"]
    head = f"[bold red]{severity}[/]: {answer['respond']}" if severity else "[green]no incident[/]"
    out.print(f"{with_weekday(day)}  {state_text(answer['state'])}  {head}")
    for symptom in answer["symptoms"]:
        out.print(f"  - {plain(in_zone(symptom, zone))}", soft_wrap=True)
    scenario = answer["scenario"]
    named = f"[bold]scenario {scenario}[/], {MEANING[RootCause(scenario)]}: " if scenario else ""
    out.print(f"{named}{plain(in_zone(answer['why'], zone))}", soft_wrap=True)
    show_commands([(step["command"], in_zone(step["purpose"], zone)) for step in answer["commands"]])
    for fault in reader.not_read:
        err.print("not read:", plain(fault), soft_wrap=True)


def show_commands(steps: Sequence[tuple[str, str]]) -> None:
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
