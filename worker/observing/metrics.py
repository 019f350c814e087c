"""Counters and histograms of this process; docs/metrics.md explains each metric, `date_metrics` has gauges of dates.

Labels are closed sets. Series used by alert rules, and series of a usual analysis date, are created with 0 at the
start. Otherwise `increase()` and `rate()` miss the first increment, often the only increment for an analysis date. A
crash loses the counts; Prometheus sees a reset.
"""

import platform
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from schemas.completion import RefusalReason
from statemachine.events import CompletionReceived, TimerFired
from statemachine.model import PUBLISHED_STATES, BuildMode, FindingSeverity, State
from statemachine.reasons import Reason
from statemachine.table import TRANSITIONS
from worker import package_version
from worker.calendar import Calendar
from worker.errors import PipelineError
from worker.features.findings import Check, FindingPolicy
from worker.features.model import BuildPhase
from worker.observing.date_metrics import DateCollector, OutlookFigures, OutlookGauges
from worker.observing.observer import (
    ArrivalsWritten,
    BuildEnded,
    BuildScored,
    CallbackFailed,
    DeadLetterTopicChecked,
    Decided,
    MessageParked,
    Notice,
    OutcomeRelayed,
    PhaseEnded,
    PullingPaused,
    Received,
    SchemaChecked,
    StreamOpened,
    StreamProbed,
    StreamRecycled,
)
from worker.ports import Clock, StateStore

# Outcomes of deliveries of a usual analysis date. The series of other outcomes begin with the first increment.
USUAL_OUTCOMES = (Reason.RECORDED, Reason.JOIN_COMPLETE, Reason.UPGRADE_STARTED, Reason.DUPLICATE)
BUILD_RESULTS = (
    "done",
    "degraded",
    "adopted",
    "fenced",
    "unavailable",
    "fatal",
    "gate_refused",
    "no_data",
    "no_roster",
)
STREAM_SYMPTOMS = ("silent", "reopening", "ended")
LOOPS = ("sweep", "relay", "schema", "build", "arrivals")
# Bugs and damage. Outages end without a repair and have separate alerts.
LOOP_ERRORS_WATCHED = ("CorruptRecord", "InvariantBroken", "unexpected")
_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_BUILD = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 1500.0, 1800.0, 3600.0)
_PHASE = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0, 1500.0)
_LAG = (0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 40.0, 120.0, 600.0)


def moves() -> set[tuple[State, State, Reason]]:
    """Return every (from, to, reason) of the transition table with a change of the state."""
    return {
        (before, after, reason)
        for before, by_event in TRANSITIONS.items()
        for outcomes in by_event.values()
        for reason, after in outcomes.items()
        if after is not before
    }


# A `_created` series beside every counter would double the number of series without use.
disable_created_metrics()


class _CounterReader(Collector):
    """Collector of counters kept in modules below this module."""

    def __init__(self, lines_dropped: Callable[[], int], store_restarts: Callable[[], int]) -> None:
        self._lines_dropped = lines_dropped
        self._store_restarts = store_restarts

    def collect(self) -> Iterable[Metric]:
        """Return a sample for each counter."""
        dropped = "Log lines dropped because their reader did not take them."
        yield CounterMetricFamily("mlfs_log_lines_dropped", dropped, self._lines_dropped())
        restarts = "Restarts of the embedded state store after it died."
        yield CounterMetricFamily("mlfs_state_store_restarts", restarts, self._store_restarts())


class _CanaryCollector(Collector):
    """Collector of the ages of the canary's steps; no call leaves the process."""

    def __init__(self, ages: Callable[[], Mapping[str, float]]) -> None:
        self._ages = ages

    def collect(self) -> Iterable[Metric]:
        """Return the age of the last finished journey, and the age of each step."""
        ages = self._ages()
        steps = "Seconds since a step of the canary was last taken."
        family = GaugeMetricFamily("mlfs_canary_step_age_seconds", steps, labels=["step"])
        for step, age in ages.items():
            family.add_metric([step], age)
        yield family
        text = "Seconds since a journey of the canary last ended."
        yield GaugeMetricFamily("mlfs_canary_age_seconds", text, list(ages.values())[-1])


class Metrics:
    """Counters and histograms of the process, fed as an observer."""

    def __init__(self, processors: Sequence[str]) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self._processors = frozenset(processors)
        ProcessCollector(registry=registry)
        build_info = Info("mlfs_build", "Version of the running worker.", registry=registry)
        build_info.info({"version": package_version(), "python": platform.python_version()})
        self._events = Counter(
            "mlfs_events_total", "Deliveries by processor and outcome.", ["processor", "outcome"], registry=registry
        )
        self._handling = Histogram(
            "mlfs_handler_duration_seconds", "Delivery to verdict.", ["outcome"], registry=registry, buckets=_FAST
        )
        self._event_age = Histogram(
            "mlfs_event_age_seconds", "Completion to its record.", ["processor"], registry=registry, buckets=_LAG
        )
        self._transitions = Counter(
            "mlfs_transitions_total", "Stored changes of a state.", ["from", "to", "reason"], registry=registry
        )
        self._conflicts = Counter("mlfs_commit_conflicts_total", "Commits decided again.", registry=registry)
        self._deadline_lag = Histogram(
            "mlfs_deadline_lag_seconds", "Deadline to the decision about it.", registry=registry, buckets=_LAG
        )
        self._declare_work()
        self._declare_process()
        self._begin_at_zero()

    def _declare_work(self) -> None:
        registry = self.registry
        self._builds = Counter("mlfs_builds_total", "Builds by how they ended.", ["mode", "result"], registry=registry)
        self._build_seconds = Histogram(
            "mlfs_build_duration_seconds", "Claim to end.", ["mode", "result"], registry=registry, buckets=_BUILD
        )
        self._phase_seconds = Histogram(
            "mlfs_build_phase_seconds", "Where builds spend their time.", ["phase"], registry=registry, buckets=_PHASE
        )
        self._findings = Counter(
            "mlfs_findings_total", "Findings of scored builds.", ["check", "severity"], registry=registry
        )
        self._fenced = Counter("mlfs_fence_rejections_total", "Builds refused by the ledger.", registry=registry)
        self._published = Counter("mlfs_publish_total", "Outcomes published.", ["result"], registry=registry)
        self._arrivals = Counter(
            "mlfs_arrivals_written_total", "Arrivals that a pass of this worker recorded.", registry=registry
        )
        self._arrivals_waiting = Gauge(
            "mlfs_arrivals_waiting_seconds", "Since the oldest deadline with unwritten arrivals.", registry=registry
        )
        self._lineage = Counter("mlfs_openlineage_events_total", "Run events by fate.", ["result"], registry=registry)
        self._dead_letters_refused = Gauge(
            "mlfs_dead_letter_topic_refuses", "Whether the topic took no dead letter.", ["topic"], registry=registry
        )
        self._dead_lettered = Counter("mlfs_dead_lettered_total", "Messages parked.", ["reason"], registry=registry)

    def _declare_process(self) -> None:
        registry = self.registry
        self._callback_exceptions = Counter(
            "mlfs_callback_exceptions_total", "Callbacks that failed unexpectedly.", registry=registry
        )
        self._loop_errors = Counter(
            "mlfs_loop_errors_total", "Passes of a loop that failed.", ["loop", "kind"], registry=registry
        )
        self._auth_failures = Counter(
            "mlfs_auth_failures_total", "Callers that were not let in.", ["endpoint", "reason"], registry=registry
        )
        self._declare_stream()
        self._tick = Gauge("mlfs_tick_last_timestamp_seconds", "When the sweep last ran.", registry=registry)

    def _declare_stream(self) -> None:
        registry = self.registry
        self._stream_up = Gauge("mlfs_stream_up", "Whether the pull stream is open.", registry=registry)
        self._pulls = Gauge(
            "mlfs_stream_expected", "Whether this worker pulls, 0 where it is pushed to.", registry=registry
        )
        self._last_message = Gauge(
            "mlfs_last_message_timestamp_seconds", "When a message last came in.", registry=registry
        )
        self._schema_faults = Gauge(
            "mlfs_upstream_schema_faults", "What upstream tables lack for a build.", registry=registry
        )
        self._stream_openings = Counter(
            "mlfs_stream_openings_total", "Openings of the pull stream, the client's own included.", registry=registry
        )
        self._stream_recycles = Counter(
            "mlfs_stream_recycles_total", "Streams replaced on a new connection.", ["reason"], registry=registry
        )
        self._stream_probes = Counter(
            "mlfs_stream_probes_total", "Questions over the second connection.", ["answer"], registry=registry
        )
        self._paused = Gauge("mlfs_pulling_paused", "Whether nothing is pulled for want of a store.", registry=registry)
        self._stream_up.set(0)

    def _begin_at_zero(self) -> None:
        """Create the series used by alert rules and the dashboard, with 0."""
        self._begin_nights_at_zero()
        for reason in RefusalReason:
            self._dead_lettered.labels(reason)
        for phase in BuildPhase:
            self._phase_seconds.labels(phase)
        for result in ("confirmed", "failed"):
            self._published.labels(result)
        for symptom in STREAM_SYMPTOMS:
            self._stream_recycles.labels(symptom)
        for loop in LOOPS:
            for kind in LOOP_ERRORS_WATCHED:
                self._loop_errors.labels(loop, kind)
        for processor in (*sorted(self._processors), "other"):
            self._events.labels(processor, "quarantined")
        for outcome in ("refused", "raised", "not_parked"):
            self._events.labels("other", outcome)
        for fault in ("refused", "stranger"):
            self._auth_failures.labels("push", fault)

    def _begin_nights_at_zero(self) -> None:
        """Create the series of a usual analysis date, and of every possible change of a state, with 0."""
        for outcome in USUAL_OUTCOMES:
            self._handling.labels(outcome)
        for processor in sorted(self._processors):
            self._event_age.labels(processor)
            for outcome in USUAL_OUTCOMES:
                self._events.labels(processor, outcome)
        for before, after, reason in sorted(moves()):
            self._transitions.labels(before, after, reason)
        for mode in BuildMode:
            for result in BUILD_RESULTS:
                self._builds.labels(mode, result)
        for check in Check:
            for severity in FindingSeverity:
                self._findings.labels(check, severity)
        for state in sorted(PUBLISHED_STATES):
            self._build_seconds.labels(BuildMode.NORMAL, state)

    def show_dates(
        self,
        store: StateStore,
        clock: Clock,
        calendar: Callable[[], Calendar],
        policy: FindingPolicy,
        optional: Collection[str] = (),
    ) -> None:
        """Add the gauges read from store and calendar at each scrape, and the thresholds of *policy*.

        *optional* names the processors without which an analysis date is complete.
        """
        processors = sorted(self._processors)
        self.registry.register(DateCollector(store, clock, calendar, processors, policy, optional))

    def show_canary(self, ages: Callable[[], Mapping[str, float]]) -> None:
        """Add the gauges of the canary; *ages* returns the seconds by step, the last step at the end."""
        self.registry.register(_CanaryCollector(ages))

    def show_outlook(self) -> Callable[[OutlookFigures], None]:
        """Add the gauges of the outlook; return the function that replaces the figures."""
        gauges = OutlookGauges()
        self.registry.register(gauges)
        return gauges.show

    def show_process(self, *, lines_dropped: Callable[[], int], store_restarts: Callable[[], int]) -> None:
        """Add the counters of other modules, read at each scrape."""
        self.registry.register(_CounterReader(lines_dropped, store_restarts))

    def note(self, notice: Notice) -> None:  # noqa: C901, PLR0912 - one case for each notice
        """Count the notice."""
        match notice:
            case Decided():
                self._count_decision(notice)
            case Received():
                self._count_delivery(notice)
            case MessageParked(reason=reason):
                self._dead_lettered.labels(reason).inc()
            case DeadLetterTopicChecked(topic=topic, fault=fault):
                self._dead_letters_refused.labels(topic).set(0 if fault is None else 1)
            case BuildEnded(mode=mode, result=result, seconds=seconds):
                self._builds.labels(mode, result).inc()
                self._build_seconds.labels(mode, result).observe(seconds)
                if result == "fenced":
                    self._fenced.inc()
            case BuildScored(outcome=outcome):
                for finding in outcome.report.findings:
                    self._findings.labels(finding.check, finding.severity).inc()
            case PhaseEnded(phase=phase, seconds=seconds):
                self._phase_seconds.labels(phase).observe(seconds)
            case SchemaChecked(faults=faults):
                self._schema_faults.set(len(faults))
            case OutcomeRelayed(confirmed=confirmed):
                self._published.labels("confirmed" if confirmed else "failed").inc()
            case ArrivalsWritten(arrivals=arrivals, waiting_s=waiting_s):
                self._arrivals.inc(arrivals)
                self._arrivals_waiting.set(waiting_s)
            case CallbackFailed():
                self._callback_exceptions.inc()
            case StreamOpened(times=times):
                self._stream_openings.inc(times)
            case StreamRecycled(reason=reason):
                self._stream_recycles.labels(reason).inc()
            case StreamProbed(answer=answer):
                self._stream_probes.labels(answer).inc()
            case PullingPaused(paused=paused):
                self._paused.set(1 if paused else 0)

    def _count_decision(self, decided: Decided) -> None:
        self._conflicts.inc(decided.conflicts)
        before, decision = decided.before, decided.decision
        if isinstance(decided.event, CompletionReceived):
            completion = decided.event.completion
            age = (decided.at - completion.completed_at).total_seconds()
            self._event_age.labels(completion.processor).observe(max(age, 0.0))
        if decision.changed and not decided.routine:
            self._transitions.labels(before.state, decision.record.state, decision.reason).inc()
        if isinstance(decided.event, TimerFired) and decision.reason in {Reason.DEADLINE_PASSED, Reason.FOUND_ALL}:
            self._deadline_lag.observe(max((decided.at - before.deadline_at).total_seconds(), 0.0))

    def _count_delivery(self, received: Received) -> None:
        label = received.processor if received.processor in self._processors else "other"
        self._last_message.set_to_current_time()
        self._events.labels(label, received.outcome).inc()
        self._handling.labels(received.outcome).observe(received.seconds)

    def not_admitted(self, endpoint: str, reason: str) -> None:
        """Count one caller that was not let in."""
        self._auth_failures.labels(endpoint, reason).inc()

    def lineage_event(self, result: str) -> None:
        """Count one OpenLineage event: `sent`, `failed` or `dropped`."""
        self._lineage.labels(result).inc()

    def loop_failed(self, loop: str, error: Exception) -> None:
        """Count one failed pass of a loop."""
        kind = type(error).__name__ if isinstance(error, PipelineError) else "unexpected"
        self._loop_errors.labels(loop, kind).inc()

    def ticked(self, now: datetime) -> None:
        """Note that the sweep is alive."""
        self._tick.set(now.timestamp())

    def stream(self, up: bool) -> None:  # noqa: FBT001 - a gauge's value
        """Note whether the stream is open."""
        self._stream_up.set(1 if up else 0)

    def expects_stream(self, expected: bool) -> None:  # noqa: FBT001 - a gauge's value
        """Note whether this worker pulls at all."""
        self._pulls.set(1 if expected else 0)
