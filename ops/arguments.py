"""Arguments, options and resources of several commands, and the exit code of each error.

A date argument is read by the clock of the opened resources. A command for reading and a dry run create no file. The
embedded servers that a command started stop with the command. A killed command leaves the state of the last commit.
"""

import getpass
import math
import socket
import threading
from contextlib import suppress
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

# Seconds that a person who presses Tab waits at most, also for a store that does not answer.
COMPLETE_WITHIN_S = 1.5
DATES_COMPLETED_MAX = 60

EXIT_FAILED = 1
EXIT_REFUSED = 2
EXIT_DEGRADED = 3
EXIT_UNAVAILABLE = 4

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


class Source(StrEnum):
    """Source of the rows of a build, in place of Phase 4 and Phase 3."""

    YESTERDAY = "yesterday"


SourceOption = Annotated[
    Source | None,
    typer.Option("--source", help="Last resort: copy the latest rows before this date, marked as copied."),
]


def finite(value: float | None) -> float | None:
    """Return the number of an option; refuse NaN, which passes every comparison with a limit, and infinity."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter("must be a number, neither infinite nor NaN")
    return value


def _read_reason(text: str) -> str:
    from worker.interventions.audit import read_reason

    try:
        return read_reason(text)
    except ValueError as exc:
        raise typer.BadParameter(f"the reason {exc}") from exc


Reason = Annotated[
    str, typer.Option("--reason", parser=_read_reason, metavar="TEXT", help="Reason, for history and audit.")
]


def _read_instant(text: str) -> datetime:
    from worker.features.generations import read_instant

    try:
        return read_instant(text)
    except Refused as exc:
        raise typer.BadParameter(str(exc)) from exc


GenerationOption = Annotated[
    int | None, typer.Option("--generation", metavar="G", min=1, help="A generation that was published earlier.")
]
PublishedByOption = Annotated[
    datetime | None,
    typer.Option(
        "--published-by",
        parser=_read_instant,
        metavar="INSTANT",
        help="The generation published at this instant: 2024-12-15T23:50:00-05:00.",
    ),
]


def _read_as_of(text: str) -> datetime:
    from worker.interventions.audit import read_as_of

    try:
        return read_as_of(text)
    except Refused as exc:
        raise typer.BadParameter(str(exc)) from exc


AsOfOption = Annotated[
    datetime | None,
    typer.Option(
        "--as-of",
        parser=_read_as_of,
        metavar="INSTANT",
        help="Read only upstream rows processed up to this instant: 2024-12-15T17:00:00-05:00.",
    ),
]


def build_mode(source: Source | None, *, force_phase3_fallback: bool, as_of: datetime | None = None) -> BuildMode:
    """Return the build mode of the options of a command."""
    if source is Source.YESTERDAY:
        if as_of is not None:
            raise typer.BadParameter("--source yesterday reads no upstream rows; leave --as-of out")
        if force_phase3_fallback:
            raise typer.BadParameter("--source yesterday reads neither phase; leave --force-phase3-fallback out")
        return BuildMode.YESTERDAY
    return BuildMode.FORCED_FALLBACK if force_phase3_fallback else BuildMode.NORMAL


def exit_code(state: str | None) -> int:
    """Return the exit code of a state: 0 done or on the way, 1 failed, 3 degraded."""
    if state == State.FAILED:
        return EXIT_FAILED
    return EXIT_DEGRADED if state == State.DEGRADED else 0


def read_date(text: str) -> date:
    """Return the analysis date of `YYYY-MM-DD` or of a word of `DAY_WORDS`; print date and weekday of a word."""
    settings = load()
    if text in DAY_WORDS:
        return print_named_date(text, settings.calendar.named_day(text, now_of_words(settings)))
    return _written_date(text, settings)


def read_date_to_change(text: str) -> date:
    """Return the analysis date of a command that changes the date.

    Raises:
        TwoDates: Between midnight and 06:00 `today` and `tonight` may mean two dates.
    """
    settings = load()
    if text in DAY_WORDS:
        return print_named_date(text, settings.calendar.day_to_change(text, now_of_words(settings)))
    return _written_date(text, settings)


def print_named_date(word: str, day: date) -> date:
    """Print the date of *word* on standard error; return the date."""
    err.print(f"{word} is {with_weekday(day)}")
    return day


def now_of_words(settings: Settings) -> datetime:
    """Return the instant for reading `today`, by the clock of the opened resources."""
    with Resources(settings, ProcessKind.READER) as resources:
        return resources.clock.now()


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
    """Return words and stored dates that begin with *incomplete*; no dates if the store does not answer in time."""
    words = [word for word in DAY_WORDS if word.startswith(incomplete)]
    days: list[str] = []

    def read() -> None:
        with suppress(PipelineError, BadSettings, OSError), reading_resources() as resources:
            days.extend(map(str, resources.store.dates(DATES_COMPLETED_MAX)))

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
        help="Analysis date: 2024-12-15, today, tonight, yesterday.",
        autocompletion=complete_date,
    ),
]


def date_or(without: str) -> object:
    """Return the argument of a command that also works without a date; *without* says what then."""
    return typer.Argument(parser=read_date, metavar="DATE", help=without, autocompletion=complete_date)


DATE_TO_CHANGE = typer.Argument(
    parser=read_date_to_change,
    metavar="DATE",
    help="Analysis date: 2024-12-15; after 06:00 also today.",
    autocompletion=complete_date,
)
DateToChange = Annotated[date, DATE_TO_CHANGE]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan; change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Forced = Annotated[bool, typer.Option("--force-phase3-fallback", help="Ignore Phase 4, as if Phase 4 did not exist.")]


def actor() -> str:
    """Return user and machine, for history and audit."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def confirmed(question: str) -> bool:
    """Ask a person for confirmation; return False without an answer (cron, CI)."""
    try:
        return typer.confirm(question, default=False, err=True)
    except typer.Abort:
        err.print("no answer; to go on without a question: --yes")
        return False


def note_absent_worker(task: str, *, absent: bool) -> None:
    """Print on standard error how to start a worker, if no worker runs in the folder."""
    if absent:
        err.print(f"no worker runs in this folder; the next worker {task}: {hint('run')}", markup=False, soft_wrap=True)


def guest_resources() -> Resources:
    """Return the resources for a command that writes; an absent embedded resource is created at the first use."""
    return Resources(load(), ProcessKind.COMMAND)


def acting_resources(*, dry_run: bool) -> Resources:
    """Return the resources for a command that changes analysis dates; a dry run is a reader.

    Raises:
        Refused: The folder has no embedded resource.
    """
    settings = load()
    refuse_empty_folder(settings)
    return Resources(settings, ProcessKind.READER if dry_run else ProcessKind.COMMAND)


def reading_resources() -> Resources:
    """Return the resources for a command that only reads and creates no file.

    Raises:
        Refused: The folder has no embedded resource.
    """
    return acting_resources(dry_run=True)


def refuse_empty_folder(settings: Settings) -> None:
    """Refuse a command in a folder without embedded resources; name a demo folder below, if there is a demo folder."""
    if (nothing := nothing_there(settings)) is not None:
        demos = sorted(note.parent for note in settings.data_dir.glob(f"*/{DEMO_NOTE}"))
        raise Refused(f"{nothing}; a demo lies nearby: {hint('status', demos[0])}") if demos else nothing


def guest_engine(resources: Resources) -> "Engine":
    """Return the engine of a command: the command decides and stores; a worker builds and publishes."""
    from worker.observing.observer import Observers

    return make_engine(
        resources.settings, store=resources.store, clock=resources.clock, worker=actor(), observer=Observers()
    )


def guest_interventions(resources: Resources) -> "Interventions":
    """Return the service by which a command changes analysis dates; the first request opens the warehouse."""
    from worker.interventions.audit import Auditor
    from worker.interventions.requests import Interventions
    from worker.repair import Repair

    engine = guest_engine(resources)

    def repair() -> Repair:
        return Repair(engine=engine, store=resources.store, clock=resources.clock, warehouse=resources.warehouse)

    def unreported(day: date) -> "BuildCommitted | None":
        try:
            return repair().unreported(day)
        except Refused:
            # A dry run without a warehouse file has no ledger, so there is no commit.
            return None

    return Interventions(
        store=resources.store,
        auditor=Auditor(
            engine=engine,
            log_replay=lambda row: resources.warehouse.log_replay(row),  # noqa: PLW0108 - opens the warehouse
            clock=resources.clock,
            unreported=unreported,
            log_row=lambda _row: None,
        ),
        requests=resources.requests,
        replace_damaged=lambda day, error: repair().replace_damaged(day, error),
        calendar=resources.settings.calendar,
        clock=resources.clock,
        processors=resources.settings.definition.processors,
        publish_outcomes=lambda: None,
    )


def shipped_only(settings: Settings) -> None:
    """Refuse a report about the shipped pipeline if another pipeline runs (docs/pipelines.md)."""
    from worker.pipelines.shipped import PIPELINE

    if settings.definition.name != PIPELINE:
        raise Refused(
            f"this is a report of {PIPELINE}, and MLFS_PIPELINE names {settings.definition.name}; for the state of its "
            "dates: mlfs status, mlfs explain DATE"
        )


def report_fault(error: Exception) -> int:
    """Print the error on a single line of standard error; return the exit code."""
    err.print("[red]mlfs:[/]", escape(masked(str(error))), soft_wrap=True)
    if isinstance(error, Denied):
        return EXIT_FAILED
    if isinstance(error, Unavailable | Conflict):
        return EXIT_UNAVAILABLE
    if isinstance(error, BadSettings | Refused):
        return EXIT_REFUSED
    return EXIT_FAILED if isinstance(error, PipelineError) else EXIT_REFUSED
