"""The warehouse in the cloud: BigQuery, through Google's client.

Statements go out verbatim with typed parameters. Each attempt builds into a table of its own in a staging dataset whose
tables expire; `publish` is one short transaction script that the ledger row guards. What a lost reply leaves open is
answered by the job's id (the same job, never a second one) and, for claims and publications, by the ledger row itself.

Reads carry an id of their own each time: attaching to an older answer would be a wrong answer.
"""

import itertools
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any

from google.cloud.bigquery import Client, TableReference

from worker.adapters.warehouse_bigquery_costs import BILLED_MIN_PER_TABLE, costs_sql, read_costs, usd
from worker.adapters.warehouse_bigquery_errors import translated_errors
from worker.adapters.warehouse_bigquery_jobs import CALL_TIMEOUT_S, Finished, Jobs, JobSpec, Limits
from worker.adapters.warehouse_bigquery_sql import (
    Script,
    bind,
    claim_script,
    digest,
    insert_row,
    publish_script,
)
from worker.adapters.warehouse_bigquery_tables import Tables, missing_columns
from worker.adapters.warehouse_fence import check_fence
from worker.errors import PipelineError, Unavailable
from worker.features.model import BuildKey, LedgerRow, Publication, Statement, StatementEstimate, StepCost
from worker.features.pipeline import STAGED, Pipeline
from worker.features.records import read_ledger_row
from worker.pipeline_files import shipped_pipeline

# A build takes minutes; whatever a dead worker leaves is gone a day later.
STAGING_EXPIRES_MS = 24 * 3600 * 1000

# Claims and publications take a few seconds each.
TURN_S = 10.0

# Where BigQuery puts what names no place.
DEFAULT_LOCATION = "US"


class BigQueryWarehouse:
    """The `Warehouse` port over one BigQuery project. Threads may share it."""

    def __init__(
        self, client: Client, *, staging_dataset: str, limits: Limits | None = None, pipeline: Pipeline | None = None
    ) -> None:
        """Use a client; nothing is asked of BigQuery yet.

        Args:
            client: Signed in, for the project that holds the datasets; `warehouse_bigquery_connection` makes it.
            staging_dataset: Where attempts build; made on demand, its tables expire after a day.
            limits: What a job may take.
            pipeline: Whose tables it holds, and what its jobs are labelled with; the shipped one by default.
        """
        self._client = client
        self.pipeline = pipeline or shipped_pipeline()
        self._own = self.pipeline.tables
        self._staging = staging_dataset
        self._limits = limits or Limits()
        self.jobs = Jobs(client, self._limits)
        self._tables = Tables(client, self.jobs.call_retry, self.pipeline)
        # Transactions on one table never both commit, whatever their dates: taking turns here saves the retries.
        self._turn = threading.Lock()
        self._stagings = itertools.count()

    def ensure_tables(self) -> None:
        """Look for each table: run the shipped DDL where it is missing, add the columns that an older release lacked.

        Where all is in place nothing but table metadata is read, so the worker's account needs no right to create.

        Raises:
            SchemaDrift: A table of ours has a column with another type.
        """
        self.pipeline.render_build()
        # Outside the multi-regions a job is found again only by who knows its location.
        self.jobs.location = self._tables.ensure_dataset(self._staging, expires_ms=STAGING_EXPIRES_MS)
        for table in self._own.all:
            dataset, _, name = table.partition(".")
            actual = self._tables.columns(table)
            if not actual:
                self._tables.ensure_dataset(dataset)
                self._run("ddl", None, Script(self.pipeline.ddl_of(table), ()), f"mlfs-ddl-{name}-{uuid.uuid4().hex}")
                continue
            for sql in missing_columns(self.pipeline, table, actual):
                self._run("ddl", None, Script(sql, ()), f"mlfs-ddl-{name}-{uuid.uuid4().hex}")

    def columns(self, table: str) -> Mapping[str, str]:
        """Read the table's schema."""
        return self._tables.columns(table)

    def query(self, statement: Statement) -> Sequence[Mapping[str, Any]]:
        """Run it verbatim."""
        return self._select(None, statement, statement.sql)

    def stage(self, key: BuildKey, select: Statement) -> None:
        """Run the SELECT into the attempt's table, whose rows it replaces in one step."""
        script = Script(select.sql, bind(select.parameters, select.null_types))
        # Within one call a lost reply finds its own job; a later call is another job, whatever it selects.
        job_id = f"{_stem(key)}-{select.name}-{digest(script, next(self._stagings))}"
        self._run(select.name, key, script, job_id, destination=self._staging_reference(key))

    def query_staged(self, key: BuildKey, statement: Statement) -> Sequence[Mapping[str, Any]]:
        """Put the attempt's table in the placeholder's place, run."""
        return self._select(key, statement, statement.sql.replace(STAGED, self._staging_table(key)))

    def claim(self, key: BuildKey, at: datetime, claimant: str) -> None:
        """Run the claim's script; its id names the claimant, so nobody attaches to another worker's claim."""
        script = claim_script(self.pipeline, key, at, claimant)
        job_id = f"{_stem(key)}-claim-{digest(claimant)}-{digest(script)}"

        def holds(row: Mapping[str, Any]) -> bool:
            return (row["claimed_generation"], row["claimed_attempt"], row["claimed_by"]) == (*key.token, claimant)

        self._guarded("claim", key, script, job_id, lambda row: check_fence(row, key, claimant, "build"), holds)

    def claimed_token(self, analysis_date: date) -> tuple[int, int]:
        """Read the claim in the date's ledger row."""
        row = self._ledger_row(analysis_date)
        return (row["claimed_generation"], row["claimed_attempt"]) if row is not None else (0, 0)

    def publish(self, publication: Publication) -> None:
        """Run the publication's script; where its answer is not a plain success, the ledger row answers."""
        key, claimant = publication.request.key, publication.request.claimant
        script = publish_script(self.pipeline, publication, self._staging_table(key))
        job_id = f"{_stem(key)}-publish-{digest(script)}"

        def is_ours(row: Mapping[str, Any]) -> bool:
            return (row["generation"], row["attempt"], row["claimed_by"]) == (*key.token, claimant)

        def refuse(row: Mapping[str, Any]) -> None:
            if not is_ours(row):
                check_fence(row, key, claimant, "publish")

        self._guarded("publish", key, script, job_id, refuse, is_ours)

    def drop_staged(self, key: BuildKey) -> None:
        """Delete the attempt's table."""
        with translated_errors(f"dropping the staging table of {key.build_id}"):
            self._client.delete_table(
                self._staging_reference(key), not_found_ok=True, retry=self.jobs.call_retry, timeout=CALL_TIMEOUT_S
            )

    def read_ledger(self, analysis_date: date) -> LedgerRow | None:
        """Read the date's ledger row."""
        row = self._ledger_row(analysis_date)
        return read_ledger_row(row, self.pipeline.blocks) if row is not None and row["generation"] else None

    def read_ledger_since(self, first: date) -> Sequence[LedgerRow]:
        """Read the committed rows from *first* on."""
        ledger = self._own.ledger
        sql = f"SELECT * FROM {ledger} WHERE analysis_date >= @first AND generation > 0 ORDER BY analysis_date"  # noqa: S608 -- from the catalogue
        rows = self.query(Statement(name="ledger", sql=sql, parameters={"first": first}))
        return [read_ledger_row(row, self.pipeline.blocks) for row in rows]

    def log_execution(self, row: Mapping[str, Any]) -> None:
        """Append to the execution log; the same row sent again is the same job."""
        self._append(self._own.execution, row, f"mlfs-{row['build_id']}-log", "log")

    def log_replay(self, row: Mapping[str, Any]) -> None:
        """Append to the replay audit; the same row sent again is the same job."""
        self._append(self._own.replay, row, f"mlfs-{row['analysis_date'].isoformat()}-audit", "audit")

    def estimate(self, statement: Statement) -> StatementEstimate:
        """Ask for a dry run; BigQuery's number is an upper bound where the table is clustered."""
        script = Script(statement.sql, bind(statement.parameters, statement.null_types))
        spec = JobSpec(
            job_id="",
            sql=script.sql,
            parameters=script.parameters,
            labels=_labels(self.pipeline, "estimate", None, None),
        )
        job = self.jobs.estimate(spec, f"estimating {statement.name}")
        processed = int(job.total_bytes_processed or 0)
        reads = sorted(f"{table.dataset_id}.{table.table_id}" for table in job.referenced_tables)
        return StatementEstimate(
            name=statement.name,
            bytes_processed=processed,
            usd=usd(max(processed, BILLED_MIN_PER_TABLE * len(reads)), self._limits.usd_per_tib),
            reads=tuple(reads),
        )

    def costs(self, since: datetime, until: datetime) -> Sequence[StepCost]:
        """Read the project's job history, by our labels."""
        values = {"since": since, "until": until, "pipeline": self.pipeline.name}
        statement = Statement(name="costs", sql=costs_sql(self.jobs.location or DEFAULT_LOCATION), parameters=values)
        return read_costs(self.query(statement), self._limits.usd_per_tib)

    def export_features(self, analysis_date: date, path: str) -> int:
        """Page the rows into the file; arrays in CSV come as `[a, b]`."""
        # DuckDB writes the file; a worker that never exports does without it, and saves 30 MB.
        from worker.adapters.warehouse_bigquery_export import write_file  # noqa: PLC0415

        output = self.pipeline.output_columns
        columns, order = ", ".join(column.name for column in output), self.pipeline.entity.key
        sql = f"SELECT {columns} FROM {self._own.published} WHERE analysis_date = @analysis_date ORDER BY {order}"  # noqa: S608 -- from the catalogue
        with translated_errors(f"writing {path}"):
            values = {"analysis_date": analysis_date}
            return write_file(path, output, lambda: self._read(None, "export", sql, values, {}))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _select(self, key: BuildKey | None, statement: Statement, sql: str) -> list[dict[str, Any]]:
        doing = f"running {statement.name}" + (f" of {key.build_id}" if key is not None else "")
        with translated_errors(doing):
            return list(self._read(key, statement.name, sql, statement.parameters, statement.null_types))

    def _read(
        self,
        key: BuildKey | None,
        step: str,
        sql: str,
        parameters: Mapping[str, Any],
        null_types: Mapping[str, str],
    ) -> Iterator[dict[str, Any]]:
        """Run one SELECT under an id of its own, and page through its rows."""
        day = key.analysis_date if key is not None else parameters.get("analysis_date")
        stem = _stem(key) if key is not None else f"mlfs-{day.isoformat()}" if isinstance(day, date) else "mlfs"
        finished = self._run(
            step, key, Script(sql, bind(parameters, null_types)), f"{stem}-{step}-{uuid.uuid4().hex}", day=day
        )
        return (dict(row.items()) for row in finished.rows)

    def _run(
        self,
        step: str,
        key: BuildKey | None,
        script: Script,
        job_id: str,
        *,
        day: date | None = None,
        destination: TableReference | None = None,
    ) -> Finished:
        spec = JobSpec(
            job_id=job_id,
            sql=script.sql,
            parameters=script.parameters,
            labels=_labels(self.pipeline, step, key, day),
            destination=destination,
        )
        return self.jobs.run(spec, f"running {step}" + (f" of {key.build_id}" if key is not None else ""))

    def _guarded(
        self,
        step: str,
        key: BuildKey,
        script: Script,
        job_id: str,
        refuse: Callable[[Mapping[str, Any]], None],
        succeeded: Callable[[Mapping[str, Any]], bool],
    ) -> None:
        """Run a script that writes the ledger row; any end but a plain success is settled by reading that row."""
        failure: PipelineError | None = None
        with self._taking_turns():
            try:
                if not self._run(step, key, script, job_id).attached:
                    return
            except PipelineError as error:
                failure = error
        row = self._ledger_row(key.analysis_date)
        if row is not None:
            refuse(row)
            if succeeded(row):
                return
        raise failure or Unavailable(f"{key.build_id}: the job {job_id} succeeded, but the ledger does not show it")

    @contextmanager
    def _taking_turns(self) -> Iterator[None]:
        """Wait until no other guarded script runs in this process; not for ever: a stuck one stops only itself."""
        taken = self._turn.acquire(timeout=TURN_S)
        try:
            yield
        finally:
            if taken:
                self._turn.release()

    def _append(self, table: str, row: Mapping[str, Any], stem: str, step: str) -> None:
        script = insert_row(self.pipeline, table, row)
        self._run(step, None, script, f"{stem}-{digest(script)}", day=row["analysis_date"])

    def _ledger_row(self, analysis_date: date) -> Mapping[str, Any] | None:
        sql = f"SELECT * FROM {self._own.ledger} WHERE analysis_date = @analysis_date"  # noqa: S608 -- from the catalogue
        rows = self.query(Statement(name="ledger", sql=sql, parameters={"analysis_date": analysis_date}))
        return rows[0] if rows else None

    def _staging_reference(self, key: BuildKey) -> TableReference:
        # With the pipeline's name: two pipelines count the same dates, generations and attempts.
        name = f"{self.pipeline.name}_{key.analysis_date:%Y%m%d}_g{key.generation:d}_a{key.attempt:d}"
        return self._tables.reference(f"{self._staging}.{name}")

    def _staging_table(self, key: BuildKey) -> str:
        """Name the attempt's staging table in SQL; quoted, since a project may have dashes."""
        return f"`{self._staging_reference(key)}`"


def _stem(key: BuildKey) -> str:
    return f"mlfs-{key.build_id}"


def _labels(pipeline: Pipeline, step: str, key: BuildKey | None, day: date | None) -> Mapping[str, str]:
    labels = {"pipeline": pipeline.name, "step": step.lower()}
    if key is not None:
        day = key.analysis_date
        labels |= {"generation": str(key.generation), "attempt": str(key.attempt)}
    return labels | ({"analysis_date": day.isoformat()} if day is not None else {})
