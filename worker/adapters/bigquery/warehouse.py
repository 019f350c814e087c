"""Warehouse in the cloud: BigQuery, with Google's client.

Statements are sent verbatim with typed parameters. A claim and a publication are a single statement each: the statement
changes the ledger row of the analysis date, or no row. Statements about different analysis dates change different
partitions and do not conflict.

After a lost reply the id of the job finds the same job again; for claims and publications the ledger decides. Each read
uses a new id, because an older answer would be a wrong answer. A crash leaves the rows of an attempt invisible until
the ledger names the `build_id`.
"""

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from typing import Any, Protocol

import structlog
from google.cloud.bigquery import Client

from worker.adapters.bigquery.costs import BILLED_MIN_PER_TABLE, costs_sql, read_costs, usd
from worker.adapters.bigquery.errors import translated_errors
from worker.adapters.bigquery.jobs import Finished, JobRunner, JobSpec, Limits
from worker.adapters.bigquery.scripts import (
    Script,
    bind,
    digest,
    insert_absent,
    insert_all_once,
    insert_once,
    insert_row,
)
from worker.adapters.bigquery.tables import TableMetadata, missing_ddl
from worker.errors import PipelineError, Unavailable
from worker.features.arrivals import IDENTITY, Arrival, arrival_rows
from worker.features.generations import plan_rows
from worker.features.model import BuildKey, LedgerRow, Publication, Statement, StatementEstimate, StepCost
from worker.features.pipeline import Pipeline
from worker.features.plan import plan_claim, plan_claims, plan_ledger, plan_publication, plan_storing, plan_usual
from worker.features.records import (
    Claims,
    check_fence,
    explain_refusal,
    has_published,
    holds_claim,
    published_profile,
    published_row,
    read_ledger_row,
    refuse_old_tables,
)
from worker.pipelines.files import shipped_pipeline

log = structlog.get_logger(__name__)


class Settle(Protocol):
    """Function that checks in the ledger whether a change took effect."""

    def __call__(self, claims: Claims, *, ran: bool) -> bool:
        """Return whether the change took effect.

        Args:
            claims: Ledger rows of the analysis date.
            ran: Whether the statement ran to the end.

        Raises:
            PipelineError: The ledger refuses the change.
        """


class BigQueryWarehouse:
    """`Warehouse` port on a BigQuery project. Thread-safe."""

    def __init__(self, client: Client, *, limits: Limits | None = None, pipeline: Pipeline | None = None) -> None:
        """Store the client; send no call to BigQuery yet.

        Args:
            client: Client with credentials for the project of the datasets, made by `jobs.connect`.
            limits: Limits of each job.
            pipeline: Pipeline of the tables and of the job labels; the shipped pipeline by default.
        """
        self._client = client
        self.pipeline = pipeline or shipped_pipeline()
        self._own = self.pipeline.tables
        self._limits = limits or Limits()
        self.jobs = JobRunner(client, self._limits)
        self._tables = TableMetadata(client, self.jobs.call_retry, self.pipeline)

    def ensure_tables(self) -> None:
        """Find each table and view; create missing tables and views, and add columns that an older release lacked.

        If all tables exist, only metadata is read, so the worker's account needs no right to create tables.

        Raises:
            SchemaDrift: A table of the product has a column of another type.
            Fatal: The warehouse belongs to a release that stored published rows in a table.
        """
        # Outside the multi-regions a job is found again only with the location of the job.
        self.jobs.location = self._tables.ensure_dataset(self._own.published.partition(".")[0])
        found = self._tables.find_all((*self._own.stored, *self._own.views))
        refuse_old_tables(self._own, {view for view in self._own.views if found[view].is_stored})
        for table, there in found.items():
            actual = there.columns
            if not actual:
                self._tables.ensure_dataset(table.partition(".")[0])
            for sql in missing_ddl(self.pipeline, table, actual):
                name = table.partition(".")[2]
                self._run("ddl", None, Script(sql, ()), f"mlfs-ddl-{name}-{uuid.uuid4().hex}")

    def prepare_builds(self) -> None:
        """Render the statements of a build; the first rendering in a process takes 0.1 s."""
        plan_usual(self.pipeline)

    def columns(self, table: str) -> Mapping[str, str]:
        """Read the schema of a table."""
        return self._tables.columns(table)

    def columns_of(self, tables: Collection[str]) -> Mapping[str, Mapping[str, str]]:
        """Read the schemas of several tables in parallel."""
        return self._tables.readable_columns(tables)

    def query(self, statement: Statement) -> Sequence[Mapping[str, Any]]:
        """Run a statement verbatim."""
        with translated_errors(f"running {statement.name}"):
            return list(self._read(statement.name, statement.sql, statement.parameters))

    def query_all(self, statements: Sequence[Statement]) -> Sequence[Sequence[Mapping[str, Any]] | PipelineError]:
        """Run statements side by side; the answers have the order of the statements."""

        def answer(statement: Statement) -> Sequence[Mapping[str, Any]] | PipelineError:
            try:
                return self.query(statement)
            except PipelineError as exc:
                return exc

        with ThreadPoolExecutor(max(1, len(statements))) as threads:
            return list(threads.map(answer, statements))

    def stage(self, key: BuildKey, select: Statement) -> None:
        """Run the INSERT; after a lost reply the call finds the same job again."""
        storing = plan_storing(select, self.pipeline)
        script = Script(storing.sql, bind(storing.parameters))
        self._run(select.name, key, script, f"{_stem(key)}-{select.name}-{digest(script)}")

    def claim(self, key: BuildKey, at: datetime, claimant: str) -> None:
        """Run the statement of a claim.

        The job id names only the attempt: of two workers with the same attempt BigQuery runs the job of one worker, and
        the other worker reads the claimant in the ledger.
        """

        def settle(claims: Claims, *, ran: bool) -> bool:  # noqa: ARG001 -- only the ledger decides a claim
            check_fence(claims, key, claimant, "build")
            return holds_claim(claims, key, claimant)

        change = plan_claim(key, at, claimant, self.pipeline)
        self._guarded(key, change, (f"{_stem(key)}-claim", f"{_stem(key)}-claim-{digest(claimant, at)}"), settle)

    def claimed_token(self, analysis_date: date) -> tuple[int, int]:
        """Read the newest claim of an analysis date."""
        claims = self._claims(analysis_date)
        return (claims[0]["claimed_generation"], claims[0]["claimed_attempt"]) if claims else (0, 0)

    def publish(self, publication: Publication) -> None:
        """Append to quality history and feature profile side by side, then change the pointer of the ledger."""
        key, claimant = publication.request.key, publication.request.claimant
        row = published_row(publication, self.pipeline.blocks)
        history = insert_once(self.pipeline, self._own.history, row)
        with ThreadPoolExecutor(1) as beside:
            profile = beside.submit(self._append_profile, publication)
            self._run("history", key, history, f"{_stem(key)}-history-{digest(history)}")
        profile.result()

        def settle(claims: Claims, *, ran: bool) -> bool:
            if has_published(claims, key, claimant):
                return True
            check_fence(claims, key, claimant, "publish")
            if ran:
                explain_refusal(claims, publication, self._own.generations)
            return False

        job_id = f"{_stem(key)}-publish-{digest(claimant, publication.committed_at)}"
        self._guarded(key, plan_publication(publication, self.pipeline), (job_id,), settle)

    def read_ledger(self, analysis_date: date) -> LedgerRow | None:
        """Read the published generation of an analysis date."""
        rows = self._read_ledger(analysis_date, analysis_date)
        return rows[0] if rows else None

    def read_ledger_since(self, first: date) -> Sequence[LedgerRow]:
        """Read the published generations from *first* on."""
        return self._read_ledger(first, date.max)

    def log_execution(self, row: Mapping[str, Any]) -> None:
        """Append to the execution log; the same row sent again is the same job."""
        self._append(self._own.execution, row, f"mlfs-{row['build_id']}-log", "log")

    def log_history(self, row: Mapping[str, Any]) -> None:
        """Append to the quality history, unless the build has a row there."""
        script = insert_once(self.pipeline, self._own.history, row)
        job_id = f"mlfs-{row['build_id']}-history-{digest(script)}"
        self._run("history", None, script, job_id, day=row["analysis_date"])

    def log_replay(self, row: Mapping[str, Any]) -> None:
        """Append to the replay audit; the same row sent again is the same job."""
        self._append(self._own.replay, row, f"mlfs-{row['analysis_date'].isoformat()}-audit", "audit")

    def record_arrivals(self, arrivals: Sequence[Arrival]) -> None:
        """Append the absent arrivals; workers that send the same arrivals send the same job.

        Two workers with different arrivals of an analysis date may append an arrival twice; the statement `arrivals`
        reads each arrival once.
        """
        script = insert_absent(self.pipeline, self._own.arrivals, arrival_rows(arrivals), IDENTITY)
        day = arrivals[0].analysis_date
        self._run("arrivals", None, script, f"mlfs-{day.isoformat()}-arrivals-{digest(script)}", day=day)

    def estimate(self, statement: Statement) -> StatementEstimate:
        """Return the estimate of a dry run; for a clustered table BigQuery's number is an upper bound."""
        labels = _labels(self.pipeline, "estimate", None, None)
        spec = JobSpec(job_id="", sql=statement.sql, parameters=bind(statement.parameters), labels=labels)
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
        """Read the job history of the project by the labels of the pipeline."""
        values = {"since": since, "until": until, "pipeline": self.pipeline.name}
        statement = Statement(name="costs", sql=costs_sql(self.jobs.location), parameters=values)
        return read_costs(self.query(statement), self._limits.usd_per_tib)

    def delete_rows(self, change: Statement) -> int:
        """Run a DELETE with a new job id; after a lost reply the next vacuum finds the rows deleted."""
        script = Script(change.sql, bind(change.parameters))
        return self._run(change.name, None, script, f"mlfs-{change.name.replace('_', '-')}-{uuid.uuid4().hex}").changed

    def export_features(self, analysis_date: date, build_id: str, path: str) -> int:
        """Write the rows of a build into a file, page by page; CSV shows arrays as `[a, b]`."""
        # DuckDB writes the file; the late import saves 30 MB in a worker without exports.
        from worker.adapters.bigquery.export import write_file  # noqa: PLC0415

        rows = plan_rows(analysis_date, build_id, self.pipeline)
        with translated_errors(f"writing {path}"):
            output = self.pipeline.output_columns
            return write_file(path, output, lambda: self._read("export", rows.sql, rows.parameters))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _read(self, step: str, sql: str, parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Run a SELECT with a new job id, and yield the rows page by page."""
        day = parameters.get("analysis_date")
        stem = f"mlfs-{parameters.get('build_id') or day.isoformat()}" if isinstance(day, date) else "mlfs"
        script = Script(sql, bind(parameters))
        finished = self._run(step, None, script, f"{stem}-{step}-{uuid.uuid4().hex}", day=day)
        return (dict(row.items()) for row in finished.rows)

    def _run(
        self, step: str, key: BuildKey | None, script: Script, job_id: str, *, day: date | None = None
    ) -> Finished:
        labels = _labels(self.pipeline, step, key, day)
        spec = JobSpec(job_id=job_id, sql=script.sql, parameters=script.parameters, labels=labels)
        return self.jobs.run(spec, f"running {step}" + (f" of {key.build_id}" if key is not None else ""))

    def _guarded(self, key: BuildKey, change: Statement, job_ids: Sequence[str], settle: Settle) -> None:
        """Run a statement that changes the ledger; after any end but a plain success read the ledger.

        Args:
            key: The attempt.
            change: The statement.
            job_ids: Ids of the job. The next id is used if the ledger does not show the change of the job before.
            settle: Checks the change in the ledger.
        """
        script = Script(change.sql, bind(change.parameters))
        for job_id in job_ids:
            failure: PipelineError | None = None
            try:
                finished = self._run(change.name, key, script, job_id)
                if finished.changed and not finished.attached:
                    return
            except PipelineError as error:
                failure = error
            if settle(self._claims(key.analysis_date), ran=failure is None):
                return
            if failure is not None:
                raise failure
        raise Unavailable(f"{key.build_id}: the job {job_ids[-1]} succeeded, but the ledger does not show the change")

    def _append_profile(self, publication: Publication) -> None:
        """Append to the feature profile; an error costs later nights one night to compare with, no publication."""
        key, rows = publication.request.key, published_profile(publication)
        if not rows:
            return
        script = insert_all_once(self.pipeline, self._own.profile, rows)
        try:
            self._run("profile", key, script, f"{_stem(key)}-profile-{digest(script)}")
        except PipelineError as exc:
            log.warning("profile_not_stored", build_id=key.build_id, error=str(exc))

    def _append(self, table: str, row: Mapping[str, Any], stem: str, step: str) -> None:
        script = insert_row(self.pipeline, table, row)
        self._run(step, None, script, f"{stem}-{digest(script)}", day=row["analysis_date"])

    def _claims(self, analysis_date: date) -> Claims:
        return self.query(plan_claims(analysis_date, self.pipeline))

    def _read_ledger(self, first: date, last: date) -> list[LedgerRow]:
        rows = self.query(plan_ledger(first, last, self.pipeline))
        return [read_ledger_row(row, self.pipeline.blocks) for row in rows]


def _stem(key: BuildKey) -> str:
    return f"mlfs-{key.build_id}"


def _labels(pipeline: Pipeline, step: str, key: BuildKey | None, day: date | None) -> Mapping[str, str]:
    labels = {"pipeline": pipeline.name, "step": step.lower()}
    if key is not None:
        day = key.analysis_date
        labels |= {"generation": str(key.generation), "attempt": str(key.attempt)}
    return labels | ({"analysis_date": day.isoformat()} if day is not None else {})
