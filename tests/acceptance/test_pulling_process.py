"""`mlfs run` on a bus of its own process: it leaves in time without losing a report, and ends when it is deaf."""

import os
import signal
import threading
from collections.abc import Sequence

import pytest
import redis

from tests.chaos.sent import Report, reports
from tests.support.buses import take_waiting
from tests.support.programs import Program, RunningWorker
from worker.adapters.pubsub.connection import publisher_client
from worker.local.ownership import read_address
from worker.local.pubsub.faults import FaultHooks, FaultPlan, PlannedFaults
from worker.local.pubsub.model import LeasedMessage
from worker.local.pubsub.server import PubSubServer
from worker.resources import ProcessKind, Resources
from worker.settings import load

SUBSCRIPTION = "projects/nba-props-platform/subscriptions/ml-feature-store-worker"
TOPIC = "projects/nba-props-platform/topics/phase4-processor-success"
ANSWER_S = 10.0
# What Kubernetes and Cloud Run leave of their ten seconds.
LEAVE_WITHIN_S = 8.0


class Sent(FaultHooks):
    """Nothing goes wrong, and it is known when the first message leaves for the worker."""

    def __init__(self) -> None:
        self.to_worker = threading.Event()

    def on_deliver(self, subscription: str, deliveries: Sequence[LeasedMessage]) -> Sequence[LeasedMessage]:
        if subscription == SUBSCRIPTION and deliveries:
            self.to_worker.set()
        return deliveries


def worker_on(server: PubSubServer, tmp_path, wait_until, **environment: str) -> RunningWorker:
    program = Program(
        tmp_path / "data", {"MLFS_HTTP_PORT": "0", "MLFS_PUBSUB": f"emulator://{server.address}", **environment}
    )
    worker = program.launch(tmp_path / "worker.log")
    wait_until(lambda: worker.address() or worker.process.poll() is not None, "the worker starts", timeout_s=30.0)
    assert worker.address(), worker.log_path.read_text(encoding="utf-8")
    return worker


def publish(server: PubSubServer, told: list[Report], stop: threading.Event | None = None) -> list[Report]:
    """Publish until told to stop; give what was confirmed."""
    client = publisher_client(server.address)
    confirmed = []
    try:
        for report in told:
            if stop is not None and stop.is_set():
                break
            client.publish(TOPIC, report.body).result(ANSWER_S)
            confirmed.append(report)
    finally:
        client.stop()
        client.transport.close()
    return confirmed


def stored_rows(tmp_path) -> set[tuple[object, str, int | None]]:
    """Date, processor and row count of every completion in the store of a worker that has left."""
    settings = load(environment={}, data_dir=tmp_path / "data")
    with Resources(settings, ProcessKind.COMMAND) as parts:
        records = [parts.store.load(day) for day in parts.store.dates(10_000)]
    return {
        (record.analysis_date, name, completion.row_count)
        for record in records
        if record is not None
        for name, completion in record.completions.items()
    }


def pid_of_valkey(tmp_path) -> int:
    """The server that the worker started."""
    with redis.Redis.from_url(valkey_url(tmp_path)) as client:
        return int(client.info("server")["process_id"])


def valkey_url(tmp_path) -> str:
    address = read_address(tmp_path / "data" / "valkey")
    assert address is not None
    return address


def waiting(tmp_path) -> set[bytes]:
    """The messages nobody acknowledged, from the journal of a server that has stopped, so that none is leased."""
    with PubSubServer(tmp_path / "journal.sqlite") as server:
        return set(take_waiting(server.address, SUBSCRIPTION))


def test_a_worker_under_load_leaves_in_time_and_every_report_is_stored_or_still_waits(tmp_path, wait_until):
    told = [report for report in reports(30_000) if report.run == 0]
    with PubSubServer(tmp_path / "journal.sqlite") as server:
        worker = worker_on(server, tmp_path, wait_until)
        stop, confirmed = threading.Event(), []
        publishing = threading.Thread(target=lambda: confirmed.extend(publish(server, told, stop)))
        publishing.start()
        wait_until(lambda: sum(line["message"] == "decision" for line in worker.log_lines()) > 200, "it is busy")

        worker.process.terminate()
        code = worker.process.wait(LEAVE_WITHIN_S)

        stop.set()
        publishing.join()
    assert code == 0, worker.log_path.read_text(encoding="utf-8")[-3000:]
    rest, stored = waiting(tmp_path), stored_rows(tmp_path)
    acknowledged = [report for report in confirmed if report.body not in rest]
    assert len(acknowledged) > 100
    assert rest, "it left too late to show anything"
    assert {(report.analysis_date, report.processor, report.rows) for report in acknowledged} <= stored


def test_a_worker_whose_store_hangs_leaves_in_time_too_and_loses_nothing(tmp_path, wait_until):
    """What it had in hand comes again; where the store lets nothing end in order, the process breaks off in time."""
    told, sent = [report for report in reports(300) if report.run == 0], Sent()
    with PubSubServer(tmp_path / "journal.sqlite", faults=sent) as server:
        worker = worker_on(server, tmp_path, wait_until)
        store = pid_of_valkey(tmp_path)
        os.kill(store, signal.SIGSTOP)
        publish(server, told)
        wait_until(sent.to_worker.is_set, "the worker has reports in hand")
        worker.process.terminate()
        code = worker.process.wait(LEAVE_WITHIN_S)
    with pytest.raises(redis.ConnectionError), redis.Redis.from_url(valkey_url(tmp_path)) as client:
        client.ping()
    assert (worker.log_lines()[-1]["message"], code) in {("stop_broken_off", 4), ("worker_stopped", 0)}
    assert waiting(tmp_path) == {report.body for report in told}


def test_a_worker_that_stays_deaf_ends_with_code_four_and_says_so(tmp_path, wait_until):
    told = [report for report in reports(100) if report.run == 0][:10]
    deaf = PlannedFaults(FaultPlan(stall=1.0))
    with PubSubServer(tmp_path / "journal.sqlite", faults=deaf) as server:
        worker = worker_on(server, tmp_path, wait_until, MLFS_STREAM_SILENCE_S="1", MLFS_STREAM_RECYCLES_MAX="1")
        publish(server, told)

        assert worker.process.wait(20.0) == 4

    lines = {line["message"]: line for line in worker.log_lines()}
    assert lines["stream_recycled"]["reason"] == "silent"
    assert "1 new connections did not help" in lines["stream_given_up"]["error"]
    rest, stored = waiting(tmp_path), stored_rows(tmp_path)
    assert len(rest) + len(stored) == len(told), "what the questions found is stored, the rest still waits"
    assert len(stored) == 2
