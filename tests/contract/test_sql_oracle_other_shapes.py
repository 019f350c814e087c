"""The templates, rendered for pipelines of other shapes than the shipped one, to both engines over the same rows.

One is the grid of the tests, without a schedule. The other adds what no other definition has: a schedule, expressions,
renamed columns, features that are texts, truth values and whole numbers, two Phase 3 tables of the entity's own, and a
penalty line whose slopes are no decimals.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.contract.test_sql_oracle import DRY_RUNS, DUCKDB_TYPES, spelled, tables_in, text_of
from tests.support.grid_day import DEFINITION
from tests.support.random_tables import declared
from tests.support.zetasql_oracle import Answer, Oracle, Row, Table
from worker.adapters.duckdb.warehouse import DuckDbWarehouse
from worker.features.model import Statement
from worker.features.pipeline import Pipeline
from worker.pipelines.files import read_pipeline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]  # the first run on a machine compiles the evaluator

DAY = date(2025, 3, 30)
BUILT_AT = datetime(2025, 3, 30, 9, 45, tzinfo=UTC)
BEFORE = DAY - timedelta(days=1)
ROWS = 60
SHAPES = {
    "without a schedule": {},
    "with everything": {
        "usable_rows_min = 3": "usable_rows_min = 3\npenalty_line = [[0, 0], [0.3, 10], [1, 40]]",
        'name = "zone_name"\n': 'name = "zone_name"\ncolumn = "title"\n',
        'type = "STRING"\n\n[[blocks]]': (
            'type = "STRING"\n\n[[identity]]\nname = "area"\ntype = "STRING"\n\n[[identity]]\nname = "partner"\n'
            'type = "STRING"\n\n[[identity]]\nname = "is_paired"\ntype = "BOOL"\n\n[schedule]\n'
            'table = "grid_raw.pairs"\ngame = "pair"\nsides = ["sender", "receiver"]\nteam = "area"\n'
            'opponent = "partner"\nplays = "is_paired"\n\n[upstream."grid_raw.pairs"]\ndate = "meet_on"\n\n[[blocks]]'
        ),
        'name = "load_mw"\nunit = "megawatts"': (
            'name = "load_mw"\nunit = "megawatts"\nexpression = "SAFE_DIVIDE(load_kw, 1000)"\n'
            "phase3_expression = \"IF(source = 'meter', load_kw - CAST(0.5 AS FLOAT64), NULL)\""
        ),
    },
}
MORE = """
[upstream."grid_models.demand_curves"]
columns = { load_kw = "INT64" }

[upstream."grid_history.flows"]
date = "day"
key = "area_code"
matches = "partner"

[upstream."grid_history.plants"]
date = "counted_on"
key = "zone"
matches = "zone_code"

[[blocks]]
name = "border"
processor = "border_flows"
table = "grid_models.border_flows"
key = "area_code"
matches = "partner"

[[features]]
name = "flow_mw"
unit = "megawatts"
block = "border"
phase3_table = "grid_history.flows"

[[features]]
name = "is_open"
type = "BOOL"
unit = "whether the border is open"
block = "border"
phase3_table = "grid_history.flows"

[[features]]
name = "reserve_mw"
unit = "megawatts for the neighbour"
block = "border"
phase3_table = "grid_history.plants"

[[features]]
name = "fuel"
type = "STRING"
unit = "the fuel that most plants burn"
block = "weather"
phase3_table = "grid_history.plants"

[[features]]
name = "plants"
type = "INT64"
unit = "plants on the grid"
block = "weather"
phase3_table = "grid_history.plants"
phase3_column = "plant_count"
"""
READERS = ("claims", "ledger", "lineage_build", "phase5_features", "phase5_ready", "publications", "report_nights")
"""Statements about what is published for a date."""

VALUES: Mapping[str, tuple[Any, ...]] = {
    "STRING": ("a", "b", "c", "meter", None),
    "BOOL": (True, False, None),
    "INT64": (1, 2, 3, 1500, None),
    "FLOAT64": (0.1, 1.0, 2.5, None),
    "DATE": (DAY, DAY, DAY, DAY - timedelta(days=1), DAY - timedelta(days=3), DAY - timedelta(days=9)),
}


def pipeline_of(shape: str, folder: Path) -> Pipeline:
    text = DEFINITION.read_text("utf-8")
    for old, new in SHAPES[shape].items():
        assert old in text
        text = text.replace(old, new)
    file = folder / "pipeline.toml"
    file.write_text(text + (MORE if SHAPES[shape] else ""), "utf-8")
    if SHAPES[shape]:
        observations = '[upstream."grid_history.observations"]\ndate = "observed_on"'
        with_columns = f'{observations}\ncolumns = {{ load_kw = "FLOAT64", source = "STRING" }}'
        file.write_text(file.read_text("utf-8").replace(observations, with_columns), "utf-8")
    return read_pipeline(file)


def random_table(random: Random, columns: Mapping[str, str]) -> Table:
    """Rows of few keys, each written at an instant of its own: which of two counts is never left open."""
    rows = []
    for second in random.sample(range(1000), ROWS):
        row = {name: random.choice(VALUES[kind]) for name, kind in columns.items() if kind != "TIMESTAMP"}
        keys = {name: value or "a" for name, value in row.items() if name in {"zone_code", "pair", "zone"}}
        rows.append({**row, **keys, "processed_at": BUILT_AT + timedelta(seconds=second - 500)})
    return Table(columns, [{name: row[name] for name in columns} for row in rows])


def random_history(random: Random, columns: Mapping[str, str], builds: tuple[str, ...]) -> Table:
    """What the rows of some builds of the day before are worth; no cell is NULL, and one row stands there twice."""
    values = {kind: [one for one in choices if one is not None] for kind, choices in VALUES.items()}
    values |= {"TIMESTAMP": [BUILT_AT]}
    rows = [
        {name: random.choice(values[kind]) for name, kind in columns.items()}
        | {"analysis_date": BEFORE, "build_id": build}
        for build in builds
    ]
    return Table(columns, [*rows, rows[0]])


class Engines:
    """Both engines over the same tables of one pipeline."""

    def __init__(self, oracle: Oracle, pipeline: Pipeline) -> None:
        self.random = Random(pipeline.name + str(len(pipeline.features)))  # noqa: S311 -- a test's own dice
        self._oracle = oracle
        self.pipeline = pipeline
        self.warehouse = DuckDbWarehouse(":memory:", pipeline=pipeline)
        self.warehouse.ensure_tables()
        self.tables = {table: Table(declared(table, pipeline)[0], []) for table in pipeline.tables.stored}
        for table, columns in pipeline.upstream.items():
            self.fill(table, random_table(self.random, columns))

    def fill(self, table: str, content: Table) -> None:
        self.tables[table] = content
        marks = ", ".join("?" for _ in content.columns)
        with self.warehouse.writing("filling a table") as cursor:
            if table not in self.pipeline.tables.stored:
                columns = ", ".join(f"{name} {DUCKDB_TYPES[kind]}" for name, kind in content.columns.items())
                cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {table.partition('.')[0]}")
                cursor.execute(f"CREATE OR REPLACE TABLE {table} ({columns})")
            for row in content.rows:
                cursor.execute(f"INSERT INTO {table} VALUES ({marks})", list(row.values()))  # noqa: S608 -- our own names

    def publish(self, rows: Sequence[Row]) -> None:
        """Publish the rows for the day before, in a ledger with two rows; the same rows lie there unpublished too."""
        tables = self.pipeline.tables
        builds = ("published", "never published")
        made = [row | {"analysis_date": BEFORE, "build_id": build} for build in builds for row in rows]
        self.fill(tables.generations, Table(self.tables[tables.generations].columns, [*made, *rows]))
        self.fill(tables.history, random_history(self.random, self.tables[tables.history].columns, builds))
        entry = {"generation": 1, "build_id": builds[0], "committed_at": BUILT_AT}
        claim = {"claimed_generation": 1, "claimed_attempt": 1, "claimed_by": "worker", "claimed_at": BUILT_AT}
        pointer = {"analysis_date": BEFORE, **claim, **entry, "publications": [entry]}
        self.fill(tables.ledger, Table(self.tables[tables.ledger].columns, [pointer, pointer]))

    def answer(self, name: str, given: Mapping[str, tuple[str, Any]]) -> Answer:
        """What both engines say alike of a statement or a view."""
        text = text_of(name, self.pipeline)
        parameters = {parameter: value for parameter, (_kind, value) in given.items() if f"@{parameter}" in text}
        types = {parameter: given[parameter][0] for parameter in parameters}
        statement = Statement(name=name, sql=text, parameters=parameters)
        read = {table: self._content(table) for table in tables_in(name, self.pipeline)}
        [theirs] = self._oracle.answer(text, read, types, [parameters])
        ours = Answer({}, self.warehouse.query(statement))

        assert Counter(spelled(ours)) == Counter(spelled(theirs)), name
        return theirs

    def _content(self, table: str) -> Table:
        if table not in self.pipeline.tables.views:
            return self.tables[table]
        shown = self.answer(table, {})
        return Table(shown.columns, shown.rows)


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle()


@pytest.mark.parametrize("shape", SHAPES)
def test_both_engines_agree_on_a_pipeline_of_another_shape(oracle: Oracle, tmp_path: Path, shape: str) -> None:
    pipeline = pipeline_of(shape, tmp_path)
    engines = Engines(oracle, pipeline)
    given: dict[str, tuple[str, Any]] = {
        "analysis_date": ("DATE", DAY),
        "lookback_start": ("DATE", DAY - timedelta(days=7)),
        "previous_date": ("DATE", BEFORE),
        "first_date": ("DATE", BEFORE),
        "last_date": ("DATE", DAY),
        "earliest_date": ("DATE", DAY - timedelta(days=2)),
        "first_game_date": ("DATE", DAY - timedelta(days=366)),
        "last_game_date": ("DATE", DAY + timedelta(days=366)),
        "as_of": ("TIMESTAMP", BUILT_AT + timedelta(seconds=200)),
        "built_at": ("TIMESTAMP", BUILT_AT),
        "old_before": ("TIMESTAMP", BUILT_AT),
        "ahead_after": ("TIMESTAMP", BUILT_AT + timedelta(seconds=200)),
        "build_generation": ("INT64", 1),
        "build_id": ("STRING", "the build"),
        "quality_score_min": ("FLOAT64", 75.0),
        **{f"use_{block.name}": ("BOOL", block.name != "price") for block in pipeline.blocks},
        **{column.name: (column.type, "a") for column in pipeline.lookups},
    }
    built = engines.answer("features", given)
    engines.answer("dependency_rows", given)
    engines.answer("lineage_sources", given)
    engines.answer("lineage_player", given)
    engines.publish(built.rows)
    shown = {view: engines.answer(view, {}) for view in pipeline.tables.views}
    copied = engines.answer("yesterday", given)
    stored = {name: engines.answer(name, given) for name in ("build_stats", "left_out")}
    selected = {
        name: engines.answer(name, given) for name, (read, _rows) in DRY_RUNS.items() if read in pipeline.statements
    }
    for name in READERS:
        engines.answer(name, given | {"analysis_date": ("DATE", BEFORE)})

    kept = [row for row in built.rows if row["left_out_reason"] is None]
    assert [len(answer.rows) for answer in shown.values()] == [len(kept), 1, 1]
    assert {row["build_id"] for answer in shown.values() for row in answer.rows} == {"published"}
    assert stored == {name: selected[f"{name} of features"] for name in stored}
    assert list(shown[pipeline.tables.published].columns) == [column.name for column in pipeline.output_columns]
    assert list(built.columns) == [column.name for column in pipeline.generation_columns]
    assert len(copied.rows) == len(kept) > 0
    assert all(0 <= row["quality_score"] <= 100 for row in built.rows)
    idle = [row for row in built.rows if not row.get("is_paired", True)]
    assert not [name for row in idle for name in ("flow_mw", "reserve_mw") if row[name] is not None]
    assert bool(idle) == bool(SHAPES[shape])
    assert {"phase4", "phase3"} <= {row[f"{block.name}_source"] for row in built.rows for block in pipeline.blocks}
    engines.warehouse.close()
