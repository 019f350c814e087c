"""Score of a staged build: six components, the score, the quality gate, the severity and the earned state.

Pure and exact: counts are whole numbers, intermediate values are `Fraction`, and only reported figures are rounded,
half away from zero, to one decimal.

Source: section "Quality Score Monitoring" and "Severity Levels" of the pipeline document, as ruled in the design
(section 4, "Quality"): the share of player-blocks replaces the share of players, and a usable fallback costs at most 25
points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from itertools import pairwise
from types import MappingProxyType

from statemachine.model import BuildMode, State
from worker.features.model import BlockCounts, BuildStats, QualityReport

COMPONENT_POINTS: Mapping[str, int] = MappingProxyType(
    {
        "phase4_availability": 40,
        "phase3_fallback": 20,
        "data_freshness": 15,
        "dependency_completeness": 15,
        "row_completeness": 5,
        "null_field_rate": 5,
    }
)
"""The six components, in the document's order, with the most points of each component."""

COMPONENTS = tuple(COMPONENT_POINTS)
"""Names of the components; the quality table has a column `<name>_score` for each name."""

REQUIRED_FIELD_COUNT = 5

PENALTY_LINE = (
    (Fraction(0), Fraction(0)),
    (Fraction(1, 20), Fraction(5)),
    (Fraction(1, 4), Fraction(10)),
    (Fraction(1, 2), Fraction(20)),
    (Fraction(1), Fraction(25)),
)
"""Pairs (fallback rate, points lost): the corners of the document's table "Quality Score Adjustments"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Severity:
    """Severity level below a score or a number of rows, or above a fallback rate."""

    name: str
    score: int
    rows: int
    fallback: Fraction


SEVERITIES = (
    Severity(name="P0", score=50, rows=100, fallback=Fraction(1)),
    Severity(name="P1", score=75, rows=200, fallback=Fraction(1, 2)),
    Severity(name="P2", score=80, rows=0, fallback=Fraction(1, 4)),
    Severity(name="P3", score=90, rows=0, fallback=Fraction(1, 10)),
)
"""Severity levels, worst first. A fallback rate is never above 1, a number of rows never below 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityPolicy:
    """Rules of the score and the quality gate; the document's figures by default.

    Attributes:
        rows_min: Rows required by the quality gate.
        score_min: Score required by the quality gate, 0 to 100.
        points: Most points of each component, by name.
        freshness_points: Points by age of the newest source in days; older sources get no points.
        row_points: (rows at least, points), best first.
        required_field_count: Fields of a row whose NULLs count.
        usable_rows_min: Minimal rows of a usable fallback, regardless of the gate: Phase 5 refuses fewer rows.
        usable_nulls_max: Maximal share of NULLs in required fields of a usable fallback.
        penalty_line: (fallback rate, points lost), from 0 to 1.
        missing_free: Share of missing blocks without a loss of points; each further per cent costs a point.
        done_fallback_max: Maximal fallback rate of the state `done`.
        severities: Levels, worst first; the first matching level counts.

    Source: Phase 5 refuses fewer than 200 rows and a score under 75.
    """

    rows_min: int = 200
    score_min: float = 75.0
    points: Mapping[str, int] = field(default_factory=lambda: COMPONENT_POINTS)
    freshness_points: Sequence[int] = (15, 12, 8)
    row_points: Sequence[tuple[int, int]] = ((400, 5), (300, 4), (200, 3), (100, 1))
    required_field_count: int = REQUIRED_FIELD_COUNT
    usable_rows_min: int = 200
    usable_nulls_max: Fraction = Fraction(1, 10)
    penalty_line: Sequence[tuple[Fraction, Fraction]] = PENALTY_LINE
    missing_free: Fraction = Fraction(1, 10)
    done_fallback_max: Fraction = Fraction(1, 10)
    severities: Sequence[Severity] = SEVERITIES


DEFAULT_POLICY = QualityPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shares:
    """Mean shares of cells from each phase over player-blocks."""

    phase4: Fraction
    missing: Fraction

    @property
    def fallback(self) -> Fraction:
        return 1 - self.phase4


def score(stats: BuildStats, mode: BuildMode, policy: QualityPolicy = DEFAULT_POLICY) -> QualityReport:
    """Return the score and the verdict of a staged build.

    Args:
        stats: Counts of the staged rows.
        mode: Allowed data of the build; a forced build is never `done`.
        policy: The pipeline's rules.

    Returns:
        Score and components in points with one decimal, both rates as shares from 0 to 1, severity, the verdict of the
        gate, and the state after a publication.
    """
    shares = _shares(stats.blocks)
    points = _components(stats, shares, policy)
    total = sum(points.values(), Fraction(0))
    quality = max(total, _usable_fallback_floor(shares, policy)) if _is_usable(stats, policy) else total
    quality_score = _one_decimal(quality)
    gate_message = _gate_message(stats.row_count, quality_score, policy)
    return QualityReport(
        row_count=stats.row_count,
        quality_score=float(quality_score),
        components={name: float(points[name]) for name in COMPONENTS},
        component_total=float(total),
        fallback_rate=float(shares.fallback),
        missing_rate=float(shares.missing),
        severity=severity(quality_score, stats.row_count, shares.fallback, policy.severities),
        gate_passed=not gate_message,
        gate_message=gate_message,
        earned_state=_earned_state(stats, mode, shares.fallback, policy.done_fallback_max),
    )


def penalty(fallback_rate: Fraction, line: Sequence[tuple[Fraction, Fraction]] = PENALTY_LINE) -> Fraction:
    """Return the points lost by a fallback rate from 0 to 1, by the line."""
    for (left, low), (right, high) in pairwise(line):
        if fallback_rate <= right:
            return low + (high - low) * (fallback_rate - left) / (right - left)
    return line[-1][1]


def score_sentence(
    quality_score: float,
    component_total: float,
    fallback_rate: float,
    missing_rate: float,
    policy: QualityPolicy = DEFAULT_POLICY,
) -> str:
    """Return the sentence that explains a score beside the sum of the components."""
    if quality_score <= component_total:
        return "The score is the sum of the components."
    free = float(policy.missing_free)
    absent = f" and for {missing_rate:.1%} of missing blocks" if missing_rate > free else ""
    return (
        f"The score is the higher of two counts: the sum of the components, {component_total:.1f}, or, as models can "
        f"use the rows, 100 less the penalty for a fallback rate of {fallback_rate:.1%}{absent}, {quality_score:.1f}."
    )


def severity(
    quality_score: Fraction, row_count: int, fallback_rate: Fraction, levels: Sequence[Severity] = SEVERITIES
) -> str | None:
    """Return the worst matching severity level; None without a fault."""
    for level in levels:
        if quality_score < level.score or row_count < level.rows or fallback_rate > level.fallback:
            return level.name
    return None


def _shares(blocks: Mapping[str, BlockCounts]) -> _Shares:
    """Return the means over player-blocks; an empty population counts as missing."""
    players = sum(block.players for block in blocks.values())
    if players == 0:
        return _Shares(phase4=Fraction(0), missing=Fraction(1))
    phase4 = sum((Fraction(block.phase4_cells, block.cells_each) for block in blocks.values()), Fraction(0))
    phase3 = sum((Fraction(block.phase3_cells, block.cells_each) for block in blocks.values()), Fraction(0))
    return _Shares(phase4=phase4 / players, missing=1 - (phase4 + phase3) / players)


def _components(stats: BuildStats, shares: _Shares, policy: QualityPolicy) -> dict[str, Fraction]:
    """Return the six components, rounded as shown."""
    points = policy.points
    filled = sum(1 for rows in stats.dependency_rows.values() if rows > 0)
    dependency = Fraction(points["dependency_completeness"] * filled, len(stats.dependency_rows))
    if stats.row_count == 0:
        exact = dict.fromkeys(COMPONENTS, Fraction(0)) | {"dependency_completeness": dependency}
    else:
        exact = {
            "phase4_availability": points["phase4_availability"] * shares.phase4,
            "phase3_fallback": points["phase3_fallback"] * (1 - shares.fallback),
            "data_freshness": _freshness(stats.analysis_date, stats.newest_source_date, policy.freshness_points),
            "dependency_completeness": dependency,
            "row_completeness": _row_points(stats.row_count, policy.row_points),
            "null_field_rate": points["null_field_rate"] * (1 - _required_null_rate(stats, policy)),
        }
    return {name: _one_decimal(worth) for name, worth in exact.items()}


def _freshness(analysis_date: date, newest: date | None, points: Sequence[int]) -> Fraction:
    if newest is None:
        return Fraction(0)
    age_days = max(0, (analysis_date - newest).days)
    return Fraction(points[age_days] if age_days < len(points) else 0)


def _row_points(row_count: int, steps: Sequence[tuple[int, int]]) -> Fraction:
    return next((Fraction(points) for rows_min, points in steps if row_count >= rows_min), Fraction(0))


def _required_null_rate(stats: BuildStats, policy: QualityPolicy) -> Fraction:
    return Fraction(stats.required_nulls, policy.required_field_count * stats.row_count)


def _is_usable(stats: BuildStats, policy: QualityPolicy) -> bool:
    """Return whether models can work with the fallback."""
    if stats.row_count < policy.usable_rows_min:
        return False
    return _required_null_rate(stats, policy) <= policy.usable_nulls_max


def _usable_fallback_floor(shares: _Shares, policy: QualityPolicy) -> Fraction:
    """Return the least score of a usable fallback: the penalty for the rate, and a point for each missing per cent."""
    missing = max(Fraction(0), shares.missing - policy.missing_free)
    return max(Fraction(0), 100 - penalty(shares.fallback, policy.penalty_line) - 100 * missing)


def _gate_message(row_count: int, quality_score: Fraction, policy: QualityPolicy) -> str:
    faults = []
    if row_count < policy.rows_min:
        faults.append(f"{row_count} rows, {policy.rows_min} needed")
    if quality_score < Fraction(policy.score_min):
        faults.append(f"quality score {float(quality_score)}, {policy.score_min:g} needed")
    return "; ".join(faults)


def _earned_state(stats: BuildStats, mode: BuildMode, fallback_rate: Fraction, fallback_max: Fraction) -> State:
    complete = all(rows > 0 for rows in stats.dependency_rows.values())
    if complete and mode is BuildMode.NORMAL and fallback_rate <= fallback_max:
        return State.DONE
    return State.DEGRADED


def _one_decimal(points: Fraction) -> Fraction:
    """Return a number of points, never negative, rounded to tenths, half away from zero."""
    return Fraction((points * 10 + Fraction(1, 2)).__floor__(), 10)
