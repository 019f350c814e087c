"""What counts as a value, and who plays tonight: a night whose values are no numbers, or whose schedule is wrong."""

# ruff: noqa: S608 -- statements are made of names of this file

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from statemachine.model import BuildMode, Finding, FindingSeverity, State
from tests.support.league import SATURDAY, SUNDAY, League
from worker.builds.generations import find_generation
from worker.features.findings import Check
from worker.features.generations import PUBLISHED_NOW
from worker.features.model import BuildOutcome
from worker.lineage.row import trace_row
from worker.phase5 import load_features_for_prediction
from worker.pipelines.shipped import GENERATIONS_TABLE, PLAYER_GAMES, ROSTER, SCHEDULE, SHIPPED

COMPOSITE = "nba_precompute.player_composite_factors"
CACHE = "nba_precompute.player_daily_cache"
TEAM_LIST = "nba_raw.nbac_team_list"
OTHERS = {Check.NOT_FINITE, Check.SCHEDULE_MISSING, Check.SCHEDULE_DISAGREES, Check.UNKNOWN_TEAM}
TONIGHT = f"game_date = DATE '{SUNDAY}'"


@pytest.fixture
def league() -> Iterator[League]:
    made = League()
    yield made
    made.warehouse.close()


def found(outcome: BuildOutcome, check: Check) -> list[Finding]:
    return [finding for finding in outcome.report.findings if finding.check == check]


def cells(league: League) -> dict[int, dict[str, Any]]:
    """The published rows without the marks of the build."""
    marks = {"build_generation", "build_id", "processed_at"}
    rows = league.published(SUNDAY)
    return {key: {name: cell for name, cell in row.items() if name not in marks} for key, row in rows.items()}


def playing(league: League) -> dict[int, str]:
    return {key: row["opponent_abbreviation"] for key, row in league.published(SUNDAY).items() if row["has_game"]}


def spoil(column: str, value: str, table: str = COMPOSITE) -> str:
    return f"UPDATE {table} SET {column} = CAST('{value}' AS DOUBLE)"


def test_a_whole_night_has_no_finding_about_values_and_games(league: League) -> None:
    for night in (SATURDAY, SUNDAY):
        assert not OTHERS & {finding.check for finding in league.build(night).report.findings}


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("column", ["points_projection", "usage_rate"])
def test_a_value_that_is_no_number_counts_as_null_in_its_place(league: League, column: str, value: str) -> None:
    league.execute(spoil(column, value))
    spoiled, rows = league.build(SUNDAY), cells(league)
    league.execute(f"UPDATE {COMPOSITE} SET {column} = NULL")
    plain = league.build(SUNDAY, 2)

    assert rows == cells(league)
    assert spoiled.report.components == plain.report.components
    assert spoiled.report.quality_score == plain.report.quality_score
    [finding] = found(spoiled, Check.NOT_FINITE)
    count = spoiled.stats.dependency_rows["player_composite_factors"]
    assert (finding.subject, finding.observed) == (column, f"{count} of {count} cells are NaN or infinite")
    assert (finding.severity, finding.processor) == (FindingSeverity.CRITICAL, "player_composite_factors")
    assert (spoiled.report.earned_state, spoiled.report.severity) == (State.DEGRADED, "P2")
    assert not found(plain, Check.NOT_FINITE)


def test_a_single_value_that_is_no_number_is_a_warning(league: League) -> None:
    league.execute(f"{spoil('pace', 'nan')} WHERE player_id = (SELECT MIN(player_id) FROM {ROSTER})")

    [finding] = found(league.build(SUNDAY), Check.NOT_FINITE)

    assert finding.severity is FindingSeverity.WARNING


def test_nan_in_phase3_is_a_missing_cell(league: League) -> None:
    league.execute(f"DELETE FROM {COMPOSITE} WHERE analysis_date = DATE '{SUNDAY}'")
    league.execute(spoil("usage_rate", "nan", PLAYER_GAMES))

    league.build(SUNDAY)

    rows = league.published(SUNDAY).values()
    assert all(row["usage_rate"] is None and "usage_rate" in row["missing_features"] for row in rows)
    assert {row["composite_source"] for row in rows} == {"phase3"}


def test_a_processor_that_the_build_does_not_read_gives_no_finding(league: League) -> None:
    league.execute(spoil("pace", "nan"))

    retracted = league.build(SUNDAY, ignored=frozenset({"player_composite_factors"}))
    forced = league.build(SUNDAY, 2, BuildMode.FORCED_FALLBACK)

    assert not found(retracted, Check.NOT_FINITE)
    assert not found(forced, Check.NOT_FINITE)


@pytest.fixture
def old_night(league: League) -> League:
    """A night published by a release that took NaN for a value."""
    league.build(SATURDAY)
    league.execute(f"UPDATE {GENERATIONS_TABLE} SET pace = 'nan'::DOUBLE, usage_rate = 'inf'::DOUBLE")
    return league


def test_rows_of_an_older_release_are_copied_with_null_for_nan(old_night: League) -> None:
    old_night.build(SUNDAY, mode=BuildMode.YESTERDAY)

    rows = old_night.published(SUNDAY).values()
    assert all(row["pace"] is None and row["usage_rate"] is None for row in rows)
    assert all({"pace", "usage_rate"} <= set(row["missing_features"]) for row in rows)


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_rows_of_an_older_release_are_exported_with_null_for_nan(
    old_night: League, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"features.{ending}"
    published = find_generation(old_night.warehouse, SATURDAY, PUBLISHED_NOW)
    old_night.warehouse.export_features(SATURDAY, published.build_id, str(path))

    text = path.read_text("utf-8")
    assert "nan" not in text.lower().replace("fernando", "")
    if ending == "jsonl":
        rows = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
        assert {row["pace"] for row in rows} == {None}


def test_phase5_and_lineage_read_null_for_nan_of_an_older_release(old_night: League) -> None:
    rows = load_features_for_prediction(SATURDAY, warehouse=old_night.warehouse)
    traced = trace_row(old_night.warehouse, SATURDAY, rows[0]["player_id"])

    assert {row["pace"] for row in rows} == {row["usage_rate"] for row in rows} == {None}
    [pace] = [feature for feature in traced.features if feature.name == "pace"]
    assert (pace.value, pace.source) == (None, "missing")


def test_without_a_schedule_the_opponents_come_from_phase4(league: League) -> None:
    league.build(SUNDAY)
    before = playing(league)
    league.execute(f"DELETE FROM {SCHEDULE} WHERE {TONIGHT}")

    outcome = league.build(SUNDAY, 2)

    assert playing(league) == before
    [finding] = found(outcome, Check.SCHEDULE_MISSING)
    assert finding.severity is FindingSeverity.CRITICAL
    # The finding counts each active player, also a player who is left out.
    [active] = league.query(f"SELECT COUNT(*) AS n FROM {GENERATIONS_TABLE} WHERE build_generation = 2 AND has_game")
    assert f"{active['n']} players play by Phase 4" in finding.observed
    assert (outcome.report.earned_state, outcome.report.severity) == (State.DEGRADED, "P2")
    assert not found(outcome, Check.SCHEDULE_DISAGREES)
    player = min(before)
    assert trace_row(league.warehouse, SUNDAY, player).changes == ()


def test_a_forced_fallback_does_not_ask_phase4_who_plays(league: League) -> None:
    league.execute(f"DELETE FROM {SCHEDULE} WHERE {TONIGHT}")

    outcome = league.build(SUNDAY, mode=BuildMode.FORCED_FALLBACK)

    assert playing(league) == {}
    assert not OTHERS & {finding.check for finding in outcome.report.findings}


def pairs(league: League) -> list[tuple[str, str, str]]:
    rows = league.query(
        f"SELECT game_id, home_team_abbreviation, away_team_abbreviation FROM {SCHEDULE} WHERE {TONIGHT}"
    )
    return sorted(tuple(row.values()) for row in rows)


@pytest.mark.parametrize("days", [-3, 5, 200])
def test_of_the_rows_of_a_game_the_newest_counts_wherever_it_puts_the_game(league: League, days: int) -> None:
    game, home, away = pairs(league)[0]
    league.build(SUNDAY)
    concerned = {key for key, row in league.published(SUNDAY).items() if row["team_abbreviation"] in {home, away}}
    league.execute(
        f"INSERT INTO {SCHEDULE} SELECT * REPLACE ((game_date + {days})::DATE AS game_date, "
        f"processed_at + INTERVAL 6 HOUR AS processed_at) FROM {SCHEDULE} WHERE game_id = ?",
        [game],
    )

    outcome = league.build(SUNDAY, 2)

    assert concerned
    assert not concerned & playing(league).keys()
    [finding] = found(outcome, Check.SCHEDULE_DISAGREES)
    assert finding.subject == SCHEDULE
    assert f"for {len(concerned)} of {len(playing(league)) + len(concerned)} players" in finding.observed


def test_an_older_row_of_a_game_does_not_move_the_game(league: League) -> None:
    league.build(SUNDAY)
    before = playing(league)
    league.execute(
        f"INSERT INTO {SCHEDULE} SELECT * REPLACE ((game_date + 1)::DATE AS game_date, "
        f"processed_at - INTERVAL 6 HOUR AS processed_at) FROM {SCHEDULE} WHERE {TONIGHT}"
    )

    assert not OTHERS & {finding.check for finding in league.build(SUNDAY, 2).report.findings}
    assert playing(league) == before


@pytest.mark.parametrize("name", ["NULL", "''", "' '", "away_team_abbreviation", "'XXX'"])
def test_a_game_of_an_empty_or_unknown_team_is_no_game(league: League, name: str) -> None:
    game, home, away = pairs(league)[0]
    league.execute(f"UPDATE {SCHEDULE} SET home_team_abbreviation = {name} WHERE game_id = '{game}'")

    outcome = league.build(SUNDAY)

    teams = {row["team_abbreviation"] for row in league.published(SUNDAY).values() if row["has_game"]}
    assert not {home, away} & teams
    assert [finding.subject for finding in found(outcome, Check.SCHEDULE_DISAGREES)] == [SCHEDULE]
    assert [finding.observed[:5] for finding in found(outcome, Check.UNKNOWN_TEAM)] == ["'XXX'"] * (name == "'XXX'")


def test_a_blank_behind_each_team_of_the_roster_is_found(league: League) -> None:
    league.execute(f"UPDATE {ROSTER} SET team_abbreviation = team_abbreviation || ' '")

    outcome = league.build(SUNDAY)

    [unknown], [games] = found(outcome, Check.UNKNOWN_TEAM), found(outcome, Check.SCHEDULE_DISAGREES)
    assert (unknown.subject, unknown.severity) == (ROSTER, FindingSeverity.CRITICAL)
    assert "'ATL '" in unknown.observed
    assert games.severity is FindingSeverity.CRITICAL


def drop(league: League) -> None:
    league.execute(f"DROP TABLE {TEAM_LIST}")


def empty(league: League) -> None:
    league.execute(f"DELETE FROM {TEAM_LIST}")


def retype(league: League) -> None:
    league.execute(f"ALTER TABLE {TEAM_LIST} ALTER team_id TYPE VARCHAR")


@pytest.mark.parametrize("change", [drop, empty, retype])
def test_without_a_team_list_no_name_is_checked(league: League, change: Callable[[League], None]) -> None:
    league.execute(f"UPDATE {ROSTER} SET team_abbreviation = 'XXX' WHERE team_abbreviation = 'ATL'")
    league.execute(
        f"UPDATE {SCHEDULE} SET home_team_abbreviation = replace(home_team_abbreviation, 'ATL', 'XXX'), "
        "away_team_abbreviation = replace(away_team_abbreviation, 'ATL', 'XXX')"
    )
    change(league)

    outcome = league.build(SUNDAY)

    assert outcome.published
    assert not found(outcome, Check.UNKNOWN_TEAM)
    traced = trace_row(league.warehouse, SUNDAY, min(playing(league)))
    assert traced.changes == ()


def test_a_team_that_was_renamed_is_known_by_the_newest_name(league: League) -> None:
    league.execute(
        f"INSERT INTO {TEAM_LIST} SELECT * REPLACE ('XXX' AS team_abbreviation, "
        f"processed_at + INTERVAL 1 HOUR AS processed_at) FROM {TEAM_LIST} WHERE team_abbreviation = 'ATL'"
    )

    [finding] = [one for one in found(league.build(SUNDAY), Check.UNKNOWN_TEAM) if one.subject == ROSTER]

    assert finding.observed.startswith("'ATL': ")


@pytest.mark.parametrize("table", [COMPOSITE, CACHE])
def test_a_phase4_table_of_another_night_is_named_alone(league: League, table: str) -> None:
    league.execute(f"DELETE FROM {table} WHERE analysis_date = DATE '{SUNDAY}'")
    league.execute(f"UPDATE {table} SET analysis_date = DATE '{SUNDAY}' WHERE analysis_date = DATE '{SATURDAY}'")

    [finding] = found(league.build(SUNDAY), Check.SCHEDULE_DISAGREES)

    owner = next(block.processor for block in SHIPPED.blocks if block.table == table)
    assert (finding.subject, finding.processor, finding.severity) == (table, owner, FindingSeverity.CRITICAL)
