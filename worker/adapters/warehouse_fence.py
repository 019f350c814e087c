"""The ledger's verdict on one attempt, the same words for every warehouse."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC
from typing import Any

from worker.errors import Fatal, Fenced
from worker.features.model import BuildKey, Publication
from worker.features.pipeline import Tables

Claims = Sequence[Mapping[str, Any]]
"""The rows of the statement `claims` for one date, the newest claim first."""


def holds_claim(claims: Claims, key: BuildKey, claimant: str) -> bool:
    """Return whether the claimant has the date for this attempt."""
    return any(_claim_of(row) == (*key.token, claimant) for row in claims)


def has_published(claims: Claims, key: BuildKey, claimant: str) -> bool:
    """Return whether this attempt of this claimant is what is published."""
    return any(row["build_id"] == key.build_id and _claim_of(row) == (*key.token, claimant) for row in claims)


def check_fence(claims: Claims, key: BuildKey, claimant: str, wanted: str) -> None:
    """Refuse an attempt that a newer one has replaced, one that is another's, and a generation that is published.

    Args:
        claims: What the ledger says of the date.
        key: The attempt.
        claimant: Who wants it.
        wanted: What it wants, `build` or `publish`.

    Raises:
        Fenced: The ledger says no.
    """
    for row in claims:
        if row["generation"] >= key.generation:
            # A row that somebody wrote by hand may lack the instant.
            at = f", at {row['committed_at'].astimezone(UTC).isoformat()}" if row["committed_at"] else ""
            raise Fenced(f"{key.build_id} may not {wanted}: {row['build_id']} already did{at}")
        generation, attempt, holder = _claim_of(row)
        if (generation, attempt) > key.token:
            raise Fenced(
                f"{key.build_id} may not {wanted}: generation {generation}, attempt {attempt} has the date now"
            )
        if (generation, attempt) == key.token and holder != claimant:
            raise Fenced(f"{key.build_id} may not {wanted}: {holder} has it, not {claimant}")


def explain_refusal(claims: Claims, publication: Publication, generations: str) -> None:
    """Raise why a publication changed nothing in the ledger.

    Args:
        claims: What the ledger says of the date.
        publication: What was to be published.
        generations: Name of the table that holds the rows.

    Raises:
        Fenced: Another attempt has the date, or this one never claimed it.
        Fatal: The rows that were judged are not in the table.
    """
    key, claimant = publication.request.key, publication.request.claimant
    check_fence(claims, key, claimant, "publish")
    if not holds_claim(claims, key, claimant):
        raise Fenced(f"{key.build_id} may not publish: {claimant} has not claimed it")
    raise Fatal(
        f"{key.build_id} was not published: {generations} does not hold the {publication.report.row_count} rows that "
        f"were judged; run: mlfs replay {key.analysis_date.isoformat()} --reason '…'"
    )


def refuse_old_tables(tables: Tables, found: Collection[str]) -> None:
    """Refuse a warehouse whose published rows lie in tables of their own.

    Args:
        tables: The names that the pipeline writes and shows.
        found: Those of its views that exist as tables.

    Raises:
        Fatal: There is one.
    """
    if found:
        raise Fatal(
            f"{', '.join(sorted(found))}: a table, and this version reads a view of that name: the warehouse was "
            f"written by an earlier version, whose rows are not carried over. Rename or drop the tables whose names "
            f"begin with {tables.published}, and start again; or name a new warehouse (MLFS_WAREHOUSE)"
        )


def _claim_of(row: Mapping[str, Any]) -> tuple[int, int, str]:
    return row["claimed_generation"], row["claimed_attempt"], row["claimed_by"]
