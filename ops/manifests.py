"""`make manifests`: the deployment files that are made from others, so that rules and tables have one source.

- The alert rules of `ops/prometheus`, as custom resources of the Prometheus operator and of Google's.
- The product's own tables (`mlfs sql`), as the JSON that `ops/terraform` reads.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from worker.catalogue import SHIPPED

OPS = Path(__file__).parent
RULE_FILES = ("rules", "alerts")
OPERATOR, GOOGLE = "monitoring.coreos.com/v1", "monitoring.googleapis.com/v1"

_COLUMN = re.compile(r"^  (\w+) (ARRAY<)?([A-Z0-9]+)>?( NOT NULL)?,?$")
_PURPOSE = re.compile(r"^-- Purpose: +(.+(?:\n-- {5,}.+)*)", re.MULTILINE)
_PLACED = re.compile(r"^PARTITION BY (\w+)\nCLUSTER BY ([\w, ]+)$", re.MULTILINE)


def made() -> Mapping[Path, str]:
    """Give the text of each made file, by its path."""
    texts = {
        OPS / "k8s/overlays/prometheus-operator/prometheus-rules.yaml": _rules(OPERATOR, "PrometheusRule"),
        OPS / "k8s/overlays/gke/rules.yaml": _rules(GOOGLE, "Rules"),
        OPS / "terraform/tables.json": json.dumps(tables(), indent=2) + "\n",
    }
    return MappingProxyType(texts)


def _rules(version: str, kind: str) -> str:
    """Wrap each rule file, verbatim, into one custom resource."""
    label = "  labels:\n    release: kube-prometheus-stack\n" if kind == "PrometheusRule" else ""
    documents = []
    for name in RULE_FILES:
        text = (OPS / "prometheus" / f"{name}.yml").read_text(encoding="utf-8")
        spec = "".join(f"  {line}" if line.strip() else line for line in text.splitlines(keepends=True))
        head = f"apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: mlfs-{name}\n{label}spec:\n"
        documents.append(f"# Made from ops/prometheus/{name}.yml by make manifests.\n{head}{spec}")
    return "---\n".join(documents)


def tables() -> dict[str, dict[str, Any]]:
    """Read the product's own tables out of their DDL: {table: description, partition, clustering, schema}."""
    made = {table.partition(".")[2]: SHIPPED.ddl_of(table) for table in sorted(SHIPPED.tables.all)}
    return {name: _table(name, ddl) for name, ddl in made.items()}


def _table(name: str, ddl: str) -> dict[str, Any]:
    purpose, placed = _PURPOSE.search(ddl), _PLACED.search(ddl)
    columns = re.search(rf"nba_predictions\.{name} \(\n(.+)\n\)\n", ddl, re.DOTALL)
    if purpose is None or placed is None or columns is None:
        raise ValueError(f"the DDL of {name} does not have the form of the other tables")
    return {
        "description": re.sub(r"\n-- +", " ", purpose[1]),
        "partition": placed[1],
        "clustering": placed[2].split(", "),
        "schema": [_column(line) for line in columns[1].splitlines()],
    }


def _column(line: str) -> dict[str, str]:
    found = _COLUMN.match(line)
    if found is None:
        raise ValueError(f"not a column that BigQuery's JSON schema can hold: {line}")
    name, is_array, kind, is_required = found.groups()
    return {"name": name, "type": kind, "mode": "REPEATED" if is_array else "REQUIRED" if is_required else "NULLABLE"}


def main() -> None:
    """Write them."""
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
