"""The warehouse in the cloud: BigQuery, through Google's client.

Statements go out verbatim with typed parameters. A claim and a publication are one statement each, which changes the
date's row of the ledger or nothing; statements about different dates change different partitions, so they do not
conflict. What a lost reply leaves open is answered by the job's id (the same job, never a second one) and, for claims
and publications, by the ledger itself.

Reads carry an id of their own each time: attaching to an older answer would be a wrong answer.
"""

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Protocol

from google.cloud.bigquery import Client

from worker.adapters.bigquery.costs import BILLED_MIN_PER_TABLE, costs_sql, read_costs, usd
from worker.adapters.bigquery.errors import translated_errors
from worker.adapters.bigquery.jobs import Finished, JobRunner, JobSpec, Limits
from worker.adapters.bigquery.scripts import Script, bind, digest, insert_once, insert_row
from worker.adapters.bigquery.tables import TableMetadata, missing_ddl
from worker.errors import PipelineError, Unavailable
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
    published_row,
    read_ledger_row,
    refuse_old_tables,
)
from worker.pipelines.files import shipped_pipeline


class Settle(Protocol):
    """Says what the ledger shows of a statement that was to change it."""

    def __call__(self, claims: Claims, *, ran: bool) -> bool:
        """Return whether the change is made.

        Args:
            claims: The ledger's rows of the date.
            ran: Whether the statement ran to its end.

        Raises:
            PipelineError: The ledger refuses the change.
        """


class BigQueryWarehouse:
    """The `Warehouse` port over one BigQuery project. Threads may share it."""

    def __init__(self, client: Client, *, limits: Limits | None = None, pipeline: Pipeline | None = None) -> None:
        """Use a client; nothing is asked of BigQuery yet.

        Args:
            client: Signed in, for the project that holds the datasets; `connection` makes it.
            limits: What a job may take.
            pipeline: Whose tables it holds, and what its jobs are labelled with; the shipped one by default.
        """
        self._client = client
        self.pipeline = pipeline or shipped_pipeline()
        self._own = self.pipeline.tables
        self._limits = limits or Limits()
        self.jobs = JobRunner(client, self._limits)
        self._tables = TableMetadata(client, self.jobs.call_retry, self.pipeline)

    def ensure_tables(self) -> None:
        """Look for each table and view: run the DDL where it is missing, add the columns that an older release lacked.

        Where all is in place nothing but metadata is read, so the worker's account needs no right to create.

        Raises:
            SchemaDrift: A table of ours has a column with another type.
            Fatal: The warehouse is of a version that stored the published rows themselves.
        """
        # Outside the multi-regions a job is found again only by who knows its location.
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
        """Render the statements of a build; the first time in a process that takes 0.1 s."""
        plan_usual(self.pipeline)

    def columns(self, table: str) -> Mapping[str, str]:
        """Read the table's schema."""
        return self._tables.columns(table)

    def columns_of(self, tables: Collection[str]) -> Mapping[str, Mapping[str, str]]:
        """Read the schemas side by side."""
        return {table: found.columns for table, found in self._tables.find_all(tables).items()}

    def query(self, statement: Statement) -> Sequence[Mapping[str, Any]]:
        """Run it verbatim."""
        with translated_errors(f"running {statement.name}"):
            return list(self._read(statement.name, statement.sql, statement.parameters))

    def stage(self, key: BuildKey, select: Statement) -> None:
        """Run the INSERT; within one call a lost reply finds its own job."""
        storing = plan_storing(select, self.pipeline)
        script = Script(storing.sql, bind(storing.parameters))
        self._run(select.name, key, script, f"{_stem(key)}-{select.name}-{digest(script)}")

    def claim(self, key: BuildKey, at: datetime, claimant: str) -> None:
        """Run the claim's statement.

        The job's id names the attempt alone: of two workers that claim one attempt at once, BigQuery runs the job of
        one, and the other one reads in the ledger who that was.
        """

        def settle(claims: Claims, *, ran: bool) -> bool:  # noqa: ARG001 -- the ledger alone answers for a claim
            check_fence(claims, key, claimant, "build")
            return holds_claim(claims, key, claimant)

        change = plan_claim(key, at, claimant, self.pipeline)
        self._guarded(key, change, (f"{_stem(key)}-claim", f"{_stem(key)}-claim-{digest(claimant, at)}"), settle)

    def claimed_token(self, analysis_date: date) -> tuple[int, int]:
        """Read the newest claim of the date."""
        claims = self._claims(analysis_date)
        return (claims[0]["claimed_generation"], claims[0]["claimed_attempt"]) if claims else (0, 0)

    def publish(self, publication: Publication) -> None:
        """Append to the quality history, then run the statement that points the ledger at the rows."""
        key, claimant = publication.request.key, publication.request.claimant
        row = published_row(publication, self.pipeline.blocks)
        history = insert_once(self.pipeline, self._own.history, row)
        self._run("history", key, history, f"{_stem(key)}-history-{digest(history)}")

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
        """Read the published generation of the date."""
        rows = self._read_ledger(analysis_date, analysis_date)
        return rows[0] if rows else None

    def read_ledger_since(self, first: date) -> Sequence[LedgerRow]:
        """Read the published generations from *first* on."""
        return self._read_ledger(first, date.max)

    def log_execution(self, row: Mapping[str, Any]) -> None:
        """Append to the execution log; the same row sent again is the same job."""
        self._append(self._own.execution, row, f"mlfs-{row['build_id']}-log", "log")

    def log_history(self, row: Mapping[str, Any]) -> None:
        """Append to the quality history, unless the build has its row there."""
        script = insert_once(self.pipeline, self._own.history, row)
        job_id = f"mlfs-{row['build_id']}-history-{digest(script)}"
        self._run("history", None, script, job_id, day=row["analysis_date"])

    def log_replay(self, row: Mapping[str, Any]) -> None:
        """Append to the replay audit; the same row sent again is the same job."""
        self._append(self._own.replay, row, f"mlfs-{row['analysis_date'].isoformat()}-audit", "audit")

    def estimate(self, statement: Statement) -> StatementEstimate:
        """Ask for a dry run; BigQuery's number is an upper bound where the table is clustered."""
        script = Script(statement.sql, bind(statement.parameters))
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
        statement = Statement(name="costs", sql=costs_sql(self.jobs.location), parameters=values)
        return read_costs(self.query(statement), self._limits.usd_per_tib)

    def delete_rows(self, change: Statement) -> int:
        """Run the DELETE under an id of its own: what a lost reply leaves open, the next vacuum finds done."""
        script = Script(change.sql, bind(change.parameters))
        return self._run(change.name, None, script, f"mlfs-{change.name.replace('_', '-')}-{uuid.uuid4().hex}").changed

    def export_features(self, analysis_date: date, build_id: str, path: str) -> int:
        """Page the rows into the file; arrays in CSV come as `[a, b]`."""
        # DuckDB writes the file; a worker that never exports does without it, and saves 30 MB.
        from worker.adapters.bigquery.export import write_file  # noqa: PLC0415

        rows = plan_rows(analysis_date, build_id, self.pipeline)
        with translated_errors(f"writing {path}"):
            output = self.pipeline.output_columns
            return write_file(path, output, lambda: self._read("export", rows.sql, rows.parameters))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _read(
        self,
        step: str,
        sql: str,
        parameters: Mapping[str, Any],
    ) -> Iterator[dict[str, Any]]:
        """Run one SELECT under an id of its own, and page through its rows."""
        day = parameters.get("analysis_date")
        stem = f"mlfs-{parameters.get('build_id') or day.isoformat()}" if isinstance(day, date) else "mlfs"
        script = Script(sql, bind(parameters))
        finished = self._run(step, None, script, f"{stem}-{step}-{uuid.uuid4().hex}", day=day)
        return (dict(row.items()) for row in finished.rows)

    def _run(
        self,
        step: str,
        key: BuildKey | None,
        script: Script,
        job_id: str,
        *,
        day: date | None = None,
    ) -> Finished:
        spec = JobSpec(
            job_id=job_id,
            sql=script.sql,
            parameters=script.parameters,
            labels=_labels(self.pipeline, step, key, day),
        )
        return self.jobs.run(spec, f"running {step}" + (f" of {key.build_id}" if key is not None else ""))

    def _guarded(self, key: BuildKey, change: Statement, job_ids: Sequence[str], settle: Settle) -> None:
        """Run a statement that changes the ledger; any end but a plain success is settled by reading the ledger.

        Args:
            key: The attempt.
            change: The statement.
            job_ids: Ids to run it under: the next one where the job of the one before ran before this ledger was made.
            settle: What the ledger shows.
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
        raise Unavailable(f"{key.build_id}: the job {job_ids[-1]} succeeded, but the ledger does not show it")

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
