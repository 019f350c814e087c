"""`mlfs rehearse`: play nights against a worker in another process, by the bus and the upstream files alone.

`mlfs demo` owns the worker and moves the clock; a rehearsal uses a running worker in real time. The first completion
opens a night of the past, and the deadline of the night comes after the drain grace, as after a downtime.
"""

from pathlib import Path
from typing import Annotated

import typer

from ops.arguments import EXIT_FAILED, Json, finite, guest_resources, read_date
from ops.demo.schedule import DemoScenario
from ops.output import counted, out, show_json
from worker.clock import SystemClock
from worker.errors import Refused

DEFAULT_SCENARIOS = (DemoScenario.NOMINAL, DemoScenario.MISSING_PROCESSOR, DemoScenario.NOMINAL)
PLAYABLE = (DemoScenario.NOMINAL, DemoScenario.MISSING_PROCESSOR, DemoScenario.OUTAGE)

DirectoryArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the upstream files of the worker.")]


def prepare(
    directory: DirectoryArgument,
    until: Annotated[str, typer.Option(metavar="DATE", help="Last of the three nights.")] = "today",
) -> None:
    """Write invented upstream files for three nights without Phase 4, and link the files into the warehouse.

    A folder that already holds the nights is linked without a change.

    Examples:
      mlfs rehearse prepare ./upstream
    """
    from ops.demo.player import PHASE4
    from ops.demo.rehearsal import Folder
    from worker.local.parquet_folder import link_parquet_folder, write_without
    from worker.local.sample.data import write_sample_data

    folder, last = Folder(directory), read_date(until)
    if last not in folder.nights():
        nights = write_sample_data(folder.to_come, analysis_date=last).nights
        for source in sorted(folder.to_come.glob("*.parquet")):
            if source.name.startswith(f"{PHASE4}."):
                write_without(directory / source.name, source, nights)
            else:
                source.replace(directory / source.name)
    with guest_resources() as resources:
        tables = link_parquet_folder(resources.embedded_warehouse, directory)
    for table, rows in tables:
        out.print(f"{table:<45} {rows:>9,} rows")


def play(
    directory: DirectoryArgument,
    scenario: Annotated[
        list[DemoScenario] | None, typer.Option(help="Kind of night; repeat for each night, in order.")
    ] = None,
    pace: Annotated[float, typer.Option(help="Seconds between two moments.", min=0, max=600, callback=finite)] = 1.0,
    as_json: Json = False,
) -> None:
    """Play the prepared nights: write the rows of each processor, publish the completions, read the outcomes.

    The default nights: a complete night, a night with the last processor after the deadline, and tonight. A date that
    was decided in an earlier rehearsal is not played again.

    Exit codes: 0 every night ended as expected, 1 a night ended otherwise, 4 the worker did not answer in time.

    Examples:
      mlfs rehearse play ./upstream
      mlfs rehearse play ./upstream --scenario missing-processor --scenario nominal --pace 5
    """
    from ops.demo.rehearsal import Folder, Rehearsal

    scenarios = list(scenario or DEFAULT_SCENARIOS)
    folder = Folder(directory)
    nights = folder.nights()[-len(scenarios) :]
    if len(nights) < len(scenarios):
        raise Refused(f"{directory} holds {counted(len(nights), 'night')}; first: mlfs rehearse prepare {directory}")
    if not_playable := [kind.value for kind in scenarios if kind not in PLAYABLE]:
        raise Refused(f"{not_playable[0]} needs an empty Phase 3, which the other nights read; see mlfs demo")
    show = (lambda _text: None) if as_json else (lambda text: out.print(text, markup=False, soft_wrap=True))
    with guest_resources() as resources:
        player = Rehearsal(resources, folder, SystemClock(), show=show, pace_s=pace)
        played = [player.play(day, kind) for day, kind in zip(nights, scenarios, strict=True)]
    if as_json:
        show_json([night.row() for night in played])
    if not all(night.as_expected for night in played):
        raise typer.Exit(EXIT_FAILED)
