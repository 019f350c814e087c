"""`mlfs recover`: rebuilds the state store after it was lost, from what cannot be lost with it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date, datetime, timedelta
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from ops.arguments import (
    EXIT_FAILED,
    EXIT_REFUSED,
    Json,
    confirmed,
    finite,
    guest_engine,
    refuse_empty_folder,
)
from ops.output import dates_table, err, out, show_json
from statemachine.model import Retraction
from worker.adapters.redis.store import RedisStore
from worker.calendar import FUTURE_DAYS_MAX
from worker.date_text import summary
from worker.features.model import LedgerRow
from worker.interventions.retractions import RetractionAudit, Unrestored
from worker.repair import LedgerComparison, Repair
from worker.resources import ProcessKind, Resources, is_absent
from worker.settings import load

SeekHours = Annotated[
    float,
    typer.Option(help="How far back to turn the subscription; 0 leaves it alone.", min=0, max=744, callback=finite),
]


def recover(
    days: Annotated[int, typer.Option(help="How many days back to look into the ledger.", min=1, max=10_000)] = 3,
    seek_hours: SeekHours = 24.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be restored, change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Restore lost dates from the warehouse's ledger, then have the bus deliver its retained completions again.

    Nothing is built or published twice: a restored date keeps its generation, and consumers may be told of it once
    more under the same event_id. A date that the store knows, but an older generation of it (the store was restored
    from an old copy), follows the ledger, too; a damaged record is set aside and begun anew. What cannot be read in the
    keys that all dates share is set aside, and the indexes of dates are made anew from the records. Retractions that
    the audit holds take effect again, before any completion is delivered again.

    Examples:
      mlfs recover --dry-run
      mlfs recover --days 7 --yes
    """
    with _open_for_recovery(dry_run=dry_run) as parts:
        damage = parts.store.faults()
        clock, engine = parts.clock, guest_engine(parts)
        today = parts.settings.calendar.league_day(clock.now())
        first, last = today - timedelta(days=days), today + timedelta(days=FUTURE_DAYS_MAX)
        committed = parts.warehouse.read_ledger_since(first)
        repair = Repair(engine=engine, store=parts.store, clock=clock, warehouse=parts.warehouse)
        astray = _astray(repair, committed)
        retractions = RetractionAudit(engine, parts.warehouse)
        taken_back = retractions.lost_since(first, last)
        if not as_json:
            out.print(f"ledger: {len(committed)} dates since {first}; the store does not follow it for {len(astray)}")
            _show_lost(astray, taken_back, damage)
        if not dry_run and not yes and not confirmed("restore them?"):
            raise typer.Exit(EXIT_REFUSED)
        restored, left = ([], []) if dry_run else _restored(parts.store, repair, retractions, committed, first, last)
        if seek_hours and not dry_run:
            _seek(parts, clock.now() - timedelta(hours=seek_hours))
    if as_json:
        lost = [_lost(night, one) for night, one in taken_back]
        known = {"ledger": len(committed), "astray": astray, "retractions": lost, "restored": restored}
        not_restored = [_lost(one.analysis_date, one.retraction) | {"because": one.because} for one in left]
        show_json(known | {"damage": damage, "not_restored": not_restored})
    elif dry_run:
        out.print("dry run: nothing was changed")
    elif restored:
        out.print(dates_table(restored))
    for one in left:
        err.print(f"not taken back again: {one.because}", markup=False)
    if left:
        raise typer.Exit(EXIT_FAILED)


def _restored(
    store: RedisStore,
    repair: Repair,
    retractions: RetractionAudit,
    committed: Sequence[LedgerRow],
    first: date,
    last: date,
) -> tuple[list[dict[str, Any]], list[Unrestored]]:
    """Bring back what can be; return the dates that changed, and the retractions that could not take effect."""
    store.mend()
    # The retractions come first: a date that follows the ledger looks into the tables next.
    retractions.restore_since(first, last)
    restored = [summary(decision.record) for row in committed if (decision := repair.catch_up(row)) is not None]
    # A damaged record has been begun anew only now.
    return restored, retractions.restore_since(first, last)


@contextmanager
def _open_for_recovery(*, dry_run: bool) -> Iterator[Resources]:
    """Open the parts. A dry run after an embedded store was lost compares with an empty one and puts none in its place.

    Raises:
        Refused: No embedded part has ever been here.
    """
    settings = load()
    refuse_empty_folder(settings)
    with ExitStack() as stack:
        if dry_run and is_absent(settings.redis_url):
            folder = stack.enter_context(TemporaryDirectory(prefix="mlfs-recover-"))
            settings = load(redis_url=f"embedded://{folder}")
        kind = ProcessKind.READER if dry_run else ProcessKind.COMMAND
        yield stack.enter_context(Resources(settings, kind))


def _astray(repair: Repair, committed: Sequence[LedgerRow]) -> dict[str, LedgerComparison]:
    standings = {row.analysis_date: repair.standing(row) for row in committed}
    return {day.isoformat(): standing for day, standing in standings.items() if standing is not LedgerComparison.AGREES}


def _show_lost(
    astray: Mapping[str, LedgerComparison], taken_back: Sequence[tuple[date, Retraction]], damage: Sequence[str]
) -> None:
    for day, standing in astray.items():
        out.print(f"  {day}  {standing}")
    for night, one in taken_back:
        out.print(f"  {night}  {one.processor} ({one.identity}) was taken back by {one.actor}", markup=False)
    for fault in damage:
        out.print(f"  {fault}", markup=False, soft_wrap=True)


def _lost(night: date, one: Retraction) -> dict[str, Any]:
    return {"analysis_date": night.isoformat(), "processor": one.processor, "run": one.identity}


def _seek(parts: Resources, since: datetime) -> None:
    from worker.adapters.pubsub.unary import seek

    settings = parts.settings
    seek(settings.pubsub_project, settings.subscription, parts.bus_address, since)
