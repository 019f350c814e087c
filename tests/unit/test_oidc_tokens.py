"""A token is worth its signature, its times, its audience, its issuer and a verified address; nothing less gets in."""

import base64
from collections.abc import Iterator
from types import SimpleNamespace

import cachecontrol
import pytest
import structlog

from tests.support.tokens import AUDIENCE, PUSHER, In, Issuer, Key, token
from worker.adapters.google_tokens import (
    CERTIFICATES_KEPT_S,
    FAILURE_PAUSE_S,
    REFETCH_PAUSE_S,
    SIGNATURE_REMOVED,
    TOKEN_CHARS_MAX,
    Certificates,
    GoogleTokens,
)
from worker.clock import SystemClock
from worker.errors import Unauthenticated, Unavailable

HOUR = 3600
NO_INSTANTS = (float("nan"), float("inf"), float("-inf"), True, "1", -1, 10**40, [1], {})


class Watch:
    """A stopwatch that is set by hand, and the time that the HTTP cache reads."""

    def __init__(self) -> None:
        self.at = SystemClock().now().timestamp()

    def __call__(self) -> float:
        return self.at


@pytest.fixture(scope="module")
def key() -> Key:
    return Key("key-1")


@pytest.fixture(scope="module")
def other_key() -> Key:
    return Key("key-2")


@pytest.fixture
def issuer(key: Key) -> Iterator[Issuer]:
    with Issuer(key) as running:
        yield running


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    monkeypatch.setattr(cachecontrol.controller, "time", SimpleNamespace(time=watch))
    return watch


@pytest.fixture
def tokens(issuer: Issuer, watch: Watch) -> GoogleTokens:
    return GoogleTokens(Certificates(issuer.url, watch), SystemClock())


def test_a_good_token_gives_its_address_in_lower_case(tokens: GoogleTokens, key: Key) -> None:
    assert PUSHER == tokens.verify(token(key, email=PUSHER.upper()), [AUDIENCE])


@pytest.mark.parametrize("changes", [{"iss": "accounts.google.com"}, {"exp": In(-1)}, {"nbf": In(-5)}])
def test_what_google_may_send_is_accepted(tokens: GoogleTokens, key: Key, changes: dict[str, object]) -> None:
    assert PUSHER == tokens.verify(token(key, **changes), ["https://elsewhere", AUDIENCE])


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": In(-HOUR)},
        {"iat": In(HOUR)},
        {"nbf": In(HOUR)},
        {"nbf": "soon"},
        {"aud": "https://elsewhere"},
        {"aud": None},
        {"aud": [AUDIENCE]},
        {"iss": "https://accounts.google.com.evil.example"},
        {"iss": None},
        {"email": None},
        {"email": ["pusher@nba.iam.gserviceaccount.com"]},
        {"email": ""},
        {"email_verified": None},
        {"email_verified": False},
        {"email_verified": "true"},
        {"email_verified": 1},
        {"exp": None},
        {"iat": None},
        {"exp": "tomorrow"},
        *({name: value} for name in ("exp", "iat", "nbf") for value in NO_INSTANTS),
    ],
    ids=str,
)
def test_a_wrong_claim_is_refused(tokens: GoogleTokens, key: Key, changes: dict[str, object]) -> None:
    with pytest.raises(Unauthenticated):
        tokens.verify(token(key, **changes), [AUDIENCE])


def test_a_stranger_does_not_learn_which_audiences_are_accepted(tokens: GoogleTokens, key: Key) -> None:
    with structlog.testing.capture_logs() as lines, pytest.raises(Unauthenticated, match="another audience") as caught:
        tokens.verify(token(key, aud="https://elsewhere"), [AUDIENCE, "https://second"])

    assert AUDIENCE not in str(caught.value)
    assert [sorted([AUDIENCE, "https://second"])] == [line["accepted"] for line in lines]


def test_a_token_of_another_key_under_a_known_name_is_refused(tokens: GoogleTokens) -> None:
    with pytest.raises(Unauthenticated):
        tokens.verify(token(Key("key-1")), [AUDIENCE])


@pytest.mark.parametrize(
    ("header", "secret"),
    [
        ({"alg": "none"}, b""),
        ({"alg": "None"}, b""),
        ({"alg": "HS256"}, b"secret"),
        ({"alg": None}, None),
        ({"alg": ["RS256"]}, None),
        ({"alg": "ES256"}, None),
        ({"kid": "key-9"}, None),
        ({"kid": None}, None),
        ({"kid": ["key-1"]}, None),
        ({"kid": ""}, None),
    ],
    ids=str,
)
def test_a_wrong_header_is_refused(
    tokens: GoogleTokens, key: Key, header: dict[str, object], secret: bytes | None
) -> None:
    with pytest.raises(Unauthenticated):
        tokens.verify(token(key, header=header, secret=secret), [AUDIENCE])


def test_the_public_key_is_no_secret_to_sign_with(tokens: GoogleTokens, key: Key) -> None:
    forged = token(key, header={"alg": "HS256"}, secret=key.certificate.encode())

    with pytest.raises(Unauthenticated, match="HS256"):
        tokens.verify(forged, [AUDIENCE])


def test_a_changed_payload_is_refused(tokens: GoogleTokens, key: Key) -> None:
    head, _, signature = token(key).split(".")
    payload = token(key, email="admin@nba.example").split(".")[1]

    with pytest.raises(Unauthenticated):
        tokens.verify(f"{head}.{payload}.{signature}", [AUDIENCE])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a.b.c",
        "..",
        "ü.ü.ü",
        "a.b.c.d",
        "e30.e30.e30",
        "bnVsbA.bnVsbA.",
        base64.urlsafe_b64encode(b"[" * 5000).decode() + ".e30.e30",
        "e" * (TOKEN_CHARS_MAX + 1),
    ],
    ids=lambda text: text[:12],
)
def test_what_is_no_token_is_refused(tokens: GoogleTokens, text: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens.verify(text, [AUDIENCE])


def stripped(key: Key, **changes: object) -> str:
    """A token as a container sees it behind Cloud Run's own check."""
    return token(key, **changes).rpartition(".")[0] + SIGNATURE_REMOVED


def test_a_token_without_its_signature_is_refused(tokens: GoogleTokens, key: Key) -> None:
    with pytest.raises(Unauthenticated, match="MLFS_BEHIND_CLOUD_RUN_IAM"):
        tokens.verify(stripped(key), [AUDIENCE])


@pytest.fixture
def behind_iam(issuer: Issuer) -> GoogleTokens:
    return GoogleTokens(Certificates(issuer.url), SystemClock(), behind_cloud_run_iam=True)


def test_cloud_runs_own_check_is_believed_where_it_is_said_to_stand_in_front(
    behind_iam: GoogleTokens, key: Key
) -> None:
    assert [PUSHER] * 2 == [behind_iam.verify(text, [AUDIENCE]) for text in (stripped(key), token(key))]


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://elsewhere"},
        {"exp": In(-HOUR)},
        {"exp": "tomorrow"},
        *({name: value} for name in ("exp", "iat", "nbf") for value in NO_INSTANTS),
        {"iss": "https://evil.example"},
        {"email_verified": False},
        {"email": None},
    ],
    ids=str,
)
def test_what_cloud_run_passed_must_still_be_for_us(
    behind_iam: GoogleTokens, key: Key, changes: dict[str, object]
) -> None:
    with pytest.raises(Unauthenticated):
        behind_iam.verify(stripped(key, **changes), [AUDIENCE])


@pytest.mark.parametrize("text", [SIGNATURE_REMOVED, "a.b" + SIGNATURE_REMOVED, "e30.W10" + SIGNATURE_REMOVED])
def test_no_token_is_none_behind_cloud_run_either(behind_iam: GoogleTokens, text: str) -> None:
    with pytest.raises(Unauthenticated):
        behind_iam.verify(text, [AUDIENCE])


def test_a_forged_signature_is_refused_behind_cloud_run_too(behind_iam: GoogleTokens) -> None:
    with pytest.raises(Unauthenticated):
        behind_iam.verify(token(Key("key-1")), [AUDIENCE])


def test_without_an_audience_nothing_is_verified(tokens: GoogleTokens, key: Key) -> None:
    with pytest.raises(ValueError, match="audience"):
        tokens.verify(token(key), [])


def test_certificates_are_fetched_once_an_hour(tokens: GoogleTokens, issuer: Issuer, key: Key, watch: Watch) -> None:
    for _ in range(3):
        tokens.verify(token(key), [AUDIENCE])
    within_the_hour = issuer.fetches
    watch.at += CERTIFICATES_KEPT_S + 1
    tokens.verify(token(key), [AUDIENCE])

    assert (1, 2) == (within_the_hour, issuer.fetches)


@pytest.mark.parametrize(
    "headers",
    [
        {"Cache-Control": "no-store, max-age=0", "Expires": "0"},
        {"Cache-Control": "max-age=9999999999", "Age": "x"},
        {"Vary": "*"},
        {"Date": "no date"},
        {"Date": "Thu, 01 Jan 2099 00:00:00 GMT"},
    ],
    ids=str,
)
def test_headers_about_caching_change_nothing(
    tokens: GoogleTokens, issuer: Issuer, key: Key, watch: Watch, headers: dict[str, str]
) -> None:
    issuer.headers = headers
    test_certificates_are_fetched_once_an_hour(tokens, issuer, key, watch)


def test_a_new_key_is_fetched_when_a_token_names_it(
    tokens: GoogleTokens, issuer: Issuer, key: Key, other_key: Key, watch: Watch
) -> None:
    tokens.verify(token(key), [AUDIENCE])
    issuer.keys = [other_key]
    watch.at += REFETCH_PAUSE_S

    assert PUSHER == tokens.verify(token(other_key), [AUDIENCE])
    with pytest.raises(Unauthenticated):
        tokens.verify(token(key), [AUDIENCE])


def test_unknown_keys_do_not_make_it_fetch_again_and_again(
    tokens: GoogleTokens, issuer: Issuer, key: Key, other_key: Key
) -> None:
    tokens.verify(token(key), [AUDIENCE])
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            tokens.verify(token(other_key), [AUDIENCE])

    assert issuer.fetches == 1


@pytest.mark.parametrize(
    ("status", "body"), [(500, b"{}"), (200, b"no json"), (200, b"[]"), (200, b"{}"), (200, b'{"keys": [{}]}')]
)
def test_an_endpoint_that_gives_no_certificates_says_nothing_about_the_token(
    tokens: GoogleTokens, issuer: Issuer, key: Key, watch: Watch, status: int, body: bytes
) -> None:
    issuer.status, issuer.body = status, body

    with pytest.raises(Unavailable):
        tokens.verify(token(key), [AUDIENCE])
    issuer.status, issuer.body = 200, None
    watch.at += FAILURE_PAUSE_S

    assert PUSHER == tokens.verify(token(key), [AUDIENCE])


def test_an_endpoint_that_is_down_is_asked_again_after_a_pause(
    tokens: GoogleTokens, issuer: Issuer, key: Key, watch: Watch
) -> None:
    issuer.status = 500
    for _ in range(3):
        with pytest.raises(Unavailable):
            tokens.verify(token(key), [AUDIENCE])
    while_down = issuer.fetches
    issuer.status = 200
    watch.at += FAILURE_PAUSE_S

    assert (1, PUSHER) == (while_down, tokens.verify(token(key), [AUDIENCE]))


def test_certificates_in_hand_outlast_an_endpoint_that_goes_down_but_not_their_hour(
    tokens: GoogleTokens, issuer: Issuer, key: Key, watch: Watch
) -> None:
    tokens.verify(token(key), [AUDIENCE])
    issuer.status = 500
    watch.at += CERTIFICATES_KEPT_S / 2
    still = tokens.verify(token(key), [AUDIENCE])
    watch.at += CERTIFICATES_KEPT_S

    assert PUSHER == still
    with pytest.raises(Unavailable):
        tokens.verify(token(key), [AUDIENCE])


@pytest.mark.parametrize(("status", "body"), [(500, None), (200, b"sign in to this network first")])
def test_a_failed_early_fetch_blames_no_token_and_hides_no_certificate(
    tokens: GoogleTokens, issuer: Issuer, key: Key, other_key: Key, watch: Watch, status: int, body: bytes | None
) -> None:
    tokens.verify(token(key), [AUDIENCE])
    issuer.status, issuer.body = status, body
    watch.at += REFETCH_PAUSE_S

    for _ in range(2):
        with pytest.raises(Unavailable):
            tokens.verify(token(other_key), [AUDIENCE])
        assert PUSHER == tokens.verify(token(key), [AUDIENCE])
    assert issuer.fetches == 2


def test_an_endpoint_that_is_not_there_is_unavailable(key: Key, issuer: Issuer) -> None:
    nowhere = GoogleTokens(Certificates(issuer.url.replace("127.0.0.1", "127.0.0.2")), SystemClock())

    with pytest.raises(Unavailable):
        nowhere.verify(token(key), [AUDIENCE])
