"""A range of dates is replayed a few at a time, tonight first, and each date is followed to its end."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta

import pytest

from ops.commands.range_plan import Backfill, Planned, RangeRequest, Step, plan_range, read_only
from ops.commands.replay_range import worst
from statemachine.events import BuildFailed, DateOpened, ReplayRequested
from statemachine.model import BuildMode, FailureKind, State
from tests.support.nights import CALENDAR, EVENING, NIGHT, claimed, committed
from tests.support.rigs import Rig
from worker.errors import Refused, Unavailable

WEEK = [NIGHT - timedelta(days=back) for back in range(6, -1, -1)]


def asking(day: date) -> ReplayRequested:
    return ReplayRequested(actor="anna", reason="repaired", request_id=f"request-{day}")


def wish(first: date = WEEK[0], last: date = NIGHT, only: str = "", **changes: object) -> RangeRequest:
    fields = {"mode": BuildMode.NORMAL, "force": False} | changes
    return RangeRequest(first=first, last=last, only=read_only(only), **fields)  # type: ignore[arg-type]


def build(rig: Rig, day: date, state: State = State.DONE) -> None:
    record = rig.engine.apply(day, claimed()).record
    rig.engine.apply(day, committed(record.generation, record.attempt, state))


def replayed(rig: Rig, day: date, state: State = State.DONE) -> None:
    rig.engine.apply(day, asking(day))
    build(rig, day, state)


def plan(rig: Rig, asked: RangeRequest) -> Sequence[Planned]:
    def event(day: date) -> ReplayRequested:
        return replace(asking(day), request_id=f"new-{day}", mode=asked.mode, take_over=asked.force)

    return plan_range(asked, rig.engine, event, CALENDAR, NIGHT)


def steps(planned: Sequence[Planned]) -> dict[date, Step]:
    return {one.analysis_date: one.step for one in planned}


class Night:
    """A backfill over a rig, with a worker that builds whatever is ready each time the backfill pauses."""

    def __init__(self, concurrency: int = 2, works: Callable[[date], bool] = lambda _day: True) -> None:
        self.rig = Rig()
        self.begun: list[date] = []
        self.most = 0
        self.works = works
        self.patience = 50
        self.backfill = Backfill(
            store=self.rig.store,
            clock=self.rig.clock,
            tonight=NIGHT,
            begin=self.begin,
            concurrency=concurrency,
            show_progress=lambda _planned: None,
        )

    def begin(self, day: date) -> int:
        self.begun.append(day)
        return self.rig.engine.apply(day, asking(day)).record.generation

    def on_their_way(self) -> list[date]:
        records = self.rig.store.load_all(WEEK)
        return [day for day, record in records.items() if record and record.state in {State.READY, State.RUNNING}]

    def pause(self) -> bool:
        self.most = max(self.most, len(self.on_their_way()))
        for day in self.on_their_way()[:1]:
            if self.works(day):
                build(self.rig, day)
        self.patience -= 1
        return self.patience > 0

    def run(self, planned: Sequence[Planned]) -> list[Planned]:
        return list(self.backfill.run(planned, self.pause))


@pytest.mark.parametrize("concurrency", [1, 2, 3])
def test_no_more_dates_are_on_their_way_than_there_are_places(concurrency: int) -> None:
    night = Night(concurrency)
    results = night.run(plan(night.rig, wish(last=WEEK[5])))

    assert night.most == concurrency
    assert steps(results) == dict.fromkeys(WEEK[:6], Step.ENDED)
    assert [result.record.state for result in results if result.record] == [State.DONE] * 6


def test_tonight_goes_first_and_alone() -> None:
    night = Night(3)
    planned = plan(night.rig, wish())
    night.run(planned)

    assert [one.analysis_date for one in planned] == night.begun == [NIGHT, *WEEK[:6]]
    [tonight_ended] = [entry.at for entry in night.rig.store.history(NIGHT) if entry.reason == "committed_done"]
    assert tonight_ended == EVENING
    reasons = [entry.decision.reason for entry in night.rig.notes.decisions]
    assert reasons[:3] == ["replay_accepted", "claimed", "committed_done"]


def test_while_tonight_is_being_built_by_itself_nothing_of_the_range_is_begun() -> None:
    night = Night(2, works=lambda day: day != NIGHT)
    night.rig.engine.apply(NIGHT, asking(NIGHT))
    results = night.run(plan(night.rig, wish(last=WEEK[5])))

    assert night.begun == []
    assert set(steps(results).values()) == {Step.NOT_STARTED}
    assert worst(results) == 4


def test_a_date_that_others_build_takes_a_place() -> None:
    night = Night(2)
    night.rig.engine.apply(WEEK[0], asking(WEEK[0]))
    night.rig.engine.apply(WEEK[0], claimed())
    planned = plan_range(wish(last=WEEK[5]), night.rig.engine, asking, CALENDAR, NIGHT)
    night.works = lambda day: day != WEEK[0]
    night.run(planned)

    assert steps(planned)[WEEK[0]] is Step.REPLAY  # its request bears the same id: it is ours already
    assert night.most == 2


def test_without_a_worker_it_says_what_was_begun_and_what_was_not() -> None:
    night = Night(2, works=lambda _day: False)
    results = night.run(plan(night.rig, wish(last=WEEK[3])))

    assert [result.step for result in results] == [Step.UNFINISHED] * 2 + [Step.NOT_STARTED] * 2
    assert f"mlfs status {WEEK[0]}" in results[0].why


def test_a_store_that_is_away_for_a_moment_costs_no_date() -> None:
    night = Night(2)
    planned = plan(night.rig, wish(last=WEEK[3]))
    refusals = iter([True, False, True])
    begin = night.begin

    def now_and_then(day: date) -> int:
        if next(refusals, False):
            raise Unavailable("the state store does not serve")
        return begin(day)

    night.backfill._begin = now_and_then
    assert set(steps(night.run(planned)).values()) == {Step.ENDED}
    assert sorted(night.begun) == WEEK[:4]


def test_the_plan_names_what_is_left_out_and_why() -> None:
    rig = Rig()
    replayed(rig, WEEK[0])
    replayed(rig, WEEK[1], State.DEGRADED)
    rig.engine.apply(WEEK[2], asking(WEEK[2]))
    record = rig.engine.apply(WEEK[2], claimed()).record
    rig.engine.apply(
        WEEK[2],
        BuildFailed(generation=record.generation, attempt=record.attempt, failure=FailureKind.NO_DATA, message="empty"),
    )
    rig.engine.apply(WEEK[4], DateOpened())

    chosen = [one.analysis_date for one in plan(rig, wish(only="missing,degraded,failed")) if one.step is Step.REPLAY]
    assert chosen == [NIGHT, WEEK[1], WEEK[2], WEEK[3], WEEK[5]]
    done = plan(rig, wish(WEEK[0], WEEK[0], only="failed"))[0]
    assert (done.step, done.why) == (Step.SKIPPED, "not selected by --only: done")
    tomorrow = NIGHT + timedelta(days=1)
    assert plan(rig, wish(tomorrow, tomorrow))[0].why == "lies ahead"
    summer = date(2024, 8, 1)
    assert plan(rig, wish(summer, summer))[0].why == "no night is expected"
    assert all(rig.store.load(day) is None for day in (WEEK[3], WEEK[5], tomorrow, summer))


def test_what_cannot_be_replayed_is_refused_with_the_date_and_the_next_step() -> None:
    rig = Rig()
    rig.engine.apply(WEEK[0], ReplayRequested(actor="ben", reason="other"))
    rig.engine.apply(WEEK[0], claimed())
    replayed(rig, WEEK[1])

    running, done = plan(rig, wish(WEEK[0], WEEK[1], mode=BuildMode.YESTERDAY))
    assert (running.step, f"mlfs status {WEEK[0]}" in running.why) == (Step.REFUSED, True)
    assert (done.step, f"mlfs replay {WEEK[1]} --source yesterday --force" in done.why) == (Step.REFUSED, True)
    assert worst([running, done]) == 2
    forced = plan(rig, wish(WEEK[0], WEEK[1], mode=BuildMode.YESTERDAY, force=True))
    assert forced[1].step is Step.REPLAY


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (lambda: plan(Rig(), wish(NIGHT, WEEK[0])), "exchange the dates"),
        (lambda: plan(Rig(), wish(date(2020, 1, 1), NIGHT)), "366 at most"),
        (lambda: read_only("failed,lost"), "--only lost: no such state"),
    ],
)
def test_a_range_that_is_none_is_refused(asked: Callable[[], object], said: str) -> None:
    with pytest.raises(Refused, match=said):
        asked()


def test_the_exit_code_is_that_of_the_worst_date() -> None:
    rig = Rig()
    for day, state in ((WEEK[0], State.DONE), (WEEK[1], State.DEGRADED)):
        replayed(rig, day, state)
    ended = [
        Planned(analysis_date=day, step=Step.ENDED, why="", record=rig.store.load(day)) for day in (WEEK[0], WEEK[1])
    ]
    refused = Planned(analysis_date=NIGHT, step=Step.REFUSED, why="", record=None)
    unfinished = Planned(analysis_date=NIGHT, step=Step.UNFINISHED, why="", record=None)

    assert [worst(ended[:1]), worst(ended), worst([*ended, refused]), worst([*ended, unfinished, refused])] == [
        0,
        3,
        2,
        4,
    ]
