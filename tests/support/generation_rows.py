"""A SELECT of made-up rows in the shape that every build stages, and the publication of such rows."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from statemachine.model import BuildMode
from worker.features.model import BlockCounts, BuildKey, BuildRequest, BuildStats, Publication, Statement
from worker.features.pipeline import GAME_CHECKS
from worker.features.quality import score
from worker.pipelines.shipped import BLOCKS, PROCESSORS, SHIPPED

STARTED_AT = datetime(2024, 12, 16, 4, 20, tzinfo=UTC)
COMMITTED_AT = datetime(2024, 12, 16, 4, 20, 1, 250000, tzinfo=UTC)

LITERALS = {
    "DATE": "DATE '2024-12-15'",
    "INT64": "7",
    "FLOAT64": "1.5e0",
    "STRING": "'text'",
    "BOOL": "TRUE",
    "TIMESTAMP": "@built_at",
    "ARRAY<STRING>": "['pace', 'usage_rate']",
}

AGREED_GAMES: Mapping[str, Any] = {
    "opponents_from_phase4": 0,
    "games_checked": 0,
    **{f"games_{kind.replace(' ', '_')}": 0 for kind in GAME_CHECKS[1:]},
    **{f"{block.name}_games{ending}": 0 for block in SHIPPED.witnesses for ending in ("", "_differing")},
}
"""The columns of `build_stats` about the games of a night on which schedule and Phase 4 agree."""


def rows_select(key: BuildKey, *, kept: int = 1, left_out: int = 0, name: str = "Nikola Jokić") -> Statement:
    """Rows that may be published, and rows that are left out, each of them naming its build."""
    special = {
        "analysis_date": "@analysis_date",
        "player_name": "@player_name",
        "build_generation": "@build_generation",
        "build_id": "@build_id",
        "left_out_reason": "IF(number > @kept, 'no data', NULL)",
    }
    columns = ", ".join(f"{special.get(c.name, LITERALS[c.type])} AS {c.name}" for c in SHIPPED.generation_columns)
    return Statement(
        name="features",
        sql=f"SELECT {columns} FROM UNNEST(GENERATE_ARRAY(1, @rows)) AS number",  # noqa: S608 -- from the catalogue
        parameters={
            "analysis_date": key.analysis_date,
            "player_name": name,
            "build_generation": key.generation,
            "build_id": key.build_id,
            "built_at": COMMITTED_AT,
            "rows": kept + left_out,
            "kept": kept,
        },
    )


def publication_of(
    key: BuildKey,
    *,
    kept: int = 1,
    left_out: int = 0,
    claimant: str = "worker-a",
    committed_at: datetime = COMMITTED_AT,
) -> Publication:
    """The publication of such rows."""
    players = kept + left_out
    stats = BuildStats(
        analysis_date=key.analysis_date,
        row_count=kept,
        dependency_rows=dict.fromkeys(PROCESSORS, 30),
        blocks={b.name: BlockCounts(players=players, cells_each=4, phase4_cells=4, phase3_cells=0) for b in BLOCKS},
        required_nulls=0,
        newest_source_date=key.analysis_date,
        left_out_count=left_out,
    )
    request = BuildRequest(
        key=key,
        mode=BuildMode.NORMAL,
        trigger="join",
        phase3_lookback_days=30,
        as_of=None,
        started_at=STARTED_AT,
        claimant=claimant,
    )
    return Publication(request=request, stats=stats, report=score(stats, BuildMode.NORMAL), committed_at=committed_at)
