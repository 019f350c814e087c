"""One night through the compose file's services as plain processes, as `make stack` plays three."""

import json
import os
import shutil
import subprocess
import sys

import pytest

PROGRAMS = {
    "redis-server": "redis-server",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
}
NIGHT = ("--scenario", "nominal", "--pace", "0")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_night_goes_through_the_services_of_the_compose_file(tmp_path):
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian: apt-get install {package})")
    command = [
        sys.executable,
        "-m",
        "tests.support.compose_runner",
        "--any-ports",
        "--scrape-s",
        "1",
        "--json",
        "--",
        *NIGHT,
    ]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=170, check=False)

    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    dates = {one["analysis_date"]: one for one in seen["dates"]}
    # Until noon the night that is played is the evening before, and the worker awaits the date that has begun as well.
    # If the deadline falls into the run, the night falls back first and ends as a later generation.
    (night,) = (day for day, one in dates.items() if one["published_generation"])
    assert {"waiting"} >= {one["state"] for day, one in dates.items() if day != night}
    assert ("done", 449) == (dates[night]["state"], dates[night]["row_count"])
    shown = seen["prometheus"]
    assert {"mlfs": 1.0} == shown["up"]
    assert {night: dates[night]["published_generation"]} == shown["published_generation"]
    assert ([], 1) == (shown["rules_failing"], len(shown["alertmanagers"]))
    assert [] == list(tmp_path.glob("mlfs-stack-*"))
