"""Rules that no import shows: who may read the clock, who may print, how SQL is made, what the core stands on."""

import ast
import dataclasses
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.completion import CompletionMessage, Delivery
from statemachine.events import CancelRequested, ReplayRequested
from statemachine.model import Completion
from worker.ports import ParkedMessage

ROOT = Path(__file__).parents[2]
PACKAGES = ("statemachine", "schemas", "worker", "ops")

CLOCK = "worker/clock.py"
CLOCK_CALLS = {
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
    "time.time",
    "time.time_ns",
    "time.sleep",
}
PRINTERS = ("ops/cli",)
# Where SQL text may be put together, from identifiers that cannot be bound: the adapters take them from validated
# configuration and the catalogue, the local stand-ins from their own files. There ruff's S608 asks for a reason.
SQL_WRITERS = ("worker/adapters/", "worker/local/")
SQL_CALLS = {"execute", "executemany", "sql", "Statement"}

# What comes from outside: a completion, a delivery, a person's request.
EVENT_FIELDS = {
    *CompletionMessage.model_fields,
    *(
        field.name
        for model in (Completion, Delivery, ReplayRequested, CancelRequested, ParkedMessage)
        for field in dataclasses.fields(model)
    ),
    "body",
}
SQL_WORD = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|MERGE|FROM|WHERE|CREATE|DROP|ALTER|VALUES)\b")

Check = Callable[[ast.Module], Iterator[tuple[int, str]]]


def imported_names(tree: ast.Module) -> dict[str, str]:
    """What each imported name of the module stands for: {"dt": "datetime.datetime"}."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.name if alias.asname else alias.name.split(".")[0]
                names[alias.asname or bound] = bound
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    return names


def dotted_name(node: ast.AST, names: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = dotted_name(node.value, names)
        return f"{owner}.{node.attr}" if owner else None
    return None


def clock_reads(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every mention counts, so that `default_factory=datetime.now` is found as well as a call."""
    names = imported_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and (name := dotted_name(node, names)) in CLOCK_CALLS:
            yield node.lineno, f"{name}; time is an argument, only {CLOCK} reads it"


def machine_clocks(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(alias.name == "SystemClock" for alias in node.names):
            yield node.lineno, "SystemClock; a command goes by the clock of the opened resources"


def prints(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield node.lineno, "print; the product logs, only the command line prints"


def is_assembled(node: ast.AST) -> bool:
    """Whether a text is put together from parts that are not all literals."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        return any(not isinstance(side, ast.Constant) for side in (node.left, node.right))
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in {"format", "join"}


def assembled_sql(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
        texts = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "sql")]
        if called in SQL_CALLS and any(is_assembled(text) for text in texts):
            yield node.lineno, f"{called}() of assembled text; SQL is a file, values are bound"


def parts_put_in(node: ast.AST) -> Iterator[ast.AST]:
    """The expressions that an assembled text takes its changing parts from, and the literal parts themselves."""
    if isinstance(node, ast.JoinedStr):
        yield from (part.value if isinstance(part, ast.FormattedValue) else part for part in node.values)
    elif isinstance(node, ast.BinOp):
        yield from (node.left, node.right)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        yield from (node.func.value, *node.args, *(keyword.value for keyword in node.keywords))


def sql_of_event_fields(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Wherever SQL may be assembled, in adapters too: never from something that an event or a person said."""
    for node in ast.walk(tree):
        if not is_assembled(node):
            continue
        parts = list(parts_put_in(node))
        literals = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        if not any(SQL_WORD.search(text) for text in literals):
            continue
        inner = [one for part in parts for one in ast.walk(part)]
        names = {one.attr if isinstance(one, ast.Attribute) else getattr(one, "id", None) for one in inner}
        if said := names & EVENT_FIELDS:
            yield node.lineno, f"SQL of {', '.join(sorted(map(str, said)))}; bind it as a parameter"


def foreign_imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or "a relative import"]
        else:
            continue
        for module in modules:
            top = module.split(".")[0]
            if top != "statemachine" and top not in sys.stdlib_module_names:
                yield node.lineno, f"{module}; the state machine stands on the standard library alone"


def findings(check: Check, *packages: str, allowed: tuple[str, ...] = ()) -> list[str]:
    found = []
    for package in packages:
        for file in sorted((ROOT / package).rglob("*.py")):
            path = file.relative_to(ROOT).as_posix()
            if not path.startswith(allowed):
                tree = ast.parse(file.read_text(encoding="utf-8"), path)
                found += [f"{path}:{line}: {message}" for line, message in check(tree)]
    return found


def test_the_state_machine_imports_only_the_standard_library() -> None:
    found = findings(foreign_imports, "statemachine")

    assert not found, "\n".join(found)


def test_only_the_clock_module_reads_or_waits_on_the_clock() -> None:
    found = findings(clock_reads, *PACKAGES, allowed=(CLOCK,))

    assert not found, "\n".join(found)


def test_commands_and_reports_go_by_the_clock_of_the_opened_resources() -> None:
    found = findings(machine_clocks, "ops/commands", "ops/reports", allowed=("ops/commands/doctor.py",))

    assert not found, "\n".join(found)


def test_only_the_command_line_prints() -> None:
    found = findings(prints, *PACKAGES, allowed=PRINTERS)

    assert not found, "\n".join(found)


def test_no_sql_is_made_of_what_an_event_or_a_person_says() -> None:
    found = findings(sql_of_event_fields, *PACKAGES)

    assert not found, "\n".join(found)


def test_sql_is_never_put_together_outside_adapters_and_stand_ins() -> None:
    found = findings(assembled_sql, *PACKAGES, allowed=SQL_WRITERS)

    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (clock_reads, "import datetime\ndatetime.datetime.now(datetime.UTC)"),
        (clock_reads, "from datetime import datetime as dt\nfield(default_factory=dt.utcnow)"),
        (clock_reads, "from datetime import date\ndate.today()"),
        (clock_reads, "import time as t\nt.sleep(1)"),
        (clock_reads, "from time import sleep\nsleep(1)"),
        (machine_clocks, "from worker.clock import SharedClock, SystemClock"),
        (prints, "print('hello')"),
        (assembled_sql, "connection.execute(f'select * from {table}')"),
        (assembled_sql, "connection.execute('select * from ' + table)"),
        (assembled_sql, "connection.execute('select * from %s' % table)"),
        (assembled_sql, "Statement(name='x', sql='select * from {}'.format(table))"),
        (sql_of_event_fields, "sql = f'SELECT * FROM {processor}'"),
        (sql_of_event_fields, "sql = f\"DELETE FROM x WHERE d = '{completion.analysis_date}'\""),
        (sql_of_event_fields, "sql = 'SELECT * FROM x WHERE why = ' + event.reason"),
        (sql_of_event_fields, "sql = 'INSERT INTO x VALUES (%s)' % message.run_id"),
        (sql_of_event_fields, "sql = 'UPDATE x SET y = {}'.format(body.error)"),
        (foreign_imports, "import pydantic"),
        (foreign_imports, "from schemas.completion import decode"),
        (foreign_imports, "from . import model"),
    ],
)
def test_a_planted_violation_is_found(check: Check, source: str) -> None:
    assert len(list(check(ast.parse(source)))) == 1


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (clock_reads, "import time\ntime.monotonic()"),
        (clock_reads, "clock.now()"),
        (assembled_sql, "connection.execute(sql, [value])"),
        (assembled_sql, "connection.execute('select ' 'one')"),
        (sql_of_event_fields, "sql = f'SELECT {columns} FROM {TABLE}'"),
        (sql_of_event_fields, "text = f'{processor} has no rows'"),
        (foreign_imports, "import statemachine.model\nfrom dataclasses import dataclass"),
    ],
)
def test_an_innocent_line_is_left_alone(check: Check, source: str) -> None:
    assert list(check(ast.parse(source))) == []
