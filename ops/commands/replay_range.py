"""`mlfs replay --from --to`: the plan of a range as a table, then, with `--yes`, its replays."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

import typer

from ops.arguments import EXIT_DEGRADED, EXIT_FAILED, EXIT_REFUSED, EXIT_UNAVAILABLE, acting_parts, confirmed
from ops.commands.asking import open_door
from ops.commands.range_plan import Backfill, Planned, RangeRequest, Step, plan_range
from ops.output import err, number, out, plain, show_json, state_text, table
from statemachine.events import ReplayRequested
from statemachine.model import DateRecord, State
from worker.date_text import summary
from worker.errors import Conflict, Unavailable
from worker.interventions.idempotency import ask_once, request_id_of
from worker.resources import Resources

POLL_S = 0.2
# Three attempts five minutes apart, and what they take.
PATIENCE_S = 1200.0
CONCURRENCY_DEFAULT = 2
CONCURRENCY_MAX = 16


class RangeReplay:
    """One range replay: its plan, its requests, its progress."""

    def __init__(self, parts: Resources, wish: RangeRequest, *, reason: str, key: str | None) -> None:
        """Prepare it; nothing is asked of the store yet.

        Args:
            parts: Store and its memory of requests.
            wish: What is asked for.
            reason: Why, for histories and audit.
            key: Names the whole request, so that repeating it replays no date twice; None for a new request.
        """
        self._parts = parts
        self._wish = wish
        self._reason = reason
        self._key = key
        self._door = open_door(parts)
        self._ids: dict[date, str] = {}

    def _event(self, day: date) -> ReplayRequested:
        # The same id each time it is asked for: a commit whose reply was lost is recognised by it.
        if day not in self._ids:
            self._ids[day] = request_id_of(self._key, self._door.who, day, self._door.league_day)
        return ReplayRequested(
            actor=self._door.who,
            reason=self._reason,
            mode=self._wish.mode,
            take_over=self._wish.force,
            request_id=self._ids[day],
        )

    def plan(self) -> list[Planned]:
        """Say for each date what would happen to it."""
        door = self._door
        return plan_range(self._wish, door.engine, self._event, self._parts.settings.calendar, door.tonight)

    def run(
        self, plan: Sequence[Planned], *, concurrency: int, patience_s: float, tell: Callable[[Planned], None]
    ) -> list[Planned]:
        """Replay what the plan says; give up once nothing has ended for *patience_s* seconds."""
        backfill = Backfill(
            store=self._parts.store,
            clock=self._door.clock,
            tonight=self._door.tonight,
            begin=self._begin,
            concurrency=concurrency,
            tell=tell,
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
        event = self._event(day)
        record = self._parts.store.load(day)
        if record is not None and record.request_id == event.request_id:
            return record.generation

        def act() -> int:
            try:
                return self._door.auditor.apply(day, event).record.generation
            except Conflict as exc:
                raise Unavailable(str(exc)) from exc

        asked = {"analysis_date": day.isoformat(), "mode": event.mode.value, "force": event.take_over}
        return ask_once(
            self._parts.requests, key=self._key and f"{self._key}/{day}", caller=self._door.who, asked=asked, act=act
        ).generation


class Consent(StrEnum):
    """Whether a range may be replayed once its plan is shown."""

    GIVEN = "given"
    """--yes."""
    ASKED_FOR = "asked for"
    """A person is asked, as for one date."""
    DRY_RUN = "dry run"
    """It may not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeOptions:
    """How a range is to be replayed.

    Attributes:
        key: Names the request, so that repeating it replays no date twice; None for a new one.
        concurrency: Dates on their way at once, 1 or more.
        wait_s: Give up when nothing has ended for so many seconds; None for `PATIENCE_S`.
        consent: Whether to go on after the plan.
    """

    key: str | None
    concurrency: int
    wait_s: float | None
    consent: Consent


def replay_range(wish: RangeRequest, reason: str, how: RangeOptions, *, as_json: bool) -> int:
    """Show the plan of a range; where it is wanted replay it and follow it to its end. Give the exit code."""
    with acting_parts(dry_run=how.consent is Consent.DRY_RUN) as parts:
        asked = RangeReplay(parts, wish, reason=reason, key=how.key)
        plan = asked.plan()
        if not as_json:
            _show_plan(plan, wish, reason)
        if how.consent is Consent.DRY_RUN:
            return _stop_after_plan(plan, as_json=as_json)
        if how.consent is Consent.ASKED_FOR and not confirmed("go on?"):
            if as_json:
                show_json(_answer(plan, applied=False))
            return EXIT_REFUSED
        progress = _Progress(_chosen(plan))
        patience_s = PATIENCE_S if how.wait_s is None else how.wait_s
        results = asked.run(plan, concurrency=how.concurrency, patience_s=patience_s, tell=progress.tell)
    if as_json:
        show_json(_answer(results, applied=True))
    else:
        _show_results(results)
    if any(result.step in {Step.UNFINISHED, Step.NOT_STARTED} for result in results):
        err.print("not all of them ended; what was begun goes on by itself. For the rest, the same command again")
    return worst(results)


def _chosen(plan: Sequence[Planned]) -> int:
    return sum(1 for planned in plan if planned.step is Step.REPLAY)


def _stop_after_plan(plan: Sequence[Planned], *, as_json: bool) -> int:
    if as_json:
        show_json(_answer(plan, applied=False))
    else:
        out.print("dry run: nothing was changed")
    return worst(plan)


def worst(results: Sequence[Planned]) -> int:
    """Give the exit code of the worst date: failed, then not finished, then refused, then degraded."""
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


class _Progress:
    """Tells a person how far it is, on standard error: one line a change."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0

    def tell(self, planned: Planned) -> None:
        """Note a date that was begun or has ended."""
        day = planned.analysis_date
        if planned.step is Step.REPLAY:
            err.print(f"[dim]{day} begun[/]")
            return
        self._done += 1
        record = planned.record
        if planned.step is Step.REFUSED or record is None:
            text = f"{day} refused: {plain(planned.why)}"
        else:
            why = f": {plain(planned.why)}" if planned.why else ""
            text = f"{day} is {state_text(record.state)} (generation {record.generation}){why}"
        err.print(f"[{self._done}/{self._total}]".replace("[", r"\["), text, soft_wrap=True)


def _show_plan(plan: Sequence[Planned], wish: RangeRequest, reason: str) -> None:
    out.print(f"replay ({wish.mode}) of {wish.first} to {wish.last}: {reason}", markup=False)
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
        facts = _facts(result.record) if result.step is Step.ENDED and result.record else ("-", "-", "-")
        ended = result.step is Step.ENDED and result.record is not None
        outcome = state_text(result.record.state) if ended and result.record else result.step.value
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


def refuse_both(analysis_date: date | None, first: date | None, last: date | None) -> None:
    """Refuse a command that names one date and a range, or neither.

    Raises:
        BadParameter: With what to write instead.
    """
    if analysis_date is None and (first is None or last is None):
        raise typer.BadParameter("name one DATE, or a range by both --from and --to")
    if analysis_date is not None and (first or last):
        raise typer.BadParameter("DATE and a range at once; leave one of them out")
