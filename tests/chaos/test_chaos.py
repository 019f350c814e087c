"""A short run with real processes; `make chaos` plays long ones.

Two workers, four nights of different kinds, and in a fixed order: a worker killed, a worker frozen beyond its lease,
the store killed, its link cut one way, the store emptied.
"""

from pathlib import Path

import pytest

from tests.chaos.nemesis import ACTS
from tests.chaos.report import table
from tests.chaos.run import Options, Run

STRIKES = (
    "worker killed",
    "store killed",
    "link to the store cut one way",
    "worker frozen beyond its lease",
    "store emptied",
)

# Nobody replays in the short run, and no reader stalls.
NOT_MET = {
    "audit before effect, one request one effect",
    "a replay leads to a build of its own",
    "a reader that is slow or gone stops nothing",
}


# The receivers of the test ask without waiting, which Google's client calls deprecated; a wait would hold all three up.
@pytest.mark.filterwarnings("ignore:The return_immediately flag:DeprecationWarning")
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_nights_end_as_worked_out_though_workers_and_store_are_killed_frozen_and_emptied(tmp_path: Path) -> None:
    options = Options(
        seed=11,
        seconds=120.0,
        store="valkey",
        nights_max=4,
        kinds=("full", "late", "missing", "lost report"),
        acts=STRIKES,
        gap_s=(0.2, 0.6),
        replays=False,
        settle_s=120.0,
    )

    report = Run(tmp_path, options).play()

    assert report["settled"], table(report)
    assert report["verdict"]["violations"] == 0, table(report)
    assert report["faults"] == dict.fromkeys(sorted(STRIKES), 1)
    seen = {name: found["checked"] for name, found in report["verdict"]["invariants"].items()}
    assert {name for name, checked in seen.items() if not checked} <= NOT_MET, table(report)


def test_every_act_that_the_short_run_plays_exists() -> None:
    assert set(STRIKES) <= set(ACTS)
