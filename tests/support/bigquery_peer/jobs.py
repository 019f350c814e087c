"""The jobs of one project of the BigQuery peer: accepted, run, looked at, cancelled; and what faults do to them."""

import re
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.support.bigquery_peer.engine import JOBS_TABLE, PeerEngine, StatementResult
from tests.support.bigquery_peer.estimate import columns_read, estimate, tables_read
from tests.support.bigquery_peer.faults import Fault, PlannedJobFaults
from tests.support.bigquery_peer.wire import Json, WireError, aborted, read_parameters, row, schema_of

PAGE_ROWS_MAX = 50_000
SLOW_LOOKS = 3
LOCATION = "US"
USER = "peer@localhost"
_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,1024}")
_PROJECT_JOBS = re.compile(r"INFORMATION_SCHEMA\.JOBS(_BY_PROJECT)?\b", re.IGNORECASE)
_LABEL = re.compile(r"[a-z0-9_-]{0,63}")
# Two lists of texts: DuckDB's client stumbles over a list of records.
_LABELS = "list_transform(list_zip(?::VARCHAR[], ?::VARCHAR[]), lambda x: {'key': x[1], 'value': x[2]})"

FAILURES = {
    Fault.RATE_LIMIT: WireError("rateLimitExceeded", "Exceeded rate limits: too many jobs for this project"),
    Fault.QUOTA: WireError("quotaExceeded", "Quota exceeded: free query bytes scanned"),
    Fault.CONFLICT: aborted("a_dataset.planned"),
    Fault.OUTSTANDING: WireError(
        "resourcesExceeded",
        "Resources exceeded during query execution: Too many DML statements outstanding against table "
        "a_project:a_dataset.planned, limit is 20.",
    ),
}


@dataclass(slots=True)
class Job:
    """One job."""

    project: str
    job_id: str
    configuration: Json
    created: datetime
    fault: Fault | None = None
    state: str = "RUNNING"
    looks: int = 0
    answer: StatementResult | None = None
    error: WireError | None = None
    bytes_processed: int = 0
    bytes_billed: int = 0
    slot_ms: int = 0
    reads: Sequence[str] = ()
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.RLock = field(default_factory=threading.RLock)


class PeerJobs:
    """The jobs of one project.

    Args:
        project: Its name.
        engine: Its tables.
        faults: What goes wrong.
        now: The clock, UTC.
        hold_s: How long a question for the results of a running job is held open.
        is_withheld: Says whether the caller lacks a permission.
        denied: Names the tables and columns that the caller may not read.
    """

    def __init__(
        self,
        project: str,
        engine: PeerEngine,
        faults: PlannedJobFaults,
        now: Callable[[], datetime],
        hold_s: float,
        is_withheld: Callable[[str], bool],
        denied: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._project = project
        self._engine = engine
        self._faults = faults
        self._now = now
        self._hold_s = hold_s
        self._is_withheld = is_withheld
        self._denied = denied
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    @property
    def ran(self) -> Sequence[str]:
        """The ids of the jobs that were run to a success, in order of their acceptance."""
        return [job.job_id for job in self._jobs.values() if job.answer is not None]

    @property
    def billed(self) -> Sequence[int]:
        """The bytes billed for each job that ran to a success."""
        return [job.bytes_billed for job in self._jobs.values() if job.answer is not None]

    @property
    def conflicts(self) -> int:
        """How many jobs lost against another statement on their table."""
        return sum(job.error is not None and "concurrent update" in job.error.message for job in self._jobs.values())

    def insert(self, configuration: Json, job_id: str | None) -> Json:
        """Accept a job and run it; a dry run is answered and forgotten.

        Raises:
            WireError: The id is taken or malformed, or a fault says so.
        """
        job_id = job_id or uuid.uuid4().hex
        _check(configuration, job_id)
        if configuration.get("dryRun"):
            return self._resource(self._dry_run(configuration, job_id))
        fault = self._faults.take(job_id)
        if fault is Fault.REFUSED:
            raise WireError("backendError", "The service is currently unavailable.")
        job = Job(self._project, job_id, configuration, self._now(), fault=fault)
        with self._lock:
            if job_id in self._jobs:
                raise WireError("duplicate", f"Already Exists: Job {self._project}:{LOCATION}.{job_id}")
            self._jobs[job_id] = job
        if fault not in {Fault.SLOW, Fault.STUCK}:
            self._run(job)
        if fault in {Fault.REPLY_LOST, Fault.SILENCE}:
            raise WireError("backendError", "The service is currently unavailable.")
        if fault is Fault.DUPLICATE:
            raise WireError("duplicate", f"Already Exists: Job {self._project}:{LOCATION}.{job_id}")
        return self._resource(job)

    def speak(self) -> None:
        """End every silence: calls about those jobs are answered again."""
        for job in self._jobs.values():
            if job.fault is Fault.SILENCE:
                job.fault = None

    def get(self, job_id: str) -> Json:
        """Give the job as it is now.

        Raises:
            WireError: There is none.
        """
        return self._resource(self._look(job_id))

    def cancel(self, job_id: str) -> Json:
        """Stop a job that has not ended."""
        job = self._find(job_id)
        with job.lock:
            if job.state != "DONE":
                job.error = WireError("stopped", "Job execution was cancelled: User requested cancellation")
                self._end(job)
        return {"kind": "bigquery#jobCancelResponse", "job": self._resource(job)}

    def results(self, job_id: str, *, rows_max: int, start: int, timeout_s: float) -> Json:
        """Give a page of the result, or say that the job still runs.

        Raises:
            WireError: There is no such job, or it failed.
        """
        job = self._look(job_id)
        if not job.ended.wait(min(timeout_s, self._hold_s)):
            return {"jobReference": _reference(job), "jobComplete": False}
        if job.error is not None:
            raise job.error
        answer = job.answer or StatementResult("SCRIPT")
        found: Json = {
            "kind": "bigquery#getQueryResultsResponse",
            "jobReference": _reference(job),
            "jobComplete": True,
            "totalBytesProcessed": str(job.bytes_processed),
            "cacheHit": False,
        }
        if answer.changed is not None:
            return found | {"numDmlAffectedRows": str(answer.changed)}
        if not answer.schema:
            return found
        end = min(start + min(rows_max, PAGE_ROWS_MAX), len(answer.rows))
        found |= {"schema": {"fields": schema_of(answer.schema)}, "totalRows": str(len(answer.rows))}
        if rows_max:
            # BigQuery writes a NULL array into a result as an empty one.
            arrays = [str(column[1]).endswith("[]") for column in answer.schema]
            found["rows"] = [
                row([[] if value is None and array else value for value, array in zip(values, arrays, strict=True)])
                for values in answer.rows[start:end]
            ]
        return found | ({"pageToken": str(end)} if end < len(answer.rows) else {})

    def _find(self, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None:
            raise WireError("notFound", f"Not found: Job {self._project}:{LOCATION}.{job_id}")
        if job.fault is Fault.SILENCE:
            raise WireError("backendError", "The service is currently unavailable.")
        return job

    def _look(self, job_id: str) -> Job:
        """Find a job that somebody asks about; a slow one runs once it has been asked about often enough."""
        job = self._find(job_id)
        with job.lock:
            job.looks += 1
            if job.fault is Fault.SLOW and job.looks >= SLOW_LOOKS and job.state != "DONE":
                self._run(job)
        return job

    def _dry_run(self, configuration: Json, job_id: str) -> Job:
        query = configuration["query"]
        parameters = read_parameters(query.get("queryParameters", ()))
        job = Job(self._project, job_id, configuration, self._now(), state="DONE")
        self._check_denied(query["query"])
        # EXPLAIN binds every name and type, and runs nothing.
        self._engine.explain(query["query"], parameters)
        job.bytes_processed, job.bytes_billed = estimate(self._engine, query["query"], parameters)
        job.reads = tables_read(query["query"])
        return job

    def _run(self, job: Job) -> None:
        started = time.monotonic()
        with job.lock:
            try:
                if job.fault in FAILURES:
                    raise FAILURES[job.fault]
                job.answer = self._answer(job)
            except WireError as error:
                job.error = error
            job.slot_ms = int((time.monotonic() - started) * 1000)
            self._end(job)

    def _answer(self, job: Job) -> StatementResult:
        query = job.configuration["query"]
        parameters = read_parameters(query.get("queryParameters", ()))
        view = _PROJECT_JOBS.search(query["query"])
        if view is not None and self._is_withheld("bigquery.jobs.listAll"):
            table = f"{self._project}:region-us.{view[0]}"
            raise WireError("accessDenied", f"Access Denied: Table {table}: User does not have permission to query it.")
        self._check_datasets(query["query"])
        self._check_denied(query["query"])
        job.bytes_processed, job.bytes_billed = estimate(self._engine, query["query"], parameters)
        billed_max = int(query.get("maximumBytesBilled") or 0)
        if billed_max and job.bytes_billed > billed_max:
            raise WireError(
                "bytesBilledLimitExceeded",
                f"Query exceeded limit for bytes billed: {billed_max}. {job.bytes_billed} or higher required.",
            )
        return self._engine.run(query["query"], parameters)

    def _check_datasets(self, sql: str) -> None:
        """Refuse a statement about a dataset that does not exist, in Google's words: they name no table."""
        with self._engine.cursor() as cursor:
            there = {str(name) for (name,) in cursor.execute("SELECT schema_name FROM duckdb_schemas()").fetchall()}
        for dataset in sorted({table.partition(".")[0] for table in tables_read(sql)} - there):
            place = f"in location {LOCATION}"
            raise WireError("notFound", f"Not found: Dataset {self._project}:{dataset} was not found {place}")

    def _check_denied(self, sql: str) -> None:
        """Refuse a statement about a table or column that the caller may not read, in Google's words."""
        read = columns_read(sql)
        for name in sorted(self._denied()):
            dataset, table, *column = name.split(".")
            names = read.get(f"{dataset}.{table}")
            if names is None:
                continue
            if not column:
                place = f"{self._project}:{name}"
                said = f"Access Denied: Table {place}: User does not have permission to query table {place}"
                raise WireError("accessDenied", f"{said}, or perhaps it does not exist.")
            if names & {column[0], "*"}:
                tag = f"column '{column[0]}' on table '{self._project}.{dataset}.{table}'"
                raise WireError(
                    "accessDenied",
                    "Access Denied: BigQuery BigQuery: User has neither fine-grained reader nor masked get permission "
                    f"to get data protected by policy tag on {tag}.",
                )

    def _end(self, job: Job) -> None:
        job.state = "DONE"
        job.ended.set()
        labels = job.configuration.get("labels", {})
        with self._engine.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {JOBS_TABLE} SELECT ?, ?, NULL, ?, 'QUERY', ?, 'DONE', ?, ?, ?, {_LABELS}",
                [
                    *(job.created, job.job_id, USER, job.answer.kind if job.answer else None),
                    *(job.bytes_processed, 0 if job.error else job.bytes_billed, job.slot_ms),
                    *(list(labels), list(labels.values())),
                ],
            )

    def _resource(self, job: Job) -> Json:
        created = str(int(job.created.timestamp() * 1000))
        answer = job.answer or StatementResult("SELECT")
        query: dict[str, Any] = {
            "statementType": answer.kind,
            "totalBytesProcessed": str(job.bytes_processed),
            "totalBytesBilled": str(job.bytes_billed),
            "cacheHit": False,
            "referencedTables": [
                {"projectId": job.project, "datasetId": dataset, "tableId": table}
                for dataset, _, table in (name.partition(".") for name in job.reads)
            ],
        }
        if answer.changed is not None:
            query["numDmlAffectedRows"] = str(answer.changed)
        status: Json = {"state": job.state}
        if job.error is not None:
            status |= {"errorResult": job.error.proto, "errors": [job.error.proto]}
        return {
            "kind": "bigquery#job",
            "id": f"{job.project}:{LOCATION}.{job.job_id}",
            "jobReference": _reference(job),
            "configuration": {"jobType": "QUERY", **job.configuration},
            "status": status,
            "statistics": {
                "creationTime": created,
                "startTime": created,
                **({"endTime": str(int(self._now().timestamp() * 1000))} if job.state == "DONE" else {}),
                "totalBytesProcessed": str(job.bytes_processed),
                "totalSlotMs": str(job.slot_ms),
                "query": query,
            },
            "user_email": USER,
        }


def _reference(job: Job) -> Json:
    return {"projectId": job.project, "jobId": job.job_id, "location": LOCATION}


def _check(configuration: Json, job_id: str) -> None:
    if "query" not in configuration:
        raise WireError("invalid", "this peer runs query jobs only")
    if configuration["query"].get("useLegacySql", True) is not False:
        raise WireError("invalid", "this peer does not speak legacy SQL")
    if not _JOB_ID.fullmatch(job_id):
        raise WireError("invalid", f"Invalid job ID {job_id!r}")
    for part in (text for pair in configuration.get("labels", {}).items() for text in pair):
        if not _LABEL.fullmatch(part):
            raise WireError("invalid", f"Label {part!r} contains unsupported characters")
