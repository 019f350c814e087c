"""The seams of the worker: what it needs from the outside, as Protocols. Adapters live in `worker.adapters`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol

from worker.features.model import BuildKey, LedgerRow, Publication, Statement


class Warehouse(Protocol):
    """Where the features are built and published: BigQuery in the cloud, DuckDB on one machine.

    Every method may raise `Unavailable` (worth another attempt) or `Fatal` (not).
    """

    def ensure_tables(self) -> None:
        """Create the datasets and tables that the product writes, where they do not exist yet. Repeatable."""

    def columns(self, table: str) -> Mapping[str, str]:
        """Give the columns of `dataset.table` as {name: BigQuery type}; empty where the table does not exist."""

    def query(self, statement: Statement) -> Sequence[Mapping[str, Any]]:
        """Run one SELECT and give its rows as dictionaries."""

    def stage(self, key: BuildKey, select: Statement) -> None:
        """Materialise *select* as the staging table of one attempt, replacing what an earlier try left there."""

    def query_staged(self, key: BuildKey, statement: Statement) -> Sequence[Mapping[str, Any]]:
        """Run one SELECT that reads the attempt's staging table under the name `mlfs_staging.this_build`."""

    def publish(self, publication: Publication) -> None:
        """Make a staged build visible, in one short transaction guarded by the ledger.

        Checks that (generation, attempt) is strictly newer than the date's ledger row, updates it, replaces the date's
        rows in the feature, quality and dependency tables, appends to the execution log, commits. Publishing the very
        same (generation, attempt) again is a success without effect: a lost reply is resolved by the ledger.

        Raises:
            Fenced: The ledger already holds a newer token; nothing was changed.
        """

    def drop_staged(self, key: BuildKey) -> None:
        """Remove the attempt's staging table; no error when it is gone already."""

    def read_ledger(self, analysis_date: date) -> LedgerRow | None:
        """Give the ledger row of the date, None where nothing was ever committed."""

    def log_execution(self, row: Mapping[str, Any]) -> None:
        """Append one row to the execution log; for builds that did not publish."""

    def export_features(self, analysis_date: date, path: str) -> int:
        """Write the published rows of the date to a .parquet, .csv or .jsonl file; give the number of rows."""

    def close(self) -> None:
        """Release connections and files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingMessage:
    """One message for the bus, as stored in the outbox.

    Attributes:
        event_id: Deterministic, so that a consumer can drop a repeat.
        topic: Short topic name, without the project.
        data: The JSON body.
        attributes: Message attributes.
        ordering_key: The analysis date, so that generations of one date stay in order.
    """

    event_id: str
    topic: str
    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str = ""


class Publisher(Protocol):
    """Puts messages on the bus."""

    def publish(self, message: OutgoingMessage) -> str:
        """Publish and wait for the confirmation; give the bus's message id.

        Raises:
            Unavailable: Not confirmed in time; it may or may not have been published.
        """

    def close(self) -> None:
        """Flush and release."""


class Clock(Protocol):
    """Time for the shell. The core gets instants as arguments."""

    def now(self) -> datetime:
        """Give the present instant, aware, UTC."""
