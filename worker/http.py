"""Health, metrics and the state of the dates over HTTP. Read only."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import date
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import structlog
import uvicorn
from fastapi import FastAPI, HTTPException, Path, Response
from fastapi.responses import RedirectResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from statemachine.model import Policy
from worker.errors import CorruptRecord, Unavailable
from worker.explain import explanation, summary
from worker.ports import Clock, StateStore

log = structlog.get_logger(__name__)

DATES_LISTED_MAX = 31
START_TIMEOUT_S = 5.0


def create_app(
    *,
    store: StateStore,
    registry: CollectorRegistry,
    clock: Clock,
    policy: Policy,
    zone: ZoneInfo,
    alive: Callable[[], list[str]],
    ready: Callable[[], list[str]],
) -> FastAPI:
    """Make the application.

    Args:
        store: Where the records are.
        registry: What `/metrics` shows.
        clock: The shell's clock.
        policy: For the explanation of a date.
        zone: Zone of the times shown to people.
        alive: Gives what is wrong inside this process; empty when it is alive.
        ready: Gives what keeps it from working; empty when it is ready.
    """
    app = FastAPI(title="mlfs", docs_url=None, redoc_url=None)
    _add_health(app, registry, alive, ready)
    _add_dates(app, store, clock, policy, zone)
    return app


def _add_health(
    app: FastAPI, registry: CollectorRegistry, alive: Callable[[], list[str]], ready: Callable[[], list[str]]
) -> None:
    @app.get("/", include_in_schema=False)
    def start() -> RedirectResponse:
        return RedirectResponse("/dates")

    @app.get("/livez")
    def livez(response: Response) -> dict[str, Any]:
        return _health(alive(), response)

    @app.get("/readyz")
    def readyz(response: Response) -> dict[str, Any]:
        return _health(ready(), response)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _add_dates(app: FastAPI, store: StateStore, clock: Clock, policy: Policy, zone: ZoneInfo) -> None:
    @app.get("/dates")
    def dates() -> list[dict[str, Any]]:
        with _as_http():
            return [row for day in store.dates(DATES_LISTED_MAX) if (row := _row(store, day))]

    @app.get("/dates/{analysis_date}")
    def one_date(analysis_date: Annotated[str, Path(pattern=r"^\d{4}-\d{2}-\d{2}$")]) -> dict[str, Any]:
        try:
            day = date.fromisoformat(analysis_date)
        except ValueError as exc:
            raise HTTPException(422, f"{analysis_date} is no day of the calendar") from exc
        with _as_http():
            record = store.load(day)
            if record is None:
                raise HTTPException(404, f"{analysis_date} was never opened")
            history = [asdict(entry) for entry in store.history(day)]
        return {**explanation(record, clock.now(), policy, zone), "history": history}


def _row(store: StateStore, day: date) -> dict[str, Any] | None:
    """Give a date's facts; one unreadable record must not hide the others."""
    try:
        record = store.load(day)
    except CorruptRecord as exc:
        return {"analysis_date": day.isoformat(), "state": "corrupt", "error": str(exc)}
    return summary(record) if record is not None else None


class _as_http:  # noqa: N801 - reads as a statement
    """Turn our errors into answers a client can act on."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Unavailable):
            raise HTTPException(503, str(error)) from error
        if isinstance(error, CorruptRecord):
            raise HTTPException(500, str(error)) from error


def _health(faults: list[str], response: Response) -> dict[str, Any]:
    if faults:
        response.status_code = 503
    return {"status": "ok" if not faults else "failing", "faults": faults}


class HttpServer:
    """Uvicorn on a thread; signals stay with the worker."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        config = uvicorn.Config(app, host=host, port=port, log_config=None, access_log=False, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def _run(self) -> None:
        # Uvicorn leaves with SystemExit when it cannot listen; `start` finds the thread gone and says why.
        with suppress(SystemExit):
            self._server.run()

    def start(self) -> str:
        """Start serving and give the base address.

        Raises:
            Unavailable: The port is taken.
        """
        self._thread.start()
        pause = threading.Event()
        for _ in range(int(START_TIMEOUT_S / 0.01)):
            if self._server.started:
                host, port = self._server.servers[0].sockets[0].getsockname()[:2]
                return f"http://{host}:{port}"
            if not self._thread.is_alive():
                break
            pause.wait(0.01)
        config = self._server.config
        raise Unavailable(f"cannot listen on {config.host}:{config.port}; choose another with MLFS_HTTP_PORT")

    def stop(self) -> None:
        """Stop serving; open requests get a moment."""
        self._server.should_exit = True
        self._thread.join(3.0)
