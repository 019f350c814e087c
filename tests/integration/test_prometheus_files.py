"""What is shipped for Prometheus and Alertmanager is accepted by them, and the rules fire where they should."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.alerting import PROMETHEUS


def accepted(program: str, package: str, *arguments: str | Path) -> None:
    binary = shutil.which(program)
    if binary is None:
        pytest.skip(f"{program} is not installed (Debian: apt-get install {package})")
    done = subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_the_rules_and_the_example_configuration() -> None:
    accepted("promtool", "prometheus", "check", "config", PROMETHEUS / "prometheus.yml")


@pytest.mark.parametrize("file", sorted((PROMETHEUS / "tests").glob("*.yml")), ids=lambda file: file.stem)
def test_alerts_fire_on_the_right_side_of_every_boundary(file: Path) -> None:
    accepted("promtool", "prometheus", "test", "rules", file)


def test_alertmanager_accepts_the_example_configuration() -> None:
    accepted("amtool", "prometheus-alertmanager", "check-config", PROMETHEUS / "alertmanager.yml")
