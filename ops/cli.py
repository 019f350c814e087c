"""The `mlfs` command line.

`command_table.toml` names the function and the help sentence of every command. The module of a command is imported when
the command is called, so help, version and completion import no command. Every expected error ends in one line on
standard error and an exit code, never in a stack trace.
"""

import inspect
import os
import sys
import tomllib
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from ops import leaving
from ops.streams import StandardStreams
from worker import package_version
from worker.errors import BadSettings, PipelineError, Refused, Unavailable

TABLE = tomllib.loads(Path(__file__).with_name("command_table.toml").read_text(encoding="utf-8"))
# For each command: `module:function`, and the first sentence of the docstring of the function.
Section = Mapping[str, tuple[str, str]]
SECTIONS: Mapping[str, Section] = TABLE["sections"]
GROUPS: Mapping[str, Section] = TABLE["groups"]
# Base class of click, or of the copy of click inside newer releases of Typer.
USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]


class _Command(TyperCommand):
    """Command that first calls the object of the context, if the context has an object."""

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:  # noqa: ANN401
        """Parse the arguments; add the name of the command to an error of the parser."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except USAGE_ERROR as exc:
            cast("Any", exc).command = " ".join(filter(None, (parent and parent.command_path, info_name)))
            raise

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - of Typer's own click
        """Call the function of the command."""
        if callable(ctx.obj):
            ctx.obj()
        return super().invoke(ctx)


class _Commands(dict[str, Any]):
    """Commands of a group by name; a command is imported at the first lookup."""

    def __init__(self, entries: Section, groups: Mapping[str, Any]) -> None:
        super().__init__({name: groups.get(name) for name in entries})
        self._entries = entries

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401
        command = super().__getitem__(name)
        if command is None:
            command = self[name] = _imported(name, self._entries[name][0])
        return command

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """Return the command, or *default*."""
        return self[name] if name in self else default  # noqa: SIM401 - dict.get would import no command

    def items(self) -> Any:  # noqa: ANN401
        """Return all commands with their names."""
        return [(name, self[name]) for name in self]


class _Group(TyperGroup):
    """Group with help and completion from the table of commands."""

    sections: Mapping[str, Section] = SECTIONS

    def __init__(self, *, commands: Mapping[str, Any], **attributes: Any) -> None:  # noqa: ANN401
        super().__init__(**attributes)
        self._entries = {name: entry for section in self.sections.values() for name, entry in section.items()}
        self.commands = _Commands(self._entries, commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002
        """Write each section with whole sentences."""
        widest = max(map(len, self._entries))
        for title, section in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(widest), sentence) for name, (_, sentence) in section.items()])

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:  # noqa: ANN401
        """Return the commands and options that begin with *incomplete*; import no command."""
        real = self.commands
        self.commands = {name: TyperCommand(name, short_help=sentence) for name, (_, sentence) in self._entries.items()}
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self.commands = real


def _choose_data_dir(folder: str | None) -> None:
    if folder == "":
        # As from an unset variable of a script: the default folder would be the wrong folder.
        raise typer.BadParameter("names no folder")
    if folder is not None:
        os.environ["MLFS_DATA_DIR"] = folder


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mlfs {package_version()}")
        raise typer.Exit


DataDir = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        callback=_choose_data_dir,
        is_eager=True,
        expose_value=False,
        help="Folder of the embedded store, bus and warehouse (MLFS_DATA_DIR), before or after the command.",
    ),
]


def _app(sections: Mapping[str, Section], text: str, *, add_completion: bool = False) -> typer.Typer:
    return typer.Typer(
        name="mlfs",
        cls=type("Group", (_Group,), {"sections": sections}),
        help=text,
        no_args_is_help=True,
        add_completion=add_completion,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


# Number of words in `mlfs --show-completion zsh`.
SHELL_NAMED = 3

app = _app(
    SECTIONS,
    "ML feature-store worker: join the completions of an analysis date, build, score and publish the features.",
    add_completion=True,
)


def read_options(data_dir: DataDir = None) -> None:
    """Read the options that stand between the name of a group and the command."""


for _name, _section in GROUPS.items():
    _sentence = next(section[_name][1] for section in SECTIONS.values() if _name in section)
    _group = _app({"Commands": _section}, _sentence)
    _group.callback()(read_options)
    app.add_typer(_group, name=_name)


@app.callback()
def root(
    data_dir: DataDir = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Read the options before a command."""


def _imported(name: str, target: str) -> Any:  # noqa: ANN401
    """Return the command at *target*, with the option `--data-dir` of every command."""
    module, _, function = target.partition(":")
    act: Callable[..., None] = getattr(import_module(module), function)
    # Click keeps the line breaks of a paragraph after a form feed, so that each example has a line.
    text = (inspect.getdoc(act) or "").replace("Examples:\n", "\b\nExamples:\n")
    single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    single.command(name, cls=_Command, help=text)(act)
    command = typer.main.get_command(single)
    command.params.append(_data_dir_option())
    return command


def _data_dir_option() -> Any:  # noqa: ANN401
    bare = typer.Typer(add_completion=False)

    @bare.command()
    def options(data_dir: DataDir = None) -> None:
        """Declare the option."""

    return typer.main.get_command(bare).params[0]


def main(begin: Callable[[], None] | None = None) -> None:
    """Run the command line and exit with the exit code of the command.

    Args:
        begin: Called before the function of a command, after all imports of the command line.
    """
    streams = StandardStreams()
    if streams.output_was_closed:
        sys.exit(_report(Refused("standard output is closed (>&-); to throw the output away: > /dev/null")))
    # Python reads a byte outside UTF-8 as a lone surrogate.
    if any("\ud800" <= character <= "\udfff" for character in "".join(sys.argv[1:])):
        sys.exit(_report(Refused("an argument is not UTF-8; nothing was done")))
    code = _run(begin)
    if (fault := streams.lost_output()) is not None:
        code = _report(Unavailable(f"the output is not complete: {fault.strerror}; the command ran to the end"))
    sys.exit(code)


def _report(error: Exception) -> int:
    from ops.arguments import report_fault

    return report_fault(error)


def _run(begin: Callable[[], None] | None) -> int:
    """Run the command of the arguments; return the exit code."""
    if len(sys.argv) == SHELL_NAMED and sys.argv[1] in {"--show-completion", "--install-completion"}:
        # Typer detects the shell of the parent process and then ignores a shell named by the caller.
        os.environ["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
    try:
        return int(app(standalone_mode=False, prog_name="mlfs", obj=begin) or 0)
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except USAGE_ERROR as exc:
        return _report_usage(exc)
    except typer.Abort:
        return _report(Refused("broken off"))
    except (PipelineError, BadSettings) as exc:
        return _report(exc)
    except KeyboardInterrupt:
        return leaving.exit_code()
    except (RuntimeError, ImportError):
        # DuckDB during a query, and an extension module during an import, turn a signal into these errors.
        if not leaving.has_begun():
            raise
        return leaving.exit_code()
    except OSError as exc:
        return _report(Unavailable(f"the file system refuses: {exc}"))


def _report_usage(error: Any) -> int:  # noqa: ANN401 - of Typer's own click, or of click itself
    """Print a usage error in one line; print the help of a group without a command."""
    from ops.arguments import EXIT_REFUSED

    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return EXIT_REFUSED
    if (cause := error.__cause__) is not None:
        from pydantic import ValidationError

        from schemas.fault_words import words_of

        if isinstance(cause, ValidationError):
            error.message = words_of(cause.errors()[0])
    command = getattr(error, "command", "mlfs")
    return _report(Refused(f"{error.format_message()} ({command} --help)"))
