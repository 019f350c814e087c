"""Invented season: the real thirty teams, invented players, a calendar and box scores, all from a single seed.

No function reads a clock or depends on hash order: the same seed and date give the same league. The means are the means
of the 2024-25 regular season: 240 player minutes, about 100 possessions and 113 points for each team.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from typing import NamedTuple

# In the order of NBA.com's team ids, which start at FIRST_TEAM_ID.
TEAM_NAMES = {
    "ATL": "Atlanta Hawks", "BOS": "Boston Celtics", "CLE": "Cleveland Cavaliers", "NOP": "New Orleans Pelicans",
    "CHI": "Chicago Bulls", "DAL": "Dallas Mavericks", "DEN": "Denver Nuggets", "GSW": "Golden State Warriors",
    "HOU": "Houston Rockets", "LAC": "LA Clippers", "LAL": "Los Angeles Lakers", "MIA": "Miami Heat",
    "MIL": "Milwaukee Bucks", "MIN": "Minnesota Timberwolves", "BKN": "Brooklyn Nets", "NYK": "New York Knicks",
    "ORL": "Orlando Magic", "IND": "Indiana Pacers", "PHI": "Philadelphia 76ers", "PHX": "Phoenix Suns",
    "POR": "Portland Trail Blazers", "SAC": "Sacramento Kings", "SAS": "San Antonio Spurs",
    "OKC": "Oklahoma City Thunder", "TOR": "Toronto Raptors", "UTA": "Utah Jazz", "MEM": "Memphis Grizzlies",
    "WAS": "Washington Wizards", "DET": "Detroit Pistons", "CHA": "Charlotte Hornets",
}  # fmt: skip
FIRST_TEAM_ID = 1610612737
GAMES_PER_NIGHT_MAX = len(TEAM_NAMES) // 2

FIRST_NAMES = (
    "Abel", "Anton", "Bastien", "Cedric", "Corwin", "Dario", "Desmund", "Edvin", "Elias", "Emeka", "Fabrice",
    "Florian", "Gideon", "Goran", "Hugo", "Ivo", "Jarrick", "Jerome", "Joaquín", "Kasper", "Kofi", "Lamont",
    "Leander", "Lennox", "Luc", "Malik", "Marek", "Mattéo", "Nils", "Obi", "Orson", "Pascal", "Quentin", "Rafaël",
    "Renzo", "Sandor", "Silas", "Tariq", "Terrence", "Tobiah", "Ulric", "Viggo", "Wendell", "Yannis", "Zoltan",
)  # fmt: skip
LAST_NAMES = (
    "Abernall", "Adeyinka", "Almqvist", "Ambrusko", "Arrowood", "Bakkerud", "Bellavance", "Brackwell", "Çelikoğlu",
    "Cinderhill", "Coldwater", "Dąbrovič", "Dellacroix", "Dunmarrow", "Eberhold", "Ekwueme", "Farnsley", "Fenwright",
    "Garrowby", "Gjerstad", "Halloway", "Hartenbach", "Iwubuike", "Jarnefors", "Jellicoe", "Kallström", "Kettlewick",
    "Kowalten", "Lindqvist", "Longacre", "Mbarga", "Merriwhite", "Munkhald", "Nachtwey", "Nørgaard", "Oakhollow",
    "Ostrander", "Pemberlane", "Pilkvist", "Quillfeather", "Radovanek", "Ravensholm", "Sáenzo", "Sorrelton",
    "Stavropoulakis", "Tallgrass", "Thistleby", "Underhall", "Vandermoot", "Vossberg", "Wetherington", "Yarrowfield",
    "Zielonka", "Žilvinas",
)  # fmt: skip

DAYS = 45
# With nights without a game. The order is shuffled, so every seed gives the same load: a team plays about every second
# day.
GAMES_PER_NIGHT = (0, 3, 4, 5, 6, 6, 7, 8, 8, 9, 10, 11, 11, 12, 14)
GAMES_TONIGHT = 7
# Influence of chance on a team's place in the order of rest; with this value some teams play on two days in a row.
REST_LUCK_DAYS = 1.3

# Minutes of a full night and the chance to play at all, from the first starter to the fifteenth player.
ROTATION = (
    (34.0, 0.95), (33.0, 0.95), (32.0, 0.95), (30.0, 0.95), (28.0, 0.95), (24.0, 0.9), (21.0, 0.9), (19.0, 0.9),
    (16.0, 0.7), (14.0, 0.55), (12.0, 0.4), (11.0, 0.3), (10.0, 0.25), (9.0, 0.25), (8.0, 0.2),
)  # fmt: skip
STARTERS = 5
DRESSED_MIN = 8
TEAM_MINUTES = 240
MINUTES_MAX = 46

ZONE_COUNT = 5  # restricted area, paint, mid range, corner three, above-the-break three
ZONE_ACCURACY = (0.66, 0.43, 0.40, 0.38, 0.355)
FREE_THROW_ACCURACY = 0.78
# In every eighth team the fifteenth player never shoots: no attempts, so no shot zones to analyse.
NON_SHOOTER_EVERY = 8
# Days before the analysis date on which a player without any game joins a roster.
SIGNED_DAYS_BEFORE = (2, 0)


class Player(NamedTuple):
    """Player as a row; `signed_on` is set only for a player who joined during the window and has not played yet."""

    player_id: int
    player_name: str
    team_abbreviation: str
    signed_on: date | None


class Game(NamedTuple):
    """Scheduled game; `season` has the form 2024-25."""

    game_date: date
    game_id: str
    home: str
    away: str
    season: str


class BoxLine(NamedTuple):
    """Result of a player in a game: whole minutes and counts. Points and totals follow from the counts."""

    game_id: str
    player_id: int
    minutes: int
    offensive_rebounds: int
    defensive_rebounds: int
    assists: int
    steals: int
    blocks: int
    turnovers: int
    personal_fouls: int
    free_throws_made: int
    free_throws_attempted: int
    restricted_area_made: int
    paint_made: int
    mid_range_made: int
    corner_three_made: int
    above_break_three_made: int
    restricted_area_attempted: int
    paint_attempted: int
    mid_range_attempted: int
    corner_three_attempted: int
    above_break_three_attempted: int

    def points(self) -> int:
        """Count the points of the line."""
        twos = self.restricted_area_made + self.paint_made + self.mid_range_made
        return self.free_throws_made + 2 * twos + 3 * (self.corner_three_made + self.above_break_three_made)


@dataclass(frozen=True, slots=True, kw_only=True)
class League:
    """Season up to a night: games of the last day are scheduled and have no box lines."""

    teams: tuple[tuple[int, str, str], ...]
    players: tuple[Player, ...]
    games: tuple[Game, ...]
    box_lines: tuple[BoxLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Style:
    """Style of a player. *size* runs from 0 (guard) to 1 (centre); rates are per minute."""

    player_id: int
    minutes: float
    chance: float
    size: float
    shots: float
    accuracy: float
    zones: tuple[float, ...]


def build_league(rng: Random, *, last_day: date, games_tonight: int) -> League:
    """Invent a league whose window of `DAYS` days ends with *last_day*.

    Args:
        rng: The only source of chance.
        last_day: The night to prepare, a calendar day of America/New_York.
        games_tonight: Games on *last_day*, 0 to `GAMES_PER_NIGHT_MAX`.

    Returns:
        Teams, players, games and box lines, each in a fixed order.
    """
    teams = tuple((FIRST_TEAM_ID + index, code, name) for index, (code, name) in enumerate(TEAM_NAMES.items()))
    players = _players(rng, last_day)
    styles: dict[str, list[_Style]] = {code: [] for code in TEAM_NAMES}
    for player in players:
        if player.signed_on is None:
            team = styles[player.team_abbreviation]
            team.append(_style(rng, player, slot=len(team)))
    games = _games(rng, last_day, games_tonight)
    lines: list[BoxLine] = []
    for game in games:
        if game.game_date < last_day:
            lines += _box_score(rng, game.game_id, styles[game.home], styles[game.away])
    return League(teams=teams, players=players, games=games, box_lines=tuple(lines))


def season_of(day: date) -> str:
    """Return the season of *day*, for example 2024-25; a season starts in July for this purpose."""
    first = day.year if day.month >= 7 else day.year - 1  # noqa: PLR2004 - July
    return f"{first}-{(first + 1) % 100:02d}"


def _players(rng: Random, last_day: date) -> tuple[Player, ...]:
    """Return fifteen players for each team, then the signings."""
    signed: list[date | None] = [last_day - timedelta(days=days) for days in SIGNED_DAYS_BEFORE]
    codes = [code for code in TEAM_NAMES for _ in ROTATION]
    codes += rng.sample(list(TEAM_NAMES), len(signed))
    joined = [None] * (len(codes) - len(signed)) + signed
    names = rng.sample([f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES], len(codes))
    ids = rng.sample(range(9_000_000, 10_000_000), len(codes))
    return tuple(map(Player._make, zip(ids, names, codes, joined, strict=True)))


def _style(rng: Random, player: Player, *, slot: int) -> _Style:
    minutes, chance = ROTATION[slot]
    size = rng.random()
    team_index = list(TEAM_NAMES).index(player.team_abbreviation)
    never_shoots = slot == len(ROTATION) - 1 and team_index % NON_SHOOTER_EVERY == 0
    role = 1.06 if slot < STARTERS else 0.92
    return _Style(
        player_id=player.player_id,
        minutes=minutes,
        chance=chance,
        size=size,
        shots=0.0 if never_shoots else 0.368 * role * min(max(rng.gauss(1.0, 0.2), 0.5), 1.6),
        accuracy=rng.gauss(1.0, 0.04),
        zones=(0.15 + 0.30 * size, 0.12 + 0.12 * size, 0.09, 0.14 - 0.06 * size, 0.50 - 0.36 * size),
    )


def _games(rng: Random, last_day: date, games_tonight: int) -> tuple[Game, ...]:
    """Return the games: teams with the longest rest play, with some chance."""
    counts = list(GAMES_PER_NIGHT * (DAYS // len(GAMES_PER_NIGHT)))
    rng.shuffle(counts)
    counts[-1] = games_tonight
    last_played = dict.fromkeys(TEAM_NAMES, 0.0)
    season = season_of(last_day)
    games: list[Game] = []
    for day, count in enumerate(counts, start=1):
        order = {code: last_played[code] + REST_LUCK_DAYS * rng.random() for code in TEAM_NAMES}
        tonight = sorted(order, key=order.__getitem__)[: 2 * count]
        rng.shuffle(tonight)
        last_played.update(dict.fromkeys(tonight, float(day)))
        for home, away in zip(tonight[::2], tonight[1::2], strict=True):
            game_id = f"002{season[2:4]}{len(games) + 1:05d}"
            games.append(Game(last_day - timedelta(days=DAYS - day), game_id, home, away, season))
    return tuple(games)


def _box_score(rng: Random, game_id: str, home: Sequence[_Style], away: Sequence[_Style]) -> list[BoxLine]:
    """Return the box lines of a game. The home team wins a tie by a free throw: there is no overtime."""
    home_lines, away_lines = _side(rng, game_id, home), _side(rng, game_id, away)
    if sum(line.points() for line in home_lines) == sum(line.points() for line in away_lines):
        first = home_lines[0]
        made, attempted = first.free_throws_made + 1, first.free_throws_attempted + 1
        home_lines[0] = first._replace(free_throws_made=made, free_throws_attempted=attempted)
    return home_lines + away_lines


def _side(rng: Random, game_id: str, team: Sequence[_Style]) -> list[BoxLine]:
    """Return the box lines of a team; with too few players, the players with the best chance fill the side."""
    luck = sorted((rng.random() - style.chance, slot) for slot, style in enumerate(team))
    dressed = sorted(slot for rank, (margin, slot) in enumerate(luck) if margin < 0 or rank < DRESSED_MIN)
    minutes = [max(0.0, rng.gauss(team[slot].minutes, 1.5 + 0.08 * team[slot].minutes)) for slot in dressed]
    scale = TEAM_MINUTES / sum(minutes)
    return [
        _box_line(rng, game_id, team[slot], min(MINUTES_MAX, round(scale * played)))
        for slot, played in zip(dressed, minutes, strict=True)
    ]


def _box_line(rng: Random, game_id: str, style: _Style, minutes: int) -> BoxLine:
    size = style.size
    shots = rng.choices(range(ZONE_COUNT), style.zones, k=_shots(rng, style.shots * minutes))
    attempted = [shots.count(zone) for zone in range(ZONE_COUNT)]
    made = [
        _hits(rng, tries, style.accuracy * accuracy) for tries, accuracy in zip(attempted, ZONE_ACCURACY, strict=True)
    ]
    free_throws = _count(rng, 0.25 * style.shots * minutes)
    rates = (
        0.01 + 0.07 * size,  # offensive rebounds
        0.08 + 0.115 * size,  # defensive rebounds
        0.205 - 0.19 * size,  # assists
        0.045 - 0.02 * size,  # steals
        0.004 + 0.035 * size,  # blocks
        0.058,  # turnovers
        0.080,  # personal fouls
    )
    counts = [_count(rng, rate * minutes) for rate in rates]
    counts[-1] = min(counts[-1], 6)
    free_throws_made = _hits(rng, free_throws, FREE_THROW_ACCURACY)
    return BoxLine._make((game_id, style.player_id, minutes, *counts, free_throws_made, free_throws, *made, *attempted))


def _shots(rng: Random, mean: float) -> int:
    """Return a draw with less spread than `_count`: the shots of a team share the clock and vary little."""
    return max(0, round(rng.gauss(mean, 0.4 * math.sqrt(mean))))


def _hits(rng: Random, tries: int, chance: float) -> int:
    return sum(rng.random() < chance for _ in range(tries))


def _count(rng: Random, mean: float) -> int:
    """Return a draw from the Poisson distribution (Knuth's product of uniforms; the means here stay under 25)."""
    floor, product, count = math.exp(-mean), rng.random(), 0
    while product > floor:
        product *= rng.random()
        count += 1
    return count
