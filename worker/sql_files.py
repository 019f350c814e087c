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


def _load(folder: str) -> Mapping[str, str]:
    files = sorted((resources.files("worker.features") / folder).iterdir(), key=lambda file: file.name)
    texts = {file.name.removesuffix(".sql"): file.read_text("utf-8") for file in files if file.name.endswith(".sql")}
    return MappingProxyType(texts)
