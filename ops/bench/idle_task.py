"""What `mlfs bench footprint` measures of a start: `mlfs run`, all parts embedded, until `/readyz` says yes."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from worker.adapters.direct import opener_to
from worker.errors import Unavailable

READY_TIMEOUT_S = 30.0
POLL_S = 0.01
SETTLE_S = 2.0
STOP_TIMEOUT_S = 20.0


def idle(folder: str) -> dict[str, Any]:
    """Give seconds from the start of the process to ready, and its resident megabytes two seconds later. Linux."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    home = Path(folder)
    environment = {**os.environ, "MLFS_DATA_DIR": folder, "MLFS_HTTP_PORT": str(port), "MLFS_HTTP_HOST": "127.0.0.1"}
    pause = threading.Event()
    with (home / "worker.log").open("wb") as log:
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "ops", "run"], env=environment, stdout=log, stderr=log)
        try:
            while not _is_ready(f"http://127.0.0.1:{port}/readyz"):
                if process.poll() is not None or time.perf_counter() - started > READY_TIMEOUT_S:
                    raise Unavailable(f"mlfs run was not ready: {(home / 'worker.log').read_text()[-1000:]}")
                pause.wait(POLL_S)
            ready_s = time.perf_counter() - started
            pause.wait(SETTLE_S)
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_TIMEOUT_S)
    kilobytes = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    return {"ready_s": ready_s, "idle_mb": kilobytes / 1024}


def _is_ready(url: str) -> bool:
    try:
        with opener_to(url).open(url, timeout=1.0) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004 - the status says it all
    except OSError:
        return False
