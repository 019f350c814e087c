"""An issuer of identity tokens: keys of its own, certificates served over HTTP, and every way to get a token wrong."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from worker.clock import SystemClock

AUDIENCE = "https://mlfs.example/push"
PUSHER = "pusher@nba.iam.gserviceaccount.com"


def _encoded(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")


class Key:
    """One signing key with its certificate."""

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        self._private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, key_id)])
        now = SystemClock().now()
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(self._private, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
            .decode()
        )

    def sign(self, signed: bytes) -> bytes:
        return self._private.sign(signed, padding.PKCS1v15(), hashes.SHA256())


@dataclass(frozen=True)
class In:
    """An instant relative to the moment at which the token is made."""

    seconds: int


def claims(**changes: object) -> dict[str, Any]:
    """What Google says in a push token; a change of None takes the claim away, `In(s)` is that long from now."""
    now = int(SystemClock().now().timestamp())
    good = {
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "email": PUSHER,
        "email_verified": True,
        "iat": now - 60,
        "exp": now + 3000,
        "sub": "113774264463038321964",
        **changes,
    }
    told = {name: now + value.seconds if isinstance(value, In) else value for name, value in good.items()}
    return {name: value for name, value in told.items() if value is not None}


def token(key: Key, *, header: Mapping[str, object] | None = None, secret: bytes | None = None, **changes: Any) -> str:
    """A token of *key*; with *secret* it is signed by HMAC instead, without a signature where the secret is empty."""
    head = {"alg": "RS256", "typ": "JWT", "kid": key.key_id, **(header or {})}
    head = {name: value for name, value in head.items() if value is not None}
    signed = _encoded(json.dumps(head).encode()) + b"." + _encoded(json.dumps(claims(**changes)).encode())
    if secret is None:
        signature = key.sign(signed)
    else:
        signature = hmac.new(secret, signed, hashlib.sha256).digest() if secret else b""
    return (signed + b"." + _encoded(signature)).decode()


class Issuer:
    """Serves certificates; `keys` may change while it runs, `status` and `body` break it."""

    def __init__(self, *keys: Key) -> None:
        self.keys = list(keys)
        self.status = 200
        self.body: bytes | None = None
        self.headers: dict[str, str] = {}
        self.fetches = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.fetches += 1
                body = issuer.body or json.dumps({key.key_id: key.certificate for key in issuer.keys}).encode()
                self.send_response_only(issuer.status)
                headers = {"Date": self.date_time_string(), "Content-Length": str(len(body)), **issuer.headers}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Tests need no access log."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/certs"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
