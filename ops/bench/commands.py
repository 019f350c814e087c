"""The commands below `mlfs bench`: options in, tables or JSON out."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.table import Table

from ops.arguments import Json
from ops.bench.machine import describe_machine
from ops.output import err, out, show_json

Runs = Annotated[int, typer.Option(help="How often each is measured; the medians are shown.", min=1, max=50)]


def build(
    entities: Annotated[
        str, typer.Option(help="Sizes, separated by commas.", metavar="N,N,...")
    ] = "400,10000,100000,1000000",
    runs: Runs = 3,
    memory_limit: Annotated[str, typer.Option(help="DuckDB's memory, for both sides.")] = "2GB",
    threads: Annotated[int, typer.Option(help="DuckDB's threads, for both sides.", min=1)] = 2,
    as_json: Json = False,
) -> None:
    """Measure a build from claim to ledger beside the bare join of the same tables. A minute or two with a million.

    Examples:
      mlfs bench build
      mlfs bench build --entities 400,10000 --runs 5 --json
    """
    from ops.bench.build import measure_build

    sizes = _sizes(entities)
    answer = {"machine": describe_machine(), **measure_build(sizes, runs, memory_limit, threads, _progress)}
    if as_json:
        show_json(answer)
        return
    _show_machine(answer["machine"])
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("entities", "build s", "bare s", "ratio", "build MB", "bare MB", "ratio", "statements"):
        table.add_column(name, justify="right")
    for size in answer["sizes"]:
        table.add_row(
            f"{size['entities']:,}",
            _range(size["build"]["seconds"], "{:.3f}"),
            _range(size["bare"]["seconds"], "{:.3f}"),
            f"{size['time_ratio']:.2f}",
            _range(size["build"]["peak_mb"], "{:.0f}"),
            _range(size["bare"]["peak_mb"], "{:.0f}"),
            f"{size['memory_ratio']:.2f}",
            str(size["build"]["statements"]),
        )
    out.print(table)
    _show_targets(answer["targets"])


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError as exc:
        raise typer.BadParameter(f"--entities: {text!r} is no list of numbers; write 400,10000") from exc
    if min(sizes) < 1:
        raise typer.BadParameter("--entities: a size is 1 or more")
    return sizes


def _progress(text: str) -> None:
    err.print(f"[dim]{text}[/]")


def _range(values: Mapping[str, Any], form: str) -> str:
    low, middle, high = (form.format(values[name]) for name in ("low", "median", "high"))
    return f"{middle} ({low}-{high})"


def _show_machine(machine: Mapping[str, Any]) -> None:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    out.print(
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_mb']:,} MB, load {machine['load_1m']}; "
        f"Python {machine['python']}, {packages}",
        soft_wrap=True,
        markup=False,
    )


def _show_targets(targets: Sequence[Mapping[str, Any]]) -> None:
    for target in targets:
        sign = ">=" if target["at_least"] else "<="
        word = "[green]met[/]   " if target["met"] else "[red]missed[/]"
        out.print(f"{word} {target['target']}: {target['value']:,.2f} (target {sign} {target['limit']:,})")
