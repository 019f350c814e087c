"""Messages reach their handler in groups: none is lost, none is handled twice, none waits for company."""

import threading

from worker.adapters.pubsub.stream import GROUP_MESSAGES_MAX, GroupScheduler

TIMEOUT_S = 10.0


def test_what_waits_is_handled_in_groups_and_each_message_once() -> None:
    groups: list[list[int]] = []
    handled = threading.Semaphore(0)

    def handle(group: list[int]) -> None:
        groups.append(group)
        for _message in group:
            handled.release()

    scheduler = GroupScheduler(handle, threads=2)
    for number in range(3 * GROUP_MESSAGES_MAX):
        scheduler.schedule(lambda _message: None, number)
    assert all(handled.acquire(timeout=TIMEOUT_S) for _ in range(3 * GROUP_MESSAGES_MAX))

    assert scheduler.shutdown(await_msg_callbacks=True) == []
    assert sorted(number for group in groups for number in group) == list(range(3 * GROUP_MESSAGES_MAX))
    assert max(len(group) for group in groups) <= GROUP_MESSAGES_MAX


def test_a_shutdown_waits_for_the_group_in_hand_and_gives_back_the_rest() -> None:
    taken, go_on, handled = threading.Event(), threading.Event(), []

    def handle(group: list[str]) -> None:
        taken.set()
        assert go_on.wait(TIMEOUT_S)
        handled.extend(group)

    scheduler = GroupScheduler(handle, threads=1)
    scheduler.schedule(lambda _message: None, "in hand")
    assert taken.wait(TIMEOUT_S)
    scheduler.schedule(lambda _message: None, "waiting")
    assert ["waiting"] == scheduler.shutdown(await_msg_callbacks=False)
    go_on.set()

    assert scheduler.shutdown(await_msg_callbacks=True) == []
    assert ["in hand"] == handled


def test_what_comes_after_the_shutdown_is_given_back() -> None:
    """The client may still hand a message over while it waits for the groups in hand."""
    given_back: list[str] = []

    class Late:
        def nack(self) -> None:
            given_back.append("late")

    scheduler = GroupScheduler(lambda _group: None, threads=1)
    scheduler.shutdown(await_msg_callbacks=True)
    scheduler.schedule(lambda _message: None, Late())

    assert ["late"] == given_back
