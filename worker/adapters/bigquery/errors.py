"""BigQuery's errors as errors of `worker.errors`, by the cure: another job now, a later attempt, or a person.

BigQuery's reason decides, not the HTTP status: `rateLimitExceeded` and `accessDenied` both have status 403.
"""

import concurrent.futures
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

import requests.exceptions
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from worker.errors import AccessDenied, Fatal, PipelineError, SchemaDrift, SourceGone, Unavailable

# A job that failed for one of these reasons may run again at once, with another id.
TRANSIENT_REASONS = frozenset(
    {
        *("backendError", "internalError", "badGateway", "jobBackendError", "jobInternalError"),
        *("rateLimitExceeded", "jobRateLimitExceeded", "tableUnavailable"),
    }
)
# Another statement changed the same rows first, or too many statements wait. The failed statement changed no row.
PASSING_TEXTS = ("due to concurrent update", "Could not serialize access", "too many DML statements outstanding")
# A quota returns after an hour or a day, and a cancelled job does not return: the builder's delay is the pause.
PATIENT_REASONS = frozenset({"quotaExceeded", "stopped", "timeout"})
# Another try fails the same way. The client reports unknown reasons with status 500, so the status is not used.
HOPELESS_REASONS = frozenset(
    {
        *("accessDenied", "billingNotEnabled", "billingTierLimitExceeded", "blocked", "bytesBilledLimitExceeded"),
        *("duplicate", "invalid", "invalidQuery", "invalidUser", "notFound", "notImplemented", "parseError"),
        *("resourcesExceeded", "responseTooLarge"),
    }
)
MISSING_DATASET = re.compile(r"Not found: Dataset [\w.:-]+[:.](\w+)")
DRIFT_TEXTS = ("Unrecognized name", "not found inside", "Name not found")
# The file behind an external table is absent, or no file of the table's format.
FILE_TEXT = "Error while reading table"

CALL_ERRORS = (
    api.GoogleAPIError,
    auth.GoogleAuthError,
    requests.exceptions.RequestException,
    concurrent.futures.TimeoutError,
    ConnectionError,
)
"""Exceptions that the client raises for causes outside this process."""

NEXT_STEPS = {
    "accessDenied": "grant the worker's account BigQuery Job User on the project, and what the message names",
    "bytesBilledLimitExceeded": "look at mlfs build DATE --dry-run, then raise MLFS_BIGQUERY_MAX_BYTES_BILLED",
    "billingNotEnabled": "enable billing for the project",
}
COST_READER = (
    "reading what jobs cost takes bigquery.jobs.listAll on the project: grant the account the role mlfsCostReader of "
    "ops/terraform/roles.yaml, or BigQuery Resource Viewer"
)
"""The next step where the job history is denied."""


class Cure(Enum):
    """Cure of an error."""

    NOW = "run again at once, under another job id"
    LATER = "another attempt of the build"
    NOTHING = "a person"


def reason_of(error: BaseException) -> str:
    """Return BigQuery's reason of an error; empty if the error has no reason."""
    errors = getattr(error, "errors", None) or ()
    first = errors[0] if errors else {}
    return str(first.get("reason", "")) if isinstance(first, dict) else ""


def cure_of(error: BaseException) -> Cure:
    """Return the cure of an error of a job or of a call."""
    reason = reason_of(error)
    said = str(error).lower()
    if reason in TRANSIENT_REASONS or any(text.lower() in said for text in PASSING_TEXTS):
        return Cure.NOW
    if reason in PATIENT_REASONS or (reason not in HOPELESS_REASONS and _is_temporary(error)):
        return Cure.LATER
    return Cure.NOTHING


def _is_temporary(error: BaseException) -> bool:
    if isinstance(error, auth.DefaultCredentialsError):
        return False
    passing = (
        api.ServerError,
        api.TooManyRequests,
        api.RetryError,
        auth.TransportError,
        auth.RefreshError,
        requests.exceptions.RequestException,
        concurrent.futures.TimeoutError,
        ConnectionError,
    )
    return isinstance(error, passing)


def with_tables(doing: str, error: BaseException, sql: str) -> str:
    """Return *doing* with the tables that a statement reads in a missing dataset, because Google names no table."""
    lost = MISSING_DATASET.search(str(error))
    if lost is None:
        return doing
    tables = sorted(set(re.findall(rf"\b{re.escape(lost[1])}\.\w+", sql)))
    return f"{doing}, which reads {', '.join(tables)}" if tables else doing


def translated(error: BaseException, doing: str) -> PipelineError:
    """Return the error of `worker.errors` for an error of BigQuery; *doing* names the attempted action."""
    text = f"{doing}: {_first_line(error)}"
    if isinstance(error, PipelineError):
        return error
    if cure_of(error) is not Cure.NOTHING:
        return Unavailable(text)
    if isinstance(error, auth.DefaultCredentialsError):
        return Fatal(f"{text}; sign in with: gcloud auth application-default login")
    reason = reason_of(error)
    if isinstance(error, api.NotFound) or reason == "notFound" or any(known in str(error) for known in DRIFT_TEXTS):
        return SchemaDrift(text)
    if FILE_TEXT in str(error):
        return SourceGone(text)
    is_denied = reason == "accessDenied"
    step = COST_READER if is_denied and "INFORMATION_SCHEMA" in str(error) else NEXT_STEPS.get(reason)
    kind = AccessDenied if is_denied else Fatal
    return kind(f"{text}; {step}" if step else text)


def _first_line(error: BaseException) -> str:
    text = str(getattr(error, "message", "") or error).strip()
    return text.splitlines()[0] if text else type(error).__name__


@contextmanager
def translated_errors(doing: str) -> Iterator[None]:
    """Raise BigQuery's errors as errors of `worker.errors`."""
    try:
        yield
    except CALL_ERRORS as error:
        raise translated(error, doing) from error
