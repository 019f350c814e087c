"""What the soak run concludes from its samples. The run itself is `make soak`."""

import math

import pytest

from tests.chaos.soak import TOLERANCES, Sample, growth

NIGHTS = 2000


def samples(**per_thousand: float) -> list[Sample]:
    """A run that fills up during its first quarter, then wavers, and grows by so much in 1,000 nights."""
    found = []
    for nights in range(0, NIGHTS, 20):
        filled = min(nights, 500) / 500
        values = {
            name: 100 * filled + math.sin(nights) + per_thousand.get(name, 0.0) * nights / 1000 for name in TOLERANCES
        }
        found.append(Sample(seconds=nights / 4, nights=nights, workers={"worker-0": values}, store={}))
    return found


def test_what_grows_is_told_from_what_wavers() -> None:
    found = growth(samples(rss_mb=40.0), NIGHTS)["worker-0"]

    assert {name for name, slope in found.items() if slope > TOLERANCES[name]} == {"rss_mb"}
    assert found["rss_mb"] == pytest.approx(40.0, abs=1.0)


@pytest.mark.parametrize("name", TOLERANCES)
def test_twice_the_tolerance_is_found_in_each_quantity(name: str) -> None:
    found = growth(samples(**{name: 2 * TOLERANCES[name]}), NIGHTS)["worker-0"]

    assert found[name] > TOLERANCES[name]


def test_a_run_that_is_too_short_says_so() -> None:
    with pytest.raises(ValueError, match="say nothing"):
        growth(samples()[:10], NIGHTS)
