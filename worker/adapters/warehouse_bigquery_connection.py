"""Makes the client: to Google, or to a peer on this machine."""

import ipaddress
from urllib.parse import parse_qs, urlsplit

from google.auth.credentials import AnonymousCredentials
from google.cloud.bigquery import Client

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
    credentials = AnonymousCredentials() if is_local(endpoint) else None
    with translated_errors(f"signing in to {url}"):
        return Client(project=parts.netloc, location=location, credentials=credentials, client_options=options)


def is_local(endpoint: str) -> bool:
    """Tell whether an address stays on this machine."""
    host = urlsplit(endpoint).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
