"""Commands by which a person intervenes: replay, cancel. Each shows its plan, then asks, then acts."""

import threading
import uuid
from datetime import date
from typing import Annotated, Any

import typer

from ops.arguments import (
    EXIT_REFUSED,
    EXIT_UNAVAILABLE,
    AnalysisDate,
    Json,
    SourceOption,
    actor,
    build_mode,
    confirmed,
    exit_code,
    guest_parts,
    refuse_copy_over_done,
)
from ops.output import err, out, show_json
from statemachine.decide import Decision
from statemachine.events import CancelRequested, Event, ReplayRequested
from statemachine.model import TERMINAL_STATES, DateRecord
from worker.clock import SystemClock
from worker.engine import Engine
from worker.errors import Refused
from worker.explain import summary
from worker.observer import Observer
from worker.parts import make_engine
from worker.ports import StateStore

WAIT_POLL_S = 0.2

REASON_CHARS_MAX = 500


def _read_reason(text: str) -> str:
    if not text.strip() or len(text) > REASON_CHARS_MAX:
        raise typer.BadParameter(f"write a reason of 1 to {REASON_CHARS_MAX} characters")
    return text.strip()


Reason = Annotated[
    str, typer.Option("--reason", parser=_read_reason, metavar="TEXT", help="Why; kept in the date's history.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen, change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def replay(
    analysis_date: AnalysisDate,
    reason: Reason,
    force_phase3_fallback: Annotated[
        bool, typer.Option("--force-phase3-fallback", help="Ignore Phase 4, as if it did not exist.")
    ] = False,
    source: SourceOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also when a build is running (it is fenced off), or over a done date.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    wait: Annotated[float, typer.Option(help="Wait this many seconds for the end of the build.", min=0)] = 0.0,
    as_json: Json = False,
) -> None:
    """Build a date again, as a new generation. A running worker claims it at once.

    Exit codes: 0 accepted (with --wait: done), 1 failed, 2 refused, 3 degraded, 4 nothing finished it in time.

    Examples:
      mlfs replay 2024-12-15 --reason 'daily cache was repaired' --dry-run
      mlfs replay 2024-12-15 --reason 'daily cache was repaired' --yes --wait 60
      mlfs replay 2024-12-15 --source yesterday --reason 'nothing else is left' --yes
    """
    mode = build_mode(source, force_phase3_fallback=force_phase3_fallback)
    request_id = uuid.uuid4().hex
    event = ReplayRequested(actor=actor(), reason=reason, mode=mode, take_over=force, request_id=request_id)
    _intervene(analysis_date, event, dry_run=dry_run, yes=yes, wait_s=wait, as_json=as_json)


def cancel(
    analysis_date: AnalysisDate, reason: Reason, dry_run: DryRun = False, yes: Yes = False, as_json: Json = False
) -> None:
    """Stop a date that is waiting or being built; it stays failed until somebody replays it.

    Examples:
      mlfs cancel 2024-12-15 --reason 'upstream is known to be wrong' --yes
    """
    event = CancelRequested(actor=actor(), reason=reason)
    _intervene(analysis_date, event, dry_run=dry_run, yes=yes, wait_s=0.0, as_json=as_json)


def _intervene(
    day: date, event: ReplayRequested | CancelRequested, *, dry_run: bool, yes: bool, wait_s: float, as_json: bool
) -> None:
    with guest_parts() as parts:
        engine = make_engine(
            parts.settings,
            store=parts.store,
            clock=SystemClock(),
            worker=event.actor,
            start_build=lambda _day: None,
            outbox_filled=lambda: None,
            observer=Observer(),
        )
        before, planned = engine.preview(day, event)
        if isinstance(event, ReplayRequested) and not event.take_over:
            refuse_copy_over_done(day, event.mode, before.state)
        if not planned.changed:
            raise Refused(_refusal(before, planned))
        if not as_json:
            _show_plan(before, planned, event)
        if dry_run:
            _finish(planned, event, applied=False, as_json=as_json)
            return
        if not yes and not confirmed("go on?"):
            raise typer.Exit(EXIT_REFUSED)
        decision = _apply(engine, day, event, before)
        ended = _wait(parts.store, decision.record, wait_s) if wait_s else None
    if wait_s and ended is None:
        _finish(decision, event, applied=True, as_json=as_json)
        err.print(
            f"{day}: no worker finished generation {decision.record.generation} in {wait_s:g} s; see: mlfs status"
        )
        raise typer.Exit(EXIT_UNAVAILABLE)
    _finish(decision, event, applied=True, as_json=as_json, ended=ended)
    raise typer.Exit(exit_code(ended.state) if ended is not None else 0)


def _apply(engine: Engine, day: date, event: Event, planned_on: DateRecord) -> Decision:
    decision = engine.apply(day, event)
    if not decision.changed:
        raise Refused(_refusal(planned_on, decision))
    return decision


def _refusal(before: DateRecord, decision: Decision) -> str:
    day = before.analysis_date
    hints = {
        "replay_refused_running": f"a build is running; wait for it (mlfs status {day}) or take over with --force",
        "cancel_refused": f"it is {before.state}, nothing to stop; to build it: mlfs replay {day} --reason '…'",
    }
    return f"{day}: {hints.get(decision.reason, decision.reason)}"


def _show_plan(before: DateRecord, planned: Decision, event: ReplayRequested | CancelRequested) -> None:
    after = planned.record
    wanted = f"replay ({event.mode})" if isinstance(event, ReplayRequested) else "cancel"
    out.print(f"{wanted} by {event.actor}: {event.reason}", markup=False)
    out.print(f"  {before.analysis_date}: {before.state} → {after.state}, generation {after.generation}")
    if before.published_generation and isinstance(event, ReplayRequested):
        out.print(f"  consumers read generation {before.published_generation} until the new one is published")


def _finish(decision: Decision, event: Event, *, applied: bool, as_json: bool, ended: DateRecord | None = None) -> None:
    record = ended or decision.record
    if as_json:
        answer: dict[str, Any] = {"applied": applied, "event": event.kind, "reason": decision.reason, **summary(record)}
        show_json(answer)
    elif not applied:
        out.print("dry run: nothing was changed")
    else:
        out.print(f"{record.analysis_date} is {record.state} (generation {record.generation})")


def _wait(store: StateStore, started: DateRecord, wait_s: float) -> DateRecord | None:
    """Wait for the end of the generation, or of a later one; None when the time is up."""
    pause = threading.Event()
    for _ in range(max(1, round(wait_s / WAIT_POLL_S))):
        record = store.load(started.analysis_date)
        if record is not None and record.generation >= started.generation and record.state in TERMINAL_STATES:
            return record
        pause.wait(WAIT_POLL_S)
    return None
