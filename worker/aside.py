"""Looks that may hang, beside the loop that needs them: one slow warehouse call must not hold up other deadlines."""

import threading
from collections.abc import Callable
from datetime import date

# A look into the warehouse takes a fraction of this; who needs longer is asked about again at the next pass.
PATIENCE_S = 2.0
# More than this many dates whose looks hang at once is an outage: the others wait for it to end.
LOOKS_MAX = 16


class _Look:
    """One call on a thread of its own."""

    def __init__(self, act: Callable[[], None], name: str) -> None:
        self._act = act
        self.ended = threading.Event()
        self.error: Exception | None = None
        threading.Thread(target=self._run, name=name, daemon=True).start()

    @property
    def is_open(self) -> bool:
        """Whether the call still runs, or raised what nobody has heard of yet."""
        return not self.ended.is_set() or self.error is not None

    def _run(self) -> None:
        try:
            self._act()
        except Exception as exc:  # noqa: BLE001 - raised again where somebody waits for it
            self.error = exc
        finally:
            self.ended.set()


class Aside:
    """Runs at most one look a date; any thread may ask."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        """Take how long the first who asks waits for a look; with 0 nobody waits.

        Args:
            patience_s: Seconds.
        """
        self._patience_s = patience_s
        self._looks: dict[date, _Look] = {}
        self._lock = threading.Lock()

    def __call__(self, analysis_date: date, act: Callable[[], None]) -> bool:
        """Run *act*, or wait for the look that runs for the date already; False while that goes on.

        Raises:
            Exception: What the look raised.
        """
        with self._lock:
            self._looks = {day: one for day, one in self._looks.items() if day == analysis_date or one.is_open}
            look = self._looks.get(analysis_date)
            is_new = look is None
            if look is None:
                if sum(not one.ended.is_set() for one in self._looks.values()) >= LOOKS_MAX:
                    return False
                look = self._looks[analysis_date] = _Look(act, f"look-{analysis_date}")
        # Only the first to ask waits: a look that hangs costs one pass of the loop, and no other.
        if not look.ended.wait(self._patience_s if is_new else 0):
            return False
        with self._lock:
            if self._looks.get(analysis_date) is look:
                del self._looks[analysis_date]
        if look.error is not None:
            raise look.error
        return True


def at_once(_analysis_date: date, act: Callable[[], None]) -> bool:
    """Run *act* here and now: where nothing can hang, in tests and simulation."""
    act()
    return True
