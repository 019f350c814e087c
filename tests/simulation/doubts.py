"""The judge's book of builds that read fewer rows than an event claimed, and of the runs that must replace them.

The simulated pipeline calls a table critical that holds a good deal fewer rows than the event of its processor claims.
"""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING

from statemachine.model import DateRecord

if TYPE_CHECKING:
    from worker.features.model import Publication

Token = tuple[date, int, int]
CLAIMED = 400
"""Rows that every event with a success claims."""
SHORT = 200
"""Rows of a run that breaks off half way and reports a success all the same."""
CRITICAL_SHARE = 0.4
"""The share of missing rows from which the simulated pipeline calls a table critical."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubted:
    """A publication that cannot be believed: the run of each doubted processor, and when the build began."""

    runs: dict[str, str]
    begun_at: datetime


@dataclass(slots=True)
class Doubts:
    """What each claim knew of runs, and which publications rest on a run that claims too much."""

    runs: dict[Token, dict[str, str]] = field(default_factory=dict)
    published: dict[tuple[date, int], Doubted] = field(default_factory=dict)

    def claimed(self, record: DateRecord) -> None:
        """Note the reported successes that the build begins with."""
        token = (record.analysis_date, record.generation, record.attempt)
        self.runs[token] = {
            name: completion.identity
            for name, completion in record.completions.items()
            if completion.status == "success"
        }

    def judged(self, publication: "Publication") -> frozenset[str]:
        """The processors of a publication whose table does not hold what the event claims."""
        request = publication.request
        day, generation = request.key.analysis_date, request.key.generation
        runs = self.runs.get((day, *request.key.token), {})
        doubted = {
            name: runs[name]
            for name, rows in publication.stats.dependency_rows.items()
            if name in runs and name not in request.ignored and abs(CLAIMED - rows) / CLAIMED >= CRITICAL_SHARE
        }
        if doubted:
            self.published[day, generation] = Doubted(runs=doubted, begun_at=request.started_at)
        return frozenset(doubted)

    def overlooked(self, record: DateRecord, now: datetime) -> set[str]:
        """Doubted processors that ran again before the cutoff, although the date stays as it is."""
        result = record.result
        doubted = self.published.get((record.analysis_date, result.generation)) if result is not None else None
        if record.state != "degraded" or doubted is None or now >= record.upgrade_cutoff_at:
            return set()
        return {
            name
            for name, run in doubted.runs.items()
            if (again := record.completions.get(name)) is not None
            and again.status == "success"
            and again.identity != run
            and again.completed_at > doubted.begun_at
        }
