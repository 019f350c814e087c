"""The measured tables and pictures are made from the committed results; `make plots` makes them."""

import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import measure
from bench.report.pages import PAGES, made, parts_of, refreshed
from bench.report.peers_table import peers_short, peers_table
from bench.report.results import IMAGES, NAMES, PICTURES, fingerprint, read_results
from bench.report.tables import TABLES, TARGET_NAMES, targets
from ops.bench.measure import busy_share
from ops.bench.sampling import PARTS
from tests.documentation.pages import ROOT, links, named

RESULTS = read_results()
MADE = made(RESULTS)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_measured_tables_are_those_of_the_results(page: Path) -> None:
    """Run `make plots` where this fails."""
    assert MADE[page] == page.read_text(encoding="utf-8")


def test_every_table_has_its_place_once() -> None:
    found = [name for page in PAGES for name in parts_of(page.read_text(encoding="utf-8"))]

    assert sorted(found) == sorted(TABLES)


def test_a_table_that_follows_other_results_differs() -> None:
    page = "<!-- measured: peers in short -->\n<!-- end -->\n"
    other = json.loads(json.dumps(RESULTS))
    other["peers"]["tools"]["mlfs"]["kill"]["lost"] = 59

    assert refreshed(page, RESULTS) != refreshed(page, other)
    assert "| 59 |" in refreshed(page, other)


def test_every_picture_stands_in_a_page() -> None:
    shown = {(page.parent / link).resolve() for page in PAGES for link in links(page) if link.endswith(".png")}

    assert {IMAGES / f"{picture}.png" for picture in PICTURES} <= shown


@pytest.mark.parametrize("picture", PICTURES)
def test_every_picture_shows_the_committed_results(picture: str) -> None:
    """Run `make plots` where this fails."""
    texts = dict(png_texts((IMAGES / f"{picture}.png").read_bytes()))

    assert texts["Source"] == fingerprint(PICTURES[picture])


def png_texts(data: bytes) -> Iterator[tuple[str, str]]:
    """The texts that a PNG carries: chunks are length, kind, content, checksum."""
    place = 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        if data[place + 4 : place + 8] == b"tEXt":
            key, _, value = data[place + 8 : place + 8 + length].partition(b"\0")
            yield key.decode("latin-1"), value.decode("latin-1")
        place += length + 12


def test_the_performance_page_explains_every_part_of_the_hot_path() -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")

    assert not [part for part in PARTS if f"\n| {part} | " not in page.partition("| part | what is in it |")[2]]


def test_every_target_of_a_result_has_its_row() -> None:
    everything = [{"target": name, "value": 1.0, "limit": 2, "at_least": True, "met": False} for name in TARGET_NAMES]
    rows = targets({**RESULTS, "build": {"targets": everything}})

    assert all(f"| {name} | 1 | at least 2 | **missed** |" in rows for name in TARGET_NAMES.values())


def test_a_tool_that_did_not_finish_is_shown_as_such() -> None:
    result = {**RESULTS["peers"], "tools": {"celery": {"one": {"not finished": "5 builds not within 180 s"}}}}

    assert "| Celery | not finished |" in peers_table(result)
    assert "not finished" in peers_short(result)


def test_measuring_writes_the_result_with_how_busy_the_machine_was(tmp_path: Path) -> None:
    measure.measure("build", ("build", "--entities", "250", "--runs", "1"), tmp_path, watched_s=0.05)

    result = json.loads((tmp_path / "build.json").read_text(encoding="utf-8"))
    assert result["sizes"][0]["entities"] == 250
    assert result["command"] == "mlfs bench build --entities 250 --runs 1"
    assert 0 <= result["machine"]["busy_before"] <= 1


def test_a_busy_machine_is_refused(tmp_path: Path) -> None:
    assert measure.main(["--only", "build", "--out", str(tmp_path)], load=lambda: 1.01) == 1
    assert list(tmp_path.iterdir()) == []


def test_every_result_but_the_peers_has_its_part() -> None:
    assert {*measure.PARTS, "peers"} == {*NAMES}
    assert measure.SMALL.keys() == measure.PARTS.keys()


def test_the_share_of_busy_processors_is_a_share() -> None:
    assert 0 <= busy_share(0.05) <= 1


def test_the_table_of_the_peers_needs_neither_mlfs_nor_a_package() -> None:
    code = (
        "import bench.report.peers_table, sys; print(*{m.partition('.')[0] for m in sys.modules} & {'ops', 'worker'})"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout == "\n"
