"""`mlfs retract`: a person takes back what a processor announced by mistake."""

from datetime import date
from typing import Annotated

import typer

from ops.admin import DryRun, Key, Reason, Yes
from ops.arguments import EXIT_REFUSED, DateToChange, Json, acting_parts, confirmed
from ops.asking import Door, open_door
from ops.once import ask_once, request_id_of
from ops.output import out, show_json
from statemachine.decide import Decision
from statemachine.events import CompletionRetracted
from statemachine.model import DateRecord, Retraction
from statemachine.reasons import Reason as Outcome
from worker.errors import Refused
from worker.explain import retraction_follows, summary
from worker.retractions import identity_to_take_back


def retract(
    analysis_date: DateToChange,
    processor: Annotated[str, typer.Argument(metavar="PROCESSOR", help="Who announced success by mistake.")],
    reason: Reason,
    run_id: Annotated[
        str | None, typer.Option("--run-id", metavar="R", help="Which run; refused where another one counts by now.")
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build a date that has ended again at once, without that table.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Take back the success of a processor whose run was wrong: it no longer counts, and no build reads its table.

    That lasts until another run of the processor succeeds; a redelivery of the same run changes nothing. A date that
    waits, or is not claimed yet, waits for that run until its deadline. A date that is being built is built again when
    that ends. A published one is built again by itself when the next run succeeds before the upgrade cutoff, or at once
    with --rebuild.

    Exit codes: 0 taken back (now or before), 2 refused, 4 store or warehouse away.

    Examples:
      mlfs retract 2024-12-15 PROCESSOR --reason 'wrote last week' --dry-run
      mlfs retract 2024-12-15 PROCESSOR --run-id r42 --reason 'wrote last week' --yes
      mlfs retract 2024-12-15 PROCESSOR --reason 'wrote last week' --rebuild --yes
    """
    with acting_parts(dry_run=dry_run) as parts:
        door = open_door(parts)
        acted: list[Decision] = []

        def act() -> int:
            record, processors = parts.store.load(analysis_date), parts.settings.definition.processors
            event = CompletionRetracted(
                processor=processor,
                identity=identity_to_take_back(analysis_date, record, processor, run_id, processors),
                actor=door.who,
                reason=reason,
                rebuild=rebuild,
                request_id=request_id_of(key, door.who, analysis_date, door.league_day),
            )
            acted.append(_plan_and_apply(door, analysis_date, event, dry_run=dry_run, yes=yes, quiet=as_json))
            return acted[0].record.generation

        asked = {"event": "retract", "date": str(analysis_date), "of": [processor, run_id], "rebuild": rebuild}
        ask_once(parts, key=None if dry_run else key, caller=door.who, asked=asked, act=act)
        record = acted[0].record if acted else parts.store.load(analysis_date)
    if record is None:
        raise Refused(f"{analysis_date} was forgotten since it was asked for; see the dates there are: mlfs status")
    outcome = acted[0].reason.value if acted else "asked_before"
    _finish(record, outcome, applied=not dry_run and bool(acted) and acted[0].changed, dry_run=dry_run, as_json=as_json)


def _plan_and_apply(
    door: Door, day: date, event: CompletionRetracted, *, dry_run: bool, yes: bool, quiet: bool
) -> Decision:
    """Show the plan, ask, write the audit row, act; for a dry run only the plan."""
    before, planned = door.auditor.plan(day, event)
    if not quiet:
        _show_plan(before, planned, event)
    if dry_run or not planned.changed:
        return planned
    if not yes and not confirmed("go on?"):
        raise typer.Exit(EXIT_REFUSED)
    return door.auditor.apply(day, event)


def taken_back_before(record: DateRecord, event: CompletionRetracted) -> Retraction:
    """Give what makes *event* a repetition: its run's own retraction, else what its request, by its key, took back."""
    about = (event.processor, event.identity)
    same_run = [one for one in record.retractions if (one.processor, one.identity) == about]
    return (same_run or [one for one in record.retractions if one.request_id == event.request_id])[0]


def _show_plan(before: DateRecord, planned: Decision, event: CompletionRetracted) -> None:
    after = planned.record
    if planned.reason is Outcome.DUPLICATE:
        known = taken_back_before(after, event)
        told = f"{known.identity} of {known.processor} was taken back already, by {known.actor}: {known.reason}"
        out.print(f"{before.analysis_date}: {told}", markup=False)
        return
    out.print(f"take back {event.processor} ({event.identity}) by {event.actor}: {event.reason}", markup=False)
    out.print(f"  {before.analysis_date}: {before.state} → {after.state}, generation {after.generation}")
    out.print(f"  {retraction_follows(after, event.processor)}", markup=False, soft_wrap=True)


def _finish(record: DateRecord, reason: str, *, applied: bool, dry_run: bool, as_json: bool) -> None:
    if as_json:
        show_json({"applied": applied, "event": "completion_retracted", "reason": reason, **summary(record)})
    elif dry_run:
        out.print("dry run: nothing was changed")
    else:
        out.print(f"{record.analysis_date} is {record.state} (generation {record.generation})")
