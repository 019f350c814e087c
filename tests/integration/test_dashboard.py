"""The dashboard asks only for what exists, in queries that Prometheus can read; no Grafana has drawn it.

That it gets answers on a real night is proven in `tests/acceptance/test_observed_night.py`.
"""

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.alerting import ROOT, emitted, recorded, selectors

BOARD: dict[str, Any] = json.loads((ROOT / "ops/grafana/dashboards/mlfs.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]] + [
    annotation["expr"] for annotation in BOARD["annotations"]["list"]
]
# Grafana puts these in; Prometheus gives a series its job.
FILLED_IN = {"$__rate_interval": "5m", '{job=~"$job"}': ""}


def filled_in(query: str) -> str:
    for variable, value in FILLED_IN.items():
        query = query.replace(variable, value)
    return query


def test_prometheus_reads_every_query(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    rules = [{"record": f"query:{number}", "expr": filled_in(query)} for number, query in enumerate(QUERIES)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")

    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, timeout=50, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(QUERIES)} rules found" in done.stdout


def test_every_query_names_only_what_is_emitted_or_recorded() -> None:
    samples = emitted()
    named = [one for query in QUERIES for one in selectors(filled_in(query))]

    assert named
    assert [one for one in named if not any(one.matches(*sample) for sample in samples)] == []
    assert set(re.findall(r"\bmlfs:[a-z0-9_]+", " ".join(QUERIES))) <= set(recorded())


def test_every_panel_says_what_it_shows_and_names_no_data_source_of_its_own() -> None:
    for panel in PANELS:
        assert panel["description"], panel["title"]
        assert {"${datasource}"} == {
            panel["datasource"]["uid"],
            *(one["datasource"]["uid"] for one in panel["targets"]),
        }


def test_panels_have_ids_of_their_own_and_do_not_cover_each_other() -> None:
    places = [panel["gridPos"] for panel in BOARD["panels"]]

    assert len(BOARD["panels"]) == len({panel["id"] for panel in BOARD["panels"]})
    assert not [pair for pair in combinations(places, 2) if covers(*pair)]


def covers(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[start] < other[start] + other[length] and other[start] < one[start] + one[length]
        for start, length in (("x", "w"), ("y", "h"))
    )
