"""Deletes rows in `generations` that no reader asks for any more: one DELETE for each kind.

Rows of an attempt that was never published go a day after they were made, unless the attempt's claim still stands: only
then could they still be published. Rows of a superseded generation go `keep_generations` days after another generation
was published in its place; by default they stay. The published generation stays, and so do ledger and histories. A
crash between the statements leaves the rest for the next pass; several workers may delete at once.
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
# Right after a start the process has completions to read and deadlines to meet.
FIRST_PASS_AFTER = timedelta(minutes=10)
AGAIN_AFTER = timedelta(hours=1)
LOOK_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Vacuumed:
    """What a vacuum deleted, or would delete.

    Attributes:
        unpublished_rows: Rows of attempts that were never published.
        superseded_rows: Rows of generations in whose place another one was published; None where all are kept.
    """

    unpublished_rows: int
    superseded_rows: int | None


def vacuum(warehouse: Warehouse, now: datetime, keep_days: int, *, dry_run: bool = False) -> Vacuumed:
    """Delete what nobody asks for any more.

    Args:
        warehouse: Where the rows lie.
        now: UTC.
        keep_days: Days for which a superseded generation is kept; 0 keeps it for good.
        dry_run: Count the rows, and delete none.

    Raises:
        Unavailable: The warehouse could not serve; repeating is safe.
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
    """One pass a day in each worker; the first one a while after the start."""

    def __init__(self, warehouse: Warehouse, clock: Clock, keep_days: int) -> None:
        self._warehouse = warehouse
        self._clock = clock
        self._keep_days = keep_days
        self._due_at = clock.now() + FIRST_PASS_AFTER

    def run_once(self) -> float:
        """Vacuum if a pass is due; return the seconds until the next look.

        A pass that fails is tried again an hour later: rows that stay for longer do no harm, and a worker that cannot
        delete rows can still build.
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
