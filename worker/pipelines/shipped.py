"""Names of the shipped pipeline, for sample data, the demo and the reports of the design document.

Every other module gets a pipeline as an argument; `tests/architecture` refuses an import of this module there.
"""

from collections.abc import Mapping
from types import MappingProxyType

from worker.features.pipeline import Feature
from worker.pipelines.files import shipped_pipeline

SHIPPED = shipped_pipeline()
PIPELINE = SHIPPED.name

BLOCKS = tuple(SHIPPED.blocks)
FEATURES = tuple(SHIPPED.features)
PROCESSORS = SHIPPED.processors
REQUIRED_FIELDS = SHIPPED.required_fields
OUTPUT_COLUMNS = SHIPPED.output_columns
UPSTREAM = SHIPPED.upstream

PLAYER_GAMES = "nba_analytics.player_game_summary"
TEAM_OFFENSE = "nba_analytics.team_offense_game_summary"
TEAM_DEFENSE = "nba_analytics.team_defense_game_summary"
ROSTER = "nba_raw.nbac_player_list"
SCHEDULE = "nba_raw.nbac_schedule"

PUBLISHED_TABLE = SHIPPED.tables.published
QUALITY_TABLE = SHIPPED.tables.quality
DEPENDENCY_TABLE = SHIPPED.tables.dependency
GENERATIONS_TABLE = SHIPPED.tables.generations
HISTORY_TABLE = SHIPPED.tables.history
EXECUTION_TABLE = SHIPPED.tables.execution
LEDGER_TABLE = SHIPPED.tables.ledger
REPLAY_TABLE = SHIPPED.tables.replay
OWN_TABLES = SHIPPED.tables.all

PREDICTIONS_TABLE = SHIPPED.optional.predictions
DOWNSTREAM: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {PREDICTIONS_TABLE: MappingProxyType({"prediction_date": "DATE", "confidence_score": "FLOAT64"})}
)
"""Columns of Phase 5's table read by a report, in the form of `UPSTREAM`; no build reads the table."""


def features_of(block: str) -> tuple[Feature, ...]:
    """Return the features of a block, in catalogue order."""
    return SHIPPED.features_of(block)
