"""`mlfs recover`: restores a lost state store from the ledger, the audit and the retained messages of the bus.

Damaged entries are set aside first, then retractions take effect again, then dates follow the ledger, then the
subscription is turned back, and last the table of arrivals is filled. Each step is repeatable: after a crash the same
command completes the rest.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date, datetime, timedelta
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from ops.arguments import (
    EXIT_FAILED,
    EXIT_REFUSED,
    DryRun,
    Json,
    Yes,
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
from worker.features.arrivals import plan_arrivals_of_builds, read_arrivals_of_builds
from worker.features.model import LedgerRow
from worker.foresight.recording import ArrivalsWriter
from worker.interventions.retractions import RetractionAudit, Unrestored
from worker.observing.observer import Observers
from worker.repair import LedgerComparison, Repair
from worker.resources import ProcessKind, Resources, is_absent
from worker.settings import load

# A statement for BigQuery has ten parameters for each arrival.
ARRIVALS_TOGETHER = 100

SeekHours = Annotated[
    float, typer.Option(help="Hours to turn the subscription back; 0: not at all.", min=0, max=744, callback=finite)
]


def recover(
    days: Annotated[int, typer.Option(help="Days of the ledger to read.", min=1, max=10_000)] = 3,
    seek_hours: SeekHours = 24.0,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Restore lost dates from the ledger, then turn the bus back to deliver the retained completions again.

    No generation is built or published twice: a restored date keeps the generation, and consumers may get the outcome
    once more under the same event_id. A date with an older generation in the store (the store was restored from an old
    copy) follows the ledger, too. A damaged record is set aside and created anew. Unreadable entries of shared keys are
    set aside, and the indexes are created anew from the records. Retractions in the audit take effect again before any
    completion is delivered again. The table of arrivals gets every report that the store still shows; of a date lost by
    the store the rows that the first build found.

    Examples:
      mlfs recover --dry-run
      mlfs recover --days 7 --yes
    """
    with _opened(dry_run=dry_run) as resources:
        store, clock, engine = resources.store, resources.clock, guest_engine(resources)
        damage = store.faults()
        today = resources.settings.calendar.league_day(clock.now())
        first, last = today - timedelta(days=days), today + timedelta(days=FUTURE_DAYS_MAX)
        committed = resources.warehouse.read_ledger_since(first)
        repair = Repair(engine=engine, store=store, clock=clock, warehouse=resources.warehouse)
        astray = _astray(repair, committed)
        retractions = RetractionAudit(engine, resources.warehouse)
        taken_back = retractions.lost_since(first, last)
        if not as_json:
            _show_lost(f"{len(committed)} dates since {first}", astray, taken_back, damage)
        if not dry_run and not yes and not confirmed("restore these dates?"):
            raise typer.Exit(EXIT_REFUSED)
        restored, left = ([], []) if dry_run else _restored(store, repair, retractions, committed, first, last)
        if seek_hours and not dry_run:
            _seek(resources, clock.now() - timedelta(hours=seek_hours))
        arrivals = 0 if dry_run else _write_arrivals(resources, first, last)
    if as_json:
        lost = [_lost(day, retraction) for day, retraction in taken_back]
        known = {"ledger": len(committed), "astray": astray, "retractions": lost, "restored": restored}
        not_restored = [_lost(gone.analysis_date, gone.retraction) | {"because": gone.because} for gone in left]
        show_json(known | {"damage": damage, "not_restored": not_restored, "arrivals": arrivals})
    elif dry_run:
        out.print("dry run: nothing was changed")
    else:
        _show_restored(restored, arrivals)
    for gone in left:
        err.print(f"not taken back again: {gone.because}", markup=False)
    if left:
        raise typer.Exit(EXIT_FAILED)


def _seek(resources: Resources, since: datetime) -> None:
    from worker.adapters.pubsub.unary import seek

    seek(resources.settings.pubsub_project, resources.settings.subscription, resources.bus_address, since)


def _write_arrivals(resources: Resources, first: date, last: date) -> int:
    """Write the arrivals of every settled date in the store, then what builds saw of lost dates; return the number.

    Raises:
        PipelineError: Store or warehouse refused; a repeat of the command or a running worker writes the rest.
    """
    writer = ArrivalsWriter(
        store=resources.store,
        warehouse=resources.warehouse,
        calendar=resources.settings.calendar,
        clock=resources.clock,
        observer=Observers(),
    )
    arrivals = 0
    while (written := writer.write()).dates:
        arrivals += written.arrivals
    if written.refused is not None:
        raise written.refused
    return arrivals + _write_arrivals_of_builds(resources, first, last)


def _write_arrivals_of_builds(resources: Resources, first: date, last: date) -> int:
    """Write what builds saw of the nights without a report in the store and without a row in the table of arrivals."""
    warehouse, calendar = resources.warehouse, resources.settings.calendar
    rows = warehouse.query(plan_arrivals_of_builds(first, last, warehouse.pipeline))
    records = resources.store.load_all(sorted({row["analysis_date"] for row in rows}))
    silent = {day for day, record in records.items() if record is None or not record.completions}
    known = [row for row in rows if row["analysis_date"] in silent]
    found = read_arrivals_of_builds(known, lambda day: calendar.at(day, calendar.deadline))
    for start in range(0, len(found), ARRIVALS_TOGETHER):
        warehouse.record_arrivals(found[start : start + ARRIVALS_TOGETHER])
    return len(found)


def _restored(
    store: RedisStore,
    repair: Repair,
    retractions: RetractionAudit,
    committed: Sequence[LedgerRow],
    first: date,
    last: date,
) -> tuple[list[dict[str, Any]], list[Unrestored]]:
    """Restore dates and retractions; return the changed dates, and the retractions without effect."""
    store.mend()
    # Restore the retractions first: a date that follows the ledger probes the tables next.
    retractions.restore_since(first, last)
    restored = [summary(decision.record) for row in committed if (decision := repair.catch_up(row)) is not None]
    # Repeat: a damaged record is created anew only by the line above.
    return restored, retractions.restore_since(first, last)


@contextmanager
def _opened(*, dry_run: bool) -> Iterator[Resources]:
    """Open the resources; a dry run without an embedded store compares the ledger with an empty temporary store.

    Raises:
        Refused: The folder has no embedded resource.
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
    committed: str,
    astray: Mapping[str, LedgerComparison],
    taken_back: Sequence[tuple[date, Retraction]],
    damage: Sequence[str],
) -> None:
    out.print(f"ledger: {committed}; the store does not follow the ledger for {len(astray)}")
    for night, standing in astray.items():
        out.print(f"  {night}  {standing}")
    for day, lost in taken_back:
        out.print(f"  {day}  {lost.processor} ({lost.identity}) was taken back by {lost.actor}", markup=False)
    for fault in damage:
        out.print(f"  {fault}", markup=False, soft_wrap=True)


def _show_restored(restored: Sequence[dict[str, Any]], arrivals: int) -> None:
    if restored:
        out.print(dates_table(restored))
    if arrivals:
        out.print(f"arrivals: {arrivals} rows are in the table")


def _lost(day: date, retraction: Retraction) -> dict[str, Any]:
    return {"analysis_date": day.isoformat(), "processor": retraction.processor, "run": retraction.identity}
