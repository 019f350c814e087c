"""A degraded night in true time, watched by a real Prometheus and a real Alertmanager."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import pytest

from tests.architecture.test_documentation import commands
from tests.support.alerting import ROOT
from tests.support.observed_night import CHANNEL, DEGRADED, FAILED, FAILING, FAULT, ObservedNight, missing_program
from tests.support.panels import BOARD, FILLED_IN, finite, highest, panels
from tests.transcript.handling import Entry, Typed, handled_night, render, stable, typed
from worker.clock import SystemClock
from worker.features.model import BuildPhase
from worker.pipelines.shipped import PROCESSORS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PAGE = (ROOT / "docs" / "a_degraded_night.md").read_text(encoding="utf-8")
STEP_S = 0.5
# (panel, legend): why a night without such faults has nothing to show there.
RIGHTLY_EMPTY: Mapping[tuple[str, str], str] = {
    ("Refused and repaired", "refused: {{reason}}"): "no message was refused",
    ("Refused and repaired", "stream: {{reason}}"): "the stream was never replaced",
    ("Refused and repaired", "callback exceptions"): "no callback failed",
    ("Refused and repaired", "push: {{reason}}"): "nobody was turned away",
    ("Outbox", "age of the oldest, s"): "outcomes are published between two scrapes",
    ("Claim to end of a build", "running: {{analysis_date}}"): "a build is over between two scrapes",
    ("Store, stream, loops", "{{loop}}: {{kind}}"): "no pass of a loop failed",
}
# What must be above zero in a panel that counts: a series that is there and stays at zero shows nothing.
COUNTED: Mapping[str, set[str]] = {
    "Completion to record, p95": set(PROCESSORS),
    "Deliveries by outcome": {"recorded", "upgrade_started"},
    "Delivery to verdict": {"p50", "p99"},
    "Builds by result": {"done", "degraded"},
    "Claim to end of a build": {"p50", "p95"},
    "Phases of a build, mean": {*BuildPhase},
    "Phases of a build, p95": {*BuildPhase},
    "Transitions": {
        *("ready: deadline_passed", "running: claimed", "degraded: committed_degraded"),
        *("ready: upgrade_started", "done: committed_done"),
    },
    "Deadline to decision, p99": {"p99"},
    "Who has reported": set(PROCESSORS),
}


@pytest.fixture(scope="module")
def handled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ObservedNight, Sequence[Entry]]]:
    """The night after its end, with everything still up, and how a person handled it."""
    if (missing := missing_program()) is not None:
        pytest.skip(missing)
    with handled_night(tmp_path_factory.mktemp("observed")) as (night, entries):
        night.wait_for_series('max(mlfs_quality_score) > 99 and on () mlfs_date_state{state="done"} == 1')
        yield night, entries


@pytest.fixture(scope="module")
def played(handled: tuple[ObservedNight, Sequence[Entry]]) -> ObservedNight:
    return handled[0]


@pytest.fixture(scope="module")
def fresh(handled: tuple[ObservedNight, Sequence[Entry]]) -> str:
    """The page as this handling would write it."""
    return render(handled[1])


def course(night: ObservedNight, expr: str) -> list[Mapping[str, object]]:
    """What the expression was from the start of the night until now."""
    return finite(night.ask_range(expr, night.started_at, SystemClock().now().timestamp(), STEP_S))


def test_every_panel_has_something_to_show_and_those_that_have_not_are_known(played: ObservedNight) -> None:
    asked = {(panel.title, target.legend): target.expr for panel in panels() for target in panel.targets}

    empty = {key for key, expr in asked.items() if not course(played, expr)}

    assert empty - set(RIGHTLY_EMPTY) == set()
    assert set(RIGHTLY_EMPTY) <= set(asked)


@pytest.mark.parametrize("title", COUNTED)
def test_a_panel_that_counts_shows_the_first_of_a_kind(played: ObservedNight, title: str) -> None:
    [panel] = [one for one in panels() if one.title == title]
    shown = {
        target.name(one["metric"])
        for target in panel.targets
        for one in course(played, target.expr)
        if highest(one) > 0
    }

    assert COUNTED[title] - shown == set()


def test_annotations_mark_the_outcomes_and_the_deadline(played: ObservedNight) -> None:
    by_name = {one["name"]: one["expr"] for one in BOARD["annotations"]["list"]}

    told = {one["metric"]["reason"] for one in course(played, by_name["States"].replace("[1m]", "[10s]"))}
    deadlines = {float(value) for one in course(played, by_name["Deadlines"]) for _, value in one["values"]}
    assert {"committed_degraded", "committed_done"} <= told
    assert {played.deadline_at.timestamp() * 1000} == deadlines
    assert not [name for name in FILLED_IN if any(name in expr for expr in by_name.values())]


def test_the_failure_is_told_before_the_deadline_with_the_command_to_type(played: ObservedNight) -> None:
    [alert] = played.notice(CHANNEL, "firing", FAILED).alerts("firing").values()

    day = played.night.isoformat()
    assert ("P2", day, FAILING) == tuple(alert["labels"][name] for name in ("severity", "analysis_date", "processor"))
    assert datetime.fromisoformat(alert["startsAt"]) < played.deadline_at
    assert f"mlfs explain {day}" in alert["annotations"]["description"]


def test_the_incident_names_the_failed_processor_and_the_time_left(
    handled: tuple[ObservedNight, Sequence[Entry]],
) -> None:
    before = next(entry for entry in handled[1] if isinstance(entry, Typed) and entry.words[0] == "incident")

    assert f"{FAILING} reported failed: {FAULT}; the table has no rows" in before.output
    assert re.search(r"not over: \d+ (seconds|minutes) left until the deadline", before.output)


def test_the_alerts_end_with_the_upgrade_before_the_cutoff(played: ObservedNight) -> None:
    over = played.over(CHANNEL, DEGRADED)

    date = played.served(f"/dates/{played.night}")
    assert "resolved" == over.body["status"]
    assert ("done", 99.6, 2) == tuple(date[name] for name in ("state", "quality_score", "generation"))
    assert datetime.fromisoformat(date["committed_at"]) < datetime.fromisoformat(date["upgrade_cutoff_at"])


def test_the_page_about_a_degraded_night_is_what_the_commands_print_today(fresh: str) -> None:
    """Run `make transcript` where this fails and the change is meant."""
    committed, now = stable(PAGE), stable(fresh)

    assert [head for head, _ in committed] == [head for head, _ in now]
    assert [block for block in committed if block not in now] == [block for block in now if block not in committed]


def test_the_page_types_commands_that_exist_in_the_order_they_are_run(fresh: str) -> None:
    in_page = [words[:2] for words in typed(PAGE)]

    assert in_page == [words[:2] for words in typed(fresh)]
    assert {" ".join(words) for words in in_page} <= commands()
    assert ["status", "incident", "explain", "daily", "history"] == list(dict.fromkeys(words[1] for words in in_page))
