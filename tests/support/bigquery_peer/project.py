"""One project of the BigQuery peer: its datasets and tables as resources, and its jobs."""

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import duckdb

from tests.support.bigquery_peer.engine import PeerEngine
from tests.support.bigquery_peer.faults import PlannedJobFaults
from tests.support.bigquery_peer.jobs import PeerJobs
from tests.support.bigquery_peer.wire import Json, WireError, engine_error, field, row

# DuckDB's own schemas, and the peer's.
_HIDDEN = ("information_schema", "main", "pg_catalog", "peer_information_schema")

DUCKDB_TYPES = {
    "STRING": "VARCHAR",
    "INTEGER": "BIGINT",
    "INT64": "BIGINT",
    "FLOAT": "DOUBLE",
    "FLOAT64": "DOUBLE",
    "BOOLEAN": "BOOLEAN",
    "BOOL": "BOOLEAN",
    "DATE": "DATE",
    "TIMESTAMP": "TIMESTAMPTZ",
}


class Project:
    """One project; `faults` says what goes wrong with its jobs, `withheld` which permissions nobody has.

    `denied` names tables, `dataset.table`, that the caller may neither look up nor read, and columns,
    `dataset.table.column`, that a policy tag keeps from the caller: these are in the table's schema.
    """

    def __init__(self, name: str, now: Callable[[], datetime], hold_s: float) -> None:
        self.name = name
        self.engine = PeerEngine()
        self.faults = PlannedJobFaults()
        self.withheld: frozenset[str] = frozenset()
        self.denied: frozenset[str] = frozenset()
        self.jobs = PeerJobs(
            name, self.engine, self.faults, now, hold_s, lambda right: right in self.withheld, lambda: self.denied
        )
        self._datasets: dict[str, Json] = {}
        # Who comes second finds what the first has made; DuckDB would call it a conflict of two transactions.
        self._making = threading.Lock()

    def datasets(self) -> list[Json]:
        """List the datasets."""
        hidden = ", ".join("?" for _ in _HIDDEN)
        sql = (
            f"SELECT schema_name FROM duckdb_schemas() WHERE database_name = 'memory' AND schema_name NOT IN ({hidden})"  # noqa: S608 -- only marks
        )
        return [self._dataset_resource(str(name)) for (name,) in self._rows(f"{sql} ORDER BY 1", list(_HIDDEN))]

    def dataset(self, name: str) -> Json:
        """Give a dataset.

        Raises:
            WireError: There is none.
        """
        for found in self.datasets():
            if found["datasetReference"]["datasetId"] == name:
                return found
        raise WireError("notFound", f"Not found: Dataset {self.name}:{name}")

    def insert_dataset(self, body: Json) -> Json:
        """Make a dataset.

        Raises:
            WireError: It exists.
        """
        name = body["datasetReference"]["datasetId"]
        with self._making:
            if any(found["datasetReference"]["datasetId"] == name for found in self.datasets()):
                raise WireError("duplicate", f"Already Exists: Dataset {self.name}:{name}")
            self._execute(f"CREATE SCHEMA {_identifier(name)}")
            self._datasets[name] = body
        return self._dataset_resource(name)

    def delete_dataset(self, name: str, *, with_tables: bool) -> None:
        """Remove a dataset."""
        self.dataset(name)
        self._execute(f"DROP SCHEMA {_identifier(name)} {'CASCADE' if with_tables else ''}")

    def tables(self, dataset: str) -> list[Json]:
        """List a dataset's tables."""
        self.dataset(dataset)
        sql = (
            "SELECT table_name, 'TABLE' FROM duckdb_tables() WHERE schema_name = ? "
            "UNION ALL SELECT view_name, 'VIEW' FROM duckdb_views() WHERE schema_name = ? ORDER BY 1"
        )
        return [
            {"kind": "bigquery#table", "type": kind, "tableReference": self._reference(dataset, str(name))}
            for name, kind in self._rows(sql, [dataset, dataset])
        ]

    def table(self, dataset: str, name: str) -> Json:
        """Give a table with its schema, partitioning and clustering.

        Raises:
            WireError: There is none, or the caller may not look it up.
        """
        if f"{dataset}.{name}" in self.denied:
            said = f"Access Denied: Table {self.name}:{dataset}.{name}: Permission bigquery.tables.get denied on table"
            raise WireError("accessDenied", f"{said} {self.name}:{dataset}.{name} (or it may not exist).")
        sql = (
            "SELECT column_name, data_type, NOT is_nullable FROM duckdb_columns() "
            "WHERE schema_name = ? AND table_name = ? ORDER BY column_index"
        )
        columns = self._rows(sql, [dataset, name])
        if not columns:
            raise WireError("notFound", f"Not found: Table {self.name}:{dataset}.{name}")
        full_name = f"{dataset}.{name}"
        [(rows,)] = self._rows(f"SELECT COUNT(*) FROM {_identifier(dataset)}.{_identifier(name)}", [])  # noqa: S608 -- quoted
        found: Json = {
            "kind": "bigquery#table",
            "id": f"{self.name}:{full_name}",
            "tableReference": self._reference(dataset, name),
            "type": "TABLE",
            "numRows": str(rows),
            "schema": {"fields": [field(column, kind, required=required) for column, kind, required in columns]},
        }
        views = "SELECT sql FROM duckdb_views() WHERE schema_name = ? AND view_name = ?"
        for (text,) in self._rows(views, [dataset, name]):
            return found | {"type": "VIEW", "view": {"query": str(text), "useLegacySql": False}}
        if self.engine.partitions.get(full_name):
            found["timePartitioning"] = {"type": "DAY", "field": self.engine.partitions[full_name]}
        if self.engine.clusters.get(full_name):
            found["clustering"] = {"fields": list(self.engine.clusters[full_name])}
        return found

    def permissions(self, dataset: str, name: str, asked: list[str]) -> Json:
        """Give those of the permissions asked for that the caller has on a table.

        Raises:
            WireError: There is no such table.
        """
        self.table(dataset, name)
        return {"permissions": [one for one in asked if one not in self.withheld]}

    def insert_table(self, dataset: str, body: Json) -> Json:
        """Make an empty table of plain columns.

        Raises:
            WireError: It exists, or a column has a type that this peer does not know.
        """
        name = body["tableReference"]["tableId"]
        columns = ", ".join(_column(one) for one in body["schema"]["fields"])
        with self._making:
            self._execute(f"CREATE TABLE {_identifier(dataset)}.{_identifier(name)} ({columns})")
        full_name = f"{dataset}.{name}"
        self.engine.partitions[full_name] = body.get("timePartitioning", {}).get("field", "")
        self.engine.clusters[full_name] = tuple(body.get("clustering", {}).get("fields", ()))
        return self.table(dataset, name)

    def delete_table(self, dataset: str, name: str) -> None:
        """Remove a table.

        Raises:
            WireError: There is none.
        """
        self.table(dataset, name)
        self._execute(f"DROP TABLE {_identifier(dataset)}.{_identifier(name)}")

    def rows(self, dataset: str, name: str, *, start: int, rows_max: int) -> Json:
        """Give a page of a table's rows."""
        total = int(self.table(dataset, name)["numRows"])
        sql = (
            f"SELECT * FROM {_identifier(dataset)}.{_identifier(name)} ORDER BY ALL LIMIT {rows_max:d} OFFSET {start:d}"  # noqa: S608 -- quoted
        )
        page = [row(values) for values in self._rows(sql, [])]
        end = start + len(page)
        return {"totalRows": str(total), "rows": page} | ({"pageToken": str(end)} if end < total else {})

    def _dataset_resource(self, name: str) -> Json:
        reference = {"projectId": self.name, "datasetId": name}
        stored = self._datasets.get(name, {})
        return {"kind": "bigquery#dataset", "id": f"{self.name}:{name}", "location": "US", **stored} | {
            "datasetReference": reference
        }

    def _reference(self, dataset: str, name: str) -> Json:
        return {"projectId": self.name, "datasetId": dataset, "tableId": name}

    def _execute(self, sql: str) -> None:
        self._rows(sql, [])

    def _rows(self, sql: str, values: list[object]) -> list[Any]:
        try:
            with self.engine.cursor() as cursor:
                return cursor.execute(sql, values).fetchall()
        except duckdb.Error as error:
            exists = "already exists" in str(error)
            raise WireError("duplicate", f"Already Exists: {error}") if exists else engine_error(error) from error


def _column(column: Json) -> str:
    kind = DUCKDB_TYPES.get(column["type"].upper())
    if kind is None:
        raise WireError("invalid", f"this peer makes no column of type {column['type']}")
    mode = column.get("mode", "NULLABLE").upper()
    ending = "[]" if mode == "REPEATED" else " NOT NULL" if mode == "REQUIRED" else ""
    return f"{_identifier(column['name'])} {kind}{ending}"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
