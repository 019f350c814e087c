"""Conversion of Parquet columns to the types of the catalogue, where both types hold the same values. Pure.

Writers choose types by habit: pandas writes dates as timestamps, instants in nanoseconds, ids as unsigned numbers, and
a column without values as the type NULL. Such a column is converted. Text in place of a number, or an instant in place
of a date, has other values: the column keeps the type of the file, and a build treats the column as retyped.

Some conversions hold for every value of the type, the others for some values: `Conversion.fits` tests a value, and the
expression of a column raises an error for a value that does not fit, so that no value changes silently.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from worker.adapters.duckdb.dialect import quoted, to_bigquery_type

NAIVE_TIMESTAMPS = frozenset({"TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"})
INSTANTS = frozenset({"TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ_NS", "TIMESTAMP_NS WITH TIME ZONE"})

_SHORT_INTEGERS = frozenset({"TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER"})
_LONG_INTEGERS = frozenset({"UBIGINT", "HUGEINT", "UHUGEINT"})
_FLOATS = frozenset({"FLOAT", "DOUBLE"})
_TEXTS = frozenset({"UUID", "JSON"})
_WIDTHS = re.compile(r"\(.*\)", re.DOTALL)

# From this magnitude on, two whole numbers share a float.
_WHOLE_FLOATS_BELOW = 2**53

DUCKDB_TYPES: Mapping[str, str] = {
    "INT64": "BIGINT",
    "FLOAT64": "DOUBLE",
    "STRING": "VARCHAR",
    "BOOL": "BOOLEAN",
    "DATE": "DATE",
    "TIMESTAMP": "TIMESTAMP WITH TIME ZONE",
}
"""DuckDB's names of the types that a column of the catalogue may have, as DESCRIBE shows the names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """Expressions over the column `{}` that convert a type of a file into a type of the catalogue.

    Attributes:
        value: The converted value.
        fits: Condition for a value, not NULL, that the wanted type holds; empty if the wanted type holds every value.
        missing: Condition for a value that stands for no value; empty if the type has no such value.
    """

    value: str
    fits: str = ""
    missing: str = ""

    def expression(self, name: str, wanted: str) -> str:
        """Return the SQL of a column; a value that does not fit raises an error with column, type and value.

        Args:
            name: The column.
            wanted: BigQuery's name of the wanted type, for the error.
        """
        column = identifier(name)
        value = self.value.replace("{}", column)
        if self.fits:
            # The text holds no braces: the name comes in after the replacement.
            text = f"concat({quoted(f'{name} is to be {wanted}, which does not hold ')}, CAST({column} AS VARCHAR))"
            value = f"CASE WHEN {column} IS NULL OR {self.condition(name)} THEN {value} ELSE error({text}) END"
        if self.missing:
            value = f"CASE WHEN NOT ({self.missing.replace('{}', column)}) THEN {value} END"
        return value

    def condition(self, name: str) -> str:
        """Return the SQL condition under which the wanted type holds a value, not NULL, of a column."""
        column = identifier(name)
        parts = [part for part in (self.missing, self.fits) if part]
        return "(" + " OR ".join(f"({part})" for part in parts).replace("{}", column) + ")" if parts else "TRUE"


def identifier(name: str) -> str:
    """Return a column name quoted for DuckDB."""
    return '"' + name.replace('"', '""') + '"'


def type_shown(found: str) -> str:
    """Return the name of a DuckDB type for people: BigQuery's name with DuckDB's where the two differ in kind."""
    if found == '"NULL"':
        return "NULL (no value)"
    if found in NAIVE_TIMESTAMPS:
        return "TIMESTAMP without time zone"
    return {"VARCHAR": "STRING"}.get(found, found)


def is_same_type(found: str, wanted: str) -> bool:
    """Return whether a DuckDB type is the type of the catalogue, in the same width."""
    return found == DUCKDB_TYPES[wanted] if wanted in DUCKDB_TYPES else to_bigquery_type(found) == wanted


def conversion(found: str, wanted: str) -> Conversion | None:
    """Return the conversion of a DuckDB type into another type of the catalogue; None if the values differ in kind."""
    makers = {"INT64": _to_integer, "FLOAT64": _to_float, "STRING": _to_text, "DATE": _to_date, "TIMESTAMP": to_instant}
    return makers[wanted](_WIDTHS.sub("", found)) if wanted in makers else None


def no_values(wanted: str) -> Conversion | None:
    """Return the conversion of a column without any value into a type; None for a type unknown to this module."""
    return Conversion(value=f"CAST(NULL AS {DUCKDB_TYPES[wanted]})") if wanted in DUCKDB_TYPES else None


def to_instant(found: str) -> Conversion | None:
    """Return the conversion of a timestamp into an instant; a timestamp without time zone is read as UTC."""
    if found in NAIVE_TIMESTAMPS:
        return Conversion(value="CAST({} AS TIMESTAMP) AT TIME ZONE 'UTC'")
    return Conversion(value="CAST({} AS TIMESTAMPTZ)") if found in INSTANTS else None


def _to_integer(found: str) -> Conversion | None:
    if found in _SHORT_INTEGERS:
        return Conversion(value="CAST({} AS BIGINT)")
    if found in _LONG_INTEGERS or found == "DECIMAL":
        return Conversion(value="CAST({} AS BIGINT)", fits="coalesce(TRY_CAST({} AS BIGINT) = {}, FALSE)")
    if found in _FLOATS:
        # pandas turns whole numbers into floats, and missing numbers into NaN, where one number is missing.
        fits = f"abs({{}}) <= {_WHOLE_FLOATS_BELOW} AND {{}} = trunc({{}})"
        return Conversion(value="CAST({} AS BIGINT)", fits=fits, missing="isnan({})")
    return None


def _to_float(found: str) -> Conversion | None:
    numbers = _SHORT_INTEGERS | _LONG_INTEGERS | {"BIGINT", "DECIMAL", "FLOAT"}
    return Conversion(value="CAST({} AS DOUBLE)") if found in numbers else None


def _to_text(found: str) -> Conversion | None:
    return Conversion(value="CAST({} AS VARCHAR)") if found in _TEXTS or found == "ENUM" else None


def _to_date(found: str) -> Conversion | None:
    if found not in NAIVE_TIMESTAMPS | INSTANTS:
        return None
    zone = "" if found in NAIVE_TIMESTAMPS else " AT TIME ZONE 'UTC'"
    moment = f"(CAST({{}} AS TIMESTAMP{'' if not zone else 'TZ'}){zone})"
    return Conversion(value=f"CAST({moment} AS DATE)", fits=f"{moment} = date_trunc('day', {moment})")
