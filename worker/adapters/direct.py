"""Addresses on this machine are reached without a proxy, whatever `http_proxy` and its like say.

A proxy cannot reach this machine's loopback addresses, and libraries read the environment by themselves. Setting
`no_proxy` for the process instead would be inherited by every child and change what the operator set.
"""

import ipaddress
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import requests

# For every channel to a local server or an emulator; Google's own channels keep the operator's proxy.
NO_PROXY = ("grpc.enable_http_proxy", 0)


def is_local(url: str) -> bool:
    """Return whether an address stays on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def session_to(url: str, session: "requests.Session") -> "requests.Session":
    """Return *session*, without a proxy and without `.netrc` where *url* stays on this machine."""
    session.trust_env = not is_local(url)
    return session


def opener_to(url: str) -> urllib.request.OpenerDirector:
    """Return what opens *url*, through the operator's proxy unless *url* stays on this machine."""
    handlers = [urllib.request.ProxyHandler({})] if is_local(url) else []
    return urllib.request.build_opener(*handlers)
