"""Makes the client: to Google, or to a peer on this machine."""

from urllib.parse import parse_qs, urlsplit

from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud.bigquery import Client

from worker.adapters.direct import is_local, session_to
from worker.adapters.warehouse_bigquery_errors import translated_errors


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
