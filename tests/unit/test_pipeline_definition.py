"""A definition that does not fit together is refused at the start, with all its faults and where each one is."""

import shutil
from fractions import Fraction
from pathlib import Path

import pytest

from tests.support.grid_day import FOLDER
from worker.catalogue import SHIPPED
from worker.features.pipeline_checks import find_faults
from worker.features.quality import DEFAULT_POLICY
from worker.pipeline_files import BadPipeline, read_pipeline
from worker.pipeline_sql import find_sql_faults
from worker.settings import BadSettings, load

TOML = "pipeline.toml"
NEW_FEATURE = """
[[features]]
name = "solar_mw"
unit = "megawatts"
block = "weather"
phase3_table = "grid_history.observations"
"""
NEW_BLOCK = """
[[blocks]]
name = "solar"
processor = "solar_curves"
table = "grid_models.solar_curves"
key = "zone_code"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "pipeline"))


def change(folder: Path, file: str, old: str, new: str) -> None:
    path = folder / file
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def faults_of(folder: Path) -> tuple[str, ...]:
    with pytest.raises(BadPipeline) as refused:
        read_pipeline(folder)
    return refused.value.faults


def test_the_shipped_definition_and_its_statements_are_sound() -> None:
    assert [] == find_faults(SHIPPED)
    assert [] == find_sql_faults(SHIPPED)
    assert SHIPPED.quality == DEFAULT_POLICY, "the shipped pipeline is scored by the document's rules"


def test_a_sound_definition_is_read_as_it_is_written(folder: Path) -> None:
    pipeline = read_pipeline(folder)

    assert ("grid_day_ahead", ("weather_ensemble", "demand_curves", "price_curves")) == (
        pipeline.name,
        pipeline.processors,
    )
    assert (Fraction(1, 20), 2, 24) == (
        pipeline.quality.done_fallback_max,
        pipeline.quality.required_field_count,
        pipeline.quality.points["dependency_completeness"],
    )
    assert pipeline.upstream["grid_history.observations"]["wind_speed"] == "FLOAT64"


@pytest.mark.parametrize(
    ("file", "old", "new", "fault"),
    [
        (TOML, 'name = "demand"', 'name = "weather"', "the block weather is there 2 times"),
        (
            TOML,
            '"demand_curves"\ntable',
            '"weather_ensemble"\ntable',
            "the processor weather_ensemble is there 2 times",
        ),
        (TOML, 'name = "wind_m_s"', 'name = "load_mw"', "the feature load_mw is there 2 times"),
        (TOML, 'name = "wind_m_s"', 'name = "zone_name"', "the published column zone_name is there 2 times"),
        (TOML, 'block = "price"', 'block = "prices"', "the block prices, which does not exist"),
        (TOML, 'block = "price"', 'block = "demand"', "the block price has no feature"),
        (TOML, "required = true", "required = false", "no feature is required"),
        (TOML, 'must_have = "load_mw"', 'must_have = "load_gw"', "the entity must have load_gw, which is no feature"),
        (TOML, 'key = "zone_code"\nlabel', 'key = "zone"\nlabel', "the entity's key zone is no identity column"),
        (TOML, 'zone_name = "STRING"\n', "", "comes from grid_raw.zones.zone_name, which is not under reads"),
        (
            TOML,
            'ledger = "grid_out.day_ahead_ledger"',
            'ledger = "grid_raw.zones"',
            "grid_raw.zones is read and written",
        ),
        (TOML, "null_field_rate = 6", "null_field_rate = 7", "quality.points sum to 101, not 100"),
        (TOML, "null_field_rate = 6", "nulls = 6", "quality.points names"),
        (TOML, "[10, 6]", "[12, 6]", "quality.freshness_points give 12 at most, not 10"),
        (TOML, "[[4, 10], [3, 5]]", "[[3, 5], [4, 10]]", "not ordered from most rows to fewest"),
        (TOML, 'deadline = "11:40+0d"\n', "", "settings.deadline is missing"),
        (TOML, 'deadline = "11:40+0d"', 'tick_s = 1\ndeadline = "11:40+0d"', "settings.tick_s is none that a pipeline"),
        (TOML, "rows_min = 3\n", "rows_minimum = 3\n", "quality.rows_minimum: is not known here; leave it out"),
        (
            TOML,
            '"grid_out.day_ahead"',
            '"day_ahead; DROP TABLE x"',
            "tables.published: has characters that are not",
        ),
        (TOML, "[entity]", "[entity", "it is not TOML"),
        ("sql/features.sql", "zones.zone_name,", "zones.region,", "reads zones.region, which"),
        (
            "sql/features.sql",
            "grid_history.observations\n",
            "grid_history.weather\n",
            "reads grid_history.weather, which",
        ),
        (
            "sql/features.sql",
            "wind_speed, load_mw",
            "wind_speed, net_load_mw",
            "reads grid_history.observations.net_load_mw",
        ),
        ("sql/features.sql", "@previous_date", "@yesterday", "takes @yesterday, which no build gives it"),
        ("sql/features.sql", "  zone_name,\n  temp", "  temp", "does not give zone_name"),
        (
            "sql/features.sql",
            "  zone_name,\n  temp",
            "  zone_name, 1 AS one,\n  temp",
            "gives one, which the catalogue",
        ),
        ("sql/features.sql", "SELECT\n  @analysis", "SELECT FROM\n  @analysis", "is not one BigQuery statement"),
        ("sql/dependency_rows.sql", "'price_curves'", "'prices'", "counts for prices, which is no processor"),
        ("sql/build_stats.sql", "AS demand_zones", "AS demand_players", "does not give demand_zones"),
        ("ddl/day_ahead.sql", "  load_mw FLOAT64,\n", "", "lacks load_mw, which a build writes"),
        ("ddl/day_ahead.sql", "load_mw FLOAT64", "load_mw INT64", "declares load_mw as INT64, not FLOAT64"),
        ("ddl/day_ahead_ledger.sql", "  price_rows INT64 NOT NULL,\n", "", "lacks price_rows, which a build writes"),
        ("ddl/day_ahead_ledger.sql", "grid_out.day_ahead_ledger (", "grid_out.x (", "does not create grid_out.day_ah"),
        (TOML, "[10, 6]", "[6, 10]", "quality.freshness_points rise with age"),
        (TOML, "[[4, 10], [3, 5]]", "[[4, 5], [3, 10]]", "quality.row_points rise with fewer rows"),
    ],
)
def test_what_does_not_fit_is_named(folder: Path, file: str, old: str, new: str, fault: str) -> None:
    change(folder, file, old, new)

    assert any(fault in told for told in faults_of(folder)), faults_of(folder)


@pytest.mark.parametrize(
    ("rule", "faults"),
    [
        ("penalty_line = [[0, 0], [0.5, 20], [1, 10]]", ["quality.penalty_line falls; more fallback never costs less"]),
        (
            "severities = [{name = 'P1', score = 75}, {name = 'P0', score = 50}]",
            ["quality.severities are P1, P0; each is there once, the worst, P0, first"],
        ),
        (
            "severities = [{name = 'P0', score = 50}, {name = 'P0', score = 75}]",
            ["quality.severities are P0, P0; each is there once, the worst, P0, first"],
        ),
        (
            "severities = [{name = 'P0', score = 75, rows = 3, fallback = 0.2},"
            " {name = 'P2', score = 50, rows = 2, fallback = 0.3}]",
            [
                f"quality.severities: P2 asks for worse {key} than P0; a milder level begins earlier"
                for key in ("score", "rows", "fallback")
            ],
        ),
        (
            "severities = [{name = 'P0', score = 50}, {name = 'P3', score = 0}]",
            ["quality.severities: P3 has no threshold"],
        ),
    ],
)
def test_rules_in_an_order_that_contradicts_them_are_refused(folder: Path, rule: str, faults: list[str]) -> None:
    change(folder, TOML, "[quality]\n", f"[quality]\n{rule}\n")

    assert faults == list(faults_of(folder))


def test_a_severity_need_not_look_at_everything(folder: Path) -> None:
    levels = "[{name = 'P0', score = 0, rows = 2}, {name = 'P1', score = 60, fallback = 0.5}]"
    change(folder, TOML, "[quality]\n", f"[quality]\nseverities = {levels}\n")

    assert ["P0", "P1"] == [level.name for level in read_pipeline(folder).quality.severities]


@pytest.mark.parametrize(
    "text",
    [
        "DROP TABLE grid_out.day_ahead",
        "DELETE FROM grid_out.day_ahead WHERE TRUE",
        "TRUNCATE TABLE grid_out.day_ahead",
        "MERGE a.b USING a.c ON FALSE WHEN NOT MATCHED THEN INSERT ROW",
        "CREATE TABLE a.b AS SELECT 1 AS c",
        "EXPORT DATA OPTIONS (uri = 'gs://bucket/*', format = 'CSV') AS SELECT 1 AS c",
        "EXECUTE IMMEDIATE 'DROP TABLE a.b'",
        "CALL a.b()",
        "WITH gone AS (DELETE FROM a.b) SELECT 1 AS c",
        "SELECT c INTO a.d FROM a.b",
        "ASSERT TRUE",
    ],
)
@pytest.mark.parametrize("name", ["features", "yesterday", "a_report_of_ones_own"])
def test_a_statement_that_is_not_a_select_is_refused_whatever_its_file(folder: Path, name: str, text: str) -> None:
    (folder / "sql" / f"{name}.sql").write_text(text, "utf-8")

    assert faults_of(folder) == (f"sql/{name}.sql is not a SELECT that only reads; nothing but the product writes",)


@pytest.mark.parametrize("file", ["sql/features.sql", "sql/a_report_of_ones_own.sql", "ddl/day_ahead_ledger.sql"])
@pytest.mark.parametrize(
    ("behind", "count"), [("; DROP TABLE grid_out.day_ahead", 2), ("; SELECT 1 AS one; SELECT 2 AS two", 3)]
)
def test_a_second_statement_in_a_file_is_refused(folder: Path, file: str, behind: str, count: int) -> None:
    path = folder / file
    text = path.read_text("utf-8") if path.exists() else "SELECT 1 AS one"
    path.write_text(text.rstrip().rstrip(";") + behind, "utf-8")

    assert faults_of(folder) == (f"{file} is not one BigQuery statement but {count}",)


@pytest.mark.parametrize("text", ["", "-- Nothing yet.\n"])
def test_a_file_without_a_statement_is_refused(folder: Path, text: str) -> None:
    (folder / "sql" / "yesterday.sql").write_text(text, "utf-8")

    assert faults_of(folder) == ("sql/yesterday.sql is not one BigQuery statement but 0",)


@pytest.mark.parametrize(
    "text", ["SELECT 1 AS one;\n-- the end\n", "(SELECT 1 AS one) UNION ALL SELECT 2", "FROM a.b |> SELECT c"]
)
def test_a_report_of_ones_own_may_be_any_select(folder: Path, text: str) -> None:
    (folder / "sql" / "a_report_of_ones_own.sql").write_text(text, "utf-8")

    assert read_pipeline(folder).sql["a_report_of_ones_own"] == text


def test_all_faults_are_told_together_and_by_the_setting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(folder, TOML, 'block = "price"', 'block = "prices"')
    change(folder, TOML, "null_field_rate = 6", "null_field_rate = 7")
    (folder / "sql" / "left_out.sql").unlink()
    monkeypatch.setenv("MLFS_PIPELINE", str(folder))
    monkeypatch.setenv("MLFS_TICK_S", "0")

    with pytest.raises(BadSettings) as refused:
        load()

    said = str(refused.value)
    assert "MLFS_PIPELINE: " in said
    for fault in ("block prices", "block price has no feature", "sum to 101", "sql/left_out.sql is missing", "TICK_S"):
        assert fault in said
    assert "DEADLINE" not in said


def test_a_column_declared_with_two_types_is_named(folder: Path) -> None:
    """The later one would win, and the first build of the night would call sound upstream tables drifted."""
    change(folder, TOML, 'observed_on = "DATE"', 'observed_on = "DATE"\nload_mw = "STRING"')

    assert ("grid_history.observations.load_mw is STRING in one place and FLOAT64 in another",) == faults_of(folder)


def test_a_statement_that_is_no_text_is_named(folder: Path) -> None:
    (folder / "sql" / "retractions.sql").write_bytes(b"SELECT '\xff'")

    [fault] = faults_of(folder)
    assert fault.startswith("sql/retractions.sql cannot be read: ")


def test_a_folder_without_a_definition_is_refused(tmp_path: Path) -> None:
    assert faults_of(tmp_path) == ("it cannot be read: No such file or directory",)


def test_the_environment_wins_over_the_defaults_of_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFS_PIPELINE", str(FOLDER))
    monkeypatch.setenv("MLFS_DEADLINE", "10:15+0d")

    settings = load()

    assert ("10:15+0d", "grid-models-done") == (str(settings.deadline), settings.topic)
    assert settings.policy.processors == ("weather_ensemble", "demand_curves", "price_curves")


def test_a_feature_is_added_by_the_steps_of_the_page(folder: Path) -> None:
    """docs/pipelines.md: after the first step, the faults name each further one; after the last there is none."""
    with (folder / TOML).open("a", encoding="utf-8") as definition:
        definition.write(NEW_FEATURE)

    assert faults_of(folder) == (
        "sql/features.sql does not give solar_mw",
        "ddl/day_ahead.sql lacks solar_mw, which a build writes",
    )

    change(folder, "sql/features.sql", "\n  load_mw,\n", "\n  load_mw,\n  CAST(NULL AS FLOAT64) AS solar_mw,\n")
    change(folder, "ddl/day_ahead.sql", "  load_mw FLOAT64,\n", "  load_mw FLOAT64,\n  solar_mw FLOAT64,\n")
    assert "solar_mw" in {column.name for column in read_pipeline(folder).output_columns}


def test_a_processor_is_added_by_the_steps_of_the_page(folder: Path) -> None:
    with (folder / TOML).open("a", encoding="utf-8") as definition:
        definition.write(NEW_BLOCK + NEW_FEATURE.replace('"weather"', '"solar"'))

    told = faults_of(folder)

    assert [
        "sql/build_stats.sql does not give solar_zones, solar_phase4_cells, solar_phase3_cells",
        "sql/dependency_rows.sql does not count for solar_curves",
        "sql/features.sql does not give solar_mw, solar_source, solar_phase4_cells, solar_phase3_cells",
        "ddl/day_ahead.sql lacks solar_mw, solar_source, which a build writes",
        "ddl/day_ahead_inputs.sql lacks solar_available, solar_rows, which a build writes",
        "ddl/day_ahead_ledger.sql lacks solar_rows, which a build writes",
    ] == sorted(told, key=lambda fault: (not fault.startswith("sql"), fault))
