"""BigQuery's JSON: parameters in, schemas, rows and errors out."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import duckdb

from worker.adapters.duckdb.dialect import to_bigquery_type

Json = dict[str, Any]

HTTP_OF_REASON: Mapping[str, int] = {
    "accessDenied": 403,
    "backendError": 503,
    "bytesBilledLimitExceeded": 400,
    "duplicate": 409,
    "invalid": 400,
    "invalidQuery": 400,
    "notFound": 404,
    "quotaExceeded": 403,
    "rateLimitExceeded": 403,
    "stopped": 499,
}

_STRUCT = re.compile(r"STRUCT\((.*)\)")
# Of plain types only: a struct in a struct, or a decimal, has commas and brackets inside.
_STRUCT_PART = re.compile(r"(\S+) ([A-Z][A-Z ]*)")
LEGACY_TYPES = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN"}


class WireError(Exception):
    """What a call or a job is answered with instead of a result."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    @property
    def proto(self) -> Json:
        """The error as it stands in a job's status."""
        return {"reason": self.reason, "message": self.message, "location": "query"}

    @property
    def status(self) -> int:
        """The HTTP status of a call that fails so."""
        return HTTP_OF_REASON.get(self.reason, 400)

    @property
    def body(self) -> Json:
        """The body of a call that fails so."""
        listed = [{"reason": self.reason, "message": self.message, "domain": "global"}]
        return {"error": {"code": self.status, "message": self.message, "errors": listed}}


_READERS: Mapping[str, Callable[[str], Any]] = {
    "INT64": int,
    "INTEGER": int,
    "FLOAT64": float,
    "FLOAT": float,
    "BOOL": lambda text: text.lower() == "true",
    "BOOLEAN": lambda text: text.lower() == "true",
    "STRING": str,
    "DATE": date.fromisoformat,
    "TIMESTAMP": lambda text: datetime.fromisoformat(text).astimezone(UTC),
}


def read_parameters(listed: Sequence[Json]) -> dict[str, Any]:
    """Read named query parameters.

    Raises:
        WireError: One has no name, or a type that this peer does not know.
    """
    return {_name(one): _value(one["parameterType"], one.get("parameterValue") or {}) for one in listed}


def _name(parameter: Json) -> str:
    if not parameter.get("name"):
        raise WireError("invalid", "this peer takes named parameters only")
    return str(parameter["name"])


def _value(kind: Json, value: Json) -> Any:
    if kind["type"] == "ARRAY":
        return [_value(kind["arrayType"], item) for item in value.get("arrayValues", ())]
    reader = _READERS.get(kind["type"])
    if reader is None:
        raise WireError("invalid", f"this peer takes no parameter of type {kind['type']}")
    text = value.get("value")
    return None if text is None else reader(str(text))


def schema_of(description: Sequence[Any]) -> list[Json]:
    """Describe the columns of a DuckDB result."""
    return [field(str(column[0]), str(column[1])) for column in description]


def field(name: str, duckdb_type: str, *, required: bool = False) -> Json:
    """Describe one column; whole numbers of any width are INT64, as a BigQuery sum of them is."""
    repeated = duckdb_type.endswith("[]")
    if (parts := _STRUCT.fullmatch(duckdb_type.removesuffix("[]"))) is not None:
        inside = [field(part.strip('"'), kind) for part, kind in _STRUCT_PART.findall(parts[1])]
        return {"name": name, "type": "RECORD", "mode": "REPEATED" if repeated else "NULLABLE", "fields": inside}
    kind = to_bigquery_type(duckdb_type.removesuffix("[]"))
    # A NULL without a type is an INT64, too.
    kind = "INT64" if kind in {"BIGNUMERIC", '"NULL"'} else kind
    mode = "REPEATED" if repeated else "REQUIRED" if required else "NULLABLE"
    return {"name": name, "type": LEGACY_TYPES.get(kind, kind), "mode": mode}


def row(values: Sequence[Any]) -> Json:
    """Write one row."""
    return {"f": [cell(value) for value in values]}


def cell(value: object) -> Json:
    """Write one value; instants as microseconds, which is what the client asks for."""
    match value:
        case None:
            return {"v": None}
        case bool():
            return {"v": "true" if value else "false"}
        case datetime():
            return {"v": str(_microseconds(value))}
        case date() | time():
            return {"v": value.isoformat()}
        case dict():
            return {"v": row(list(value.values()))}
        case list():
            return {"v": [cell(item) for item in value]}
        case float():
            return {"v": repr(value)}
        case int() | str() | Decimal():
            return {"v": str(value)}
        case _:
            raise WireError("invalid", f"this peer cannot answer with a {type(value).__name__}")


def _microseconds(instant: datetime) -> int:
    since = (instant if instant.tzinfo else instant.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def engine_error(error: duckdb.Error) -> WireError:
    """Say a DuckDB error in BigQuery's words."""
    text = str(error).strip().splitlines()[0]
    if isinstance(error, duckdb.TransactionException):
        return aborted(text)
    if isinstance(error, duckdb.CatalogException):
        return WireError("notFound", f"Not found: {text}")
    if isinstance(error, duckdb.BinderException):
        return WireError("invalidQuery", f"Unrecognized name: {text}")
    return WireError("invalidQuery", text)


def aborted(detail: str) -> WireError:
    """Say that another transaction won."""
    return WireError("invalidQuery", f"Transaction is aborted due to concurrent update against table {detail}")
