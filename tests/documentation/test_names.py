"""What the documentation names exists: commands and options, make targets, files, functions, links, anchors."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from statemachine.table import TRANSITIONS
from tests.documentation.command_lines import fault, make_fault, missing_paths, mlfs_part
from tests.documentation.pages import PAGES, ROOT, Block, Kind, anchors, blocks, code_spans, links, named
from worker.pipelines.shipped import SHIPPED
from worker.settings import Settings

_DOTTED = re.compile(r"(?:worker|ops|schemas|statemachine)(?:\.\w+)+")
_MADE_BY_THE_READER = {
    "ops/terraform/terraform.tfvars": "the reader writes it, ops/terraform/README.md says how",
}
_FORMS = {"NNNN-title.md"}  # of docs/adr/0000-template.md


def spans() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for span in code_spans(page):
            yield named(page), span


def command_blocks() -> Iterator[tuple[Block, str]]:
    for block in blocks():
        if block.kind is Kind.SESSION:
            yield from ((block, command) for command, _ in block.dialogue())
        elif block.kind is Kind.COMMANDS:
            yield from ((block, command) for command in block.commands())


def test_every_inline_command_exists_with_its_options() -> None:
    lines = [(page, span) for page, span in spans() if re.match(r"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?mlfs(\s|$)", span)]
    faults = [f"{page}: `{span}`: {found}" for page, span in lines if (found := fault(mlfs_part(span) or ""))]

    assert len(lines) > 150
    assert not faults, "\n".join(faults)


def test_every_command_of_a_block_exists_with_its_options() -> None:
    lines = [(block, part) for block, line in command_blocks() if (part := mlfs_part(line)) is not None]
    faults = [f"{block.where}: {part}: {found}" for block, part in lines if (found := fault(part))]

    assert len(lines) > 50
    assert not faults, "\n".join(faults)


def test_every_make_target_exists() -> None:
    lines = [(page, span) for page, span in spans() if span.startswith("make ")]
    lines += [(block.where, line) for block, line in command_blocks() if line.startswith("make ")]
    faults = [f"{page}: {line}: {found}" for page, line in lines if (found := make_fault(line))]

    assert len(lines) > 20
    assert not faults, "\n".join(faults)


def test_every_file_named_exists() -> None:
    lines = [*spans(), *((block.where, line) for block, line in command_blocks())]
    missing = [f"{page}: {path}" for page, line in lines for path in missing_paths(line)]

    assert not [one for one in missing if one.rpartition(" ")[2] not in _MADE_BY_THE_READER], "\n".join(missing)


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    pages = {page for page in (ROOT / "docs").glob("*.md") if page != index}

    assert not [named(page) for page in sorted(pages - linked)]


def test_every_folder_given_to_kustomize_is_one() -> None:
    lines = [*spans(), *((block.where, line) for block, line in command_blocks())]
    folders = [folder for _page, line in lines for folder in re.findall(r"kubectl (?:kustomize|apply -k) (\S+)", line)]

    assert len(folders) >= 4
    assert not [folder for folder in folders if not (ROOT / folder / "kustomization.yaml").exists()]


def test_the_subscription_of_the_push_example_is_the_default_one() -> None:
    [line] = [line for _block, line in command_blocks() if line.startswith("gcloud pubsub subscriptions create")]
    defaults = Settings.model_construct(**SHIPPED.settings)

    assert f"create {defaults.subscription} --topic {defaults.topic} " in line


def test_every_function_named_by_its_module_exists() -> None:
    named_ones = [(page, span) for page, span in spans() if _DOTTED.fullmatch(span)]
    missing = [f"{page}: {span}" for page, span in named_ones if not resolves(span)]

    assert named_ones
    assert not missing, "\n".join(missing)


def resolves(dotted: str) -> bool:
    """Whether a module, or something inside one, has that name."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            thing: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            if not hasattr(thing, name) and name not in getattr(thing, "__annotations__", {}):
                return False
            thing = getattr(thing, name, None)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_and_anchor_resolves(page: Path) -> None:
    broken = []
    for link in links(page):
        if re.match(r"[a-z]+:", link) or link in _FORMS:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)

    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("mlfs statsu", "no command"),
        ("mlfs status --days 3", "no option"),
        ("mlfs demo --scenario storm", "is one of"),
        ("mlfs status today tomorrow", "takes 1 arguments"),
        ("mlfs dlq lst", "no command"),
    ],
)
def test_what_does_not_exist_is_found(line: str, said: str) -> None:
    assert said in (fault(line) or "")


def test_a_gone_target_file_function_or_anchor_is_found() -> None:
    assert make_fault("make tset") == "no target ['tset']"
    assert missing_paths("see worker/gone.py and docs/cli.md") == ["worker/gone.py"]
    assert not resolves("worker.engine.Engine.never")
    assert "everyday" in anchors(ROOT / "docs" / "cli.md")
    assert "nowhere" not in anchors(ROOT / "docs" / "cli.md")


@pytest.mark.parametrize(
    ("page", "text"), [("README.md", "All {} pairs of state and event"), ("docs/guarantees.md", "{0} of {0} pairs")]
)
def test_the_number_of_decided_pairs_is_the_tables(page: str, text: str) -> None:
    pairs = sum(len(by_event) for by_event in TRANSITIONS.values())

    assert text.format(pairs) in (ROOT / page).read_text(encoding="utf-8")
