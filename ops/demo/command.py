"""`mlfs demo`: play nights on this machine, without an account and without further installation."""

from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import typer

from ops.arguments import EXIT_FAILED, Json, exit_code, print_named_date
from ops.demo.schedule import DemoScenario
from ops.output import show_json
from worker.calendar import DAY_WORDS
from worker.clock import SystemClock
from worker.resources import DEMO_NOTE
from worker.settings import load

DEFAULT_DATE = date(2024, 12, 15)


def demo(
    scenario: Annotated[DemoScenario, typer.Option(help="Kind of night.")] = DemoScenario.NOMINAL,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of <dataset>.<table>.parquet; else generated data.")
    ] = None,
    night: Annotated[str, typer.Option("--date", metavar="DATE", help="Night to play.")] = DEFAULT_DATE.isoformat(),
    nights: Annotated[int, typer.Option(help="Number of nights up to --date.", min=1, max=60)] = 1,
    state_dir: Annotated[Path | None, typer.Option("--dir", metavar="DIR", help="Folder of the demo.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the earlier run in the folder, in place of a fresh night.")
    ] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Keep the worker and the pages running; the clock stays in the night.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Play a night: the real worker on embedded Pub/Sub, Valkey and DuckDB; four processors report on schedule.

    Exit codes: 0 done, 3 degraded, 1 failed.

    Examples:
      mlfs demo
      mlfs demo --scenario missing-processor
      mlfs demo --data ./data --date 2024-12-15 --serve
    """
    from ops.demo.demo_run import DemoRun, demo_folder, prepare_folder

    last = _read_night(night)
    days = [last - timedelta(days=back) for back in reversed(range(nights))]
    data_dir = load().data_dir
    # MLFS_DATA_DIR may name the folder of an earlier demo; the folders of all demos lie side by side.
    beside = data_dir.parent if (data_dir / DEMO_NOTE).exists() else data_dir
    folder = state_dir or beside / demo_folder(scenario, data)
    settings = load(
        pipeline="",  # sample data and schedule belong to the shipped pipeline
        data_dir=folder,
        warehouse=f"duckdb://{folder.absolute()}/warehouse.duckdb",
        redis_url=f"embedded://{folder.absolute()}/valkey",
        pubsub=f"embedded://{folder.absolute()}/pubsub",
        season="01-01..12-31",  # the played dates may lie outside the season window
        tick_s=0.05,
        http_port=load().http_port if serve else 0,
    )
    prepare_folder(folder, scenario, data, resume=resume)
    rows = DemoRun(settings, scenario, data, days).run(quiet=as_json, serve=serve)
    if as_json:
        show_json(rows[0] if nights == 1 else rows)
    # Failed (1) is worse than degraded (3).
    raise typer.Exit(max((exit_code(row["state"]) for row in rows), key=lambda code: (code == EXIT_FAILED, code)))


def _read_night(text: str) -> date:
    if text in DAY_WORDS:
        return print_named_date(text, load().calendar.named_day(text, SystemClock().now()))
    try:
        return date.fromisoformat(text)
    except ValueError as exc:
        raise typer.BadParameter(f"--date: {text!r} is no date; write 2024-12-15, {', '.join(DAY_WORDS)}") from exc
