"""The local Pub/Sub server as a program, where Google's emulator is not installed.

`python -m tests.support.compose_runner.pubsub HOST:PORT`. Like the emulator it keeps nothing. It ends on SIGTERM.
"""

import signal
import sys
import threading

from worker.local.pubsub.server import PubSubServer


def main(address: str) -> None:
    """Serve on `host:port` until asked to stop."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    host, port = address.split(":")
    with PubSubServer(host=host, port=int(port)):
        stop.wait()


if __name__ == "__main__":
    main(sys.argv[1])
