"""Asks the warehouse which generations of a date were published, for whoever reads another one than the published.

Compares two published generations of a date: a few statements, whatever the number of rows and columns.
"""

from collections.abc import Callable
from datetime import date

import structlog

from statemachine.model import Changes
from worker.errors import Refused
from worker.features.diff import GenerationDiff, plan_diff, read_changes, read_diff
from worker.features.generations import (
    PUBLISHED_NOW,
    PublishedGeneration,
    Wanted,
    choose,
    choose_pair,
    plan_publications,
    read_publications,
)
from worker.features.model import BuildKey
from worker.observing.bounds import Bounded
from worker.ports import Warehouse


def publications(warehouse: Warehouse, analysis_date: date) -> tuple[PublishedGeneration, ...]:
    """Return every publication of a date, oldest generation first.

    Raises:
        Unavailable: The warehouse could not serve.
    """
    return read_publications(warehouse.query(plan_publications(analysis_date, warehouse.pipeline)))


def find_generation(warehouse: Warehouse, analysis_date: date, wanted: Wanted = PUBLISHED_NOW) -> PublishedGeneration:
    """Return the generation that a reader asks for; its rows were there a moment ago.

    Raises:
        Refused: There is no such generation, or its rows are gone; the message names what there is.
        Unavailable: The warehouse could not serve.
    """
    return choose(analysis_date, publications(warehouse, analysis_date), wanted)


log = structlog.get_logger(__name__)

# Two statements take a quarter of this on BigQuery; a message is not held up for longer.
CHANGES_PATIENCE_S = 10.0


def compare_generations(
    warehouse: Warehouse, analysis_date: date, pair: tuple[int, int] | None = None
) -> GenerationDiff:
    """Compare two published generations: those of *pair*, else the published one with the one before it.

    Raises:
        Refused: There are no two generations to compare, or the rows of one are gone; the message names what there is.
        Unavailable: The warehouse could not serve.
    """
    pipeline = warehouse.pipeline
    before, after = choose_pair(analysis_date, publications(warehouse, analysis_date), pair)
    lines = warehouse.query(plan_diff(analysis_date, before.build_id, after.build_id, pipeline))
    # A vacuum may have deleted rows meanwhile; rows that are gone must not look like rows removed.
    choose_pair(analysis_date, publications(warehouse, analysis_date), (before.generation, after.generation))
    return read_diff(analysis_date, before, after, lines, pipeline.entity)


def read_short_diff(warehouse: Warehouse, key: BuildKey) -> Changes | None:
    """Return what an attempt that was just published changed; None where it is the first publication of its date.

    Raises:
        PipelineError: The warehouse could not serve, or the rows that were published before are gone.
    """
    there = [one for one in publications(warehouse, key.analysis_date) if one.generation < key.generation]
    if not there:
        return None
    before = there[-1]
    if not before.row_count:
        raise Refused(f"{key.analysis_date}: the rows of generation {before} are gone")
    lines = warehouse.query(plan_diff(key.analysis_date, before.build_id, key.build_id, warehouse.pipeline))
    return read_changes(before.generation, lines, warehouse.pipeline.entity)


def short_diffs(warehouse: Warehouse, patience_s: float = CHANGES_PATIENCE_S) -> Callable[[BuildKey], Changes | None]:
    """Return what asks for the short form of a diff, and neither fails nor waits for long: None where it is not known.

    The rows are published by then, and consumers wait for the message that says so.
    """

    def changes_of(key: BuildKey) -> Changes | None:
        ask = Bounded(lambda: read_short_diff(warehouse, key), f"diff-{key.build_id}", patience_s=patience_s)
        try:
            return ask()
        except Exception as exc:  # noqa: BLE001 - whatever it is, the publication is told without it
            log.warning("changes_not_known", build_id=key.build_id, kind=type(exc).__name__, error=str(exc))
            return None

    return changes_of
