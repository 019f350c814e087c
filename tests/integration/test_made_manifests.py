"""Deployment files that are made from others are what making them again would give."""

from ops.manifests import OPS, made, tables
from worker.adapters.warehouse_bigquery_sql import declared_columns
from worker.catalogue import OWN_TABLES, SHIPPED


def test_every_made_file_is_as_it_would_be_made_now() -> None:
    stale = [str(path.relative_to(OPS)) for path, text in made().items() if path.read_text("utf-8") != text]

    assert stale == [], "run: make manifests"


def test_terraform_gets_every_table_as_the_worker_declares_it() -> None:
    given = {f"nba_predictions.{name}": table for name, table in tables().items()}

    assert set(given) == set(OWN_TABLES)
    for name, table in given.items():
        types = {
            column["name"]: f"ARRAY<{column['type']}>" if column["mode"] == "REPEATED" else column["type"]
            for column in table["schema"]
        }
        assert types == declared_columns(SHIPPED, name)
        assert table["partition"] == "analysis_date"
        assert set(table["clustering"]) <= set(types)
