"""The judge's books of what time owes a date: each forged record that time forgot is noticed, and no honest one."""

from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest

from statemachine.model import DateRecord, Failure, FailureKind, State
from tests.simulation.due import DEADLINE_BOUND, LOOK_BOUND, Due
from tests.support.nights import (
    CACHE,
    CUTOFF,
    DEADLINE,
    EVENING,
    MINUTE,
    NIGHT,
    REPLAY,
    SECOND,
    after,
    broke,
    claimed,
    committed,
    degraded,
    done,
    failure,
    joined,
    running,
    waiting,
    without,
)

EARLY = after(waiting(CACHE), REPLAY, claimed())
FAILED_EARLY = after(EARLY, broke(FailureKind.NO_DATA))
LATE = DEADLINE + DEADLINE_BOUND + SECOND


def books(*records: DateRecord, now: datetime = EVENING) -> Due:
    """What the judge has noted after these records, each stored at the same instant."""
    due = Due()
    for before, record in zip([None, *records], records, strict=False):
        due.follow(before, record, now)
    return due


@pytest.mark.parametrize(
    "records",
    [(waiting(CACHE),), (waiting(CACHE), EARLY, FAILED_EARLY)],
    ids=["waiting", "failed"],
)
def test_a_deadline_that_is_forgotten_is_noticed(records: tuple[DateRecord, ...]) -> None:
    due = books(*records)

    assert due.late(EVENING, LATE - 2 * SECOND) == []
    assert due.late(EVENING, LATE) == [NIGHT]
    assert due.late(LATE - SECOND, LATE) == []


CLAIMED_LATE = after(after(waiting(CACHE), REPLAY), claimed(), now=DEADLINE)
CANCELLED = replace(FAILED_EARLY, failure=Failure(because="cancelled", message="by ana", at=EVENING))
PUBLISHED = replace(FAILED_EARLY, result=done().result)


@pytest.mark.parametrize(
    ("begun", "ended"),
    [(EARLY, CANCELLED), (EARLY, PUBLISHED), (CLAIMED_LATE, after(CLAIMED_LATE, broke(FailureKind.NO_DATA)))],
    ids=["cancelled", "published", "claimed_late"],
)
def test_a_date_that_is_owed_nothing_is_not_late(begun: DateRecord, ended: DateRecord) -> None:
    assert State.FAILED is ended.state
    assert books(begun, ended).late(EVENING, LATE) == []


def test_a_build_that_nobody_begins_is_noticed() -> None:
    due = books(joined())

    assert due.late(EVENING, EVENING + DEADLINE_BOUND + SECOND) == [NIGHT]
    assert books(joined(), running()).late(EVENING, LATE) == []


def overlooked(record: DateRecord, came: datetime, now: datetime, healthy_from: datetime = EVENING) -> list[str]:
    filled: dict[tuple[date, str], datetime] = {(NIGHT, CACHE): came}
    due = books(record, now=DEADLINE)
    return [name for _day, name in due.overlooked({NIGHT: record}, filled, healthy_from, now)]


def test_rows_that_are_not_found_within_a_minute_are_noticed() -> None:
    came = DEADLINE + 5 * MINUTE

    assert overlooked(degraded(CACHE), came, came + LOOK_BOUND) == []
    assert overlooked(degraded(CACHE), came, came + LOOK_BOUND + SECOND) == [CACHE]


def test_rows_that_came_shortly_before_the_cutoff_are_found_at_it() -> None:
    assert overlooked(degraded(CACHE), CUTOFF - MINUTE, CUTOFF + DEADLINE_BOUND + SECOND) == [CACHE]


@pytest.mark.parametrize(
    ("record", "came"),
    [
        (degraded(CACHE), CUTOFF - 10 * SECOND),
        (after(degraded(CACHE), failure(CACHE, at=DEADLINE), now=DEADLINE), DEADLINE),
        (after(after(waiting(CACHE), REPLAY, claimed()), committed(state=State.DEGRADED), now=DEADLINE), DEADLINE),
    ],
    ids=["too_late", "said_it_failed", "had_rows"],
)
def test_rows_that_need_not_be_found_are_not_missed(record: DateRecord, came: datetime) -> None:
    assert overlooked(record, came, CUTOFF + timedelta(hours=1)) == []


def test_rows_of_a_run_that_failed_are_looked_for_from_its_success_on() -> None:
    failed = after(degraded(CACHE), failure(CACHE, at=DEADLINE), now=DEADLINE)
    due = books(degraded(CACHE), failed, now=DEADLINE)
    unsaid = replace(failed, completions={})
    due.follow(failed, unsaid, CUTOFF - 5 * MINUTE)
    filled = {(NIGHT, CACHE): DEADLINE}

    assert list(due.overlooked({NIGHT: unsaid}, filled, EVENING, CUTOFF - 5 * MINUTE + LOOK_BOUND)) == []
    assert list(due.overlooked({NIGHT: unsaid}, filled, EVENING, CUTOFF)) == [(NIGHT, CACHE)]
    due.follow(failed, unsaid, CUTOFF + MINUTE)
    assert list(due.overlooked({NIGHT: unsaid}, filled, EVENING, CUTOFF + 9 * MINUTE)) == []


def test_a_worker_that_was_away_has_time_to_look() -> None:
    came = DEADLINE + 5 * MINUTE

    assert overlooked(degraded(CACHE), came, came + LOOK_BOUND + SECOND, healthy_from=came + MINUTE) == []


def test_what_was_published_in_the_evening_is_looked_at_from_the_deadline_on() -> None:
    early = after(EARLY, committed(state=State.DEGRADED, rows=without(CACHE)))
    due = books(early)
    filled = {(NIGHT, CACHE): EVENING}

    assert list(due.overlooked({NIGHT: early}, filled, EVENING, DEADLINE + LOOK_BOUND)) == []
    assert list(due.overlooked({NIGHT: early}, filled, EVENING, DEADLINE + LOOK_BOUND + SECOND)) == [(NIGHT, CACHE)]


def test_a_date_that_was_forgotten_is_owed_nothing_and_a_copy_stays_as_it_is() -> None:
    due = books(waiting(CACHE))
    copied = due.copy()

    due.forget(NIGHT)

    assert due.late(EVENING, LATE) == []
    assert copied.late(EVENING, LATE) == [NIGHT]
