"""Findings about the values of a build, against the catalogue and against the last published nights. Pure.

Model: each check measures a number for a feature, and subtracts the highest number of the nights before where a night
may have such a number by right. Only nights without a critical finding are compared with, so a corrupt night never
becomes the norm. A check is silent where the numbers are too small to say anything: fewer nights than
`FindingPolicy.nights_min`, or fewer values than the limits below.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from worker.features.findings import Check, FindingPolicy, Found
from worker.features.model import BuildStats
from worker.features.pipeline import Feature, Pipeline
from worker.features.profile import FeatureProfile, Profile, mean_shift, stability_index

SHIFT_VALUES_MIN = 100
"""Values without which the bins of two distributions differ by chance."""

PAIRS_MIN = 50
"""Pairs without which a correlation varies by chance."""

SHARE_MIN = 20
"""Entities without which a share varies by chance."""

TEAMS_MIN = 2
"""Teams without which the values of teams are not compared."""

USUAL_MIN = 3
"""Nights with a figure of a feature, without which the usual figure is unknown."""

ROSTER_MIN = 20
"""Entities of a usual roster, below which the size of the roster is not judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Measure of a check for a feature, and the words for people."""

    check: Check
    measure: float
    observed: str
    expected: str


def profile_findings(stats: BuildStats, pipeline: Pipeline) -> Iterator[Found]:
    """Yield the findings about the values and about the number of entities of a build."""
    policy = pipeline.findings
    yield from _roster_findings(stats, pipeline)
    by_block: dict[str, list[tuple[Feature, list[Measured]]]] = {}
    for feature in pipeline.judged_features:
        if (profile := stats.profile.features.get(feature.name)) is not None:
            usual = usual_nights(feature.name, stats.profile, policy)
            measured = list(_measured(feature, profile, usual, pipeline))
            by_block.setdefault(feature.block, []).append((feature, measured))
    for features in by_block.values():
        yield from _of_block(features, pipeline)


def usual_nights(feature: str, profile: Profile, policy: FindingPolicy) -> list[FeatureProfile]:
    """Return the statistics of a feature on the nights to compare with, newest first; empty for too few nights."""
    known = (night.features[feature] for night in profile.nights if feature in night.features)
    usual = [found for found in known if found.value_count]
    return usual if len(usual) >= policy.nights_min else []


def _measured(
    feature: Feature, profile: FeatureProfile, usual: Sequence[FeatureProfile], pipeline: Pipeline
) -> Iterator[Measured]:
    """Yield the measures of each check that has something to measure."""
    policy, is_shared = pipeline.findings, bool(pipeline.team_of(feature))
    if profile.out_of_range_count:
        low, high = feature.range or (0.0, 0.0)
        yield Measured(
            check=Check.OUT_OF_RANGE,
            measure=profile.out_of_range_count / max(1, profile.present_count),
            observed=f"{profile.out_of_range_count} of {profile.present_count} values",
            expected=f"values from {low:g} to {high:g}",
        )
    if not usual or not profile.value_count:
        return
    if (shift := shift_of(feature, profile, usual, pipeline)) is not None:
        yield shift
    yield from _constant(profile, usual, policy, is_shared=is_shared)
    yield from _unchanged(profile, usual, policy, is_shared=is_shared)
    yield from _scrambled(profile, usual, policy, is_shared=is_shared)


def shift_of(
    feature: Feature, profile: FeatureProfile, usual: Sequence[FeatureProfile], pipeline: Pipeline
) -> Measured | None:
    """Return the measure of `shifted` for a feature with values; None if too few values or nights are known."""
    shift = _shift_of_teams if pipeline.team_of(feature) else _shift
    return next(shift(profile, usual, pipeline.findings), None)


def _shift(profile: FeatureProfile, usual: Sequence[FeatureProfile], policy: FindingPolicy) -> Iterator[Measured]:
    same = [night for night in usual if night.bin_edges == profile.bin_edges]
    bins = [sum(counts) for counts in zip(*(night.bins for night in same), strict=True)]
    if min(profile.value_count, sum(bins)) < SHIFT_VALUES_MIN or len(same) < policy.nights_min:
        return
    index = stability_index(profile.bins, bins)
    yield Measured(
        check=Check.SHIFTED,
        measure=index,
        observed=f"PSI {index:.2g} against {len(same)} nights, mean {profile.mean:.4g}",
        expected=f"PSI below {_least(policy, Check.SHIFTED):g}, mean about {_mean_of(same):.4g}",
    )


def _mean_of(nights: Sequence[FeatureProfile]) -> float:
    total = sum(night.value_count for night in nights)
    return sum((night.mean or 0.0) * night.value_count for night in nights) / max(1, total)


def _shift_of_teams(
    profile: FeatureProfile, usual: Sequence[FeatureProfile], policy: FindingPolicy
) -> Iterator[Measured]:
    values = [value for night in usual for value in night.team_values]
    if len(profile.team_values) < TEAMS_MIN:
        return
    shift = mean_shift(profile.team_values, values)
    mean = sum(profile.team_values) / len(profile.team_values)
    yield Measured(
        check=Check.SHIFTED,
        measure=shift,
        observed=f"mean {mean:.4g} of {len(profile.team_values)} teams, shift {shift:.2g} against {len(usual)} nights",
        expected=f"shift below {_least(policy, Check.SHIFTED):g}, mean about {sum(values) / len(values):.4g}",
    )


def _constant(
    profile: FeatureProfile, usual: Sequence[FeatureProfile], policy: FindingPolicy, *, is_shared: bool
) -> Iterator[Measured]:
    least = TEAMS_MIN if is_shared else SHARE_MIN
    shares = [night.mode_share for night in usual if night.mode_share is not None and night.value_count >= least]
    if profile.mode_share is None or profile.value_count < least or len(shares) < USUAL_MIN:
        return
    highest = max(*shares, 1 / profile.value_count)
    yield Measured(
        check=Check.CONSTANT,
        measure=profile.mode_share - highest,
        observed=f"{profile.mode_share:.0%} of {profile.value_count} values are the same",
        expected=_below(highest, policy, Check.CONSTANT),
    )


def _unchanged(
    profile: FeatureProfile, usual: Sequence[FeatureProfile], policy: FindingPolicy, *, is_shared: bool
) -> Iterator[Measured]:
    least = 1 if is_shared else SHARE_MIN
    shares = [night.unmoved_count / night.played_count for night in usual if night.played_count >= least]
    if profile.played_count < least or len(shares) < USUAL_MIN:
        return
    share = profile.unmoved_count / profile.played_count
    yield Measured(
        check=Check.UNCHANGED,
        measure=share - max(shares),
        observed=f"{share:.0%} of {profile.played_count} values did not move, although the team played",
        expected=_below(max(shares), policy, Check.UNCHANGED),
    )


def _scrambled(
    profile: FeatureProfile, usual: Sequence[FeatureProfile], policy: FindingPolicy, *, is_shared: bool
) -> Iterator[Measured]:
    least = TEAMS_MIN if is_shared else PAIRS_MIN
    known = [night.correlation for night in usual if night.correlation is not None and night.pair_count >= least]
    if profile.correlation is not None and profile.pair_count >= least and len(known) >= USUAL_MIN:
        lowest = min(known)
        limit = max(-1.0, lowest - _least(policy, Check.SCRAMBLED))
        yield Measured(
            check=Check.SCRAMBLED,
            measure=lowest - profile.correlation,
            observed=f"correlation {profile.correlation:.2g} of {profile.pair_count} values with {_night_of(profile)}",
            expected=f"above {limit:.2g}",
        )
    shares = [night.moved_count / night.still_count for night in usual if night.still_count >= SHARE_MIN]
    if profile.still_count >= SHARE_MIN and len(shares) >= USUAL_MIN:
        share = profile.moved_count / profile.still_count
        yield Measured(
            check=Check.SCRAMBLED,
            measure=share - max(shares),
            observed=f"{share:.0%} of {profile.still_count} values moved, although the team did not play",
            expected=_below(max(shares), policy, Check.SCRAMBLED),
        )


def _night_of(profile: FeatureProfile) -> str:
    return "the night before" if profile.compared_date is None else profile.compared_date.isoformat()


def _least(policy: FindingPolicy, check: Check) -> float:
    """Return the lowest threshold of a check; infinity for a check without thresholds."""
    levels = policy.levels.get(check)
    given = () if levels is None else (levels.note, levels.warning, levels.critical, levels.refuse)
    return min((level for level in given if level is not None), default=float("inf"))


def _below(usual: float, policy: FindingPolicy, check: Check) -> str:
    return f"below {min(1.0, usual + _least(policy, check)):.0%}"


def _of_block(features: Sequence[tuple[Feature, list[Measured]]], pipeline: Pipeline) -> Iterator[Found]:
    """Yield the findings of a block: one for the table if every feature that a check can judge has the finding."""
    judged = Counter(check for _feature, measured in features for check in {found.check for found in measured})
    judged[Check.OUT_OF_RANGE] = len(features)
    worst: dict[Check, dict[str, tuple[Feature, Measured]]] = {}
    for feature, measured in features:
        for found in sorted(measured, key=lambda found: found.measure):
            if pipeline.findings.severity(found.check, found.measure) is not None:
                worst.setdefault(found.check, {})[feature.name] = (feature, found)
    for check, worst_of in worst.items():
        found_of = [found for feature, measured in worst_of.values() for found in _found(feature, measured, pipeline)]
        if len(found_of) > 1 and len(found_of) == judged[check]:
            yield _together(found_of, worst_of.values(), pipeline)
        else:
            yield from found_of


def _found(feature: Feature, measured: Measured, pipeline: Pipeline) -> Iterator[Found]:
    processor = pipeline.block_of(feature).processor
    return pipeline.findings.judge(
        measured.check,
        measured.measure,
        subject=feature.name,
        observed=measured.observed,
        expected=measured.expected,
        next_step=f"look at the values: mlfs profile DATE {feature.name}; then ask the owner of {processor}",
        processor=processor,
    )


def _together(found: Sequence[Found], measured: Iterable[tuple[Feature, Measured]], pipeline: Pipeline) -> Found:
    """Return one finding for all features of a table, with the words of the feature with the highest measure."""
    worst, feature, _measure = max(
        ((one, feature, of.measure) for one, (feature, of) in zip(found, measured, strict=True)), key=lambda of: of[2]
    )
    return Found(
        finding=replace(
            worst.finding,
            subject=pipeline.block_of(feature).table,
            observed=f"all {len(found)} features; {feature.name}: {worst.finding.observed}",
        ),
        refuses=any(one.refuses for one in found),
    )


def _roster_findings(stats: BuildStats, pipeline: Pipeline) -> Iterator[Found]:
    policy, many = pipeline.findings, pipeline.entity.plural
    active = stats.row_count + stats.left_out_count
    counts = [night.active_count for night in stats.profile.nights]
    usual = median(counts) if len(counts) >= policy.nights_min else 0
    if usual >= ROSTER_MIN:
        yield from _counted(
            Measured(
                check=Check.ROSTER_SIZE,
                measure=abs(active - usual) / usual,
                observed=f"{active} active {many}",
                expected=f"about {usual:g} {many}, the median of {len(counts)} nights",
            ),
            pipeline,
            f"ask the owner of {pipeline.entity.roster} whether the roster is whole",
        )
    if active >= ROSTER_MIN and stats.left_out_count:
        must_have = next(feature for feature in pipeline.features if feature.name == pipeline.entity.must_have)
        yield from _counted(
            Measured(
                check=Check.ROWS_DROPPED,
                measure=stats.left_out_count / active,
                observed=f"{stats.left_out_count} of {active} active {many} have no row",
                expected=f"below {_least(policy, Check.ROWS_DROPPED):.0%}",
            ),
            pipeline,
            f"ask the owner of {pipeline.block_of(must_have).processor} why {must_have.name} is missing",
            processor=pipeline.block_of(must_have).processor,
        )


def _counted(measured: Measured, pipeline: Pipeline, next_step: str, *, processor: str = "") -> Iterator[Found]:
    return pipeline.findings.judge(
        measured.check,
        measured.measure,
        subject=pipeline.entity.roster,
        observed=measured.observed,
        expected=measured.expected,
        next_step=next_step,
        processor=processor,
    )
