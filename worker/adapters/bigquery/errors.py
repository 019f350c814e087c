"""BigQuery's errors as our families, by who can cure them.

The reason counts, not the HTTP status: `rateLimitExceeded` and `accessDenied` both come as 403.
"""

import concurrent.futures
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

import requests.exceptions
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from worker.errors import Fatal, PipelineError, SchemaDrift, Unavailable

# A job that failed so may run again under another id, now.
TRANSIENT_REASONS = frozenset(
    {
        *("backendError", "internalError", "badGateway", "jobBackendError", "jobInternalError"),
        *("rateLimitExceeded", "jobRateLimitExceeded", "tableUnavailable"),
    }
)
# Another statement changed the same rows first, or too many wait their turn; ours left nothing behind.
PASSING_TEXTS = ("due to concurrent update", "Could not serialize access", "too many DML statements outstanding")
# A quota comes back by the hour or the day, a cancelled job does not come back: the builder's delay is the pause.
PATIENT_REASONS = frozenset({"quotaExceeded", "stopped", "timeout"})
# Another try fails the same way. The client makes a 500 of those it does not know, so the status says nothing.
HOPELESS_REASONS = frozenset(
    {
        *("accessDenied", "billingNotEnabled", "billingTierLimitExceeded", "blocked", "bytesBilledLimitExceeded"),
        *("duplicate", "invalid", "invalidQuery", "invalidUser", "notFound", "notImplemented", "parseError"),
        *("resourcesExceeded", "responseTooLarge"),
    }
)
MISSING_DATASET = re.compile(r"Not found: Dataset [\w.:-]+[:.](\w+)")
DRIFT_TEXTS = ("Unrecognized name", "not found inside", "Name not found")

CALL_ERRORS = (
    api.GoogleAPIError,
    auth.GoogleAuthError,
    requests.exceptions.RequestException,
    concurrent.futures.TimeoutError,
    ConnectionError,
)
"""Everything that the client raises for reasons outside this process."""

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
    """What helps against an error."""

    NOW = "run again at once, under another job id"
    LATER = "another attempt of the build"
    NOTHING = "a person"


def reason_of(error: BaseException) -> str:
    """Give BigQuery's reason of an error, empty where it has none."""
    errors = getattr(error, "errors", None) or ()
    first = errors[0] if errors else {}
    return str(first.get("reason", "")) if isinstance(first, dict) else ""


def cure_of(error: BaseException) -> Cure:
    """Say what helps against an error of a job or of a call."""
    reason = reason_of(error)
    said = str(error).lower()
    if reason in TRANSIENT_REASONS or any(text.lower() in said for text in PASSING_TEXTS):
        return Cure.NOW
    if reason in PATIENT_REASONS or (reason not in HOPELESS_REASONS and _is_weather(error)):
        return Cure.LATER
    return Cure.NOTHING


def _is_weather(error: BaseException) -> bool:
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
    """Return *doing* with the tables that a statement reads in a dataset that does not exist: Google names no table."""
    lost = MISSING_DATASET.search(str(error))
    if lost is None:
        return doing
    tables = sorted(set(re.findall(rf"\b{re.escape(lost[1])}\.\w+", sql)))
    return f"{doing}, which reads {', '.join(tables)}" if tables else doing


def translated(error: BaseException, doing: str) -> PipelineError:
    """Give the error of our family for one of BigQuery's; *doing* says what was attempted."""
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
    is_history = reason == "accessDenied" and "INFORMATION_SCHEMA" in str(error)
    step = COST_READER if is_history else NEXT_STEPS.get(reason)
    return Fatal(f"{text}; {step}" if step else text)


def _first_line(error: BaseException) -> str:
    text = str(getattr(error, "message", "") or error).strip()
    return text.splitlines()[0] if text else type(error).__name__


@contextmanager
def translated_errors(doing: str) -> Iterator[None]:
    """Turn BigQuery's errors into the families of `worker.errors`."""
    try:
        yield
    except CALL_ERRORS as error:
        raise translated(error, doing) from error
