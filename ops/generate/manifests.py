"""`make manifests`: deployment files generated from other files, so that rules and tables have a single source.

- The alert rules of `ops/prometheus`, as custom resources of the Prometheus operator and of Google's operator.
- The own tables and views of the product (`mlfs sql`), as JSON for `ops/terraform`.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from worker.pipelines.shipped import SHIPPED

OPS = Path(__file__).parents[1]
RULE_FILES = ("rules", "alerts")
OPERATOR, GOOGLE = "monitoring.coreos.com/v1", "monitoring.googleapis.com/v1"

PROJECT = "`project`"
"""Placeholder for the project in `views.json`: BigQuery's API requires the project of every table in a view."""

_COLUMN = re.compile(r"^  (\w+) (ARRAY<)?(STRUCT<(.+)>|[A-Z0-9]+?)>?( NOT NULL)?,?$")
_PURPOSE = re.compile(r"^-- Purpose: +(.+(?:\n-- {5,}.+)*)", re.MULTILINE)
_PLACED = re.compile(r"^PARTITION BY (\w+)\nCLUSTER BY ([\w, ]+)$", re.MULTILINE)


def made() -> Mapping[Path, str]:
    """Return the text of each generated file, by path."""
    texts = {
        OPS / "k8s/overlays/prometheus-operator/prometheus-rules.yaml": _rules(OPERATOR, "PrometheusRule"),
        OPS / "k8s/overlays/gke/rules.yaml": _rules(GOOGLE, "Rules"),
        OPS / "terraform/tables.json": json.dumps(tables(), indent=2) + "\n",
        OPS / "terraform/views.json": json.dumps(views(), indent=2) + "\n",
    }
    return MappingProxyType(texts)


def _rules(version: str, kind: str) -> str:
    """Wrap each rule file, verbatim, into a custom resource."""
    label = "  labels:\n    release: kube-prometheus-stack\n" if kind == "PrometheusRule" else ""
    documents = []
    for name in RULE_FILES:
        text = (OPS / "prometheus" / f"{name}.yml").read_text(encoding="utf-8")
        spec = "".join(f"  {line}" if line.strip() else line for line in text.splitlines(keepends=True))
        head = f"apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: mlfs-{name}\n{label}spec:\n"
        documents.append(f"# Made from ops/prometheus/{name}.yml by make manifests.\n{head}{spec}")
    return "---\n".join(documents)


def tables() -> dict[str, dict[str, Any]]:
    """Read the own tables from the DDL; return {table: description, partition, clustering, schema}."""
    return {table.partition(".")[2]: _table(table, SHIPPED.ddl_of(table)) for table in sorted(SHIPPED.tables.stored)}


def views() -> dict[str, dict[str, str]]:
    """Read the own views from the DDL; return {view: description, query}."""
    return {view.partition(".")[2]: _view(view, SHIPPED.ddl_of(view)) for view in sorted(SHIPPED.tables.views)}


def _view(view: str, ddl: str) -> dict[str, str]:
    purpose, body = _PURPOSE.search(ddl), ddl.partition(f"CREATE OR REPLACE VIEW {view} AS\n")[2]
    if purpose is None or not body:
        raise ValueError(f"the DDL of {view} does not have the form of the other views")
    dataset = view.partition(".")[0]
    query = re.sub(rf"\b(FROM|JOIN) ({dataset}\.)", rf"\1 {PROJECT}.\2", body)
    return {"description": _as_line(purpose[1]), "query": query}


def _table(name: str, ddl: str) -> dict[str, Any]:
    purpose, placed = _PURPOSE.search(ddl), _PLACED.search(ddl)
    columns = re.search(rf"{re.escape(name)} \(\n(.+)\n\)\n", ddl, re.DOTALL)
    if purpose is None or placed is None or columns is None:
        raise ValueError(f"the DDL of {name} does not have the form of the other tables")
    return {
        "description": _as_line(purpose[1]),
        "partition": placed[1],
        "clustering": placed[2].split(", "),
        "schema": [_column(line) for line in columns[1].splitlines()],
    }


def _as_line(comment: str) -> str:
    return re.sub(r"\n-- +", " ", comment)


def _column(line: str) -> dict[str, Any]:
    found = _COLUMN.match(line)
    if found is None:
        raise ValueError(f"not a column that BigQuery's JSON schema can hold: {line}")
    name, is_array, kind, parts, is_required = found.groups()
    mode = "REPEATED" if is_array else "REQUIRED" if is_required else "NULLABLE"
    if parts is None:
        return {"name": name, "type": kind, "mode": mode}
    fields = [_column(f"  {part}") for part in parts.split(", ")]
    return {"name": name, "type": "RECORD", "mode": mode, "fields": fields}


def main() -> None:
    """Write the generated files."""
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
