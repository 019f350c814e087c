"""A TCP link of ours between two processes on this machine, on which happens what happens on a network.

TCP hides what a network loses: a lost packet is sent again after a time-out, and what follows waits behind it. So a
loss is played as a stall, and a way that is cut as bytes that never arrive while the connection stays open.
"""

import random
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, fields

from tests.conftest import free_port

CHUNK = 65536
# What Linux waits at least before it sends again; each further loss of the same doubles it.
RETRANSMISSION_S = (0.2, 0.8)
HELD_POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How a link passes on.

    Attributes:
        latency_s: Each way.
        jitter_s: At most so much more, drawn anew for each piece.
        loss: Share of the pieces that are lost and sent again.
        there: Whether anything reaches the server.
        back: Whether anything reaches the client.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    there: bool = True
    back: bool = True

    def delay(self, dice: random.Random) -> float:
        """How many seconds the next piece is on its way."""
        again = dice.choice(RETRANSMISSION_S) if dice.random() < self.loss else 0.0
        return self.latency_s + dice.uniform(0.0, self.jitter_s) + again

    def told(self) -> str:
        """What is not as it should be."""
        return ", ".join(
            f"{one.name} {getattr(self, one.name)}" for one in fields(self) if getattr(self, one.name) != one.default
        )


FAIR = Weather()


class Link:
    """Listens on a port and passes on to another; `cut` drops and refuses, `mend` passes on again, in fair weather."""

    def __init__(self, target: int) -> None:
        self.weather = FAIR
        self._dice = random.Random(target)  # noqa: S311 - weather, not a secret
        self.port = free_port()
        self._target = target
        self._cut = threading.Event()
        self._stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def start(self) -> None:
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(64)
        threading.Thread(target=self._accept, name=f"link-{self.port}", daemon=True).start()

    def cut(self) -> None:
        self._cut.set()
        self._drop()

    def mend(self) -> None:
        self.weather = FAIR
        self._cut.clear()

    def lead_to(self, target: int) -> None:
        """Lead elsewhere from now on; open connections are dropped."""
        if target != self._target:
            self._target = target
            self._drop()

    def stop(self) -> None:
        self._stopping.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._drop()

    def _drop(self) -> None:
        with self._lock:
            dropped, self._open = self._open, set()
        for one in dropped:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._cut.is_set():
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._target), timeout=2)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._open |= {near, far}
            for one, other, way in ((near, far, "there"), (far, near, "back")):
                threading.Thread(target=self._pass_on, args=(one, other, way), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket, way: str) -> None:
        with suppress(OSError):
            while data := one.recv(CHUNK):
                if self.weather is not FAIR:
                    self._stopping.wait(self.weather.delay(self._dice))
                    while not getattr(self.weather, way) and not self._stopping.is_set():
                        self._stopping.wait(HELD_POLL_S)
                other.sendall(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            with self._lock:
                self._open.discard(end)
            end.close()
