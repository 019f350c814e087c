"""Fibers: code of the product that can be stopped in the middle of a call and carried on later, in a chosen order.

A fiber is a thread of a pool, but only the one that holds the baton runs, so a seed always gives the same run. The
scheduler's loop runs on whichever fiber holds the baton. A task that is never stopped costs no switch at all: only
`suspend` hands the baton on, to a fresh fiber that continues the loop.
"""

import threading
from collections.abc import Callable

STACK_FIBERS_MAX = 64


class Killed(BaseException):
    """Thrown into a suspended fiber whose process is dead. No `except Exception` of the product may catch it."""


class Fiber:
    """One thread and the lock by which it is given the baton."""

    def __init__(self, pool: "Fibers") -> None:
        self._pool = pool
        self._baton = threading.Lock()
        self._baton.acquire()
        self.killed = False
        threading.Thread(target=self._live, name="fiber", daemon=True).start()

    def give_baton(self) -> None:
        self._baton.release()

    def wait(self) -> None:
        self._baton.acquire()

    def _live(self) -> None:
        while True:
            self.wait()
            self._pool.run_loop(self)


class Fibers:
    """A pool of fibers and the run that they carry out."""

    def __init__(self) -> None:
        self._idle: list[Fiber] = []
        self._count = 0
        self._ended = threading.Lock()
        self._ended.acquire()
        self._loop: Callable[[], None] = lambda: None
        self._current: Fiber | None = None
        self._suspended: list[Fiber] = []
        self._error: BaseException | None = None
        self._next: Fiber | None = None

    def run(self, loop: Callable[[], None]) -> None:
        """Run *loop* to its end, on as many fibers as it takes; raise what it raised."""
        self._loop, self._error = loop, None
        self._start_fresh()
        self._ended.acquire()
        if self._error is not None:
            raise self._error

    def run_loop(self, me: Fiber) -> None:
        """Run the loop on this fiber until it ends or hands the baton to a suspended one."""
        self._current = me
        try:
            if self._error is None:
                self._loop()
        except BaseException as exc:  # noqa: BLE001 - it is raised again by `run`
            self._error = exc
        handed, self._next = self._next, None
        self._idle.append(me)
        if handed is None and self._suspended:
            # The run is over: unwind what is still suspended, one after the other.
            handed = self._suspended.pop()
            handed.killed = True
        if handed is not None:
            handed.give_baton()
        else:
            self._current = None
            self._ended.release()

    def suspend(self) -> Fiber:
        """Stop here until somebody resumes this fiber; the loop goes on elsewhere.

        Raises:
            Killed: The process that this code ran in is dead.
        """
        me = self._current
        assert me is not None
        me.killed = False
        self._suspended.append(me)
        self._start_fresh()
        me.wait()
        self._current = me
        if me.killed:
            raise Killed
        return me

    @property
    def current(self) -> Fiber:
        assert self._current is not None
        return self._current

    def resume_when_loop_returns(self, fiber: Fiber, *, killed: bool) -> None:
        """Hand the baton to a suspended fiber; the caller's loop must return at once."""
        self._suspended.remove(fiber)
        fiber.killed = killed
        self._next = fiber

    def _start_fresh(self) -> None:
        if not self._idle:
            self._count += 1
            if self._count > STACK_FIBERS_MAX:
                raise RuntimeError("too many suspended calls; the schedule does not resume them")
            self._idle.append(Fiber(self))
        self._idle.pop().give_baton()


FIBERS = Fibers()
"""One pool for all runs of a process: making a thread costs more than a whole build."""
