"""`mlfs tick`: one sweep without a worker, for a scheduler that stands in when no worker runs."""

import sys
import time
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from ops.arguments import EXIT_FAILED, Json, finite, guest_parts, store_clock
from ops.output import out, show_json
from worker.parts import Parts, open_lineage

if TYPE_CHECKING:
    from statemachine.decide import Decision
    from worker.openlineage_emitter import LineageEmitter
    from worker.tick import Ticker


def tick(
    wait_s: Annotated[
        float,
        typer.Option(
            "--wait", metavar="SECONDS", help="Start no build after so long, and end.", min=1, max=3600, callback=finite
        ),
    ] = 540.0,
    as_json: Json = False,
) -> None:
    """Open dates, fire what is due, build what is ready, publish outcomes: once, then end.

    What POST /tick does, as a process of its own: a stand-in for nights on which no worker stays up. Beside workers it
    does no harm. What waits in the subscription it does not read; deadlines look into the tables first.

    Exit codes: 0 all that was due is done or under way, 1 a date could not be handled or an outcome was not taken,
    4 store or warehouse does not answer.

    Examples:
      mlfs tick
      mlfs tick --wait 60 --json
    """
    from worker import logs
    from worker.app import LINEAGE_FLUSH_S

    with guest_parts() as parts:
        logs.configure(parts.settings.log_level, sys.stderr)
        lineage = open_lineage(parts.settings, lambda _fate: None)
        try:
            ticked = _ticker(parts, lineage).run_once(wait_s)
        finally:
            if lineage is not None:
                lineage.close(LINEAGE_FLUSH_S)
    if as_json:
        show_json(asdict(ticked))
    else:
        out.print(f"opened {ticked.opened}, due {ticked.due}, published {ticked.published}, left {ticked.left}")
        for built in ticked.built:
            out.print(f"{built.analysis_date}  {built.state}, generation {built.generation}  {built.reason}")
    if ticked.failed or ticked.left:
        raise typer.Exit(EXIT_FAILED)


def _ticker(parts: Parts, lineage: "LineageEmitter | None") -> "Ticker":
    import structlog

    from worker.app import worker_name
    from worker.assembly import Assembly, Hooks
    from worker.observer import LogObserver, Observers
    from worker.request_builds import RequestBuilds
    from worker.tick import Ticker

    log = structlog.get_logger(__name__)

    def build(day: date) -> "Decision | None":
        return assembly.builder.run_one(day)

    def date_failed(day: date, error: Exception) -> None:
        log.warning("date_not_handled", analysis_date=day, kind=type(error).__name__, error=str(error))

    builds = RequestBuilds(
        build=build,
        threads=parts.settings.build_threads,
        stopwatch=time.monotonic,
        failed=lambda _error: None,  # logged where it happened
    )
    assembly = Assembly(
        parts,
        clock=store_clock(parts),
        worker=worker_name(),
        observer=Observers((LogObserver(),) if lineage is None else (LogObserver(), lineage)),
        hooks=Hooks(start_build=builds.put, outbox_filled=lambda: None, date_failed=date_failed),
        drains=False,
    )
    return Ticker(
        sweeper=assembly.sweeper,
        builds=builds,
        relay=assembly.relay,
        clock=assembly.clock,
        stopwatch=time.monotonic,
        ticked=lambda _now: None,
    )
