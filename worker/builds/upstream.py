"""Compares the upstream tables with the catalogue between builds, so that a drift is seen before the night it breaks.

The first look is taken when the worker starts. A fault is told and never fatal: upstream may be repaired before the
next build, which checks again by itself and stops with the same words.
"""

from worker.builds.steps import upstream_faults
from worker.observing.observer import Observer, SchemaChecked
from worker.ports import Warehouse

# Often enough to be ahead of any evening, seldom enough to cost nothing: nine reads of a table's columns.
PAUSE_S = 300.0


class SchemaWatch:
    """One look at a time; the observer hears of every look, the log only of news."""

    def __init__(self, warehouse: Warehouse, observer: Observer) -> None:
        self._warehouse = warehouse
        self._observer = observer
        self._known: tuple[str, ...] | None = None

    def run_once(self) -> float:
        """Look once; give the seconds until the next look.

        Raises:
            Unavailable: The warehouse could not serve; nothing is known, and what was known stands.
        """
        faults = upstream_faults(self._warehouse)
        self._observer.note(SchemaChecked(faults=faults, changed=faults != self._known))
        self._known = faults
        return PAUSE_S
