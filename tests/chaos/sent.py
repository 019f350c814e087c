"""What the processors say in a chaos run, and a checker that compares it with what the store holds afterwards.

The checker knows neither the bus nor the worker: only what was sent, and what the store and its histories hold now.
Every report carries a row count of its own, by which its entry in a history is recognised.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from statemachine.model import DateRecord, State
from statemachine.reasons import Reason
from worker.pipelines.shipped import PROCESSORS
from worker.ports import HistoryEntry, StateStore

FIRST_DATE = date(2001, 1, 1)
RUNS = 8
# Of two dates one gets a report from each processor and is joined; the other gets many runs of three, and never is.
EVENTS_PER_PAIR = len(PROCESSORS) + (len(PROCESSORS) - 1) * RUNS
_DETAIL = re.compile(r"(\w+) reported success, (\d+) rows")


@dataclass(frozen=True, slots=True)
class Report:
    """One run of one processor."""

    analysis_date: date
    processor: str
    run: int
    rows: int

    @property
    def body(self) -> bytes:
        completed_at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=self.run)
        return json.dumps(
            {
                "processor": self.processor,
                "analysis_date": self.analysis_date.isoformat(),
                "status": "success",
                "run_id": f"run-{self.run}",
                "row_count": self.rows,
                "completed_at": completed_at.isoformat(),
            }
        ).encode()


def reports(count: int) -> list[Report]:
    """At least *count* reports about as many dates as that takes."""
    return list(_reports(-(-count // EVENTS_PER_PAIR)))


def _reports(pairs: int) -> Iterator[Report]:
    for pair in range(pairs):
        joined, open_date = (FIRST_DATE + timedelta(days=2 * pair + offset) for offset in (0, 1))
        for number, processor in enumerate(PROCESSORS):
            yield Report(joined, processor, 0, 1000 + number)
        for run in range(RUNS):
            for number, processor in enumerate(PROCESSORS[1:]):
                yield Report(open_date, processor, run, 1000 + number + 10 * run)


def violations(sent: Sequence[Report], store: StateStore) -> list[str]:
    """What the store got wrong; nothing if every report counted, and none of them twice."""
    by_date: dict[date, list[Report]] = defaultdict(list)
    for report in sent:
        by_date[report.analysis_date].append(report)
    found = [f"{day}: nobody spoke of it" for day in set(store.dates(len(by_date) + 10)) - set(by_date)]
    for day, told in by_date.items():
        record = store.load(day)
        if record is None:
            found.append(f"{day}: lost, with {len(told)} reports")
            continue
        found += [f"{day}: {what}" for what in _of_date(told, record, store.history(day))]
    return found


def _of_date(told: Sequence[Report], record: DateRecord, history: Sequence[HistoryEntry]) -> Iterator[str]:
    newest = {report.processor: report.run for report in sorted(told, key=lambda report: report.run)}
    held = {name: completion.row_count for name, completion in record.completions.items()}
    if held != {report.processor: report.rows for report in told if newest[report.processor] == report.run}:
        yield f"holds {held}, the newest runs are {newest}"
    applied = Counter(match.groups() for entry in history if (match := _DETAIL.match(entry.detail)))
    known = {(report.processor, str(report.rows)) for report in told}
    for (processor, rows), times in applied.items():
        if times > 1 or (processor, rows) not in known:
            yield f"{processor} with {rows} rows was applied {times} times"
    for report in told:
        if newest[report.processor] == report.run and (report.processor, str(report.rows)) not in applied:
            yield f"{report.processor} run {report.run} is in no history"
    joins = sum(entry.reason == Reason.JOIN_COMPLETE for entry in history)
    is_joined = len(newest) == len(PROCESSORS)
    if (record.state is State.READY, record.generation, joins) != (is_joined, int(is_joined), int(is_joined)):
        yield f"{record.state}, generation {record.generation}, joined {joins} times"
    if record.version != len(history):
        yield f"version {record.version} after {len(history)} changes"
