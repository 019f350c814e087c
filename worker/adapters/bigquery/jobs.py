"""Runs BigQuery jobs so that no lost reply ever runs one twice.

Every job has an id of ours. A call whose reply was lost is sent again under the same id, and `409 Already Exists` then
means: attach to that job and wait for it. A job that failed for a passing reason has burnt its id; the next try takes a
suffix. The client's own job retry stays off: it would start a second job behind our back.

Makes the client: to Google, or to a peer on this machine.
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

# A single statement that met another one takes two to three seconds; the pause grows to several of these.
FIRST_PAUSE_S = 0.5
PAUSE_MAX_S = 10.0
# Ids that one call may look at. Earlier calls may have used up many; with these pauses five minutes use up fifty.
IDS_MAX = 1000
PAGE_ROWS = 10_000
# One HTTP request; the client's own default is to wait for ever.
CALL_TIMEOUT_S = 30.0
# BigQuery stops the job itself; what comes on top is for noticing it.
NOTICE_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a job may take.

    Attributes:
        bytes_billed_max: A statement that would bill more is refused before it runs.
        job_timeout_s: A job that takes longer is stopped.
        call_s: How long one call (not one job) is repeated after it failed.
        retry_s: How long a job is run again while it fails for a reason that passes by itself: another statement
            changes the same rows, a rate limit, an error inside BigQuery.
        usd_per_tib: On-demand price.
    """

    bytes_billed_max: int = 10_000_000_000
    job_timeout_s: float = 600.0
    call_s: float = 30.0
    retry_s: float = 300.0
    usd_per_tib: float = 6.25


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One job to run.

    Attributes:
        job_id: Its id; tries after the first add a suffix.
        sql: The text, verbatim.
        parameters: Typed.
        labels: For cost reports; lower case, digits, dashes, underscores.
    """

    job_id: str
    sql: str
    parameters: Sequence[Parameter]
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A job that succeeded.

    Attributes:
        rows: Its result.
        attached: Whether the job existed before this call sent it: it may have run at any time before.
        changed: Rows that its statement inserted, updated or deleted; 0 for a statement that reads.
    """

    rows: Iterable[Any]
    attached: bool
    changed: int


class JobRunner:
    """Runs jobs in one project; threads may share it. `location` is where, None where BigQuery is to find out."""

    def __init__(
        self,
        client: Client,
        limits: Limits,
        pause: Callable[[float], None] = pause,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """Use a client.

        Args:
            client: Signed in.
            limits: What a job may take.
            pause: Waits so many seconds.
            seconds: A clock that never goes back.
        """
        self._client = client
        self._limits = limits
        self._pause = pause
        self._seconds = seconds
        self.location: str | None = client.location
        self.call_retry: Retry = DEFAULT_RETRY.with_delay(initial=0.1, maximum=4.0).with_timeout(limits.call_s)

    def run(self, spec: JobSpec, doing: str) -> Finished:
        """Run a job to its end, again under new ids while the reason of its failure passes by itself.

        The time for further tries begins with the first failure, so a job that takes long gets a second try as well.

        Raises:
            Unavailable: BigQuery did not answer, or the job was stopped, took too long, or failed for `retry_s`.
            Fatal: The job cannot work.
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
                    continue  # an earlier call's job: it did nothing, and this call has not tried yet
                tries += 1
                gives_up_at = gives_up_at or self._seconds() + self._limits.retry_s
                # A job that may still run must not get a second one beside it.
                may_run = job is not None and not has_failed
                if may_run or cure_of(error) is not Cure.NOW or self._seconds() >= gives_up_at:
                    raise translated(error, with_tables(doing, error, spec.sql)) from error
                log.info("job_tried_again", job_id=spec.job_id, tries=tries, error=str(error).splitlines()[0])
            self._pause(_jittered(tries))
        raise Unavailable(f"{doing}: {IDS_MAX} jobs of the name {spec.job_id} have failed")

    def estimate(self, spec: JobSpec, doing: str) -> QueryJob:
        """Have BigQuery check a statement and say what it would read; nothing runs and nothing is billed."""
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
        """Send the job, or find the one that has its id already; the second value says which."""
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
        """Find the job that has our id already; right after a lost reply it may not be visible yet."""
        log.info("job_attached", job_id=job_id)
        patient = Retry(
            predicate=lambda error: isinstance(error, api.NotFound) or cure_of(error) is not Cure.NOTHING,
            initial=0.1,
            maximum=2.0,
            timeout=self._limits.call_s,
        )
        job = self._client.get_job(job_id, location=self.location, retry=patient, timeout=CALL_TIMEOUT_S)
        if not isinstance(job, QueryJob):
            raise Fatal(f"the job id {job_id} belongs to a {job.job_type} job, which is not ours")
        return job

    def _wait(self, job: QueryJob) -> Iterable[Any]:
        """Wait for the job, and stop one that BigQuery itself does not stop in time."""
        try:
            return job.result(
                page_size=PAGE_ROWS,
                job_retry=None,
                retry=self.call_retry,
                timeout=self._limits.job_timeout_s + min(NOTICE_S, self._limits.job_timeout_s),
            )
        except concurrent.futures.TimeoutError as error:
            # Best effort: a job that goes on all the same is refused by the ledger once a newer attempt has claimed.
            with suppress(*CALL_ERRORS):
                job.cancel(retry=self.call_retry, timeout=CALL_TIMEOUT_S)
            raise concurrent.futures.TimeoutError(
                f"job {job.job_id} did not end within {self._limits.job_timeout_s:g} s and was cancelled"
            ) from error


def _jittered(attempt: int) -> float:
    """Pause longer after each try, never twice the same: those who collided must not collide again."""
    ceiling = min(PAUSE_MAX_S, FIRST_PAUSE_S * 2.0 ** (attempt - 1))
    return random.uniform(ceiling / 4, ceiling)  # noqa: S311 -- spreads load, keeps no secret


def connect(url: str, endpoint: str = "") -> Client:
    """Make a client for `bigquery://project[?location=US]`.

    Args:
        url: Names the project, and where its datasets lie; without a location BigQuery finds it by the tables named.
        endpoint: Base address of another server than Google's. One on a loopback address is spoken to without signing
            in; every other one gets the machine's own credentials.

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
