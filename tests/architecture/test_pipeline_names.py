"""Only what is meant for the shipped pipeline alone may name its processors, tables and features."""

import re
from pathlib import Path

import pytest

from worker.catalogue import SHIPPED

ROOT = Path(__file__).parents[2]
PACKAGES = ("statemachine", "schemas", "worker", "ops")
ENDINGS = {".py", ".html", ".js", ".css", ".lua", ".sql"}

EXCEPTIONS = {
    "worker/catalogue.py": "the names themselves",
    "worker/local/sample_data.py": "generated data",
    "worker/local/sample_league.py": "generated data",
    "worker/local/sample_phase3.sql": "generated data",
    "worker/local/sample_phase4.sql": "generated data",
    "worker/local/sample_inputs.sql": "generated data",
    "worker/features/lineage.py": "`mlfs lineage`, of a player and his teams",
    "worker/lineage.py": "`mlfs lineage`",
    "worker/phase5.py": "the library of the pipeline document's consumer",
    "worker/adapters/warehouse_bigquery_permissions.py": "the document's cross-dataset tests",
    "ops/arguments.py": "refuses the reports for another pipeline",
    "ops/doctor.py": "refuses the document's tests for another pipeline",
    "ops/evidence.py": "the document's reports",
    "ops/triage.py": "the document's reports",
    "ops/tracing.py": "`mlfs lineage`",
    "ops/demo_screen.py": "the demo",
    "ops/demo_stage.py": "the demo",
    "ops/night.py": "the demo's nights",
    "ops/night_player.py": "the demo's nights",
    "ops/rehearsal_player.py": "the demo's nights, against a worker of one's own",
    "ops/reference.py": "writes the pages about it",
    "ops/manifests.py": "made for the shipped deployment: its Terraform tables",
    "ops/bench/build_tasks.py": "benchmarks on generated data",
    "ops/bench/intake_tasks.py": "benchmarks on generated data",
    "ops/bench/bare_join.sql": "benchmarks on generated data",
    "ops/bench/entities.sql": "benchmarks on generated data",
    "ops/bench/more_nights.sql": "benchmarks on generated data",
}
"""What may speak of the shipped pipeline, and why; docs/pipelines.md says the same to its users."""

IMPORT = re.compile(r"^\s*from worker\.catalogue import|^\s*import worker\.catalogue", re.MULTILINE)


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
    return found | {"worker.catalogue"} if IMPORT.search(text) else found


def test_no_other_module_names_the_shipped_pipeline() -> None:
    found = {path: sorted(names) for path, text in modules().items() if (names := speaks_of_the_shipped_one(text))}

    assert {} == {path: names for path, names in found.items() if path not in EXCEPTIONS}
    assert set() == EXCEPTIONS.keys() - found.keys(), "they name nothing of it any more; take them off the list"


@pytest.mark.parametrize(
    "text",
    ['"player_daily_cache"', "nba_precompute.x", "ORDER BY player_id", "from worker.catalogue import BLOCKS"],
)
def test_the_check_finds_what_it_looks_for(text: str) -> None:
    assert speaks_of_the_shipped_one(text)
