"""Checks of setting values. Pure; each fault is a `ValueError` in words.

The checks stop a start that would fail later or use a wrong resource: an address that no client accepts, a name that
Pub/Sub refuses, a path with a part that a client reads as a query.
"""

import re
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import SplitResult, parse_qsl, urlsplit

EMBEDDED = "embedded"
DUCKDB = "duckdb"

# DuckDB ends the name of a file at a question mark, and takes a backslash for a separator.
UNUSABLE_IN_PATHS = ("?", "\\")

# Pub/Sub's rule for topics and subscriptions.
_RESOURCE = re.compile(r"(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{2,254}")
# A project id, after the domain of the organisation, if any. Local servers accept short ids, too.
_PROJECT = re.compile(r"([a-z0-9.-]+:)?[a-z]([a-z0-9-]{0,28}[a-z0-9])?")
_HOST = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?"
)
# The client's other parameters change timeouts, retries or the returned types.
_REDIS_PARAMETERS = frozenset(
    {
        "db",
        "health_check_interval",
        "username",
        "password",
        "ssl_ca_certs",
        "ssl_ca_path",
        "ssl_certfile",
        "ssl_keyfile",
        "ssl_cert_reqs",
        "ssl_check_hostname",
    }
)
_BIGQUERY = re.compile(r"bigquery://[a-z0-9.:-]+(\?location=[A-Za-z0-9-]+)?")
_MEMORY = re.compile(r"(?P<number>[0-9]{1,6}(\.[0-9]{1,3})?)(?P<unit>MB|GB)")
MEMORY_MB_MIN = 64
MEMORY_MB_MAX = 16 * 1024 * 1024


def resource_name(value: str) -> str:
    """Return a name of a topic or subscription that Pub/Sub accepts."""
    if not _RESOURCE.fullmatch(value):
        raise ValueError(
            "is no name for Pub/Sub: 3 to 255 of letters, digits and - . _ ~ + %, beginning with a letter and not with "
            "goog"
        )
    return value


def project_id(value: str) -> str:
    """Return the id of a Google Cloud project."""
    if not _PROJECT.fullmatch(value):
        raise ValueError(
            "is no project id: up to 30 lower case letters, digits and hyphens, beginning with a letter and not ending "
            "with a hyphen"
        )
    return value


def listener_host(value: str) -> str:
    """Return an address to listen on: a name or an IP address, without a scheme and without a port."""
    if not _is_host(value):
        raise ValueError("is no host to listen on; write an address such as 127.0.0.1, ::1 or 0.0.0.0, or a name")
    return value


def host_and_port(value: str) -> str:
    """Return `host:port`, the address of an emulator."""
    parts = _split(f"emulator://{value}")
    if "://" in value or parts.netloc != value or "@" in value or not _is_host(parts.hostname or ""):
        raise ValueError("is not host:port, such as localhost:8085 or [::1]:8085")
    if not parts.port:
        raise ValueError("names no port; write host:port, such as localhost:8085")
    return value


def memory_limit(value: str) -> str:
    """Return a memory size that DuckDB accepts."""
    size = _MEMORY.fullmatch(value)
    if size is None:
        raise ValueError("is no size in MB or GB, such as 2GB")
    megabytes = float(size["number"]) * (1024 if size["unit"] == "GB" else 1)
    if not MEMORY_MB_MIN <= megabytes <= MEMORY_MB_MAX:
        raise ValueError(f"must lie between {MEMORY_MB_MIN}MB and {MEMORY_MB_MAX // 1024}GB")
    return value


def warehouse_url(value: str) -> str:
    """Return `duckdb:///path` or `bigquery://project[?location=US]`; empty stays empty."""
    if value and scheme_of(value) == "bigquery" and not _BIGQUERY.fullmatch(value):
        raise ValueError("is not bigquery://project or bigquery://project?location=US")
    _one_of(value, DUCKDB, "bigquery")
    if scheme_of(value) == DUCKDB:
        _path(value, "duckdb:///path/warehouse.duckdb")
        for sign in UNUSABLE_IN_PATHS:
            if sign in local_path(value):
                raise ValueError(f"has a {sign} in the path, which DuckDB cannot take; choose another folder")
    return value


def store_url(value: str) -> str:
    """Return an address of Redis or of the embedded Valkey; empty stays empty."""
    _one_of(value, "redis", "rediss", "unix", EMBEDDED)
    if not value:
        return value
    if scheme_of(value) == EMBEDDED:
        _path(value, "embedded:///path")
        return value
    if scheme_of(value) == "unix":
        path, _, query = value.partition("?")
        _path(path, "unix:///path")
        _known_parameters(query)
        return value
    parts = _split(value)
    if not _is_host(parts.hostname or ""):
        raise ValueError("names no host; write redis://host:6379/0")
    _known_parameters(parts.query)
    if parts.path.strip("/") and not re.fullmatch(r"/[0-9]{1,5}", parts.path):
        raise ValueError("names no database; write redis://host:6379/0")
    return value


def bus_url(value: str) -> str:
    """Return `google`, `emulator://host:port` or `embedded:///dir`; empty stays empty."""
    if value in {"", "google"}:
        return value
    if scheme_of(value) == "emulator":
        try:
            host_and_port(value.removeprefix("emulator://"))
        except ValueError as exc:
            raise ValueError("names no port; write emulator://localhost:8085 or emulator://[::1]:8085") from exc
    elif scheme_of(value) == EMBEDDED:
        _path(value, "embedded:///dir")
    else:
        raise ValueError("must be google, or begin with emulator:// or embedded://")
    return value


def http_url(value: str) -> str:
    """Return `http(s)://host[:port][/path]`; empty stays empty."""
    _one_of(value, "http", "https")
    if value and not _is_host(_split(value).hostname or ""):
        raise ValueError("names no host; write http://host:port")
    return value


def sink_url(value: str) -> str:
    """Return `file:///path` or an HTTP address; empty stays empty."""
    if scheme_of(value) != "file":
        _one_of(value, "file", "http", "https")
        return http_url(value)
    parts = _split(value)
    if parts.netloc or not parts.path.startswith("/") or parts.path.endswith("/"):
        raise ValueError("names no absolute path; write file:///path/to/events.jsonl")
    if parts.query or parts.fragment or value.endswith(("?", "#")):
        raise ValueError("has a ? or # that would end the path; write %3F or %23")
    return value


def scheme_of(url: str) -> str:
    """Return the text before `://`; empty without `://`."""
    return url.partition("://")[0] if "://" in url else ""


def local_path(url: str) -> str:
    """Return the path of a `duckdb://` or `embedded://` address: the whole text after `://`, with `?` and `#`."""
    return url.partition("://")[2]


def unreadable_names(names: Mapping[str, str], prefix: str) -> list[str]:
    """Return a fault for each setting with bytes that are not UTF-8: no client and no page could show the text."""
    faults = []
    for name in sorted(names):
        try:
            f"{name}{names[name]}".encode()
        except UnicodeEncodeError:
            if name.startswith(prefix):
                faults.append(f"{ascii(name)[1:-1]}: is not UTF-8")
    return faults


def _known_parameters(query: str) -> None:
    """Refuse parameters of a Redis address that are unknown or would change timeouts or retries of the worker."""
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in _REDIS_PARAMETERS:
            known = ", ".join(sorted(_REDIS_PARAMETERS))
            raise ValueError(f"has the unknown parameter {name[:40]!r}; known are {known}")
        if name in {"db", "health_check_interval"} and not re.fullmatch(r"[0-9]{1,5}", text):
            raise ValueError(f"has a parameter that is no whole number; write {name}=0")


def _one_of(value: str, *schemes: str) -> None:
    if value and scheme_of(value) not in schemes:
        raise ValueError(f"must begin with one of {', '.join(f'{name}://' for name in schemes)}")


def _path(url: str, example: str) -> None:
    if not local_path(url).strip("/"):
        raise ValueError(f"names no path; write {example}")


def _split(url: str) -> SplitResult:
    """Split an address; refuse an unreadable host or port."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as exc:
        raise ValueError("has a host or a port that cannot be read; write scheme://host:port") from exc
    return parts


def _is_host(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return _HOST.fullmatch(text) is not None and re.fullmatch(r"[0-9.]+", text) is None
    return True
