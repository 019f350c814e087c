"""Statistics of features, made by hand: an ordinary night, and the changes of a test."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from worker.features.profile import FeatureProfile, Profile, ProfiledNight
from worker.pipelines.shipped import SHIPPED

BEFORE = date(2024, 12, 14)
FEATURES = {feature.name: feature for feature in SHIPPED.judged_features}
TEAMS = ("ATL", "BOS", "CHI", "DAL", "DEN", "LAL")


def profile_of(feature: str, **changes: Any) -> FeatureProfile:
    """Four hundred and seventy values, evenly over the bins; of a feature of the teams six of them."""
    edges = FEATURES[feature].bins
    made = FeatureProfile(
        feature=feature,
        row_count=470,
        present_count=470,
        out_of_range_count=0,
        value_count=470,
        mean=100.0,
        deviation=10.0,
        lowest=80.0,
        highest=120.0,
        mode_share=0.1,
        bins=(47,) * (len(edges) + 1),
        bin_edges=edges,
        compared_date=BEFORE,
        pair_count=460,
        correlation=0.98,
        played_count=240,
        unmoved_count=48,
        still_count=220,
        moved_count=0,
    )
    if SHIPPED.team_of(FEATURES[feature]):
        values = (90.0, 95.0, 100.0, 100.5, 105.0, 109.5)
        few = {"value_count": 6, "mode_share": 1 / 6, "pair_count": 6, "played_count": 3, "unmoved_count": 0}
        made = replace(made, **few, still_count=0, teams=TEAMS, team_values=values)
    return replace(made, **changes)


def nights_of(count: int = 14, *, active: int = 470, **changes: Any) -> tuple[ProfiledNight, ...]:
    """As many ordinary nights, newest first; *changes* hold for every feature."""
    features = {name: profile_of(name, **changes) for name in FEATURES}
    return tuple(
        ProfiledNight(analysis_date=BEFORE - timedelta(days=back), active_count=active, features=features)
        for back in range(count)
    )


def tonight(nights: tuple[ProfiledNight, ...] | None = None, **changed: dict[str, Any]) -> Profile:
    """An ordinary night after ordinary nights, with some features changed: `tonight(pace={"mean": 3.0})`."""
    features = {name: profile_of(name, **changed.get(name, {})) for name in FEATURES}
    return Profile(features=features, nights=nights_of() if nights is None else nights)
