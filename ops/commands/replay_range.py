"""`mlfs replay --from --to`: show the plan of a range as a table, then replay the dates.

Each date is a request of the service in `worker.interventions.requests`. A killed command leaves the requested dates to
the workers and the other dates unchanged; the same command with the same key continues.
"""

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import count
from typing import Any

from ops.arguments import (
    EXIT_DEGRADED,
    EXIT_FAILED,
    EXIT_REFUSED,
    EXIT_UNAVAILABLE,
    acting_resources,
    actor,
    confirmed,
    guest_engine,
    guest_interventions,
    note_absent_worker,
)
from ops.commands.range_plan import Backfill, Planned, RangeRequest, Step, plan_range
from ops.output import err, number, out, plain, show_json, state_text, table
from statemachine.events import ReplayRequested
from statemachine.model import DateRecord, State
from worker.date_text import summary
from worker.errors import Conflict, Unavailable
from worker.history_text import replay_text
from worker.resources import Resources

POLL_S = 0.2
# Seconds. Three attempts five minutes apart, and the duration of the builds.
PATIENCE_S = 1200.0
CONCURRENCY_DEFAULT = 2
CONCURRENCY_MAX = 16


class RangeReplay:
    """Range replay: plan, requests, progress."""

    def __init__(self, resources: Resources, request: RangeRequest, *, reason: str, key: str | None) -> None:
        """Prepare the replay; store no change.

        Args:
            resources: Store and warehouse.
            request: Dates, mode and force.
            reason: Reason for history and audit.
            key: Idempotency key of the whole range; a repeat replays no date twice. None for a new request.
        """
        self._resources = resources
        self._request = request
        self._reason = reason
        self._key = key
        self._service = guest_interventions(resources)
        self._tonight = resources.settings.calendar.tonight(resources.clock.now())
        # A request without a key keeps the id within this command, so that the service recognises a commit with a lost
        # reply.
        self._ids_of = key or uuid.uuid4().hex

    def _event(self, day: date) -> ReplayRequested:
        who = actor()
        return ReplayRequested(
            actor=who,
            reason=self._reason,
            mode=self._request.mode,
            take_over=self._request.force,
            as_of=self._request.as_of,
            request_id=self._service.request_id(self._ids_of, who, day),
        )

    def plan(self) -> list[Planned]:
        """Return for each date the step that the replay would take."""
        engine, calendar = guest_engine(self._resources), self._resources.settings.calendar
        return plan_range(self._request, engine, self._event, calendar, self._tonight)

    def run(
        self, plan: Sequence[Planned], *, concurrency: int, patience_s: float, show_progress: Callable[[Planned], None]
    ) -> list[Planned]:
        """Replay the dates of the plan; give up when no date has ended for *patience_s* seconds."""
        backfill = Backfill(
            store=self._resources.store,
            clock=self._resources.clock,
            tonight=self._tonight,
            begin=self._begin,
            concurrency=concurrency,
            show_progress=show_progress,
        )
        never = threading.Event()
        rounds_max = max(1, round(patience_s / POLL_S))
        waited = {"rounds": 0, "ended": 0}

        def pause() -> bool:
            if backfill.ended > waited["ended"]:
                waited.update(rounds=0, ended=backfill.ended)
            waited["rounds"] += 1
            never.wait(POLL_S)
            return waited["rounds"] < rounds_max

        return list(backfill.run(plan, pause))

    def _begin(self, day: date) -> int:
        event, key = self._event(day), self._key and f"{self._key}/{day}"
        try:
            return self._service.ask(day, event, caller=event.actor, key=key).generation
        except Conflict as exc:
            raise Unavailable(str(exc)) from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options that replay, cancel and retract share.

    Attributes:
        dry_run: Stop after the plan.
        yes: Ask no person.
        as_json: Print JSON.
        key: Idempotency key of the request; None for a new request.
        wait_s: Seconds to wait for the end; for a range, seconds in which no date ends. None for the default.
        concurrency: Largest number of dates of a range in work at once, 1 or more.
    """

    dry_run: bool
    yes: bool
    as_json: bool
    key: str | None = None
    wait_s: float | None = None
    concurrency: int = CONCURRENCY_DEFAULT


def replay_range(request: RangeRequest, reason: str, options: Options) -> int:
    """Show the plan of a range, ask for confirmation, replay the dates until the end; return the exit code."""
    with acting_resources(dry_run=options.dry_run) as resources:
        asked = RangeReplay(resources, request, reason=reason, key=options.key)
        plan = asked.plan()
        if not options.as_json:
            _show_plan(plan, request, reason)
        if options.dry_run or not (options.yes or confirmed("go on?")):
            if options.as_json:
                show_json(_answer(plan, applied=False))
            elif options.dry_run:
                out.print("dry run: nothing was changed")
            return worst(plan) if options.dry_run else EXIT_REFUSED
        chosen = sum(planned.step is Step.REPLAY for planned in plan)
        note_absent_worker("builds the dates", absent=chosen > 0 and resources.runs_servers)
        patience_s = PATIENCE_S if options.wait_s is None else options.wait_s
        show = _progress(chosen)
        results = asked.run(plan, concurrency=options.concurrency, patience_s=patience_s, show_progress=show)
    if options.as_json:
        show_json(_answer(results, applied=True))
    else:
        _show_results(results)
    if any(result.step in {Step.UNFINISHED, Step.NOT_STARTED} for result in results):
        err.print("not every date ended; workers finish the begun dates. For the other dates repeat the command")
    return worst(results)


def worst(results: Sequence[Planned]) -> int:
    """Return the exit code of the worst date: failed, then not finished, then refused, then degraded."""
    codes = {_code(result) for result in results}
    return next((code for code in (EXIT_FAILED, EXIT_UNAVAILABLE, EXIT_REFUSED, EXIT_DEGRADED) if code in codes), 0)


def _code(result: Planned) -> int:
    match result.step:
        case Step.REFUSED:
            return EXIT_REFUSED
        case Step.UNFINISHED | Step.NOT_STARTED:
            return EXIT_UNAVAILABLE
        case Step.ENDED if result.record is not None:
            return {State.FAILED: EXIT_FAILED, State.DEGRADED: EXIT_DEGRADED}.get(result.record.state, 0)
        case _:
            return 0


def _progress(total: int) -> Callable[[Planned], None]:
    """Return a function that prints each begun and each ended date on standard error."""
    ended = count(1)

    def show(planned: Planned) -> None:
        day = planned.analysis_date
        if planned.step is Step.REPLAY:
            err.print(f"[dim]{day} begun[/]")
            return
        record = planned.record
        if planned.step is Step.REFUSED or record is None:
            text = f"{day} refused: {plain(planned.why)}"
        else:
            why = f": {plain(planned.why)}" if planned.why else ""
            text = f"{day} is {state_text(record.state)} (generation {record.generation}){why}"
        err.print(f"[{next(ended)}/{total}]".replace("[", r"\["), text, soft_wrap=True)

    return show


def _show_plan(plan: Sequence[Planned], request: RangeRequest, reason: str) -> None:
    out.print(
        f"replay ({replay_text(request.mode, request.as_of)}) of {request.first} to {request.last}: {reason}",
        markup=False,
    )
    cells = []
    for planned in plan:
        record = planned.record
        after = f"generation {planned.planned.generation}" if planned.planned else ""
        cells.append(
            (
                planned.analysis_date.isoformat(),
                state_text(record.state) if record else "-",
                number(record.generation if record else None, "d"),
                f"[bold]{planned.step}[/]" if planned.step is Step.REPLAY else planned.step.value,
                plain(", ".join(filter(None, (after, planned.why)))),
            )
        )
    out.print(table(("date", "now", "gen", "plan", ""), cells, numbers={"gen"}, texts={""}))
    counts = Counter(planned.step for planned in plan)
    out.print(", ".join(f"{count} {step}" for step, count in sorted(counts.items())))


def _show_results(results: Sequence[Planned]) -> None:
    cells = []
    for result in results:
        if result.step is Step.SKIPPED:
            continue
        record = result.record if result.step is Step.ENDED else None
        facts = _facts(record) if record else ("-", "-", "-")
        outcome = state_text(record.state) if record else result.step.value
        cells.append((result.analysis_date.isoformat(), outcome, *facts, plain(result.why)))
    numbers = {"gen", "rows", "score"}
    out.print(table(("date", "result", "gen", "rows", "score", ""), cells, numbers=numbers, texts={""}))


def _facts(record: DateRecord) -> tuple[str, str, str]:
    built = record.result if record.result and record.result.generation == record.generation else None
    rows, score = (number(built.row_count, "d"), number(built.quality_score)) if built else ("-", "-")
    return str(record.generation), rows, score


def _answer(dates: Sequence[Planned], *, applied: bool) -> dict[str, Any]:
    return {
        "applied": applied,
        "counts": dict(sorted(Counter(planned.step.value for planned in dates).items())),
        "dates": [
            {
                **({"state": None, "generation": 0} if planned.record is None else summary(planned.record)),
                "analysis_date": planned.analysis_date.isoformat(),
                "step": planned.step.value,
                "why": planned.why,
                "planned_generation": planned.planned.generation if planned.planned else None,
            }
            for planned in dates
        ],
    }
