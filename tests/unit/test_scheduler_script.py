"""`ops/workflows/scheduler.sh`, run for real with a stand-in for gcloud that remembers jobs."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "ops" / "workflows" / "scheduler.sh"
# Knows the jobs that were created; `create` of one that exists fails, and so does `update` of one that does not.
GCLOUD = """#!/bin/sh
cd "$(dirname "$0")"
printf '%s\\n' "$*" >> calls
touch jobs
case "$1 $2 $3" in
  "scheduler jobs describe") grep -qx "$4" jobs ;;
  "scheduler jobs create") if grep -qx "$5" jobs; then exit 1; fi; echo "$5" >> jobs ;;
  "scheduler jobs update") grep -qx "$5" jobs ;;
esac
"""
ENVIRONMENT = {
    "PROJECT": "p",
    "REGION": "us-central1",
    "MLFS_URL": "https://mlfs.example",
    "SCHEDULER_ACCOUNT": "scheduler@p.iam.gserviceaccount.com",
    "TICK_ACCOUNT": "ticker@p.iam.gserviceaccount.com",
    "WORKFLOW_ACCOUNT": "workflow@p.iam.gserviceaccount.com",
    "TEAM_DEFENSE_URL": "https://defense.example",
    "PLAYER_SHOT_URL": "https://shots.example",
    "COMPOSITE_URL": "https://factors.example",
    "DAILY_CACHE_URL": "https://cache.example",
    "NOTIFY_URL": "https://pager.example/?a=1,2",
}


def run(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    gcloud = folder / "gcloud"
    gcloud.write_text(GCLOUD)
    gcloud.chmod(0o755)
    variables = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", **environment}
    return subprocess.run(
        [str(SCRIPT), *arguments], env=variables, capture_output=True, text=True, timeout=20, check=False
    )


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


@pytest.mark.parametrize("what", ["process", "workflow", "tick"])
def test_a_second_run_updates_what_the_first_created(what: str, tmp_path: Path) -> None:
    first, second = (run(tmp_path, what, **ENVIRONMENT).returncode for _ in range(2))

    verbs = [call.split()[2] for call in calls(tmp_path) if call.startswith("scheduler jobs")]
    assert (0, 0, ["describe", "create", "describe", "update"]) == (first, second, verbs)
    assert 1 == len((tmp_path / "jobs").read_text().splitlines())


def test_the_time_based_job_asks_for_today_and_retries_three_times_before_midnight(tmp_path: Path) -> None:
    run(tmp_path, "process", **ENVIRONMENT)

    made = calls(tmp_path)[-1]
    for part in (
        "--schedule 25 23 * * *",
        "--time-zone America/New_York",
        "--uri https://mlfs.example/process",
        '--message-body {"analysis_date": "today"}',
        "--max-retry-attempts 3 --min-backoff 300s --max-backoff 300s",
        "--oidc-service-account-email scheduler@p.iam.gserviceaccount.com --oidc-token-audience https://mlfs.example",
    ):
        assert part in made


def test_no_job_carries_a_date(tmp_path: Path) -> None:
    for what in ("process", "workflow", "tick"):
        run(tmp_path, what, **ENVIRONMENT)

    assert [] == [call for call in calls(tmp_path) if "202" in call]


def test_the_workflow_gets_every_address_it_reads(tmp_path: Path) -> None:
    run(tmp_path, "workflow", **ENVIRONMENT)

    deployed = calls(tmp_path)[0]
    given = dict(pair.split("=", 1) for pair in deployed.partition("^|^")[2].split("|"))
    wanted = {name: value for name, value in ENVIRONMENT.items() if name.endswith("_URL")}
    assert {**wanted, "TIME_ZONE": "America/New_York"} == given


@pytest.mark.parametrize("what", ["process", "workflow", "tick"])
def test_what_is_not_set_is_named_before_anything_is_called(what: str, tmp_path: Path) -> None:
    done = run(tmp_path, what, PROJECT="p")

    assert (2, False) == (done.returncode, (tmp_path / "calls").exists())
    assert "REGION MLFS_URL" in done.stderr


def test_without_a_word_it_says_what_it_does(tmp_path: Path) -> None:
    done = run(tmp_path)

    assert (2, True) == (done.returncode, "scheduler.sh process" in done.stderr)


def test_shellcheck_finds_nothing() -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    command = shellcheck if shellcheck.exists() else shutil.which("shellcheck")
    assert command, "shellcheck is part of the development environment"

    done = subprocess.run([str(command), str(SCRIPT)], capture_output=True, text=True, timeout=20, check=False)

    assert (0, "") == (done.returncode, done.stdout), shlex.join([str(command), str(SCRIPT)])
