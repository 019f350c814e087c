"""A stored record comes back as it went in; anything else is refused, and newer fields do not disturb."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.record import SCHEMA, UnreadableRecord, decode_record, encode_record
from statemachine.invariants import change_violations, violations
from statemachine.model import (
    RETRACTIONS_MAX,
    BuildMode,
    BuildResult,
    Completion,
    CompletionStatus,
    DateRecord,
    Failure,
    Lease,
    State,
    Trigger,
)
from tests.support.nights import (
    CACHE,
    MORNING,
    POLICY,
    PROCESSORS,
    after,
    claimed,
    degraded,
    done,
    failed,
    failure,
    joined,
    retracted,
    running,
    unseen,
    waiting,
)

# Of a night of the first release, byte for byte as it was stored.
FIRST_RELEASE = (
    b'{"schema":1,"analysis_date":"2024-12-15","state":"waiting","version":1,"opened_at":"2024-12-15T15:00:00Z",'
    b'"deadline_at":"2024-12-16T04:25:00Z","upgrade_cutoff_at":"2024-12-16T04:50:00Z","completions":{'
    b'"player_daily_cache":{"processor":"player_daily_cache","status":"success","identity":"run:1",'
    b'"completed_at":"2024-12-16T04:00:00Z","received_at":"2024-12-16T04:00:00Z","row_count":400}},'
    b'"wake_at":"2024-12-16T04:25:00Z"}'
)

instants = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds
texts = st.text(st.characters(codec="utf-8"), max_size=30)
numbers = st.integers(0, 10**6)
scores = st.floats(0, 100)
shares = st.floats(0, 1)
results = st.builds(
    BuildResult,
    generation=st.integers(1, 3),
    attempt=st.integers(1, 3),
    state=st.sampled_from([State.DONE, State.DEGRADED]),
    row_count=numbers,
    quality_score=scores,
    component_total=scores,
    components=st.dictionaries(texts, scores, max_size=6),
    fallback_rate=shares,
    missing_rate=shares,
    severity=st.none() | st.sampled_from(["P0", "P1", "P2", "P3"]),
    dependency_rows=st.dictionaries(st.sampled_from(PROCESSORS), numbers),
    left_out=numbers,
    committed_at=instants,
    duration_s=st.floats(0, 1e6),
)


@st.composite
def sound_records(draw: st.DrawFn) -> DateRecord:
    """Any record that keeps the rules, with every field in use."""
    base = draw(st.sampled_from([waiting(CACHE), joined(), running(), done(), degraded(CACHE), failed()]))
    reports = {
        name: draw(
            st.builds(
                Completion,
                processor=st.just(name),
                status=st.sampled_from(CompletionStatus),
                identity=texts,
                completed_at=instants,
                received_at=instants,
                row_count=st.none() | numbers,
                error=st.none() | texts,
                message_id=st.none() | texts,
                traceparent=st.none() | texts,
                unknown_fields=st.none() | texts,
            )
        )
        for name in draw(st.sets(st.sampled_from(PROCESSORS)))
    }
    fields: dict[str, Any] = {
        "completions": reports,
        "version": draw(st.integers(1, 10**9)),
        "trigger": draw(st.none() | st.sampled_from(Trigger)),
        "mode": draw(st.sampled_from(BuildMode)),
        "relied_on": frozenset(draw(st.sets(st.sampled_from(PROCESSORS)))),
        "requested_by": draw(st.none() | texts),
        "request_reason": draw(st.none() | texts),
    }
    if base.state is State.FAILED:
        fields["failure"] = draw(st.builds(Failure, because=texts, message=texts, at=instants))
    if base.state is State.RUNNING:
        fields["lease"] = draw(st.builds(Lease, owner=texts, until_at=instants, claimed_at=instants))
    if base.state not in {State.WAITING, State.DONE, State.DEGRADED}:
        fields |= {"generation": 3, "result": draw(st.none() | results)}
    return replace(base, **fields)


@given(record=sound_records())
def test_every_sound_record_comes_back_as_it_was(record: DateRecord) -> None:
    assert record == decode_record(encode_record(record))


@pytest.mark.parametrize(
    "record",
    [waiting(), joined(), running(), done(), degraded(CACHE), failed(), retracted()],
    ids=lambda record: f"{record.state} {len(record.retractions)}",
)
def test_every_state_comes_back_as_it_was(record: DateRecord) -> None:
    assert record == decode_record(encode_record(record))


@given(stored=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_other_bytes_are_unreadable_and_nothing_worse(stored: bytes) -> None:
    with pytest.raises(UnreadableRecord):
        decode_record(stored)


@given(position=st.integers(0, len(FIRST_RELEASE) - 1), byte=st.integers(0, 255))
def test_a_damaged_byte_is_noticed_or_harmless(position: int, byte: int) -> None:
    """Never another kind of error: a reader of one date must be able to count on it."""
    stored = FIRST_RELEASE[:position] + bytes([byte]) + FIRST_RELEASE[position + 1 :]

    try:
        record = decode_record(stored)
    except UnreadableRecord:
        return
    assert isinstance(record, DateRecord)


def test_a_record_of_the_first_release_is_readable() -> None:
    assert waiting(CACHE) == decode_record(FIRST_RELEASE)


def test_this_release_still_writes_what_the_first_one_read() -> None:
    assert encode_record(waiting(CACHE)) == FIRST_RELEASE


@pytest.mark.parametrize("schema", [SCHEMA + 1, 99, 0, -1, "1", None, 1.5])
def test_a_schema_of_another_release_is_refused(schema: object) -> None:
    stored = json.dumps(json.loads(FIRST_RELEASE) | {"schema": schema}).encode()

    with pytest.raises(UnreadableRecord, match="schema"):
        decode_record(stored)


def test_fields_of_a_newer_release_do_not_disturb() -> None:
    body = json.loads(FIRST_RELEASE)
    body["mood"] = "calm"
    body["completions"][CACHE]["weather"] = {"rain": True}

    assert waiting(CACHE) == decode_record(json.dumps(body).encode())


def unsound() -> dict[str, DateRecord]:
    return {
        "waiting_has_a_generation_only_after_a_retraction": replace(waiting(), generation=1),
        "waiting_has_published_nothing": replace(waiting(), result=done().result, generation=1),
        "retracted_runs_do_not_count": replace(waiting(), retractions=retracted().retractions),
        "retractions_are_bounded": replace(retracted(), retractions=retracted().retractions * (RETRACTIONS_MAX + 1)),
        "lease_exactly_while_running": replace(running(), lease=None),
        "nothing_due_when_done": replace(done(), wake_at=MORNING),
        "failed_waits_for_its_deadline_or_for_rows": replace(failed(), wake_at=MORNING),
        "published_states_have_their_result": replace(done(), result=None),
        "failed_says_why": replace(failed(), failure=None),
        "result_is_not_from_the_future": replace(done(), generation=0),
        "wake_set_while_something_is_due": replace(waiting(), wake_at=None),
        "counters_are_not_negative": replace(waiting(), version=-1),
        "deadline_before_cutoff": replace(waiting(), upgrade_cutoff_at=MORNING),
        "instants_are_utc": replace(waiting(), deadline_at=waiting().deadline_at.replace(tzinfo=None)),
        "completions_under_their_own_name": replace(waiting(), completions={"x": waiting().completions[PROCESSORS[0]]}),
    }


# A record of which another process, or a damaged disk, changed one value; a page of all dates shows each of them.
INSIDE = {
    "instants_are_utc": [
        replace(failed(), failure=Failure(because="fatal_error", message="x", at=datetime(2024, 12, 16))),  # noqa: DTZ001
        replace(done(), result=replace(done().result, committed_at=datetime(2024, 12, 16))),  # noqa: DTZ001
        replace(running(), lease=replace(running().lease, until_at=datetime(9999, 12, 31, tzinfo=UTC))),
        replace(waiting(), deadline_at=datetime(1, 1, 1, tzinfo=UTC)),
        replace(
            waiting(CACHE),
            completions={CACHE: replace(waiting(CACHE).completions[CACHE], completed_at=datetime(1, 1, 1, tzinfo=UTC))},
        ),
    ],
    "numbers_are_in_range": [
        replace(done(), result=replace(done().result, duration_s=2.0**63)),
        replace(done(), result=replace(done().result, quality_score=float("nan"))),
        replace(done(), result=replace(done().result, components={"row_completeness": float("inf")})),
        replace(done(), result=replace(done().result, dependency_rows={CACHE: 2**70})),
        replace(waiting(), own_from=2**63),
    ],
}


@pytest.mark.parametrize(("rule", "record"), [(rule, record) for rule in INSIDE for record in INSIDE[rule]])
def test_a_record_with_a_value_that_no_page_can_show_is_unsound(rule: str, record: DateRecord) -> None:
    assert rule in violations(record)


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [
        (b'"completed_at":"2024', b'"completed_at":"0001', "instants_are_utc"),
        (b'"received_at":"2024-12-16T04:00:00Z"', b'"received_at":"2024-12-16T04:00:00"', "instants_are_utc"),
        (b'"row_count":400', b'"row_count":9223372036854775808', "numbers_are_in_range"),
    ],
)
def test_a_stored_value_that_no_page_can_show_makes_its_record_unreadable(
    before: bytes, after: bytes, rule: str
) -> None:
    assert before in FIRST_RELEASE

    with pytest.raises(UnreadableRecord, match=rule):
        decode_record(FIRST_RELEASE.replace(before, after))


def test_half_a_character_in_a_record_is_unreadable() -> None:
    with pytest.raises(UnreadableRecord, match="surrogates"):
        decode_record(FIRST_RELEASE.replace(b"run:1", b"run:\\uD800"))

    assert (
        "run:\N{GRINNING FACE}"
        == decode_record(FIRST_RELEASE.replace(b"run:1", b"run:\\ud83d\\ude00")).completions[CACHE].identity
    )


@pytest.mark.parametrize("rule", unsound())
def test_no_change_leads_to_a_record_that_contradicts_itself(rule: str) -> None:
    after = unsound()[rule]

    assert rule in change_violations(replace(after, version=after.version - 1), after, POLICY)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("generation", 1, "waiting_has_a_generation_only_after_a_retraction"),
        ("deadline_at", "2024-12-16T04:25:00", "instants_are_utc"),
        ("wake_at", "2024-12-16T04:25:00+01:00", "instants_are_utc"),
        ("wake_at", None, "wake_set_while_something_is_due"),
        ("state", "asleep", "state"),
        ("version", "many", "version"),
    ],
)
def test_a_stored_record_that_contradicts_itself_is_unreadable(field: str, value: object, rule: str) -> None:
    stored = json.dumps(json.loads(FIRST_RELEASE) | {field: value}).encode()

    with pytest.raises(UnreadableRecord, match=rule):
        decode_record(stored)


def test_a_finished_night_takes_little_room() -> None:
    """A bad night: four failures with long errors, then a fallback."""
    record = after(unseen(), *(failure(name) for name in PROCESSORS))
    worst = {name: replace(report, error="é" * 200) for name, report in record.completions.items()}

    assert len(encode_record(replace(after(joined(), claimed()), completions=worst))) < 4096
