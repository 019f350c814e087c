"""A backtest equals, night by night, what a worker made of the product's own parts does under the same rules."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from random import Random

import pytest

from statemachine.model import OnRerun, OnUpstreamFailure
from tests.simulation.process import make_calendar, make_policy
from tests.simulation.season import Ended, Published, Season, SeasonRules
from tests.support.arrivals import generated_season
from tests.support.nights import CACHE, SHOTS
from worker.features.arrivals import Arrival
from worker.foresight.backtest import Rules, nights_of, play_night
from worker.foresight.estimated_builds import estimate_builds
from worker.pipelines.shipped import SHIPPED

# A whole season under all rules takes a minute and a half of processor time.
NIGHTS = 180 if os.environ.get("EVERY_NIGHT") else 15
SEED = 20261130
WAIT, NOW = OnUpstreamFailure.WAIT, OnUpstreamFailure.FALLBACK_NOW
HOLD, REBUILD = OnRerun.HOLD, OnRerun.REBUILD


def rules(deadline: str, cutoff: str, failure: OnUpstreamFailure, rerun: OnRerun, build_s: float) -> SeasonRules:
    return SeasonRules(
        deadline=deadline, upgrade_cutoff=cutoff, on_upstream_failure=failure, rerun=rerun, build_s=build_s
    )


RULES = {
    "today": rules("23:25", "23:50", WAIT, HOLD, 15.0),
    "early": rules("23:05", "23:50", WAIT, HOLD, 40.0),
    "late": rules("23:40", "23:55", WAIT, REBUILD, 15.0),
    "no_time_for_upgrades": rules("23:50", "23:50", WAIT, HOLD, 7.25),
    "after_midnight": rules("00:30+1d", "01:00+1d", WAIT, REBUILD, 95.0),
    "fall_back_at_once": rules("23:25", "23:50", NOW, REBUILD, 130.0),
    "early_and_at_once": rules("22:45", "23:15", NOW, HOLD, 61.5),
    "one_optional": replace(rules("23:25", "23:50", WAIT, HOLD, 15.0), optional=frozenset({CACHE})),
    "two_optional": replace(rules("23:15", "23:50", NOW, REBUILD, 200.0), optional=frozenset({CACHE, SHOTS})),
    "too_few_players": replace(rules("23:25", "23:50", WAIT, REBUILD, 15.0), players=150),
}


def season() -> list[Arrival]:
    """A generated season with what the generator leaves out: new runs, reports without rows, failures for good."""
    random = Random(SEED)  # noqa: S311 - repeatable, not secret
    return sorted(
        (arrival for drawn in generated_season(SEED, NIGHTS) for arrival in _with_more(drawn, random)),
        key=lambda arrival: (arrival.analysis_date, arrival.received_at),
    )


def _with_more(arrival: Arrival, random: Random) -> Iterator[Arrival]:
    fate = random.random()
    if arrival.status == "success" and fate < 0.1:
        yield replace(arrival, rows_claimed=None, rows_found=0)
    elif arrival.status == "success" and fate > 0.85:
        rows = arrival.rows_claimed if fate > 0.95 else 0
        yield replace(arrival, status="failed", rows_claimed=None, rows_found=rows)
    else:
        yield arrival
    if arrival.status == "success" and fate < 0.25:
        later = timedelta(seconds=random.uniform(5, 5000))
        yield replace(
            arrival,
            run=f"{arrival.run}-again",
            completed_at=arrival.completed_at + later,
            received_at=arrival.received_at + later,
            lateness_s=arrival.lateness_s + later.total_seconds(),
        )


def played_by_the_backtest(arrivals: Sequence[Arrival], tried: SeasonRules) -> dict[date, Ended]:
    schedule = Season(arrivals[:1], tried).schedule
    calendar = make_calendar(schedule)
    estimates = replace(estimate_builds(SHIPPED, []), build_s=tried.build_s, row_count=tried.players)
    nights, left_out = nights_of(arrivals, calendar, arrivals[0].analysis_date, arrivals[-1].analysis_date)
    assert not left_out
    results = (play_night(night, Rules(policy=make_policy(schedule), calendar=calendar), estimates) for night in nights)
    return {
        result.analysis_date: Ended(
            analysis_date=result.analysis_date,
            state=str(result.state),
            generations=result.generations,
            builds=tuple(
                Published(
                    generation=build.generation,
                    trigger=str(build.trigger),
                    committed_at=build.committed_at,
                    state=str(build.state),
                    quality_score=build.quality_score,
                )
                for build in result.builds
            ),
        )
        for result in results
    }


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", RULES)
def test_a_backtest_ends_every_night_as_a_worker_would(name: str) -> None:
    arrivals = season()

    played = Season(arrivals, RULES[name]).play()

    assert played_by_the_backtest(arrivals, RULES[name]) == played
    assert len(played) >= NIGHTS - 2


def test_the_compared_nights_know_every_way_of_a_night() -> None:
    arrivals = season()

    nights = [night for tried in RULES.values() for night in played_by_the_backtest(arrivals, tried).values()]
    builds = [build for night in nights for build in night.builds]

    assert {build.trigger for build in builds} == {"join", "deadline", "upstream_failed", "upgrade", "rerun"}
    assert {night.state for night in nights} == {"done", "degraded", "failed"}
    assert len({build.quality_score for build in builds}) >= 4
    assert max(night.generations for night in nights) >= 3
