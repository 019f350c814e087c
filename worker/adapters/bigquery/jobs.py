"""Jobs on BigQuery: no lost reply makes a job run twice. Also the client, for Google or for a local server.

The runner chooses the id of every job. A call with a lost reply is sent again with the same id; the answer `409 Already
Exists` then means that the job exists, and the runner waits for this job. A job that failed for a temporary reason has
used the id, so the next try adds a suffix. The client's own job retry is off, because the retry would start a second
job with an unknown id.

A crash leaves the job running at BigQuery; a later call with the same id attaches to the job.
"""

import concurrent.futures
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import structlog
from google.api_core import exceptions as api
from google.api_core.retry import Retry
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud.bigquery import DEFAULT_RETRY, Client, QueryJob, QueryJobConfig

from worker.adapters.bigquery.errors import CALL_ERRORS, Cure, cure_of, translated, translated_errors, with_tables
from worker.adapters.bigquery.scripts import Parameter
from worker.adapters.direct import is_local, session_to
from worker.clock import pause
from worker.errors import Fatal, Unavailable

log = structlog.get_logger(__name__)

# A statement in conflict with another statement takes two to three seconds; the pause grows to several times this.
FIRST_PAUSE_S = 0.5
PAUSE_MAX_S = 10.0
# Number of ids tried by a call. Earlier calls may have used many ids; with these pauses five minutes use fifty.
IDS_MAX = 1000
PAGE_ROWS = 10_000
# Time limit of an HTTP request; the client's default is no limit.
CALL_TIMEOUT_S = 30.0
# BigQuery stops the job; the extra seconds are for noticing the end.
NOTICE_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a job.

    Attributes:
        bytes_billed_max: BigQuery refuses a statement that would bill more bytes.
        job_timeout_s: A job that takes longer is stopped.
        call_s: Seconds for which a failed call (not a job) is repeated.
        retry_s: Seconds for which a job is run again after temporary failures: a conflict with another statement, a
            rate limit, an error inside BigQuery.
        usd_per_tib: On-demand price.
    """

    bytes_billed_max: int = 10_000_000_000
    job_timeout_s: float = 600.0
    call_s: float = 30.0
    retry_s: float = 300.0
    usd_per_tib: float = 6.25


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """Job to run.

    Attributes:
        job_id: Id of the job; tries after the first add a suffix.
        sql: Statement, sent verbatim.
        parameters: Parameters with types.
        labels: Labels for cost reports; lower case, digits, dashes, underscores.
    """

    job_id: str
    sql: str
    parameters: Sequence[Parameter]
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Successful job.

    Attributes:
        rows: Result of the statement.
        attached: Whether the job existed before the call: the job may have run at any earlier time.
        changed: Rows inserted, updated or deleted by the statement; 0 for a SELECT.
    """

    rows: Iterable[Any]
    attached: bool
    changed: int


class JobRunner:
    """Runner of jobs in a project. Thread-safe. `location` None lets BigQuery find the location."""

    def __init__(
        self,
        client: Client,
        limits: Limits,
        pause: Callable[[float], None] = pause,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """Store the client and the limits.

        Args:
            client: Client with credentials.
            limits: Limits of each job.
            pause: Function that waits some seconds.
            seconds: Monotonic clock.
        """
        self._client = client
        self._limits = limits
        self._pause = pause
        self._seconds = seconds
        self.location: str | None = client.location
        self.call_retry: Retry = DEFAULT_RETRY.with_delay(initial=0.1, maximum=4.0).with_timeout(limits.call_s)

    def run(self, spec: JobSpec, doing: str) -> Finished:
        """Run a job to the end; after temporary failures run the job again with new ids.

        The time for further tries begins with the first failure, so a long job gets a second try as well.

        Raises:
            Unavailable: BigQuery did not answer, or the job was stopped, took too long, or failed for `retry_s`.
            Fatal: Every try of the job would fail.
        """
        tries, gives_up_at = 0, 0.0
        for number in range(IDS_MAX):
            job, attached = None, False
            try:
                job, attached = self._begin(spec, spec.job_id if number == 0 else f"{spec.job_id}-r{number}")
                rows = self._wait(job)
                return Finished(rows=rows, attached=attached, changed=job.num_dml_affected_rows or 0)
            except CALL_ERRORS as error:
                has_failed = job is not None and job.error_result is not None
                if attached and has_failed:
                    continue  # a failed job of an earlier call; this call has not tried yet
                tries += 1
                gives_up_at = gives_up_at or self._seconds() + self._limits.retry_s
                # A second job must not run beside a job that may still run.
                may_run = job is not None and not has_failed
                if may_run or cure_of(error) is not Cure.NOW or self._seconds() >= gives_up_at:
                    raise translated(error, with_tables(doing, error, spec.sql)) from error
                log.info("job_tried_again", job_id=spec.job_id, tries=tries, error=str(error).splitlines()[0])
            self._pause(_jittered(tries))
        raise Unavailable(f"{doing}: {IDS_MAX} jobs named {spec.job_id} have failed")

    def estimate(self, spec: JobSpec, doing: str) -> QueryJob:
        """Return a dry run of a statement with the estimated bytes; no job runs and no bytes are billed."""
        config = QueryJobConfig(
            dry_run=True, use_query_cache=False, query_parameters=list(spec.parameters), labels=dict(spec.labels)
        )
        try:
            return self._client.query(
                spec.sql,
                job_config=config,
                location=self.location,
                job_retry=None,
                retry=self.call_retry,
                timeout=CALL_TIMEOUT_S,
            )
        except CALL_ERRORS as error:
            raise translated(error, with_tables(doing, error, spec.sql)) from error

    def _begin(self, spec: JobSpec, job_id: str) -> tuple[QueryJob, bool]:
        """Send a job, or find the job with this id; return the job and whether the job existed."""
        try:
            job = self._client.query(
                spec.sql,
                job_config=self._config(spec),
                job_id=job_id,
                location=self.location,
                job_retry=None,
                retry=self.call_retry,
                timeout=CALL_TIMEOUT_S,
            )
        except api.Conflict:
            return self._attach(job_id), True
        return job, False

    def _config(self, spec: JobSpec) -> QueryJobConfig:
        return QueryJobConfig(
            query_parameters=list(spec.parameters),
            labels=dict(spec.labels),
            maximum_bytes_billed=self._limits.bytes_billed_max,
            job_timeout_ms=int(self._limits.job_timeout_s * 1000),
        )

    def _attach(self, job_id: str) -> QueryJob:
        """Find the existing job with this id; directly after a lost reply the job may not be visible yet."""
        log.info("job_attached", job_id=job_id)
        patient = Retry(
            predicate=lambda error: isinstance(error, api.NotFound) or cure_of(error) is not Cure.NOTHING,
            initial=0.1,
            maximum=2.0,
            timeout=self._limits.call_s,
        )
        job = self._client.get_job(job_id, location=self.location, retry=patient, timeout=CALL_TIMEOUT_S)
        if not isinstance(job, QueryJob):
            raise Fatal(f"the job id {job_id} belongs to a {job.job_type} job of another program")
        return job

    def _wait(self, job: QueryJob) -> Iterable[Any]:
        """Wait for a job; cancel a job that BigQuery does not stop in time."""
        try:
            return job.result(
                page_size=PAGE_ROWS,
                job_retry=None,
                retry=self.call_retry,
                timeout=self._limits.job_timeout_s + min(NOTICE_S, self._limits.job_timeout_s),
            )
        except concurrent.futures.TimeoutError as error:
            # If the cancellation fails, the ledger refuses the job as soon as a newer attempt has claimed.
            with suppress(*CALL_ERRORS):
                job.cancel(retry=self.call_retry, timeout=CALL_TIMEOUT_S)
            raise concurrent.futures.TimeoutError(
                f"job {job.job_id} did not end within {self._limits.job_timeout_s:g} s and was cancelled"
            ) from error


def _jittered(attempt: int) -> float:
    """Return a pause that grows with each try, with random jitter so that colliding workers do not collide again."""
    ceiling = min(PAUSE_MAX_S, FIRST_PAUSE_S * 2.0 ** (attempt - 1))
    return random.uniform(ceiling / 4, ceiling)  # noqa: S311 -- spreads load, keeps no secret


def connect(url: str, endpoint: str = "") -> Client:
    """Return a client for `bigquery://project[?location=US]`.

    Args:
        url: Project and location of the datasets; without a location BigQuery infers the location from the tables.
        endpoint: Base address of a server other than Google's. A loopback address needs no credentials; every other
            address gets the credentials of the machine.

    Raises:
        Fatal: This machine has no credentials.
    """
    parts = urlsplit(url)
    location = parse_qs(parts.query).get("location", [None])[0]
    options = {"api_endpoint": endpoint} if endpoint else None
    credentials = session = None
    if is_local(endpoint):
        credentials = AnonymousCredentials()
        session = session_to(endpoint, AuthorizedSession(credentials))
    with translated_errors(f"signing in to {url}"):
        return Client(
            project=parts.netloc, location=location, credentials=credentials, client_options=options, _http=session
        )
