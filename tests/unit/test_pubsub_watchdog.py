"""A stream is replaced on proof, not on suspicion, and only a process that new streams cannot cure ends."""

import pytest

from worker.adapters.pubsub.watchdog import Action, PullCheckResult, Symptom, Watchdog, WatchPolicy

POLICY = WatchPolicy(silence_s=120.0, recycles_max=3, reopens_max=20, reopen_window_s=60.0)


def silent(now: float, watchdog: Watchdog, answer: PullCheckResult) -> Action:
    assert Symptom.SILENT is watchdog.symptom(now)
    return watchdog.judge(Symptom.SILENT, answer, watchdog.deliveries, now)


def test_a_stream_is_suspected_after_its_patience_and_not_before() -> None:
    watchdog = Watchdog(POLICY, 0.0)
    watchdog.delivered(50.0)

    assert watchdog.symptom(169.9) is None
    assert Symptom.SILENT is watchdog.symptom(170.0)


@pytest.mark.parametrize("answer", [PullCheckResult.EMPTY, PullCheckResult.FAILED])
def test_an_idle_night_and_a_bus_that_is_away_replace_nothing_however_long(answer: PullCheckResult) -> None:
    watchdog = Watchdog(POLICY, 0.0)

    assert {silent(120.0 * night, watchdog, answer) for night in range(1, 1000)} == {Action.KEEP}


def test_a_message_that_waited_replaces_the_stream_and_the_new_one_is_looked_at_sooner() -> None:
    watchdog = Watchdog(POLICY, 0.0)

    assert Action.RECYCLE is silent(120.0, watchdog, PullCheckResult.MESSAGE)

    assert watchdog.symptom(149.9) is None
    assert Symptom.SILENT is watchdog.symptom(150.0)


def test_a_process_that_new_streams_do_not_cure_is_given_up_in_four_minutes() -> None:
    watchdog = Watchdog(POLICY, 0.0)

    actions = [silent(at, watchdog, PullCheckResult.MESSAGE) for at in (120.0, 150.0, 180.0, 210.0)]

    assert [Action.RECYCLE] * 3 + [Action.GIVE_UP] == actions


def test_a_delivery_wipes_the_slate() -> None:
    watchdog = Watchdog(POLICY, 0.0)
    for at in (120.0, 150.0, 180.0):
        silent(at, watchdog, PullCheckResult.MESSAGE)

    watchdog.delivered(181.0)

    assert watchdog.symptom(300.9) is None
    assert Action.RECYCLE is silent(301.0, watchdog, PullCheckResult.MESSAGE)


def test_a_delivery_while_the_question_is_out_proves_the_stream_alive() -> None:
    watchdog = Watchdog(POLICY, 0.0)
    before = watchdog.deliveries
    watchdog.delivered(121.0)

    assert Action.KEEP is watchdog.judge(Symptom.SILENT, PullCheckResult.MESSAGE, before, 122.0)


def test_openings_in_a_row_are_suspect_only_when_many_soon_and_without_a_delivery() -> None:
    slow, fast, busy = (Watchdog(POLICY, 0.0) for _ in range(3))
    for second in range(21):
        slow.opened(1, 4.0 * second)
        fast.opened(1, 2.0 * second)
        busy.opened(1, 2.0 * second)
    busy.delivered(41.0)

    assert [None, Symptom.REOPENING, None] == [slow.symptom(80.0), fast.symptom(42.0), busy.symptom(42.0)]


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        (PullCheckResult.EMPTY, Action.RECYCLE),
        (PullCheckResult.MESSAGE, Action.RECYCLE),
        (PullCheckResult.FAILED, Action.KEEP),
    ],
)
def test_a_stream_that_ends_is_replaced_only_if_the_bus_answers(answer: PullCheckResult, action: Action) -> None:
    for symptom in (Symptom.REOPENING, Symptom.ENDED):
        assert action is Watchdog(POLICY, 0.0).judge(symptom, answer, 0, 10.0)
