"""`mlfs rehearse`: nights played against a worker that runs elsewhere, over the bus and the upstream files alone.

Beside `mlfs demo`, which owns everything and moves the clock, a rehearsal owns nothing: the worker is another process,
its clock is the real one. So a night of the past is opened by its first completion and reaches its deadline after the
drain grace, as after a downtime; tonight's deadline comes when it comes.
"""

from pathlib import Path
from typing import Annotated

import typer

from ops.arguments import EXIT_FAILED, Json, finite, guest_parts, read_date
from ops.demo.schedule import DemoScenario
from ops.output import counted, out, show_json
from worker.clock import SystemClock
from worker.errors import Refused

DEFAULT_SCENARIOS = (DemoScenario.NOMINAL, DemoScenario.MISSING_PROCESSOR, DemoScenario.NOMINAL)
PLAYABLE = (DemoScenario.NOMINAL, DemoScenario.MISSING_PROCESSOR, DemoScenario.OUTAGE)

DirectoryArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder of the upstream files, as the worker sees it.")
]


def prepare(
    directory: DirectoryArgument,
    until: Annotated[str, typer.Option(metavar="DATE", help="The last of three nights.")] = "today",
) -> None:
    """Write invented upstream files for three nights without Phase 4, and link them into the embedded warehouse.

    A folder that holds the nights already is linked as it is.

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
    with guest_parts() as parts:
        tables = link_parquet_folder(parts.embedded_warehouse, directory)
    for table, rows in tables:
        out.print(f"{table:<45} {rows:>9,} rows")


def play(
    directory: DirectoryArgument,
    scenario: Annotated[
        list[DemoScenario] | None,
        typer.Option(help="What kind of night; again for each, the last one for the last date."),
    ] = None,
    pace: Annotated[float, typer.Option(help="Seconds between two acts.", min=0, max=600, callback=finite)] = 1.0,
    as_json: Json = False,
) -> None:
    """Play the prepared nights: write each processor's rows, report them on the bus, and listen as Phase 5 does.

    The defaults are a night on which all goes well, one whose last processor comes after the deadline, and tonight.
    A date that was decided in an earlier rehearsal is not played again.

    Exit codes: 0 every night ended as it should, 1 one did not, 4 the worker did not answer in time.

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
    if not_playable := [one.value for one in scenarios if one not in PLAYABLE]:
        raise Refused(f"{not_playable[0]} needs an empty Phase 3, which the other nights read; see mlfs demo")
    show = (lambda _text: None) if as_json else (lambda text: out.print(text, markup=False, soft_wrap=True))
    with guest_parts() as parts:
        player = Rehearsal(parts, folder, SystemClock(), show=show, pace_s=pace)
        played = [player.play(day, kind) for day, kind in zip(nights, scenarios, strict=True)]
    if as_json:
        show_json([one.row() for one in played])
    if not all(one.as_expected for one in played):
        raise typer.Exit(EXIT_FAILED)
