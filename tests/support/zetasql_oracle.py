"""ZetaSQL, Google's own implementation of the dialect that BigQuery speaks, as the oracle of the shared SQL.

The PyPI package `zetasql` is a WebAssembly build of analyzer and reference evaluator. It gets each text as BigQuery
would: with its comments and its `@parameters`. Compiling it takes two cores some 15 s, so the machine code is kept in
the environment (`.venv/zetasql-cache`, 76 MB); a second run begins at once.
"""

import fcntl
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import wasmtime
import zetasql.core.wasm_client
from google.protobuf.timestamp_pb2 import Timestamp
from zetasql import types
from zetasql.api import Parser, TypeFactory
from zetasql.core import ZetaSqlLocalService

CACHE = Path(sys.prefix) / "zetasql-cache"

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KINDS = {
    "BOOL": types.TypeKind.TYPE_BOOL,
    "DATE": types.TypeKind.TYPE_DATE,
    "FLOAT64": types.TypeKind.TYPE_DOUBLE,
    "INT64": types.TypeKind.TYPE_INT64,
    "STRING": types.TypeKind.TYPE_STRING,
    "TIMESTAMP": types.TypeKind.TYPE_TIMESTAMP,
}
NAMES = {int(kind): name for name, kind in KINDS.items()}
_ARRAY = re.compile(r"ARRAY<(?P<element>.+)>")
_STRUCT = re.compile(r"STRUCT<(?P<fields>.+)>")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows under declared columns, {name: BigQuery type}."""

    columns: Mapping[str, str]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Answer:
    """What a statement gives: its columns with their BigQuery types, and its rows."""

    columns: Mapping[str, str]
    rows: Sequence[Row]


class Oracle:
    """The evaluator; make one a session."""

    def __init__(self) -> None:
        self._service = _start_service()
        self._language = types.LanguageOptions.maximum_features()

    def answer(
        self,
        sql: str,
        tables: Mapping[str, Table],
        parameter_types: Mapping[str, str],
        parameter_sets: Sequence[Mapping[str, Any]],
    ) -> list[Answer]:
        """Evaluate one SELECT over *tables*, once for each set of parameters."""
        prepared = self._service.prepare_query(
            sql=_spelled_for_the_catalog(sql, tables),
            options=self._options(parameter_types),
            simple_catalog=self._catalog(tables),
            table_content={name: _content(table) for name, table in tables.items()},
        ).prepared
        columns = {column.name: _type_name(column.type) for column in prepared.columns}
        answers = [
            Answer(columns, self._evaluate(prepared.prepared_query_id, columns, parameter_types, parameters))
            for parameters in parameter_sets
        ]
        self._service.unprepare_query(prepared_query_id=prepared.prepared_query_id)
        return answers

    def _evaluate(
        self, query: int, columns: Mapping[str, str], parameter_types: Mapping[str, str], parameters: Mapping[str, Any]
    ) -> list[Row]:
        # Past the package's wrapper: its class for a parameter is not the one its request takes.
        request = types.EvaluateQueryRequest(prepared_query_id=query).to_proto()
        for name, kind in parameter_types.items():
            request.params.add(name=name, value=_value(parameters[name], kind).to_proto())
        response = self._service.wasm_client.call_grpc_func(
            "ZetaSqlLocalService_EvaluateQuery", request, types.EvaluateQueryResponse._PROTO_CLASS
        )
        return [
            {name: _python(cell, kind) for (name, kind), cell in zip(columns.items(), row.cell, strict=True)}
            for row in response.content.table_data.row
        ]

    def change(
        self, sql: str, tables: Mapping[str, Table], parameter_types: Mapping[str, str], parameters: Mapping[str, Any]
    ) -> list[Row]:
        """Evaluate one UPDATE over *tables*; return the changed rows as they are afterwards."""
        prepared = self._service.prepare_modify(
            sql=_spelled_for_the_catalog(sql, tables),
            options=self._options(parameter_types),
            simple_catalog=self._catalog(tables),
            table_content={name: _content(table) for name, table in tables.items()},
        ).prepared
        request = types.EvaluateModifyRequest(prepared_modify_id=prepared.prepared_modify_id).to_proto()
        for name, kind in parameter_types.items():
            request.params.add(name=name, value=_value(parameters[name], kind).to_proto())
        response = self._service.wasm_client.call_grpc_func(
            "ZetaSqlLocalService_EvaluateModify", request, types.EvaluateModifyResponse._PROTO_CLASS
        )
        self._service.unprepare_modify(prepared_modify_id=prepared.prepared_modify_id)
        columns = tables[response.table_name].columns
        return [
            {name: _python(cell, kind) for (name, kind), cell in zip(columns.items(), row.cell, strict=True)}
            for row in response.content
        ]

    def analyze(self, sql: str, tables: Mapping[str, Table], parameter_types: Mapping[str, str]) -> object:
        """Resolve every name and type of one statement; raises where BigQuery would refuse the statement."""
        return self._service.analyze(
            sql_statement=_spelled_for_the_catalog(sql, tables),
            options=self._options(parameter_types),
            simple_catalog=self._catalog(tables),
        )

    def _options(self, parameter_types: Mapping[str, str]) -> types.AnalyzerOptions:
        return types.AnalyzerOptions(
            language_options=self._language,
            query_parameters=[
                types.AnalyzerOptions.QueryParameter(name=name, type=_type(kind))
                for name, kind in parameter_types.items()
            ],
        )

    def _catalog(self, tables: Mapping[str, Table]) -> types.SimpleCatalog:
        return types.SimpleCatalog(
            name="oracle",
            table=[_table(name, table) for name, table in tables.items()],
            builtin_function_options=types.ZetaSQLBuiltinFunctionOptions(language_options=self._language),
        )

    def parse(self, sql: str) -> object:
        """Parse one statement, DDL included; raises where BigQuery would call it a syntax error."""
        return Parser.parse_statement_static(sql)

    def parse_script(self, sql: str) -> object:
        """Parse a script of several statements; raises where BigQuery would call it a syntax error."""
        return Parser.parse_script_static(sql)


def _start_service() -> ZetaSqlLocalService:
    """Start the evaluator on machine code of an earlier run; the package itself compiles anew each time."""
    original = zetasql.core.wasm_client.Module
    zetasql.core.wasm_client.Module = _KeptModule
    try:
        return ZetaSqlLocalService.get_instance()
    finally:
        zetasql.core.wasm_client.Module = original


class _KeptModule(wasmtime.Module):
    """A module whose compiled form is kept beside the packages it was made from."""

    @classmethod
    def from_file(cls, engine: wasmtime.Engine, path: Any) -> wasmtime.Module:
        kept = CACHE / f"zetasql-{version('zetasql')}-wasmtime-{version('wasmtime')}.machine-code"
        CACHE.mkdir(exist_ok=True)
        with (CACHE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of two test processes one compiles, the other waits for it
            if kept.exists():
                return wasmtime.Module.deserialize_file(engine, str(kept))
            module = wasmtime.Module.from_file(engine, path)
            with NamedTemporaryFile(dir=CACHE, delete=False) as file:
                file.write(module.serialize())
            Path(file.name).replace(kept)  # whole or not at all: the runtime trusts what it loads
            return module


def _spelled_for_the_catalog(sql: str, tables: Mapping[str, Table]) -> str:
    """Make one identifier of each `dataset.table`: only a table of the top level can have contents."""
    names = "|".join(re.escape(name) for name in tables)
    return re.sub(rf"\b(?:{names})\b", lambda found: f"`{found[0]}`", sql) if names else sql


def fields_of(struct: str) -> dict[str, str]:
    """Return {field: type} of a STRUCT of plain types; empty for every other type."""
    found = _STRUCT.fullmatch(struct)
    return dict(field.split(" ", 1) for field in found["fields"].split(", ")) if found else {}


def element_of(array: str) -> str:
    """Return the type of an array's elements; empty for a type that is no array."""
    found = _ARRAY.fullmatch(array)
    return found["element"] if found else ""


def _type(name: str) -> types.Type:
    if element := element_of(name):
        return TypeFactory.create_array_type(_type(element))
    if fields := fields_of(name):
        return TypeFactory.create_struct_type([(field, _type(kind)) for field, kind in fields.items()])
    return TypeFactory.create_simple_type(KINDS[name])


def _type_name(kind: types.Type) -> str:
    if kind.array_type is not None:
        return f"ARRAY<{_type_name(kind.array_type.element_type)}>"
    if kind.struct_type is not None:
        fields = (f"{field.field_name} {_type_name(field.field_type)}" for field in kind.struct_type.field)
        return f"STRUCT<{', '.join(fields)}>"
    return NAMES.get(int(kind.type_kind), str(kind.type_kind))


def _table(name: str, table: Table) -> types.SimpleTable:
    columns = [types.SimpleColumn(name=column, type=_type(kind)) for column, kind in table.columns.items()]
    return types.SimpleTable(name=name, column=columns)


def _content(table: Table) -> types.TableContent:
    rows = [
        types.TableData.Row(cell=[_value(row[name], kind) for name, kind in table.columns.items()])
        for row in table.rows
    ]
    return types.TableContent(table_data=types.TableData(row=rows))


def _value(value: Any, kind: str) -> types.Value:
    if value is None:
        return types.Value()
    if element := element_of(kind):
        elements = [_value(one, element) for one in value]
        return types.Value(array_value=types.Value.Array(element=elements))
    if fields := fields_of(kind):
        cells = [_value(value[field], inner) for field, inner in fields.items()]
        return types.Value(struct_value=types.Value.Struct(field=cells))
    match kind:
        case "BOOL":
            return types.Value(bool_value=value)
        case "DATE":
            return types.Value(date_value=value.toordinal() - EPOCH.toordinal())
        case "FLOAT64":
            return types.Value(double_value=value)
        case "INT64":
            return types.Value(int64_value=value)
        case "STRING":
            return types.Value(string_value=value)
        case "TIMESTAMP":
            micros = (value - EPOCH) // timedelta(microseconds=1)
            seconds, rest = divmod(micros, 1_000_000)
            return types.Value(timestamp_value=Timestamp(seconds=seconds, nanos=rest * 1000))
    raise AssertionError(f"no such type in a fixture: {kind}")


def _python(value: Any, kind: str) -> Any:
    """Read a value as the protobuf message that it is."""
    if value.WhichOneof("value") is None:
        return None
    if element := element_of(kind):
        return [_python(one, element) for one in value.array_value.element]
    if fields := fields_of(kind):
        cells = zip(fields.items(), value.struct_value.field, strict=True)
        return {field: _python(cell, inner) for (field, inner), cell in cells}
    match kind:
        case "BOOL":
            return value.bool_value
        case "DATE":
            return date.fromordinal(EPOCH.toordinal() + value.date_value)
        case "FLOAT64":
            return value.double_value
        case "INT64":
            return value.int64_value
        case "STRING":
            return value.string_value
        case "TIMESTAMP":
            stamp = value.timestamp_value
            return EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)
    raise AssertionError(f"a statement gives {kind}, which no table of ours holds")
