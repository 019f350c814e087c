"""A definition that does not fit together is refused at the start, with all its faults and where each one is."""

import re
from fractions import Fraction
from pathlib import Path

import duckdb
import pytest

from schemas.pipeline import RESERVED
from tests.support.grid_day import DEFINITION
from worker.features.quality import DEFAULT_POLICY
from worker.pipelines.checks import find_faults
from worker.pipelines.files import BadPipeline, read_pipeline
from worker.pipelines.shipped import SHIPPED
from worker.pipelines.sql_checks import find_sql_faults
from worker.settings import BadSettings, load

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
COLUMNS = """
[upstream."grid_models.demand_curves"]
columns = { load_mw = "FLOAT64", load_kw = "FLOAT64", hours = "INT64", source = "STRING", is_final = "BOOL" }
"""
LOAD = 'name = "load_mw"\nunit = "megawatts"'
EXPRESSION = "features.load_mw.expression"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    copy = tmp_path / "grid.toml"
    copy.write_text(DEFINITION.read_text("utf-8"), "utf-8")
    return copy


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")


def add(file: Path, part: str) -> None:
    with file.open("a", encoding="utf-8") as definition:
        definition.write(part)


def faults_of(path: Path) -> tuple[str, ...]:
    with pytest.raises(BadPipeline) as refused:
        read_pipeline(path)
    return refused.value.faults


def test_the_shipped_definition_and_its_statements_are_sound() -> None:
    assert [] == find_faults(SHIPPED)
    assert [] == find_sql_faults(SHIPPED)
    assert SHIPPED.quality == DEFAULT_POLICY, "the shipped pipeline is scored by the document's rules"


def test_a_sound_definition_is_read_as_it_is_written(file: Path) -> None:
    pipeline = read_pipeline(file)

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


def test_a_block_that_is_not_required_makes_its_processor_optional(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(file, 'name = "weather"', 'name = "weather"\nrequired = false')
    monkeypatch.setenv("MLFS_PIPELINE", str(file))

    assert {"weather_ensemble"} == load().policy.optional
    assert frozenset() == SHIPPED.optional_processors


def test_a_definition_of_an_older_release_may_keep_the_unused_word_for_an_entity(file: Path) -> None:
    without = read_pipeline(file)
    change(file, 'plural = "zones"', 'singular = "zone"\nplural = "zones"')

    assert read_pipeline(file).entity == without.entity
    assert [] == find_sql_faults(read_pipeline(file))


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('name = "demand"', 'name = "weather"', "the block weather is there 2 times"),
        ('"demand_curves"\ntable', '"weather_ensemble"\ntable', "the processor weather_ensemble is there 2 times"),
        ('name = "wind_m_s"', 'name = "load_mw"', "the feature load_mw is there 2 times"),
        ('name = "wind_m_s"', 'name = "zone_name"', "the published column zone_name is there 2 times"),
        (
            'name = "wind_m_s"',
            'name = "phase4_load_mw"',
            "inside the statements phase4_load_mw is there 2 times",
        ),
        (
            'name = "wind_m_s"',
            'name = "observed_on"',
            "column of grid_history.observations in the statements",
        ),
        ('name = "wind_m_s"', 'name = "order"', "order is a reserved word of SQL; choose another name"),
        ('name = "wind_m_s"', 'name = "qualify"', "qualify is a reserved word of SQL; choose another name"),
        ('table = "grid_models.price_curves"', 'table = "grid_models.table"', "table is a reserved word of SQL"),
        ('name = "wind_m_s"', 'name = "wind; DROP"', "has characters that are not"),
        (
            'name = "weather"',
            'name = "observations"',
            "block or Phase 3 table observations is there 2 times",
        ),
        ('block = "price"', 'block = "prices"', "the block prices, which does not exist"),
        ('block = "price"', 'block = "demand"', "the block price has no feature"),
        ("required = true", "required = false", "no feature is required"),
        ('name = "demand"', 'name = "demand"\nrequired = false', "demand is optional, and a row needs its load_mw"),
        ('name = "price"', 'name = "price"\nrequired = false', "price is optional, and a row needs its price_eur_mwh"),
        ('must_have = "load_mw"', 'must_have = "load_gw"', "the entity must have load_gw, which is no feature"),
        (
            'key = "zone_code"\nlabel',
            'key = "zone"\nlabel',
            "the entity's key zone is no identity column",
        ),
        (
            'curves"\nkey = "zone_code"',
            'curves"\nkey = "zone"',
            "the block demand is joined by zone, which is no",
        ),
        ('date = "valid_on"', "", "upstream.grid_raw.zones is missing, or lacks date"),
        (
            'date = "valid_on"',
            'date = "valid_on"\npurpose = "x\\nDROP TABLE y"',
            "purpose: has characters that are not",
        ),
        (
            '"grid_history.observations"]\ndate',
            '"grid_history.x"]\ndate',
            "upstream.grid_history.observations is",
        ),
        (
            'date = "observed_on"',
            'date = "observed_on"\nkey = "area"',
            "is joined by area, which is no",
        ),
        ('ledger = "grid_out.day_ahead_ledger"', 'ledger = "grid_raw.zones"', "grid_raw.zones is read and written"),
        ("null_field_rate = 6", "null_field_rate = 7", "quality.points sum to 101, not 100"),
        ("null_field_rate = 6", "nulls = 6", "quality.points names"),
        ("[10, 6]", "[12, 6]", "quality.freshness_points give 12 at most, not 10"),
        ("[[4, 10], [3, 5]]", "[[3, 5], [4, 10]]", "not ordered from most rows to fewest"),
        ('deadline = "11:40+0d"\n', "", "settings.deadline is missing"),
        ('deadline = "11:40+0d"', 'tick_s = 1\ndeadline = "11:40+0d"', "settings.tick_s is none that a pipeline"),
        ("rows_min = 3\n", "rows_minimum = 3\n", "quality.rows_minimum: is not known here; leave it out"),
        ('"grid_out.day_ahead"', '"day_ahead; DROP TABLE x"', "tables.published: has characters that are not"),
        ("[entity]", "[entity", "it is not TOML"),
        ("[10, 6]", "[6, 10]", "quality.freshness_points rise with age"),
        ("[[4, 10], [3, 5]]", "[[4, 5], [3, 10]]", "quality.row_points rise with fewer rows"),
    ],
)
def test_what_does_not_fit_is_named(file: Path, old: str, new: str, fault: str) -> None:
    change(file, old, new)

    assert any(fault in told for told in faults_of(file)), faults_of(file)


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
def test_rules_in_an_order_that_contradicts_them_are_refused(file: Path, rule: str, faults: list[str]) -> None:
    change(file, "[quality]\n", f"[quality]\n{rule}\n")

    assert faults == list(faults_of(file))


def test_a_severity_need_not_look_at_everything(file: Path) -> None:
    levels = "[{name = 'P0', score = 0, rows = 2}, {name = 'P1', score = 60, fallback = 0.5}]"
    change(file, "[quality]\n", f"[quality]\nseverities = {levels}\n")

    assert ["P0", "P1"] == [level.name for level in read_pipeline(file).quality.severities]


@pytest.mark.parametrize(
    ("schedule", "fault"),
    [
        ({"team": "zone"}, "schedule.team zone is no identity column of the roster"),
        ({"opponent": "rival"}, "schedule.opponent rival is no identity column"),
        ({"plays": "zone_name"}, "schedule.plays zone_name is STRING, not BOOL"),
    ],
)
def test_a_schedule_that_fits_nothing_is_named(file: Path, schedule: dict[str, str], fault: str) -> None:
    given = {"team": "zone_name", "opponent": "zone_name", "plays": "zone_name"} | schedule
    add(
        file,
        '[upstream."grid_raw.pairs"]\ndate = "played_on"\n[schedule]\ntable = "grid_raw.pairs"\ngame = "pair"\n'
        'sides = ["home", "away"]\n' + "".join(f'{key} = "{name}"\n' for key, name in given.items()),
    )

    assert fault in faults_of(file)


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("CAST(DIV(CAST(load_mw AS INT64) - 4, 3) AS FLOAT64)", "holds DIV(CAST(load_mw AS INT64) - 4, 3)"),
        ("SAFE_DIVIDE(TIMESTAMP_DIFF(processed_at, processed_at, MINUTE), 2)", "holds TIMESTAMP_DIFF(processed_at"),
        ("load_mw / 1000", "holds load_mw / 1000"),
        ("CAST(load_mw AS INT64)", "holds CAST(load_mw AS INT64): a cast that may round"),
        ("EXTRACT(DAYOFWEEK FROM analysis_date)", "holds EXTRACT(DAYOFWEEK FROM analysis_date)"),
        ("IF(SUBSTR(source, 0, 2) = 'a', 1, 0)", "holds SUBSTR(source, 0, 2)"),
        ("UNIX_SECONDS(processed_at)", "holds UNIX_SECONDS(processed_at)"),
        ("load_mw * 0.001", "holds 0.001: a decimal outside CAST(0.001 AS FLOAT64)"),
        ("GREATEST(load_mw, load_kw)", "holds GREATEST(load_mw, load_kw)"),
        ("SUM(load_mw)", "holds SUM(load_mw)"),
        ("(SELECT 1)", "holds (SELECT 1)"),
        ("@build_generation", "holds @build_generation"),
        ("load_mw, load_kw", "is not one expression: load_mw, load_kw"),
        ("load_mw FROM grid_raw.zones", "is not one expression: load_mw FROM grid_raw.zones"),
        ("load_mw -- megawatts", "holds --, which may not stand in an expression"),
        ("load_mw; DROP TABLE x", "holds ;, which may not stand in an expression"),
        ("IF(source = '\\\\x41', 1, 0)", "holds \\, which may not stand in an expression"),
        ("load_mw +", "is no BigQuery expression: load_mw +"),
        ("load_gw * 1000", "reads load_gw, which the columns of its upstream part do not list"),
        ("source", "is STRING, and the feature is FLOAT64: source"),
        ("source * 2", "holds source * 2, which mixes INT64 and STRING"),
        ("CAST(is_final AS FLOAT64)", "holds CAST(is_final AS FLOAT64): a cast of BOOL, which is no number"),
        ("IF(hours, load_mw, 0)", "holds IF(hours, load_mw, 0), which mixes BOOL and INT64"),
        ("IF(is_final, load_mw)", "IF takes three arguments"),
        ("IF(hours IS TRUE, load_mw, 0)", "holds hours IS TRUE, which mixes BOOL and INT64"),
    ],
)
def test_an_expression_that_the_engines_may_read_differently_is_named(file: Path, expression: str, fault: str) -> None:
    add(file, COLUMNS)
    change(file, LOAD, f'{LOAD}\nexpression = "{expression}"')

    [told] = faults_of(file)
    assert told.startswith(f"{EXPRESSION} ")
    assert fault in told


def test_an_expression_is_a_fault_of_the_setting_that_names_its_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(file, COLUMNS)
    change(file, LOAD, f'{LOAD}\nexpression = "load_kw / 1000"')
    monkeypatch.setenv("MLFS_PIPELINE", str(file))

    with pytest.raises(BadSettings, match=rf"MLFS_PIPELINE: .*{file}(.|\n)*{EXPRESSION} holds load_kw / 1000"):
        load()


def test_an_expression_takes_the_place_of_the_column_and_its_columns_are_read(file: Path) -> None:
    add(file, COLUMNS)
    change(file, LOAD, f'{LOAD}\nexpression = "SAFE_DIVIDE(load_kw, hours)"')
    pipeline = read_pipeline(file)

    [load] = [feature for feature in pipeline.features if feature.name == "load_mw"]
    assert load.phase4.sql == "CAST(SAFE_DIVIDE(load_kw, hours) AS FLOAT64)"
    clean = "CAST(SAFE_DIVIDE(IF(IS_NAN(load_kw) OR IS_INF(load_kw), NULL, load_kw), hours) AS FLOAT64)"
    assert f"NULL, {clean}) AS load_mw" in " ".join(pipeline.text("features").split())
    assert {"analysis_date", "zone_code", "processed_at", "load_kw", "hours"} == set(
        pipeline.upstream["grid_models.demand_curves"]
    )


def test_the_example_of_the_page_is_a_sound_feature(file: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "pipelines.md").read_text("utf-8")
    [example] = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    add(file, COLUMNS + example.replace("load_mw", "load_gw"))

    load = next(feature for feature in read_pipeline(file).features if feature.name == "load_gw")
    assert load.phase4.sql == "CAST(SAFE_DIVIDE(load_kw, 1000) AS FLOAT64)"


def test_a_folder_is_read_by_its_definition(file: Path) -> None:
    file.rename(file.with_name("pipeline.toml"))

    assert read_pipeline(file.parent).name == "grid_day_ahead"


@pytest.mark.parametrize("name", ["sql/features.sql", "ddl/day_ahead.sql"])
def test_a_hand_written_statement_that_nothing_would_read_is_refused(file: Path, name: str) -> None:
    file.rename(file.with_name("pipeline.toml"))
    left = file.parent / name
    left.parent.mkdir()
    left.write_text("SELECT 1 AS one", "utf-8")

    [fault] = faults_of(file.parent)
    assert fault.startswith(f"{name} is not read: SQL is rendered from pipeline.toml")


def test_no_name_that_sql_reserves_can_be_given() -> None:
    with duckdb.connect() as connection:
        words = connection.execute(
            "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category IN ('reserved', 'type_function')"
        ).fetchall()

    assert {word for (word,) in words} <= RESERVED


def test_all_faults_are_told_together_and_by_the_setting(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(file, 'block = "price"', 'block = "prices"')
    change(file, "null_field_rate = 6", "null_field_rate = 7")
    add(file, COLUMNS)
    change(file, LOAD, f'{LOAD}\nexpression = "load_kw / 1000"')
    monkeypatch.setenv("MLFS_PIPELINE", str(file))
    monkeypatch.setenv("MLFS_TICK_S", "0")

    with pytest.raises(BadSettings) as refused:
        load()

    said = str(refused.value)
    assert "MLFS_PIPELINE: " in said
    for fault in ("block prices", "block price has no feature", "sum to 101", EXPRESSION, "TICK_S"):
        assert fault in said
    assert "DEADLINE" not in said


def test_a_column_declared_with_two_types_is_named(file: Path) -> None:
    """The later one would win, and the first build of the night would call sound upstream tables drifted."""
    change(file, 'date = "observed_on"', 'date = "observed_on"\ncolumns = { load_mw = "STRING" }')

    assert ("grid_history.observations.load_mw is STRING in one place and FLOAT64 in another",) == faults_of(file)


def test_a_feature_may_be_a_float_where_upstream_lists_a_whole_number(file: Path) -> None:
    change(file, 'date = "observed_on"', 'date = "observed_on"\ncolumns = { load_mw = "INT64" }')
    pipeline = read_pipeline(file)

    assert "FLOAT64" == pipeline.upstream["grid_history.observations"]["load_mw"]
    assert "  load_mw INT64," in pipeline.ddl_of("grid_history.observations").splitlines()


def test_a_folder_without_a_definition_is_refused(tmp_path: Path) -> None:
    assert faults_of(tmp_path) == ("it cannot be read: No such file or directory",)


def test_the_environment_wins_over_the_defaults_of_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFS_PIPELINE", str(DEFINITION))
    monkeypatch.setenv("MLFS_DEADLINE", "10:15+0d")

    settings = load()

    assert ("10:15+0d", "grid-models-done") == (str(settings.deadline), settings.topic)
    assert settings.policy.processors == ("weather_ensemble", "demand_curves", "price_curves")
