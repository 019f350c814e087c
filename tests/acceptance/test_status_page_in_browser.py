"""The status page in a real browser: its content policy holds, it renews itself, and its form gets through."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from statemachine.events import CompletionReceived
from statemachine.model import CompletionStatus
from tests.support.browser import Browser, absent, browser
from tests.support.nights import CACHE, DEFENSE, NIGHT, PROCESSORS, claimed, committed, completion, success
from tests.support.services import Service

pytestmark = pytest.mark.skipif(bool(absent()), reason=f"not installed: {absent()}; Debian: chromium, chromium-driver")

PHONE = 360
LOOK_AGAIN = "document.dispatchEvent(new Event('visibilitychange'))"
HOSTILE = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(listens=True) as running:
        yield running


@pytest.fixture
def page(window: Browser, service: Service) -> Browser:
    """The page of a night with one report in, and one failure whose text is hostile."""
    broken = replace(completion(DEFENSE, CompletionStatus.FAILED, rows=None), error=HOSTILE)
    for event in (success(CACHE), CompletionReceived(completion=broken)):
        service.worker.engine.apply(NIGHT, event)
    window.log()  # of the test before
    window.open(f"{service.worker.http_address}/")
    return window


def publish(service: Service) -> None:
    for event in (*(success(name) for name in PROCESSORS), claimed(), committed()):
        service.worker.engine.apply(NIGHT, event)


def test_nothing_hostile_runs_and_the_page_keeps_its_own_rules(page: Browser) -> None:
    assert HOSTILE in page.text("table.arrivals")
    assert f"waiting · {NIGHT} · mlfs" == page.run("return document.title")
    assert "rgb(0, 0, 0)" != page.run("return getComputedStyle(document.querySelector('.word')).color")
    assert [] == page.log()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone(page: Browser, service: Service, scheme: str) -> None:
    publish(service)
    page.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.command("Emulation.setDeviceMetricsOverride", width=PHONE, height=640, deviceScaleFactor=1, mobile=False)
    page.open(f"{service.worker.http_address}/")
    wide, outside = page.run("return document.documentElement.scrollWidth"), overhanging(page, PHONE)
    page.command("Emulation.clearDeviceMetricsOverride")

    assert wide <= PHONE
    assert [] == outside


def overhanging(page: Browser, width: int) -> list[str]:
    """What reaches over the edge of the window or of its cell."""
    found: list[str] = page.run(
        "return [...document.querySelectorAll('main *')].filter((one) => !one.closest('thead, caption, .unseen') && ("
        f"one.getBoundingClientRect().right > {width} || one.matches('th, td') && one.scrollWidth > one.clientWidth"
        ")).map((one) => one.outerHTML)"
    )
    return found


@pytest.mark.parametrize("width", [PHONE, 1008, 1100])
def test_the_outlook_fits_each_window(page: Browser, service: Service, width: int) -> None:
    service.client.get(f"/dates/{NIGHT}/outlook")
    page.command("Emulation.setDeviceMetricsOverride", width=width, height=640, deviceScaleFactor=1, mobile=False)
    page.run(LOOK_AGAIN)
    shown = page.wait("document.querySelector('table.outlook') !== null")
    outside = overhanging(page, width)
    page.command("Emulation.clearDeviceMetricsOverride")

    assert shown
    assert "Go now: " in page.text(".foresight")
    assert [] == outside


def test_the_page_renews_itself_and_says_what_changed(page: Browser, service: Service) -> None:
    publish(service)
    page.run(LOOK_AGAIN)

    assert page.wait("document.querySelector('main').dataset.state === 'done'")
    assert f"done · {NIGHT} · mlfs" == page.run("return document.title")
    assert f"done · {NIGHT} · mlfs" == page.run("return document.querySelector('#announce').textContent")


def test_a_worker_that_is_gone_is_told(page: Browser, service: Service) -> None:
    service.worker.listeners.stop()
    page.run(LOOK_AGAIN)

    assert page.wait("!document.querySelector('#stale').hidden")
    assert "does not answer. This is how it stood at 23:00:00 EST" in page.text("#stale")


def test_what_is_being_written_is_not_swept_away_and_the_form_gets_through(page: Browser, service: Service) -> None:
    page.write("#reason", "cache repaired")
    publish(service)
    page.run(LOOK_AGAIN)
    noted = page.text("#note")
    page.click("main button")
    asked = page.text(".s-ready h1")
    page.click("main button")

    assert ("Paused while you write.", True) == (noted, asked.endswith(f"Build {NIGHT} again?"))
    assert "As generation 2, asked for by local: cache repaired" in page.text(".request")
    assert "cache repaired" == service.warehouse.audits[-1]["reason"]


def test_a_form_of_another_site_does_not_get_through(page: Browser, service: Service) -> None:
    fields = "".join(f"<input name={name} value=1>" for name in ("reason", "key", "confirmed"))
    address = f"{service.worker.http_address}/nights/{NIGHT}/replay"
    page.open(f"data:text/html,<form method=post action={address}>{fields}<button>win</button></form>")
    page.click("button")

    assert page.text("h1 .which").startswith("403")
    assert [] == service.warehouse.audits
