"""`make docs`: the parts of the documentation that the code knows better than a person does.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`. Which rows there are, their names, types
and defaults come from the code. Columns of prose belong to the page: a row keeps them, and a new row begins with the
words of the code, for a person to say more. Several parts of one name share the rows; a new one goes to the first.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import EnumType
from pathlib import Path
from typing import Any

import typer

from schemas.contract import completion_schema, outcome_schema
from worker.pipelines.shipped import FEATURES, OWN_TABLES, PROCESSORS, SHIPPED
from worker.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
# Every command has these, and the page explains them once. `--json` has a row where the page says what comes of it.
_JSON, _DATA_DIR = "--json", "--data-dir"
_PART = re.compile(r"(<!-- generated: ([^\n]+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_COLUMN = re.compile(r"^  (\w+) ([A-Z0-9]+(?:<.+>)?)( NOT NULL)?,?$", re.MULTILINE)
_SHOWN = re.compile(r"^  made\.(\w+)( > 0 AS (\w+))?,?$", re.MULTILINE)
_HEAD = re.compile(r"^-- (Purpose|Result): +(.+(?:\n-- {5,}.+)*)", re.MULTILINE)
_CREATED = re.compile(r"^-- Creates: +(\S+)", re.MULTILINE)
_PLACED = re.compile(r"^(PARTITION|CLUSTER) BY ([\w, ]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its name as the page shows it, what the code says of it, and its first prose, cell by cell.

    A cell of *facts* that is None is one that the code does not know: the page's own words stay.
    """

    name: str
    facts: Sequence[str | None]
    prose: Sequence[str]

    @property
    def key(self) -> str:
        """What the row is known by, whatever its name says beside it."""
        return _key(self.name)


@dataclass(frozen=True, slots=True)
class Table:
    """The rows that the parts of one name hold together; *lead* stands above the first of them."""

    columns: Sequence[str]
    rows: Sequence[Row]
    lead: str = ""


def made() -> Mapping[Path, str]:
    """Give each page as it should be, by its path; it reads what the pages say now."""
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
    """Give *page* with each generated part made anew.

    Raises:
        ValueError: When the page has a part of a name that is not *known*, or lacks one.
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
    """Give the part of that *number*: the rows that it has, and, as the first, those that none has."""
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
    """Read the rows of a table: {key of the first cell: the others}."""
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {_key(first): others for first, *others in cells}


def _key(name: str) -> str:
    """Give what a row is known by: `--wait` of a cell that says `--wait SECONDS`."""
    return name.split("`")[1].partition(" ")[0]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def commands(command: Any = None, path: str = "mlfs") -> Iterable[tuple[str, Any]]:  # noqa: ANN401 - Typer's own class
    """Give every command that does something, by what one types for it."""
    from ops.cli import app

    command = typer.main.get_command(app) if command is None else command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{path} {name}")
    if not hasattr(command, "commands"):
        yield path, command


def _options(command: Any, path: str) -> Table:  # noqa: ANN401 - Typer's own class
    arguments = [
        f"[{word}]" if not one.required else word
        for one in command.params
        if one.param_type_name == "argument"
        for word in [(one.metavar or one.name.upper()).strip("[]")]
    ]
    options = [one for one in command.params if one.param_type_name == "option" and one.opts[0] != _DATA_DIR]
    others = [one for one in options if one.opts[0] != _JSON]
    flags = [*(["[OPTIONS]"] if others else []), *([f"[{_JSON}]"] if len(others) < len(options) else [])]
    usage = " ".join([path, *arguments, *flags])
    return Table(("option", "default", "meaning"), [_option(one) for one in options], f"Usage: `{usage}`")


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
        Row(f"`{name}`", [f"`{default}`" if default else None], [_cell(one.description or ""), ""])
        for (name, default), one in zip(defaults.items(), Settings.model_fields.values(), strict=True)
    ]
    return Table(("setting", "default", "meaning, range", "when to change it"), rows)


def _fields(schema: Mapping[str, Any]) -> Table:
    required = set(schema.get("required", ()))
    rows = [
        Row(f"`{name}`", [_json_type(one), "yes" if name in required else "no", _cell(one.get("description", ""))], [])
        for name, one in schema["properties"].items()
    ]
    return Table(("field", "type", "required", "meaning"), rows)


def _json_type(one: Mapping[str, Any]) -> str:
    kinds = [str(choice.get("type")) for choice in one.get("anyOf", [one])]
    text = " or ".join(f"{kind} ({one['format']})" if "format" in one else kind for kind in kinds)
    low, high = one.get("minimum"), one.get("maximum")
    if low is not None and high is not None:
        return f"{text}, {low} to {high}"
    return f"{text}, from {low}" if low is not None else text


def _tables() -> Mapping[str, Table]:
    return dict(_table(SHIPPED.ddl_of(table)) for table in SHIPPED.described)


def _table(ddl: str) -> tuple[str, Table]:
    created = _CREATED.search(ddl)
    if created is None:
        raise ValueError(f"no line `-- Creates:` in {ddl[:80]!r}")
    head = {name: " ".join(re.sub(r"\n-- +", " ", text).split()) for name, text in _HEAD.findall(ddl)}
    lead = f"{_sentence(head['Purpose'])} {_sentence(head['Result'])} {_place(created[1], ddl)}"
    own = created[1] in OWN_TABLES
    rows = [_column(*found, own=created[1] if own else "") for found in _columns(created[1], ddl)]
    columns = ("column", "type", "NULL", "meaning") if own else ("column", "type", "NULL")
    return created[1], Table(columns, rows, lead)


def _place(table: str, ddl: str) -> str:
    if table in SHIPPED.tables.views:
        return "A view: it holds no rows of its own."
    placed = {kind: f"`{by}`" for kind, by in _PLACED.findall(ddl)}
    return f"Partitioned by {placed['PARTITION']}, clustered by {placed['CLUSTER']}."


def _columns(table: str, ddl: str) -> Sequence[tuple[str, str, str]]:
    """Return (name, type, ` NOT NULL` or nothing) of each column; those of a view come from the table below it."""
    if table == SHIPPED.tables.generations:
        shown = {column.name for column in SHIPPED.output_columns}
        return [found for found in _COLUMN.findall(ddl) if found[0] not in shown]
    if table not in SHIPPED.tables.views:
        return _COLUMN.findall(ddl)
    below = SHIPPED.tables.generations if table == SHIPPED.tables.published else SHIPPED.tables.history
    known = {name: (kind, required) for name, kind, required in _COLUMN.findall(SHIPPED.ddl_of(below))}
    return [
        (renamed, "BOOL", " NOT NULL") if renamed else (name, *known[name]) for name, _, renamed in _SHOWN.findall(ddl)
    ]


def _column(name: str, kind: str, required: str, *, own: str) -> Row:
    """Make the row of a column of the product's table *own*, or of another's; values and units are the catalogue's."""
    facts = [f"`{kind}`", "no" if required else "yes"]
    if own != SHIPPED.tables.published:
        return Row(f"`{name}`", facts, [""] if own else [])
    values = {column.name: column.values for column in SHIPPED.output_columns if column.values}
    units = {feature.name: _cell(feature.unit) for feature in FEATURES}
    if name in values:
        only_sometimes = [
            block for block in SHIPPED.blocks if f"{block.name}_source" == name and SHIPPED.needs_game(block)
        ]
        end = "; NULL where the block does not apply" if only_sometimes else ""
        return Row(f"`{name}`", [*facts, ", ".join(f"`{value}`" for value in values[name]) + end], [])
    return Row(f"`{name}`", [*facts, *([units[name]] if name in units else [])], [] if name in units else [""])


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write them."""
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
