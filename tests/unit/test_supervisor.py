"""A loop whose passes keep failing is told by the health page, and one that succeeds again is not."""

import threading

import pytest

from tests.conftest import WaitUntil
from worker.errors import Unavailable
from worker.supervisor import FAILURES_MAX, Loop, Passes, Supervisor


def test_failures_in_a_row_are_a_fault_until_one_pass_succeeds() -> None:
    passes, error = Passes(), Unavailable("no server")
    for _ in range(FAILURES_MAX - 1):
        passes.note("sweep", error)
        passes.note("relay", error)
    passes.note("relay", None)
    assert passes.faults() == []

    passes.note("sweep", error)
    passes.note("relay", error)
    assert passes.faults() == ["sweep failed 3 times in a row, last with Unavailable: no server"]

    passes.note("sweep", None)
    assert passes.faults() == []


@pytest.mark.parametrize("error", [Unavailable("no server"), ValueError("a bug")])
def test_the_supervisor_notes_how_each_pass_ended(
    error: Exception, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.supervisor.PAUSE_AFTER_FAILURE_S", 0.0)
    passes, healthy = Passes(), threading.Event()
    supervisor = Supervisor(lambda _loop, _error: None, passes)

    def run_once() -> float:
        if not healthy.is_set():
            raise error
        return 0.01

    supervisor.run_loop(Loop(name="sweep", run_once=run_once))
    try:
        wait_until(passes.faults, "three passes have failed")
        healthy.set()
        wait_until(lambda: not passes.faults(), "a pass has succeeded")
    finally:
        supervisor.stop()
