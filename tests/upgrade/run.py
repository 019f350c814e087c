"""Nights under two versions at once: `python -m tests.upgrade.run --nights 100 [--from REVISION]`.

Two workers run. In the middle of each batch of nights one of them is stopped, by SIGTERM or by kill -9 while it builds,
and a worker of the other version takes its place: both are replaced by this version, both go back, and so on. A night
of each batch is replayed while both versions are there. At the end the judge looks at every night.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from statemachine.model import State
from tests.upgrade.judge import Evidence, violations
from tests.upgrade.stage import ROOT, Member, NoHistory, Stage, Version, unpack, unpack_oldest
from tests.upgrade.warehouse import expected_state, nights
from worker.errors import PipelineError
from worker.features.model import Statement
from worker.observing import logs
from worker.pipelines.shipped import PROCESSORS, PUBLISHED_TABLE, SHIPPED

BATCH = 5
# Which side leaves, and whether it is killed. Over two workers: all old, mixed, all new, mixed, all old.
THERE_AND_BACK = (("old", True), ("old", False), ("new", False), ("new", True))
BATCH_TIMEOUT_S = 120.0
# What a killed worker held in its hands comes again after a minute, the lease of a message.
DRAIN_TIMEOUT_S = 150.0
# A batch may end before the chosen worker gets anything to build; then it is stopped without.
CAUGHT_WITHIN_S = 4.0
EXTRA_REPORTS = 0.3
TABLES = SHIPPED.tables
PUBLICATIONS = f"""
    SELECT published.generation, made.* EXCEPT (generation)
    FROM {TABLES.ledger} AS ledger, UNNEST(ledger.publications) AS published
    JOIN {TABLES.history} AS made
      ON made.analysis_date = ledger.analysis_date AND made.build_id = published.build_id
"""  # noqa: S608 - constants
STORED = f"""
    SELECT build_id, COUNT(*) AS row_count FROM {TABLES.generations} WHERE left_out_reason IS NULL GROUP BY build_id
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a run did, and what the judge found."""

    old: str
    redis: str
    nights: int
    states: dict[str, int]
    replays: int
    rescues: int
    replacements: dict[str, int]
    killed_while_building: int
    leases_expired: int
    builds_by: dict[str, int]
    outcomes: int
    repeats: int
    seconds: float
    violations: list[str]


@dataclass
class Play:
    """One run."""

    stage: Stage
    versions: Mapping[str, Version]
    chance: random.Random
    members: list[Member] = field(default_factory=list)
    actors: dict[str, str] = field(default_factory=dict)
    replacements: Counter[str] = field(default_factory=Counter)
    killed_while_building: int = 0
    replayed: list[date] = field(default_factory=list)

    def start(self, *sides: str) -> None:
        started = []
        for side in sides:
            log = self.stage.folder / f"worker-{len(self.actors)}-{side}.log"
            started.append(self.stage.launch(self.versions[side], log))
            self.actors[started[-1].actor] = side
        self.members += started
        for member in started:
            member.ready()

    def batch(self, batch: Sequence[date], leaving: str, *, killed: bool) -> None:
        """Play a few nights, replacing a worker in their middle."""
        reports = [(night, name) for night in batch for name in reported(night)]
        reports += [one for one in reports if self.chance.random() < EXTRA_REPORTS]
        self.chance.shuffle(reports)
        for night, name in reports:
            self.stage.report(night, [name])
        self.replace(batch, leaving, killed=killed)
        self.wait_for(batch, 1)
        again = next((night for night in batch if expected_state(night) == State.DONE), None)
        if again is not None:
            self.chance.choice(self.members).replay(again)
            self.replayed.append(again)
            self.wait_for([again], 2)

    def replace(self, batch: Sequence[date], side: str, *, killed: bool) -> None:
        """Stop one worker of *side* and start one of the other version."""
        leaving = next(member for member in self.members if self.actors[member.actor] == side)
        self.members.remove(leaving)
        coming = "new" if side == "old" else "old"
        if killed:
            building = self.caught_building(leaving, batch)
            leaving.running.kill()
            self.killed_while_building += building
        elif code := leaving.running.terminate():
            raise AssertionError(f"version {side} ended with {code} on SIGTERM")
        self.replacements[f"{'kill -9' if killed else 'SIGTERM'}: {side} -> {coming}"] += 1
        self.start(coming)

    def caught_building(self, member: Member, batch: Sequence[date]) -> bool:
        def building() -> bool:
            records = self.stage.parts.store.load_all(batch)
            return any(one and one.lease and one.lease.owner == member.actor for one in records.values())

        try:
            self.stage.wait(building, "it builds", CAUGHT_WITHIN_S)
        except TimeoutError:
            return False
        return True

    def wait_for(self, batch: Sequence[date], generation: int) -> None:
        def ended() -> bool:
            records = self.stage.parts.store.load_all(batch)
            over = all(
                one and one.generation >= generation and one.state == expected_state(night)
                for night, one in records.items()
            )
            return over and self.stage.parts.store.outbox_size() == 0

        self.stage.wait(ended, f"{batch} end, generation {generation}", BATCH_TIMEOUT_S)

    def drain(self) -> None:
        """Wait until every report is acknowledged, and what its acknowledgement started has ended."""
        path = f"projects/{self.stage.settings.pubsub_project}/subscriptions/{self.stage.settings.subscription}"
        self.stage.wait(lambda: not self.stage.bus.undelivered(path), "every report is acknowledged", DRAIN_TIMEOUT_S)
        self.wait_for(nights(self.stage.nights), 1)

    def stop(self) -> None:
        for member in self.members:
            if member.running.process.poll() is None:
                member.running.terminate()


def reported(night: date) -> list[str]:
    """Who reports: not the daily cache of a night on which it has no rows."""
    gap = expected_state(night) == State.DEGRADED
    return [name for name in PROCESSORS if not (gap and name == "player_daily_cache")]


def play(
    stage: Stage,
    old: Version,
    *,
    seed: int = 0,
    batch: int = BATCH,
    plan: Sequence[tuple[str, bool]] = THERE_AND_BACK,
) -> tuple[Result, list[Evidence]]:
    """Play the nights of *stage*, a batch for each step of *plan*, which begins anew when it ends; judge them.

    Raises:
        AssertionError: A worker does not start, or does not stop cleanly.
        TimeoutError: A night does not end.
    """
    run = Play(stage, {"old": old, "new": Version("this one", ROOT)}, random.Random(seed))  # noqa: S311 - an order
    for version in run.versions.values():
        version.check()
    began, all_nights = time.monotonic(), nights(stage.nights)
    try:
        run.start("old", "old")
        for turn, first in enumerate(range(0, stage.nights, batch)):
            leaving, killed = plan[turn % len(plan)]
            run.batch(all_nights[first : first + batch], leaving, killed=killed)
        run.drain()
    finally:
        run.stop()
    evidence = gather(stage, all_nights, run.replayed)
    return report(run, evidence, time.monotonic() - began), evidence


def gather(stage: Stage, played: Sequence[date], replayed: Sequence[date]) -> list[Evidence]:
    """Collect what is left of every night."""
    told = stage.outcomes()
    publications = _rows(stage, PUBLICATIONS)
    stored = {row["build_id"]: row["row_count"] for row in _rows(stage, STORED)}
    ledger = {row.analysis_date: row for row in stage.parts.warehouse.read_ledger_since(played[0])}
    seen = _rows(
        stage,
        f"SELECT analysis_date, build_generation, COUNT(*) AS row_count FROM {PUBLISHED_TABLE} GROUP BY 1, 2",  # noqa: S608
    )
    store = stage.parts.store
    return [
        Evidence(
            night=night,
            expected=expected_state(night),
            replays=replayed.count(night),
            reported=frozenset(reported(night)),
            record=store.load(night),
            history=store.history(night),
            publications=[row for row in publications if row["analysis_date"] == night],
            stored=stored,
            ledger=None
            if night not in ledger
            else {name: getattr(ledger[night], name) for name in ledger[night].__dataclass_fields__},
            visible={row["build_generation"]: row["row_count"] for row in seen if row["analysis_date"] == night},
            outcomes=[one for one in told if one["analysis_date"] == night.isoformat()],
        )
        for night in played
    ]


def _rows(stage: Stage, sql: str) -> Sequence[Mapping[str, Any]]:
    return stage.parts.warehouse.query(Statement(name="evidence", sql=sql))


def report(run: Play, evidence: Sequence[Evidence], seconds: float) -> Result:
    """Judge, and count what was done."""
    store = run.stage.parts.store
    found = [what for one in evidence for what in violations(one)]
    found += [f"bad input is parked with a reason: {one.reason} {one.detail}" for one in store.parked(10)]
    if store.outbox_size():
        found.append(f"done => published: {store.outbox_size()} messages are left in the outbox")
    history = [entry for one in evidence for entry in one.history]
    told = [outcome for one in evidence for outcome in one.outcomes]
    return Result(
        old=run.versions["old"].name,
        redis=run.stage.redis_kind,
        nights=len(evidence),
        states=dict(Counter(str(one.record.state) for one in evidence if one.record)),
        replays=len(run.replayed),
        rescues=sum(one.rescues for one in evidence),
        replacements=dict(run.replacements),
        killed_while_building=run.killed_while_building,
        leases_expired=sum(entry.reason == "lease_expired" for entry in history),
        builds_by=dict(Counter(run.actors.get(entry.actor, "?") for entry in history if entry.reason == "claimed")),
        outcomes=len(told),
        repeats=len(told) - len({outcome["event_id"] for outcome in told}),
        seconds=round(seconds, 1),
        violations=found,
    )


def main() -> int:
    """Play and print the result; 1 if the judge found anything, 2 without the revision."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nights", type=int, default=100)
    parser.add_argument("--from", dest="revision", help="the old version; the oldest whose warehouse this one accepts")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logs.configure("ERROR", sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        try:
            older = folder / "old"
            old = unpack(options.revision, older) if options.revision else unpack_oldest(older)
        except NoHistory as exc:
            sys.stderr.write(f"upgrade-test: {exc}\n")
            return 2
        with Stage(folder, options.nights) as stage:
            try:
                result, _evidence = play(stage, old, seed=options.seed)
            except (AssertionError, TimeoutError, PipelineError):
                for log in sorted(folder.glob("worker-*.log")):
                    sys.stderr.write(f"--- {log.name}\n" + "\n".join(log.read_text().splitlines()[-5:]) + "\n")
                raise
    sys.stdout.write(json.dumps({"seed": options.seed, **asdict(result)}, indent=2) + "\n")
    return 1 if result.violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
