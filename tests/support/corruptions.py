"""Ways in which a night's inputs go wrong while every row is there, and what a build must find.

A corruption is a list of statements over the tables of a `Season`, for one night. The statements know nothing of the
checks: whether a build notices is the question.
"""

# ruff: noqa: S608 -- statements are made of this file's own names; whatever else is in them is a parameter

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from tests.support.faulty_nights import Change, Season
from worker.features.model import BuildOutcome

FACTORS = "nba_precompute.player_composite_factors"
CACHE = "nba_precompute.player_daily_cache"
SHOTS = "nba_precompute.player_shot_zone_analysis"
ZONES = "nba_precompute.team_defense_zone_analysis"
PHASE4 = (FACTORS, CACHE, SHOTS, ZONES)
SCHEDULE = "nba_raw.nbac_schedule"
ROSTER = "nba_raw.nbac_player_list"
PLAYER_GAMES = "nba_analytics.player_game_summary"
TEAM_GAMES = "nba_analytics.team_offense_game_summary"

REQUIRED = ("offensive_rating", "defensive_rating", "points_projection", "rebounds_projection", "assists_projection")


@dataclass(frozen=True, slots=True)
class Nights:
    """What a corruption may ask about a night before it is made."""

    games: Mapping[date, int]
    teams: Mapping[date, frozenset[str]]

    @classmethod
    def of(cls, season: Season) -> "Nights":
        found: dict[date, set[str]] = {}
        for row in season.read(SCHEDULE):
            found.setdefault(row["game_date"], set()).update(
                {row["home_team_abbreviation"], row["away_team_abbreviation"]}
            )
        teams = {night: frozenset(names) for night, names in found.items()}
        return cls(games={night: len(names) // 2 for night, names in teams.items()}, teams=teams)

    def plays(self, night: date) -> bool:
        return self.games.get(night, 0) > 0

    def played_before(self, night: date) -> bool:
        """Whether the night before had games, so that values have moved since."""
        return self.plays(night - timedelta(days=1))


def always(_nights: Nights, _night: date) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Corruption:
    """One kind.

    Attributes:
        name: In the table of docs/reliability.md.
        spoils: The statements for a night.
        checks: A finding of one of these checks is the right answer.
        severity: Of that finding, at least.
        state: Of the build.
        applies: Whether the night can be spoiled so, and is wrong then.
        claims: Rows that the processors claim; nothing by default.
    """

    name: str
    spoils: Callable[[date], Sequence[Change]]
    checks: frozenset[str]
    severity: str = "critical"
    state: str = "degraded"
    applies: Callable[[Nights, date], bool] = always
    claims: Mapping[str, int] = field(default_factory=dict)

    def is_caught(self, outcome: BuildOutcome) -> bool:
        """Whether the right check speaks with the right weight, and the state and severity of the date follow."""
        weights = {"note": 0, "warning": 1, "critical": 2}
        found = [finding.severity.value for finding in outcome.report.findings if finding.check in self.checks]
        loud = any(weights[severity] >= weights[self.severity] for severity in found)
        least = {"critical": "P2", "warning": "P3"}.get(self.severity, "P9")
        severe = self.severity == "note" or (outcome.report.severity or "P9") <= least
        return loud and severe and outcome.report.earned_state.value == self.state


def update(table: str, **columns: str) -> Callable[[date], Sequence[Change]]:
    """New values of the night's rows."""
    sets = ", ".join(f"{name} = {expression}" for name, expression in columns.items())
    return lambda night: [(table, f"UPDATE {{}} SET {sets} WHERE analysis_date = ?", [night])]


def yesterdays_rows(*tables: str) -> Callable[[date], Sequence[Change]]:
    """The rows of the night before, under the night's date."""

    def spoil(night: date) -> list[Change]:
        before = night - timedelta(days=1)
        return [
            change
            for table in tables
            for change in (
                (table, "DELETE FROM {} WHERE analysis_date = ?", [night]),
                (
                    table,
                    "INSERT INTO {} BY NAME SELECT * REPLACE (CAST(? AS DATE) AS analysis_date) FROM {} "
                    "WHERE analysis_date = ?",
                    [night, before],
                ),
            )
        ]

    return spoil


def moved_to_another(table: str, key: str) -> Callable[[date], Sequence[Change]]:
    """Each row under the key of the next one."""
    return lambda night: [
        (
            table,
            f"UPDATE {{}} AS spoiled SET {key} = other.moved FROM (SELECT {key} AS own, COALESCE(LEAD({key}) OVER "
            f"(ORDER BY {key}), MIN({key}) OVER ()) AS moved FROM {{}} WHERE analysis_date = ?) AS other "
            f"WHERE spoiled.analysis_date = ? AND spoiled.{key} = other.own",
            [night, night],
        )
    ]


def swapped(table: str, one: str, other: str) -> Callable[[date], Sequence[Change]]:
    return update(table, **{one: other, other: one})


def schedule(sql: str) -> Callable[[date], Sequence[Change]]:
    return lambda night: [(SCHEDULE, sql, [night])]


def another_nights_schedule(night: date) -> Sequence[Change]:
    """The games of the next night that has other games, under this night's date."""
    return [
        (SCHEDULE, "DELETE FROM {} WHERE game_date = ?", [night]),
        (
            SCHEDULE,
            "INSERT INTO {} BY NAME SELECT * REPLACE (CAST(? AS DATE) AS game_date, game_id || 'x' AS game_id) FROM {} "
            "WHERE game_date = (SELECT MAX(game_date) FROM {} WHERE game_date < ?)",
            [night, night],
        ),
    ]


def postponed(night: date) -> Sequence[Change]:
    """One game of the night has a newer row, five days later."""
    return [
        (
            SCHEDULE,
            "INSERT INTO {} BY NAME SELECT * REPLACE (game_date + 5 AS game_date, "
            "processed_at + INTERVAL 6 HOUR AS processed_at) FROM {} WHERE game_date = ? ORDER BY game_id LIMIT 1",
            [night],
        )
    ]


def plays(nights: Nights, night: date) -> bool:
    return nights.plays(night)


def played_before(nights: Nights, night: date) -> bool:
    return nights.played_before(night)


def moved_or_plays(nights: Nights, night: date) -> bool:
    """Rows of the night before are wrong only where something happened since, or where the opponents differ."""
    return nights.plays(night) or nights.played_before(night)


def several_games(nights: Nights, night: date) -> bool:
    return nights.games.get(night, 0) >= 4


def phoenix_plays(nights: Nights, night: date) -> bool:
    return "PHX" in nights.teams.get(night, frozenset())


def found(*checks: str) -> frozenset[str]:
    return frozenset(checks)


CORRUPTIONS = (
    Corruption(
        name="per cent for a fraction (usage_rate)",
        spoils=update(FACTORS, usage_rate="usage_rate * 100"),
        checks=found("out_of_range", "shifted"),
    ),
    Corruption(
        name="zeros in five columns",
        spoils=update(FACTORS, **dict.fromkeys(REQUIRED, "0.0")),
        checks=found("constant"),
    ),
    Corruption(
        name="NaN in two columns",
        spoils=update(FACTORS, points_projection="'NaN'::DOUBLE", offensive_rating="'NaN'::DOUBLE"),
        checks=found("not_finite"),
    ),
    Corruption(
        name="infinity in one column",
        spoils=update(CACHE, season_avg_ppg="'infinity'::DOUBLE"),
        checks=found("not_finite"),
    ),
    Corruption(
        name="1e308",
        spoils=update(FACTORS, rebounds_projection="1e308"),
        checks=found("out_of_range"),
    ),
    Corruption(
        name="negated values",
        spoils=update(FACTORS, points_projection="-points_projection"),
        checks=found("out_of_range"),
    ),
    Corruption(
        name="values 1.3 times too large",
        spoils=update(FACTORS, offensive_rating="offensive_rating * 1.3"),
        checks=found("shifted"),
    ),
    Corruption(
        name="one value in a column",
        spoils=update(CACHE, last_10_games_ppg="11.0"),
        checks=found("constant"),
    ),
    Corruption(
        name="yesterday's rows under today's date (ratings)",
        spoils=yesterdays_rows(FACTORS),
        checks=found("unchanged", "schedule_disagrees"),
        applies=moved_or_plays,
    ),
    Corruption(
        name="yesterday's rows under today's date (recent form)",
        spoils=yesterdays_rows(CACHE),
        checks=found("unchanged", "schedule_disagrees"),
        applies=moved_or_plays,
    ),
    Corruption(
        name="yesterday's rows under today's date (all four)",
        spoils=yesterdays_rows(*PHASE4),
        checks=found("unchanged", "schedule_disagrees"),
        applies=moved_or_plays,
    ),
    Corruption(
        name="rows of another player (ratings)",
        spoils=moved_to_another(FACTORS, "player_id"),
        checks=found("scrambled"),
    ),
    Corruption(
        name="rows of another player (shot zones)",
        spoils=moved_to_another(SHOTS, "player_id"),
        checks=found("scrambled"),
    ),
    Corruption(
        name="rows of another team",
        spoils=moved_to_another(ZONES, "team_abbreviation"),
        checks=found("scrambled", "shifted"),
        applies=several_games,
    ),
    Corruption(
        name="two columns swapped (rebounds, assists)",
        spoils=swapped(FACTORS, "rebounds_projection", "assists_projection"),
        checks=found("scrambled", "shifted"),
    ),
    Corruption(
        name="two columns swapped (usage, true shooting)",
        spoils=swapped(FACTORS, "usage_rate", "true_shooting_pct"),
        checks=found("scrambled", "shifted"),
    ),
    Corruption(
        name="no schedule for the night",
        spoils=schedule("DELETE FROM {} WHERE game_date = ?"),
        checks=found("schedule_missing"),
        applies=plays,
    ),
    Corruption(
        name="half of the schedule",
        spoils=schedule(
            "DELETE FROM {} WHERE game_date = ? AND game_id IN (SELECT game_id FROM {} QUALIFY ROW_NUMBER() OVER "
            "(PARTITION BY game_date ORDER BY game_id) % 2 = 0)"
        ),
        checks=found("schedule_disagrees"),
        applies=several_games,
    ),
    Corruption(
        name="the schedule of another night",
        spoils=another_nights_schedule,
        checks=found("schedule_disagrees"),
        applies=plays,
    ),
    Corruption(
        name="a superseded schedule row (game postponed)",
        spoils=postponed,
        checks=found("schedule_disagrees", "schedule_missing"),
        severity="warning",
        state="done",
        applies=lambda nights, night: nights.games.get(night, 0) > 10,
    ),
    Corruption(
        name="a team under another spelling",
        spoils=lambda night: [
            (
                SCHEDULE,
                f"UPDATE {{}} SET {side}_team_abbreviation = 'PHO' WHERE game_date = ? "
                f"AND {side}_team_abbreviation = 'PHX'",
                [night],
            )
            for side in ("home", "away")
        ],
        checks=found("unknown_team"),
        severity="warning",
        state="done",
        applies=lambda nights, night: phoenix_plays(nights, night) and nights.games[night] > 10,
    ),
    Corruption(
        name="a blank behind each team of the roster",
        spoils=lambda night: [
            (ROSTER, "UPDATE {} SET team_abbreviation = team_abbreviation || ' ' WHERE snapshot_date = ?", [night])
        ],
        checks=found("unknown_team"),
    ),
    Corruption(
        name="half of the roster",
        spoils=lambda night: [(ROSTER, "DELETE FROM {} WHERE snapshot_date = ? AND player_id % 2 = 0", [night])],
        checks=found("roster_size"),
    ),
    Corruption(
        name="a processor that claims other rows",
        spoils=lambda _night: [],
        checks=found("claimed_rows_differ"),
        severity="warning",
        state="done",
        claims={"player_composite_factors": 7},
    ),
    Corruption(
        name="a column under another name",
        spoils=lambda _night: [(CACHE, "ALTER TABLE {} RENAME season_avg_ppg TO season_ppg", [])],
        checks=found("column_unusable"),
    ),
    Corruption(
        name="a column as text",
        spoils=lambda _night: [(FACTORS, "ALTER TABLE {} ALTER COLUMN usage_rate TYPE VARCHAR", [])],
        checks=found("column_unusable"),
    ),
    Corruption(
        name="a Phase 4 table dropped",
        spoils=lambda _night: [(SHOTS, "DROP TABLE {}", [])],
        checks=found("table_unusable"),
    ),
    Corruption(
        name="a Phase 3 table dropped, Phase 4 full",
        spoils=lambda _night: [(TEAM_GAMES, "DROP TABLE {}", [])],
        checks=found("table_unusable"),
        severity="warning",
        state="done",
    ),
    Corruption(
        name="rows written 21 days ago",
        spoils=update(FACTORS, processed_at="processed_at - INTERVAL 21 DAY"),
        checks=found("stale_rows"),
        severity="warning",
        state="done",
    ),
    Corruption(
        name="rows written in 2999",
        spoils=update(CACHE, processed_at="TIMESTAMPTZ '2999-01-01 00:00:00+00'"),
        checks=found("stale_rows"),
        severity="warning",
        state="done",
    ),
    Corruption(
        name="rows without the instant of writing",
        spoils=update(SHOTS, processed_at="NULL"),
        checks=found("stale_rows"),
        severity="warning",
        state="done",
    ),
    Corruption(
        name="two rows for each player",
        spoils=lambda night: [
            (
                CACHE,
                "INSERT INTO {} BY NAME SELECT * REPLACE (season_avg_ppg * 1.01 AS season_avg_ppg) FROM {} "
                "WHERE analysis_date = ?",
                [night],
            )
        ],
        checks=found("duplicate_keys"),
        severity="warning",
        state="done",
    ),
    Corruption(
        name="half of the required fields empty in both phases",
        spoils=lambda night: [
            (
                table,
                f"UPDATE {{}} SET {', '.join(f'{name} = NULL' for name in REQUIRED if name != 'points_projection')} "
                f"WHERE player_id % 2 = 0 AND {when}",
                [night],
            )
            for table, when in ((FACTORS, "analysis_date = ?"), (PLAYER_GAMES, "game_date < ?"))
        ],
        checks=found("component_low"),
    ),
)
