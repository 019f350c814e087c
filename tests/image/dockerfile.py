"""The Dockerfile as steps by stage, and the files of the project that reach its builder."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
FLAGGED = {"RUN", "COPY", "HEALTHCHECK"}
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")


@dataclass(frozen=True)
class Step:
    """One instruction: its name, its flags (`--from=build` is `from: build`), and what follows them."""

    name: str
    flags: Mapping[str, str]
    value: str


@dataclass
class Stage:
    name: str
    base: str
    steps: list[Step] = field(default_factory=list)

    def of(self, name: str) -> list[Step]:
        return [step for step in self.steps if step.name == name]


def read_stages(path: Path = ROOT / "Dockerfile") -> list[Stage]:
    """The stages, in order."""
    parser = DockerfileParser(fileobj=BytesIO(path.read_bytes()))
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for found in parser.structure:
        name, value = found["instruction"], found["value"]
        if name == "COMMENT":
            continue
        if name == "FROM":
            base, _, alias = value.partition(" AS ")
            stages.append(Stage(alias or str(len(stages)), substituted(base, arguments)))
        elif not stages:
            assert name == "ARG", f"{name} before the first FROM"
            key, _, default = value.partition("=")
            arguments[key] = default
        else:
            stages[-1].steps.append(_step(name, value))
    return stages


def _step(name: str, value: str) -> Step:
    flags: dict[str, str] = {}
    while (flag := re.match(r"--([a-z-]+)=(\S+)\s+", value)) and name in FLAGGED:
        flags[flag[1]] = flag[2]
        value = value[flag.end() :]
    return Step(name, flags, value)


def substituted(text: str, variables: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: variables.get(found[1], ""), text)


def assignments(text: str) -> dict[str, str]:
    """Read `A=1 B="two words"`."""
    found = re.findall(r'([\w.]+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))', text)
    return {key: quoted or bare for key, quoted, bare in found}


def context_files(root: Path = ROOT) -> Iterator[PurePosixPath]:
    """The files that .dockerignore lets through, relative to the project."""
    rules = _ignore_rules((root / ".dockerignore").read_text(encoding="utf-8"))
    skipped = {".git", ".venv", ".mlfs"}
    for top in sorted(root.iterdir()):
        if top.name in skipped:
            assert not _included(PurePosixPath(top.name), rules), f"{top.name} would reach the builder"
            continue
        for file in sorted([top] if top.is_file() else top.rglob("*")):
            relative = PurePosixPath(file.relative_to(root).as_posix())
            if file.is_file() and _included(relative, rules):
                yield relative


def _ignore_rules(text: str) -> list[tuple[re.Pattern[str], bool]]:
    """Patterns with whether they let in; as Docker reads them: rooted, and the last one that matches decides."""
    rules = []
    for line in text.splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        lets_in = pattern.startswith("!")
        parts = [_segment(part) for part in pattern.lstrip("!").strip("/").split("/")]
        rules.append((re.compile("/".join(parts).replace("(?:.*)/", "(?:.*/)?")), lets_in))
    return rules


def _segment(part: str) -> str:
    if part == "**":
        return "(?:.*)"
    return re.escape(part).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")


def _included(path: PurePosixPath, rules: list[tuple[re.Pattern[str], bool]]) -> bool:
    names = [path.as_posix(), *(parent.as_posix() for parent in path.parents if parent.name)]
    included = True
    for pattern, lets_in in rules:
        if any(pattern.fullmatch(name) for name in names):
            included = lets_in
    return included
