"""Published generations of an analysis date: list, choose, compare.

A comparison takes a few statements, for any number of rows and columns. Every function only reads; a crash leaves no
trace.
"""

from collections.abc import Callable
from datetime import date
from typing import Any

import structlog

from statemachine.model import Changes
from worker.errors import Refused
from worker.features.diff import GenerationDiff, plan_diff, read_changes, read_diff
from worker.features.distributions import Distributions, describe, distributions_of, only
from worker.features.generations import (
    PUBLISHED_NOW,
    PublishedGeneration,
    Wanted,
    choose,
    choose_pair,
    nothing_published,
    plan_publications,
    read_publications,
)
from worker.features.model import BuildKey
from worker.features.profile_reading import plan_nights, plan_own, read_nights, read_own
from worker.finding_text import as_json
from worker.observing.bounds import Bounded
from worker.ports import Warehouse


def publications(warehouse: Warehouse, analysis_date: date) -> tuple[PublishedGeneration, ...]:
    """Return every publication of an analysis date, oldest generation first.

    Raises:
        Unavailable: The warehouse does not answer.
    """
    return read_publications(warehouse.query(plan_publications(analysis_date, warehouse.pipeline)))


def find_generation(warehouse: Warehouse, analysis_date: date, wanted: Wanted = PUBLISHED_NOW) -> PublishedGeneration:
    """Return the generation that a reader wants; the rows existed at the time of the query.

    Raises:
        Refused: The generation does not exist, or the rows are deleted; the message names the readable generations.
        Unavailable: The warehouse does not answer.
    """
    return choose(analysis_date, publications(warehouse, analysis_date), wanted)


log = structlog.get_logger(__name__)

# Seconds for which an outcome message waits for the comparison; on BigQuery two statements take a quarter.
CHANGES_PATIENCE_S = 10.0


def compare_generations(
    warehouse: Warehouse, analysis_date: date, pair: tuple[int, int] | None = None
) -> GenerationDiff:
    """Compare the published generations of *pair*; without *pair*, the published generation with the generation before.

    Raises:
        Refused: A generation does not exist, or the rows are deleted; the message names the readable generations.
        Unavailable: The warehouse does not answer.
    """
    pipeline = warehouse.pipeline
    before, after = choose_pair(analysis_date, publications(warehouse, analysis_date), pair)
    lines = warehouse.query(plan_diff(analysis_date, before.build_id, after.build_id, pipeline))
    # Check again: rows that a vacuum deleted during the comparison must not count as removed by a generation.
    choose_pair(analysis_date, publications(warehouse, analysis_date), (before.generation, after.generation))
    return read_diff(analysis_date, before, after, lines, pipeline.entity)


def read_distributions(warehouse: Warehouse, analysis_date: date) -> Distributions:
    """Return the distributions of the features of a published analysis date, beside the nights before.

    Raises:
        Refused: Nothing is published, or no statistics of the published generation are stored.
        Unavailable: The warehouse does not answer.
    """
    published = warehouse.read_ledger(analysis_date)
    if published is None:
        raise nothing_published(analysis_date)
    pipeline = warehouse.pipeline
    own, nights = warehouse.query_all(
        (plan_own(analysis_date, published.build_id, pipeline), plan_nights(analysis_date, pipeline))
    )
    return distributions_of(published, read_own(own), read_nights(nights), pipeline)


def describe_distributions(found: Distributions, feature: str = "") -> dict[str, Any]:
    """Return distributions and findings in the JSON form for scripts and HTTP, of all features or of *feature* alone.

    Raises:
        Refused: No such feature has statistics.
    """
    findings = found.findings
    if feature and findings is not None:
        findings = only(found, feature).findings
    return describe(found, as_json(findings), feature)


def read_short_diff(warehouse: Warehouse, key: BuildKey) -> Changes | None:
    """Return the changes of a new publication; None for the first publication of an analysis date.

    Raises:
        PipelineError: The warehouse does not answer, or the rows of the generation before are deleted.
    """
    earlier = [found for found in publications(warehouse, key.analysis_date) if found.generation < key.generation]
    if not earlier:
        return None
    before = earlier[-1]
    if not before.row_count:
        raise Refused(f"{key.analysis_date}: the rows of generation {before} are gone")
    lines = warehouse.query(plan_diff(key.analysis_date, before.build_id, key.build_id, warehouse.pipeline))
    return read_changes(before.generation, lines, warehouse.pipeline.entity)


def short_diffs(warehouse: Warehouse, patience_s: float = CHANGES_PATIENCE_S) -> Callable[[BuildKey], Changes | None]:
    """Return a function that reads the short diff of a publication within *patience_s*, or returns None.

    The rows are already published, and consumers wait for the outcome message, so no error and no slow query may delay
    the message.
    """

    def changes_of(key: BuildKey) -> Changes | None:
        ask = Bounded(lambda: read_short_diff(warehouse, key), f"diff-{key.build_id}", patience_s=patience_s)
        try:
            return ask()
        except Exception as exc:  # noqa: BLE001 - no exception may delay the outcome message
            log.warning("changes_not_known", build_id=key.build_id, kind=type(exc).__name__, error=str(exc))
            return None

    return changes_of
