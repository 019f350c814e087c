"""The Dockerfile's steps on a machine without Docker: each stage is a tree of its own that RUN steps are chrooted into.

Base image: this machine's system folders and Python, mounted read-only. What a step writes lies in the stage's tree.
Namespaces are the kernel's own (`unshare`), as in a container: mounts, and for the finished image processes too, so the
entry point really is process 1, under the image's user, on a read-only root. Needs root.

Not the same as in Docker: the base's operating system and Python are this machine's, the network is the host's, there
is no seccomp profile and no layer.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tests.image.dockerfile import ROOT, Stage, Step, assignments, context_files, substituted

SYSTEM = ("bin", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "usr")
STEP_TIMEOUT_S = 300
TMP = "/tmp"  # noqa: S108 - of the container


def why_not() -> str | None:
    """Why nothing can be replayed here; None where it can."""
    if sys.platform != "linux":
        return "needs Linux's namespaces"
    if os.geteuid() != 0:
        return "needs root, to mount and to change the user"
    missing = [name for name in ("unshare", "setpriv", "chroot", "mount") if shutil.which(name) is None]
    if missing:
        return f"{missing[0]} is not installed"
    tried = subprocess.run(
        ["/usr/bin/env", "unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False
    )
    return "the kernel lets nobody make namespaces here" if tried.returncode else None


@dataclass
class Built:
    """A stage that was replayed."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0:0"
    volumes: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)


@dataclass
class Replay:
    """Replays stages below *folder*.

    With *quick* the installation from the lock is left to uv: the same lock, hashes and wheels, from a cache that is
    warm after `make setup`, and nothing is compiled. It takes seconds where pip takes a minute or more.
    """

    folder: Path
    quick: bool
    built: dict[str, Built] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)

    def replay(self, stage: Stage) -> Built:
        root = self.folder / stage.name
        root.mkdir()
        _base(root)
        built = Built(root, {"PATH": f"{Path(sys.base_prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin"})
        arguments: dict[str, str] = {}
        for step in stage.steps:
            value = substituted(step.value, {**arguments, **built.environment}) if step.name != "RUN" else step.value
            self._apply(built, step, value, arguments)
        self.built[stage.name] = built
        return built

    def _apply(self, built: Built, step: Step, value: str, arguments: dict[str, str]) -> None:
        match step.name:
            case "ARG":
                arguments |= assignments(value)
            case "ENV":
                built.environment |= assignments(value)
            case "WORKDIR":
                built.workdir = value
                (built.root / value.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(built, step, value.split())
            case "RUN":
                self._run(built, step)
            case _:
                _note(built, step.name, value)

    def _copy(self, built: Built, step: Step, words: Sequence[str]) -> None:
        *sources, target = words
        for source in sources:
            if "from" in step.flags:
                origin = self.built[step.flags["from"]].root / source.lstrip("/")
                files = [PurePosixPath(one.relative_to(origin).as_posix()) for one in origin.rglob("*")]
            else:
                origin = ROOT if source == "." else ROOT / source
                files = list(context_files()) if source == "." else [PurePosixPath()]
                assert source == "." or PurePosixPath(source) in set(context_files()), f".dockerignore hides {source}"
            goal = built.root / target.lstrip("/")
            if origin.is_file() and target.endswith("/"):
                goal /= origin.name
            for file in files:
                self._put(origin / file, goal / file, step.flags.get("chown"))

    def _put(self, source: Path, target: Path, owner: str | None) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(source.readlink())
        elif source.is_dir():
            target.mkdir(exist_ok=True)
        else:
            # A tree is only read once its stage is done.
            os.link(source, target) if owner is None and source.is_relative_to(self.folder) else shutil.copy2(
                source, target
            )
        user, group = (int(one) for one in (owner or "0:0").split(":"))
        os.chown(target, user, group, follow_symlinks=False)

    def _run(self, built: Built, step: Step) -> None:
        text, mounts = step.value, {}
        if self.quick and "--require-hashes" in text:
            text, mounts = self._by_uv()
        else:
            assert "mount" not in step.flags, "the replay does not know --mount"
        command = inside(built, ["/bin/sh", "-c", text], writable=mounts, sources=True)
        passed = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_"))}
        self.ran.append(text)
        done = subprocess.run(
            command,
            env={**passed, "HOME": "/root", **built.environment},
            capture_output=True,
            text=True,
            timeout=STEP_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"RUN {text}\nended with {done.returncode}:\n{done.stdout}{done.stderr}"

    def _by_uv(self) -> tuple[str, dict[str, Path]]:
        uv = Path(sys.prefix) / "bin" / "uv"
        cache = subprocess.run([uv, "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
        install = "/uv/uv pip install --quiet --python /opt/mlfs/bin/python --cache-dir /uv-cache --require-hashes"
        text = f"{install} --no-deps --only-binary :all: --link-mode copy --requirement /src/requirements.lock"
        return text, {"/uv": uv.parent, "/uv-cache": Path(cache)}


def _note(built: Built, name: str, value: str) -> None:
    """Keep what an instruction says of the finished image."""
    match name:
        case "USER":
            built.user = value
        case "VOLUME":
            built.volumes.append(value)
        case "ENTRYPOINT":
            built.entrypoint = json.loads(value)
        case "CMD":
            built.command = json.loads(value)
        case "HEALTHCHECK":
            built.healthcheck = json.loads(value.partition("CMD ")[2])
        case _:
            assert name in {"LABEL", "EXPOSE", "STOPSIGNAL"}, f"the replay does not know {name}"


def _base(root: Path) -> None:
    """Make the places of the base's folders; a link stays a link, as /bin is one to /usr/bin."""
    for path in _system():
        place = root / path.relative_to("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            place.symlink_to(path.readlink())
        else:
            place.mkdir()
    for name in ("dev", "proc", "tmp"):
        (root / name).mkdir()


def _system() -> list[Path]:
    found = [path for path in (Path("/") / name for name in SYSTEM) if path.exists()]
    return found if sys.base_prefix.startswith("/usr") else [*found, Path(sys.base_prefix)]


def inside(
    built: Built,
    command: Sequence[str],
    *,
    writable: Mapping[str, Path],
    sources: bool = False,
    as_user: bool = False,
) -> list[str]:
    """The command line that runs *command* in a stage's tree.

    Args:
        built: The stage.
        command: What to run there.
        writable: Folders of this machine, by where they are mounted.
        sources: Whether the package sources of this machine are there too, for a build.
        as_user: Whether as the image's user, on a read-only root, without capabilities, as process 1.
    """
    root = built.root
    read_only = [path for path in _system() if not path.is_symlink()]
    read_only += [one for one in Path("/opt").glob("*") if sources and one.name != "mlfs"]
    lines = ["set -eu", f"mount --rbind /dev {root}/dev"]
    for path in read_only:
        lines += _mount(path, root, path, "ro")
    for target, path in writable.items():
        lines += _mount(path, root, Path(target), "rw")
    words = [*command]
    if as_user:
        user, group = built.user.split(":")
        words = [
            *("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"),
            *("--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", *words),
        ]
    spaces = ["--mount"]
    if as_user:
        spaces += ["--pid", "--fork", "--kill-child"]
        lines += [f"mount -t proc proc {root}/proc", f"mount -t tmpfs -o mode=1777 tmpfs {root}{TMP}"]
        # Over itself, with all that is mounted in it; that top mount is what becomes read-only.
        lines += [f"mount --rbind {root} {root}", f"mount -o remount,bind,ro {root}"]
    else:
        lines.append(f"mount --rbind /proc {root}/proc")
    lines.append(f"exec {shutil.which('chroot')} {root} /usr/bin/env -C {built.workdir} {shlex.join(words)}")
    return ["unshare", *spaces, "/bin/sh", "-c", "\n".join(lines)]


def _mount(source: Path, root: Path, target: Path, mode: str) -> list[str]:
    """Mount a folder of this machine into the tree."""
    goal = root / target.relative_to("/")
    bound = [f"mkdir -p {goal}", f"mount --rbind {source} {goal}"]
    return bound if mode == "rw" else [*bound, f"mount -o remount,bind,ro {goal}"]
