"""Addresses on this machine are reached without a proxy, whatever `http_proxy` and similar variables hold.

A proxy cannot reach the loopback addresses of this machine, and libraries read the variables without asking. Setting
`no_proxy` for the process would change the operator's setting for every child process.
"""

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import requests

# For every channel to a local server or an emulator. Channels to Google keep the operator's proxy.
NO_PROXY = ("grpc.enable_http_proxy", 0)


def is_local(url: str) -> bool:
    """Return whether an address is a loopback address of this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def session_to(url: str, session: "requests.Session") -> "requests.Session":
    """Return *session*, without a proxy and without `.netrc` if *url* is an address of this machine."""
    session.trust_env = not is_local(url)
    return session
