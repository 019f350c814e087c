"""Who may call what: a verified address, its role, its door; nobody by accident."""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from ops.commands.run import serve
from tests.support.nights import CACHE, NIGHT
from tests.support.rigs import ModelClock
from tests.support.services import Service, envelope, event
from tests.support.tokens import AUDIENCE, PUSHER, In, Issuer, Key, token
from worker.access import Role, role_in
from worker.adapters.google_tokens import SIGNATURE_REMOVED
from worker.app import Worker
from worker.clock import SystemClock
from worker.settings import BadSettings, load
from worker.settings.access import is_loopback

API = "https://mlfs.example"
TICK = "https://mlfs.example/tick"
SCHEDULER = "scheduler@nba.iam.gserviceaccount.com"
OTHER_NIGHT = date(2024, 12, 10)
REPLAY = f"/dates/{NIGHT}/replay"
GUARDED: Mapping[str, Any] = {
    "push_audience": AUDIENCE,
    "push_service_account": PUSHER,
    "tick_audience": TICK,
    "tick_service_account": SCHEDULER,
    "api_audiences": f"{API},32555940559.apps.googleusercontent.com",
    "viewers": "@nba.example",
    "operators": f"olga@nba.example,{SCHEDULER}",
    "admins": "Ada@nba.example",
}


@pytest.fixture(scope="module")
def key() -> Key:
    return Key("key-1")


@pytest.fixture(scope="module")
def issuer(key: Key) -> Iterator[Issuer]:
    with Issuer(key) as running:
        yield running


@pytest.fixture(scope="module")
def service(issuer: Issuer) -> Iterator[Service]:
    with Service(oidc_certs_url=issuer.url, **GUARDED) as running:
        yield running


def bearer(key: Key, **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(key, **claims)}"}


def api(key: Key, email: str) -> dict[str, str]:
    return bearer(key, aud=API, email=email)


def push(service: Service, headers: dict[str, str], night: date = OTHER_NIGHT) -> httpx.Response:
    return service.client.post("/pubsub/push", json=envelope(event(CACHE, night)), headers=headers)


def refused(service: Service, endpoint: str, reason: str) -> float:
    labels = {"endpoint": endpoint, "reason": reason}
    return service.worker.metrics.registry.get_sample_value("mlfs_auth_failures_total", labels) or 0.0


def test_the_push_account_may_push(service: Service, key: Key) -> None:
    assert 204 == push(service, bearer(key), date(2024, 12, 11)).status_code


@pytest.mark.parametrize(
    ("claims", "status", "reason"),
    [
        ({"aud": TICK}, 401, "refused"),
        ({"aud": API}, 401, "refused"),
        ({"email": SCHEDULER}, 403, "stranger"),
        ({"email": "ada@nba.example"}, 403, "stranger"),
        ({"email_verified": "true"}, 401, "email"),
        ({"iss": "https://evil.example"}, 401, "issuer"),
        ({"exp": 1}, 401, "refused"),
    ],
    ids=str,
)
def test_nobody_else_may_push(service: Service, key: Key, claims: dict[str, Any], status: int, reason: str) -> None:
    before = refused(service, "push", reason)
    answer = push(service, bearer(key, **claims))

    assert (status, None) == (answer.status_code, service.store.load(OTHER_NIGHT))
    assert 1 == refused(service, "push", reason) - before


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Authorization": "Basic YTpi"}, {"Authorization": "x"}],
    ids=str,
)
@pytest.mark.parametrize("path", ["/pubsub/push", "/tick", "/process", REPLAY])
def test_without_a_token_nothing_is_read_or_done(service: Service, path: str, headers: dict[str, str]) -> None:
    answer = service.client.post(path, content=b"not even JSON", headers=headers)

    assert (401, 'Bearer realm="mlfs"') == (answer.status_code, answer.headers["www-authenticate"])


def test_certificates_that_cannot_be_read_are_no_refusal(key: Key) -> None:
    with Issuer(key) as broken:
        broken.status = 500
        with Service(oidc_certs_url=broken.url, **GUARDED) as service:
            answer = push(service, bearer(key))

    assert (503, 1) == (answer.status_code, refused(service, "push", "unavailable"))


def test_only_the_scheduler_ticks(service: Service, key: Key) -> None:
    answers = [
        service.client.post("/tick", headers=headers).status_code
        for headers in (bearer(key, aud=TICK, email=SCHEDULER), bearer(key, aud=TICK), bearer(key))
    ]

    assert [200, 403, 401] == answers


@pytest.mark.parametrize("wrong_by", [timedelta(days=365), timedelta(days=-365)])
def test_a_store_whose_clock_is_wrong_does_not_shut_out_the_tick_that_sets_it_right(
    key: Key, issuer: Issuer, wrong_by: timedelta
) -> None:
    clock = ModelClock(SystemClock().now() + wrong_by)
    with Service(clock=clock, oidc_certs_url=issuer.url, behind_cloud_run_iam=True, **GUARDED) as service:
        whole = token(key, aud=TICK, email=SCHEDULER, nbf=In(-60))
        answers = [
            service.client.post("/tick", headers={"Authorization": f"Bearer {text}"}).status_code
            for text in (whole, whole.rpartition(".")[0] + SIGNATURE_REMOVED)
        ]

    assert [200, 200] == answers


@pytest.mark.parametrize(
    ("email", "looks", "replays", "takes_over"),
    [
        ("vera@nba.example", 200, 403, 403),
        ("olga@nba.example", 200, 202, 403),
        ("ADA@nba.example", 200, 202, 202),
        ("ada@nba.example.evil.example", 403, 403, 403),
        ("eve@elsewhere.example", 403, 403, 403),
        (PUSHER, 403, 403, 403),
    ],
)
def test_a_role_opens_what_it_should_and_no_more(
    service: Service, key: Key, email: str, looks: int, replays: int, takes_over: int
) -> None:
    headers = api(key, email)
    answers = (
        service.client.get("/dates", headers=headers),
        service.client.post(REPLAY, json={"reason": "repaired"}, headers=headers),
        service.client.post(REPLAY, json={"reason": "repaired", "force": True}, headers=headers),
    )

    assert (looks, replays, takes_over) == tuple(answer.status_code for answer in answers)


def test_a_persons_own_token_of_gcloud_is_accepted(service: Service, key: Key) -> None:
    headers = bearer(key, aud="32555940559.apps.googleusercontent.com", email="vera@nba.example")

    assert 200 == service.client.get("/dates", headers=headers).status_code


def test_who_acted_is_audited_by_verified_address(service: Service, key: Key) -> None:
    service.client.post(REPLAY, json={"reason": "repaired"}, headers=api(key, "olga@nba.example"))

    assert "olga@nba.example" == service.warehouse.audits[-1]["requested_by"]
    assert "olga@nba.example" == service.store.history(NIGHT)[-1].actor


def test_health_and_metrics_need_no_token(service: Service) -> None:
    paths = ("/livez", "/readyz", "/metrics")

    assert [200] * 3 == [service.client.get(path).status_code for path in paths]


@pytest.mark.parametrize(
    ("email", "role"),
    [
        ("a@x.example", Role.ADMIN),
        ("o@x.example", Role.OPERATOR),
        ("v@x.example", Role.VIEWER),
        ("v@sub.x.example", None),
        ("x.example", None),
    ],
)
def test_the_highest_role_counts(email: str, role: Role | None) -> None:
    assert role is role_in({"@x.example"}, {"o@x.example", "a@x.example"}, {"a@x.example"}, email)


@pytest.mark.parametrize(
    ("host", "answer"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],  # noqa: S104
)
def test_loopback_is_what_only_this_machine_reaches(host: str, answer: bool) -> None:
    assert answer is is_loopback(host)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "mlfs.evil.example"},
        {"Host": "169.254.1.1"},
        {"Host": "[::1"},
        {"Host": "127.0.0.1@evil.example"},
        {"Origin": "http://127.0.0.1:8080"},
        {"X-Forwarded-For": "203.0.113.9"},
        {"Forwarded": "for=203.0.113.9"},
        {"Via": "1.1 proxy"},
    ],
    ids=str,
)
def test_loopback_without_a_token_is_for_programs_of_this_machine(headers: dict[str, str]) -> None:
    with Service() as service:
        answers = [service.client.get("/dates").status_code, service.client.get("/dates", headers=headers).status_code]

    assert [200, 403] == answers


def test_trust_in_loopback_can_be_switched_off() -> None:
    settings = {name: GUARDED[name] for name in GUARDED if name != "api_audiences"}
    with Service(trust_loopback=False, **settings) as service:
        answer = service.client.get("/dates")

    assert 403 == answer.status_code
    assert "MLFS_API_AUDIENCES" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"http_host": "0.0.0.0"}, ["MLFS_PUSH_AUDIENCE", "MLFS_TICK_AUDIENCE"]),  # noqa: S104
        ({"trust_loopback": False}, ["MLFS_PUSH_AUDIENCE", "MLFS_TICK_AUDIENCE"]),
        ({"http_host": "mlfs.example", "serve_loops": True}, ["MLFS_PUSH_AUDIENCE"]),
        ({"push_audience": AUDIENCE}, ["MLFS_PUSH_SERVICE_ACCOUNT"]),
        ({"tick_audience": TICK}, ["MLFS_TICK_SERVICE_ACCOUNT"]),
    ],
    ids=str,
)
def test_a_service_that_anybody_could_call_does_not_start(
    settings: dict[str, Any], named: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"data_dir": tmp_path / "data", **settings}.items():
        monkeypatch.setenv(f"MLFS_{name.upper()}", str(value))
    with pytest.raises(BadSettings) as caught:
        serve()

    assert not (tmp_path / "data").exists()
    assert named == [line.strip().split(":")[0] for line in str(caught.value).splitlines()[1:]]


def test_a_service_on_every_address_starts_once_its_doors_are_named() -> None:
    service = Service(http_host="0.0.0.0", **GUARDED)  # noqa: S104

    assert isinstance(service.worker, Worker)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("viewers", "vera"),
        ("admins", "a b@nba.example"),
        ("push_service_account", "@nba.example"),
        ("tick_service_account", "scheduler"),
        ("oidc_certs_url", "http://certs.example/"),
        ("oidc_certs_url", "file:///etc/passwd"),
    ],
)
def test_a_setting_that_would_let_in_the_wrong_ones_is_refused(name: str, value: str) -> None:
    with pytest.raises(BadSettings, match=f"MLFS_{name.upper()}"):
        load({}, **{name: value})
