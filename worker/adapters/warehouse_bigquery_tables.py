"""Datasets and tables of the BigQuery warehouse as metadata: found, made, compared."""

from collections.abc import Iterator, Mapping

from google.api_core import exceptions as api
from google.api_core.retry import Retry
from google.cloud.bigquery import Client, Dataset, SchemaField, TableReference

from worker.adapters.warehouse_bigquery_errors import translated_errors
from worker.adapters.warehouse_bigquery_jobs import CALL_TIMEOUT_S
from worker.adapters.warehouse_bigquery_sql import declared_columns
from worker.errors import SchemaDrift
from worker.features.pipeline import Pipeline

# The API still speaks the old names.
STANDARD_TYPES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "RECORD": "STRUCT"}


class Tables:
    """The metadata of one project. Every method may raise `Unavailable` or `Fatal`."""

    def __init__(self, client: Client, retry: Retry, pipeline: Pipeline) -> None:
        self._client = client
        self._pipeline = pipeline
        self._retry = retry

    def reference(self, table: str) -> TableReference:
        """Name `dataset.table` of this project."""
        return TableReference.from_string(table, default_project=self._client.project)

    def columns(self, table: str) -> Mapping[str, str]:
        """Give a table's columns as {name: BigQuery type}; empty where there is no such table."""
        with translated_errors(f"reading the columns of {table}"):
            try:
                found = self._client.get_table(self.reference(table), retry=self._retry, timeout=CALL_TIMEOUT_S)
            except api.NotFound:
                return {}
        return {column.name: _standard_type(column) for column in found.schema}

    def ensure_dataset(self, name: str, *, expires_ms: int | None = None) -> str:
        """Find or make a dataset, whose tables expire so long after they were made; give its location."""
        with translated_errors(f"looking for the dataset {name}"):
            location = self._location_of(name)
            if location is not None:
                return location
            dataset = Dataset(f"{self._client.project}.{name}")
            dataset.default_table_expiration_ms = expires_ms
            # Beside the upstream data: no query joins datasets of two locations.
            dataset.location = self._client.location or self._location_of(
                self._pipeline.entity.roster.partition(".")[0]
            )
            made = self._client.create_dataset(dataset, exists_ok=True, retry=self._retry, timeout=CALL_TIMEOUT_S)
        return str(made.location)

    def _location_of(self, dataset: str) -> str | None:
        try:
            return str(self._client.get_dataset(dataset, retry=self._retry, timeout=CALL_TIMEOUT_S).location)
        except api.NotFound:
            return None


def missing_columns(pipeline: Pipeline, table: str, actual: Mapping[str, str]) -> Iterator[str]:
    """Compare one of our tables with its DDL, and write what adds the columns it lacks; others' columns do no harm.

    An added column may be NULL, whatever the DDL says: BigQuery adds no other ones.

    Raises:
        SchemaDrift: A column has another type.
    """
    for name, kind in declared_columns(pipeline, table).items():
        if name not in actual:
            yield f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {name} {kind}"
        elif actual[name] != kind:
            raise SchemaDrift(f"{table}.{name} is {actual[name]}, not {kind}; rename that table and start again")


def _standard_type(column: SchemaField) -> str:
    kind = STANDARD_TYPES.get(column.field_type, column.field_type)
    return f"ARRAY<{kind}>" if column.mode == "REPEATED" else kind
