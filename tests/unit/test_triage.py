"""Which root cause an incident looks like, from a record and the tables alone."""

import io
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from rich.console import Console

from ops.reports.checks import Check, CheckStatus, check
from ops.reports.facts import DateFacts, Row, TableLook
from ops.reports.incident import show_commands
from ops.reports.next_steps import next_steps
from ops.reports.sources import ReportedDate
from ops.reports.triage import Cause, Diagnosis, RootCause, diagnose
from ops.reports.weekly_figures import reliability_of, slope, spread_of
from statemachine.model import DateRecord, FailureKind, Finding, FindingSeverity, State
from tests.support.nights import (
    CACHE,
    CUTOFF,
    DEADLINE,
    EVENING,
    NIGHT,
    PROCESSORS,
    REPLAY,
    after,
    broke,
    claimed,
    committed,
    done,
    failure,
    joined,
    past_deadline,
    probed,
    retract,
    success,
    unseen,
    waiting,
    without,
)
from worker.pipelines.shipped import ROSTER, SCHEDULE, SHIPPED

MORNING_AFTER = CUTOFF + timedelta(hours=8)
NO_FAULTS: Mapping[str, str] = {}
NOTHING_READ: Mapping[str, TableLook] = {}
NO_TABLE: Row = {}


TABLES = {
    **{block.processor: block.table for block in SHIPPED.blocks},
    **{table.short: table.name for table in SHIPPED.phase3_tables},
    "nbac_schedule": SCHEDULE,
    "nbac_player_list": ROSTER,
}
Looks = Mapping[str, TableLook]


def tables(*empty: str, faults: Mapping[str, str] = NO_FAULTS) -> Looks:
    """Every upstream table, read: those of *empty* have no row, those of *faults* cannot be used."""
    return {
        source: TableLook(
            table=table,
            row_count=None if source in faults else 0 if source in empty else 450,
            last_processed=None if source in {*empty, *faults} else EVENING,
            fault=faults.get(source, ""),
        )
        for source, table in TABLES.items()
    }


def facts_of(
    record: DateRecord,
    upstream: Looks = NOTHING_READ,
    now: datetime = MORNING_AFTER,
    predictions: Row | None = NO_TABLE,
) -> DateFacts:
    return DateFacts(record=record, now=now, pipeline=SHIPPED, upstream=upstream, predictions=predictions)


def look(record: DateRecord, upstream: Looks = NOTHING_READ, now: datetime = MORNING_AFTER) -> Diagnosis:
    return diagnose(facts_of(record, upstream, now))


def commands(record: DateRecord, upstream: Looks = NOTHING_READ, now: datetime = MORNING_AFTER) -> str:
    facts = facts_of(record, upstream, now)
    return "\n".join(command for command, _purpose in next_steps(facts, diagnose(facts)))


def failed_without_roster() -> DateRecord:
    """A date whose build found no active player."""
    return after(joined(), claimed(), broke(FailureKind.NO_ROSTER))


def degraded(*missing: str) -> DateRecord:
    return after(
        past_deadline(*missing), claimed(), committed(state=State.DEGRADED, rows=without(*missing)), now=DEADLINE
    )


@pytest.mark.parametrize(
    ("empty", "scenario"),
    [(PROCESSORS, RootCause.A), (PROCESSORS[:3], RootCause.B), (PROCESSORS[:1], RootCause.B), ((), RootCause.C)],
)
def test_the_root_cause_goes_by_the_tables_that_are_empty(empty: tuple[str, ...], scenario: RootCause) -> None:
    failed = after(joined(), claimed(), broke(FailureKind.NO_DATA))

    for record in (failed, degraded(*empty)):
        assert look(record, tables(*empty)).scenario is scenario


def test_where_the_tables_cannot_be_read_the_build_and_the_events_tell() -> None:
    assert look(degraded(CACHE)).scenario is RootCause.B
    assert look(after(waiting(*PROCESSORS[:2]), failure(CACHE))).scenario is RootCause.B
    assert look(after(joined(), claimed(), broke(FailureKind.GATE_REFUSED))).scenario is RootCause.C
    assert "could not be read" in look(degraded(CACHE)).why


def test_what_was_not_read_and_not_reported_is_not_called_empty() -> None:
    """A date that failed before any report, seen while the warehouse is away: the tables may be full."""
    replayed = after(unseen(), REPLAY, claimed(), broke(FailureKind.NO_DATA))

    for record in (unseen(), replayed):
        found = look(record)
        assert (found.cause, found.scenario) == (Cause.UNKNOWN, None)
        assert "unknown" in found.why
        assert "whether there are rows is not known" in "\n".join(found.symptoms)
        assert "Phase 3 and Phase 2" not in commands(record)
    assert look(replayed, tables()).scenario is RootCause.C
    assert look(replayed, tables(*PROCESSORS)).scenario is RootCause.A


@pytest.mark.parametrize("read", [True, False])
def test_an_empty_roster_is_the_cause_whether_the_tables_are_read_or_not(read: bool) -> None:
    record = failed_without_roster()
    seen = tables("nbac_player_list") if read else NOTHING_READ
    found, steps = look(record, seen), commands(record, seen)

    assert (found.severity, found.cause, found.scenario) == ("P0", Cause.ROSTER, None)
    assert ROSTER in found.why
    assert f"# load {ROSTER} for {NIGHT}" in steps
    assert f"mlfs replay {NIGHT} --source yesterday" in steps
    assert "--force-phase3-fallback" not in steps


def test_a_roster_that_came_after_the_build_is_said_to_be_there() -> None:
    record = failed_without_roster()

    assert "has 450 rows now" in look(record, tables()).why
    assert f"# load {ROSTER}" not in commands(record, tables())
    assert f"mlfs replay {NIGHT} --reason 'the roster is there' --wait 300" in commands(record, tables())


@pytest.mark.parametrize("source", TABLES)
def test_each_of_the_nine_tables_is_named_where_it_cannot_be_used(source: str) -> None:
    record = after(joined(), claimed(), broke(FailureKind.FATAL, message="no such column"))
    seen = tables(faults={source: "access denied"})
    found, steps = look(record, seen), commands(record, seen)

    cause = {"nbac_player_list": Cause.ROSTER} | dict.fromkeys(PROCESSORS, Cause.PHASE4)
    assert found.cause is cause.get(source, Cause.TABLES)
    assert "access denied" in found.why
    assert f"{TABLES[source]} cannot be used: access denied" in found.symptoms
    assert f"# repair {TABLES[source]}" in steps


@pytest.mark.parametrize("source", [name for name in TABLES if name not in PROCESSORS])
def test_each_empty_table_outside_phase_4_is_a_symptom(source: str) -> None:
    [told] = [said for said in look(degraded(CACHE), tables(CACHE, source)).symptoms if TABLES[source] in said]

    assert told.startswith(f"{TABLES[source]} has no ")


def test_without_phase_4_the_evidence_of_phase_3_is_told() -> None:
    phase3 = [table.short for table in SHIPPED.phase3_tables]

    assert "for a fallback: player_game_summary 450 rows" in look(degraded(*PROCESSORS), tables(*PROCESSORS)).why
    assert "Phase 3 has none either" in look(degraded(*PROCESSORS), tables(*PROCESSORS, *phase3)).why


def test_a_table_that_could_not_be_looked_at_is_listed() -> None:
    seen = {name: one for name, one in tables(CACHE).items() if name != "nbac_schedule"}

    assert f"not looked at: {SCHEDULE}" in look(degraded(CACHE), seen).symptoms


def test_a_night_that_is_not_over_is_no_incident() -> None:
    found = look(waiting(), tables(*PROCESSORS[1:]), now=EVENING)

    assert (found.severity, found.cause, found.scenario) == (None, None, None)
    assert commands(waiting(), tables(*PROCESSORS[1:]), now=EVENING) == f"mlfs explain {NIGHT}"
    assert look(waiting(), tables(), now=DEADLINE).severity == "P0"


def test_before_the_deadline_the_missing_the_failed_and_the_minutes_are_told() -> None:
    record = after(waiting(*PROCESSORS[:2]), failure(CACHE))
    found = look(record, tables(*PROCESSORS[2:]), now=EVENING)

    missing = f"missing: {PROCESSORS[2]}, {CACHE}; 25 minutes left until the deadline"
    assert any(
        said.startswith("2 of 4 processors have reported success") and missing in said for said in found.symptoms
    )
    assert f"{CACHE} reported failed: no reason given; the table has no rows" in found.symptoms
    assert f"# run {CACHE} again for {NIGHT}" in commands(record, tables(*PROCESSORS[2:]), now=EVENING)
    assert f"# run {PROCESSORS[2]} again" not in commands(record, tables(*PROCESSORS[2:]), now=EVENING)


def test_shortly_before_the_deadline_the_seconds_are_told() -> None:
    moments = {119: "119 seconds left", 120: "2 minutes left", 0.9: "0 seconds left"}

    for seconds, told in moments.items():
        found = look(waiting(*PROCESSORS[:2]), tables(), now=DEADLINE - timedelta(seconds=seconds))
        assert any(f"; {told} until the deadline" in said for said in found.symptoms)
        assert f"it is not over: {told}" in found.why


def test_a_worker_that_does_not_do_what_is_due_is_the_first_thing_to_repair() -> None:
    late, soon = EVENING + timedelta(minutes=2), EVENING + timedelta(seconds=30)

    assert commands(joined(), tables(), late).startswith("mlfs run\n")
    assert "no worker does it" in " ".join(look(joined(), tables(), late).symptoms)
    assert "mlfs run" not in commands(joined(), tables(), soon)


def test_before_the_cutoff_a_late_success_is_waited_for() -> None:
    before = commands(degraded(CACHE), tables(CACHE), now=CUTOFF - timedelta(minutes=5))
    afterwards = commands(degraded(CACHE), tables(CACHE))

    assert f"mlfs explain {NIGHT}" in before
    assert f"mlfs explain {NIGHT}" not in afterwards
    assert f"mlfs replay {NIGHT} --reason 'repaired {CACHE}' --wait 300" in afterwards


def test_a_fallback_is_offered_only_where_there_is_something_to_fall_back_to() -> None:
    failed = after(joined(), claimed(), broke(FailureKind.NO_DATA))
    nothing = tables(*PROCESSORS, "player_game_summary")
    denied = tables(*PROCESSORS, faults={"player_game_summary": "access denied"})

    assert "--force-phase3-fallback" in commands(failed, tables(*PROCESSORS))
    for seen in (nothing, denied):
        assert "--force-phase3-fallback" not in commands(failed, seen)
        assert "--source yesterday" in commands(failed, seen)
    assert "--source yesterday" not in commands(degraded(*PROCESSORS), tables(*PROCESSORS))


def test_a_success_with_an_empty_table_and_a_lost_event_are_told_apart() -> None:
    empty = after(joined(), claimed(), committed(state=State.DEGRADED, rows=without(CACHE)))
    lost = after(past_deadline_found(), claimed(), committed(), now=DEADLINE)
    late = after(degraded(CACHE), success(CACHE, at=CUTOFF), now=CUTOFF)

    kinds = [reliability(record)[CACHE] for record in (empty, lost, late, degraded(CACHE))]
    assert kinds == [["empty"], ["event_lost"], ["late"], ["missing"]]
    assert f"no event came from {CACHE}; the rows were found in the tables" in look(lost, tables()).symptoms
    assert f"{CACHE} reported success, and its table is empty" in look(empty, tables(CACHE)).symptoms


def past_deadline_found() -> DateRecord:
    return after(after(unseen(), *(success(name) for name in PROCESSORS[:3])), probed(without()), now=DEADLINE)


def reliability(record: DateRecord) -> dict[str, list[str]]:
    night = ReportedDate(analysis_date=NIGHT, expected=True, record=record)
    rows = reliability_of([night])["processors"]
    return {row["processor"]: row["dates"].get(NIGHT.isoformat(), []) for row in rows}


def test_rows_of_a_run_that_was_taken_back_are_an_incident_until_they_are_replaced() -> None:
    taken_back = after(done(), retract(CACHE), now=CUTOFF - timedelta(minutes=9))
    rebuilt = after(
        taken_back,
        retract(CACHE, rebuild=True, request_id="again"),
        claimed(),
        committed(2, state=State.DEGRADED, rows=without(CACHE)),
    )
    before = look(taken_back, tables(), now=CUTOFF - timedelta(minutes=5))

    assert look(done(), tables()).severity is None
    assert (before.severity, before.scenario) == ("P1", RootCause.B)
    assert "consumers read rows of a run that was taken back" in before.symptoms
    assert not [said for said in before.symptoms if "no report came" in said]
    steps = commands(taken_back, tables(), now=CUTOFF - timedelta(minutes=5))
    assert "--reason 'without what was taken back'" in steps
    assert f"mlfs explain {NIGHT}" in steps
    afterwards = look(rebuilt, tables())
    assert "consumers read rows of a run that was taken back" not in afterwards.symptoms
    assert (afterwards.scenario, "without what was" in commands(rebuilt, tables())) == (RootCause.B, False)


def test_a_published_run_that_was_taken_back_and_repeated_after_the_cutoff_asks_for_a_replay() -> None:
    held = after(after(done(), retract(CACHE)), success(CACHE, run="2", at=MORNING_AFTER), now=MORNING_AFTER)
    found = look(held, tables())

    assert (found.severity, found.scenario) == ("P1", RootCause.C)
    assert "built from a run that was taken back" in found.why


def test_of_a_date_that_nobody_opened_it_names_no_command_that_would_refuse() -> None:
    for now in (EVENING, MORNING_AFTER):
        steps = commands(unseen(), tables(), now)
        assert steps.splitlines()[0] in {"mlfs doctor", "mlfs run"}
        assert "mlfs history" not in steps
        assert "mlfs explain" not in steps


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_command_to_copy_stays_on_one_line(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Console(file=io.StringIO(), width=width, highlight=False)
    monkeypatch.setattr("ops.reports.incident.out", shown)
    facts = facts_of(degraded(*PROCESSORS[:2]), tables(*PROCESSORS[:2]))
    steps = next_steps(facts, diagnose(facts))
    show_commands(steps)

    lines = shown.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert all(any(line.startswith(command) for line in lines) for command, _purpose in steps)
    assert all(purpose in "\n".join(lines) for _command, purpose in steps)


def checklist(
    record: DateRecord, upstream: Looks = NOTHING_READ, predictions: Row | None = NO_TABLE
) -> Mapping[str, Check]:
    return {one.name: one for one in check(facts_of(record, upstream, predictions=predictions))}


def test_the_daily_checklist_is_not_green_over_a_run_that_was_taken_back() -> None:
    dependencies = checklist(after(done(), retract(CACHE)), tables())["dependencies"]

    assert dependencies.status is CheckStatus.AMBER
    assert f"{CACHE} taken back" in dependencies.figure
    assert f"run again: {CACHE}" in dependencies.action


def test_the_daily_checklist_counts_no_tables_that_nobody_has_read() -> None:
    dependencies = checklist(unseen())["dependencies"]

    assert (dependencies.status, "0" in dependencies.figure) == (CheckStatus.UNKNOWN, False)
    assert "3 of 4 tables with rows by build and events" in checklist(degraded(CACHE))["dependencies"].figure
    assert "player_daily_cache not read" in checklist(waiting(*PROCESSORS[:3]))["dependencies"].figure


def sound(**changes: object) -> DateRecord:
    """A date that is done, with these figures of the result."""
    record = done()
    assert record.result is not None
    usual = {"components": dict(SHIPPED.quality.points), "findings": ()}
    return replace(record, result=replace(record.result, **{**usual, **changes}))  # type: ignore[arg-type]


FINDING = Finding(
    check="schedule_missing",
    severity=FindingSeverity.CRITICAL,
    subject=SCHEDULE,
    observed="no game",
    expected="a game for 219 players",
    next_step=f"load the schedule, then: mlfs replay {NIGHT} --reason 'schedule'",
)
CHECKS: Mapping[str, tuple[DateRecord, Looks, Row, CheckStatus]] = {
    "all_is_well": (sound(), tables(), NO_TABLE, CheckStatus.GREEN),
    "acceptable_number_of_rows": (
        sound(row_count=250, components={**SHIPPED.quality.points, "row_completeness": 3.0}),
        tables(),
        NO_TABLE,
        CheckStatus.GREEN,
    ),
    "acceptable_NULLs": (
        sound(components={**SHIPPED.quality.points, "null_field_rate": 4.0}),
        tables(),
        NO_TABLE,
        CheckStatus.GREEN,
    ),
    "too_many_NULLs": (
        sound(components={**SHIPPED.quality.points, "null_field_rate": 3.9}),
        tables(),
        NO_TABLE,
        CheckStatus.AMBER,
    ),
    "a_score_below_90": (sound(quality_score=89.9, severity="P3"), tables(), NO_TABLE, CheckStatus.AMBER),
    "a_finding": (sound(findings=(FINDING,), severity="P2"), tables(), NO_TABLE, CheckStatus.AMBER),
    "a_note": (
        sound(findings=(replace(FINDING, severity=FindingSeverity.NOTE),)),
        tables(),
        NO_TABLE,
        CheckStatus.GREEN,
    ),
    "a_table_emptied_since": (sound(), tables(CACHE), NO_TABLE, CheckStatus.AMBER),
    "few_predictions": (
        sound(),
        tables(),
        {"prediction_count": 12, "average_confidence": 80.0},
        CheckStatus.AMBER,
    ),
    "no_predictions": (sound(), tables(), {"prediction_count": 0, "average_confidence": None}, CheckStatus.RED),
}


@pytest.mark.parametrize("case", CHECKS)
def test_an_incident_is_never_none_beside_a_check_that_is_not_green(case: str) -> None:
    record, seen, predictions, worst = CHECKS[case]
    facts = facts_of(record, seen, predictions=predictions)
    checks, found = check(facts), diagnose(facts)

    ranks = [CheckStatus.GREEN, CheckStatus.AMBER, CheckStatus.RED]
    assert max(ranks.index(one.status) for one in checks) == ranks.index(worst)
    assert (found.severity is None) == (worst is CheckStatus.GREEN)
    if worst is CheckStatus.RED:
        assert found.severity == "P1"


def test_a_finding_is_the_cause_where_every_table_has_rows() -> None:
    record = sound(findings=(FINDING,), severity="P2")
    found = look(record, tables())

    assert (found.severity, found.cause, found.scenario) == ("P2", Cause.FINDINGS, None)
    assert f"1 critical finding: schedule_missing {SCHEDULE}" in found.why
    assert [said for said in found.symptoms if said.startswith("critical finding: schedule_missing")]
    assert f"# load the schedule, then: mlfs replay {NIGHT} --reason 'schedule'" in commands(record, tables())


def test_a_failed_replay_of_a_published_date_is_amber_in_the_morning() -> None:
    failed = after(done(), REPLAY, claimed(), broke(FailureKind.NO_DATA, generation=2))

    assert checklist(failed, tables())["built"].status is CheckStatus.AMBER
    assert look(failed, tables()).severity == "P3"


def test_figures_of_a_review() -> None:
    assert (slope([99.0, 98.0, 97.0]), slope([99.0, 98.0]), slope([90.0, 90.0, 90.0, 90.0])) == (-1.0, None, 0.0)
    assert spread_of([4.0]) == {"times": 1, "p50": 4.0, "p95": 4.0, "max": 4.0}
    assert spread_of([float(second) for second in range(101)]) == {"times": 101, "p50": 50.0, "p95": 95.0, "max": 100.0}


def test_a_date_that_was_replayed_says_who_had_it_built_and_not_that_nobody_reported() -> None:
    """A date built by a replay, or at its deadline: no event has come, and the rows were there."""
    replayed = after(unseen(), REPLAY, claimed(), committed())

    for seen in (NOTHING_READ, tables()):
        [told] = [said for said in look(replayed, seen).symptoms if "event" in said or "report" in said]
        assert told == (
            f"no event came from {', '.join(PROCESSORS)}; the rows were found in the tables, by a replay of ana: "
            "bad rows upstream"
        )
    assert f"no report came from {CACHE}, and the tables have no rows" in look(degraded(CACHE), tables(CACHE)).symptoms
