"""Only what is meant for the shipped pipeline alone may name its processors, tables and features."""

import re
from pathlib import Path

import pytest

from worker.pipelines.shipped import SHIPPED

ROOT = Path(__file__).parents[2]
PACKAGES = ("statemachine", "schemas", "worker", "ops")
ENDINGS = {".py", ".html", ".js", ".css", ".lua", ".sql"}

EXCEPTIONS = {
    "worker/pipelines/shipped.py": "the names themselves",
    "worker/local/sample/data.py": "generated data",
    "worker/local/sample/league.py": "generated data",
    "worker/local/sample/phase3.sql": "generated data",
    "worker/local/sample/phase4.sql": "generated data",
    "worker/local/sample/inputs.sql": "generated data",
    "worker/lineage/cells.py": "`mlfs lineage`, of a player and his teams",
    "worker/lineage/row.py": "`mlfs lineage`",
    "worker/phase5.py": "the library of the pipeline document's consumer",
    "worker/adapters/bigquery/permissions.py": "the document's cross-dataset tests",
    "ops/arguments.py": "refuses the reports for another pipeline",
    "ops/commands/doctor.py": "refuses the document's tests for another pipeline",
    "ops/reports/sources.py": "the document's reports",
    "ops/reports/lineage.py": "`mlfs lineage`",
    "ops/demo/screen.py": "the demo",
    "ops/demo/demo_run.py": "the demo",
    "ops/demo/schedule.py": "the demo's nights",
    "ops/demo/player.py": "the demo's nights",
    "ops/generate/reference.py": "writes the pages about it",
    "ops/generate/manifests.py": "made for the shipped deployment: its Terraform tables",
    "ops/bench/build_tasks.py": "benchmarks on generated data",
    "ops/bench/intake_tasks.py": "benchmarks on generated data",
    "ops/bench/bare_join.sql": "benchmarks on generated data",
    "ops/bench/entities.sql": "benchmarks on generated data",
    "ops/bench/more_nights.sql": "benchmarks on generated data",
}
"""What may speak of the shipped pipeline, and why; docs/pipelines.md says the same to its users."""

IMPORT = re.compile(r"^\s*from worker\.pipelines\.shipped import|^\s*import worker\.pipelines\.shipped", re.MULTILINE)


def own_names() -> set[str]:
    tables = {*SHIPPED.upstream, *SHIPPED.tables.all}
    return {
        *(SHIPPED.name, *SHIPPED.processors),
        *(block.name for block in SHIPPED.blocks if "_" in block.name),
        *(feature.name for feature in SHIPPED.features if "_" in feature.name),
        *(column.name for column in SHIPPED.identity),
        *(part for table in tables for part in table.split(".")),
    }


WORD = re.compile(rf"\b({'|'.join(sorted(map(re.escape, own_names())))})\b")


def modules() -> dict[str, str]:
    files = (file for package in PACKAGES for file in (ROOT / package).rglob("*") if file.suffix in ENDINGS)
    return {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in sorted(files)}


def speaks_of_the_shipped_one(text: str) -> set[str]:
    found = set(WORD.findall(text))
    return found | {"worker.pipelines.shipped"} if IMPORT.search(text) else found


def test_no_other_module_names_the_shipped_pipeline() -> None:
    found = {path: sorted(names) for path, text in modules().items() if (names := speaks_of_the_shipped_one(text))}

    assert {} == {path: names for path, names in found.items() if path not in EXCEPTIONS}
    assert set() == EXCEPTIONS.keys() - found.keys(), "they name nothing of it any more; take them off the list"


@pytest.mark.parametrize(
    "text",
    ['"player_daily_cache"', "nba_precompute.x", "ORDER BY player_id", "from worker.pipelines.shipped import BLOCKS"],
)
def test_the_check_finds_what_it_looks_for(text: str) -> None:
    assert speaks_of_the_shipped_one(text)
