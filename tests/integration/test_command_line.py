"""The command line: help without imports, whole sentences, one option for the folder, an end in order at any moment."""

import inspect
import json
import os
import re
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from ops.arguments import EXIT_REFUSED
from ops.cli import GROUPS, SECTIONS
from tests.support.programs import COMMAND, Program
from worker.resources import ProcessKind, Resources
from worker.settings import load

ENTRIES = [entry for section in (*SECTIONS.values(), *GROUPS.values()) for entry in section.values() if entry[0]]
# Each costs more than `mlfs --help` altogether.
HEAVY = {"pydantic", "redis", "rich", "structlog", "asyncio", "duckdb", "google", "grpc", "fastapi", "sqlglot"}
# The status needs the settings and the state store.
NEEDLESS = {"structlog", "prometheus_client", "duckdb", "google", "grpc", "fastapi", "uvicorn", "sqlglot", "jinja2"}


def loaded(words: list[str], tmp_path: Path) -> set[str]:
    """Return the top level packages that `mlfs` has imported when *words* are done."""
    code = (
        f"import sys; sys.argv[1:] = {words!r}\n"
        "from ops.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "import json; print(json.dumps([n for n, m in sys.modules.items() if m]), file=sys.stderr)\n"
    )
    environ = Program(tmp_path / "data").environ()
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}


@pytest.mark.parametrize(("target", "sentence"), ENTRIES)
def test_the_help_says_what_the_docstring_of_the_command_says(target: str, sentence: str) -> None:
    module, _, function = target.partition(":")
    text = " ".join((inspect.getdoc(getattr(import_module(module), function)) or "").split())

    assert text.startswith(sentence)
    assert sentence.endswith(".")


@pytest.mark.parametrize("words", [["--help"], ["--version"]], ids=" ".join)
def test_help_and_version_import_no_command(words: list[str], tmp_path: Path) -> None:
    assert loaded(words, tmp_path) & HEAVY == set()


def test_status_imports_the_settings_and_the_store_alone(tmp_path: Path) -> None:
    Program(tmp_path / "data").run("emit", "2024-12-15", "player_daily_cache")
    names = loaded(["status"], tmp_path)

    assert "redis" in names
    assert names & NEEDLESS == set()


@pytest.mark.parametrize("words", [[], *([name] for name in GROUPS), ["replay"], ["demo"]], ids=" ".join)
def test_no_help_is_cut(words: list[str], tmp_path: Path) -> None:
    told = Program(tmp_path, {"COLUMNS": "80"}).here(*words, "--help").stdout

    assert max(map(len, told.splitlines())) <= 80 or "Examples:" in told
    assert "..." not in told.replace("[ARGS]...", "")


def test_the_whole_help_names_every_command_with_its_sentence(tmp_path: Path) -> None:
    told = " ".join(Program(tmp_path, {"COLUMNS": "80"}).here("--help").stdout.split())

    for section in SECTIONS.values():
        for name, (_, sentence) in section.items():
            assert f" {name} {sentence}" in told


@pytest.mark.parametrize("before", [True, False])
def test_the_folder_is_chosen_before_or_after_the_command(before: bool, tmp_path: Path) -> None:
    option, command = ["--data-dir", str(tmp_path / "chosen")], ["config", "--json"]
    done = Program(tmp_path / "other").here(*(option + command if before else command + option))

    assert json.loads(done.stdout)["MLFS_DATA_DIR"] == str(tmp_path / "chosen")


def test_the_folder_is_chosen_between_a_group_and_the_command(tmp_path: Path) -> None:
    done = Program(tmp_path / "other").here("dlq", "--data-dir", str(tmp_path / "chosen"), "list")

    assert (done.returncode, f"no data at {tmp_path / 'chosen'}" in done.stderr) == (EXIT_REFUSED, True)


@pytest.mark.parametrize("words", [["--data-dir", "", "config"], ["config", "--data-dir="]], ids=str)
def test_an_empty_name_of_a_folder_is_not_the_default_folder(words: list[str], tmp_path: Path) -> None:
    done = Program(tmp_path).here(*words)

    assert (done.returncode, "'--data-dir': names no folder" in done.stderr) == (EXIT_REFUSED, True)


def test_the_chosen_folder_counts_for_what_a_word_like_today_means(tmp_path: Path) -> None:
    done = Program(tmp_path / "other").here("explain", "today", "--data-dir", str(tmp_path / "chosen"))

    assert done.returncode == EXIT_REFUSED
    assert f"no data at {tmp_path / 'chosen'}" in done.stderr


@pytest.mark.parametrize("after_ms", [30, 90, 150, 220, 300])
def test_an_interrupt_while_modules_are_imported_ends_in_order(after_ms: int, tmp_path: Path) -> None:
    """The signal comes *after_ms* of processor time of the program, which is in the middle of some import."""
    code = (
        "import os, signal, threading, time\n"
        "import ops.__main__ as program\n"
        f"until = time.process_time() + {after_ms / 1000}\n"
        "def strike():\n    while time.process_time() < until: time.sleep(0.001)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "threading.Thread(target=strike, daemon=True).start()\n"
        "import sys; sys.argv[1:] = ['doctor']\n"
        "program.main()\n"
    )
    environ = Program(tmp_path / "data").environ()
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)

    assert done.returncode == 128 + signal.SIGINT
    assert "Traceback" not in done.stderr


def complete(line: str, environ: dict[str, str]) -> list[str]:
    """Return the words that bash would offer at the end of *line*."""
    words = line.split(" ")
    asked = {"_MLFS_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    code = "import sys; sys.argv[0] = 'mlfs'; from ops.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ | asked, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_the_shell_completes_commands_options_processors(tmp_path: Path) -> None:
    environ = Program(tmp_path / "none").environ()

    assert complete("mlfs re", environ) == ["replay", "retract", "reliability", "review", "recover", "rehearse"]
    assert complete("mlfs dlq ", environ) == ["list", "redrive"]
    assert complete("mlfs status --j", environ) == ["--json"]
    assert complete("mlfs emit 2024-12-15 player_d", environ) == ["player_daily_cache"]
    assert complete("mlfs retract 2024-12-15 team", environ) == ["team_defense_zone_analysis"]


def test_the_shell_completes_the_dates_of_the_folder_and_words(tmp_path: Path) -> None:
    program = Program(tmp_path / "data")
    assert complete("mlfs explain to", program.environ()) == ["today", "tonight"]
    assert complete("mlfs explain 20", program.environ()) == []
    assert not (tmp_path / "data").exists()
    program.run("demo", "--json")
    [folder] = (tmp_path / "data").glob("demo-*")

    assert complete(f"mlfs --data-dir {folder} explain 2024-", program.environ()) == ["2024-12-15"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_of_a_shell_is_shown(shell: str, tmp_path: Path) -> None:
    done = Program(tmp_path).run("--show-completion", shell)

    assert done.returncode == 0
    assert f"complete_{shell}" in done.stdout


def test_python_dash_m_is_the_same_command() -> None:
    done = subprocess.run([*COMMAND, "--version"], env=os.environ, capture_output=True, text=True, check=True)

    assert re.fullmatch(r"mlfs [0-9.]+\n", done.stdout)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["diff", "2024-12-15", "--generations", "2"], "(mlfs diff --help)"),
        (["dlq", "list", "--wait"], "(mlfs dlq list --help)"),
        (["features", "1999-01-01", "--out", "x.xlsx"], "the name must end in one of .parquet, .csv, .jsonl"),
        (
            ["features", "2024-12-15", "--out", "x.csv", "--generation", "1", "--published-by", "2024-12-15T23:50:00Z"],
            "--generation",
        ),
    ],
)
def test_a_refusal_names_the_cause_and_the_help_of_the_command(words: list[str], told: str, tmp_path: Path) -> None:
    done = Program(tmp_path / "data").here(*words)

    assert done.returncode == EXIT_REFUSED
    assert told in done.stderr


def test_a_setting_with_few_values_is_refused_with_these_values(tmp_path: Path) -> None:
    done = Program(tmp_path / "data", {"MLFS_LOG_LEVEL": "loud"}).here("config")

    assert "MLFS_LOG_LEVEL: must be debug, info, warning or error" in done.stderr


def test_the_next_step_of_a_demo_can_be_pasted(tmp_path: Path) -> None:
    """The command is a line of its own, whole at any width, with the folder, for the program that was called."""
    program = Program(tmp_path / "a folder", {"COLUMNS": "40"})
    shown = program.run("demo").stdout.splitlines()
    command = shown[shown.index("look at the night again:") + 1]

    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S602

    assert done.returncode == 0, done.stderr
    assert "2024-12-15" in done.stdout


EMIT = ("emit", "2024-12-15", "player_daily_cache")
REPLAY = ("replay", "2024-12-15", "--reason", "repaired", "--yes")
RANGE = ("replay", "--from", "2024-12-14", "--to", "2024-12-15", "--reason", "repaired", "--yes", "--wait", "0")
NO_WORKER = "no worker runs in this folder; the next worker"


@pytest.mark.parametrize(
    ("words", "task"),
    [(EMIT, "takes the message"), (REPLAY, "builds the date"), (RANGE, "builds the dates")],
    ids=["emit", "replay", "range"],
)
def test_without_a_worker_a_command_names_the_command_line_that_starts_a_worker(
    words: tuple[str, ...], task: str, tmp_path: Path
) -> None:
    program = Program(tmp_path / "data")
    program.here(*EMIT)  # the folder exists

    assert f"{NO_WORKER} {task}: mlfs run --data-dir {tmp_path / 'data'}\n" in program.here(*words).stderr


def test_a_dry_run_and_a_command_beside_a_worker_name_no_absent_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program(tmp_path / "data")
    program.here(*EMIT)
    program.here(*REPLAY)
    planned = program.here(*REPLAY, "--dry-run")
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path / "data"))
    with Resources(load(), ProcessKind.PULL) as worker:
        worker.open()
        beside = [program.here(*words) for words in (EMIT, REPLAY, RANGE)]

    assert [0, 0, 0, 4] == [planned.returncode, *(done.returncode for done in beside)]
    assert NO_WORKER not in "".join(done.stderr for done in (planned, *beside))
