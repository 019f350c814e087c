"""Metrics tell the truth, and the number of series has a bound."""

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from statemachine.events import CancelRequested, Event, LeaseRenewed
from statemachine.model import BuildMode, FailureKind, FindingSeverity, State
from tests.support.alerting import findings_of
from tests.support.memory_store import MemoryStore
from tests.support.nights import (
    CACHE,
    CALENDAR,
    CUTOFF,
    DEADLINE,
    EVENING,
    NIGHT,
    NO_ROWS,
    PROCESSORS,
    REPLAY,
    SECOND,
    SHOTS,
    broke,
    claimed,
    closed,
    committed,
    failure,
    probed,
    retract,
    success,
    without,
)
from tests.support.rigs import WORKER, ModelClock, Rig
from worker.engine import Engine
from worker.errors import Unavailable
from worker.features.findings import CRITICAL_BELOW, WARNING_BELOW, Check, FindingPolicy, Judgement, judged
from worker.features.model import BuildKey, BuildOutcome, BuildPhase, BuildRequest, BuildStats
from worker.features.quality import score
from worker.observing.bounds import Bounded
from worker.observing.date_metrics import DATES_SHOWN_MAX
from worker.observing.metrics import Metrics
from worker.observing.observer import (
    BuildEnded,
    BuildScored,
    CallbackFailed,
    MessageParked,
    OutcomeRelayed,
    PhaseEnded,
    Received,
)
from worker.ports import OutgoingMessage

SERIES_MAX = 1000
DAY = timedelta(days=1)
CANCEL = CancelRequested(actor="ana", reason="no game was played")


class AbsentStore(MemoryStore):
    def dates(self, limit: int) -> Sequence[date]:
        raise Unavailable(f"no server for {limit}")


class ReadOnlyStore(MemoryStore):
    def check_writable(self) -> None:
        raise Unavailable("READONLY")


class HangingStore(MemoryStore):
    """A server that stands still: nothing comes back before the test ends."""

    def __init__(self) -> None:
        super().__init__()
        self.thawed = threading.Event()
        self.calls = 0

    def check_writable(self) -> None:
        self.calls += 1
        self.thawed.wait(3)


class DamagedStore(MemoryStore):
    """Counts damage, and an outbox that no scrape can show."""

    def damage_counts(self) -> Mapping[str, int]:
        return {"wake": 2, "outbox": 0}

    def outbox_size(self) -> int:
        raise ValueError("a bug")


class Board:
    """Metrics fed by an engine, and what a scrape of them shows."""

    def __init__(self, store: MemoryStore | None = None, optional: frozenset[str] = frozenset()) -> None:
        self.metrics = Metrics(PROCESSORS)
        self.rig = Rig(store=store or MemoryStore(), notes=self.metrics)  # type: ignore[arg-type]
        self.metrics.show_dates(self.rig.store, self.rig.clock, lambda: CALENDAR, FindingPolicy(), optional)

    @property
    def engine(self) -> Engine:
        return self.rig.engine

    @property
    def clock(self) -> ModelClock:
        return self.rig.clock

    def samples(self) -> dict[tuple[str, ...], float]:
        """Every sample by (name, label values in order of label names)."""
        text = generate_latest(self.metrics.registry).decode()
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


def message(name: str = "one") -> OutgoingMessage:
    return OutgoingMessage(event_id=name, topic="success", data=b"{}", attributes={})


def test_a_night_is_counted_as_it_happened() -> None:
    board = Board()
    for event in (*(success(name) for name in PROCESSORS), claimed(), committed()):
        board.engine.apply(NIGHT, event)

    shown = board.samples()
    assert shown["mlfs_transitions_total", "waiting", "join_complete", "ready"] == 1
    assert shown["mlfs_transitions_total", "running", "committed_done", "done"] == 1
    assert (1, 1, 99.9) == (
        shown["mlfs_date_state", "2024-12-15", "done"],
        shown["mlfs_dates", "done"],
        shown["mlfs_quality_score",],
    )
    assert (1, 1) == (shown["mlfs_outbox_pending",], shown["mlfs_state_store_up",])


def test_transitions_are_the_history() -> None:
    board = Board()
    for event in (*(success(name) for name in PROCESSORS), success(CACHE), claimed()):
        board.engine.apply(NIGHT, event)
    board.engine.apply(NIGHT, LeaseRenewed(worker=WORKER, generation=1, attempt=1))

    counted = sum(value for key, value in board.samples().items() if key[0] == "mlfs_transitions_total")

    assert counted == len(board.rig.store.history(NIGHT)) == 5


def test_the_lag_of_a_deadline_is_measured_from_its_instant() -> None:
    board = Board()
    board.engine.apply(NIGHT, success(CACHE))
    board.clock.instant = DEADLINE + 2 * SECOND
    assert board.samples()["mlfs_overdue_dates",] == 1

    board.engine.apply(NIGHT, probed(NO_ROWS))

    shown = board.samples()
    assert (1, 2.0) == (shown["mlfs_deadline_lag_seconds_count",], shown["mlfs_deadline_lag_seconds_sum",])
    assert shown["mlfs_overdue_dates",] == 0


def test_names_from_outside_never_become_labels() -> None:
    board = Board()
    for number in range(10_000):
        board.metrics.note(Received(outcome="refused", processor=f"processor-{number}", seconds=0.001))

    shown = board.samples()
    assert shown["mlfs_events_total", "refused", "other"] == 10_000
    assert not [key for key in shown if "processor-7" in key]


def test_ten_thousand_dates_do_not_make_more_series_than_a_server_likes() -> None:
    board = Board()
    first = date(2000, 1, 1)
    for number in range(10_000):
        board.engine.apply(first + timedelta(days=number), success(CACHE))
    for name in PROCESSORS:
        board.metrics.note(Received(outcome="recorded", processor=name, seconds=0.001))
    for state in State:
        board.metrics.note(BuildEnded(mode="normal", result=state.value, seconds=1.0))
    for phase in BuildPhase:
        board.metrics.note(PhaseEnded(phase=phase, seconds=1.0))

    shown = board.samples()
    assert len(shown) < SERIES_MAX
    assert DATES_SHOWN_MAX == len([key for key in shown if key[0] == "mlfs_date_generation"])
    assert ("mlfs_date_generation", (first + timedelta(days=9_999)).isoformat()) in shown


def test_without_the_store_nothing_old_is_shown() -> None:
    shown = Board(AbsentStore()).samples()

    assert shown["mlfs_state_store_up",] == 0
    assert not [
        key for key in shown if key[0].startswith(("mlfs_date_state", "mlfs_dates", "mlfs_overdue", "mlfs_outbox"))
    ]


def test_a_damaged_record_is_counted_and_hides_no_other_date() -> None:
    store = MemoryStore()
    board = Board(store)
    board.engine.apply(NIGHT, success(CACHE))
    store._records[NIGHT + timedelta(days=1)] = (1, "operation", b"damaged")

    shown = board.samples()

    assert (1, 1, 1) == (shown["mlfs_state_store_up",], shown["mlfs_corrupt_records",], shown["mlfs_dates", "waiting"])


def test_a_date_is_shown_with_its_instants_and_with_what_consumers_read() -> None:
    board = Board()
    board.engine.apply(NIGHT, success(CACHE))
    waiting = board.samples()
    for event in (*(success(name) for name in PROCESSORS), claimed(), committed()):
        board.engine.apply(NIGHT, event)

    day = NIGHT.isoformat()
    shown = board.samples()
    assert (DEADLINE.timestamp(), CUTOFF.timestamp()) == (
        waiting["mlfs_date_deadline_timestamp_seconds", day],
        waiting["mlfs_date_sla_timestamp_seconds", day],
    )
    assert (1, 0) == (waiting["mlfs_date_completions", day], waiting["mlfs_date_published_generation", day])
    assert ("mlfs_date_quality_score", day) not in waiting
    assert (4, 1, 99.9, EVENING.timestamp()) == (
        shown["mlfs_date_completions", day],
        shown["mlfs_date_published_generation", day],
        shown["mlfs_date_quality_score", day],
        shown["mlfs_outbox_oldest_timestamp_seconds",],
    )


def test_a_night_whose_readers_have_rows_that_were_taken_back_is_shown_until_it_is_built_again() -> None:
    board = Board()
    seen = []
    for event in (
        *(success(name) for name in PROCESSORS),
        claimed(),
        committed(),
        retract(CACHE),
        retract(CACHE, rebuild=True),
        claimed(),
        committed(2, state=State.DEGRADED, rows=without(CACHE)),
    ):
        board.engine.apply(NIGHT, event)
        seen.append(board.samples()["mlfs_date_published_retracted", NIGHT.isoformat()])

    assert [0.0] * 6 + [1.0, 1.0, 1.0, 0.0] == seen


def test_an_awaited_night_that_nobody_opened_is_shown_with_its_sla() -> None:
    shown = Board().samples()

    assert (1, CUTOFF.timestamp()) == (
        shown["mlfs_date_expected_today",],
        shown["mlfs_date_sla_timestamp_seconds", NIGHT.isoformat()],
    )


def test_nobody_awaits_a_backfill_or_a_date_outside_the_season() -> None:
    board = Board()
    board.rig.store.set_last_opened(NIGHT)
    for day in (NIGHT - timedelta(days=CALENDAR.catch_up_days + 1), date(2024, 8, 1)):
        board.engine.apply(day, success(CACHE))

    assert not [key for key in board.samples() if key[0] == "mlfs_date_sla_timestamp_seconds"]


def test_the_next_sla_is_known_without_the_store_and_jumps_over_the_summer() -> None:
    board = Board(AbsentStore())
    assert board.samples()["mlfs_next_sla_timestamp_seconds",] == CUTOFF.timestamp()
    board.clock.instant = datetime(2025, 8, 1, 12, 0, tzinfo=UTC)

    shown = board.samples()

    assert (0, CALENDAR.at(date(2025, 10, 15), CALENDAR.upgrade_cutoff).timestamp()) == (
        shown["mlfs_date_expected_today",],
        shown["mlfs_next_sla_timestamp_seconds",],
    )


def test_a_date_that_fails_is_shown_giving_up_then_failed_with_its_cause() -> None:
    board = Board()
    day = NIGHT.isoformat()
    for event in (*(success(name) for name in PROCESSORS), claimed()):
        board.engine.apply(NIGHT, event)
    assert board.samples()["mlfs_date_claimed_timestamp_seconds", day] == EVENING.timestamp()
    board.engine.apply(NIGHT, broke(FailureKind.FATAL))
    assert board.samples()["mlfs_date_giving_up", day] == 1

    board.engine.apply(NIGHT, closed())

    shown = board.samples()
    assert (1, 0) == (shown["mlfs_date_failed", day, "fatal_error"], shown["mlfs_date_giving_up", day])
    assert ("mlfs_date_claimed_timestamp_seconds", day) not in shown


def test_what_alert_rules_watch_and_what_a_usual_night_counts_begins_at_zero() -> None:
    shown = Board().samples()

    assert [0.0] * 12 == [
        shown["mlfs_builds_total", "normal", "degraded"],
        shown["mlfs_build_duration_seconds_count", "normal", "done"],
        shown["mlfs_event_age_seconds_count", CACHE],
        shown["mlfs_events_total", "recorded", CACHE],
        shown["mlfs_handler_duration_seconds_count", "recorded"],
        shown["mlfs_transitions_total", "degraded", "upgrade_started", "ready"],
        shown["mlfs_build_phase_seconds_count", "publish"],
        shown["mlfs_dead_lettered_total", "not_json"],
        shown["mlfs_loop_errors_total", "CorruptRecord", "sweep"],
        shown["mlfs_events_total", "quarantined", CACHE],
        shown["mlfs_stream_recycles_total", "silent"],
        shown["mlfs_publish_total", "failed"],
    ]


def test_the_quality_of_the_latest_night_is_shown_while_it_is_built_again() -> None:
    board = Board()
    for event in (*(success(name) for name in PROCESSORS), claimed(), committed(), REPLAY):
        board.engine.apply(NIGHT, event)

    shown = board.samples()
    assert (1, 99.9) == (shown["mlfs_date_state", "2024-12-15", "ready"], shown["mlfs_quality_score",])
    assert ("mlfs_quality_component", "phase4_availability") in shown


def test_it_is_shown_who_has_reported_the_newest_date_and_only_that() -> None:
    board = Board()
    for name in PROCESSORS:
        board.engine.apply(NIGHT - timedelta(days=1), success(name))
    board.engine.apply(NIGHT, success(CACHE))

    shown = board.samples()
    assert {name: float(name == CACHE) for name in PROCESSORS} == {
        name: shown["mlfs_dependency_reported", name] for name in PROCESSORS
    }


def shown_of(board: Board, metric: str) -> set[tuple[str, ...]]:
    """Label values of the series of a gauge that are not zero; an empty label is none."""
    return {tuple(filter(None, key[1:])) for key, value in board.samples().items() if key[0] == metric and value}


def test_an_expected_date_that_no_sweep_has_opened_is_shown_until_it_has_a_record() -> None:
    board = Board()
    board.rig.store.set_last_opened(NIGHT - 2 * DAY)
    board.engine.apply(NIGHT - DAY, success(CACHE))
    before = shown_of(board, "mlfs_date_unopened")

    board.engine.apply(NIGHT, success(CACHE))

    assert ({(NIGHT.isoformat(),)}, set()) == (before, shown_of(board, "mlfs_date_unopened"))


def test_a_processor_that_failed_is_shown_until_its_success_and_is_not_called_missing() -> None:
    board = Board()
    board.engine.apply(NIGHT, failure(CACHE))
    day = NIGHT.isoformat()
    assert {(day, CACHE)} == shown_of(board, "mlfs_date_processor_failed")
    assert {(day, name) for name in PROCESSORS if name != CACHE} == shown_of(board, "mlfs_date_processor_missing")

    board.engine.apply(NIGHT, success(CACHE, run="2"))

    assert set() == shown_of(board, "mlfs_date_processor_failed")


def test_an_optional_processor_is_marked_for_the_alerts() -> None:
    board = Board(optional=frozenset({SHOTS}))
    board.engine.apply(NIGHT, failure(CACHE))

    missing = shown_of(board, "mlfs_date_processor_missing")

    assert {"yes"} == {label for labels in missing if SHOTS in labels for label in labels} - {NIGHT.isoformat(), SHOTS}
    assert all("yes" not in labels for labels in missing if SHOTS not in labels)


@pytest.mark.parametrize("events", [[CANCEL], [probed(without(CACHE)), claimed(), committed(state=State.DEGRADED)]])
def test_no_processor_is_missing_where_nobody_waits_for_it(events: Sequence[Event]) -> None:
    board = Board()
    board.engine.apply(NIGHT, success(SHOTS))
    assert shown_of(board, "mlfs_date_processor_missing")
    board.clock.instant = DEADLINE

    for event in events:
        board.engine.apply(NIGHT, event)

    assert set() == shown_of(board, "mlfs_date_processor_missing")


def test_findings_that_ask_somebody_to_act_are_shown_by_date_and_check() -> None:
    board = Board()
    found = findings_of(
        (Check.SHIFTED, FindingSeverity.CRITICAL),
        (Check.SHIFTED, FindingSeverity.CRITICAL),
        (Check.SHIFTED, FindingSeverity.WARNING),
        (Check.CLAIMED_ROWS_DIFFER, FindingSeverity.NOTE),
    )
    for event in (*(success(name) for name in PROCESSORS), claimed(), committed(findings=found), REPLAY):
        board.engine.apply(NIGHT, event)

    day, shown = NIGHT.isoformat(), board.samples()
    assert {(day, "shifted", "critical"), (day, "shifted", "warning")} == shown_of(board, "mlfs_date_findings")
    assert (2, 40) == (
        shown["mlfs_date_findings", day, "shifted", "critical"],
        shown["mlfs_date_quality_component", day, "phase4_availability"],
    )


def test_the_thresholds_of_the_components_are_those_of_the_pipeline() -> None:
    shown = {key[1:]: value for key, value in Board().samples().items() if "_threshold" in key[0]}

    levels = (("warning", WARNING_BELOW), ("critical", CRITICAL_BELOW))
    assert {(name, level): points for level, of in levels for name, points in of.items()} == shown


def test_each_finding_of_a_build_is_counted_and_the_first_of_each_kind_is_seen() -> None:
    board = Board()
    series = {(check, severity): 0.0 for check in Check for severity in FindingSeverity}
    assert series == {key[1:]: value for key, value in board.samples().items() if key[0] == "mlfs_findings_total"}

    board.metrics.note(
        BuildScored(scored((Check.SHIFTED, FindingSeverity.WARNING), (Check.CONSTANT, FindingSeverity.NOTE)))
    )

    assert {("shifted", "warning"), ("constant", "note")} == shown_of(board, "mlfs_findings_total")


def scored(*found: tuple[str, FindingSeverity]) -> BuildOutcome:
    """A refused build without rows, and with findings."""
    stats = BuildStats(
        analysis_date=NIGHT,
        row_count=0,
        dependency_rows=NO_ROWS,
        blocks={},
        required_nulls=0,
        newest_source_date=None,
        left_out_count=0,
    )
    report = judged(score(stats, BuildMode.NORMAL), Judgement(findings=findings_of(*found)))
    request = BuildRequest(
        key=BuildKey(analysis_date=NIGHT, generation=1, attempt=1),
        mode=BuildMode.NORMAL,
        trigger="join",
        phase3_lookback_days=30,
        as_of=None,
        started_at=EVENING,
        claimant="a",
    )
    return BuildOutcome(
        request=request,
        stats=stats,
        report=report,
        published=False,
        failure=FailureKind.NO_DATA,
        message="no rows",
        finished_at=EVENING,
    )


def test_what_happens_around_the_dates_is_counted() -> None:
    board = Board()
    board.metrics.note(MessageParked(reason="not_json", detail="why"))
    board.metrics.note(CallbackFailed())
    board.metrics.note(BuildEnded(mode="normal", result="fenced", seconds=1.0))
    board.metrics.note(PhaseEnded(phase=BuildPhase.STAGE, seconds=2.0))
    board.metrics.note(OutcomeRelayed(message=message(), confirmed=True))
    board.metrics.note(OutcomeRelayed(message=message(), confirmed=False))
    board.metrics.loop_failed("relay", Unavailable("why"))
    board.metrics.loop_failed("relay", KeyError("why"))
    board.metrics.stream(up=True)

    shown = board.samples()
    assert [1.0] * 9 == [
        shown["mlfs_build_phase_seconds_count", "stage"],
        shown["mlfs_dead_lettered_total", "not_json"],
        shown["mlfs_callback_exceptions_total",],
        shown["mlfs_fence_rejections_total",],
        shown["mlfs_publish_total", "confirmed"],
        shown["mlfs_publish_total", "failed"],
        shown["mlfs_loop_errors_total", "Unavailable", "relay"],
        shown["mlfs_loop_errors_total", "unexpected", "relay"],
        shown["mlfs_stream_up",],
    ]


def test_signs_of_life_are_timestamps() -> None:
    board = Board()
    assert board.samples()["mlfs_last_message_timestamp_seconds",] == 0
    board.metrics.ticked(DEADLINE)
    board.metrics.note(Received(outcome="recorded", processor=CACHE, seconds=0.001))

    shown = board.samples()
    assert DEADLINE.timestamp() == shown["mlfs_tick_last_timestamp_seconds",]
    assert shown["mlfs_last_message_timestamp_seconds",] > DEADLINE.timestamp()


def test_a_store_that_answers_and_takes_no_commit_is_not_up_and_still_shown() -> None:
    board = Board(ReadOnlyStore())

    assert (0.0, 0.0) == (board.samples()[("mlfs_state_store_up",)], board.samples()[("mlfs_outbox_pending",)])


def test_a_store_that_hangs_is_not_up_and_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Bounded.__init__.__kwdefaults__, "patience_s", 0.05)
    store = HangingStore()
    board = Board(store)

    samples = [board.samples() for _ in range(3)]
    store.thawed.set()

    assert [0.0] * 3 == [shown[("mlfs_state_store_up",)] for shown in samples]
    assert ("mlfs_date_expected_today",) in samples[0]
    assert store.calls == 1


def test_damage_is_counted_and_what_cannot_be_shown_hides_nothing_else() -> None:
    samples = Board(DamagedStore()).samples()

    assert (2.0, 0.0, 1.0) == (
        samples[("mlfs_store_damage_total", "wake")],
        samples[("mlfs_store_damage_total", "outbox")],
        samples[("mlfs_state_store_up",)],
    )
    assert ("mlfs_corrupt_records",) in samples
    assert ("mlfs_outbox_pending",) not in samples
