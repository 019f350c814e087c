"""Findings about tonight's games: the schedule against Phase 4 and against the team list. Pure.

Model: the schedule decides who plays. Phase 4 tables with the columns `plays` and `opponent` of `[schedule]` are
witnesses: each row says what the processor believed. A wrong schedule looks like a night off, and a block that needs an
opponent then does not apply, so the score shows no fault; the findings do.
"""

from collections.abc import Iterator, Sequence

from worker.features.findings import Check, FindingPolicy, Found
from worker.features.model import BuildStats, GameCounts
from worker.features.pipeline import Pipeline, Schedule

NAMES_SHOWN_MAX = 6
"""Number of unknown teams that a finding names."""


def schedule_findings(stats: BuildStats, pipeline: Pipeline, policy: FindingPolicy) -> Iterator[Found]:
    """Yield the findings about tonight's games; none for a pipeline without schedule, and for copied rows."""
    schedule, games = pipeline.schedule, stats.games
    if schedule is None or games is None:
        return
    if games.from_phase4:
        yield from _missing(games, schedule, pipeline, policy)
    else:
        yield from _disagreements(games, schedule, pipeline, policy)
    active = stats.row_count + stats.left_out_count
    for source, (names, concerned) in games.unknown.items():
        table = schedule.table if source == "schedule" else pipeline.entity.roster
        yield from _unknown(table, names, (concerned, active), schedule, pipeline, policy)


def _missing(games: GameCounts, schedule: Schedule, pipeline: Pipeline, policy: FindingPolicy) -> Iterator[Found]:
    many = pipeline.entity.plural
    yield from policy.judge(
        Check.SCHEDULE_MISSING,
        games.from_phase4 / max(games.checked, games.from_phase4),
        subject=schedule.table,
        observed=f"no game of the date, and {games.from_phase4} {many} play by Phase 4",
        expected="the games of the date",
        next_step=f"ask the owner of {schedule.table} to load the date, then: mlfs replay DATE --reason 'games loaded'",
    )


def _disagreements(games: GameCounts, schedule: Schedule, pipeline: Pipeline, policy: FindingPolicy) -> Iterator[Found]:
    """Yield a finding about the schedule if every witness differs, else a finding about each witness that differs."""
    differing = {name: counts for name, counts in games.witnesses.items() if counts[0]}
    if not differing:
        return
    many = pipeline.entity.plural
    blocks = {block.name: block for block in pipeline.blocks}
    witnesses = {name for name, (_differing, checked) in games.witnesses.items() if checked}
    if witnesses == differing.keys():
        count = sum(games.differing.values())
        kinds = ", ".join(f"{count} {_KINDS[kind]}" for kind, count in games.differing.items() if count)
        yield from policy.judge(
            Check.SCHEDULE_DISAGREES,
            count / games.checked,
            subject=schedule.table,
            observed=f"another game than in Phase 4 for {count} of {games.checked} {many}: {kinds}",
            expected="the same games in the schedule and in Phase 4",
            next_step=f"ask the owner of {schedule.table} which games are played; the wrong side has to run again",
            # Each witness may be the wrong side. A new run of the last witness reads whatever the others then hold.
            processor=blocks[list(differing)[-1]].processor,
        )
        return
    for name, (count, checked) in differing.items():
        block = blocks[name]
        yield from policy.judge(
            Check.SCHEDULE_DISAGREES,
            count / checked,
            subject=block.table,
            observed=f"another game than in the schedule for {count} of {checked} {many}",
            expected=f"the games of {schedule.table}, as in the other Phase 4 tables",
            next_step=f"ask the owner of {block.processor} which schedule the run has read, and to run again",
            processor=block.processor,
        )


_KINDS = {
    "other opponent": "with another opponent",
    "phase4 only": "with a game in Phase 4 alone",
    "schedule only": "with a game in the schedule alone",
}


def _unknown(
    table: str,
    names: Sequence[str],
    counts: tuple[int, int],
    schedule: Schedule,
    pipeline: Pipeline,
    policy: FindingPolicy,
) -> Iterator[Found]:
    concerned, active = counts
    yield from policy.judge(
        Check.UNKNOWN_TEAM,
        concerned / active,
        subject=table,
        observed=f"{_listed(names)}: {concerned} of {active} {pipeline.entity.plural} concerned",
        expected=f"teams of {schedule.teams}",
        next_step=f"ask the owner of {table} to write each team as {schedule.teams} does, or complete the team list",
    )


def _listed(names: Sequence[str]) -> str:
    """Return the first names; quoted, so that a blank at the end of a name shows."""
    more = f" and {len(names) - NAMES_SHOWN_MAX} more" if len(names) > NAMES_SHOWN_MAX else ""
    return ", ".join(f"'{name}'" for name in names[:NAMES_SHOWN_MAX]) + more
