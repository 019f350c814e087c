"""A season whose nights are published as they are, and built once more, without publication, over spoiled inputs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from statemachine.model import BuildMode
from tests.support.corruptions import CORRUPTIONS, Corruption, Nights
from tests.support.faulty_nights import Season
from worker.builds.steps import run_build
from worker.errors import PipelineError
from worker.features.model import BuildKey, BuildOutcome, BuildRequest

FIRST_JUDGED = 10
"""Nights that have to be published before a corruption must be noticed."""


@dataclass(slots=True)
class Caught:
    """How often a kind was noticed.

    Attributes:
        nights: Nights that were spoiled.
        missed: Those on which the right finding, state or severity was absent, with what was found instead.
    """

    nights: int = 0
    missed: list[tuple[date, str]] = field(default_factory=list)


class CorruptedSeason:
    """All nights of a folder, published in order."""

    def __init__(self, folder: Path, nights: Sequence[date]) -> None:
        self.season = Season(folder)
        self.nights = tuple(nights)
        self.facts = Nights.of(self.season)
        self.clean = {night: self._build(night, publish=True) for night in nights}

    def close(self) -> None:
        self.season.warehouse.close()

    def judge(self, corruption: Corruption, nights: Sequence[date] | None = None) -> Caught:
        """Spoil nights, by default each after the tenth to which the kind applies, and see what a build says."""
        caught = Caught()
        for night in self.nights[FIRST_JUDGED:] if nights is None else nights:
            if not corruption.applies(self.facts, night):
                continue
            caught.nights += 1
            with self._spoiled(corruption, night):
                try:
                    outcome = self._build(night, corruption)
                except PipelineError as error:
                    caught.missed.append((night, f"{type(error).__name__}: {error}"))
                    continue
            if not corruption.is_caught(outcome):
                caught.missed.append((night, said(outcome)))
        return caught

    def _build(self, night: date, corruption: Corruption | None = None, *, publish: bool = False) -> BuildOutcome:
        at = datetime(night.year, night.month, night.day, 4, 30, tzinfo=UTC) + timedelta(days=1)
        request = BuildRequest(
            key=BuildKey(analysis_date=night, generation=1 if publish else 2, attempt=1),
            mode=BuildMode.NORMAL,
            trigger="join",
            phase3_lookback_days=30,
            as_of=None,
            started_at=at - timedelta(minutes=1),
            claimant="worker-a",
            claimed_rows={} if corruption is None else corruption.claims,
        )
        return run_build(self.season.warehouse, request, now=lambda: at, publish=publish)

    @contextmanager
    def _spoiled(self, corruption: Corruption, night: date) -> Iterator[None]:
        changes = corruption.spoils(night)
        with self.season.warehouse.writing("spoiling tables") as cursor:
            for table, sql, values in changes:
                cursor.execute(sql.replace("{}", table), values)
        try:
            yield
        finally:
            with self.season.warehouse.writing("restoring the tables") as cursor:
                for table in sorted({table for table, _, _ in changes}):
                    kept = f"kept.{table.partition('.')[2]}"
                    cursor.execute(f"CREATE OR REPLACE TABLE {table} AS FROM {kept}")


def said(outcome: BuildOutcome) -> str:
    """The findings in one line, with state and severity."""
    findings = ", ".join(f"{one.check}={one.severity.value}({one.subject})" for one in outcome.report.findings[:6])
    return f"{outcome.report.earned_state.value} {outcome.report.severity} {outcome.report.quality_score}: {findings}"


def judge_all(folder: Path, nights: Sequence[date]) -> dict[str, Caught]:
    """Every kind over every night, by the kind's name."""
    season = CorruptedSeason(folder, nights)
    try:
        return {corruption.name: season.judge(corruption) for corruption in CORRUPTIONS}
    finally:
        season.close()
