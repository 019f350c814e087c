"""`make docs`: writes options, settings, fields and columns from the code into the pages of the documentation.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`. Rows, names, types and defaults come from
the code. The columns of prose belong to the page: an existing row keeps the prose, and a new row begins with the text
of the code. Several parts with the same name share the rows; a new row goes to the first part.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import EnumType
from pathlib import Path
from typing import Any

import typer

from schemas.contract import completion_schema, outcome_schema
from worker.features.pipeline import Column, Feature
from worker.features.sql import read_head
from worker.pipelines.shipped import FEATURES, OWN_TABLES, PROCESSORS, SHIPPED
from worker.pipelines.sql_checks import declared_columns, placement, shown_columns
from worker.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
# Every command has these, and the page explains them once. `--json` has a row where the page says what comes of it.
_JSON, _DATA_DIR = "--json", "--data-dir"
_PART = re.compile(r"(<!-- generated: ([^\n]+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Row:
    """Row of a table: the name as shown, the cells from the code, and the first text of the cells of prose.

    For a None in *facts* the code has no value, and the cell of the page stays.
    """

    name: str
    facts: Sequence[str | None]
    prose: Sequence[str]

    @property
    def key(self) -> str:
        """Key of the row: the name without metavar and aliases."""
        return _key(self.name)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of all parts with the same name; *lead* stands above the first part."""

    columns: Sequence[str]
    rows: Sequence[Row]
    lead: str = ""


def made() -> Mapping[Path, str]:
    """Return the text of each page, by path, made from the present text and the code."""
    known: Mapping[str, Mapping[str, Table]] = {
        "cli.md": {f"options of {path}": _options(command, path) for path, command in commands()},
        "settings.md": {"settings": _settings()},
        "events.md": {
            "fields of a completion": _fields(completion_schema(PROCESSORS)),
            "fields of an outcome": _fields(outcome_schema()),
        },
        "tables.md": _tables(),
    }
    return {DOCS / name: refreshed((DOCS / name).read_text(encoding="utf-8"), parts) for name, parts in known.items()}


def refreshed(page: str, known: Mapping[str, Table]) -> str:
    """Return *page* with new generated parts.

    Raises:
        ValueError: The page has a part with an unknown name, or lacks a known part.
    """
    names = {found[2] for found in _PART.finditer(page)}
    if names != known.keys():
        missing, unknown = sorted(known.keys() - names), sorted(names - known.keys())
        raise ValueError(
            f"generated parts: missing {missing}, not known {unknown}; write <!-- generated: NAME --> and, on a "
            "line below, <!-- end --> where the part belongs"
        )
    kept = {name: [_rows(found[3]) for found in _PART.finditer(page) if found[2] == name] for name in names}
    seen: dict[str, int] = dict.fromkeys(names, 0)

    def fill(found: re.Match[str]) -> str:
        name = found[2]
        number = seen[name]
        seen[name] += 1
        return found[1] + _part(known[name], kept[name], number) + found[4]

    return _PART.sub(fill, page)


def _part(table: Table, kept: Sequence[Mapping[str, Sequence[str]]], number: int) -> str:
    """Return the part with this *number*: the rows of the part, and in the first part also the rows of no part."""
    here = kept[number]
    elsewhere = {name for index, part in enumerate(kept) if index != number for name in part}
    new = {row.key for row in table.rows if number == 0 and row.key not in elsewhere and row.key != _JSON}
    chosen = [row for row in table.rows if row.key in here or row.key in new]
    lines = [table.lead] if table.lead and number == 0 else []
    if chosen:
        order = list(here)
        chosen.sort(key=lambda row: order.index(row.key) if row.key in here else len(order))
        head = [_line(table.columns), "|" + "---|" * len(table.columns)]
        lines.append("\n".join([*head, *(_line(_cells(row, here.get(row.key))) for row in chosen)]))
    return "\n\n".join(lines) + "\n"


def _cells(row: Row, before: Sequence[str] | None) -> list[str]:
    if before is None:
        return [row.name, *(fact or "none" for fact in row.facts), *row.prose]
    facts = [old if fact is None else fact for fact, old in zip(row.facts, before, strict=False)]
    prose = before[len(row.facts) :]
    return [row.name, *facts, *(old or new for old, new in zip(prose, row.prose, strict=False))]


def _rows(part: str) -> dict[str, list[str]]:
    """Read the rows of a table; return {key of the first cell: other cells}."""
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {_key(first): others for first, *others in cells}


def _key(name: str) -> str:
    """Return the key of a row: `--wait` for the cell `--wait SECONDS`."""
    return name.split("`")[1].partition(" ")[0]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def commands(command: Any = None, path: str = "mlfs") -> Iterable[tuple[str, Any]]:  # noqa: ANN401 - Typer's own class
    """Yield every command without subcommands, with the typed words."""
    from ops.cli import app

    command = typer.main.get_command(app) if command is None else command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{path} {name}")
    if not hasattr(command, "commands"):
        yield path, command


def _options(command: Any, path: str) -> Table:  # noqa: ANN401 - Typer's own class
    arguments = [
        f"[{word}]" if not argument.required else word
        for argument in command.params
        if argument.param_type_name == "argument"
        for word in [(argument.metavar or argument.name.upper()).strip("[]")]
    ]
    options = [
        option for option in command.params if option.param_type_name == "option" and option.opts[0] != _DATA_DIR
    ]
    others = [option for option in options if option.opts[0] != _JSON]
    flags = [*(["[OPTIONS]"] if others else []), *([f"[{_JSON}]"] if len(others) < len(options) else [])]
    usage = " ".join([path, *arguments, *flags])
    return Table(("option", "default", "meaning"), [_option(option) for option in options], f"Usage: `{usage}`")


def _option(option: Any) -> Row:  # noqa: ANN401 - Typer's own class
    names = ", ".join(f"`{name}`" for name in option.opts[1:])
    word = "" if option.is_flag else f" {_metavar(option)}"
    name = f"`{option.opts[0]}{word.rstrip()}`" + (f", {names}" if names else "")
    return Row(name, [_option_default(option)], [_cell(option.help or "")])


def _metavar(option: Any) -> str:  # noqa: ANN401 - Typer's own class
    if option.metavar:
        return str(option.metavar)
    kind = option.type_descriptor.annotation
    if isinstance(kind, EnumType) and len(kind) == 1:
        return str(next(iter(kind)))
    unit = "HOURS" if option.name.endswith("hours") else "SECONDS"
    return {int: "N", float: unit, str: "TEXT", Path: "PATH"}.get(kind, str(option.name).upper())


def _option_default(option: Any) -> str | None:  # noqa: ANN401 - Typer's own class
    if option.required:
        return "required"
    if option.is_flag:
        return "on" if option.default else "off"
    if option.multiple or option.default in {None, ""}:
        return None
    value = getattr(option.default, "value", option.default)
    return f"{value:g}" if isinstance(value, float) else str(value) if isinstance(value, int) else f"`{value}`"


def _settings() -> Table:
    defaults = Settings.model_construct(**SHIPPED.settings).describe()
    rows = [
        Row(f"`{name}`", [f"`{default}`" if default else None], [_cell(field.description or ""), ""])
        for (name, default), field in zip(defaults.items(), Settings.model_fields.values(), strict=True)
    ]
    return Table(("setting", "default", "meaning, range", "when to change it"), rows)


def _fields(schema: Mapping[str, Any]) -> Table:
    needed = set(schema.get("required", ()))
    rows = [
        Row(f"`{name}`", [_json_type(prop), "yes" if name in needed else "no", _cell(prop.get("description", ""))], [])
        for name, prop in schema["properties"].items()
    ]
    return Table(("field", "type", "required", "meaning"), rows)


def _json_type(field: Mapping[str, Any]) -> str:
    kinds = [str(choice.get("type")) for choice in field.get("anyOf", [field])]
    text = " or ".join(f"{kind} ({field['format']})" if "format" in field else kind for kind in kinds)
    low, high = field.get("minimum"), field.get("maximum")
    if low is not None and high is not None:
        return f"{text}, {low} to {high}"
    return f"{text}, from {low}" if low is not None else text


def _tables() -> Mapping[str, Table]:
    return {table: _table(table, SHIPPED.ddl_of(table)) for table in SHIPPED.described}


def _table(name: str, ddl: str) -> Table:
    head = read_head(ddl)
    lead = f"{_sentence(head['Purpose'])} {_sentence(head['Result'])} {_place(name, ddl)}"
    is_own = name in OWN_TABLES
    rows = [_column(column, own=name if is_own else "") for column in _columns(name, ddl)]
    columns = ("column", "type", "NULL", "meaning") if is_own else ("column", "type", "NULL")
    return Table(columns, rows, lead)


def _place(table: str, ddl: str) -> str:
    if table in SHIPPED.tables.views:
        return "A view: it holds no rows of its own."
    partition, clustering = placement(ddl)
    return f"Partitioned by `{partition}`, clustered by `{', '.join(clustering)}`."


def _columns(table: str, ddl: str) -> Sequence[Column]:
    """Return the columns of a table or a view; the types of a view come from the table below the view."""
    if table not in SHIPPED.tables.views:
        shown = {column.name for column in SHIPPED.output_columns} if table == SHIPPED.tables.generations else ()
        return [column for column in declared_columns(ddl).values() if column.name not in shown]
    below = SHIPPED.tables.generations if table == SHIPPED.tables.published else SHIPPED.tables.history
    known = declared_columns(SHIPPED.ddl_of(below))
    return [
        known[source] if source else Column(name=name, type="BOOL", required=True)
        for name, source in shown_columns(ddl).items()
    ]


def _column(shown: Column, *, own: str) -> Row:
    """Return the row of a column of the product's table *own*, or of an upstream table; values are the catalogue's."""
    name, facts = shown.name, [f"`{shown.type}`", "no" if shown.required else "yes"]
    if own != SHIPPED.tables.published:
        return Row(f"`{name}`", facts, [""] if own else [])
    values = {column.name: column.values for column in SHIPPED.output_columns if column.values}
    units = {feature.name: _cell(_meaning(feature)) for feature in FEATURES}
    if name in values:
        only_sometimes = [
            block for block in SHIPPED.blocks if f"{block.name}_source" == name and SHIPPED.needs_game(block)
        ]
        end = "; NULL where the block does not apply" if only_sometimes else ""
        return Row(f"`{name}`", [*facts, ", ".join(f"`{value}`" for value in values[name]) + end], [])
    return Row(f"`{name}`", [*facts, *([units[name]] if name in units else [])], [] if name in units else [""])


def _meaning(feature: Feature) -> str:
    """Return the unit of a feature with the range, if the catalogue has a range."""
    if feature.range is None:
        return feature.unit
    low, high = feature.range
    return f"{feature.unit}; {low:g} to {high:g}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write the pages."""
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
