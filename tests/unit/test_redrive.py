"""Whatever breaks a look or a redrive off, no dead letter is lost, and what was not sent again is given back."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from schemas.dead_letter import DeadLetter
from tests.support.nights import EVENING
from worker.dead_letters import (
    BATCH_BYTES_MAX,
    BATCH_MAX,
    REDRIVES_MAX,
    HeldLetter,
    Plan,
    Selection,
    looking,
    plan_redrive,
    redrive,
)
from worker.errors import Unavailable


class Shelf:
    """A `DeadLetterQueue`: what waits, what is leased, what was sent again; `fails` names calls that fail."""

    def __init__(self, *letters: DeadLetter) -> None:
        self.waiting = {letter.message_id: letter for letter in letters}
        self.leased: dict[str, DeadLetter] = {}
        self.sent: list[str] = []
        self.batches: list[int] = []
        self.fails: dict[str, int] = {}
        self.pulled_at_once = 3

    def _may_fail(self, call: str) -> None:
        if call in self.fails:
            self.fails[call] -= 1
            if self.fails[call] < 0:
                raise Unavailable(f"{call}: no bus")

    def take(self, limit: int) -> Sequence[HeldLetter]:
        self._may_fail("take")
        ids = list(self.waiting)[: min(limit, self.pulled_at_once)]
        self.leased |= {message_id: self.waiting.pop(message_id) for message_id in ids}
        return [HeldLetter(letter=self.leased[message_id], handle=f"lease-{message_id}") for message_id in ids]

    def give_back(self, held: Collection[HeldLetter]) -> None:
        for one in held:
            letter = self.leased.pop(one.letter.message_id, None)
            if letter is not None:
                self.waiting[letter.message_id] = letter

    def send_again(self, letters: Sequence[DeadLetter]) -> None:
        self._may_fail("send_again")
        self.sent += [letter.message_id for letter in letters]
        self.batches.append(len(letters))

    def remove(self, held: Collection[HeldLetter]) -> None:
        self._may_fail("remove")
        for one in held:
            del self.leased[one.letter.message_id]


def letter(number: int, **attributes: str) -> DeadLetter:
    return DeadLetter(
        message_id=f"{number:03}",
        published_at=EVENING + timedelta(seconds=number),
        data=b"{}",
        attributes={"mlfs_reason": "bad_date", "mlfs_message_id": f"first-{number}", **attributes},
    )


def letters(count: int) -> list[DeadLetter]:
    return [letter(number) for number in range(count)]


def planned(shelf: Shelf, count_max: int = 1000, **wanted: frozenset[str]) -> Plan:
    with looking(shelf, 1000) as look:
        return plan_redrive(look, Selection(**wanted), count_max=count_max, subscription="worker")


def test_looking_shows_everything_oldest_first_and_leaves_it_where_it_was() -> None:
    shelf = Shelf(*reversed(letters(8)))

    with looking(shelf, 100) as look:
        assert {} == shelf.waiting

    assert ([f"{number:03}" for number in range(8)], False) == ([one.letter.message_id for one in look.held], look.more)
    assert (8, {}) == (len(shelf.waiting), shelf.leased)


def test_a_limit_bounds_the_look_and_is_told() -> None:
    with looking(Shelf(*letters(8)), 5) as look:
        assert (5, True) == (len(look.held), look.more)


def test_a_look_that_fails_half_way_gives_back_what_it_had() -> None:
    shelf = Shelf(*letters(8))
    shelf.fails["take"] = 2

    with pytest.raises(Unavailable), looking(shelf, 100):
        pytest.fail("there is nothing to show")

    assert (8, {}) == (len(shelf.waiting), shelf.leased)


def test_a_message_whose_lease_ended_is_shown_once_under_its_newest_lease() -> None:
    shelf = Shelf(*letters(2))
    shelf.pulled_at_once = 1
    first = HeldLetter(letter=letter(0), handle="lease-old")
    answers = iter([[first], [HeldLetter(letter=letter(0), handle="lease-new")]])
    shelf.take = lambda limit: next(answers)  # type: ignore[method-assign] # noqa: ARG005 - the port's shape

    with looking(shelf, 10) as look:
        assert ["lease-new"] == [held.handle for held in look.held]


def test_what_is_sent_again_and_only_that_leaves_the_dead_letters() -> None:
    shelf = Shelf(*letters(5), letter(7, mlfs_reason="not_json"))

    with looking(shelf, 100) as look:
        plan = plan_redrive(look, Selection(reasons=frozenset({"bad_date"})), count_max=3, subscription="worker")
        done = redrive(shelf, plan.chosen)

    assert (["000", "001", "002"], 3, None) == (shelf.sent, done.removed, done.error)
    assert ({"003", "004", "007"}, {}) == (set(shelf.waiting), shelf.leased)
    assert ["beyond --max"] * 2 == [why for _, why in plan.left]


@pytest.mark.parametrize(("call", "sent", "removed"), [("send_again", 100, 100), ("remove", 200, 100)])
def test_broken_off_it_says_how_far_it_came_and_loses_nothing(call: str, sent: int, removed: int) -> None:
    shelf = Shelf(*letters(2 * BATCH_MAX + 1))
    shelf.fails[call] = 1

    with looking(shelf, 1000) as look:
        done = redrive(shelf, look.held)

    assert (sent, removed) == (len(done.sent), done.removed)
    assert isinstance(done.error, Unavailable)
    assert 2 * BATCH_MAX + 1 - removed == len(shelf.waiting)
    assert set(shelf.sent) | set(shelf.waiting) == {f"{number:03}" for number in range(2 * BATCH_MAX + 1)}


def test_progress_is_told_after_each_batch() -> None:
    shelf, told = Shelf(*letters(2 * BATCH_MAX + 1)), []

    with looking(shelf, 1000) as look:
        redrive(shelf, look.held, told.append)

    assert [BATCH_MAX, 2 * BATCH_MAX, 2 * BATCH_MAX + 1] == told


def test_a_batch_fits_into_one_request() -> None:
    big = [
        DeadLetter(message_id=str(number), published_at=EVENING, data=b"x" * (BATCH_BYTES_MAX // 2), attributes={})
        for number in range(5)
    ]
    shelf = Shelf(*big)

    with looking(shelf, 10) as look:
        redrive(shelf, look.held)

    assert [2, 2, 1] == shelf.batches


def test_one_request_holds_one_ordering_key() -> None:
    """Pub/Sub refuses a request that mixes them."""
    shelf = Shelf(*(replace(one, ordering_key=key) for one, key in zip(letters(5), "aabbb", strict=True)))

    with looking(shelf, 10) as look:
        redrive(shelf, look.held)

    assert [2, 3] == shelf.batches


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({"mlfs_redriven": str(REDRIVES_MAX)}, "sent again 5 times already, 5 is the most"),
        ({"mlfs_truncated": "10000000"}, "only the beginning of its body was kept"),
        ({"CloudPubSubDeadLetterSourceSubscription": "other"}, "it belongs to the subscription other"),
    ],
)
def test_what_cannot_be_cured_by_sending_it_again_stays_and_is_told(attributes: dict[str, str], why: str) -> None:
    plan = planned(Shelf(letter(1, **attributes), letter(2)))

    assert (["002"], [("001", why)]) == (
        [held.letter.message_id for held in plan.chosen],
        [(left.message_id, said) for left, said in plan.left],
    )


def test_what_pubsub_forwarded_from_our_own_subscription_is_sent_again() -> None:
    plan = planned(Shelf(letter(1, CloudPubSubDeadLetterSourceSubscription="worker")))

    assert ["001"] == [held.letter.message_id for held in plan.chosen]


@pytest.mark.parametrize("name", ["002", "first-2"], ids=["the copy's", "the original's"])
def test_a_message_is_chosen_by_either_of_its_ids(name: str) -> None:
    plan = planned(Shelf(*letters(4)), message_ids=frozenset({name}))

    assert ["002"] == [held.letter.message_id for held in plan.chosen]
