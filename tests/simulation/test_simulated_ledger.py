"""The simulated ledger accepts and refuses what the real one does: else the simulation would prove nothing."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.simulation.checker import Checker, Violation
from tests.simulation.drawing import draw
from tests.simulation.plan import TONIGHT, Night
from tests.simulation.warehouse import Tables
from tests.support.generation_rows import publication_of, rows_select
from worker.errors import Fatal, Fenced
from worker.features.model import BuildKey, LedgerRow, Statement
from worker.pipelines.shipped import BLOCKS

if TYPE_CHECKING:
    from worker.adapters.duckdb.warehouse import DuckDbWarehouse

NOW = datetime(2024, 12, 16, 4, 0, tzinfo=UTC)


class Lenient(Checker):
    """Keeps no rules: this is about what is accepted, not about what should be asked for."""

    def demand(self, holds: bool, invariant: str, detail: str) -> None:
        """Accept it."""


@pytest.fixture
def warehouse() -> Iterator["DuckDbWarehouse"]:
    # Imported here: beside a Hypothesis test, an import at the top makes DuckDB complain of leaks when Python ends.
    from worker.adapters.duckdb.warehouse import DuckDbWarehouse  # noqa: PLC0415

    opened = DuckDbWarehouse(":memory:")
    opened.ensure_tables()
    yield opened
    opened.close()


def staged(key: BuildKey) -> Statement:
    """One row; the simulated tables ask which processors' tables the statement may read."""
    row = rows_select(key)
    switches = [f"use_{block.name}" for block in BLOCKS]
    return replace(
        row,
        sql=f"{row.sql} WHERE {' AND '.join(f'@{name}' for name in switches)}",
        parameters={**row.parameters, **dict.fromkeys(switches, True)},
    )


def answer(ledger: "DuckDbWarehouse | Tables", act: str, key: BuildKey, claimant: str) -> str:
    try:
        match act:
            case "claim":
                ledger.claim(key, claimant) if isinstance(ledger, Tables) else ledger.claim(key, NOW, claimant)
            case "stage":
                ledger.stage(key, staged(key))
            case _:
                ledger.publish(publication_of(key, claimant=claimant))
    except (Fenced, Fatal) as exc:
        return "fenced" if isinstance(exc, Fenced) else "fatal"
    return "done"


def token(row: LedgerRow | None) -> tuple[int, int] | None:
    return None if row is None else (row.generation, row.attempt)


def test_both_ledgers_give_the_same_answers(warehouse: "DuckDbWarehouse") -> None:
    rng = Random(1)  # noqa: S311 - repeatable, not secret
    night: dict[date, Night] = {TONIGHT: Night(day=TONIGHT, phase3=True, players=1)}
    seen: set[tuple[str, str]] = set()
    for _ in range(8):
        tables = Tables(night, Lenient(draw(0)), frozenset())
        with warehouse.writing("starting again") as cursor:
            for table in warehouse.pipeline.tables.stored:
                cursor.execute(f"DELETE FROM {table}")  # noqa: S608 -- from the catalogue
        for _step in range(40):
            act = rng.choice(("claim", "stage", "publish", "publish"))
            key = BuildKey(analysis_date=TONIGHT, generation=rng.randrange(1, 4), attempt=rng.randrange(1, 4))
            claimant = rng.choice(("worker-a", "worker-a", "worker-b"))
            answers = answer(warehouse, act, key, claimant), answer(tables, act, key, claimant)
            assert answers[0] == answers[1], f"{act} {key.build_id} by {claimant}: the real one says {answers[0]}"
            assert warehouse.claimed_token(TONIGHT) == tables.claimed_token(TONIGHT)
            assert token(warehouse.read_ledger(TONIGHT)) == token(tables.read_ledger(TONIGHT))
            seen.add((act, answers[0]))

    assert {("claim", "fenced"), ("publish", "fenced"), ("publish", "fatal"), ("publish", "done")} <= seen


def test_the_judge_notices_a_publication_that_shows_the_rows_of_another_process() -> None:
    """A zombie stores rows like any worker; under the name of an attempt that it does not hold nobody may read them."""
    key = BuildKey(analysis_date=TONIGHT, generation=1, attempt=1)
    tables = Tables({TONIGHT: Night(day=TONIGHT, phase3=True, players=1)}, Checker(draw(0)), frozenset())
    tables.claim(key, "w1/its-claim")
    tables.stage(key, staged(key), "w2")

    with pytest.raises(Violation, match="fenced owners change nothing: 2024-12-15-g1-a1 shows"):
        tables.publish(publication_of(key, claimant="w1/its-claim"))
