"""What is found about the values of a night, and what is not."""

from dataclasses import replace
from typing import Any

import pytest

from statemachine.model import Finding
from tests.support.generation_rows import publication_of
from tests.support.nights import NIGHT
from tests.support.profiles import FEATURES, nights_of, profile_of, tonight
from worker.features.findings import Check, FindingPolicy, Levels
from worker.features.model import BuildKey, BuildStats
from worker.features.pipeline import Pipeline
from worker.features.profile import Profile
from worker.features.profile_findings import profile_findings
from worker.pipelines.shipped import SHIPPED

COMPOSITE = "nba_precompute.player_composite_factors"
CACHE = "nba_precompute.player_daily_cache"


def stats(profile: Profile, rows: int = 470, left_out: int = 0) -> BuildStats:
    made = publication_of(BuildKey(analysis_date=NIGHT, generation=1, attempt=1), kept=rows, left_out=left_out)
    return replace(made.stats, profile=profile)


def found(profile: Profile, rows: int = 470, left_out: int = 0, pipeline: Pipeline = SHIPPED) -> list[Finding]:
    return [one.finding for one in profile_findings(stats(profile, rows, left_out), pipeline)]


def brief(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.check, finding.severity.value, finding.subject) for finding in findings]


def test_an_ordinary_night_has_no_finding() -> None:
    assert found(tonight()) == []


SKEWED = (300, *(17,) * 9, 17)[:10]


@pytest.mark.parametrize(
    ("feature", "changes", "check", "severity"),
    [
        ("usage_rate", {"out_of_range_count": 1}, "out_of_range", "warning"),
        ("usage_rate", {"out_of_range_count": 5}, "out_of_range", "critical"),
        ("pace", {"out_of_range_count": 470}, "out_of_range", "critical"),
        ("usage_rate", {"bins": SKEWED}, "shifted", "critical"),
        ("pace", {"team_values": (130.0,) * 2 + (131.0,) * 4}, "shifted", "critical"),
        ("usage_rate", {"mode_share": 1.0}, "constant", "critical"),
        ("usage_rate", {"mode_share": 0.26}, "constant", "warning"),
        ("opponent_def_rating", {"mode_share": 1.0}, "constant", "critical"),
        ("usage_rate", {"unmoved_count": 240}, "unchanged", "critical"),
        ("opponent_def_rating", {"unmoved_count": 3}, "unchanged", "critical"),
        ("usage_rate", {"correlation": 0.2}, "scrambled", "critical"),
        ("usage_rate", {"correlation": -0.9}, "scrambled", "critical"),
        ("usage_rate", {"correlation": 0.85}, "scrambled", "warning"),
        ("usage_rate", {"moved_count": 220}, "scrambled", "critical"),
        ("usage_rate", {"moved_count": 30}, "scrambled", "warning"),
        ("opponent_def_rating", {"correlation": 0.1}, "scrambled", "critical"),
    ],
)
def test_one_feature_that_cannot_be_believed(feature: str, changes: dict[str, Any], check: str, severity: str) -> None:
    findings = found(tonight(**{feature: changes}))

    assert brief(findings) == [(check, severity, feature)]
    assert findings[0].processor == SHIPPED.block_of(FEATURES[feature]).processor
    assert f"mlfs profile DATE {feature}" in findings[0].next_step


@pytest.mark.parametrize(
    ("feature", "changes"),
    [
        ("usage_rate", {"value_count": 99, "bins": tuple(count // 6 for count in SKEWED)}),
        ("usage_rate", {"value_count": 19, "mode_share": 1.0, "bins": (0,) * 10}),
        ("usage_rate", {"played_count": 19, "unmoved_count": 19}),
        ("usage_rate", {"still_count": 19, "moved_count": 19}),
        ("usage_rate", {"pair_count": 49, "correlation": -1.0}),
        ("usage_rate", {"correlation": None}),
        ("usage_rate", {"value_count": 0, "mode_share": None, "pair_count": 0, "correlation": None}),
        ("opponent_def_rating", {"value_count": 1, "mode_share": 1.0, "team_values": (200.0,), "pair_count": 1}),
        ("opponent_def_rating", {"value_count": 2, "mode_share": 0.5}),
        ("opponent_def_rating", {"played_count": 0}),
    ],
)
def test_few_values_say_nothing(feature: str, changes: dict[str, Any]) -> None:
    assert found(tonight(**{feature: changes})) == []


def test_a_distribution_is_not_compared_with_too_few_nights() -> None:
    strange = {"bins": SKEWED, "mode_share": 1.0, "unmoved_count": 240, "correlation": 0.0, "moved_count": 220}

    assert found(tonight(nights_of(4), usage_rate=strange)) == []
    assert len(found(tonight(nights_of(5), usage_rate=strange))) == 4


def test_a_night_without_statistics_is_one_less_to_compare_with() -> None:
    nights = nights_of(5)
    lost = (replace(nights[0], features={}), *nights[1:])

    assert found(tonight(lost, usage_rate={"mode_share": 1.0})) == []
    assert found(tonight((*lost, nights_of(6)[5]), usage_rate={"mode_share": 1.0})) != []


def test_a_value_outside_its_range_needs_no_other_night() -> None:
    [finding] = found(tonight((), usage_rate={"out_of_range_count": 470}))

    assert (finding.observed, finding.expected) == ("470 of 470 values", "values from 0 to 2")


def test_bins_of_an_earlier_catalogue_are_not_compared_with() -> None:
    nights = nights_of(14, bin_edges=(1.0, 2.0), bins=(470, 0, 0))

    assert found(tonight(nights)) == []


@pytest.mark.parametrize(
    ("usual", "changes"),
    [
        ({"mode_share": 0.9}, {"mode_share": 1.0}),
        ({"unmoved_count": 200}, {"unmoved_count": 240}),
        ({"moved_count": 200}, {"moved_count": 220}),
        ({"correlation": 0.1}, {"correlation": 0.05}),
    ],
)
def test_what_a_feature_usually_does_is_no_finding(usual: dict[str, Any], changes: dict[str, Any]) -> None:
    nights = tuple(
        replace(night, features={**night.features, "usage_rate": profile_of("usage_rate", **usual)})
        for night in nights_of()
    )

    assert found(tonight(nights, usage_rate=changes)) == []


def test_a_whole_table_that_says_the_same_is_one_finding() -> None:
    stale = {name: {"unmoved_count": 240} for name in FEATURES if FEATURES[name].block == "daily_cache"}

    [finding] = found(tonight(**stale))

    assert (finding.check, finding.subject, finding.processor) == ("unchanged", CACHE, "player_daily_cache")
    assert finding.observed.startswith("all 3 features; ")


def test_part_of_a_table_is_a_finding_for_each_feature() -> None:
    stale = {name: {"unmoved_count": 240} for name in ("last_5_games_ppg", "season_avg_ppg")}

    assert [one.subject for one in found(tonight(**stale))] == list(stale)


def test_features_that_a_check_cannot_judge_stand_in_no_way_of_a_finding_for_the_table() -> None:
    """The pace is a team's, and says nothing about what did not move."""
    stale: dict[str, dict[str, Any]] = {
        name: {"unmoved_count": 240} for name in FEATURES if FEATURES[name].block == "composite"
    }
    stale["pace"] = {"played_count": 0}

    assert brief(found(tonight(**stale))) == [("unchanged", "critical", COMPOSITE)]


@pytest.mark.parametrize(
    ("rows", "severity"),
    [(470, None), (380, None), (376, "warning"), (300, "critical"), (235, "critical"), (940, "critical")],
)
def test_the_size_of_the_roster(rows: int, severity: str | None) -> None:
    expected = [] if severity is None else [("roster_size", severity, "nba_raw.nbac_player_list")]

    assert brief(found(tonight(), rows=rows)) == expected


def test_the_roster_is_not_judged_against_few_nights_or_a_tiny_roster() -> None:
    assert found(tonight(nights_of(4)), rows=100) == []
    assert found(tonight(nights_of(active=19)), rows=100) == []


@pytest.mark.parametrize(("left_out", "severity"), [(0, None), (23, None), (24, "warning"), (94, "critical")])
def test_entities_without_a_row(left_out: int, severity: str | None) -> None:
    findings = found(tonight(()), rows=470 - left_out, left_out=left_out)

    assert [one.severity for one in findings] == ([] if severity is None else [severity])
    assert [one.processor for one in findings] == [] if severity is None else ["player_composite_factors"]


def test_a_threshold_of_refusal_refuses() -> None:
    levels = {**SHIPPED.findings.levels, Check.CONSTANT: Levels(refuse=0.5)}
    strict = replace(SHIPPED, findings=FindingPolicy(levels=levels))

    [one] = profile_findings(stats(tonight(usage_rate={"mode_share": 1.0})), strict)

    assert one.refuses
    assert one.finding.severity == "critical"


def test_a_check_without_levels_finds_nothing() -> None:
    silent = replace(SHIPPED, findings=FindingPolicy())

    assert found(tonight(usage_rate={"mode_share": 1.0, "out_of_range_count": 470}), pipeline=silent) == []
