"""Commands by which a person intervenes: replay, cancel. Each shows its plan, then asks, then acts.

`mlfs retract`: a person takes back what a processor announced by mistake.
"""

import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

import typer

from ops.arguments import (
    EXIT_REFUSED,
    EXIT_UNAVAILABLE,
    DateToChange,
    Json,
    ReasonOption,
    SourceOption,
    acting_parts,
    build_mode,
    complete_date,
    complete_processor,
    confirmed,
    exit_code,
    finite,
    read_date_to_change,
    refuse_copy_over_done,
)
from ops.commands.asking import Door, open_door
from ops.commands.range_plan import RangeRequest, read_only
from ops.commands.replay_range import (
    CONCURRENCY_DEFAULT,
    CONCURRENCY_MAX,
    Consent,
    RangeOptions,
    refuse_both,
    replay_range,
)
from ops.output import err, out, show_json
from statemachine.decide import Decision
from statemachine.events import CancelRequested, CompletionRetracted, EventKind, ReplayRequested
from statemachine.model import TERMINAL_STATES, DateRecord, Retraction, State
from statemachine.reasons import Reason as Outcome
from worker.date_text import retraction_follows, summary
from worker.errors import Refused
from worker.interventions.idempotency import KEY_PATTERN, ask_once, request_id_of
from worker.interventions.retractions import identity_to_take_back
from worker.ports import StateStore

Wanted = ReplayRequested | CancelRequested
WAIT_POLL_S = 0.2
# Longer than a night with all its attempts.
WAIT_S_MAX = 86_400


def _read_key(text: str) -> str:
    if not re.match(KEY_PATTERN, text):
        raise typer.BadParameter("must be 1 to 200 visible ASCII characters without a space")
    return text


Reason = Annotated[str, ReasonOption]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen, change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


OptionalDate = Annotated[
    date | None,
    typer.Argument(
        parser=read_date_to_change,
        metavar="DATE",
        help="The night: 2024-12-15; by day also today.",
        autocompletion=complete_date,
    ),
]
Processor = Annotated[
    str,
    typer.Argument(
        metavar="PROCESSOR", help="The processor with the mistaken success.", autocompletion=complete_processor
    ),
]
First = Annotated[
    date | None, typer.Option("--from", parser=read_date_to_change, metavar="DATE", help="First date of a range.")
]
Last = Annotated[date | None, typer.Option("--to", parser=read_date_to_change, metavar="DATE", help="Its last date.")]
Only = Annotated[
    str, typer.Option(metavar="STATES", help="Of a range only these: missing, degraded, failed, done …; by commas.")
]
Concurrency = Annotated[
    int, typer.Option(min=1, max=CONCURRENCY_MAX, help="Dates of a range on their way at once, at most.")
]
Forced = Annotated[bool, typer.Option("--force-phase3-fallback", help="Ignore Phase 4, as if it did not exist.")]
Force = Annotated[
    bool, typer.Option("--force", help="Also when a build is running (it is fenced off), or over a done date.")
]
Wait = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS", help="Wait this long for the end of the build.", min=0, max=WAIT_S_MAX, callback=finite
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key",
        parser=_read_key,
        metavar="K",
        help="Run twice under one key within a day, it takes effect once.",
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
    force: Force = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    wait: Wait = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Build a date, or each date of a range, again, as a new generation. A running worker claims it at once.

    The plan is shown first. Without --yes a person is asked; where nobody can be asked, nothing is changed and the exit
    code is 2. Of a range tonight's date goes first, and at most --concurrency dates are on their way at once; the
    command stays until all have ended, or none has ended for --wait seconds (20 minutes unless given).

    Exit codes: 0 accepted (with --wait, and for a range: done), 1 failed, 2 refused, 3 degraded, 4 not finished in
    time. Of a range the worst.

    Examples:
      mlfs replay 2024-12-15 --reason 'daily cache was repaired' --dry-run
      mlfs replay 2024-12-15 --reason 'daily cache was repaired' --yes --wait 60
      mlfs replay 2024-12-15 --source yesterday --reason 'nothing else is left' --yes
      mlfs replay --from 2024-12-01 --to 2024-12-15 --only missing,failed --reason 'upstream was refilled' --dry-run
      mlfs replay --from 2024-12-01 --to 2024-12-15 --reason 'new ratings' --yes --idempotency-key ratings-2
    """
    mode = build_mode(source, force_phase3_fallback=force_phase3_fallback)
    refuse_both(analysis_date, first, last)
    if first is not None and last is not None:
        wish = RangeRequest(first=first, last=last, only=read_only(only), mode=mode, force=force)
        consent = Consent.GIVEN if yes else Consent.ASKED_FOR
        how = RangeOptions(
            key=key, concurrency=concurrency, wait_s=wait, consent=Consent.DRY_RUN if dry_run else consent
        )
        raise typer.Exit(replay_range(wish, reason, how, as_json=as_json))
    if analysis_date is None or only:
        raise typer.BadParameter("--only chooses among the dates of a range; give --from and --to")
    day = analysis_date

    def event(door: Door) -> ReplayRequested:
        request_id = request_id_of(key, door.who, day, door.league_day)
        return ReplayRequested(actor=door.who, reason=reason, mode=mode, take_over=force, request_id=request_id)

    asked = Asked(event=EventKind.REPLAY_REQUESTED, mode=mode.value, key=None if dry_run else key)
    _intervene(day, event, asked, dry_run=dry_run, yes=yes, wait_s=wait or 0.0, as_json=as_json)


def cancel(
    analysis_date: DateToChange, reason: Reason, dry_run: DryRun = False, yes: Yes = False, as_json: Json = False
) -> None:
    """Stop a date that is waiting or being built; it stays failed until somebody replays it.

    Examples:
      mlfs cancel 2024-12-15 --reason 'upstream is known to be wrong' --yes
    """

    def event(door: Door) -> CancelRequested:
        return CancelRequested(actor=door.who, reason=reason, request_id=uuid.uuid4().hex)

    asked = Asked(event=EventKind.CANCEL_REQUESTED, mode="", key=None)
    _intervene(analysis_date, event, asked, dry_run=dry_run, yes=yes, wait_s=0.0, as_json=as_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked for, as the memory of requests compares it, and under which key."""

    event: EventKind
    mode: str
    key: str | None


def _intervene(
    day: date,
    event_of: Callable[[Door], Wanted],
    asked: Asked,
    *,
    dry_run: bool,
    yes: bool,
    wait_s: float,
    as_json: bool,
) -> None:
    with acting_parts(dry_run=dry_run) as parts:
        door = open_door(parts)
        acted: list[Decision] = []

        def act() -> int:
            event = event_of(door)
            acted.append(_plan_and_apply(door, day, event, dry_run=dry_run, yes=yes, as_json=as_json))
            return acted[0].record.generation

        request = {"event": asked.event.value, "analysis_date": day.isoformat(), "mode": asked.mode}
        generation = ask_once(parts.requests, key=asked.key, caller=door.who, asked=request, act=act).generation
        record = acted[0].record if acted else parts.store.load(day)
        if record is None:
            raise Refused(f"{day} was forgotten since it was asked for; see the dates there are: mlfs status")
        if not acted and not as_json:
            out.print(f"{day}: asked for already under this key, as generation {generation}")
        ended = _wait(parts.store, day, generation, wait_s) if wait_s and not dry_run else None
    reason = acted[0].reason if acted else "asked_before"
    _finish(ended or record, asked.event, reason, applied=not dry_run, as_json=as_json)
    if wait_s and not dry_run and ended is None:
        err.print(f"{day}: no worker finished generation {generation} in {wait_s:g} s; see: mlfs status")
        raise typer.Exit(EXIT_UNAVAILABLE)
    raise typer.Exit(exit_code(ended.state) if ended is not None else 0)


def _plan_and_apply(door: Door, day: date, event: Wanted, *, dry_run: bool, yes: bool, as_json: bool) -> Decision:
    """Show the plan, ask, act; for a dry run only the plan."""
    before, planned = door.auditor.plan(day, event)
    if isinstance(event, ReplayRequested) and not event.take_over:
        refuse_copy_over_done(day, event.mode, before.state)
    if isinstance(event, CancelRequested) and not before.version:
        raise Refused(f"{day} was never opened; there is nothing to stop. The dates there are: mlfs status")
    if not as_json:
        _show_plan(before, planned, event)
    if dry_run:
        return planned
    if not yes and not confirmed("go on?"):
        raise typer.Exit(EXIT_REFUSED)
    return door.auditor.apply(day, event)


def _show_plan(before: DateRecord, planned: Decision, event: Wanted) -> None:
    after = planned.record
    wanted = f"replay ({event.mode})" if isinstance(event, ReplayRequested) else "cancel"
    out.print(f"{wanted} by {event.actor}: {event.reason}", markup=False)
    out.print(f"  {before.analysis_date}: {before.state} → {after.state}, generation {after.generation}")
    if before.published_generation and isinstance(event, ReplayRequested):
        out.print(f"  consumers read generation {before.published_generation} until the new one is published")


def _finish(record: DateRecord, event: EventKind, reason: str, *, applied: bool, as_json: bool) -> None:
    if as_json:
        answer: dict[str, Any] = {"applied": applied, "event": event.value, "reason": reason, **summary(record)}
        show_json(answer)
    elif not applied:
        out.print("dry run: nothing was changed")
    else:
        out.print(f"{record.analysis_date} is {record.state} (generation {record.generation})")
        if record.state is State.FAILED and record.failure is not None:
            failure, day = record.failure, record.analysis_date
            out.print(f"  because {failure.because}: {failure.message}", markup=False, soft_wrap=True)
            if event is EventKind.REPLAY_REQUESTED:
                out.print(f"  what to do: mlfs incident {day}; once repaired, replay it again", markup=False)


def _wait(store: StateStore, day: date, generation: int, wait_s: float) -> DateRecord | None:
    """Wait for the end of the generation, or of a later one; None when the time is up."""
    pause = threading.Event()
    for _ in range(max(1, round(wait_s / WAIT_POLL_S))):
        record = store.load(day)
        if record is not None and record.generation >= generation and record.state in TERMINAL_STATES:
            return record
        pause.wait(WAIT_POLL_S)
    return None


def retract(
    analysis_date: DateToChange,
    processor: Processor,
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
            acted.append(_retract(door, analysis_date, event, dry_run=dry_run, yes=yes, quiet=as_json))
            return acted[0].record.generation

        asked = {"event": "retract", "date": str(analysis_date), "of": [processor, run_id], "rebuild": rebuild}
        ask_once(parts.requests, key=None if dry_run else key, caller=door.who, asked=asked, act=act)
        record = acted[0].record if acted else parts.store.load(analysis_date)
    if record is None:
        raise Refused(f"{analysis_date} was forgotten since it was asked for; see the dates there are: mlfs status")
    outcome = acted[0].reason.value if acted else "asked_before"
    applied = not dry_run and bool(acted) and acted[0].changed
    _show_end(record, outcome, applied=applied, dry_run=dry_run, as_json=as_json)


def _retract(door: Door, day: date, event: CompletionRetracted, *, dry_run: bool, yes: bool, quiet: bool) -> Decision:
    """Show the plan, ask, write the audit row, act; for a dry run only the plan."""
    before, planned = door.auditor.plan(day, event)
    if not quiet:
        _show_retraction(before, planned, event)
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


def _show_retraction(before: DateRecord, planned: Decision, event: CompletionRetracted) -> None:
    after = planned.record
    if planned.reason is Outcome.DUPLICATE:
        known = taken_back_before(after, event)
        told = f"{known.identity} of {known.processor} was taken back already, by {known.actor}: {known.reason}"
        out.print(f"{before.analysis_date}: {told}", markup=False)
        return
    out.print(f"take back {event.processor} ({event.identity}) by {event.actor}: {event.reason}", markup=False)
    out.print(f"  {before.analysis_date}: {before.state} → {after.state}, generation {after.generation}")
    out.print(f"  {retraction_follows(after, event.processor)}", markup=False, soft_wrap=True)


def _show_end(record: DateRecord, reason: str, *, applied: bool, dry_run: bool, as_json: bool) -> None:
    if as_json:
        show_json({"applied": applied, "event": "completion_retracted", "reason": reason, **summary(record)})
    elif dry_run:
        out.print("dry run: nothing was changed")
    else:
        out.print(f"{record.analysis_date} is {record.state} (generation {record.generation})")
