"""A night worked out a second time, in plain Python: lists of dictionaries, loops and exact fractions.

Shares no code with the build. Written from the rules of the cell, the row and the score; whatever the build says of a
night must equal this to the last digit. Which features there are, and where each lies, is read from the definition:
that is data, and a feature is added there alone.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from math import isfinite
from typing import Any

from worker.pipelines.shipped import SHIPPED

Row = Mapping[str, Any]

ROSTER = "nba_raw.nbac_player_list"
SCHEDULE = "nba_raw.nbac_schedule"
GAMES = "nba_analytics.player_game_summary"
OFFENSE = "nba_analytics.team_offense_game_summary"
DEFENSE = "nba_analytics.team_defense_game_summary"
TEAMS = "nba_raw.nbac_team_list"
PHASE4 = {
    "team_defense": "nba_precompute.team_defense_zone_analysis",
    "player_shot": "nba_precompute.player_shot_zone_analysis",
    "composite": "nba_precompute.player_composite_factors",
    "daily_cache": "nba_precompute.player_daily_cache",
}
CELLS = {block.name: [feature.name for feature in SHIPPED.features_of(block.name)] for block in SHIPPED.blocks}
FALLBACK = {feature.name: feature.phase3_table for feature in SHIPPED.features}
"""Feature -> the Phase 3 table that has it where Phase 4 does not."""
REQUIRED = ["points_projection", "rebounds_projection", "assists_projection", "offensive_rating", "defensive_rating"]

WITNESSES = ["player_shot", "composite", "daily_cache"]
"""The blocks whose table says of each player whether he plays, and against whom."""
TOLD = ["has_game", "opponent_abbreviation", "team_abbreviation"]
SCHEDULE_DAYS = 366

COLUMNS: Mapping[str, Sequence[str]] = {
    TEAMS: ["team_id", "team_abbreviation", "processed_at"],
    ROSTER: ["snapshot_date", "player_id", "player_name", "team_abbreviation", "processed_at"],
    SCHEDULE: ["game_date", "game_id", "home_team_abbreviation", "away_team_abbreviation", "processed_at"],
    **{
        table: ["game_date", key, "processed_at", *(cell for cell, lies in FALLBACK.items() if lies == table)]
        for table, key in ((GAMES, "player_id"), (OFFENSE, "team_abbreviation"), (DEFENSE, "team_abbreviation"))
    },
    **{
        table: [
            "analysis_date",
            "team_abbreviation" if block == "team_defense" else "player_id",
            "processed_at",
            *CELLS[block],
            *(TOLD if block in WITNESSES else ()),
        ]
        for block, table in PHASE4.items()
    },
}
"""What the calculation reads of each table. The second column of Phase 3 and 4 is the key, the first the date."""


@dataclass(frozen=True)
class Question:
    """What a build was asked."""

    night: date
    forced: bool = False
    lookback_days: int = 30
    as_of: datetime | None = None
    optional: frozenset[str] = frozenset()
    """Blocks that count only where their table has a row of the night."""

    def sees(self, row: Row) -> bool:
        return self.as_of is None or row["processed_at"] <= self.as_of


@dataclass(frozen=True)
class Sources:
    """Tables as Python rows, by what the rules look them up with."""

    by_date: Mapping[str, Mapping[date, list[Row]]]
    by_key: Mapping[str, Mapping[Any, list[Row]]]

    @staticmethod
    def of(tables: Mapping[str, list[Row]]) -> "Sources":
        by_date = {table: grouped(rows, COLUMNS[table][0]) for table, rows in tables.items()}
        by_key = {
            table: grouped(tables[table], COLUMNS[table][1]) for table in (GAMES, OFFENSE, DEFENSE) if table in tables
        }
        return Sources(by_date, by_key)

    def changed(self, tables: Mapping[str, list[Row]]) -> "Sources":
        """The same, but for some tables."""
        other = Sources.of(tables)
        return replace(self, by_date={**self.by_date, **other.by_date}, by_key={**self.by_key, **other.by_key})

    def on(self, table: str, day: date) -> list[Row]:
        return self.by_date[table].get(day, [])


def grouped(rows: list[Row], key: str) -> dict[Any, list[Row]]:
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


@dataclass
class Player:
    """One active player, worked out by hand."""

    row: dict[str, Any]
    applicable: list[str]
    counted: list[str] = field(default_factory=list)
    """The applicable blocks that the score counts."""
    from_phase: dict[str, int] = field(default_factory=dict)
    """Feature -> 4 or 3; absent where neither phase has a value."""
    games: dict[str, str] = field(default_factory=dict)
    """Witness -> how its word and the schedule agree; absent where neither says that he plays."""

    @property
    def differing(self) -> bool:
        return any(kind != "same" for kind in self.games.values())

    def share(self, phase: int) -> Fraction:
        """The player's blocks filled from a phase, each counted by its share of cells."""
        return sum(
            (
                Fraction(sum(1 for cell in CELLS[block] if self.from_phase.get(cell) == phase), len(CELLS[block]))
                for block in self.counted
            ),
            Fraction(0),
        )


@dataclass(frozen=True)
class Night:
    """All players of a night, and what the night is worth."""

    players: list[Player]
    components: list[float]
    """In the document's order."""
    total: float
    score: float
    fallback_rate: float
    missing_rate: float
    severity: str | None
    state: str
    not_finite: Mapping[str, int]
    """Feature -> NaN and infinite values in the table of Phase 4; absent for none."""
    from_phase4: int
    """Players whose opponent Phase 4 named, because the schedule has no game."""
    unknown: Mapping[str, tuple[Sequence[str], int]]
    """schedule or roster -> the teams that the list lacks, and the players concerned."""

    @property
    def rows(self) -> dict[int, Player]:
        """The players that get a row, by id."""
        return {p.row["player_id"]: p for p in self.players if p.row["points_projection"] is not None}


def newest(rows: Collection[Row]) -> Row:
    return max(rows, key=lambda row: row["processed_at"], default={})


def latest(sources: Sources, table: str, key: object, asked: Question) -> Row:
    first = asked.night - timedelta(days=asked.lookback_days)
    rows = sources.by_key[table].get(key, [])
    within = [row for row in rows if first <= row["game_date"] < asked.night and asked.sees(row)]
    return max(within, key=lambda row: (row["game_date"], row["processed_at"]), default={})


def finite(value: Any) -> Any:
    """The value, None for NaN and infinity."""
    return None if isinstance(value, float) and not isfinite(value) else value


def games_of(sources: Sources, asked: Question) -> list[tuple[str | None, str | None, Row]]:
    """(team, opponent, row) twice for each game of the night; of the rows of one game the newest counts."""
    by_game: dict[object, list[Row]] = {}
    for number, row in enumerate(row for rows in sources.by_date[SCHEDULE].values() for row in rows):
        if abs((row["game_date"] - asked.night).days) <= SCHEDULE_DAYS and asked.sees(row):
            by_game.setdefault(row["game_id"] or number, []).append(row)
    newest_rows = [max(rows, key=lambda row: (row["processed_at"], row["game_date"])) for rows in by_game.values()]
    pairs = [
        (row, row["home_team_abbreviation"], row["away_team_abbreviation"])
        for row in newest_rows
        if row["game_date"] == asked.night
    ]
    return [(home, away, row) for row, home, away in pairs] + [(away, home, row) for row, home, away in pairs]


def known_teams(sources: Sources) -> set[str]:
    rows = [row for rows in sources.by_date[TEAMS].values() for row in rows]
    return {newest(of_team)["team_abbreviation"] for of_team in grouped(rows, "team_id").values()} - {None}


def opponents(sources: Sources, asked: Question) -> dict[str, str]:
    """Team -> opponent; of two games of a team the one told of last counts, then the one with the smaller id."""
    known = known_teams(sources)
    found: dict[str, str] = {}
    games = sorted(games_of(sources, asked), key=lambda game: (str(game[2]["game_id"]), str(game[1])), reverse=True)
    for team, opponent, _row in sorted(games, key=lambda game: game[2]["processed_at"]):
        named = team and opponent and team.strip() and opponent.strip() and team != opponent
        if team and opponent and named and (not known or {team, opponent} <= known):
            found[team] = opponent
    return found


def told_by_phase4(phase4: Mapping[str, Mapping[Any, Row]]) -> dict[str, str]:
    """Team -> opponent by most rows of the witnesses; of equally many the first name."""
    told = Counter(
        (row["team_abbreviation"], row["opponent_abbreviation"])
        for block in WITNESSES
        for row in phase4[block].values()
        if row["has_game"] and row["team_abbreviation"] and row["opponent_abbreviation"]
    )
    found: dict[str, str] = {}
    for (team, opponent), _count in sorted(told.items(), key=lambda one: (one[1], [-ord(c) for c in one[0][1]])):
        if team != opponent:
            found[team] = opponent
    return found


def agreement(witness: Row, scheduled: str | None) -> str | None:
    """How the word of Phase 4 and the schedule agree about a player."""
    if witness.get("has_game") is None:
        return None
    if scheduled is None:
        return "phase4 only" if witness["has_game"] else None
    if not witness["has_game"]:
        return "schedule only"
    return "same" if witness["opponent_abbreviation"] in (None, scheduled) else "other opponent"


def label(phases: set[int]) -> str:
    return {frozenset(): "missing", frozenset({4}): "phase4", frozenset({3}): "phase3"}.get(frozenset(phases), "mixed")


def tenths(value: Fraction) -> float:
    exact = Decimal(value.numerator) / Decimal(value.denominator)
    return float(exact.quantize(Decimal("0.1"), rounding=ROUND_HALF_UP))


def points_lost(x: Fraction) -> Fraction:
    if x <= Fraction("0.05"):
        return 100 * x
    if x <= Fraction("0.25"):
        return 5 + (x - Fraction("0.05")) / Fraction("0.20") * 5
    if x <= Fraction("0.50"):
        return 10 + (x - Fraction("0.25")) / Fraction("0.25") * 10
    return 20 + (x - Fraction("0.50")) / Fraction("0.50") * 5


def work_out_night(sources: Sources, asked: Question) -> Night:
    """Work out every player of a night, and its score."""
    roster = [row for row in sources.on(ROSTER, asked.night) if asked.sees(row)]
    listed = {player: newest(rows) for player, rows in grouped(roster, "player_id").items()}
    scheduled = opponents(sources, asked)
    phase4 = {block: _phase4_of(sources, block, asked) for block in CELLS}
    tonight = scheduled or told_by_phase4(phase4)
    players = [
        _work_out_player(sources, asked, row, tonight.get(row["team_abbreviation"]), phase4) for row in listed.values()
    ]
    for player in players:
        team, key = player.row["team_abbreviation"], player.row["player_id"]
        words = {block: agreement(phase4[block].get(key, {}), scheduled.get(team)) for block in WITNESSES}
        player.games = {block: word for block, word in words.items() if word is not None}
    filled = {block for block in PHASE4 if has_rows(sources, block, asked)}
    wanted = len(filled | (set(PHASE4) - asked.optional))
    found = {
        "not_finite": _not_finite(sources, asked),
        "from_phase4": 0 if scheduled else sum(player.row["has_game"] for player in players),
        "unknown": _unknown_teams(sources, asked, players),
    }
    return _worth(players, asked, (len(filled), wanted), found)


def has_rows(sources: Sources, block: str, asked: Question) -> bool:
    """Whether the block's Phase 4 table has a row of the night."""
    return any(asked.sees(row) for row in sources.on(PHASE4[block], asked.night))


def _not_finite(sources: Sources, asked: Question) -> dict[str, int]:
    counts = {
        cell: sum(
            finite(row[cell]) is None and row[cell] is not None
            for row in sources.on(PHASE4[block], asked.night)
            if asked.sees(row) and not asked.forced
        )
        for block, cells in CELLS.items()
        for cell in cells
    }
    return {cell: count for cell, count in counts.items() if count}


def _unknown_teams(sources: Sources, asked: Question, players: list[Player]) -> dict[str, tuple[Sequence[str], int]]:
    """The teams that the list lacks, and the players of these teams and of their opponents."""
    known = known_teams(sources)
    if not known:
        return {}
    games = [game for game in games_of(sources, asked) if game[0] and game[0].strip() and game[0] not in known]
    by_schedule = {team for team, _opponent, _row in games}
    concerned = by_schedule | {opponent for _team, opponent, _row in games}
    by_roster = {player.row["team_abbreviation"] for player in players} - known - {None, ""}
    found = {"schedule": (by_schedule, concerned), "roster": (by_roster, by_roster)}
    return {
        source: (sorted(map(str, names)), sum(player.row["team_abbreviation"] in teams for player in players))
        for source, (names, teams) in found.items()
        if names
    }


def _phase4_of(sources: Sources, block: str, asked: Question) -> dict[Any, Row]:
    if asked.forced:
        return {}
    table = PHASE4[block]
    seen = [row for row in sources.on(table, asked.night) if asked.sees(row)]
    return {key: newest(rows) for key, rows in grouped(seen, COLUMNS[table][1]).items()}


def _work_out_player(
    sources: Sources, asked: Question, listed: Row, opponent: str | None, phase4: Mapping[str, Mapping[Any, Row]]
) -> Player:
    player, team = listed["player_id"], listed["team_abbreviation"]
    fallback = {
        GAMES: latest(sources, GAMES, player, asked),
        OFFENSE: latest(sources, OFFENSE, team, asked),
        DEFENSE: latest(sources, DEFENSE, opponent, asked) if opponent else {},
    }
    result = Player(
        row={cell: None for cells in CELLS.values() for cell in cells},
        applicable=[block for block in CELLS if block != "team_defense" or opponent],
    )
    result.counted = [
        block for block in result.applicable if block not in asked.optional or has_rows(sources, block, asked)
    ]
    dates: list[date] = []
    for block in result.applicable:
        upper = phase4[block].get(opponent if block == "team_defense" else player, {})
        for cell in CELLS[block]:
            lower = fallback[FALLBACK[cell]]
            if finite(upper.get(cell)) is not None:
                result.row[cell], result.from_phase[cell] = upper[cell], 4
                dates.append(asked.night)
            elif finite(lower.get(cell)) is not None:
                result.row[cell], result.from_phase[cell] = lower[cell], 3
                dates.append(lower["game_date"])
    phases = result.from_phase
    result.row |= {
        "analysis_date": asked.night,
        "player_id": player,
        "player_name": listed["player_name"],
        "team_abbreviation": team,
        "opponent_abbreviation": opponent,
        "has_game": opponent is not None,
        "data_source": label(set(phases.values())),
        "phase4_available": 4 in phases.values(),
        "phase3_fallback_used": 3 in phases.values(),
        "source_data_date": max(dates, default=None),
        "quality_score": tenths(100 - points_lost(1 - result.share(4) / len(result.counted))),
    }
    for block, cells in CELLS.items():
        of_block = label({phases[cell] for cell in cells if cell in phases})
        result.row[f"{block}_source"] = of_block if block in result.applicable else None
    return result


def _worth(players: list[Player], asked: Question, tables: tuple[int, int], found: Mapping[str, Any]) -> Night:
    """Work out what the players are worth; *tables* are the filled and the wanted tables of Phase 4."""
    filled_tables, wanted_tables = tables
    rows = [player for player in players if player.row["points_projection"] is not None]
    blocks = sum(len(player.counted) for player in players) or 1
    p4 = sum((player.share(4) for player in rows), Fraction(0)) / blocks
    p3 = sum((player.share(3) for player in rows), Fraction(0)) / blocks
    x, missing = 1 - p4, 1 - p4 - p3
    nulls = Fraction(sum(1 for p in rows for name in REQUIRED if p.row[name] is None), 5 * len(rows) or 1)
    dependency = tenths(Fraction(15 * filled_tables, wanted_tables))
    components = [0.0, 0.0, 0.0, dependency, 0.0, 0.0]
    if rows:
        age = (asked.night - max(player.row["source_data_date"] for player in rows)).days
        steps = [points for least, points in ((400, 5), (300, 4), (200, 3), (100, 1), (0, 0)) if len(rows) >= least]
        components = [
            tenths(40 * p4),
            tenths(20 - 20 * x),
            float({0: 15, 1: 12, 2: 8}.get(age, 0)),
            dependency,
            float(steps[0]),
            tenths(5 - 5 * nulls),
        ]
    total = round(sum(components), 1)
    score = total
    if len(rows) >= 200 and nulls <= Fraction("0.1"):
        score = max(total, tenths(100 - points_lost(x) - 100 * max(Fraction(0), missing - Fraction("0.1"))))
    whole = filled_tables == wanted_tables and not asked.forced and x <= Fraction("0.1")
    return Night(
        players=players,
        components=components,
        total=total,
        score=score,
        fallback_rate=float(x),
        missing_rate=float(missing),
        severity=_severity(score, len(rows), x),
        state="done" if whole else "degraded",
        **found,
    )


def _severity(score: float, rows: int, x: Fraction) -> str | None:
    if score < 50 or rows < 100:
        return "P0"
    if score < 75 or rows < 200 or x > Fraction("0.50"):
        return "P1"
    if score < 80 or x > Fraction("0.25"):
        return "P2"
    return "P3" if score < 90 or x > Fraction("0.10") else None
