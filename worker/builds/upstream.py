"""Upstream tables of a build: compare columns with the catalogue, count the Phase 4 rows of an analysis date.

A build compares before the build reads the tables, and stops with `SchemaDrift` at a fault. `SchemaWatch` compares
between builds, so that the log and the metrics show a fault before the evening. Every function only reads: a crash
leaves no trace, and the next call starts from the tables again.
"""

from collections.abc import Mapping
from datetime import date

from worker.errors import NoRoster, SchemaDrift
from worker.features.pipeline import Pipeline
from worker.features.plan import find_drift, plan_probe, read_dependency_rows
from worker.observing.observer import Observer, SchemaChecked
from worker.ports import Warehouse

# A new upstream release can change every column; an error message names the first faults.
FAULTS_SHOWN_MAX = 6
# Seconds between two comparisons: several before each evening, at the cost of one read of the columns of nine tables.
PAUSE_S = 300.0


def probe(warehouse: Warehouse, analysis_date: date) -> Mapping[str, int]:
    """Count the rows of an analysis date in the table of each Phase 4 processor, by processor.

    Raises:
        SchemaDrift: A table does not exist.
        Unavailable: The warehouse does not answer.
    """
    pipeline = warehouse.pipeline
    return read_dependency_rows(warehouse.query(plan_probe(analysis_date, pipeline)), pipeline)


def upstream_faults(warehouse: Warehouse) -> tuple[str, ...]:
    """Compare every upstream table that a build reads with the catalogue.

    Returns:
        One sentence fragment per fault, with table and column; empty if a build can read all tables.

    Raises:
        Unavailable: The warehouse does not answer.
    """
    upstream = warehouse.pipeline.upstream
    found = warehouse.columns_of(upstream)
    return tuple(fault for table, wanted in upstream.items() for fault in find_drift(table, wanted, found[table]))


def validate_upstream(warehouse: Warehouse, analysis_date: date) -> int:
    """Compare every upstream table that a build reads with the catalogue; return the number of tables.

    Raises:
        NoRoster: The table of the roster is absent, or lacks a column; the message names table and columns.
        SchemaDrift: A table or column is absent or has another type; the message names tables and columns.
        Unavailable: The warehouse does not answer.
    """
    faults = upstream_faults(warehouse)
    pipeline, day = warehouse.pipeline, analysis_date.isoformat()
    roster = [fault for fault in faults if pipeline.entity.roster in fault]
    if roster:
        raise NoRoster(no_roster(day, f"is unusable: {'; '.join(roster[:FAULTS_SHOWN_MAX])}", pipeline))
    if faults:
        shown = "; ".join(faults[:FAULTS_SHOWN_MAX])
        more = f"; and {len(faults) - FAULTS_SHOWN_MAX} more" if len(faults) > FAULTS_SHOWN_MAX else ""
        raise SchemaDrift(
            f"{day} cannot be built: {shown}{more}. Repair upstream (an embedded warehouse is filled "
            f"by: mlfs load DIR), then: mlfs replay {day} --reason '…'"
        )
    return len(pipeline.upstream)


def no_roster(day: str, fault: str, pipeline: Pipeline) -> str:
    """Return the message of a build without active entities; *fault* says what is wrong with the roster's table."""
    return (
        f"{day}: {pipeline.entity.roster} {fault}. Once the table's owner has repaired it: "
        f"mlfs replay {day} --reason '…'; until then: mlfs replay {day} --source yesterday --reason '…'"
    )


class SchemaWatch:
    """Comparison between builds; the observer hears of every comparison, the log only of changed faults."""

    def __init__(self, warehouse: Warehouse, observer: Observer) -> None:
        self._warehouse = warehouse
        self._observer = observer
        self._known: tuple[str, ...] | None = None

    def run_once(self) -> float:
        """Compare once; return the seconds until the next comparison.

        Raises:
            Unavailable: The warehouse does not answer; the faults of the last comparison stay shown.
        """
        faults = upstream_faults(self._warehouse)
        self._observer.note(SchemaChecked(faults=faults, changed=faults != self._known))
        self._known = faults
        return PAUSE_S
