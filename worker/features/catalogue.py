"""The literal catalogue: every feature, where it lies in Phase 4 and Phase 3, and the shape of what is published.

This module is data. `worker.features.plan` checks the upstream tables against it before each build, the `.sql` files
spell the same names out (a unit test compares them), and the adapters take table columns from here and from nowhere
else.

Source: the feature table of the pipeline document; the Phase 3 columns were read off the upstream tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

PLAYER_GAMES = "nba_analytics.player_game_summary"
TEAM_OFFENSE = "nba_analytics.team_offense_game_summary"
TEAM_DEFENSE = "nba_analytics.team_defense_game_summary"
ROSTER = "nba_raw.nbac_player_list"
SCHEDULE = "nba_raw.nbac_schedule"

STAGED = "mlfs_staging.this_build"
"""The name under which SQL reads the staging table of the attempt at hand; adapters put the real one in its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What one Phase 4 processor contributes to a row.

    Attributes:
        name: Prefix of the block's columns, `<name>_source`.
        processor: Name in completion events.
        table: Its Phase 4 table, `dataset.table`.
        key: The column that joins it, next to `analysis_date`.
    """

    name: str
    processor: str
    table: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One feature of a player.

    Attributes:
        name: Its column in the output, and in its block's Phase 4 table.
        type: BigQuery type.
        unit: Unit or meaning of the number, and its range where it has one.
        block: Name of the block it comes with.
        phase3_table: Where the fallback value lies.
        phase3_column: The column there.
        required: Whether a NULL counts against the NULL-field component.
    """

    name: str
    type: str
    unit: str
    block: str
    phase3_table: str
    phase3_column: str
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the published table, in BigQuery types; `ARRAY<STRING>` is the only nested one."""

    name: str
    type: str


BLOCKS = (
    Block(
        name="team_defense",
        processor="team_defense_zone_analysis",
        table="nba_precompute.team_defense_zone_analysis",
        key="team_abbreviation",
    ),
    Block(
        name="player_shot",
        processor="player_shot_zone_analysis",
        table="nba_precompute.player_shot_zone_analysis",
        key="player_id",
    ),
    Block(
        name="composite",
        processor="player_composite_factors",
        table="nba_precompute.player_composite_factors",
        key="player_id",
    ),
    Block(
        name="daily_cache",
        processor="player_daily_cache",
        table="nba_precompute.player_daily_cache",
        key="player_id",
    ),
)


def _feature(name: str, unit: str, block: str, phase3_table: str = PLAYER_GAMES, *, required: bool = False) -> Feature:
    """Describe a FLOAT64 feature whose Phase 3 column has the same name, as all of them have."""
    return Feature(
        name=name,
        type="FLOAT64",
        unit=unit,
        block=block,
        phase3_table=phase3_table,
        phase3_column=name,
        required=required,
    )


FEATURES = (
    _feature("offensive_rating", "points per 100 possessions, 0 to 300", "composite", required=True),
    _feature("usage_rate", "fraction of team plays used on the floor", "composite"),
    _feature("true_shooting_pct", "fraction, 0 to 1.5", "composite"),
    _feature("points_per_36", "points per 36 minutes", "composite"),
    _feature("defensive_rating", "points allowed per 100 possessions, lower is better", "composite", required=True),
    _feature("defensive_win_shares", "wins, may be negative", "composite"),
    _feature("steal_rate", "steals per opponent possession on the floor", "composite"),
    _feature("block_rate", "fraction of opponent two-point attempts blocked on the floor", "composite"),
    _feature("points_projection", "points", "composite", required=True),
    _feature("rebounds_projection", "rebounds", "composite", required=True),
    _feature("assists_projection", "assists", "composite", required=True),
    _feature("pace", "possessions per 48 minutes of the player's team", "composite", TEAM_OFFENSE),
    _feature("restricted_area_shot_pct", "fraction of attempts, 0 to 1", "player_shot"),
    _feature("paint_shot_pct", "fraction of attempts, 0 to 1", "player_shot"),
    _feature("mid_range_shot_pct", "fraction of attempts, 0 to 1", "player_shot"),
    _feature("three_point_attempt_rate", "fraction of attempts, 0 to 1", "player_shot"),
    _feature("opponent_def_rating", "points allowed per 100 possessions", "team_defense", TEAM_DEFENSE),
    _feature("opponent_rim_protection_rating", "100 is average, higher is better", "team_defense", TEAM_DEFENSE),
    _feature("opponent_perimeter_def_rating", "100 is average, higher is better", "team_defense", TEAM_DEFENSE),
    _feature("last_5_games_ppg", "points per game", "daily_cache"),
    _feature("last_10_games_ppg", "points per game", "daily_cache"),
    _feature("season_avg_ppg", "points per game", "daily_cache"),
)

REQUIRED_FIELDS = tuple(feature.name for feature in FEATURES if feature.required)
PROCESSORS = tuple(block.processor for block in BLOCKS)


def features_of(block: str) -> tuple[Feature, ...]:
    """Give the features of a block, in catalogue order."""
    return tuple(feature for feature in FEATURES if feature.block == block)


def _columns(**types: str) -> tuple[Column, ...]:
    return tuple(Column(name=name, type=kind) for name, kind in types.items())


OUTPUT_COLUMNS = (
    *_columns(
        analysis_date="DATE",
        player_id="INT64",
        player_name="STRING",
        team_abbreviation="STRING",
        opponent_abbreviation="STRING",
        has_game="BOOL",
    ),
    *(Column(name=feature.name, type=feature.type) for feature in FEATURES),
    *_columns(quality_score="FLOAT64", data_source="STRING", phase4_available="BOOL", phase3_fallback_used="BOOL"),
    *(Column(name=f"{block.name}_source", type="STRING") for block in BLOCKS),
    *_columns(
        phase3_features="ARRAY<STRING>",
        missing_features="ARRAY<STRING>",
        source_data_date="DATE",
        build_generation="INT64",
        build_id="STRING",
        processed_at="TIMESTAMP",
    ),
)
"""The published table, in order. What it holds beside these, the staging table uses for counting only."""


def _upstream() -> Mapping[str, Mapping[str, str]]:
    """Collect every upstream column that a build reads, with its BigQuery type."""
    columns: dict[str, dict[str, str]] = {
        ROSTER: {
            "snapshot_date": "DATE",
            "player_id": "INT64",
            "player_name": "STRING",
            "team_abbreviation": "STRING",
            "processed_at": "TIMESTAMP",
        },
        SCHEDULE: {
            "game_date": "DATE",
            "game_id": "STRING",
            "home_team_abbreviation": "STRING",
            "away_team_abbreviation": "STRING",
            "processed_at": "TIMESTAMP",
        },
        PLAYER_GAMES: {"game_date": "DATE", "player_id": "INT64", "processed_at": "TIMESTAMP"},
        TEAM_OFFENSE: {"game_date": "DATE", "team_abbreviation": "STRING", "processed_at": "TIMESTAMP"},
        TEAM_DEFENSE: {"game_date": "DATE", "team_abbreviation": "STRING", "processed_at": "TIMESTAMP"},
    }
    key_types = {"player_id": "INT64", "team_abbreviation": "STRING"}
    for block in BLOCKS:
        phase4 = {"analysis_date": "DATE", block.key: key_types[block.key], "processed_at": "TIMESTAMP"}
        columns[block.table] = phase4 | {feature.name: feature.type for feature in features_of(block.name)}
    for feature in FEATURES:
        columns[feature.phase3_table][feature.phase3_column] = feature.type
    return MappingProxyType({table: MappingProxyType(types) for table, types in columns.items()})


UPSTREAM: Mapping[str, Mapping[str, str]] = _upstream()
"""{`dataset.table`: {column: BigQuery type}}; a build stops with `SchemaDrift` where an upstream table disagrees."""

PUBLISHED_TABLE = "nba_predictions.ml_feature_store_v2"
QUALITY_TABLE = "nba_predictions.ml_feature_store_v2_quality_metrics"
DEPENDENCY_TABLE = "nba_predictions.ml_feature_store_v2_dependency_tracking"
EXECUTION_TABLE = "nba_predictions.ml_feature_store_v2_execution_log"
LEDGER_TABLE = "nba_predictions.ml_feature_store_v2_ledger"
REPLAY_TABLE = "nba_predictions.replay_audit"
OWN_TABLES = (PUBLISHED_TABLE, QUALITY_TABLE, DEPENDENCY_TABLE, EXECUTION_TABLE, LEDGER_TABLE, REPLAY_TABLE)
"""The tables that the product writes; their DDL is in `worker/features/ddl`."""

PREDICTIONS_TABLE = "nba_predictions.player_prop_predictions"
DOWNSTREAM: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {PREDICTIONS_TABLE: MappingProxyType({"prediction_date": "DATE", "confidence_score": "FLOAT64"})}
)
"""Phase 5's table, as far as a report reads it, in the form of `UPSTREAM`; no build needs it."""
