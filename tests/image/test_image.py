"""The Dockerfile's steps lead to an image whose worker starts on a read-only root as a bare user, and stops in time.

`make image-replay` runs these tests with every step as it is written; here uv stands in for pip.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path, PurePosixPath

import pytest

from ops.leaving import LEAVE_WITHIN_S
from tests.conftest import free_port
from tests.image.dockerfile import context_files, read_stages
from tests.image.replay import Built, Replay, inside, why_not

DISTRIBUTION = "ml-feature-store-worker"
STAGES = read_stages()
FINAL = STAGES[-1]
# The set-up of the first test replays everything; pip takes minutes on a busy machine.
pytestmark = pytest.mark.timeout(600)
STOP_WITHIN_S = LEAVE_WITHIN_S + 1


@dataclass
class Container:
    """The finished image, with a volume of its own."""

    image: Built
    data: Path
    port: int = field(default_factory=free_port)

    def start(self, *words: str, entrypoint: Sequence[str] | None = None, **options: object) -> "subprocess.Popen[str]":
        command = [*(self.image.entrypoint if entrypoint is None else entrypoint), *words]
        return subprocess.Popen(
            inside(self.image, command, writable={"/data": self.data}, as_user=True),
            env={**self.image.environment, "MLFS_HTTP_PORT": str(self.port)},
            text=True,
            **options,
        )

    def run(self, *words: str, entrypoint: Sequence[str] | None = None) -> "subprocess.CompletedProcess[str]":
        process = self.start(*words, entrypoint=entrypoint, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def is_healthy(self) -> bool:
        return self.run(entrypoint=self.image.healthcheck).returncode == 0


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Built:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    quick = os.environ.get("IMAGE_REPLAY") != "full"
    replay = Replay(tmp_path_factory.mktemp("image"), quick=quick)
    return [replay.replay(stage) for stage in STAGES][-1]


@pytest.fixture
def container(image: Built, tmp_path: Path) -> Container:
    """An empty volume takes over the owner of what it covers, as in Docker."""
    (volume,) = image.volumes
    covered = (image.root / volume.lstrip("/")).stat()
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, covered.st_uid, covered.st_gid)
    return Container(image, data)


@pytest.fixture
def worker(container: Container, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    with (tmp_path / "log").open("w", encoding="utf-8") as log:
        process = container.start(*container.image.command, stdout=log, stderr=log)
    yield process
    process.kill()
    process.wait(timeout=10)


def process_one(unshare: "subprocess.Popen[str]") -> int:
    """The process of this machine that is process 1 inside."""
    children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text(encoding="utf-8").split()
    return int(children[0])


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return {name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.slow
def test_the_worker_runs_as_process_one_without_rights_and_leaves_on_sigterm(
    container: Container, worker: "subprocess.Popen[str]", tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    wait_until(lambda: worker.poll() is not None or container.is_healthy(), "the worker is healthy", 60)
    assert worker.poll() is None, (tmp_path / "log").read_text(encoding="utf-8")
    pid = process_one(worker)
    status = status_of(pid)
    os.kill(pid, signal.SIGTERM)

    assert 0 == worker.wait(timeout=STOP_WITHIN_S)
    assert {"65532"} == set(status["Uid"].split()) | set(status["Gid"].split())
    assert ("1", "") == (status["NoNewPrivs"], status["Groups"])
    assert {0} == {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")}
    assert "1" == status["NSpid"].split()[-1]
    assert (container.data / "warehouse.duckdb").exists()


def test_the_command_line_answers_with_its_version(container: Container) -> None:
    done = container.run("--version")

    assert (0, f"mlfs {version(DISTRIBUTION)}\n") == (done.returncode, done.stdout), done.stderr


def test_nothing_but_tmp_and_the_volume_can_be_written(container: Container) -> None:
    script = (
        "import errno, json, os, pathlib\n"
        "def write(folder):\n"
        "    try:\n"
        "        pathlib.Path(folder, 'probe').write_text('x')\n"
        "    except OSError as error:\n"
        "        return errno.errorcode[error.errno]\n"
        "    return 'written'\n"
        "print(json.dumps({one: write(one) for one in ('/', '/opt/mlfs', '/etc', '/tmp', '/data')}))\n"
    )
    done = container.run("-c", script, entrypoint=["python"])

    assert {"/": "EROFS", "/opt/mlfs": "EROFS", "/etc": "EROFS", "/tmp": "written", "/data": "written"} == json.loads(  # noqa: S108
        done.stdout
    )


def test_the_environment_is_the_lock_and_the_wheel(image: Built) -> None:
    lock = Path(__file__).parents[2] / "requirements.lock"
    pins = {
        name.lower().replace("-", "_") for name in re.findall(r"^([A-Za-z0-9._-]+)==", lock.read_text(), re.MULTILINE)
    }
    found = {
        info.name.split("-")[0].lower() for info in (image.root / "opt/mlfs").rglob("*.dist-info") if info.is_dir()
    }

    assert "ml_feature_store_worker" in found
    assert set() == found - pins - {"ml_feature_store_worker"}


def test_the_builder_gets_what_the_wheel_is_made_of_and_nothing_else() -> None:
    files = set(context_files())
    tops = {path.parts[0] for path in files}

    assert {
        "statemachine",
        "schemas",
        "worker",
        "ops",
        "pyproject.toml",
        "requirements.lock",
        "LICENSE",
        "README.md",
    } == tops
    scripts = {PurePosixPath(f"worker/adapters/redis/{name}.lua") for name in ("commit", "renew")}
    assert scripts <= set(files)
    assert set() == {path for path in files if path.suffix == ".pyc" or "__pycache__" in path.parts}


def test_the_last_stage_runs_nothing_and_starts_without_a_shell() -> None:
    assert [] == FINAL.of("RUN")
    assert ['["mlfs"]'] == [step.value for step in FINAL.of("ENTRYPOINT")]
    assert ['["run"]'] == [step.value for step in FINAL.of("CMD")]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", FINAL.of("USER")[0].value)
    assert ["SIGTERM"] == [step.value for step in FINAL.of("STOPSIGNAL")]
    assert 'CMD ["' in FINAL.of("HEALTHCHECK")[0].value


def test_the_label_names_the_version_of_the_project() -> None:
    assert f"VERSION={version(DISTRIBUTION)}" in [step.value for step in FINAL.of("ARG")]


def test_every_base_is_pinned_and_every_dependency_has_a_hash() -> None:
    installs = [
        line for stage in STAGES for step in stage.of("RUN") for line in step.value.split("&&") if "install" in line
    ]

    assert all(re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", stage.base) for stage in STAGES)
    assert [] == [line for line in installs if "--require-hashes" not in line and "--no-index" not in line]
