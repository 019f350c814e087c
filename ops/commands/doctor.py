"""`mlfs doctor`: checks settings, store, tables and bus before the evening.

Every check runs, also after a fault of another check. Without `--live` the checks only read. With `--live` the
permission tests write marked rows and roll back or remove the rows; a crash can leave marked rows behind.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from ops.arguments import EXIT_FAILED, EXIT_UNAVAILABLE, Json, reading_resources
from ops.output import out, show_json
from worker.adapters.redis.server import CLOCK_SKEW_MAX
from worker.canary import CANARY_DATE, CANARY_KEYS, EVERY, Step, instants_of
from worker.clock import SystemClock
from worker.errors import Denied, PipelineError, Unavailable
from worker.features.model import Statement
from worker.pipelines.shipped import PIPELINE
from worker.ports import Warehouse
from worker.resources import Resources, is_absent, open_warehouse
from worker.settings import Settings

# The same age as in the alert MlfsCanaryStopped.
CANARY_AGE_MAX = 3 * EVERY
CheckFunction = Callable[[], Sequence[str] | None]
SERVER = "state store keeps what it is told"
NO_WORKER_YET = "no worker has run in this folder yet; the first worker creates the state store: mlfs run"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOutcome:
    """Result of a check.

    Attributes:
        check: Assertion that was checked.
        faults: Faults, each with the repair.
        code: Exit code of the result.
        not_run: Reason why the check did not run; empty if the check ran.
    """

    check: str
    faults: Sequence[str] = field(default=())
    code: int = 0
    not_run: str = ""


def published_topics(settings: Settings) -> tuple[str, ...]:
    """Return the topics to which a worker, `mlfs dlq redrive` and `mlfs emit` publish."""
    return (settings.success_topic, settings.failure_topic, settings.dead_letter_topic, settings.topic)


def consumed_subscriptions(settings: Settings) -> tuple[str, ...]:
    """Return the subscriptions that a worker and `mlfs dlq` read."""
    return (settings.subscription, settings.dead_letter_subscription)


class DoctorChecks:
    """Checks of `mlfs doctor`; each resource is opened by the first check that needs the resource."""

    def __init__(self, resources: Resources, stack: ExitStack) -> None:
        self._resources = resources
        self._stack = stack

    @cached_property
    def warehouse(self) -> Warehouse:
        """Warehouse as found: no table is created."""
        warehouse = open_warehouse(self._resources.settings)
        self._stack.callback(warehouse.close)
        return warehouse

    def store_checks(self) -> Mapping[str, CheckFunction]:
        """Return the checks of the state store, by assertion."""
        return {
            "state store lets this account do what a worker does": self.rights,
            SERVER: self.store,
            "everything in the state store can be read": self.stored,
            "clocks of this machine and of the store agree": self.clock,
        }

    def store(self) -> Sequence[str]:
        """Check role, memory policy, version, persistence and replicas of the server."""
        return self._resources.store.server_faults()

    def rights(self) -> Sequence[str]:
        """Return the commands and keys that a worker needs and the server denies to this account."""
        return self._resources.store.missing_rights()

    def stored(self) -> Sequence[str]:
        """Return the entries of the state store that are unreadable or contradict the records."""
        return [f"{fault}; to set the entry aside: mlfs recover" for fault in self._resources.store.faults()]

    def clock(self) -> Sequence[str]:
        """Compare the clock of this machine with the clock of the store."""
        skew = self._resources.store.clock_skew(SystemClock().now)
        if abs(skew) <= CLOCK_SKEW_MAX:
            return ()
        return (f"the store's clock is {skew.total_seconds():+.1f} s from this machine's; set both by NTP",)

    def upstream(self) -> Sequence[str]:
        """Check the tables and columns that a build reads."""
        from worker.builds.upstream import upstream_faults

        return upstream_faults(self.warehouse)

    def own_tables(self) -> Sequence[str]:
        """Compare the tables that a worker writes with the DDL."""
        from worker.pipelines.sql_checks import declared_columns, shown_columns

        faults: list[str] = []
        pipeline = self.warehouse.pipeline
        found = self.warehouse.columns_of(pipeline.tables.all)
        for table, actual in found.items():
            if not actual:
                faults.append(f"table {table} does not exist; a worker creates the table: mlfs run")
                continue
            ddl = pipeline.ddl_of(table)
            declared = declared_columns(ddl)
            missing = sorted((declared.keys() | shown_columns(ddl).keys()) - actual.keys())
            faults += [f"{table} has no column {name}; a worker adds the column: mlfs run" for name in missing]
            faults += [
                f"{table}.{name} is {actual[name]}, not {column.type}; rename the table"
                for name, column in declared.items()
                if name in actual and actual[name] != column.type
            ]
        return [*faults, *self._doubled_claims()] if found[pipeline.tables.ledger] else faults

    def _doubled_claims(self) -> Sequence[str]:
        pipeline = self.warehouse.pipeline
        doubled = self.warehouse.query(Statement(name="doubled_claims", sql=pipeline.text("doubled_claims")))
        return [
            f"{row['analysis_date']} has {row['row_count']} rows in {pipeline.tables.ledger}: readers see each build "
            "once, and each generation is published once; delete the row with the older claim"
            for row in doubled
        ]

    @cached_property
    def canary_ages(self) -> Mapping[Step, timedelta]:
        """Age of each step of the canary that the state store knows; empty before the first journey."""
        resources = self._resources
        record, now = resources.store.apart(CANARY_KEYS).load(CANARY_DATE), resources.clock.now()
        return {} if record is None else {step: now - at for step, at in instants_of(record).items()}

    def canary(self) -> Sequence[str]:
        """Check the age of the last finished journey of the canary."""
        if self.canary_ages.get(Step.BUILT, timedelta.max) <= CANARY_AGE_MAX:
            return ()
        return ("which step stops: docs/runbook.md, MlfsCanaryStopped",)

    def bus(self) -> Sequence[str]:
        """Check topics, subscriptions and the forwarding of dead letters."""
        from worker.adapters.pubsub.unary import BusLook

        settings = self._resources.settings
        if is_absent(settings.pubsub):
            return ()  # a process that opens an embedded bus creates all topics and subscriptions
        look = BusLook(settings.pubsub_project, self._resources.bus_address)
        self._stack.callback(look.close)
        subscriptions = {
            settings.subscription: settings.topic,
            settings.dead_letter_subscription: settings.dead_letter_topic,
        }
        wiring = {settings.subscription: settings.dead_letter_topic}
        return [*look.missing_topics(published_topics(settings)), *look.subscription_faults(subscriptions, wiring)]

    def bus_permissions(self) -> Sequence[str]:
        """Return the permissions on the bus that Google denies to this account."""
        from worker.adapters.pubsub.unary import BusLook

        settings = self._resources.settings
        look = BusLook(settings.pubsub_project, None)
        self._stack.callback(look.close)
        return look.denied(published_topics(settings), consumed_subscriptions(settings))


def doctor(
    live: Annotated[
        bool, typer.Option("--live", help="Also test permissions at Google; written rows are rolled back or removed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check settings, store, tables and bus, and list all faults at once.

    With --live the command also runs the document's four cross-dataset tests with the account of the builds, and tests
    the permissions on the bus. A test of a resource outside Google is reported as not run.

    Exit codes: 0 no fault, 1 a fault, 2 wrong settings, 4 a resource does not answer.

    Examples:
      mlfs doctor
      mlfs doctor --json
      mlfs doctor --live
    """
    with reading_resources() as resources, ExitStack() as stack:
        checks = DoctorChecks(resources, stack)
        outcomes = [*_outcomes(resources, checks), *_live(resources, checks, wanted=live)]
    if as_json:
        show_json([_answer(outcome) for outcome in outcomes])
    else:
        for outcome in outcomes:
            mark = "not run" if outcome.not_run else "FAULT  " if outcome.faults else "ok     "
            out.print(f"{mark}  {outcome.check}" + (f": {outcome.not_run}" if outcome.not_run else ""), markup=False)
            for fault in outcome.faults:
                out.print(f"         {fault}", markup=False, soft_wrap=True)
    raise typer.Exit(max(outcome.code for outcome in outcomes))


def _outcomes(resources: Resources, checks: DoctorChecks) -> Iterator[CheckOutcome]:
    settings = resources.settings
    yield CheckOutcome(check="settings are valid")
    for name, check in checks.store_checks().items():
        yield CheckOutcome(check=name, not_run=NO_WORKER_YET) if is_absent(settings.redis_url) else _run(name, check)
    yield _run("upstream tables have the columns a build reads", checks.upstream)
    yield _run("tables the worker writes are in place", checks.own_tables)
    yield _run(f"topics and subscriptions of {settings.pubsub_project} are in place", checks.bus)
    if settings.canary and not is_absent(settings.redis_url):
        outcome = _run("a canary came through in the last 15 minutes", checks.canary)
        # A store that does not answer is the fault of the outcome, and leaves no ages.
        known: Mapping[Step, timedelta] = vars(checks).get("canary_ages", {})
        ages = ", ".join(f"{step} {age.total_seconds():.0f} s ago" for step, age in known.items())
        yield replace(outcome, check=f"{outcome.check} ({ages or 'no journey is stored'})")


def _live(resources: Resources, checks: DoctorChecks, *, wanted: bool) -> Iterator[CheckOutcome]:
    """Run the tests at Google; for a test that does not run, yield the reason."""
    settings = resources.settings
    in_bigquery = urlsplit(settings.warehouse).scheme == "bigquery"
    datasets = "cross-dataset permissions"
    if not wanted or not in_bigquery:
        yield CheckOutcome(
            check=datasets, not_run="only with --live" if not wanted else "the warehouse is not BigQuery"
        )
    elif settings.definition.name != PIPELINE:
        yield CheckOutcome(check=datasets, not_run=f"the document's tests read tables of {PIPELINE}")
    else:
        yield from _permission_tests(resources)
    bus = "permissions on topics and subscriptions"
    if not wanted or settings.pubsub != "google":
        yield CheckOutcome(check=bus, not_run="only with --live" if not wanted else "the bus is not Google's")
    else:
        yield _run(bus, checks.bus_permissions)


def _permission_tests(resources: Resources) -> Iterator[CheckOutcome]:
    from worker.adapters.bigquery.jobs import connect
    from worker.adapters.bigquery.permissions import PermissionTests

    settings = resources.settings
    where = f" (at {settings.bigquery_endpoint}, which is not Google)" if settings.bigquery_endpoint else ""
    try:
        client = connect(settings.warehouse, settings.bigquery_endpoint)
    except PipelineError as exc:
        yield CheckOutcome(check="signing in to BigQuery", faults=[str(exc)], code=EXIT_FAILED)
        return
    day = settings.calendar.league_day(SystemClock().now())
    mark = f"mlfs_doctor_{uuid.uuid4().hex[:12]}"
    tests = PermissionTests(client, day, mark)
    for name, test in tests.tests().items():
        yield _run(name + where, test)
    yield _run("remove what was written" + where, tests.remove)
    client.close()


def _run(name: str, check: CheckFunction) -> CheckOutcome:
    """Run a check; report an exception as a fault, so that the other checks still run."""
    try:
        faults = list(check() or ())
    except PipelineError as exc:
        denied = isinstance(exc, Denied)
        if denied and name == SERVER:
            # A managed server denies the questions about the server; the denial is no fault.
            return CheckOutcome(check=name, not_run=str(exc))
        code = EXIT_UNAVAILABLE if isinstance(exc, Unavailable) and not denied else EXIT_FAILED
        return CheckOutcome(check=name, faults=[str(exc)], code=code)
    return CheckOutcome(check=name, faults=faults, code=EXIT_FAILED if faults else 0)


def _answer(outcome: CheckOutcome) -> dict[str, Any]:
    ok = None if outcome.not_run else not outcome.faults
    return {"check": outcome.check, "ok": ok, "faults": list(outcome.faults), "not_run": outcome.not_run or None}
