"""What an operator can meet - commands, settings, metrics, reasons - is documented by name, and only what exists is."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

import worker.observing.date_metrics
import worker.observing.metrics
from ops import cli
from schemas.completion import RefusalReason
from statemachine.reasons import Reason
from worker.settings import Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def documentation() -> str:
    pages = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


def page(name: str) -> str:
    file = DOCS / name
    return file.read_text(encoding="utf-8") if file.exists() else ""


def undocumented(names: Iterable[str], pattern: str) -> str:
    """The *names* that no page mentions, one a line; *pattern* is their form, with NAME in the name's place."""
    text = documentation()
    return "\n".join(sorted(name for name in names if not re.search(pattern.replace("NAME", re.escape(name)), text)))


def leaf_commands(command: Any, path: str) -> Iterator[str]:
    children = getattr(command, "commands", {})
    for name, child in children.items():
        yield from leaf_commands(child, f"{path} {name}")
    if not children:
        yield path


def commands() -> set[str]:
    return set(leaf_commands(typer.main.get_command(cli.app), "mlfs"))


def settings() -> set[str]:
    return {f"{Settings.model_config['env_prefix']}{field}".upper() for field in Settings.model_fields}


def metrics() -> set[str]:
    """The names that the two modules of metrics declare, read from their source."""
    return declared(worker.observing.metrics) | declared(worker.observing.date_metrics)


def declared(module: ModuleType) -> set[str]:
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    names = {text for text in texts if re.fullmatch(r"mlfs_[a-z0-9_]+", text)}
    assert names, f"{module.__name__} declares no name that starts with mlfs_"
    return names


def reasons() -> set[str]:
    return {str(member.value) for member in Reason}


def refusals() -> set[str]:
    return {str(member.value) for member in RefusalReason}


def test_every_command_is_documented() -> None:
    missing = undocumented(commands(), r"\bNAME\b(?!-)")

    assert not missing, f"named in neither docs/ nor README.md:\n{missing}"


def test_every_setting_is_documented() -> None:
    missing = undocumented(settings(), r"\bNAME\b")

    assert not missing, f"named in neither docs/ nor README.md:\n{missing}"


def test_every_metric_is_documented() -> None:
    missing = undocumented(metrics(), r"\bNAME(_total|_info)?\b")

    assert not missing, f"named in neither docs/ nor README.md:\n{missing}"


def test_every_reason_of_a_decision_is_documented() -> None:
    missing = undocumented(reasons(), r"`NAME`")

    assert not missing, f"named in neither docs/ nor README.md:\n{missing}"


def test_every_reason_of_a_refusal_is_documented() -> None:
    missing = undocumented(refusals(), r"`NAME`")

    assert not missing, f"named in neither docs/ nor README.md:\n{missing}"


def test_the_settings_page_names_no_setting_that_is_gone() -> None:
    assert set(re.findall(r"\bMLFS_[A-Z0-9_]+\b", page("settings.md"))) - settings() == set()


def test_the_metrics_page_names_no_metric_that_is_gone() -> None:
    named = re.findall(r"`(mlfs_[a-z0-9_]+)`", page("metrics.md"))
    declared = {name + ending for name in metrics() for ending in ("", "_total", "_info", "_bucket", "_count", "_sum")}

    assert set(named) - declared == set()


def test_the_command_page_names_no_command_that_is_gone() -> None:
    known = commands()
    named = set(re.findall(r"^#+ `?(mlfs(?: [a-z][a-z-]*)+)", page("cli.md"), re.MULTILINE))

    assert {one for one in named if not any(f"{one} ".startswith(f"{name} ") for name in known)} == set()


def test_a_missing_name_is_reported_by_name() -> None:
    assert undocumented(["mlfs_never_heard_of"], r"\bNAME\b") == "mlfs_never_heard_of"
