"""What the stack says of itself once the nights are played: the store by `mlfs status`, Prometheus, Alertmanager."""

import json
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from time import monotonic
from typing import Any

from tests.support.compose_runner.local import fetch
from worker.errors import Unavailable

# Two scrapes and two evaluations at the shipped 15 seconds, and some.
SEEN_WITHIN_S = 75.0
_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Prometheus at a base address."""

    address: str

    def _get(self, path: str, **parameters: str) -> Any:
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        try:
            return json.loads(fetch(f"{self.address}/api/v1/{path}{query}"))["data"]
        except OSError as exc:
            raise Unavailable(f"Prometheus does not answer at {self.address}: {exc}") from exc

    def values(self, expression: str, label: str) -> dict[str, float]:
        """Give an expression's values now, by one label."""
        found = self._get("query", query=expression)["result"]
        return {one["metric"].get(label, ""): float(one["value"][1]) for one in found}

    def look(self) -> dict[str, Any]:
        """Give what a person would look at first."""
        groups = self._get("rules")["groups"]
        alerts = self._get("alerts")["alerts"]
        return {
            "up": self.values("up", "job"),
            "published_generation": self.values("mlfs_date_published_generation > 0", "analysis_date"),
            "quality_score": self.values("mlfs_date_quality_score", "analysis_date"),
            "rules": sum(len(group["rules"]) for group in groups),
            "rules_failing": [rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "err"],
            "alerts": sorted(f"{one['labels']['alertname']} ({one['state']})" for one in alerts),
            "alertmanagers": [one["url"] for one in self._get("alertmanagers")["activeAlertmanagers"]],
        }


def wait_until_seen(prometheus: Prometheus, published: Sequence[str], tell: Callable[[str], None]) -> dict[str, Any]:
    """Wait until Prometheus shows every date as published and has evaluated its rules; give what it shows.

    Raises:
        Unavailable: It does not within the time.
    """
    tell("waiting for Prometheus to scrape and to evaluate its rules")
    pause = Event()
    began = monotonic()
    while monotonic() - began < SEEN_WITHIN_S:
        seen = prometheus.look()
        recorded = prometheus.values("mlfs:date_published_generation > 0", "analysis_date")
        if set(published) <= seen["published_generation"].keys() & recorded.keys():
            return seen
        pause.wait(_POLL_S)
    raise Unavailable(f"Prometheus does not show {', '.join(published)} as published within {SEEN_WITHIN_S:.0f} s")
