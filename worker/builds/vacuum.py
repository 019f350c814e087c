"""Vacuum: deletes rows in `generations` that no reader needs, with one DELETE for each kind of row.

Rows of an unpublished attempt are deleted after a day, unless the attempt's claim is the newest claim: such an attempt
can still publish the rows. Rows of a superseded generation are deleted `keep_generations` days after the next
publication; by default the rows stay. The published generation, the ledger and the histories stay. A crash between the
statements leaves the remaining rows for the next pass; several workers may delete at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from worker.errors import PipelineError
from worker.features.model import Statement
from worker.ports import Clock, Warehouse

log = structlog.get_logger(__name__)

UNPUBLISHED_KEPT = timedelta(days=1)
PASS_EVERY = timedelta(days=1)
# After a start the process first reads completions and fires deadlines.
FIRST_PASS_AFTER = timedelta(minutes=10)
AGAIN_AFTER = timedelta(hours=1)
LOOK_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Vacuumed:
    """Rows that a vacuum deleted, or would delete.

    Attributes:
        unpublished_rows: Rows of attempts that were never published.
        superseded_rows: Rows of superseded generations; None if every superseded generation is kept.
    """

    unpublished_rows: int
    superseded_rows: int | None


def vacuum(warehouse: Warehouse, now: datetime, keep_days: int, *, dry_run: bool = False) -> Vacuumed:
    """Delete rows that no reader needs.

    Args:
        warehouse: Warehouse with the rows.
        now: UTC.
        keep_days: Days for which a superseded generation is kept; 0 keeps every generation.
        dry_run: Count the rows and delete no row.

    Raises:
        Unavailable: The warehouse does not answer; repeating is safe.
    """
    take = _count if dry_run else _delete
    unpublished_rows = take(warehouse, "vacuum_unpublished", {"processed_before": now - UNPUBLISHED_KEPT})
    superseded_rows = None
    if keep_days:
        before = now - timedelta(days=keep_days)
        superseded_rows = take(warehouse, "vacuum_superseded", {"superseded_before": before})
    return Vacuumed(unpublished_rows=unpublished_rows, superseded_rows=superseded_rows)


def _delete(warehouse: Warehouse, name: str, values: Mapping[str, datetime]) -> int:
    return warehouse.delete_rows(Statement(name=name, sql=warehouse.pipeline.text(name), parameters=values))


def _count(warehouse: Warehouse, name: str, values: Mapping[str, datetime]) -> int:
    name = f"{name}_rows"
    [counted] = warehouse.query(Statement(name=name, sql=warehouse.pipeline.text(name), parameters=values))
    return int(counted["row_count"])


class DailyVacuum:
    """Vacuum of a worker: a pass each day, the first pass ten minutes after the start."""

    def __init__(self, warehouse: Warehouse, clock: Clock, keep_days: int) -> None:
        self._warehouse = warehouse
        self._clock = clock
        self._keep_days = keep_days
        self._due_at = clock.now() + FIRST_PASS_AFTER

    def run_once(self) -> float:
        """Run a due pass; return the seconds until the next call.

        A failed pass is repeated an hour later: remaining rows do no harm, and a worker without the right to delete
        rows can still build.
        """
        now = self._clock.now()
        if now >= self._due_at:
            self._due_at = now + self._pass(now)
        return LOOK_S

    def _pass(self, now: datetime) -> timedelta:
        try:
            done = vacuum(self._warehouse, now, self._keep_days)
        except PipelineError as exc:
            log.warning("vacuum_failed", kind=type(exc).__name__, error=str(exc))
            return AGAIN_AFTER
        log.info("vacuumed", unpublished_rows=done.unpublished_rows, superseded_rows=done.superseded_rows)
        return PASS_EVERY
