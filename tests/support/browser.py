"""A real Chromium, driven by the W3C WebDriver protocol through `chromedriver`; nothing leaves the machine."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-features=MediaRouter,OptimizationHints,Translate",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


def absent() -> str:
    """What is missing for a browser test; empty when nothing is."""
    return ", ".join(name for name in ("chromium", "chromedriver") if shutil.which(name) is None)


class Browser:
    """One window."""

    def __init__(self, driver: httpx.Client) -> None:
        self._driver = driver

    def _do(self, method: str, path: str, **body: Any) -> Any:
        answer = self._driver.request(method, path, json=body if method == "POST" else None).json()["value"]
        if isinstance(answer, dict) and "error" in answer:
            raise AssertionError(f"{path}: {answer['error']}: {answer['message']}")
        return answer

    def open(self, address: str) -> None:
        self._do("POST", "url", url=address)

    def run(self, script: str, *args: Any) -> Any:
        """Run a script in the page and give what it returns."""
        return self._do("POST", "execute/sync", script=script, args=list(args))

    def wait(self, script: str) -> Any:
        """Wait until the expression is true, in the browser's own loop."""
        look = f"const look = () => {{ if ({script}) arguments[0](true); else setTimeout(look, 50); }}; look();"
        return self._do("POST", "execute/async", script=look, args=[])

    def _find(self, css: str) -> str:
        """Find an element, of the next page too: the browser waits for it."""
        found: str = self._do("POST", "element", using="css selector", value=css)[ELEMENT]
        return found

    def click(self, css: str) -> None:
        self._do("POST", f"element/{self._find(css)}/click")

    def write(self, css: str, text: str) -> None:
        self._do("POST", f"element/{self._find(css)}/value", text=text)

    def text(self, css: str) -> str:
        shown: str = self._do("GET", f"element/{self._find(css)}/text")
        return shown

    def log(self) -> list[str]:
        """What the browser complained about: broken rules of the content policy, errors of scripts."""
        return [entry["message"] for entry in self._do("POST", "se/log", type="browser")]

    def command(self, name: str, **params: Any) -> Any:
        """Speak to the browser's own protocol: emulation, screenshots."""
        return self._do("POST", "goog/cdp/execute", cmd=name, params=params)


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start a browser with a fresh profile."""
    program = subprocess.Popen(
        [shutil.which("chromedriver") or "", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert program.stdout is not None
        started = next(line for line in program.stdout if "started successfully on port" in line)
        port = int("".join(letter for letter in started.rpartition("port")[2] if letter.isdigit()))
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=40) as driver:
            chrome = {"args": [*FLAGS, f"--user-data-dir={profile}"]}
            wanted = {
                "goog:chromeOptions": chrome,
                "goog:loggingPrefs": {"browser": "ALL"},
                "timeouts": {"script": 20000, "implicit": 10000},
            }
            answer = driver.post("/session", json={"capabilities": {"alwaysMatch": wanted}}).json()["value"]
            assert "sessionId" in answer, answer
            session = f"/session/{answer['sessionId']}/"
            try:
                with httpx.Client(base_url=driver.base_url.join(session), trust_env=False, timeout=40) as window:
                    yield Browser(window)
            finally:
                driver.delete(session.rstrip("/"))
    finally:
        program.terminate()
        program.wait(10)
        if program.stdout is not None:
            program.stdout.close()
