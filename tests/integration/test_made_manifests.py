"""Deployment files that are made from others are what making them again would give."""

from typing import Any

from ops.generate.manifests import OPS, made, tables, views
from worker.pipelines.shipped import SHIPPED
from worker.pipelines.sql_checks import declared_columns


def test_every_made_file_is_as_it_would_be_made_now() -> None:
    stale = [str(path.relative_to(OPS)) for path, text in made().items() if path.read_text("utf-8") != text]

    assert stale == [], "run: make manifests"


def type_of(column: dict[str, Any]) -> str:
    kind = column["type"]
    if kind in {"RECORD", "STRUCT"}:
        inside = ", ".join(f"{part['name']} {type_of(part)}" for part in column["fields"])
        kind = f"STRUCT<{inside}>"
    return f"ARRAY<{kind}>" if column["mode"] == "REPEATED" else kind


def test_terraform_gets_the_views_that_consumers_read() -> None:
    assert {f"nba_predictions.{name}" for name in views()} == set(SHIPPED.tables.views)


def test_terraform_gets_every_table_as_the_worker_declares_it() -> None:
    given = {f"nba_predictions.{name}": table for name, table in tables().items()}

    assert set(given) == set(SHIPPED.tables.stored)
    for name, table in given.items():
        types = {column["name"]: type_of(column) for column in table["schema"]}
        assert types == {column.name: column.type for column in declared_columns(SHIPPED.ddl_of(name)).values()}
        assert table["partition"] == "analysis_date"
        assert set(table["clustering"]) <= set(types)
