"""The sentence of the outlook says what is known, and what is not."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from statemachine.model import Finding, FindingSeverity, State
from tests.support.nights import (
    CACHE,
    CUTOFF,
    DEADLINE,
    DEFENSE,
    EVENING,
    NIGHT,
    PROCESSORS,
    degraded,
    finding,
    waiting,
)
from worker.features.model import QualityReport
from worker.foresight.outlook import Chance, Expectation, Outlook, Stage
from worker.foresight.outlook_text import DateOutlook, describe, rows_of
from worker.foresight.scores import Scores

ZONE = ZoneInfo("America/New_York")
MINUTE = timedelta(minutes=1)
KNOWN = Expectation(
    processor=CACHE,
    status="missing",
    nights=10,
    by_deadline=Chance(7, 10),
    by_cutoff=Chance(9, 10),
    half_by=DEADLINE - 4 * MINUTE,
)


def report(score: float, *findings: Finding) -> QualityReport:
    return QualityReport(
        row_count=450,
        quality_score=score,
        components={},
        component_total=score,
        fallback_rate=0.2,
        missing_rate=0.0,
        severity=None,
        gate_passed=True,
        gate_message="",
        earned_state=State.DEGRADED,
        findings=findings,
    )


def scores(now: float, with_each: Mapping[str, float], *, refusal: str = "", found: tuple[Finding, ...] = ()) -> Scores:
    return Scores(
        scored_at=EVENING,
        now=report(now, *found),
        refusal=refusal,
        rows=dict.fromkeys(PROCESSORS, 0),
        with_each={name: report(score) for name, score in with_each.items()},
        with_all=report(99.9) if with_each else None,
    )


def outlook(*expectations: Expectation) -> Outlook:
    return Outlook(record=waiting(), now=EVENING, stage=Stage.OPEN, expectations=expectations)


def told(found: Outlook, scored: Scores | None = None, why: str = "") -> str:
    return describe(found, scored, why, ZONE).sentence


def test_one_missing_processor() -> None:
    said = told(outlook(KNOWN), scores(81.2, {CACHE: 96.0}))

    assert said == (
        f"Go now: 81.2. With {CACHE}: 96.0; it comes by the deadline, 23:25 EST, in 7 of 10 such nights "
        "(Wilson 40 to 89 %), in half of them by 23:21 EST."
    )


def test_after_the_deadline_the_cutoff_counts_and_the_publication_is_named() -> None:
    late = replace(KNOWN, by_deadline=None, half_by=None, weekday="Sunday")
    said = told(replace(outlook(late), record=degraded(CACHE), now=DEADLINE), scores(82.0, {CACHE: 96.0}))

    assert said == (
        f"Published: 82.0. Go now: 82.0. With {CACHE}: 96.0; it comes by the cutoff, 23:50 EST, in 9 of 10 such "
        "Sundays (Wilson 60 to 98 %)."
    )


def test_of_several_the_one_that_is_worth_most_is_named() -> None:
    other = replace(KNOWN, processor=DEFENSE)
    said = told(outlook(other, KNOWN), scores(75.3, {DEFENSE: 77.0, CACHE: 88.4}))

    assert said.startswith(f"Go now: 75.3. With {CACHE}: 88.4; it comes")
    assert said.endswith(" With all missing tables: 99.9.")


@pytest.mark.parametrize(
    ("expectation", "words"),
    [
        (Expectation(processor=CACHE, status="missing", nights=7), "too few nights (7)"),
        (
            Expectation(processor=CACHE, status="retracted", nights=0),
            "a run was taken back, and no night before tells when another run comes",
        ),
        (
            replace(KNOWN, status="failed"),
            "in 7 of 10 such nights (Wilson 40 to 89 %), in half of them by 23:21 EST; the failure of tonight is not "
            "considered",
        ),
        (replace(KNOWN, status="failed", after_failure=True), "in 7 of 10 such nights with a failure (Wilson"),
    ],
    ids=["few", "retracted", "not-considered", "considered"],
)
def test_what_is_not_known_is_said(expectation: Expectation, words: str) -> None:
    assert words in told(outlook(expectation), scores(81.2, {CACHE: 96.0}))


def test_a_doubt_and_a_refusal_stand_beside_the_score() -> None:
    doubted = scores(60.1, {CACHE: 96.0}, refusal="quality score 60.1, 75 needed", found=(finding(),))

    assert told(outlook(KNOWN), doubted).startswith(
        "Go now: 60.1, 1 critical finding, and nothing would be published (quality score 60.1, 75 needed)."
    )
    noted = scores(81.2, {CACHE: 96.0}, found=(finding(severity=FindingSeverity.NOTE),))
    assert told(outlook(KNOWN), noted).startswith("Go now: 81.2. With")


def test_without_scores_the_reason_is_named_and_the_chance_stays() -> None:
    said = told(outlook(KNOWN, replace(KNOWN, processor=DEFENSE)), None, "the warehouse is away")

    assert said.startswith(f"Score not known: the warehouse is away. {CACHE}: it comes by the deadline, 23:25 EST")
    assert said.endswith(f" Also missing: {DEFENSE}.")


def test_rows_show_what_the_model_holds() -> None:
    never = replace(KNOWN, half_by=None)
    few = Expectation(processor=DEFENSE, status="missing", nights=3)
    model: DateOutlook = describe(outlook(never, few), scores(81.2, {CACHE: 96.0}), "", ZONE)
    first, second = rows_of(model, ZONE)
    later = describe(replace(outlook(KNOWN), now=CUTOFF - MINUTE), None, "", ZONE)

    assert ("7 of 10 (40 to 89 %)", "not in 50 %", "not in 90 %", "10 nights", "96.0") == (
        first.by_deadline,
        first.half_by,
        first.most_by,
        first.basis,
        first.score,
    )
    assert ("-", "-", "-", "too few nights (3)", "-") == (
        second.by_deadline,
        second.by_cutoff,
        second.half_by,
        second.basis,
        second.score,
    )
    assert "passed" == rows_of(later, ZONE)[0].by_deadline


def test_the_model_holds_the_interval_and_the_instants() -> None:
    model = describe(outlook(KNOWN), scores(81.2, {CACHE: 96.0}), "", ZONE)
    [cache] = model.processors

    assert cache.by_deadline is not None
    assert (0.7, 0.3968, 0.8922) == (cache.by_deadline.share, cache.by_deadline.low, cache.by_deadline.high)
    assert ("2024-12-16T04:21:00+00:00", None) == (cache.half_by, cache.most_by)
    assert NIGHT.isoformat() == model.analysis_date
