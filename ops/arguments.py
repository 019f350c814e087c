"""What several commands share: reading a date, opening the parts, and what a fault means for the exit code."""

import getpass
import math
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from ops.output import err, hint
from statemachine.model import BuildMode, State
from worker.calendar import DAY_WORDS, FUTURE_DAYS_MAX, with_weekday
from worker.clock import SystemClock
from worker.errors import BadSettings, Conflict, Denied, PipelineError, Refused, Unavailable, masked
from worker.resources import DEMO_NOTE, ProcessKind, Resources, make_engine, nothing_there
from worker.settings import Settings, load

if TYPE_CHECKING:
    from statemachine.events import BuildCommitted
    from worker.engine import Engine
    from worker.interventions.requests import Interventions

# A person who presses Tab waits no longer, whatever the store does.
COMPLETE_WITHIN_S = 1.5
DATES_COMPLETED_MAX = 60

EXIT_FAILED = 1
EXIT_REFUSED = 2
EXIT_DEGRADED = 3
EXIT_UNAVAILABLE = 4
EXIT_INTERRUPTED = 130

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


class Source(StrEnum):
    """Where a build may take its rows from, instead of Phase 4 and 3."""

    YESTERDAY = "yesterday"


SourceOption = Annotated[
    Source | None,
    typer.Option("--source", help="The last resort: publish the rows of the latest night before, marked as such."),
]


def finite(value: float | None) -> float | None:
    """Return a number of an option; NaN and infinity lie within no range, though no comparison says so."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter("must be a number, neither infinite nor NaN")
    return value


def _read_reason(text: str) -> str:
    from worker.interventions.audit import read_reason

    try:
        return read_reason(text)
    except ValueError as exc:
        raise typer.BadParameter(f"the reason {exc}") from exc


ReasonOption = typer.Option("--reason", parser=_read_reason, metavar="TEXT", help="Why; kept in the date's history.")


def _read_instant(text: str) -> datetime:
    from worker.features.generations import read_instant

    try:
        return read_instant(text)
    except Refused as exc:
        raise typer.BadParameter(str(exc)) from exc


GenerationOption = Annotated[
    int | None, typer.Option("--generation", metavar="G", min=1, help="A generation that was published before.")
]
PublishedByOption = Annotated[
    datetime | None,
    typer.Option(
        "--published-by",
        parser=_read_instant,
        metavar="INSTANT",
        help="What was published at this instant: 2024-12-15T23:50:00-05:00.",
    ),
]


def build_mode(source: Source | None, *, force_phase3_fallback: bool) -> BuildMode:
    """Return the build mode of the options of a command."""
    if source is Source.YESTERDAY:
        if force_phase3_fallback:
            raise typer.BadParameter("--source yesterday reads neither phase; leave --force-phase3-fallback out")
        return BuildMode.YESTERDAY
    return BuildMode.FORCED_FALLBACK if force_phase3_fallback else BuildMode.NORMAL


def exit_code(state: str | None) -> int:
    """Return the exit code of a state: 0 done or on its way, 1 failed, 3 degraded."""
    if state == State.FAILED:
        return EXIT_FAILED
    return EXIT_DEGRADED if state == State.DEGRADED else 0


def read_date(text: str) -> date:
    """Read an analysis date, `YYYY-MM-DD` or one of `DAY_WORDS`; print the date and weekday that a word names."""
    settings = load()
    if text in DAY_WORDS:
        return tell_day(text, settings.calendar.named_day(text, now_of_words(settings)))
    return _written_date(text, settings)


def read_date_to_change(text: str) -> date:
    """Read the analysis date of a command that changes the date.

    Raises:
        TwoDates: Soon after midnight `today` and `tonight` may mean either of two dates.
    """
    settings = load()
    if text in DAY_WORDS:
        return tell_day(text, settings.calendar.day_to_change(text, now_of_words(settings)))
    return _written_date(text, settings)


def tell_day(word: str, day: date) -> date:
    """Print the date that *word* names, beside the answer, which may be JSON; return the date."""
    err.print(f"{word} is {with_weekday(day)}")
    return day


def now_of_words(settings: Settings) -> datetime:
    """Return the instant at which a command reads `today`, by the clock of the opened resources."""
    with Resources(settings, ProcessKind.READER) as parts:
        return parts.clock.now()


def _written_date(text: str, settings: Settings) -> date:
    try:
        parsed = date.fromisoformat(text)
    except ValueError as exc:
        raise typer.BadParameter(f"{text!r} is no date; write 2024-12-15, {', '.join(DAY_WORDS)}") from exc
    if parsed.isoformat() != text:
        raise typer.BadParameter(f"{text!r} is no date; write {parsed.isoformat()}")
    first = settings.earliest_date
    last = settings.calendar.league_day(SystemClock().now()) + timedelta(days=FUTURE_DAYS_MAX)
    if not first <= parsed <= last:
        raise typer.BadParameter(f"{text} is outside {first} to {last}")
    return parsed


def complete_date(incomplete: str) -> list[str]:
    """Return the words and the stored dates that begin with *incomplete*; no dates where the store is slow or gone."""
    words = [word for word in DAY_WORDS if word.startswith(incomplete)]
    days: list[str] = []

    def read() -> None:
        with suppress(PipelineError, BadSettings, OSError), reading_parts() as parts:
            days.extend(map(str, parts.store.dates(DATES_COMPLETED_MAX)))

    if not incomplete or incomplete[0].isdigit():
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        reader.join(COMPLETE_WITHIN_S)
    return [*words, *days]


def complete_processor(incomplete: str) -> list[str]:
    """Return the processors of the pipeline that begin with *incomplete*."""
    with suppress(BadSettings):
        return [name for name in load().definition.processors if name.startswith(incomplete)]
    return []


AnalysisDate = Annotated[
    date,
    typer.Argument(
        parser=read_date,
        metavar="DATE",
        help="The night: 2024-12-15, today, tonight, yesterday.",
        autocompletion=complete_date,
    ),
]
DateToChange = Annotated[
    date,
    typer.Argument(
        parser=read_date_to_change,
        metavar="DATE",
        help="The night: 2024-12-15; by day also today.",
        autocompletion=complete_date,
    ),
]


def actor() -> str:
    """Return user and machine, for histories."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def confirmed(question: str) -> bool:
    """Ask a person; no answer (cron, CI) is a no."""
    try:
        return typer.confirm(question, default=False, err=True)
    except typer.Abort:
        err.print("no answer; to go on without a question: --yes")
        return False


@contextmanager
def guest_parts() -> Iterator[Resources]:
    """Open the parts that the settings name, as a command that owns none of them; what is not there yet is made."""
    with Resources(load(), ProcessKind.COMMAND) as parts:
        yield parts


@contextmanager
def acting_parts(*, dry_run: bool) -> Iterator[Resources]:
    """Open the parts for a command that changes dates. Where nothing is, it begins nothing; its dry run is a look.

    Raises:
        Refused: No embedded part has ever been there; for a dry run, the one that is asked for.
    """
    settings = load()
    refuse_empty_folder(settings)
    with Resources(settings, ProcessKind.READER if dry_run else ProcessKind.COMMAND) as parts:
        yield parts


@contextmanager
def reading_parts() -> Iterator[Resources]:
    """Open the parts for a command that only reads: where nothing is, it leaves nothing.

    Raises:
        Refused: An embedded part that is asked for has never been there.
    """
    with acting_parts(dry_run=True) as parts:
        yield parts


def refuse_empty_folder(settings: Settings) -> None:
    """Refuse a command where none of the embedded parts has ever been; names a demo that lies nearby."""
    if (nothing := nothing_there(settings)) is not None:
        demos = sorted(note.parent for note in settings.data_dir.glob(f"*/{DEMO_NOTE}"))
        raise Refused(f"{nothing}; a demo lies nearby: {hint('status', demos[0])}") if demos else nothing


def guest_engine(parts: Resources) -> "Engine":
    """Return the engine of a command: the command decides and stores, a worker does everything that follows."""
    from worker.observing.observer import Observers

    return make_engine(parts.settings, store=parts.store, clock=parts.clock, worker=actor(), observer=Observers())


def guest_interventions(parts: Resources) -> "Interventions":
    """Return the service through which a command changes dates; the first request opens the warehouse."""
    from worker.interventions.audit import Auditor
    from worker.interventions.requests import Interventions
    from worker.repair import Repair

    engine = guest_engine(parts)

    def repair() -> Repair:
        return Repair(engine=engine, store=parts.store, clock=parts.clock, warehouse=parts.warehouse)

    def unreported(day: date) -> "BuildCommitted | None":
        try:
            return repair().unreported(day)
        except Refused:
            # A dry run without a warehouse file: no ledger holds a commit.
            return None

    return Interventions(
        store=parts.store,
        auditor=Auditor(
            engine=engine,
            log_replay=lambda row: parts.warehouse.log_replay(row),  # noqa: PLW0108 - opens the warehouse
            clock=parts.clock,
            unreported=unreported,
            log_row=lambda _row: None,
        ),
        requests=parts.requests,
        replace_damaged=lambda day, error: repair().replace_damaged(day, error),
        calendar=parts.settings.calendar,
        clock=parts.clock,
        processors=parts.settings.definition.processors,
        publish_outcomes=lambda: None,
    )


def shipped_only(settings: Settings) -> None:
    """Refuse a command that speaks of the shipped pipeline alone, where another one runs (docs/pipelines.md)."""
    from worker.pipelines.shipped import PIPELINE

    if settings.definition.name != PIPELINE:
        raise Refused(
            f"this report speaks of {PIPELINE}, and MLFS_PIPELINE names {settings.definition.name}; how its dates "
            "stand: mlfs status, mlfs explain DATE"
        )


def report_fault(error: Exception) -> int:
    """Print the error in one line; return the exit code."""
    err.print("[red]mlfs:[/]", escape(masked(str(error))), soft_wrap=True)
    if isinstance(error, Denied):
        return EXIT_FAILED
    if isinstance(error, Unavailable | Conflict):
        return EXIT_UNAVAILABLE
    if isinstance(error, BadSettings | Refused):
        return EXIT_REFUSED
    return EXIT_FAILED if isinstance(error, PipelineError) else EXIT_REFUSED
