"""Distributions beside the nights before: the figures, the words and the plots, worked out by hand."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from ops.commands.profile import histograms
from statemachine.model import Finding, FindingSeverity, State
from worker.builds.generations import describe_distributions
from worker.errors import Refused
from worker.features.distributions import Distributions, bin_names, distributions_of, only, shares
from worker.features.model import LedgerRow
from worker.features.profile import FeatureProfile, ProfiledNight
from worker.http.plots import HEIGHT, WIDTH, plot_of
from worker.pipelines.shipped import SHIPPED

NIGHT = date(2024, 12, 15)
AT = datetime(2024, 12, 16, 4, 30, tzinfo=UTC)
EVEN, RIGHT = (25, 25, 25, 25), (0, 0, 0, 100)
FACTORS = "player_composite_factors"


def profile(feature: str = "points_projection", bins: tuple[int, ...] = EVEN, **changes: Any) -> FeatureProfile:
    made = FeatureProfile(
        feature=feature,
        row_count=110,
        present_count=100,
        out_of_range_count=0,
        value_count=sum(bins),
        mean=10.0,
        deviation=2.0,
        lowest=1.0,
        highest=20.0,
        mode_share=0.1,
        bins=bins,
        bin_edges=(5.0, 10.0, 15.0),
        compared_date=NIGHT - timedelta(days=1),
        pair_count=90,
        correlation=0.99,
        played_count=50,
        unmoved_count=5,
        still_count=40,
        moved_count=0,
    )
    return replace(made, **changes)


def nights(count: int, **changes: Any) -> list[ProfiledNight]:
    return [
        ProfiledNight(
            analysis_date=NIGHT - timedelta(days=back),
            active_count=120,
            features={"points_projection": profile(**changes)},
        )
        for back in range(1, count + 1)
    ]


def finding(subject: str) -> Finding:
    return Finding(
        check="shifted",
        severity=FindingSeverity.CRITICAL,
        subject=subject,
        observed="PSI 4.1",
        expected="PSI below 0.25",
        next_step="mlfs profile 2024-12-15 points_projection",
        processor=FACTORS,
    )


def published(findings: tuple[Finding, ...] | None = ()) -> LedgerRow:
    return LedgerRow(
        analysis_date=NIGHT,
        generation=2,
        attempt=1,
        build_id="2024-12-15-g2-a1",
        state=State.DONE,
        row_count=110,
        quality_score=99.0,
        component_total=99.0,
        components={},
        fallback_rate=0.0,
        missing_rate=0.0,
        severity=None,
        dependency_rows={},
        left_out=10,
        started_at=AT,
        committed_at=AT,
        findings=findings,
    )


def found(
    tonight: FeatureProfile, before: list[ProfiledNight], findings: tuple[Finding, ...] | None = ()
) -> Distributions:
    return distributions_of(published(findings), {tonight.feature: tonight}, before, SHIPPED)


def test_a_feature_stands_beside_the_nights_before() -> None:
    [feature] = found(profile(bins=RIGHT, mean=18.0), nights(6)).features

    assert (feature.processor, feature.unit, feature.per_team) == (FACTORS, "points", False)
    assert (feature.usual_bins, feature.usual_mean) == ((150, 150, 150, 150), 10.0)
    assert [night.analysis_date for night in feature.nights] == [NIGHT - timedelta(days=back) for back in range(1, 7)]
    assert feature.shift == pytest.approx(3.8995, abs=1e-4)


@pytest.mark.parametrize(
    ("before", "usual", "shift"),
    [
        ([], (), None),
        (nights(4), (100, 100, 100, 100), None),
        (nights(6, bin_edges=(5.0, 11.0, 15.0)), (), None),
        (nights(6, bins=(0, 0, 0, 0)), (), None),
        (nights(6), (150, 150, 150, 150), 0.0),
    ],
    ids=["no night", "too few nights", "other bins", "nights without values", "the same"],
)
def test_a_shift_needs_nights_with_the_same_bins(
    before: list[ProfiledNight], usual: tuple[int, ...], shift: float | None
) -> None:
    [feature] = found(profile(), before).features

    assert feature.usual_bins == usual
    assert feature.shift == (None if shift is None else pytest.approx(shift, abs=1e-4))


@pytest.mark.parametrize(
    ("subject", "count"), [("points_projection", 1), (f"nba_precompute.{FACTORS}", 1), ("pace", 0), (FACTORS, 0)]
)
def test_a_feature_bears_the_findings_about_itself_and_about_its_table(subject: str, count: int) -> None:
    [feature] = found(profile(), [], (finding(subject),)).features

    assert len(feature.findings) == count


def test_without_statistics_the_refusal_says_how_to_get_some() -> None:
    with pytest.raises(Refused, match=r"generation 2 has no statistics of features.*mlfs replay 2024-12-15"):
        distributions_of(published(), {}, nights(6), SHIPPED)


def test_a_feature_is_found_by_name_and_a_slip_is_answered_with_the_name_meant() -> None:
    distributions = found(profile(), [])

    assert only(distributions, "points_projection").feature == "points_projection"
    with pytest.raises(Refused, match=r"no feature point_projection has statistics; did you mean points_projection\?"):
        only(distributions, "point_projection")


def test_scripts_get_nights_of_a_single_feature_and_null_for_rows_never_judged() -> None:
    all_features = describe_distributions(found(profile(), nights(2), (finding("points_projection"), finding("pace"))))
    one = describe_distributions(
        found(profile(), nights(2), (finding("points_projection"), finding("pace"))), "points_projection"
    )
    unjudged = describe_distributions(found(profile(), nights(2), None), "points_projection")

    assert [(feature["feature"], feature["nights"]) for feature in all_features["features"]] == [
        ("points_projection", None)
    ]
    assert [night["analysis_date"] for night in one["features"][0]["nights"]] == ["2024-12-14", "2024-12-13"]
    assert [len(answer["findings"]) for answer in (all_features, one)] == [2, 1]
    assert one["findings"][0]["next_step"] == "mlfs profile 2024-12-15 points_projection"
    assert unjudged["findings"] is None


def test_bins_have_names_and_shares() -> None:
    assert bin_names((1.0, 2.5)) == ["below 1", "1 to 2.5", "2.5 and more"]
    assert bin_names(()) == ["all"]
    assert (shares((1, 3)), shares((0, 0)), shares(())) == ([0.25, 0.75], [0.0, 0.0], [])


def test_histograms_have_one_scale_and_show_the_smallest_share() -> None:
    assert histograms((0, 1, 99), (50, 50, 0)) == [" ▁█", "▄▄ "]
    assert histograms((), (0, 0)) == ["", "  "]


def test_a_plot_draws_tonight_as_bars_over_the_line_of_the_nights_before() -> None:
    [feature] = found(profile(bins=RIGHT), nights(6), (finding("points_projection"),)).features
    plot = plot_of(feature)

    [bar] = plot.bars
    assert (bar.y, bar.height, bar.x + bar.width) == (0.0, HEIGHT, pytest.approx(WIDTH * 0.975))
    assert plot.outline == "M0 72V54.0H60.0V54.0H120.0V54.0H180.0V54.0H240.0V72"
    assert plot.edges == [(60.0, "5"), (120.0, "10"), (180.0, "15")]
    assert plot.words == (
        "tonight most values lie 15 and more (100.0%); on the 6 nights before below 5 (25.0%); the largest difference "
        "is 75.0% of the values, 15 and more"
    )
    assert (plot.level, plot.findings[0].next_step) == ("critical", "mlfs profile 2024-12-15 points_projection")


def test_a_plot_without_nights_and_without_values_is_empty() -> None:
    [feature] = found(profile(bins=(0, 0, 0, 0), mean=None), []).features
    plot = plot_of(feature)

    assert (plot.bars, plot.outline, plot.words, plot.level) == ([], "", "no value tonight", "")
