"""The judge's book of what people took back, and of the builds that must not, or no longer, rest on it."""

import json
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING

from statemachine.model import Completion, DateRecord, Retraction

if TYPE_CHECKING:
    from tests.simulation.bus import Message
    from worker.features.model import BuildKey

Token = tuple[date, int, int]
UNFINISHED = {"waiting", "ready", "running"}


@dataclass(slots=True)
class Retractions:
    """Survives every loss of the store: the audit does, too."""

    taken_back: dict[tuple[date, str], dict[str, datetime]] = field(default_factory=dict)
    to_replace: set[tuple[date, str, str]] = field(default_factory=set)
    banned: dict[Token, frozenset[str]] = field(default_factory=dict)
    runs: dict[Token, dict[str, str]] = field(default_factory=dict)
    used: dict[Token, frozenset[str]] = field(default_factory=dict)

    def add(self, day: date, one: Retraction, state: str) -> None:
        self.taken_back.setdefault((day, one.processor), {})[one.identity] = one.completed_at
        if state in UNFINISHED:
            self.to_replace.add((day, one.processor, one.identity))

    def excuse(self, day: date, completion: Completion) -> bool:
        """Whether a success may go: its run was taken back, or one that had displaced it."""
        runs = self.taken_back.get((day, completion.processor), {})
        return completion.identity in runs or any(completion.completed_at < at for at in runs.values())

    def excuse_message(self, day: date, processor: str, message: "Message") -> bool:
        """The same of a message, read without the product."""
        said = json.loads(message.body)
        runs = self.taken_back.get((day, processor), {})
        identity = f"run:{said['run_id']}" if "run_id" in said else f"message:m{message.number}"
        said_at = datetime.fromisoformat(said["completed_at"]) if "completed_at" in said else message.published_at
        at = min(said_at, message.published_at)
        return identity in runs or any(at < other for other in runs.values())

    def claimed(self, record: DateRecord) -> None:
        """Note what the build that begins must not read: tables of which only runs were reported that are no more."""
        day = record.analysis_date
        token = (day, record.generation, record.attempt)
        sound = {
            name
            for name, completion in record.completions.items()
            if completion.status == "success" and completion.identity not in self.taken_back.get((day, name), {})
        }
        self.banned[token] = frozenset(name for night, name in self.taken_back if night == day) - sound
        self.runs[token] = {name: completion.identity for name, completion in record.completions.items()}

    def built(self, key: "BuildKey", used: frozenset[str]) -> None:
        self.used[key.analysis_date, *key.token] = used

    def left(self, day: date, generation: int, attempt: int) -> set[str]:
        """Processors whose retracted run the published build still rests on, though it was not published then."""
        token = (day, generation, attempt)
        runs, used = self.runs.get(token, {}), self.used.get(token, frozenset())
        return {name for name, run in runs.items() if name in used and (day, name, run) in self.to_replace}
