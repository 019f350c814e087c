"""`mlfs replay`, `mlfs cancel`, `mlfs retract`: show the plan, ask for confirmation, apply the request, wait.

All three go through the service of `worker.interventions.requests`: the audit row is written before the effect. A crash
after the audit row leaves the date unchanged; a repeat under the same idempotency key takes effect once.
"""

import re
from datetime import date
from typing import Annotated

import typer

from ops.arguments import (
    DATE_TO_CHANGE,
    EXIT_REFUSED,
    EXIT_UNAVAILABLE,
    AsOfOption,
    DateToChange,
    DryRun,
    Forced,
    Json,
    Reason,
    SourceOption,
    Yes,
    acting_resources,
    actor,
    build_mode,
    complete_processor,
    confirmed,
    exit_code,
    finite,
    guest_interventions,
    note_absent_worker,
    read_date_to_change,
)
from ops.commands.range_plan import RangeRequest, read_only
from ops.commands.replay_range import CONCURRENCY_DEFAULT, CONCURRENCY_MAX, Options, replay_range
from ops.output import err, out, show_json
from statemachine.decide import Decision
from statemachine.events import CancelRequested, CompletionRetracted, EventKind, InterventionEvent, ReplayRequested
from statemachine.model import DateRecord, State
from statemachine.reasons import Reason as Outcome
from worker.date_text import retraction_follows, summary
from worker.errors import Refused
from worker.history_text import replay_text
from worker.interventions.audit import taken_back
from worker.interventions.idempotency import KEY_PATTERN
from worker.ports import StateStore

# Seconds. Longer than all attempts of an analysis date.
WAIT_S_MAX = 86_400


def _read_key(text: str) -> str:
    if not re.match(KEY_PATTERN, text):
        raise typer.BadParameter("must be 1 to 200 visible ASCII characters without a space")
    return text


OptionalDate = Annotated[date | None, DATE_TO_CHANGE]
Processor = Annotated[
    str, typer.Argument(metavar="PROCESSOR", help="Processor whose run was wrong.", autocompletion=complete_processor)
]
First = Annotated[date | None, typer.Option("--from", parser=read_date_to_change, metavar="DATE", help="First date.")]
Last = Annotated[date | None, typer.Option("--to", parser=read_date_to_change, metavar="DATE", help="Last date.")]
Only = Annotated[
    str, typer.Option(metavar="STATES", help="Only dates of the range in these states: missing,degraded,failed,done …")
]
Concurrency = Annotated[
    int, typer.Option(min=1, max=CONCURRENCY_MAX, help="Largest number of dates of a range in work at once.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Also fence off a running build, or replace a done date by a copy.")
]
Wait = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS", help="Seconds to wait for the end of the build.", min=0, max=WAIT_S_MAX, callback=finite
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key",
        parser=_read_key,
        metavar="K",
        help="A repeat under the same key within a day has no second effect.",
    ),
]


def replay(
    reason: Reason,
    analysis_date: OptionalDate = None,
    first: First = None,
    last: Last = None,
    only: Only = "",
    concurrency: Concurrency = CONCURRENCY_DEFAULT,
    force_phase3_fallback: Forced = False,
    source: SourceOption = None,
    as_of: AsOfOption = None,
    force: Force = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    wait: Wait = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Build a date, or each date of a range, again, as a new generation. A running worker claims the date at once.

    The command shows the plan first. Without --yes the command asks for confirmation; without an answer the command
    changes no date and ends with exit code 2. In a range tonight's date goes first, and at most --concurrency dates
    are in work at once. The command waits until every date has ended, or until no date has ended for --wait seconds
    (default: 20 minutes).

    Exit codes: 0 accepted (with --wait, and for a range: done), 1 failed, 2 refused, 3 degraded, 4 not finished in
    time. A range ends with the code of the worst date.

    Examples:
      mlfs replay 2024-12-15 --reason 'daily cache was repaired' --dry-run
      mlfs replay 2024-12-15 --reason 'daily cache was repaired' --yes --wait 60
      mlfs replay 2024-12-15 --source yesterday --reason 'both phases are empty' --yes
      mlfs replay 2024-12-15 --as-of 2024-12-15T17:00:00-05:00 --reason 'as the evening saw the tables' --yes
      mlfs replay --from 2024-12-01 --to 2024-12-15 --only missing,failed --reason 'upstream was refilled' --dry-run
      mlfs replay --from 2024-12-01 --to 2024-12-15 --reason 'new ratings' --yes --idempotency-key ratings-2
    """
    mode = build_mode(source, force_phase3_fallback=force_phase3_fallback, as_of=as_of)
    if analysis_date is None and (first is None or last is None):
        raise typer.BadParameter("name one DATE, or a range by both --from and --to")
    if analysis_date is not None and (first or last):
        raise typer.BadParameter("DATE and a range at once; leave DATE or the range out")
    options = Options(dry_run=dry_run, yes=yes, as_json=as_json, key=key, wait_s=wait, concurrency=concurrency)
    if first is not None and last is not None:
        request = RangeRequest(first=first, last=last, only=read_only(only), mode=mode, force=force, as_of=as_of)
        raise typer.Exit(replay_range(request, reason, options))
    if analysis_date is None or only:
        raise typer.BadParameter("--only selects among the dates of a range; add --from and --to")
    event = ReplayRequested(actor=actor(), reason=reason, mode=mode, take_over=force, as_of=as_of)
    _intervene(analysis_date, event, options)


def cancel(
    analysis_date: DateToChange, reason: Reason, dry_run: DryRun = False, yes: Yes = False, as_json: Json = False
) -> None:
    """Stop a date that is waiting or being built; the date stays failed until a replay.

    Examples:
      mlfs cancel 2024-12-15 --reason 'upstream is known to be wrong' --yes
    """
    event = CancelRequested(actor=actor(), reason=reason)
    _intervene(analysis_date, event, Options(dry_run=dry_run, yes=yes, as_json=as_json))


def _intervene(day: date, event: InterventionEvent, options: Options) -> None:
    """Show the plan, ask for confirmation, apply the request, wait, and show the result."""

    def consent(event: InterventionEvent, before: DateRecord, planned: Decision) -> bool:
        if isinstance(event, CancelRequested) and not before.version:
            raise Refused(f"{day} was never opened, so there is no build to stop. For the opened dates: mlfs status")
        if not options.as_json:
            _show_plan(event, before, planned)
        if planned.changed and not options.dry_run and not options.yes and not confirmed("go on?"):
            raise typer.Exit(EXIT_REFUSED)
        return planned.changed and not options.dry_run

    ended = None
    wait_s = 0.0 if options.dry_run else options.wait_s or 0.0
    with acting_resources(dry_run=options.dry_run) as resources:
        service, key = guest_interventions(resources), None if options.dry_run else options.key
        answer = service.ask(day, event, caller=event.actor, key=key, consent=consent)
        record, outcome = answer.record, answer.outcome
        if record is None:
            record, outcome = _asked_before(resources.store, day), {**outcome, "reason": "asked_before"}
            if not options.as_json:
                out.print(f"{day}: asked for already under this key, as generation {answer.generation}")
        waits = record.state is State.READY and not options.dry_run
        note_absent_worker("builds the date", absent=waits and resources.runs_servers)
        if wait_s:
            ended = service.wait(day, answer.generation, wait_s)
    if options.as_json:
        show_json({**outcome, **summary(ended or record)})
    else:
        _finish(ended or record, event.kind, applied=not options.dry_run)
    if wait_s and ended is None:
        err.print(f"{day}: no worker finished generation {answer.generation} in {wait_s:g} s; see: mlfs status")
        raise typer.Exit(EXIT_UNAVAILABLE)
    raise typer.Exit(exit_code(ended.state) if ended is not None else 0)


def _asked_before(store: StateStore, day: date) -> DateRecord:
    record = store.load(day)
    if record is None:
        raise Refused(f"{day} was removed from the store after the first request; for the opened dates: mlfs status")
    return record


def _show_plan(event: InterventionEvent, before: DateRecord, planned: Decision) -> None:
    after, day = planned.record, before.analysis_date
    if isinstance(event, CompletionRetracted) and planned.reason is Outcome.DUPLICATE:
        known = taken_back(after, event)
        told = f"{known.identity} of {known.processor} was taken back already, by {known.actor}: {known.reason}"
        out.print(f"{day}: {told}", markup=False)
        return
    out.print(f"{_named(event)} by {event.actor}: {event.reason}", markup=False)
    out.print(f"  {day}: {before.state} → {after.state}, generation {after.generation}")
    if isinstance(event, CompletionRetracted):
        out.print(f"  {retraction_follows(after, event.processor)}", markup=False, soft_wrap=True)
    elif before.published_generation and isinstance(event, ReplayRequested):
        out.print(f"  consumers read generation {before.published_generation} until the new one is published")


def _named(event: InterventionEvent) -> str:
    match event:
        case ReplayRequested():
            return f"replay ({replay_text(event.mode, event.as_of)})"
        case CancelRequested():
            return "cancel"
        case CompletionRetracted():
            return f"take back {event.processor} ({event.identity})"


def _finish(record: DateRecord, event: EventKind, *, applied: bool) -> None:
    if not applied:
        out.print("dry run: nothing was changed")
        return
    out.print(f"{record.analysis_date} is {record.state} (generation {record.generation})")
    if record.state is State.FAILED and record.failure is not None and event is not EventKind.COMPLETION_RETRACTED:
        out.print(f"  because {record.failure.because}: {record.failure.message}", markup=False, soft_wrap=True)
        if event is EventKind.REPLAY_REQUESTED:
            out.print(f"  what to do: mlfs incident {record.analysis_date}; once repaired, replay the date again")


def retract(
    analysis_date: DateToChange,
    processor: Processor,
    reason: Reason,
    run_id: Annotated[
        str | None, typer.Option("--run-id", metavar="R", help="Run to take back; refused if another run counts now.")
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build an ended date again at once, without the table.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Take back the success of a wrong run: the run no longer counts, and no build reads the processor's table.

    The retraction lasts until another run of the processor succeeds; a redelivery of the same run has no effect. A date
    without a claim waits for the next run until the deadline. A date in a build is built again after the end of the
    build. A published date is built again when the next run succeeds before the upgrade cutoff, or at once with
    --rebuild.

    Exit codes: 0 taken back (now or before), 2 refused, 4 the store or the warehouse does not answer.

    Examples:
      mlfs retract 2024-12-15 PROCESSOR --reason 'wrote last week' --dry-run
      mlfs retract 2024-12-15 PROCESSOR --run-id r42 --reason 'wrote last week' --yes
      mlfs retract 2024-12-15 PROCESSOR --reason 'wrote last week' --rebuild --yes
    """
    event = CompletionRetracted(
        processor=processor, identity=run_id or "", actor=actor(), reason=reason, rebuild=rebuild
    )
    _intervene(analysis_date, event, Options(dry_run=dry_run, yes=yes, as_json=as_json, key=key))
