"""The ledger's verdict on one attempt, the same words for every warehouse."""

from collections.abc import Mapping
from datetime import UTC
from typing import Any

from worker.errors import Fenced
from worker.features.model import BuildKey


def check_fence(row: Mapping[str, Any] | None, key: BuildKey, claimant: str, wanted: str) -> None:
    """Refuse an attempt that a newer one has replaced, one that is another's, and a generation that is committed.

    Args:
        row: The date's ledger row, None where there is none.
        key: The attempt.
        claimant: Who wants it.
        wanted: What it wants, `build` or `publish`.

    Raises:
        Fenced: The row says no.
    """
    if row is None:
        return
    if row["generation"] >= key.generation:
        committed_at = row["committed_at"].astimezone(UTC)
        raise Fenced(f"{key.build_id} may not {wanted}: {row['build_id']} already did, at {committed_at.isoformat()}")
    claimed = (row["claimed_generation"], row["claimed_attempt"])
    if claimed > key.token:
        raise Fenced(f"{key.build_id} may not {wanted}: generation {claimed[0]}, attempt {claimed[1]} has the date now")
    if claimed == key.token and row["claimed_by"] != claimant:
        raise Fenced(f"{key.build_id} may not {wanted}: {row['claimed_by']} has it, not {claimant}")
