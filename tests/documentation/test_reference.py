"""The generated parts of the documentation are what the code says today."""

from pathlib import Path

import pytest

from ops.generate import reference
from ops.generate.reference import Row, Table, commands, made, refreshed
from tests.documentation.pages import named
from worker.pipelines.shipped import OWN_TABLES
from worker.settings import Settings

PAGES = made()
TABLE = Table(("option", "default", "meaning"), [Row("`--new N`", ["3"], ["New."]), Row("`--old`", ["off"], ["Old."])])


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_what_is_generated_is_up_to_date(page: Path) -> None:
    """Run `make docs` where this fails."""
    assert PAGES[page] == page.read_text(encoding="utf-8")


def test_every_command_setting_field_and_table_has_its_place() -> None:
    text = {named(page): content for page, content in PAGES.items()}

    assert all(f"<!-- generated: options of {path} -->" in text["docs/cli.md"] for path, _ in commands())
    assert all(f"| `MLFS_{name.upper()}` |" in text["docs/settings.md"] for name in Settings.model_fields)
    assert all(f"<!-- generated: {table} -->" in text["docs/tables.md"] for table in OWN_TABLES)
    assert "| `event_id` | string | yes |" in text["docs/events.md"]
    assert "| `claimed_generation` | `INT64` | no |" in text["docs/tables.md"]


def test_no_cell_of_prose_is_empty() -> None:
    assert not [
        line for text in PAGES.values() for line in text.splitlines() if line.startswith("|") and "|  |" in line
    ]


def page_with(rows: str) -> str:
    return (
        f"Before.\n<!-- generated: x -->\n| option | default | meaning |\n|---|---|---|\n{rows}<!-- end -->\nAfter.\n"
    )


def test_a_row_keeps_its_prose_and_follows_the_code_in_the_rest() -> None:
    assert refreshed(page_with("| `--old` | on | By hand. |\n| `--gone` | 1 | Gone. |\n"), {"x": TABLE}) == page_with(
        "| `--old` | off | By hand. |\n| `--new N` | 3 | New. |\n"
    )


def test_a_command_without_a_place_is_told() -> None:
    with pytest.raises(ValueError, match=r"missing.*options of mlfs new"):
        refreshed(page_with(""), {"x": TABLE, "options of mlfs new": TABLE})


def test_the_generator_writes_only_into_the_pages() -> None:
    assert {page.parent for page in PAGES} == {reference.DOCS}
