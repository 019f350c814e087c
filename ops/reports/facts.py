"""Facts about one analysis date, shared by `mlfs daily` and `mlfs incident`. Pure.

An absent fact is unknown and stays unknown: a processor without a report may have rows, and a table that was not read
is not an empty table. `DateFacts.evidence` names the source of each answer.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from statemachine.evidence import mode_of, publication_is_retracted
from statemachine.model import (
    TERMINAL_STATES,
    BuildMode,
    Completion,
    CompletionStatus,
    DateRecord,
    Finding,
    FindingSeverity,
)
from worker.date_text import listed
from worker.features.pipeline import Pipeline
from worker.observing.outbox import Untold

Row = Mapping[str, Any]
# The same time as in the alert MlfsOutboxStuck.
OUTBOX_PATIENCE = timedelta(minutes=5)


class Evidence(StrEnum):
    """Knowledge about the rows of a processor for an analysis date."""

    ROWS = "rows"
    """The table has rows: as read now, at the published build, or as the processor reported."""
    EMPTY = "empty"
    """The table has no rows: as read now, or at the published build."""
    UNUSABLE = "unusable"
    """The table is gone or denied, or lacks a column without which no row can be found."""
    FAILED = "failed"
    """The processor reported a failure, and the table was not read."""
    RETRACTED = "retracted"
    """A person took the run back, so no build reads the rows."""
    UNKNOWN = "unknown"
    """The table was not read, no build counted the rows, and the processor has not reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLook:
    """Present content of an upstream table for an analysis date.

    Attributes:
        table: Name of the table, `dataset.table`.
        row_count: Rows for the analysis date, of a Phase 3 table the rows that a fallback may read; None if unknown.
        last_processed: The newest `processed_at` of these rows. UTC. None without rows.
        fault: Why a build cannot use the table, or columns of the table; empty without a fault.
    """

    table: str
    row_count: int | None = None
    last_processed: datetime | None = None
    fault: str = ""

    @property
    def is_unusable(self) -> bool:
        """Whether no build can use the table; False if only columns have faults."""
        return bool(self.fault) and self.row_count is None


def is_over(record: DateRecord, now: datetime) -> bool:
    """Return whether the analysis date has ended or the deadline has passed; the same rule for every report."""
    return record.state in TERMINAL_STATES or now >= record.deadline_at


@dataclass(frozen=True, slots=True, kw_only=True)
class DateFacts:
    """Facts about an analysis date.

    Attributes:
        record: Record from the store, with the newest publication of the ledger; for an analysis date never opened the
            record of an opening in time, version 0.
        known_generation: Published generation known to the store; lower than in `record` if the ledger is ahead.
        now: Instant of the report. UTC.
        pipeline: Tables and thresholds.
        upstream: Present content of the upstream tables by source (processor, or table without the dataset); a table
            that was not read is absent.
        predictions: Predictions of Phase 5; empty without the table in this warehouse, None if unknown.
        untold: The newest outcome message in the outbox, None without a message.
    """

    record: DateRecord
    now: datetime
    pipeline: Pipeline
    upstream: Mapping[str, TableLook] = field(default_factory=dict)
    predictions: Row | None = None
    untold: Untold | None = None
    known_generation: int | None = None

    @property
    def ledger_is_ahead(self) -> bool:
        """Whether the publication that consumers read is not known to the store."""
        return self.known_generation is not None and self.record.published_generation > self.known_generation

    @property
    def day(self) -> date:
        """The analysis date."""
        return self.record.analysis_date

    @property
    def opened(self) -> bool:
        """Whether a worker has opened the analysis date."""
        return self.record.version > 0

    @property
    def over(self) -> bool:
        """Whether the analysis date has ended or the deadline has passed."""
        return is_over(self.record, self.now)

    @property
    def untold_too_long(self) -> bool:
        """Whether the outcome message has waited in the outbox for longer than `OUTBOX_PATIENCE`."""
        since = self.untold.since if self.untold is not None else None
        return since is not None and self.now - since > OUTBOX_PATIENCE

    @property
    def settled(self) -> bool:
        """Whether the analysis date is over, and no outcome message is on the way within `OUTBOX_PATIENCE`."""
        return self.over and (self.untold is None or self.untold.since is None or self.untold_too_long)

    @property
    def published_is_retracted(self) -> bool:
        """Whether consumers read rows of a retracted run."""
        return publication_is_retracted(self.record)

    @property
    def findings(self) -> tuple[Finding, ...] | None:
        """Findings about the rows that consumers read, the most severe first; None if the rows were never judged."""
        return self.record.result.findings if self.record.result is not None else None

    @property
    def grave_findings(self) -> tuple[Finding, ...]:
        """The critical findings and the warnings."""
        return tuple(finding for finding in self.findings or () if finding.severity is not FindingSeverity.NOTE)

    @property
    def roster(self) -> TableLook | None:
        """Present content of the roster; None if the table was not read."""
        return self.upstream.get(short(self.pipeline.entity.roster))

    @property
    def faulty_tables(self) -> tuple[TableLook, ...]:
        """The upstream tables that a build cannot use, or not in every column."""
        return tuple(look for look in self.upstream.values() if look.fault)

    def completion(self, processor: str) -> Completion | None:
        """Return the kept report of a processor; None without a report."""
        return self.record.completions.get(processor)

    def held_now(self, source: str) -> int | None:
        """Return the present number of rows of a table; None if unknown."""
        look = self.upstream.get(source)
        return None if look is None else look.row_count

    def held_at_build(self, processor: str) -> int | None:
        """Return the rows of the processor's table at the last publication; None if no build counted the rows.

        A forced build and a copy of yesterday's rows read no Phase 4 table, so a 0 of such a build is unknown.
        """
        result = self.record.result
        if result is None:
            return None
        held = result.dependency_rows.get(processor)
        return None if not held and mode_of(self.record, result) is not BuildMode.NORMAL else held

    def evidence(self, processor: str) -> Evidence:
        """Return what is known about the rows of a processor: as read now, else at the build, else as reported."""
        if processor in self.record.ignored:
            return Evidence.RETRACTED
        look = self.upstream.get(processor)
        if look is not None and look.is_unusable:
            return Evidence.UNUSABLE
        held = self.held_now(processor)
        if held is None and self.record.published_generation >= self.record.generation:
            held = self.held_at_build(processor)
        if held is not None:
            return Evidence.ROWS if held else Evidence.EMPTY
        completion = self.completion(processor)
        if completion is None:
            return Evidence.UNKNOWN
        return Evidence.FAILED if completion.status is CompletionStatus.FAILED else Evidence.ROWS

    def with_evidence(self, *kinds: Evidence) -> list[str]:
        """Return the processors with one of *kinds*, in the pipeline's order."""
        return [name for name in self.pipeline.processors if self.evidence(name) in kinds]

    @property
    def absent(self) -> list[str]:
        """The required processors without usable rows, in the pipeline's order; unknown rows make no member."""
        absent = self.with_evidence(Evidence.EMPTY, Evidence.UNUSABLE, Evidence.FAILED, Evidence.RETRACTED)
        return [name for name in absent if name not in self.pipeline.optional_processors]

    def listed(self, names: Iterable[str]) -> str:
        """Return processors as a list for a sentence, each optional processor with the word."""
        return listed(names, self.pipeline.optional_processors)


def short(table: str) -> str:
    """Return the name of a table without the dataset."""
    return table.partition(".")[2]
