"""What one invariant of the judge found."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.evidence import Evidence

# Two processes read one clock; what was confirmed may be noted a moment after it was used.
CLOCK_S = 0.25


@dataclass(slots=True)
class Finding:
    """How much one invariant looked at, and what broke it."""

    checked: int = 0
    violations: list[str] = field(default_factory=list)

    def demand(self, holds: object, what: str) -> None:
        self.checked += 1
        if not holds:
            self.violations.append(what)


Invariant = Callable[[Evidence, Finding], None]
