"""The dashboard's panels as data, and their queries as Grafana would put them to Prometheus."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.alerting import ROOT

BOARD: dict[str, Any] = json.loads((ROOT / "ops/grafana/dashboards/mlfs.json").read_text(encoding="utf-8"))
# What Grafana puts in for its variables: the scrape interval of a played night is a second, and every job is chosen.
FILLED_IN = {"$__rate_interval": "10s", "$job": ".+"}


@dataclass(frozen=True)
class Target:
    """One query of a panel; *legend* may name labels in double braces."""

    expr: str
    legend: str

    def name(self, labels: Mapping[str, str]) -> str:
        text = self.legend
        for label, value in labels.items():
            text = text.replace(f"{{{{{label}}}}}", value)
        return text


@dataclass(frozen=True)
class Panel:
    """One panel; *raw* is what Grafana reads."""

    row: str
    title: str
    kind: str
    targets: Sequence[Target]
    raw: Mapping[str, Any]

    @property
    def defaults(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.raw.get("fieldConfig", {}).get("defaults", {})
        return found


def filled_in(expr: str, values: Mapping[str, str] = FILLED_IN) -> str:
    for variable, value in values.items():
        expr = expr.replace(variable, value)
    return expr


def panels() -> Iterator[Panel]:
    """Every panel that asks something, in the order of the dashboard."""
    row = ""
    for raw in BOARD["panels"]:
        if raw["type"] == "row":
            row = raw["title"]
            continue
        targets = [Target(filled_in(one["expr"]), one["legendFormat"]) for one in raw["targets"]]
        yield Panel(row, raw["title"], raw["type"], targets, raw)


def finite(series: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The series of a range answer that show anything at all: one number is enough, NaN is none."""
    return [one for one in series if any(math.isfinite(float(value)) for _, value in one["values"])]


def highest(one: Mapping[str, Any]) -> float:
    """The highest value of a series, NaN left out."""
    return max((float(value) for _, value in one["values"] if math.isfinite(float(value))), default=0.0)
