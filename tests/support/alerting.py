"""The alert rules as data, and every sample that a worker emits over nights that succeed, fail and are cancelled."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from statemachine.events import CancelRequested
from statemachine.model import FailureKind, Finding, FindingSeverity
from tests.support.nights import (
    CACHE,
    CALENDAR,
    NIGHT,
    PROCESSORS,
    broke,
    claimed,
    closed,
    committed,
    failure,
    success,
)
from tests.support.rigs import Rig
from worker.features.findings import Check, FindingPolicy
from worker.observing.metrics import Metrics
from worker.observing.observer import BuildEnded, DeadLetterTopicChecked, Received

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "ops" / "prometheus"
_SELECTOR = re.compile(r"\b((?:mlfs|process)_[a-z0-9_]+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(=~|!=|=)"([^"]*)"')


@dataclass(frozen=True)
class Alert:
    name: str
    expr: str
    severity: str
    annotations: Mapping[str, str]


@dataclass(frozen=True)
class Selector:
    """A metric as an expression names it; matchers are (label, operator, value)."""

    metric: str
    matchers: Sequence[tuple[str, str, str]]

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        return name == self.metric and all(
            label in labels and _holds(labels[label], operator, value) for label, operator, value in self.matchers
        )


def _holds(actual: str, operator: str, value: str) -> bool:
    if operator == "=~":
        return re.fullmatch(value, actual) is not None
    return (actual == value) is (operator == "=")


def _rules(file: str) -> Iterator[Mapping[str, Any]]:
    for group in yaml.safe_load((PROMETHEUS / file).read_text(encoding="utf-8"))["groups"]:
        yield from group["rules"]


def alerts() -> list[Alert]:
    return [
        Alert(rule["alert"], rule["expr"], rule["labels"]["severity"], rule["annotations"])
        for rule in _rules("alerts.yml")
    ]


def recorded() -> dict[str, str]:
    """Expressions of the recording rules by name."""
    return {rule["record"]: rule["expr"] for rule in _rules("rules.yml")}


def selectors(expression: str) -> list[Selector]:
    return [Selector(name, _MATCHER.findall(inside)) for name, inside in _SELECTOR.findall(expression)]


def findings_of(*found: tuple[str, FindingSeverity]) -> tuple[Finding, ...]:
    """Findings of these checks and severities."""
    return tuple(
        Finding(check=check, severity=level, subject="pace", observed="100 %", expected="25 %", next_step="look")
        for check, level in found
    )


def emitted() -> list[tuple[str, Mapping[str, str]]]:
    """Name and labels of every sample that some scrape of the three nights shows."""
    metrics = Metrics(PROCESSORS)
    rig = Rig(notes=metrics)  # type: ignore[arg-type]
    metrics.show_dates(rig.store, rig.clock, lambda: CALENDAR, FindingPolicy())
    metrics.show_canary(lambda: {"built": 0.0})
    found: dict[str, tuple[str, Mapping[str, str]]] = {}

    def scrape() -> None:
        for family in metrics.registry.collect():
            found.update({f"{one.name}{one.labels}": (one.name, one.labels) for one in family.samples})

    scrape()
    joined = [success(name) for name in PROCESSORS]
    for name in PROCESSORS:
        metrics.note(Received(outcome="recorded", processor=name, seconds=0.001))
    metrics.note(BuildEnded(mode="normal", result="done", seconds=1.0))
    metrics.note(DeadLetterTopicChecked(topic="phase4-processor-success-dlq", fault=None))
    doubt = findings_of((Check.UNCHANGED, FindingSeverity.CRITICAL), (Check.SHIFTED, FindingSeverity.WARNING))
    good = [failure(CACHE), *joined, claimed(), committed(findings=doubt)]
    bad = [*joined, claimed(), broke(FailureKind.FATAL), closed()]
    cancelled = [success(CACHE), CancelRequested(actor="ana", reason="no game was played")]
    nights = [good, bad, cancelled]
    for night, events in ((NIGHT - timedelta(days=back), events) for back, events in enumerate(nights)):
        for event in events:
            rig.engine.apply(night, event)
            scrape()
    return list(found.values())
