"""The `mlfs` command."""

import sys
from typing import Annotated

import click
import typer
from rich.console import Console

from ops import building, demo, reading, running
from ops.arguments import EXIT_UNAVAILABLE, report_fault
from worker.errors import PipelineError
from worker.metrics import package_version
from worker.settings import BadSettings

app = typer.Typer(
    name="mlfs",
    help="The ML feature-store worker: joins four completions a night, builds, scores, publishes.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo.demo)
app.command()(running.run)
app.command()(reading.status)
app.command()(reading.explain)
app.command()(reading.history)
app.command()(running.emit)
app.command("load")(building.load_folder)
app.command()(building.build)
app.command()(building.features)
app.command()(reading.config)


def _version(wanted: bool) -> None:
    if wanted:
        Console().print(f"mlfs {package_version()}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Read the options that stand before a command."""


def main() -> None:
    """Run the command line; every expected fault is one line and an exit code, never a stack."""
    try:
        code = app(standalone_mode=False)
    except (PipelineError, BadSettings) as exc:
        code = report_fault(exc)
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as exc:
        exc.show()
        code = exc.exit_code
    except BrokenPipeError:
        code = EXIT_UNAVAILABLE
    sys.exit(code if isinstance(code, int) else 0)
