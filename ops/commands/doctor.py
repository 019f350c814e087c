"""`mlfs doctor`: looks at everything a night needs before the night does. Changes nothing it does not remove again."""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from ops.arguments import EXIT_FAILED, EXIT_UNAVAILABLE, Json, reading_parts
from ops.output import out, show_json
from worker.adapters.redis.server import CLOCK_SKEW_MAX
from worker.clock import SystemClock
from worker.errors import Denied, PipelineError, Unavailable
from worker.features.model import Statement
from worker.pipelines.shipped import PIPELINE
from worker.ports import Warehouse
from worker.resources import Resources, is_absent, open_warehouse
from worker.settings import Settings

CheckFunction = Callable[[], Sequence[str]]
SERVER = "state store keeps what it is told"
NO_WORKER_YET = "no worker has run in this folder yet; the first makes this part: mlfs run"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOutcome:
    """One check and how it came out.

    Attributes:
        check: What was looked at.
        faults: What is wrong, each naming what to repair.
        code: The exit code that means.
        not_run: Why it was not made; empty where it was.
    """

    check: str
    faults: Sequence[str] = field(default=())
    code: int = 0
    not_run: str = ""


def published_topics(settings: Settings) -> tuple[str, ...]:
    """Name the topics that a worker publishes to, and the one that `mlfs dlq redrive` and `mlfs emit` publish to."""
    return (settings.success_topic, settings.failure_topic, settings.dead_letter_topic, settings.topic)


def consumed_subscriptions(settings: Settings) -> tuple[str, ...]:
    """Name the subscription that a worker reads, and the one that `mlfs dlq` reads."""
    return (settings.subscription, settings.dead_letter_subscription)


class DoctorChecks:
    """What is looked at; each part is opened when it is first asked for."""

    def __init__(self, parts: Resources, stack: ExitStack) -> None:
        self._parts = parts
        self._stack = stack
        self._warehouse: Warehouse | None = None

    @property
    def warehouse(self) -> Warehouse:
        """As it is: a look makes no tables."""
        if self._warehouse is None:
            self._warehouse = open_warehouse(self._parts.settings)
            self._stack.callback(self._warehouse.close)
        return self._warehouse

    def store_checks(self) -> Mapping[str, CheckFunction]:
        """Return the checks of the state store by what they assert."""
        return {
            "state store lets this account do what a worker does": self.rights,
            SERVER: self.store,
            "everything in the state store can be read": self.stored,
            "clocks of this machine and of the store agree": self.clock,
        }

    def store(self) -> Sequence[str]:
        """Role, memory policy, version, persistence, replicas."""
        return self._parts.store.server_faults()

    def rights(self) -> Sequence[str]:
        """Commands and keys that a worker needs and this account is denied."""
        return self._parts.store.missing_rights()

    def stored(self) -> Sequence[str]:
        """What the state store holds and nobody can read, or contradicts the records."""
        return [f"{fault}; set aside, and mended: mlfs recover" for fault in self._parts.store.faults()]

    def clock(self) -> Sequence[str]:
        """This machine's clock against the store's."""
        skew = self._parts.store.clock_skew(SystemClock().now)
        if abs(skew) <= CLOCK_SKEW_MAX:
            return ()
        return (f"the store's clock is {skew.total_seconds():+.1f} s from this machine's; set both by NTP",)

    def upstream(self) -> Sequence[str]:
        """The tables and columns that a build reads."""
        from worker.builds.upstream import upstream_faults

        return upstream_faults(self.warehouse)

    def own_tables(self) -> Sequence[str]:
        """The tables that a worker writes, against their DDL."""
        from worker.pipelines.sql_checks import declared_columns, shown_columns

        faults: list[str] = []
        pipeline = self.warehouse.pipeline
        found = self.warehouse.columns_of(pipeline.tables.all)
        for table, actual in found.items():
            if not actual:
                faults.append(f"table {table} does not exist; a worker makes it at its start: mlfs run")
                continue
            ddl = pipeline.ddl_of(table)
            declared = declared_columns(ddl)
            missing = sorted((declared.keys() | shown_columns(ddl).keys()) - actual.keys())
            faults += [f"{table} has no column {name}; a worker adds it at its start: mlfs run" for name in missing]
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
            "once, and one generation is published once; delete the row with the older claim"
            for row in doubled
        ]

    def bus(self) -> Sequence[str]:
        """Topics, subscriptions and the way of dead letters."""
        from worker.adapters.pubsub.unary import BusLook

        settings = self._parts.settings
        if is_absent(settings.pubsub):
            return ()  # a process that opens an embedded bus makes all topics and subscriptions
        look = BusLook(settings.pubsub_project, self._parts.bus_address)
        self._stack.callback(look.close)
        topics = (settings.topic, settings.success_topic, settings.failure_topic, settings.dead_letter_topic)
        subscriptions = {
            settings.subscription: settings.topic,
            settings.dead_letter_subscription: settings.dead_letter_topic,
        }
        wiring = {settings.subscription: settings.dead_letter_topic}
        return [*look.missing_topics(topics), *look.subscription_faults(subscriptions, wiring)]

    def bus_permissions(self) -> Sequence[str]:
        """What this account may do on the bus, as Google says."""
        from worker.adapters.pubsub.unary import BusLook

        settings = self._parts.settings
        look = BusLook(settings.pubsub_project, None)
        self._stack.callback(look.close)
        return look.denied(published_topics(settings), consumed_subscriptions(settings))


def doctor(
    live: Annotated[
        bool, typer.Option("--live", help="Also test permissions at Google; what is written is rolled back or removed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check what a night needs, and name everything that is wrong at once.

    With --live also the document's four cross-dataset tests, as the account that builds, and its permissions on the
    bus; what does not lie at Google is reported as not run.

    Exit codes: 0 nothing is wrong, 1 something is, 2 the settings are, 4 something did not answer.

    Examples:
      mlfs doctor
      mlfs doctor --json
      mlfs doctor --live
    """
    with reading_parts() as parts, ExitStack() as stack:
        patient = DoctorChecks(parts, stack)
        looks = [*_looks(parts, patient), *_live(parts, patient, wanted=live)]
    if as_json:
        show_json([_answer(found) for found in looks])
    else:
        for found in looks:
            mark = "not run" if found.not_run else "FAULT  " if found.faults else "ok     "
            out.print(f"{mark}  {found.check}" + (f": {found.not_run}" if found.not_run else ""), markup=False)
            for fault in found.faults:
                out.print(f"         {fault}", markup=False, soft_wrap=True)
    raise typer.Exit(max(found.code for found in looks))


def _looks(parts: Resources, patient: DoctorChecks) -> Iterator[CheckOutcome]:
    settings = parts.settings
    yield CheckOutcome(check="settings are valid")
    for check, look in patient.store_checks().items():
        yield CheckOutcome(check=check, not_run=NO_WORKER_YET) if is_absent(settings.redis_url) else _look(check, look)
    yield _look("upstream tables have the columns a build reads", patient.upstream)
    yield _look("tables the worker writes are in place", patient.own_tables)
    yield _look(f"topics and subscriptions of {settings.pubsub_project} are in place", patient.bus)


def _live(parts: Resources, patient: DoctorChecks, *, wanted: bool) -> Iterator[CheckOutcome]:
    """Make the tests that need Google, or say of each why it was not made."""
    settings = parts.settings
    in_bigquery = urlsplit(settings.warehouse).scheme == "bigquery"
    datasets = "cross-dataset permissions"
    if not wanted or not in_bigquery:
        yield CheckOutcome(
            check=datasets, not_run="only with --live" if not wanted else "the warehouse is not BigQuery"
        )
    elif settings.definition.name != PIPELINE:
        yield CheckOutcome(check=datasets, not_run=f"the document's tests read tables of {PIPELINE}")
    else:
        yield from _permission_tests(parts)
    bus = "permissions on topics and subscriptions"
    if not wanted or settings.pubsub != "google":
        yield CheckOutcome(check=bus, not_run="only with --live" if not wanted else "the bus is not Google's")
    else:
        yield _look(bus, patient.bus_permissions)


def _permission_tests(parts: Resources) -> Iterator[CheckOutcome]:
    from worker.adapters.bigquery.jobs import connect
    from worker.adapters.bigquery.permissions import PermissionTests

    settings = parts.settings
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
        yield _look(name + where, _as_look(test))
    yield _look("remove what was written" + where, _as_look(tests.remove))
    client.close()


def _as_look(test: Callable[[], None]) -> CheckFunction:
    def look() -> Sequence[str]:
        test()
        return ()

    return look


def _look(check: str, look: CheckFunction) -> CheckOutcome:
    """Make one check; one that cannot look must not hide the others."""
    try:
        faults = list(look())
    except Denied as exc:
        if check == SERVER:
            # A managed server does not let an account ask; that is no fault.
            return CheckOutcome(check=check, not_run=str(exc))
        return CheckOutcome(check=check, faults=[str(exc)], code=EXIT_FAILED)
    except Unavailable as exc:
        return CheckOutcome(check=check, faults=[str(exc)], code=EXIT_UNAVAILABLE)
    except PipelineError as exc:
        return CheckOutcome(check=check, faults=[str(exc)], code=EXIT_FAILED)
    return CheckOutcome(check=check, faults=faults, code=EXIT_FAILED if faults else 0)


def _answer(found: CheckOutcome) -> dict[str, Any]:
    ok = None if found.not_run else not found.faults
    return {"check": found.check, "ok": ok, "faults": list(found.faults), "not_run": found.not_run or None}
