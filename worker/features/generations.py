"""Choice of the published generation of an analysis date for a reader. Pure.

The ledger lists every publication of an analysis date. The rows of each publication lie in `generations` under a build
id and never change, until a vacuum deletes the rows of a superseded generation. All readers use this choice: `mlfs
features`, `mlfs lineage`, `mlfs diff` and `worker.phase5`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from statemachine.model import Finding
from worker.errors import Refused
from worker.features.model import Statement
from worker.features.pipeline import Pipeline
from worker.features.records import read_findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Requested generation; the published generation if both fields are None.

    Attributes:
        generation: Number of the generation.
        published_by: The newest generation published at this instant. With a zone.
    """

    generation: int | None = None
    published_by: datetime | None = None

    def __post_init__(self) -> None:
        if self.generation is not None and self.published_by is not None:
            raise Refused(
                "a generation is chosen by number (--generation, generation) or by instant (--published-by, "
                "published_by); give one of both"
            )


PUBLISHED_NOW = Wanted()
EXPORT_ENDINGS = (".parquet", ".csv", ".jsonl")


def export_ending(path: str) -> str:
    """Return the ending of a file for published rows.

    Raises:
        Refused: No warehouse writes a file with another ending.
    """
    for ending in EXPORT_ENDINGS:
        if path.endswith(ending):
            return ending
    raise Refused(f"cannot write {path}: the name must end in one of {', '.join(EXPORT_ENDINGS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedGeneration:
    """Publication of an analysis date.

    Attributes:
        generation: Number of the generation.
        build_id: Build id of the rows.
        committed_at: Instant of the publication. UTC.
        row_count: Number of published rows still in the table; 0 after a vacuum.
        state: `done` or `degraded`; None if the quality history has lost the build.
        quality_score: 0 to 100; None if the quality history has lost the build.
        findings: Findings about the rows; None for rows that no check judged, or if the history has lost the build.
    """

    generation: int
    build_id: str
    committed_at: datetime
    row_count: int
    state: str | None
    quality_score: float | None
    findings: tuple[Finding, ...] | None = None

    def __str__(self) -> str:
        return f"{self.generation} ({instant_text(self.committed_at)})"


def plan_publications(analysis_date: date, pipeline: Pipeline) -> Statement:
    """Plan the statement that reads every publication of an analysis date."""
    return Statement(
        name="publications", sql=pipeline.text("publications"), parameters={"analysis_date": analysis_date}
    )


def read_publications(rows: Sequence[Mapping[str, Any]]) -> tuple[PublishedGeneration, ...]:
    """Read the answer to the statement `publications`, oldest generation first."""
    return tuple(PublishedGeneration(**{**row, "findings": read_findings(row["findings"])}) for row in rows)


def plan_rows(analysis_date: date, build_id: str, pipeline: Pipeline) -> Statement:
    """Plan the statement that reads all published rows of a build, by the entity's key."""
    values = {"analysis_date": analysis_date, "build_id": build_id}
    return Statement(name="published_rows", sql=pipeline.text("published_rows"), parameters=values)


def choose(analysis_date: date, there: Sequence[PublishedGeneration], wanted: Wanted) -> PublishedGeneration:
    """Return the requested generation.

    Args:
        analysis_date: The analysis date.
        there: Publications of the analysis date, oldest generation first.
        wanted: Requested generation.

    Raises:
        Refused: The analysis date has no publication, no such generation, no publication by this instant, or no rows
            any more. The message names the available generations.
    """
    if not there:
        raise nothing_published(analysis_date)
    listed = ", ".join(str(published) for published in there)
    chosen = [published for published in there if _fits(published, wanted)]
    if not chosen and wanted.published_by is not None:
        by = instant_text(wanted.published_by)
        raise Refused(f"{analysis_date}: nothing was published by {by}; published generations: {listed}")
    if not chosen:
        raise Refused(
            f"{analysis_date}: generation {wanted.generation} was never published; published generations: {listed}"
        )
    if not chosen[-1].row_count:
        kept = ", ".join(str(published) for published in there if published.row_count) or "none"
        raise Refused(
            f"{analysis_date}: the rows of generation {chosen[-1]} are gone: superseded generations are deleted after "
            f"keep_generations days (MLFS_KEEP_GENERATIONS); generations with rows: {kept}"
        )
    return chosen[-1]


def nothing_published(analysis_date: date) -> Refused:
    """Return the refusal of a reader for an analysis date without a publication."""
    return Refused(f"nothing is published for {analysis_date}; see how it stands: mlfs explain {analysis_date}")


def _fits(published: PublishedGeneration, wanted: Wanted) -> bool:
    if wanted.generation is not None:
        return published.generation == wanted.generation
    return wanted.published_by is None or published.committed_at <= wanted.published_by


def choose_pair(
    analysis_date: date, there: Sequence[PublishedGeneration], pair: tuple[int, int] | None
) -> tuple[PublishedGeneration, PublishedGeneration]:
    """Return two generations to compare: *pair*, or the published generation and the generation published before.

    Raises:
        Refused: As in `choose`; or the published generation is the first publication.
    """
    if pair is not None:
        first, second = (choose(analysis_date, there, Wanted(generation=number)) for number in pair)
        return first, second
    newest = choose(analysis_date, there, PUBLISHED_NOW)
    older = [published for published in there if published.generation < newest.generation]
    if not older:
        raise Refused(
            f"{analysis_date}: only generation {newest} was published, and there is no other to compare; to publish "
            f"another: mlfs replay {analysis_date} --reason '…'"
        )
    return choose(analysis_date, there, Wanted(generation=older[-1].generation)), newest


def read_instant(text: str) -> datetime:
    """Return an ISO 8601 instant with a zone, in UTC.

    Raises:
        Refused: The text is not an instant, has no zone, or lies outside the years 1 to 9999 of UTC.
    """
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as exc:
        raise Refused(f"{text!r} is no instant; write 2024-12-15T23:50:00-05:00 or 2024-12-16T04:50:00Z") from exc
    if instant.tzinfo is None:
        raise Refused(f"{text} has no zone; write {instant.isoformat()}-05:00 or {instant.isoformat()}Z")
    try:
        return instant.astimezone(UTC)
    except OverflowError as exc:
        raise Refused(f"{text} is not in the years 1 to 9999 of UTC") from exc


def instant_text(at: datetime) -> str:
    """Return the text of an instant in UTC with full precision, usable as `--published-by`."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
