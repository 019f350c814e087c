"""The simulated ledger accepts and refuses what the real one does: else the simulation would prove nothing."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from random import Random
from typing import TYPE_CHECKING

import pytest

from statemachine.model import BuildMode
from tests.simulation.checker import Checker
from tests.simulation.drawing import draw
from tests.simulation.plan import PROCESSORS, TONIGHT, Night
from tests.simulation.warehouse import Tables
from worker.catalogue import BLOCKS, OUTPUT_COLUMNS
from worker.errors import Fatal, Fenced
from worker.features.model import (
    BlockCounts,
    BuildKey,
    BuildRequest,
    BuildStats,
    LedgerRow,
    Publication,
    Statement,
)
from worker.features.quality import score

if TYPE_CHECKING:
    from worker.adapters.warehouse_duckdb import DuckDbWarehouse

NOW = datetime(2024, 12, 16, 4, 0, tzinfo=UTC)
NOBODY = Statement(
    name="nobody",
    sql="SELECT "
    + ", ".join(f"CAST(NULL AS {column.type}) AS {column.name}" for column in OUTPUT_COLUMNS)
    + ", 'nobody is staged' AS left_out_reason, "
    + ", ".join(f"@use_{block.name} AS use_{block.name}" for block in BLOCKS),
    parameters={f"use_{block.name}": True for block in BLOCKS},
)


class Lenient(Checker):
    """Keeps no rules: this is about what is accepted, not about what should be asked for."""

    def demand(self, holds: bool, invariant: str, detail: str) -> None:
        """Accept it."""


@pytest.fixture
def warehouse() -> Iterator["DuckDbWarehouse"]:
    # Imported here: beside a Hypothesis test, an import at the top makes DuckDB complain of leaks when Python ends.
    from worker.adapters.warehouse_duckdb import DuckDbWarehouse  # noqa: PLC0415

    opened = DuckDbWarehouse(":memory:")
    opened.ensure_tables()
    yield opened
    opened.close()


def publication(key: BuildKey, claimant: str) -> Publication:
    stats = BuildStats(
        analysis_date=key.analysis_date,
        row_count=400,
        dependency_rows=dict.fromkeys(PROCESSORS, 400),
        blocks={b.name: BlockCounts(players=400, cells_each=4, phase4_cells=1600, phase3_cells=0) for b in BLOCKS},
        required_nulls=0,
        newest_source_date=key.analysis_date,
        left_out_count=0,
        left_out=(),
    )
    request = BuildRequest(
        key=key,
        mode=BuildMode.NORMAL,
        trigger="join",
        phase3_lookback_days=30,
        as_of=None,
        started_at=NOW,
        claimant=claimant,
    )
    return Publication(request=request, stats=stats, report=score(stats, request.mode), committed_at=NOW)


def answer(ledger: "DuckDbWarehouse | Tables", act: str, key: BuildKey, claimant: str) -> str:
    try:
        match act:
            case "claim":
                ledger.claim(key, NOW, claimant)
            case "stage":
                ledger.stage(key, NOBODY)
            case "drop" if isinstance(ledger, Tables):
                ledger.staged.pop(key, None)
            case "drop":
                ledger.drop_staged(key)  # type: ignore[union-attr]
            case _:
                ledger.publish(publication(key, claimant))
    except (Fenced, Fatal) as exc:
        return "fenced" if isinstance(exc, Fenced) else "fatal"
    return "done"


def token(row: LedgerRow | None) -> tuple[int, int] | None:
    return None if row is None else (row.generation, row.attempt)


def test_both_ledgers_give_the_same_answers(warehouse: "DuckDbWarehouse") -> None:
    rng = Random(1)  # noqa: S311 - repeatable, not secret
    night: dict[date, Night] = {TONIGHT: Night(day=TONIGHT, phase3=True, players=400)}
    seen: set[tuple[str, str]] = set()
    for _ in range(8):
        tables = Tables(night, Lenient(draw(0)), frozenset())
        with warehouse.writing("starting again") as cursor:
            cursor.execute("DELETE FROM nba_predictions.ml_feature_store_v2_ledger")
        for _step in range(40):
            act = rng.choice(("claim", "stage", "stage", "publish", "publish", "drop"))
            key = BuildKey(analysis_date=TONIGHT, generation=rng.randrange(1, 4), attempt=rng.randrange(1, 4))
            claimant = rng.choice(("worker-a", "worker-a", "worker-b"))
            answers = answer(warehouse, act, key, claimant), answer(tables, act, key, claimant)
            assert answers[0] == answers[1], f"{act} {key.build_id} by {claimant}: the real one says {answers[0]}"
            assert warehouse.claimed_token(TONIGHT) == tables.claimed_token(TONIGHT)
            assert token(warehouse.read_ledger(TONIGHT)) == token(tables.read_ledger(TONIGHT))
            seen.add((act, answers[0]))
        for generation in range(1, 4):
            for attempt in range(1, 4):
                warehouse.drop_staged(BuildKey(analysis_date=TONIGHT, generation=generation, attempt=attempt))

    assert {("claim", "fenced"), ("publish", "fenced"), ("publish", "fatal"), ("publish", "done")} <= seen
