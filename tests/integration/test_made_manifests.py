"""Deployment files that are made from others are what making them again would give."""

from typing import Any

import pytest

from ops.generate.manifests import OPS, absolute, made, tables, views, with_runbook
from worker.pipelines.shipped import SHIPPED
from worker.pipelines.sql_checks import declared_columns


def test_every_made_file_is_as_it_would_be_made_now() -> None:
    stale = [str(path.relative_to(OPS)) for path, text in made().items() if path.read_text("utf-8") != text]

    assert stale == [], "run: make manifests"


ALERT = '- alert: MlfsSlaMissed\n  annotations:\n    runbook_url: ""\n'


def test_each_alert_links_to_its_section_at_the_address_of_the_installation() -> None:
    text = with_runbook(ALERT + ALERT.replace("SlaMissed", "Fenced"), absolute("https://wiki.league.example/mlfs/"))

    assert text.count("    runbook_url: https://wiki.league.example/mlfs/runbook.md#") == 2
    assert text.endswith("#mlfsfenced\n")


@pytest.mark.parametrize("text", [ALERT.partition("    runbook")[0] + ALERT, ALERT + "    runbook_url: x\n"])
def test_an_alert_without_a_link_or_with_two_is_noticed(text: str) -> None:
    with pytest.raises(ValueError, match="runbook_url"):
        with_runbook(text, "https://wiki.league.example")


@pytest.mark.parametrize("address", ["docs", "/docs", "docs.example.com/mlfs", "https:///docs", "file:///docs", ""])
def test_an_address_that_no_pager_can_open_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="must begin with https://HOST"):
        absolute(address)


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
