"""What a history says, sorted for the judge. Standard library only; nothing of the product is imported.

A *life* of a date is the time between two losses of its record; what was stored in one says nothing about the next.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

Line = Mapping[str, Any]
_BUILD = re.compile(r"mlfs-(\d{4}-\d\d-\d\d)-g(\d+)-a(\d+)-(claim|publish)\b")
_LOSES_ALL = {
    "store emptied",
    "store's log truncated",
    "store restored from an old copy",
    "failover, master dead",
    "failover by order",
    "failover, master cut off with its clients",
}
_LOSES_ONE = "record corrupted"
# A reader that is slow or gone stops nothing, so that these acts excuse nothing.
READERS = {"log reader stalled", "metrics readers read nothing", "hundreds of idle connections"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One claim or publication, as the warehouse ended it."""

    at: float
    day: str
    token: tuple[int, int]
    step: str
    name: str
    worked: bool

    @property
    def build_id(self) -> str:
        return f"{self.day}-g{self.token[0]}-a{self.token[1]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One publication, as the ledger lists it at the end."""

    at: float
    build_id: str


@dataclass(slots=True)
class Evidence:
    """The lines of a history by kind, and what is looked up in them often."""

    lines: Mapping[str, list[Line]]
    settings: Line = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "Evidence":
        lines: dict[str, list[Line]] = defaultdict(list)
        for text in path.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            lines[line["kind"]].append(line)
        return cls.of(lines)

    @classmethod
    def of(cls, lines: Mapping[str, list[Line]]) -> "Evidence":
        found = cls(lines=lines, settings=lines["settings"][0])
        jobs = _jobs(lines.get("job", [])) if found.has_jobs else found._listed_jobs()
        found.jobs = sorted(jobs, key=lambda job: job.at)
        return found

    @property
    def has_jobs(self) -> bool:
        """Whether the warehouse itself said how each claim and publication ended; a DuckDB file says nothing."""
        return bool(self.settings.get("warehouse", "bigquery") == "bigquery")

    def _listed_jobs(self) -> Iterator[Job]:
        """The publications that the ledger lists; their instants are those of the workers."""
        for (day, _generation), found in self.publications().items():
            for one in found:
                match = _BUILD.match(f"mlfs-{one.build_id}-publish")
                if match:
                    token = (int(match[2]), int(match[3]))
                    yield Job(at=one.at, day=day, token=token, step="publish", name=one.build_id, worked=True)

    def of_kind(self, kind: str) -> list[Line]:
        return self.lines.get(kind, [])

    def rows(self, kind: str) -> list[Line]:
        """The final rows of a table."""
        return [line["row"] for line in self.of_kind(f"final_{kind}")]

    @property
    def days(self) -> list[str]:
        return [str(line["date"]) for line in self.of_kind("night")]

    def final_records(self) -> dict[str, Line]:
        return {line["date"]: line for line in self.of_kind("final_record") if line["record"] is not None}

    def lives(self) -> dict[tuple[str, int], list[Line]]:
        """The history entries of each life of each date, in order."""
        found: dict[tuple[str, int], list[Line]] = defaultdict(list)
        losses = self.losses_of_one()
        for line in self.of_kind("entry"):
            part = sum(line["t"] >= at for at in losses.get(line["date"], []))
            found[line["date"], line["life"] * 1000 + part].append(line)
        return found

    @property
    def last(self) -> float:
        """When the history ends."""
        return max(float(line["t"]) for lines in self.lines.values() for line in lines)

    def reader_acts(self) -> list[Line]:
        return [act for act in self.of_kind("act") if act["act"] in READERS]

    def losses_of_one(self) -> dict[str, list[float]]:
        found: dict[str, list[float]] = defaultdict(list)
        for act in self.of_kind("act"):
            if act["act"] == _LOSES_ONE:
                found[act["hit"]].append(act["begin"])
        return found

    def losses(self, day: str, since: float = 0.0) -> list[float]:
        """When the record of a date was lost or set back, from an instant on."""
        whole = [act["end"] for act in self.of_kind("act") if act["act"] in _LOSES_ALL]
        return sorted(at for at in [*whole, *self.losses_of_one().get(day, [])] if at >= since)

    def life_at(self, at: float) -> int | None:
        """Which life of the store an instant falls into; None while it was being lost."""
        life = 0
        for act in self.of_kind("act"):
            if act["act"] in _LOSES_ALL and act["begin"] <= at:
                if at <= act["end"]:
                    return None
                life = act["life"]
        return life

    def lost_between(self, day: str, first: float, last: float) -> bool:
        """Whether anything was lost of the date in that time."""
        spans = [(act["begin"], act["end"]) for act in self.of_kind("act") if act["act"] in _LOSES_ALL]
        spans += [(at, at + 1.0) for at in self.losses_of_one().get(day, [])]
        return any(begin <= last and end >= first for begin, end in spans)

    def disturbed(self, first: float, last: float) -> float:
        """How many seconds of that time something was wrong somewhere, or no worker may have been up."""
        spans = sorted(
            (max(act["begin"], first), min(act["end"] + self.settings["grace_s"], last))
            for act in self.of_kind("act")
            if act["act"] not in READERS
        )
        total, reached = 0.0, first
        for begin, end in spans:
            if end > max(begin, reached):
                total += end - max(begin, reached)
                reached = end
        return total

    def wrote(self) -> dict[str, dict[str, float]]:
        """When each processor filled its table, by date."""
        found: dict[str, dict[str, float]] = defaultdict(dict)
        for line in self.of_kind("wrote"):
            found[line["date"]].setdefault(line["processor"], line["t"])
        return found

    def mended(self) -> dict[tuple[str, str], float]:
        """When the success of a processor that had reported a failure was acknowledged, by date and processor."""
        acked = {line["message_id"]: float(line["t"]) for line in self.of_kind("acked")}
        found: dict[tuple[str, str], float] = {}
        failed: set[tuple[str, str]] = set()
        for line in self.of_kind("published"):
            about = (line["date"], line["processor"])
            if line["status"] == "failed":
                failed.add(about)
            elif about in failed:
                found[about] = max(found.get(about, 0.0), acked.get(line["message_id"], self.last))
        return found

    def commits(self) -> dict[tuple[str, int], list[Job]]:
        """The publications that took effect, by date and generation."""
        found: dict[tuple[str, int], list[Job]] = defaultdict(list)
        for job in self.jobs:
            if job.step == "publish" and job.worked:
                found[job.day, job.token[0]].append(job)
        return found

    def publications(self) -> dict[tuple[str, int], list[Publication]]:
        """The publications that the ledger lists, by date and generation; two rows of a date may say the same."""
        found: dict[tuple[str, int], list[Publication]] = defaultdict(list)
        for row in self.rows("ledger"):
            for one in row["publications"]:
                publication = Publication(at=instant(one["committed_at"]), build_id=one["build_id"])
                known = found[row["analysis_date"], one["generation"]]
                if publication not in known:
                    known.append(publication)
        return found

    def published(self) -> dict[tuple[str, int], Line]:
        """What the quality history says of each publication, by date and generation."""
        worth = {row["build_id"]: row for row in self.rows("history")}
        return {
            place: worth[one.build_id]
            for place, found in self.publications().items()
            for one in found
            if one.build_id in worth
        }


def _jobs(lines: list[Line]) -> Iterator[Job]:
    for line in lines:
        match = _BUILD.match(line["job"])
        if match:
            day, generation, attempt, step = match.groups()
            yield Job(
                at=line["t"],
                day=day,
                token=(int(generation), int(attempt)),
                step=step,
                name=line["job"],
                # A claim or publication that the ledger refuses is a statement that changes nothing.
                worked=line["error"] is None and line["changed"] > 0,
            )


def instant(text: str) -> float:
    """Seconds since 1970 UTC of an ISO text."""
    return datetime.fromisoformat(text).timestamp()
