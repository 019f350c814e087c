"""Which root cause an incident looks like, from a record and the tables alone."""

import io
from collections.abc import Mapping
from datetime import datetime, timedelta

import pytest
from rich.console import Console

from ops.reports.daily import Check, ChecklistInput, CheckStatus, check
from ops.reports.incident import show_commands
from ops.reports.sources import ReportedDate, Row
from ops.reports.triage import Diagnosis, RootCause, TriageInput, diagnose
from ops.reports.weekly_figures import reliability_of, slope, spread_of
from statemachine.model import DateRecord, FailureKind, State
from tests.support.nights import (
    CACHE,
    CUTOFF,
    DEADLINE,
    EVENING,
    NIGHT,
    POLICY,
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

MORNING_AFTER = CUTOFF + timedelta(hours=8)


def tables(*empty: str) -> Mapping[str, Row]:
    held = {**without(*empty), "player_game_summary": 4000, "nbac_player_list": 450}
    return {name: {"source": name, "row_count": rows, "last_processed": EVENING} for name, rows in held.items()}


def look(record: DateRecord, upstream: Mapping[str, Row] | None, now: datetime = MORNING_AFTER) -> Diagnosis:
    return diagnose(TriageInput(record=record, now=now, policy=POLICY, upstream=upstream))


def commands(found: Diagnosis) -> str:
    return "\n".join(command for command, _purpose in found.commands)


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
    assert look(degraded(CACHE), None).scenario is RootCause.B
    assert look(after(waiting(*PROCESSORS[:2]), failure(CACHE)), None).scenario is RootCause.B
    assert look(after(joined(), claimed(), broke(FailureKind.GATE_REFUSED)), None).scenario is RootCause.C
    assert "could not be read" in look(degraded(CACHE), None).why
    assert look(unseen(), None).scenario is None


def test_a_night_that_is_not_over_is_no_incident() -> None:
    found = look(waiting(), tables(*PROCESSORS[1:]), now=EVENING)

    assert (found.severity, found.scenario, commands(found)) == (None, None, f"mlfs explain {NIGHT}")
    assert look(waiting(), tables(), now=DEADLINE).severity == "P0"


def test_a_worker_that_does_not_do_what_is_due_is_the_first_thing_to_repair() -> None:
    late = look(joined(), tables(), now=EVENING + timedelta(minutes=2))
    soon = look(joined(), tables(), now=EVENING + timedelta(seconds=30))

    assert late.commands[0][0] == "mlfs run"
    assert "no worker does it" in " ".join(late.symptoms)
    assert "mlfs run" not in commands(soon)


def test_before_the_cutoff_a_late_success_is_waited_for() -> None:
    before = look(degraded(CACHE), tables(CACHE), now=CUTOFF - timedelta(minutes=5))
    afterwards = look(degraded(CACHE), tables(CACHE))

    assert f"mlfs explain {NIGHT}" in commands(before)
    assert f"mlfs explain {NIGHT}" not in commands(afterwards)
    assert f"mlfs replay {NIGHT} --reason 'repaired {CACHE}' --wait 300" in commands(afterwards)


def test_a_fallback_is_offered_only_where_there_is_something_to_fall_back_to() -> None:
    failed = after(joined(), claimed(), broke(FailureKind.NO_DATA))
    nothing = {**tables(*PROCESSORS), "player_game_summary": {"row_count": 0}}

    assert "--force-phase3-fallback" in commands(look(failed, tables(*PROCESSORS)))
    assert "--force-phase3-fallback" not in commands(look(failed, nothing))
    assert "--source yesterday" in commands(look(failed, nothing))
    assert "--source yesterday" not in commands(look(degraded(*PROCESSORS), tables(*PROCESSORS)))


def test_a_success_with_an_empty_table_and_a_lost_event_are_told_apart() -> None:
    empty = after(joined(), claimed(), committed(state=State.DEGRADED, rows=without(CACHE)))
    lost = after(past_deadline_found(), claimed(), committed(), now=DEADLINE)
    late = after(degraded(CACHE), success(CACHE, at=CUTOFF), now=CUTOFF)

    kinds = [reliability(record)[CACHE] for record in (empty, lost, late, degraded(CACHE))]
    assert kinds == [["empty"], ["event_lost"], ["late"], ["missing"]]
    assert f"{CACHE} has rows, its event never came" in look(lost, tables()).symptoms
    assert f"{CACHE} reported success, and its table is empty" in look(empty, tables(CACHE)).symptoms


def past_deadline_found() -> DateRecord:
    return after(after(unseen(), *(success(name) for name in PROCESSORS[:3])), probed(without()), now=DEADLINE)


def reliability(record: DateRecord) -> dict[str, list[str]]:
    night = ReportedDate(analysis_date=NIGHT, expected=True, record=record)
    rows = reliability_of([night], MORNING_AFTER)["processors"]
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
    assert not [said for said in before.symptoms if "has not reported" in said]
    assert "--reason 'without what was taken back'" in commands(before)
    assert f"mlfs explain {NIGHT}" in commands(before)
    afterwards = look(rebuilt, tables())
    assert "consumers read rows of a run that was taken back" not in afterwards.symptoms
    assert (afterwards.scenario, "without what was" in commands(afterwards)) == (RootCause.B, False)


def test_a_published_run_that_was_taken_back_and_repeated_after_the_cutoff_asks_for_a_replay() -> None:
    held = after(after(done(), retract(CACHE)), success(CACHE, run="2", at=MORNING_AFTER), now=MORNING_AFTER)
    found = look(held, tables())

    assert (found.severity, found.scenario) == ("P1", RootCause.C)
    assert "built from a run that was taken back" in found.why


def test_of_a_date_that_nobody_opened_it_names_no_command_that_would_refuse() -> None:
    for found in (look(unseen(), tables(), now=EVENING), look(unseen(), tables())):
        assert found.commands[0][0] in {"mlfs doctor", "mlfs run"}
        assert "mlfs history" not in commands(found)
        assert "mlfs explain" not in commands(found)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_command_to_copy_stays_on_one_line(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Console(file=io.StringIO(), width=width, highlight=False)
    monkeypatch.setattr("ops.reports.incident.out", shown)
    steps = look(degraded(*PROCESSORS[:2]), tables(*PROCESSORS[:2])).commands
    show_commands(steps)

    lines = shown.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert all(any(line.startswith(command) for line in lines) for command, _purpose in steps)
    assert all(purpose in "\n".join(lines) for _command, purpose in steps)


def checklist(record: DateRecord, upstream: Mapping[str, Row] | None) -> Mapping[str, Check]:
    morning = ChecklistInput(
        day=NIGHT, now=MORNING_AFTER, record=record, upstream=upstream, predictions={}, untold=False
    )
    return {one.name: one for one in check(morning)}


def test_the_daily_checklist_is_not_green_over_a_run_that_was_taken_back() -> None:
    dependencies = checklist(after(done(), retract(CACHE)), tables())["dependencies"]

    assert dependencies.status is CheckStatus.AMBER
    assert f"{CACHE} taken back" in dependencies.figure
    assert f"run again: {CACHE}" in dependencies.action


def test_the_daily_checklist_counts_no_tables_that_nobody_has_read() -> None:
    dependencies = checklist(waiting(), None)["dependencies"]

    assert (dependencies.status, "0" in dependencies.figure) == (CheckStatus.UNKNOWN, False)


def test_figures_of_a_review() -> None:
    assert (slope([99.0, 98.0, 97.0]), slope([99.0, 98.0]), slope([90.0, 90.0, 90.0, 90.0])) == (-1.0, None, 0.0)
    assert spread_of([4.0]) == {"times": 1, "p50": 4.0, "p95": 4.0, "max": 4.0}
    assert spread_of([float(second) for second in range(101)]) == {"times": 101, "p50": 50.0, "p95": 95.0, "max": 100.0}


def test_a_table_that_was_full_at_the_build_was_found_and_is_not_called_unreported() -> None:
    """A date built by a replay, or at its deadline: no event has come, and the rows were there."""
    replayed = after(unseen(), REPLAY, claimed(), committed())

    symptoms = "\n".join(look(replayed, None).symptoms)

    assert "has not reported" not in symptoms
    assert all(f"{name} has rows, its event never came" in symptoms for name in PROCESSORS)
    assert f"{CACHE} has not reported" in "\n".join(look(degraded(CACHE), tables(CACHE)).symptoms)
