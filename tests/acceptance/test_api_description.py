"""The API does what its own description says: generated requests, right and wrong ones, against a listening worker.

`API_EXAMPLES` asks for more requests an operation and mode than the few that fit into every run.
"""

import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import ignored_auth, load_all_checks

from tests.support.nights import NIGHT, PROCESSORS
from tests.support.services import Service
from tests.support.tokens import Issuer, Key, token

AUDIENCE = "https://mlfs.example"
CALLER = "ada@nba.example"
EXAMPLES = int(os.environ.get("API_EXAMPLES", "20"))
OPERATIONS = (
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/dates"),
    ("GET", "/dates/{analysis_date}"),
    ("GET", "/dates/{analysis_date}/history"),
    ("GET", "/dates/{analysis_date}/findings"),
    ("GET", "/dates/{analysis_date}/outlook"),
    ("GET", "/dates/{analysis_date}/profile"),
    ("GET", "/dates/{analysis_date}/diff"),
    ("POST", "/process"),
    ("POST", "/dates/{analysis_date}/replay"),
    ("POST", "/dates/{analysis_date}/cancel"),
    ("POST", "/dates/{analysis_date}/retract"),
    ("POST", "/tick"),
    ("POST", "/pubsub/push"),
)
UNGUARDED = {"/livez", "/readyz", "/metrics"}
# Pub/Sub's deliveries are never refused for what is in them: they are parked and acknowledged.
TAKES_ANYTHING = {"/pubsub/push"}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    doors = {f"{door}_audience": AUDIENCE for door in ("push", "tick")}
    doors |= {f"{door}_service_account": CALLER for door in ("push", "tick")}
    key = Key("key-1")
    with Issuer(key) as issuer:
        settings_ = {**doors, "api_audiences": AUDIENCE, "admins": CALLER, "oidc_certs_url": issuer.url}
        with Service(listens=True, **settings_) as running:
            running.client.headers["Authorization"] = f"Bearer {token(key, aud=AUDIENCE, email=CALLER)}"
            yield running


@pytest.fixture(scope="module")
def description(service: Service) -> Any:
    load_all_checks()
    return schemathesis.openapi.from_url(f"{service.worker.http_address}/openapi.json")


def authorization(service: Service) -> dict[str, str]:
    return {"Authorization": service.client.headers["Authorization"]}


def excluded(path: str) -> list[Any]:
    from schemathesis.checks import negative_data_rejection  # noqa: PLC0415 - present once all checks are loaded

    wanted = [ignored_auth] if path in UNGUARDED else []
    return [*wanted, negative_data_rejection] if path in TAKES_ANYTHING else wanted


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=" ".join)
def test_every_answer_is_as_described(
    service: Service, description: Any, method: str, path: str, mode: GenerationMode
) -> None:
    operation = description[path][method]
    if mode is GenerationMode.NEGATIVE and not (operation.body or operation.path_parameters or operation.headers):
        pytest.skip("takes nothing that could be wrong")

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(case=operation.as_strategy(generation_mode=mode), tonight=st.booleans())
    def conforms(case: Any, tonight: bool) -> None:
        if tonight and mode is GenerationMode.POSITIVE and case.path_parameters:
            case.path_parameters["analysis_date"] = NIGHT.isoformat()
        case.call_and_validate(headers=authorization(service), excluded_checks=excluded(path))

    conforms()


def test_the_description_names_every_operation(service: Service) -> None:
    paths = service.client.get("/openapi.json").json()["paths"]

    assert set(OPERATIONS) == {(method.upper(), path) for path, item in paths.items() for method in item}


def test_every_operation_describes_its_door_its_problems_and_an_example(service: Service) -> None:
    document = service.client.get("/openapi.json").json()
    [scheme] = document["components"]["securitySchemes"].values()

    assert ("http", "bearer", "JWT") == (scheme["type"], scheme["scheme"], scheme["bearerFormat"])
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if path in UNGUARDED:
                continue
            where = f"{method} {path}"
            assert [{"google_identity_token": []}] == operation["security"], where
            assert {"401", "403", "503"} <= set(operation["responses"]), where
            assert {"application/problem+json"} == set(operation["responses"]["401"]["content"]), where
    for name in ("ProcessRequest", "ReplayRequest", "CancelRequest", "TickAnswer", "Problem"):
        assert document["components"]["schemas"][name]["examples"], name


def test_the_examples_of_the_description_work(service: Service) -> None:
    document = service.client.get("/openapi.json").json()["components"]["schemas"]
    example = {name: document[name]["examples"][0] for name in ("ProcessRequest", "ReplayRequest", "CancelRequest")}

    answers: list[httpx.Response] = [
        service.client.post("/process", json=example["ProcessRequest"]),
        service.client.post(f"/dates/{NIGHT}/replay", json=example["ReplayRequest"]),
        service.client.post(f"/dates/{NIGHT}/cancel", json=example["CancelRequest"]),
    ]

    assert [answer.status_code for answer in answers] in ([200, 202, 200], [409, 202, 200]), PROCESSORS
