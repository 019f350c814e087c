"""Everything goes wrong on the bus, and every report counts once. `make chaos-bus` plays 100,000 of them."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from statemachine.events import CompletionReceived
from statemachine.model import Completion, CompletionStatus
from tests.chaos.bus import EVERYTHING, play
from tests.chaos.sent import Report, reports, violations
from tests.support.memory_store import MemoryStore
from tests.support.nights import EVENING
from tests.support.rigs import Rig
from worker.local.pubsub.faults import FaultPlan, PlannedFaults
from worker.local.pubsub.model import CallRefused, RefusalCode
from worker.ports import HistoryEntry


class CertainFaults(PlannedFaults):
    """By a plan, and besides one stream that ends and one that falls silent, early on."""

    def __init__(self, plan: FaultPlan) -> None:
        super().__init__(plan)
        self.looks = 0

    def on_stream(self, subscription: str, stream: str) -> bool:
        self.looks += 1
        if self.looks == 5:
            self.counts["close"] += 1
            raise CallRefused(RefusalCode.UNAVAILABLE, "Closed by the test.")
        if self.looks == 10:
            self.counts["stall"] += 1
            self._silent.add(stream)
        return super().on_stream(subscription, stream)


@pytest.mark.slow
def test_with_every_fault_on_no_report_is_lost_and_none_counts_twice(tmp_path: Path) -> None:
    faults = CertainFaults(replace(EVERYTHING, stall=0.0, close=0.0))

    result = play(tmp_path, events=1500, faults=faults, timeout_s=50.0)

    assert all(result.faults[name] for name in ("duplicate", "drop_ack", "reorder", "stall", "close"))
    assert result.deliveries > result.published, "some came twice"
    assert result.streams_recycled["silent"] >= 1
    assert (0, 0, []) == (result.undelivered, result.unexpected_failures, result.violations)


def completion(report: Report) -> Completion:
    return Completion(
        processor=report.processor,
        status=CompletionStatus.SUCCESS,
        identity=f"run-{report.run}",
        completed_at=EVENING + timedelta(minutes=report.run),
        received_at=EVENING,
        row_count=report.rows,
    )


def told(reported: list[Report], store: MemoryStore | None = None) -> MemoryStore:
    rig = Rig(store=store or MemoryStore())
    for report in reported:
        rig.engine.apply(report.analysis_date, CompletionReceived(completion=completion(report)))
    assert isinstance(rig.store, MemoryStore)
    return rig.store


class StutteringStore(MemoryStore):
    """Tells each change twice."""

    def history(self, analysis_date: object) -> list[HistoryEntry]:
        return [entry for entry in super().history(analysis_date) for _ in range(2)]  # type: ignore[arg-type]


def test_the_checker_is_content_with_a_store_that_holds_everything_once() -> None:
    sent = reports(1)

    assert violations(sent, told(sent)) == []
    assert violations(sent, told(sent[::-1])) == [], "the order is no matter"


@pytest.mark.parametrize("place", [0, 3, -1])
def test_the_checker_misses_no_lost_report(place: int) -> None:
    sent = reports(1)

    assert violations(sent, told([report for report in sent if report is not sent[place]]))


def test_the_checker_notices_what_counted_twice_and_what_nobody_sent() -> None:
    sent = reports(1)

    assert any("2 times" in found for found in violations(sent, told(sent, StutteringStore())))
    assert any("nobody spoke of it" in found for found in violations(sent[:4], told(sent)))
