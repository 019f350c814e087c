"""What people see fits their screen, from 60 columns on, and tells time in one zone."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from rich.console import Console, RenderableType

from ops.commands.dead_letters import letters_table
from ops.commands.intervene import _finish
from ops.demo.screen import NightScreen
from ops.output import components_table, dates_table, explanation_panel, history_table, table
from ops.reports.checks import Check, CheckStatus
from ops.reports.daily import checks_table
from ops.reports.weekly import WEEKDAYS, reliability_table, trend_screen
from schemas.dead_letter import DETAIL, REASON, DeadLetter
from statemachine.events import EventKind
from statemachine.model import DateRecord, FailedBecause, State
from statemachine.reasons import Reason
from tests.support.nights import (
    CACHE,
    DEADLINE,
    EVENING,
    POLICY,
    PROCESSORS,
    degraded,
    done,
    failed,
    success,
    told,
    unseen,
)
from worker.clock import OffsetClock
from worker.date_text import explanation, in_zone
from worker.observing.observer import Decided
from worker.settings import load

ZONE = ZoneInfo("America/New_York")
NARROW = range(60, 81, 5)


def shown(table: RenderableType, columns: int) -> list[str]:
    console = Console(width=columns, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get().splitlines()


def row(state: State, because: str | None) -> dict[str, Any]:
    return {
        "analysis_date": "2024-12-15",
        "state": state.value,
        "generation": 12,
        "row_count": 449,
        "quality_score": 100.0,
        "fallback_rate": 1.0,
        "severity": "P0",
        "failure": {"because": because, "message": "…"} if because else None,
        "trigger": "upstream_failed",
    }


def entry(reason: str, before: State, after: State) -> dict[str, Any]:
    return {
        "at": datetime(2024, 12, 16, 4, 25, 1, tzinfo=UTC),
        "before": before.value,
        "after": after.value,
        "generation": 12,
        "attempt": 3,
        "reason": reason,
        "actor": "somebody@a-machine-with-a-long-name.example.org",
        "detail": "opened; deadline 2024-12-16 04:25Z; the words of this sentence are many and go on",
    }


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_overview_marks_a_date_whose_rows_were_taken_back(columns: int) -> None:
    marked = row(State.DONE, None) | {"published_is_retracted": True}

    [_, line] = shown(dates_table([marked]), columns)
    assert line.endswith("retracted")
    assert "retracted" not in shown(dates_table([row(State.DONE, None)]), columns)[1]


@pytest.mark.parametrize("columns", [*NARROW, 120])
def test_the_weekly_review_keeps_whole_words_on_a_narrow_screen(columns: int) -> None:
    unopened = row(State.FAILED, None) | {"state": None, "quality_score": None, "over": True}
    nights = [*(row(state, None) for state in State), unopened, unopened | {"over": False}]
    troubled = [
        dict.fromkeys(("failed", "late", "missing", "event_lost", "empty", "troubled"), 10)
        | {"processor": name, "by_weekday": dict.fromkeys(WEEKDAYS, 10)}
        for name in PROCESSORS
    ]
    told = "\n".join(shown(trend_screen(nights), columns) + shown(reliability_table(troubled), columns))

    assert "…" not in told
    for word in ("never opened", "degraded", "100.0%", *PROCESSORS, *WEEKDAYS):
        assert word in told


@pytest.mark.parametrize("columns", [*NARROW, 120])
def test_a_dead_letter_can_be_named_from_a_narrow_screen(columns: int) -> None:
    letter = DeadLetter(
        message_id="12345678901234567",
        data=b"{}",
        attributes={REASON: "unknown_processor", DETAIL: "'player_daily_cash' is none of the four"},
        published_at=datetime(2024, 12, 16, 4, 25, 1, tzinfo=UTC),
    )
    told = "\n".join(shown(letters_table([letter], ZONE), columns))

    for word in (letter.message_id, letter.reason, "2024-12-15 23:25:01 EST"):
        assert word in told


@pytest.mark.parametrize("columns", NARROW)
@pytest.mark.parametrize("record", [done(), degraded(CACHE), failed()], ids=lambda record: record.state.value)
def test_how_a_date_stands_is_told_whole_on_a_narrow_screen(record: DateRecord, columns: int) -> None:
    answer = explanation(record, DEADLINE, POLICY, ZONE, None)
    words = " ".join(" ".join(shown(explanation_panel(answer, ZONE), columns)).replace("│", " ").split())

    assert f"stands {answer['headline']}" in words


@pytest.mark.parametrize("columns", NARROW)
def test_the_overview_keeps_whole_words_on_a_narrow_screen(columns: int) -> None:
    rows = [row(state, because) for state in State for because in (None, *FailedBecause)]
    lines = shown(dates_table(rows), columns)

    assert len(lines) == 1 + len(rows)
    for line, facts in zip(lines[1:], rows, strict=True):
        assert line.split()[:2] == ["2024-12-15", facts["state"]]
        assert line.split()[-1] == (facts["failure"]["because"] if facts["failure"] else "upstream_failed")


@pytest.mark.parametrize("columns", NARROW)
def test_a_history_keeps_times_states_and_reasons_whole_on_a_narrow_screen(columns: int) -> None:
    entries = [entry(reason.value, State.DEGRADED, State.DEGRADED) for reason in Reason]
    lines = shown(history_table(entries, ZONE), columns)
    firsts = [words for line in lines if (words := line.split())[:4] == ["12-15", "23:25:01", "degraded", "12.3"]]

    assert [words[4] for words in firsts] == [f"{reason}:" for reason in Reason]
    assert max(map(len, lines)) <= columns


def test_a_wide_screen_shows_every_column() -> None:
    header = shown(history_table([entry("recorded", State.WAITING, State.WAITING)], ZONE), 120)[1]
    overview = shown(dates_table([row(State.DONE, None)]), 100)[0]

    assert header.split() == ["at", "from", "to", "gen", "reason", "by", "what"]
    assert overview.split() == ["date", "state", "gen", "rows", "score", "fallback", "severity", "findings", "why"]


@pytest.mark.parametrize("columns", NARROW)
def test_the_checklist_keeps_lights_and_checks_whole_on_a_narrow_screen(columns: int) -> None:
    check = Check(
        name="dependencies",
        status=CheckStatus.UNKNOWN,
        figure="4 of 4 tables with rows now",
        threshold="4 of 4",
        action="run it again",
    )
    lines = shown(checks_table(date(2024, 12, 15), [check], ZONE), columns)

    assert [line.rstrip() for line in lines[2:]] == [
        "unknown  dependencies  4 of 4 tables with rows now",
        "                       expected: 4 of 4",
        "                       do: run it again",
    ]


def test_a_history_tells_every_time_in_the_zone_that_it_names() -> None:
    text = "\n".join(shown(history_table([entry("opened", State.WAITING, State.WAITING)], ZONE), 200))

    assert text.startswith("times: America/New_York")
    assert "12-15 23:25:01" in text
    assert "deadline 2024-12-15 23:25 EST;" in text
    assert "04:25" not in text


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        ("passed 2024-12-16 04:25Z", "passed 2024-12-15 23:25 EST"),
        (
            "at 2025-07-01 00:00:07Z, twice: 2024-12-16 04:25Z",
            "at 2025-06-30 20:00:07 EDT, twice: 2024-12-15 23:25 EST",
        ),
        ("2024-12-16 04:25 and 2024-13-45 99:99Z", "2024-12-16 04:25 and 2024-13-45 99:99Z"),
        ("2024-12-16 04:25Zebra", "2024-12-16 04:25Zebra"),
        ("since 2024-12-16T04:25:30.123456+00:00", "since 2024-12-15 23:25:30 EST"),
        ("2024-12-16T04:25:30Z, 2024-12-16 04:25:30 UTC", "2024-12-15 23:25:30 EST, 2024-12-15 23:25:30 EST"),
        ("the sender's 2024-12-15T20:25:30-08:00", "the sender's 2024-12-15 23:25:30 EST"),
        ("took back x (at:2024-12-16T04:15:00+00:00)", "took back x (run of 2024-12-15 23:15:00 EST)"),
        (
            "mlfs retract x --run-id at:2024-12-16T04:15:00+00:00",
            "mlfs retract x --run-id at:2024-12-16T04:15:00+00:00",
        ),
        ("--published-by=2024-12-16T04:15:00Z", "--published-by=2024-12-16T04:15:00Z"),
        ("0001-01-01T00:00:00+23:00", "0001-01-01T00:00:00+23:00"),
    ],
)
def test_stored_instants_are_told_on_the_wall_clock(stored: str, told: str) -> None:
    assert in_zone(stored, ZONE) == told


def test_a_replay_that_failed_says_why_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    record = failed()
    assert record.failure is not None
    _finish(record, EventKind.REPLAY_REQUESTED, applied=True)
    told = capsys.readouterr().out

    assert f"{record.analysis_date} is failed" in told
    assert f"because {record.failure.because}: {record.failure.message}" in told
    assert f"what to do: mlfs incident {record.analysis_date}" in told


@pytest.mark.parametrize("columns", [20, 30, 40, 60])
def test_no_word_and_no_number_is_cut_at_any_width(columns: int) -> None:
    made = table(("date", "score", "note"), [("2024-12-15", "99.24", "a word_that_is_long here")], texts={"note"})

    told = "".join(line.strip() for line in shown(made, columns))

    assert "2024-12-15" in told
    assert "99.24" in told
    assert "word_that_is_long" in told
    assert "…" not in told


@pytest.mark.parametrize("columns", [40, 50, 56, 60])
def test_the_parts_of_a_score_are_whole_on_a_narrow_screen(columns: int) -> None:
    parts = {"components": {"dependency_completeness": 15.0}, "component_total": 99.6}
    row = parts | {"quality_score": 99.6, "fallback_rate": 0.0, "missing_rate": 0.0}
    lines = shown(components_table(row), columns)[:2]

    assert [["dependency_completeness", "15.0", "/", "15"], ["component_total", "99.6", "/", "100"]] == [
        line.replace("█", "").split() for line in lines
    ]
    assert lines[0].count("█") in {0, 20}


def test_no_name_of_a_processor_is_cut_on_the_narrowest_screen() -> None:
    told = "".join(shown(explanation_panel(explanation(done(), DEADLINE, POLICY, ZONE, None), ZONE), 40))

    assert "…" not in told.replace("'…'", "")


def test_the_panel_of_a_demo_is_drawn_in_colour_whatever_is_printed_above(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wait_until: Callable[..., None]
) -> None:
    screened: list[str] = []

    def screen_shows(text: str) -> bool:
        screened.append(capsys.readouterr().out)
        return text in "".join(screened)

    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    reported = success(CACHE)
    decided = Decided(
        before=unseen(),
        decision=told(unseen(), reported),
        event=reported,
        actor="vm-1",
        at=EVENING,
        conflicts=0,
        sentence="reported",
    )
    row = dict.fromkeys(("failure", "row_count", "quality_score", "component_total", "fallback_rate", "severity"))
    row |= dict.fromkeys(("components", "table"))
    ended = {"state": "waiting", "generation": 0, "left_out_players": [], "told": [], "on_call_told": []}
    with NightScreen(load(), OffsetClock(EVENING), quiet=False) as screen:
        screen.note(decided)
        wait_until(lambda: screen_shows("✓"), "the panel shows the completion", 10)
        screen.show_summary({**row, **ended, "log": "worker.log", "look_again": "mlfs explain 2024-12-15"})

    assert screen_shows("mlfs explain 2024-12-15")
    assert not screen_shows("[green]")
