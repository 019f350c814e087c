"""The judge's own books about replays: each accepted replay ends with a build of its own, or with a failure."""

from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from statemachine.model import BuildMode, DateRecord
from tests.simulation.moves import COMMITTED

if TYPE_CHECKING:
    from worker.features.model import Publication


@dataclass(slots=True)
class Replays:
    """Which replays wait for their build, and what the ledger was given since they were accepted."""

    waiting: dict[date, BuildMode] = field(default_factory=dict)
    built: dict[date, dict[int, tuple[str, BuildMode]]] = field(default_factory=dict)

    def accepted(self, record: DateRecord) -> None:
        self.waiting[record.analysis_date] = record.mode
        self.built[record.analysis_date] = {}

    def published(self, publication: "Publication") -> None:
        request = publication.request
        since = self.built.setdefault(request.key.analysis_date, {})
        since[request.key.generation] = (request.trigger, request.mode)

    def lost(self) -> None:
        """The store was lost, or went back in time: nobody knows of the request any more."""
        self.waiting.clear()

    def fault(self, before: DateRecord | None, after: DateRecord, reason: str) -> str:
        """What is wrong with the end of a replay; empty where nothing is, or where it has not ended."""
        day = after.analysis_date
        if day not in self.waiting or (after.trigger == "replay" and after.state in {"ready", "running"}):
            return ""
        mode = self.waiting.pop(day)
        if reason not in COMMITTED or before is None or before.trigger != "replay":
            return ""
        assert after.result is not None
        built = self.built[day].get(after.result.generation)
        return "" if built == ("replay", mode) else f"asked for {mode}, answered with {built}"
