"""What the pages answer: to a person, to Kubernetes, to Prometheus."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import date
from typing import Protocol

import httpx
import pytest
from fastapi import FastAPI

from tests.support.nights import CACHE, CALENDAR, NIGHT, POLICY, PROCESSORS, claimed, committed, success
from tests.support.rigs import Rig
from worker.adapters.memory_store import MemoryStore
from worker.errors import Unavailable
from worker.http import DATES_LISTED_MAX, HttpServer, create_app
from worker.metrics import Metrics


class AbsentStore(MemoryStore):
    def dates(self, limit: int) -> Sequence[date]:
        raise Unavailable(f"no server for {limit}")

    def load(self, analysis_date: date) -> None:
        raise Unavailable(f"no server for {analysis_date}")


class Open(Protocol):
    def __call__(self, rig: Rig, *, alive: Sequence[str] = (), ready: Sequence[str] = ()) -> httpx.Client: ...


@pytest.fixture
def client() -> Iterator[Open]:
    """Serve the pages over a rig on a free port, and give a client of them."""
    with ExitStack() as stack:

        def open_pages(rig: Rig, *, alive: Sequence[str] = (), ready: Sequence[str] = ()) -> httpx.Client:
            app = create_app(
                store=rig.store,
                registry=Metrics(PROCESSORS).registry,
                clock=rig.clock,
                policy=POLICY,
                zone=CALENDAR.zone,
                alive=lambda: list(alive),
                ready=lambda: list(ready),
            )
            server = HttpServer(app, "127.0.0.1", 0)
            address = server.start()
            stack.callback(server.stop)
            return stack.enter_context(httpx.Client(base_url=address, trust_env=False))

        yield open_pages


@pytest.fixture
def night() -> Rig:
    """A night that was published in full."""
    rig = Rig()
    for event in (*(success(name) for name in PROCESSORS), claimed(), committed()):
        rig.engine.apply(NIGHT, event)
    return rig


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_healthy_worker_says_ok(client: Open, path: str) -> None:
    answer = client(Rig()).get(path)

    assert (200, {"status": "ok", "faults": []}) == (answer.status_code, answer.json())


def test_a_stuck_worker_is_not_alive_and_one_without_a_bus_is_not_ready(client: Open) -> None:
    stuck = client(Rig(), alive=["no sweep for 61 s"], ready=["the pull stream is not open"])

    assert (503, ["no sweep for 61 s"]) == (stuck.get("/livez").status_code, stuck.get("/livez").json()["faults"])
    assert stuck.get("/readyz").status_code == 503


def test_the_dates_are_listed_newest_first(client: Open, night: Rig) -> None:
    night.engine.apply(date(2024, 12, 16), success(CACHE))

    answer = client(night).get("/dates")

    rows = [(row["analysis_date"], row["state"], row["quality_score"]) for row in answer.json()]
    assert [("2024-12-16", "waiting", None), ("2024-12-15", "done", 99.9)] == rows


def test_the_list_of_dates_is_bounded(client: Open) -> None:
    rig = Rig()
    for day in range(1, DATES_LISTED_MAX + 1):
        rig.engine.apply(date(2024, 12, day), success(CACHE))
    rig.engine.apply(date(2024, 11, 30), success(CACHE))

    assert DATES_LISTED_MAX == len(client(rig).get("/dates").json())


def test_one_date_is_explained_with_its_history(client: Open, night: Rig) -> None:
    answer = client(night).get("/dates/2024-12-15").json()

    assert ("done", 1, []) == (answer["state"], answer["generation"], answer["missing"])
    assert ["recorded"] * 3 + ["join_complete", "claimed", "committed_done"] == [
        entry["reason"] for entry in answer["history"]
    ]
    assert "done: 450 rows, score 99.9, fallback 0.0%, published as generation 1" == answer["headline"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/dates/2024-12-14", 404),
        ("/dates/2024-02-30", 422),
        ("/dates/yesterday", 422),
        ("/dates/２０２４-１２-１５", 422),  # noqa: RUF001 - digits that are not ASCII
        ("/dates/2024-12-15%0A", 422),
        ("/dates/..%2Fetc", 404),
        ("/nothing", 404),
    ],
)
def test_what_is_no_known_date_is_the_callers_fault(client: Open, night: Rig, path: str, status: int) -> None:
    assert status == client(night).get(path).status_code


@pytest.mark.parametrize("path", ["/dates", "/dates/2024-12-15"])
def test_without_the_store_the_dates_are_unavailable(client: Open, path: str) -> None:
    answer = client(Rig(store=AbsentStore())).get(path)

    assert answer.status_code == 503
    assert "no server" in answer.json()["detail"]


def test_a_damaged_record_is_shown_as_such_and_hides_no_other_date(client: Open, night: Rig) -> None:
    night.store._records[date(2024, 12, 16)] = (1, "operation", b"damaged")  # type: ignore[attr-defined]

    pages = client(night)

    assert ["corrupt", "done"] == [row["state"] for row in pages.get("/dates").json()]
    assert pages.get("/dates/2024-12-16").status_code == 500
    assert pages.get("/dates/2024-12-15").status_code == 200


def test_the_pages_are_read_only(client: Open, night: Rig) -> None:
    pages = client(night)

    assert [405, 405] == [pages.post("/dates").status_code, pages.delete("/dates/2024-12-15").status_code]


def test_metrics_are_served_in_the_text_format(client: Open) -> None:
    answer = client(Rig()).get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain")
    assert "mlfs_build_info{" in answer.text


def test_a_taken_port_is_told_with_its_cure(client: Open) -> None:
    port = client(Rig()).base_url.port
    assert port is not None

    with pytest.raises(Unavailable, match="MLFS_HTTP_PORT"):
        HttpServer(FastAPI(), "127.0.0.1", port).start()
