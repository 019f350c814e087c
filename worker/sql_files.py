"""The SQL that ships with the package, read as text; the pure modules that use it may not open files."""

from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType


@cache
def load_sql() -> Mapping[str, str]:
    """Give the statements of `worker/features/sql` by name, in BigQuery dialect."""
    return _load("sql")


@cache
def load_ddl() -> Mapping[str, str]:
    """Give the CREATE TABLE statements of `worker/features/ddl` by table name, in BigQuery dialect."""
    return _load("ddl")


@cache
def load_upstream_ddl() -> Mapping[str, str]:
    """Give the CREATE TABLE statements of the tables that a build reads, by table name, with all their columns.

    Upstream owns these tables: nothing here creates them where they are missing. The statements say how they have to
    look and lie, for whoever sets a project up, and for the sample data and the tests.
    """
    return _load("ddl/upstream")


@cache
def load_optional_ddl() -> Mapping[str, str]:
    """Give the statements of what no build reads: the materialized view and the Phase 3 cache of ADR 0013."""
    return _load("ddl/optional")


def _load(folder: str) -> Mapping[str, str]:
    files = sorted(
        resources.files("worker.features").joinpath(*folder.split("/")).iterdir(), key=lambda file: file.name
    )
    texts = {file.name.removesuffix(".sql"): file.read_text("utf-8") for file in files if file.name.endswith(".sql")}
    return MappingProxyType(texts)
