"""Alert rules name what a worker emits, and each leads the person on call to a section with commands that exist."""

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer

from ops import cli
from ops.generate.manifests import docs_address
from tests.architecture.test_documentation import commands, settings
from tests.support.alerting import PROMETHEUS, ROOT, alerts, emitted, recorded, selectors

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
EXPRESSIONS = {**recorded(), **{alert.name: alert.expr for alert in alerts()}}


def sections() -> dict[str, str]:
    """The text of each alert's section, by the alert's name."""
    parts = re.split(r"^### (\w+)$", RUNBOOK, flags=re.MULTILINE)
    return {
        name: re.split(r"^## ", text, flags=re.MULTILINE)[0]
        for name, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def named_commands(text: str) -> set[str]:
    """Commands as `mlfs word word`; words after the command itself, such as options and dates, are left out."""
    all_known = sorted(commands(), key=len, reverse=True)
    return {
        next((known for known in all_known if f"{called} ".startswith(f"{known} ")), called)
        for called in re.findall(r"\bmlfs(?: [a-z][a-z-]*)+", text)
    }


def known_options(words: list[str]) -> set[str]:
    """The options of the command that *words* begin with."""
    command: Any = typer.main.get_command(cli.app)
    for word in words:
        children = getattr(command, "commands", {})
        if word not in children:
            break
        command = children[word]
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_series_that_a_rule_reads_is_emitted(name: str) -> None:
    samples = emitted()

    missing = [one for one in selectors(EXPRESSIONS[name]) if not any(one.matches(*sample) for sample in samples)]

    assert not missing


def test_every_recorded_series_that_a_rule_reads_is_recorded() -> None:
    read = {name for expression in EXPRESSIONS.values() for name in re.findall(r"\bmlfs:[a-z0-9_]+", expression)}

    assert set(recorded()) == read


def test_every_alert_says_how_urgent_it_is_what_is_wrong_and_what_to_type() -> None:
    for alert in alerts():
        assert alert.severity in {"P0", "P1", "P2", "P3"}, alert.name
        assert {"summary", "description", "runbook_url"} == set(alert.annotations), alert.name
        assert "mlfs " in alert.annotations["description"], alert.name
        address = urlsplit(alert.annotations["runbook_url"])
        assert address.scheme in {"http", "https"}, "a pager opens no relative link"
        assert address.hostname
        assert f"{docs_address()}/runbook.md#{alert.name.lower()}" == alert.annotations["runbook_url"]


def test_every_alert_has_its_section_and_no_section_is_left_over() -> None:
    assert [alert.name for alert in alerts()] == list(sections())


def test_every_section_says_what_it_means_where_to_look_and_whom_to_wake() -> None:
    for alert in alerts():
        text = sections()[alert.name]
        for part in (f"**{alert.severity}**", "**Means**", "**Look**", "**Do**", "**Wake**"):
            assert part in text, f"{alert.name}: {part}"


def test_every_command_that_a_person_on_call_is_told_to_type_exists() -> None:
    told = RUNBOOK + "\n".join(alert.annotations["description"] for alert in alerts())

    assert named_commands(told) - commands() == set()


def test_every_option_in_the_runbook_is_one_of_its_command() -> None:
    for words in (code.split() for code in re.findall(r"`mlfs ([^`]+)`", RUNBOOK)):
        options = {word for word in words if word.startswith("--")}
        assert options <= known_options(words), f"mlfs {' '.join(words)}"


def test_every_setting_and_every_log_line_in_the_runbook_exists() -> None:
    source = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "worker").rglob("*.py"))
    source += "".join(file.read_text(encoding="utf-8") for file in (ROOT / "statemachine").rglob("*.py"))
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", RUNBOOK)) - {"runbook_url"}

    assert {name for name in named if f'"{name.removesuffix("_total")}' not in source} == set()
    assert set(re.findall(r"\bMLFS_[A-Z_]+\b", RUNBOOK)) <= settings()


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert named_commands("type: mlfs replay 2024-12-15, then mlfs repair now") - commands() == {"mlfs repair now"}


def test_every_alert_fires_in_a_test_of_its_own() -> None:
    tested = "".join(file.read_text(encoding="utf-8") for file in sorted((PROMETHEUS / "tests").glob("*.yml")))

    assert {alert.name for alert in alerts() if f'alertname="{alert.name}"' not in tested} == set()
