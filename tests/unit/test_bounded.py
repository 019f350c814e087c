"""A read that hangs holds no caller up beyond the bound, and no second thread."""

import threading

import pytest

from tests.conftest import WaitUntil
from worker.errors import Fatal, Unavailable
from worker.observing.bounds import Bounded


def test_the_answer_and_the_error_of_the_read_are_the_callers() -> None:
    def refuse() -> int:
        raise Fatal("no right")

    assert Bounded(lambda: 7, "the store")() == 7
    with pytest.raises(Fatal, match="no right"):
        Bounded(refuse, "the store")()


def test_a_read_that_hangs_is_run_once_and_later_callers_do_not_wait(wait_until: WaitUntil) -> None:
    release, begun, now = threading.Event(), [], [0.0]

    def hang() -> str:
        begun.append(threading.current_thread())
        release.wait(30)
        return "late"

    read = Bounded(hang, "the store", patience_s=0.05, stopwatch=lambda: now[0])
    with pytest.raises(Unavailable, match="the store has not answered for 0 s"):
        read()
    now[0] = 40.0
    with pytest.raises(Unavailable, match="has not answered for 40 s"):
        read()
    assert len(begun) == 1

    release.set()
    wait_until(lambda: not begun[0].is_alive(), "the read has ended")
    assert read() == "late"
    assert len(begun) == 2
