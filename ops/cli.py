"""The `mlfs` command."""

import inspect
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from ops import leaving
from ops.arguments import EXIT_REFUSED, report_fault
from ops.bench import commands as bench
from ops.commands import data, dead_letters, doctor, generations, intervene, recover, run, schemas, status
from ops.demo import command, rehearsal_command
from ops.reports import cost, daily, incident, lineage, weekly
from ops.streams import StandardStreams
from schemas.fault_words import words_of
from worker.errors import PipelineError, Refused, Unavailable
from worker.observing.metrics import package_version
from worker.settings import BadSettings

# Of click, or of the copy of click that newer Typers bring along.
USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="mlfs",
    help="The ML feature-store worker: joins the completions of a night, builds, scores, publishes.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": command.demo,
    "run": run.run,
    "serve": run.serve,
    "tick": run.tick,
    "status": status.status,
    "explain": status.explain,
    "history": status.history,
    "lineage": lineage.lineage,
    "replay": intervene.replay,
    "cancel": intervene.cancel,
    "retract": intervene.retract,
    "recover": recover.recover,
    "emit": run.emit,
    "load": data.load_folder,
    "build": data.build,
    "features": data.features,
    "diff": generations.diff,
    "vacuum": generations.vacuum,
    "daily": daily.daily,
    "trend": weekly.trend,
    "reliability": weekly.reliability,
    "durations": weekly.durations,
    "incident": incident.incident,
    "cost": cost.cost,
    "config": status.config,
    "doctor": doctor.doctor,
    "schemas": schemas.schemas,
    "sql": schemas.sql,
}
BENCHMARKS: dict[str, Callable[..., None]] = {
    "build": bench.build,
    "intake": bench.intake,
    "latency": bench.latency,
    "deadline": bench.deadline,
    "footprint": bench.footprint,
    "profile": bench.profile,
}
benchmarks = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(benchmarks, name="bench", help="Measure what the design promises, each beside its yardstick.")
REHEARSALS: dict[str, Callable[..., None]] = {"prepare": rehearsal_command.prepare, "play": rehearsal_command.play}
DEAD_LETTERS: dict[str, Callable[..., None]] = {
    "list": dead_letters.list_dead_letters,
    "redrive": dead_letters.redrive_dead_letters,
}


def _add(group: typer.Typer, commands: dict[str, Callable[..., None]]) -> None:
    for name, function in commands.items():
        # The form feed of click's help: without it the examples run together into one paragraph.
        text = (inspect.getdoc(function) or "").replace("Examples:\n", "\b\nExamples:\n")
        group.command(name, help=text)(function)


_add(app, COMMANDS)
_add(benchmarks, BENCHMARKS)
dlq = typer.Typer(help="Dead letters: messages that were refused, or never acknowledged.", no_args_is_help=True)
_add(dlq, DEAD_LETTERS)
app.add_typer(dlq, name="dlq")
rehearsals = typer.Typer(help="Play nights against a worker that runs elsewhere.", no_args_is_help=True)
_add(rehearsals, REHEARSALS)
app.add_typer(rehearsals, name="rehearse")


def _version(wanted: bool) -> None:
    if wanted:
        Console().print(f"mlfs {package_version()}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Read the options that stand before a command."""


def main() -> None:
    """Run the command line; every expected fault is one line and an exit code, never a stack."""
    streams = StandardStreams()
    if streams.output_was_closed:
        sys.exit(report_fault(Refused("standard output is closed (>&-); to throw the output away: > /dev/null")))
    if any(not _is_unicode(argument) for argument in sys.argv[1:]):
        sys.exit(report_fault(Refused("an argument is not UTF-8; nothing was done")))
    code = _run()
    if (fault := streams.lost_output()) is not None:
        code = report_fault(Unavailable(f"the output is not complete: {fault.strerror}; what was to be done is done"))
    sys.exit(code)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _run() -> int:
    """Run the command that the arguments name; give its exit code."""
    try:
        return int(app(standalone_mode=False) or 0)
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except USAGE_ERROR as exc:
        return _report_usage(exc)
    except typer.Abort:
        return report_fault(Refused("broken off"))
    except (PipelineError, BadSettings) as exc:
        return report_fault(exc)
    except KeyboardInterrupt:
        return leaving.exit_code()
    except RuntimeError as exc:
        # DuckDB turns a signal during a query into this.
        if "interrupted" not in str(exc):
            raise
        return leaving.exit_code()
    except OSError as exc:
        return report_fault(Unavailable(f"the file system refuses: {exc}"))


def _report_usage(error: Any) -> int:  # noqa: ANN401 - of Typer's own click, or of click itself
    """Write what is wrong with the arguments in one line, in our words; the list of a group's commands as it is."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return EXIT_REFUSED
    cause = error.__cause__
    if isinstance(cause, ValidationError):
        error.message = words_of(cause.errors()[0])
    path = error.ctx.command_path if error.ctx is not None else ""
    command = path.removeprefix("python -m ").split()[1:]
    where = f" ({' '.join(['mlfs', *command])} --help)"
    return report_fault(Refused(f"{error.format_message()}{where}"))
