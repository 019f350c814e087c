"""`mlfs explain` answers in one screen: what arrived, what is missing since when, what happens next and why."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ops.reports.checks import CheckStatus, check
from ops.reports.facts import DateFacts
from statemachine.events import BuildCommitted, CancelRequested
from statemachine.model import DateRecord, FailureKind, Finding, FindingSeverity, State
from tests.support.nights import (
    CACHE,
    CUTOFF,
    DEADLINE,
    EVENING,
    FACTORS,
    NIGHT,
    POLICY,
    PROCESSORS,
    REPLAY,
    after,
    broke,
    claimed,
    committed,
    degraded,
    done,
    failed,
    fallback_running,
    joined,
    probed,
    retract,
    running,
    told,
    waiting,
    without,
)
from worker.date_text import arrival_text, explanation
from worker.history_text import narrate
from worker.pipelines.shipped import SHIPPED

ZONE = ZoneInfo("America/New_York")


def explained(record: DateRecord, now=EVENING) -> dict[str, object]:
    return explanation(record, now, POLICY, ZONE, None)


OPTIONAL = replace(POLICY, optional=frozenset({CACHE}))


def told_of_optional(record: DateRecord, now: datetime = EVENING) -> dict[str, Any]:
    return explanation(record, now, OPTIONAL, ZONE, None)


def test_an_optional_processor_is_called_optional_while_the_date_waits() -> None:
    answer = told_of_optional(waiting(*PROCESSORS[:3]))

    assert "waiting: 3 of 4 (only optional missing) completions" == answer["headline"]
    assert arrival_text(answer["processors"][3], ZONE).startswith("not reported (optional), awaited since")
    assert f"Waits for {CACHE} (optional)." in answer["next"]
    assert [False, False, False, True] == [entry["optional"] for entry in answer["processors"]]


def test_a_date_without_an_optional_processor_promises_no_upgrade() -> None:
    ready = after(waiting(*PROCESSORS[:3]), probed(without(CACHE)), claimed(), now=DEADLINE, policy=OPTIONAL)
    done = after(ready, committed(rows=without(CACHE)), now=DEADLINE, policy=OPTIONAL)
    degraded = replace(done, state=State.DEGRADED, result=replace(done.result, state=State.DEGRADED))

    assert f"published as generation 1 without {CACHE} (optional)" in told_of_optional(done, DEADLINE)["headline"]
    for now in (DEADLINE, CUTOFF):
        assert "all required completions are in" in told_of_optional(degraded, now)["next"].lower()


def test_the_history_says_that_only_optional_processors_were_missing_at_the_deadline() -> None:
    before, event = waiting(*PROCESSORS[:3]), probed(without(CACHE))

    sentence = narrate(event, before, told(before, event, DEADLINE, OPTIONAL), OPTIONAL)

    assert sentence.endswith("passed; only optional processors are missing, missing rows fall back to Phase 3")


def test_a_waiting_date_says_what_arrived_and_since_when_the_rest_is_missing() -> None:
    answer = explained(waiting(*PROCESSORS[:3]))

    lines = [arrival_text(entry, ZONE) for entry in answer["processors"]]
    assert all(line.startswith("success at ") for line in lines[:3])
    assert lines[3] == "not reported, awaited since 2024-12-15 10:00 EST"
    assert (answer["headline"], answer["missing"]) == ("waiting: 3 of 4 completions", [CACHE])
    assert "23:25 EST" in answer["next"]
    assert CACHE in answer["next"]


def test_a_published_date_says_that_its_rows_were_taken_back_until_they_are_replaced() -> None:
    wrong = after(done(), retract(CACHE))
    right = after(
        wrong, retract(CACHE, rebuild=True), claimed(), committed(2, state=State.DEGRADED, rows=without(CACHE))
    )

    told = [explained(record) for record in (done(), wrong, right)]

    assert [answer["published_is_retracted"] for answer in told] == [False, True, False]
    assert str(told[1]["headline"]).endswith("published as generation 1 from a run that was taken back")


def test_the_morning_is_red_while_rows_are_published_that_were_taken_back() -> None:
    built = [
        check(DateFacts(record=record, now=CUTOFF, pipeline=SHIPPED))[0]
        for record in (done(), after(done(), retract(CACHE)))
    ]

    assert [one.status for one in built] == [CheckStatus.GREEN, CheckStatus.RED]
    assert f"mlfs incident {NIGHT}" in built[1].action


def test_what_a_sender_said_beyond_the_known_fields_can_be_seen() -> None:
    record = waiting(CACHE)
    told = replace(record.completions[CACHE], unknown_fields='{"schema_version":2,"region":"eu"}')

    answer = explained(replace(record, completions={CACHE: told}))

    assert {"schema_version": 2, "region": "eu"} in [entry["unknown_fields"] for entry in answer["processors"]]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (joined(), "A worker claims it at once"),
        (running(), "worker-a is building"),
        (done(), "Phase 5 was told"),
        (degraded(CACHE), f"Built again by itself when one of these completes before 23:50 EST (in 25 min): {CACHE}"),
        (failed(), "mlfs replay 2024-12-15"),
        (
            after(waiting(CACHE), REPLAY, claimed(), broke(FailureKind.NO_DATA)),
            "At the deadline, 23:25 EST (in 25 min), it is tried again by itself",
        ),
        (after(waiting(), CancelRequested(actor="ana", reason="bad source")), "a cancelled date waits for a person"),
        (after(running(), broke(FailureKind.UNAVAILABLE)), "Attempt 2 starts"),
        (
            after(running(), broke(FailureKind.FATAL, message="no such column")),
            "Given up after attempt 1: no such column",
        ),
    ],
    ids=["ready", "running", "done", "degraded", "failed", "failed_early", "cancelled", "retry", "giving_up"],
)
def test_each_state_says_what_happens_next(record: DateRecord, said: str) -> None:
    now = DEADLINE if record.state == "degraded" else EVENING

    assert said in explained(record, now)["next"]


def test_a_degraded_date_names_the_tables_that_are_looked_into_by_themselves() -> None:
    reported = after(running(), committed(state=State.DEGRADED, rows=without(CACHE)))

    for record in (degraded(CACHE), reported):
        assert f"looks each minute, from the deadline on, for rows of {CACHE}" in str(explained(record)["next"])
    assert "Nothing by itself" in str(explained(reported, CUTOFF)["next"])


def test_the_history_tells_that_a_failed_date_is_built_again_at_its_deadline() -> None:
    early, event = after(waiting(CACHE), REPLAY, claimed()), broke(FailureKind.NO_DATA)
    ended = told(early, event)
    again = told(ended.record, probed(without(CACHE)), DEADLINE)

    assert "built again at the deadline, 2024-12-16 04:25Z" in narrate(event, early, ended, POLICY)
    assert "deadline 2024-12-16 04:25Z passed" in narrate(probed(), ended.record, again, POLICY)


def test_a_closed_upgrade_window_names_the_command() -> None:
    answer = explained(replace(degraded(CACHE), wake_at=None), CUTOFF + timedelta(minutes=1))

    assert "upgrade window is closed" in answer["next"]
    assert f"mlfs replay {NIGHT.isoformat()}" in answer["next"]


CRITICAL, WARNING = FindingSeverity.CRITICAL, FindingSeverity.WARNING


def doubted(*severities: FindingSeverity) -> DateRecord:
    """A degraded date whose rows have findings of these severities, the most severe first."""
    found = [
        Finding(
            check="unchanged",
            severity=severity,
            subject=FACTORS,
            observed="97 %",
            expected="less than 60 %",
            next_step="mlfs profile 2024-12-15",
            processor=FACTORS,
        )
        for severity in severities
    ]
    record = degraded(CACHE)
    assert record.result is not None
    return replace(record, result=replace(record.result, findings=tuple(found)))


def test_the_headline_leads_with_a_critical_finding() -> None:
    answer = explained(doubted(CRITICAL, WARNING))

    assert answer["headline"] == (
        "degraded: published as generation 1, but 1 critical finding: unchanged player_composite_factors; 1 warning; "
        "450 rows, score 82.0, fallback 50.0%"
    )
    assert [(found["severity"], found["next_step"]) for found in answer["findings"]] == [
        ("critical", "mlfs profile 2024-12-15"),
        ("warning", "mlfs profile 2024-12-15"),
    ]


def test_the_headline_names_a_warning_behind_the_figures_and_says_what_no_check_judged() -> None:
    warned, judged, unjudged = doubted(WARNING), doubted(), doubted()
    assert unjudged.result is not None
    unjudged = replace(unjudged, result=replace(unjudged.result, findings=None))

    assert [
        str(explained(record)["headline"]).partition("fallback 50.0%, ")[2] for record in (warned, judged, unjudged)
    ] == [
        "1 warning: unchanged player_composite_factors, published as generation 1",
        "no findings, published as generation 1",
        "not judged, published as generation 1",
    ]
    assert [explained(record)["findings"] for record in (judged, unjudged)] == [[], None]


def test_while_the_next_generation_is_built_the_headline_keeps_the_doubt_about_the_rows_that_are_read() -> None:
    published = doubted(CRITICAL)
    again = after(published, REPLAY)

    assert again.result == published.result
    assert str(explained(again)["headline"]).endswith(
        "; consumers still read generation 1, with 1 critical finding: unchanged player_composite_factors"
    )


def test_the_history_says_what_was_found() -> None:
    record = doubted(CRITICAL)
    assert record.result is not None
    event = BuildCommitted(result=record.result)
    before = fallback_running(CACHE)

    assert narrate(event, before, told(before, event), POLICY).endswith(
        "fallback 50.0%, 1 critical finding: unchanged player_composite_factors"
    )
