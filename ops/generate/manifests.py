"""`make manifests`: deployment files generated from other files, so that rules and tables have a single source.

- The links of alerts and dashboard to the documentation: only `[tool.mlfs] docs_url` of `pyproject.toml` holds the
  address.
- The alert rules of `ops/prometheus`, as custom resources of the Prometheus operator and of Google's operator.
- The own tables and views of the product (`mlfs sql`), as JSON for `ops/terraform`.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from worker.features.pipeline import Column
from worker.features.sql import read_head
from worker.pipelines.shipped import SHIPPED
from worker.pipelines.sql_checks import declared_columns, placement, split_type

OPS = Path(__file__).parents[1]
RULE_FILES = ("rules", "alerts")
OPERATOR, GOOGLE = "monitoring.coreos.com/v1", "monitoring.googleapis.com/v1"

_ALERT = re.compile(r"\s*- alert: (\w+)\s*$")
_LINK = re.compile(r"^(\s+runbook_url: )\S*#", re.MULTILINE)
_RUNBOOK = re.compile(r"(\s+runbook_url: )")

PROJECT = "`project`"
"""Placeholder for the project in `views.json`: BigQuery's API requires the project of every table in a view."""


def made() -> Mapping[Path, str]:
    """Return the text of each generated file, by path."""
    address = docs_address()
    alerts, board = OPS / "prometheus/alerts.yml", OPS / "grafana/dashboards/mlfs.json"
    tests = sorted((OPS / "prometheus/tests").glob("*.yml"))
    texts = {
        **{file: _LINK.sub(rf"\1{address}/runbook.md#", file.read_text(encoding="utf-8")) for file in tests},
        alerts: with_runbook(alerts.read_text(encoding="utf-8"), address),
        board: with_docs(board.read_text(encoding="utf-8"), address),
        OPS / "k8s/overlays/prometheus-operator/prometheus-rules.yaml": _rules(OPERATOR, "PrometheusRule"),
        OPS / "k8s/overlays/gke/rules.yaml": _rules(GOOGLE, "Rules"),
        OPS / "terraform/tables.json": json.dumps(tables(), indent=2) + "\n",
        OPS / "terraform/docs.json": json.dumps({"docs_url": address}, indent=2) + "\n",
        OPS / "terraform/views.json": json.dumps(views(), indent=2) + "\n",
    }
    return MappingProxyType(texts)


def docs_address() -> str:
    """Return the address at which the installation serves `docs/`, without a slash at the end.

    Raises:
        ValueError: The address is not absolute.
    """
    project = tomllib.loads((OPS.parent / "pyproject.toml").read_text(encoding="utf-8"))
    return absolute(project["tool"]["mlfs"]["docs_url"])


def absolute(address: str) -> str:
    """Return the address without a slash at the end.

    Raises:
        ValueError: The address is not absolute: no pager can open a relative link.
    """
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"[tool.mlfs] docs_url of pyproject.toml is {address!r}, and must begin with https://HOST")
    return address.rstrip("/")


def with_runbook(text: str, address: str) -> str:
    """Return the alert rules with the address of its runbook section in each alert; *text* is YAML.

    Raises:
        ValueError: An alert has no line for the address, or a line stands outside an alert.
    """
    alert, lines = "", []
    for line in text.splitlines(keepends=True):
        if found := _ALERT.match(line):
            if alert:
                raise ValueError(f"{alert} has no line runbook_url")
            alert = found[1]
        elif found := _RUNBOOK.match(line):
            if not alert:
                raise ValueError("a line runbook_url belongs to no alert, or to an alert with two such lines")
            line = f"{found[1]}{address}/runbook.md#{alert.lower()}\n"  # noqa: PLW2901 - the line as it is written
            alert = ""
        lines.append(line)
    return "".join(lines)


def with_docs(text: str, address: str) -> str:
    """Return the dashboard with *address* as the first value of the variable `docs`; *text* is JSON."""
    board = json.loads(text)
    [variable] = [variable for variable in board["templating"]["list"] if variable["name"] == "docs"]
    variable |= {"query": address, "current": {"text": address, "value": address}}
    return json.dumps(board, indent=2, ensure_ascii=False) + "\n"


def _rules(version: str, kind: str) -> str:
    """Wrap each rule file, verbatim, into a custom resource."""
    label = "  labels:\n    release: kube-prometheus-stack\n" if kind == "PrometheusRule" else ""
    documents = []
    for name in RULE_FILES:
        text = (OPS / "prometheus" / f"{name}.yml").read_text(encoding="utf-8")
        if name == "alerts":
            text = with_runbook(text, docs_address())
        spec = "".join(f"  {line}" if line.strip() else line for line in text.splitlines(keepends=True))
        head = f"apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: mlfs-{name}\n{label}spec:\n"
        documents.append(f"# Made from ops/prometheus/{name}.yml by make manifests.\n{head}{spec}")
    return "---\n".join(documents)


def tables() -> dict[str, dict[str, Any]]:
    """Read the product's own tables out of their DDL: {table: description, partition, clustering, schema}."""
    return {table.partition(".")[2]: _table(SHIPPED.ddl_of(table)) for table in sorted(SHIPPED.tables.stored)}


def views() -> dict[str, dict[str, str]]:
    """Read the own views from the DDL; return {view: description, query}."""
    return {view.partition(".")[2]: _view(view, SHIPPED.ddl_of(view)) for view in sorted(SHIPPED.tables.views)}


def _view(view: str, ddl: str) -> dict[str, str]:
    body = ddl.partition(f"CREATE OR REPLACE VIEW {view} AS\n")[2]
    if not body:
        raise ValueError(f"the DDL of {view} does not have the form of the other views")
    dataset = view.partition(".")[0]
    query = re.sub(rf"\b(FROM|JOIN) ({dataset}\.)", rf"\1 {PROJECT}.\2", body)
    return {"description": read_head(ddl)["Purpose"], "query": query}


def _table(ddl: str) -> dict[str, Any]:
    partition, clustering = placement(ddl)
    return {
        "description": read_head(ddl)["Purpose"],
        "partition": partition,
        "clustering": list(clustering),
        "schema": [_column(column) for column in declared_columns(ddl).values()],
    }


def _column(column: Column) -> dict[str, Any]:
    """Return a column as BigQuery's JSON schema writes columns."""
    is_array, kind, fields = split_type(column.type)
    mode = "REPEATED" if is_array else "REQUIRED" if column.required else "NULLABLE"
    if not fields:
        return {"name": column.name, "type": kind, "mode": mode}
    return {"name": column.name, "type": "RECORD", "mode": mode, "fields": [_column(part) for part in fields]}


def main() -> None:
    """Write the generated files."""
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
