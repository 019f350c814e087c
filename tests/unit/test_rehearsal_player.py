"""A rehearsal does not wait for a deadline that is hours away, and leaves alone what was decided."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ops.demo.rehearsal import DEADLINE_WITHIN_S, Folder, Rehearsal
from ops.demo.schedule import DemoScenario
from statemachine.model import State
from tests.support.nights import NIGHT
from tests.support.rigs import ModelClock
from tests.support.services import StandIns
from worker.errors import Refused
from worker.settings import load


@pytest.fixture
def parts() -> StandIns:
    return StandIns(load({}, season="01-01..12-31"), ModelClock())


def player(parts: StandIns, tmp_path: Path) -> Rehearsal:
    return Rehearsal(parts, Folder(tmp_path), parts.clock, show=lambda _text: None, pace_s=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("scenario", [DemoScenario.OUTAGE, DemoScenario.MISSING_PROCESSOR])
def test_a_night_that_waits_for_tonights_deadline_is_refused(
    parts: StandIns, tmp_path: Path, scenario: DemoScenario
) -> None:
    deadline_at = parts.settings.calendar.at(NIGHT, parts.settings.deadline)
    parts.clock.instant = deadline_at - timedelta(seconds=DEADLINE_WITHIN_S + 1)

    with pytest.raises(Refused, match=f"{NIGHT}: its deadline is still to come; {scenario.value}"):
        player(parts, tmp_path).play(NIGHT, scenario)


@pytest.mark.parametrize("state", [State.DONE, State.FAILED])
def test_a_decided_night_is_not_played_again(parts: StandIns, tmp_path: Path, state: State) -> None:
    fresh = parts.settings.calendar.fresh_record(NIGHT, parts.clock.now())
    parts.store.load = {NIGHT: replace(fresh, state=state, generation=1)}.get

    played = player(parts, tmp_path).play(NIGHT, DemoScenario.NOMINAL)

    assert ((), state, state is State.DONE) == (played.told, played.state, played.as_expected)
    assert [] == parts.publisher.confirmed
