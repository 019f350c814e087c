"""What goes wrong with the readers of a worker: a log reader that stalls, HTTP clients that connect and say nothing."""

import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import httpx

from tests.chaos.history import now
from tests.chaos.services import WorkerProcess, pause
from tests.chaos.stage import Act, Stage

STALLS_S = 8.0
# The bound that the product promises for a stop, and a second for a machine that is busy.
STOP_WITHIN_S = 9.0
STOPS_MEANWHILE = 0.3
IDLE_CONNECTIONS = 400
IDLE_S = 6.0
START_WITHIN_TENTHS = 200
LIVENESS_TIMEOUT_S = 5.0
HALF_A_HEADER = b"GET / HTTP/1.1\r\nHost: x\r\nX: "
METRICS_READERS = 20
# The answers to so many requests on one connection fill every buffer on the way.
METRICS_REQUESTS = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100
RECEIVED_BYTES_MAX = 4096


def stall_log_reader(stage: Stage) -> str:
    """Nobody reads the log of a worker for a while; now and then the worker is asked to stop meanwhile."""
    worker = stage.worker()
    if not _serves(worker):
        return f"{worker.name}: does not serve yet"
    with worker.log.stalled():
        pause(STALLS_S)
        _note_liveness(stage, worker, "log reader stalled")
        if stage.dice.random() >= STOPS_MEANWHILE:
            return worker.name
        began, starts = now(), worker.starts
        worker.meant = True
        worker.signal(signal.SIGTERM)
        for _ in range(round(STOP_WITHIN_S / 0.1)):
            if worker.starts > starts or worker.ended() is not None:
                break
            pause(0.1)
        else:
            what = f"does not stop within {STOP_WITHIN_S:g} s"
            stage.history.note("reader", act="log reader stalled", name=worker.name, ok=False, what=what)
            worker.signal(signal.SIGKILL)
            return f"{worker.name}: does not stop"
    return f"{worker.name}: stopped meanwhile in {now() - began:.1f} s"


def hold_connections(stage: Stage) -> str:
    """Hundreds of clients begin a request and never end it."""
    return _beset(stage, "hundreds of idle connections", IDLE_CONNECTIONS, HALF_A_HEADER)


def read_no_metrics(stage: Stage) -> str:
    """Clients ask for the metrics again and again, and read no answer."""
    return _beset(stage, "metrics readers read nothing", METRICS_READERS, METRICS_REQUESTS)


def _beset(stage: Stage, act: str, connections: int, said: bytes) -> str:
    worker = stage.worker()
    if not _serves(worker):
        return f"{worker.name}: does not serve yet"
    address = urlsplit(worker.http())
    assert address.port is not None
    with _silent(address.hostname or "", address.port, connections, said) as opened:
        pause(IDLE_S)
        _note_liveness(stage, worker, act)
    return f"{worker.name}: {opened}"


@contextmanager
def _silent(host: str, port: int, connections: int, said: bytes) -> Iterator[int]:
    """Open connections that say something and read nothing; yield how many the worker took."""
    with ExitStack() as open_ones:
        opened = 0
        for _ in range(connections):
            connection = open_ones.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED_BYTES_MAX)
            connection.settimeout(1.0)
            try:
                connection.connect((host, port))
                connection.sendall(said)
            except OSError:
                continue
            opened += 1
        yield opened


def _serves(worker: WorkerProcess) -> bool:
    """Wait until the worker answers: the act before may have ended it, and a start takes seconds."""
    for _ in range(START_WITHIN_TENTHS):
        try:
            if worker.http() and httpx.get(f"{worker.http()}/livez", timeout=LIVENESS_TIMEOUT_S).is_success:
                return True
        except httpx.HTTPError:
            pass
        pause(0.1)
    return False


def _note_liveness(stage: Stage, worker: WorkerProcess, act: str) -> None:
    """Note whether the worker answers a liveness probe, unless the process has just been replaced."""
    pid, address = worker.pid, worker.http()
    if not address:
        return
    began = now()
    try:
        code = httpx.get(f"{address}/livez", timeout=LIVENESS_TIMEOUT_S).status_code
    except httpx.HTTPError as exc:
        code, what = 0, f"{type(exc).__name__}: {exc}"
    else:
        what = f"{code}"
    if worker.pid == pid and worker.ended() is None:
        stage.history.note("reader", act=act, name=worker.name, ok=code == httpx.codes.OK, what=what, s=now() - began)


READER_ACTS: Mapping[str, Act] = {
    "log reader stalled": stall_log_reader,
    "hundreds of idle connections": hold_connections,
    "metrics readers read nothing": read_no_metrics,
}
