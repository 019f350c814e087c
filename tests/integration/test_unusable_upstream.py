"""What is unusable tonight is missing, not fatal: tables and columns that are gone, retyped or denied, and findings."""

# ruff: noqa: S608 -- statements are made of this file's own names; whatever else is in them is a parameter

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from ops.cli import app
from statemachine.model import BuildMode, FailureKind, State
from tests.support.bigquery import LIMITS, Site, open_warehouse
from tests.support.bigquery_peer.server import BigQueryServer
from tests.support.league import SATURDAY, SUNDAY, League, built_at, sample_folder
from tests.support.nights import PROCESSORS
from worker.adapters.bigquery.warehouse import BigQueryWarehouse
from worker.adapters.duckdb.links import link_table
from worker.adapters.duckdb.parquet import catalogue_types
from worker.builds.steps import estimate_build, run_build
from worker.builds.upstream import probe, upstream_faults
from worker.errors import Fatal, SchemaDrift
from worker.features.model import BuildKey, BuildOutcome, BuildRequest, Statement
from worker.features.usable import tables_read
from worker.pipelines.shipped import PLAYER_GAMES, PUBLISHED_TABLE, ROSTER, SCHEDULE, SHIPPED, UPSTREAM, features_of

CACHE, COMPOSITE = "nba_precompute.player_daily_cache", "nba_precompute.player_composite_factors"
DEFENSE = "nba_precompute.team_defense_zone_analysis"


@pytest.fixture
def league() -> Iterator[League]:
    league = League()
    yield league
    league.warehouse.close()


def upstream_findings(outcome: BuildOutcome) -> list[tuple[str, str, str, str]]:
    checks = ("table_unusable", "column_unusable", "duplicate_keys", "stale_rows")
    return [
        (found.severity.value, found.check, found.subject, found.processor)
        for found in outcome.report.findings
        if found.check in checks
    ]


def cells(rows: Mapping[int, Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    names = ["opponent_abbreviation", *(feature.name for feature in SHIPPED.features)]
    return {key: {name: row[name] for name in names} for key, row in rows.items()}


def test_a_whole_night_has_no_finding_about_its_tables(league: League) -> None:
    outcome = league.build(SUNDAY)

    assert (outcome.report.earned_state, upstream_findings(outcome)) == (State.DONE, [])
    assert {facts.doubled_keys for facts in outcome.stats.table_facts.values()} == {0}
    assert {name: facts.rows for name, facts in outcome.stats.table_facts.items()} == outcome.stats.dependency_rows


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER TABLE {} RENAME season_avg_ppg TO season_ppg", "no such column; season_ppg is there"),
        ("ALTER TABLE {} DROP COLUMN season_avg_ppg", "no such column"),
        ("ALTER TABLE {} ALTER season_avg_ppg TYPE VARCHAR", "the column is STRING"),
    ],
)
def test_a_column_that_is_gone_or_retyped_is_missing_for_its_feature_alone(
    league: League, change: str, said: str
) -> None:
    league.build(SUNDAY)
    whole = league.published(SUNDAY)
    league.execute(change.format(CACHE))

    outcome = league.build(SUNDAY, generation=2)

    assert (outcome.published, outcome.report.earned_state) == (True, State.DEGRADED)
    assert outcome.report.severity in {"P0", "P1", "P2"}
    assert upstream_findings(outcome) == [
        ("critical", "column_unusable", f"{CACHE}.season_avg_ppg", "player_daily_cache")
    ]
    [finding] = [found for found in outcome.report.findings if found.check == "column_unusable"]
    assert finding.observed.startswith(f"{said}; 4.")
    assert "season_avg_ppg (FLOAT64 wanted, " in finding.next_step
    fallen = league.published(SUNDAY)
    for key, row in fallen.items():
        features = row["phase3_features"]
        assert set(features) - set(whole[key]["phase3_features"]) <= {"season_avg_ppg"}
        assert ("season_avg_ppg" in features) == (row["season_avg_ppg"] is not None)
        others = [feature.name for feature in SHIPPED.features if feature.name != "season_avg_ppg"]
        assert [row[name] for name in others] == [whole[key][name] for name in others]


def test_a_phase4_table_that_is_gone_counts_as_empty(league: League) -> None:
    league.execute(f"DELETE FROM {CACHE} WHERE analysis_date = ?", [SUNDAY])
    empty = league.build(SUNDAY)
    rows = league.published(SUNDAY)
    league.execute(f"DROP TABLE {CACHE}")

    gone = league.build(SUNDAY, generation=2)

    assert gone.report.quality_score == empty.report.quality_score
    assert gone.stats.dependency_rows == empty.stats.dependency_rows
    assert cells(league.published(SUNDAY)) == cells(rows)
    assert upstream_findings(gone) == [("critical", "table_unusable", CACHE, "player_daily_cache")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER TABLE {} ALTER player_id TYPE VARCHAR", "player_id is STRING, not INT64"),
        ("ALTER TABLE {} DROP COLUMN processed_at", "no row can be ordered without processed_at"),
        ("ALTER TABLE {} RENAME analysis_date TO game_date", "has no column analysis_date (DATE)"),
    ],
)
def test_a_table_without_the_columns_that_find_and_order_rows_is_unusable(
    league: League, change: str, said: str
) -> None:
    league.execute(change.format(CACHE))

    outcome = league.build(SUNDAY)

    [finding] = [found for found in outcome.report.findings if found.check == "table_unusable"]
    assert (finding.subject, said in finding.observed) == (CACHE, True)
    assert outcome.stats.dependency_rows["player_daily_cache"] == 0
    # The probe counts like the build: rows that no build can read start no upgrade.
    assert probe(league.warehouse, SUNDAY) == outcome.stats.dependency_rows


def test_a_phase3_table_that_nobody_needs_tonight_is_a_warning(league: League) -> None:
    whole = league.build(SUNDAY)
    rows = league.published(SUNDAY)
    league.execute("DROP TABLE nba_analytics.team_offense_game_summary")

    outcome = league.build(SUNDAY, generation=2)

    assert (outcome.report.earned_state, outcome.report.severity) == (State.DONE, "P3")
    assert outcome.report.quality_score == whole.report.quality_score
    assert upstream_findings(outcome) == [("warning", "table_unusable", "nba_analytics.team_offense_game_summary", "")]
    assert cells(league.published(SUNDAY)) == cells(rows)


def test_a_phase3_table_is_critical_where_phase4_left_its_cells_empty(league: League) -> None:
    league.execute(f"DELETE FROM {CACHE} WHERE analysis_date = ?", [SUNDAY])
    league.execute(f"DROP TABLE {PLAYER_GAMES}")

    outcome = league.build(SUNDAY)

    assert upstream_findings(outcome) == [("critical", "table_unusable", PLAYER_GAMES, "")]
    empty = sum(outcome.stats.left_empty[feature.name] for feature in features_of("daily_cache"))
    assert empty == 3 * outcome.stats.blocks["daily_cache"].players


def test_a_forced_fallback_does_not_look_at_phase4(league: League) -> None:
    forced = league.build(SUNDAY, mode=BuildMode.FORCED_FALLBACK)
    rows = league.published(SUNDAY)
    league.execute(f"ALTER TABLE {COMPOSITE} ALTER player_id TYPE VARCHAR")
    for table in (CACHE, DEFENSE):
        league.execute(f"DROP TABLE {table}")

    again = league.build(SUNDAY, generation=2, mode=BuildMode.FORCED_FALLBACK)

    assert (again.report.quality_score, again.published) == (forced.report.quality_score, True)
    assert cells(league.published(SUNDAY)) == cells(rows)
    assert upstream_findings(again) == []


def test_a_retracted_table_is_not_looked_at(league: League) -> None:
    league.execute(f"DROP TABLE {CACHE}")

    outcome = league.build(SUNDAY, ignored=frozenset({"player_daily_cache"}))

    assert (outcome.published, upstream_findings(outcome)) == (True, [])


def test_a_schedule_that_is_gone_is_critical_and_the_night_is_published(league: League) -> None:
    league.execute(f"DROP TABLE {SCHEDULE}")

    outcome = league.build(SUNDAY)

    assert (outcome.published, outcome.report.earned_state) == (True, State.DEGRADED)
    assert ("critical", "table_unusable", SCHEDULE, "") in upstream_findings(outcome)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (f"DROP TABLE {ROSTER}", f"table {ROSTER} does not exist"),
        (f"ALTER TABLE {ROSTER} RENAME player_id TO id", f"table {ROSTER} is unusable: has no column player_id"),
    ],
)
def test_without_a_roster_there_is_no_build_and_the_message_names_the_table(
    league: League, change: str, said: str
) -> None:
    league.execute(change)

    outcome = league.build(SUNDAY)

    assert (outcome.published, outcome.failure) == (False, FailureKind.NO_ROSTER)
    assert f"2024-12-15: no active players: {said}" in outcome.message


def test_names_are_compared_without_case_and_types_of_the_same_values_are_read(league: League) -> None:
    league.build(SUNDAY)
    rows = league.published(SUNDAY)
    for change in (
        f"ALTER TABLE {CACHE} RENAME season_avg_ppg TO Season_AVG_ppg",
        f"ALTER TABLE {CACHE} RENAME player_id TO PLAYER_ID",
        f"ALTER TABLE {CACHE} ALTER PLAYER_ID TYPE UBIGINT",
        f"ALTER TABLE {COMPOSITE} ALTER player_id TYPE DECIMAL(20, 0)",
        f"ALTER TABLE {COMPOSITE} ALTER processed_at TYPE TIMESTAMP",
        f"ALTER TABLE {COMPOSITE} ALTER pace TYPE DECIMAL(38, 9)",
        f"ALTER TABLE {ROSTER} ALTER player_id TYPE HUGEINT",
        f"ALTER TABLE {PLAYER_GAMES} ALTER player_id TYPE DECIMAL(38, 9)",
    ):
        league.execute(change)

    outcome = league.build(SUNDAY, generation=2)

    assert (outcome.report.earned_state, upstream_findings(outcome)) == (State.DONE, [])
    again = cells(league.published(SUNDAY))
    for key, row in cells(rows).items():
        assert again[key] == row | {"pace": pytest.approx(row["pace"], abs=1e-9)}


def test_an_id_with_a_fraction_is_no_id(league: League) -> None:
    league.execute(f"ALTER TABLE {COMPOSITE} ALTER player_id TYPE DECIMAL(20, 1)")
    league.execute(f"UPDATE {COMPOSITE} SET player_id = player_id + 0.4 WHERE analysis_date = ?", [SUNDAY])

    outcome = league.build(SUNDAY)

    assert outcome.stats.blocks["composite"].phase4_cells == 0


def test_a_column_that_nobody_reads_may_go(league: League) -> None:
    league.execute(f"ALTER TABLE {COMPOSITE} DROP COLUMN games_played")

    assert upstream_findings(league.build(SUNDAY)) == []


def test_a_dry_run_sees_the_same_findings(league: League) -> None:
    league.execute(f"DROP TABLE {PLAYER_GAMES}")
    request = BuildRequest(
        key=BuildKey(analysis_date=SUNDAY, generation=1, attempt=1),
        mode=BuildMode.NORMAL,
        trigger="manual",
        phase3_lookback_days=30,
        as_of=None,
        started_at=built_at(SUNDAY),
        claimant="by hand",
    )

    estimates = estimate_build(league.warehouse, request, built_at(SUNDAY))
    dry = run_build(league.warehouse, request, now=lambda: built_at(SUNDAY), publish=False)

    assert [estimate.name for estimate in estimates] == ["dependency_rows", "features"]
    assert dry.report.findings == league.build(SUNDAY).report.findings


class TurningWarehouse:
    """A warehouse of which a table breaks after the comparison of the columns."""

    def __init__(self, league: League, breaks: str, at: str) -> None:
        self._inner, self._breaks, self._at = league.warehouse, breaks, at
        self._league = league
        self.ran: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def query(self, statement: Statement) -> Any:
        self._turn(statement.name)
        return self._inner.query(statement)

    def stage(self, key: BuildKey, select: Statement) -> None:
        self._turn(select.name)
        self._inner.stage(key, select)

    def _turn(self, name: str) -> None:
        self.ran.append(name)
        if name == self._at and self._breaks:
            change, self._breaks = self._breaks, ""
            self._league.execute(change)


@pytest.mark.parametrize("at", ["dependency_rows", "features"])
@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (f"DROP TABLE {CACHE}", ("critical", "table_unusable", CACHE, "player_daily_cache")),
        (
            f"ALTER TABLE {CACHE} DROP COLUMN season_avg_ppg",
            ("critical", "column_unusable", f"{CACHE}.season_avg_ppg", "player_daily_cache"),
        ),
    ],
)
def test_a_table_that_breaks_during_the_build_is_found_and_left_out(
    league: League, at: str, change: str, finding: tuple[str, ...]
) -> None:
    league.warehouse = TurningWarehouse(league, change, at)  # type: ignore[assignment]

    outcome = league.build(SUNDAY)

    assert (outcome.published, upstream_findings(outcome)) == (True, [finding])
    assert len(league.warehouse.ran) <= 40  # type: ignore[attr-defined]


def test_a_statement_that_fails_for_another_reason_fails_the_build(league: League) -> None:
    class Bent(TurningWarehouse):
        def query(self, statement: Statement) -> Any:
            if statement.name == "dependency_rows":
                raise SchemaDrift("a statement of our own is wrong")
            return super().query(statement)

    league.warehouse = Bent(league, "", "")  # type: ignore[assignment]

    with pytest.raises(SchemaDrift, match="of our own is wrong"):
        league.build(SUNDAY)


def test_a_linked_file_that_is_no_parquet_file_counts_as_a_missing_table(league: League, tmp_path: Any) -> None:
    file = tmp_path / f"{CACHE}.parquet"
    file.write_bytes((sample_folder() / file.name).read_bytes())
    with league.warehouse.writing("linking") as cursor:
        link_table(cursor, CACHE, file, wanted=catalogue_types(SHIPPED)[CACHE])
    file.write_text("half of a file")

    outcome = league.build(SUNDAY)

    assert upstream_findings(outcome) == [("critical", "table_unusable", CACHE, "player_daily_cache")]
    [finding] = [found for found in outcome.report.findings if found.check == "table_unusable"]
    assert "cannot be read" in finding.observed
    assert probe(league.warehouse, SUNDAY) == outcome.stats.dependency_rows


@pytest.mark.parametrize(
    ("change", "observed"),
    [
        ("processed_at = processed_at - INTERVAL 21 DAY", "old"),
        ("processed_at = TIMESTAMPTZ '2999-01-01 00:00:00+00'", "ahead"),
        ("processed_at = NULL", "without processed_at"),
    ],
)
def test_rows_that_are_old_absent_or_ahead_are_a_warning(league: League, change: str, observed: str) -> None:
    league.execute(f"UPDATE {COMPOSITE} SET {change} WHERE analysis_date = ?", [SUNDAY])

    outcome = league.build(SUNDAY)

    rows = outcome.stats.dependency_rows["player_composite_factors"]
    [finding] = [found for found in outcome.report.findings if found.check == "stale_rows"]
    assert (finding.severity, finding.processor) == ("warning", "player_composite_factors")
    assert finding.observed == f"{rows} of {rows} rows: {rows} {observed}"


def test_rows_of_a_later_backfill_are_not_stale(league: League) -> None:
    league.execute(f"UPDATE {COMPOSITE} SET processed_at = ?", [built_at(SUNDAY)])

    assert upstream_findings(league.build(SATURDAY)) == []


@pytest.mark.parametrize(("players", "severity"), [(1, "note"), (100, "warning")])
def test_several_rows_for_a_key_are_counted(league: League, players: int, severity: str) -> None:
    league.execute(
        f"INSERT INTO {COMPOSITE} SELECT * REPLACE (pace + 1 AS pace) FROM {COMPOSITE} "
        f"WHERE analysis_date = ? ORDER BY player_id LIMIT {players}",
        [SUNDAY],
    )

    outcome = league.build(SUNDAY)

    assert upstream_findings(outcome) == [(severity, "duplicate_keys", COMPOSITE, "player_composite_factors")]
    facts = outcome.stats.table_facts["player_composite_factors"]
    assert (facts.rows - facts.keys, facts.doubled_keys) == (players, players)


def test_as_of_hides_rows_of_every_upstream_table(league: League) -> None:
    """Before the roster of the morning there is no player, and with the morning's tables alone no Phase 4."""
    processed = "SELECT MAX(processed_at) AS at FROM {} WHERE snapshot_date = @night"
    [roster] = league.query(processed.format(ROSTER), night=SUNDAY)

    early = league.build(SUNDAY, as_of=built_at(SATURDAY).replace(hour=0))
    morning = league.build(SUNDAY, generation=2, as_of=roster["at"])

    assert (early.failure, "by rows processed up to 2024-12-15 00:30:00Z" in early.message) == (
        FailureKind.NO_ROSTER,
        True,
    )
    assert (morning.published, set(morning.stats.dependency_rows.values())) == (True, {0})
    assert {row["data_source"] for row in league.published(SUNDAY).values()} == {"phase3"}


def test_a_build_by_hand_reads_upstream_as_of_an_instant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    league = League(str(tmp_path / "warehouse.duckdb"))
    league.warehouse.close()
    monkeypatch.setenv("MLFS_WAREHOUSE", f"duckdb://{tmp_path / 'warehouse.duckdb'}")
    monkeypatch.setenv("MLFS_DATA_DIR", str(tmp_path))

    def mlfs(*options: str) -> Result:
        return CliRunner().invoke(app, ["build", SUNDAY.isoformat(), *options])

    afternoon = mlfs("--as-of", "2024-12-15T17:00:00-05:00", "--dry-run", "--json")
    answer = json.loads(afternoon.stdout)

    assert (afternoon.exit_code, answer["state"], answer["as_of"]) == (3, "degraded", "2024-12-15T22:00:00Z")
    assert set(answer["dependency_rows"].values()) == {0}
    assert mlfs("--as-of", "2024-12-15").exit_code == 2
    assert mlfs("--as-of", "2024-12-15T22:00:00Z", "--source", "yesterday").exit_code == 2


@pytest.fixture(scope="module")
def server() -> Iterator[BigQueryServer]:
    with BigQueryServer(hold_s=0.05) as running:
        yield running


@pytest.fixture
def site(server: BigQueryServer, request: pytest.FixtureRequest) -> Iterator[Site]:
    name = request.node.name.replace("_", "-").replace("[", "-").replace("]", "")[:60].lower()
    server.project(name).engine.load(sample_folder())
    opened = Site(server, name, open_warehouse(server, name, LIMITS))
    opened.warehouse.ensure_tables()
    yield opened
    opened.warehouse.close()


def build(warehouse: BigQueryWarehouse, mode: BuildMode = BuildMode.NORMAL) -> BuildOutcome:
    request = BuildRequest(
        key=BuildKey(analysis_date=SUNDAY, generation=1, attempt=1),
        mode=mode,
        trigger="join",
        phase3_lookback_days=30,
        as_of=None,
        started_at=built_at(SUNDAY),
        claimant="worker-a",
    )
    return run_build(warehouse, request, now=lambda: built_at(SUNDAY))


def test_a_denied_table_is_missing_on_bigquery(site: Site) -> None:
    site.project.denied = frozenset({CACHE})

    outcome = build(site.warehouse)

    assert (outcome.published, outcome.report.earned_state) == (True, State.DEGRADED)
    assert upstream_findings(outcome) == [("critical", "table_unusable", CACHE, "player_daily_cache")]
    [finding] = [found for found in outcome.report.findings if found.check == "table_unusable"]
    assert "Access Denied: Table" in finding.observed
    assert probe(site.warehouse, SUNDAY) == outcome.stats.dependency_rows
    [fault] = upstream_faults(site.warehouse)
    assert fault.startswith(f"table {CACHE} cannot be read: Access Denied: Table")


def test_a_column_behind_a_policy_tag_is_missing_on_bigquery(site: Site) -> None:
    """The schema shows the column, so the first statement that reads the column fails; the second try leaves it out."""
    site.project.denied = frozenset({f"{CACHE}.season_avg_ppg"})

    outcome = build(site.warehouse)

    assert upstream_findings(outcome) == [
        ("critical", "column_unusable", f"{CACHE}.season_avg_ppg", "player_daily_cache")
    ]
    assert probe(site.warehouse, SUNDAY) == outcome.stats.dependency_rows
    rows = site.warehouse.query(Statement(name="rows", sql=f"SELECT COUNT(*) AS n FROM {PUBLISHED_TABLE}"))
    assert rows[0]["n"] == outcome.report.row_count


def test_a_probe_counts_no_rows_that_the_account_may_not_order(site: Site) -> None:
    """Otherwise each probe would find rows, and each upgrade would build without the rows again."""
    site.project.denied = frozenset({f"{CACHE}.processed_at"})

    outcome = build(site.warehouse)

    assert upstream_findings(outcome) == [("critical", "table_unusable", CACHE, "player_daily_cache")]
    assert outcome.stats.dependency_rows["player_daily_cache"] == 0
    assert probe(site.warehouse, SUNDAY) == outcome.stats.dependency_rows


def test_a_denied_phase4_stops_no_forced_fallback_on_bigquery(site: Site) -> None:
    site.project.denied = frozenset({CACHE, COMPOSITE})

    outcome = build(site.warehouse, BuildMode.FORCED_FALLBACK)

    assert (outcome.published, upstream_findings(outcome)) == (True, [])


def test_denied_own_tables_are_a_fault_of_the_worker_and_no_missing_table(site: Site) -> None:
    site.project.denied = frozenset({SHIPPED.tables.generations})

    with pytest.raises(Fatal, match="Access Denied"):
        build(site.warehouse)


def test_what_is_read_depends_on_the_mode() -> None:
    def read(mode: BuildMode, ignored: frozenset[str] = frozenset()) -> set[str]:
        request = BuildRequest(
            key=BuildKey(analysis_date=SUNDAY, generation=1, attempt=1),
            mode=mode,
            trigger="join",
            phase3_lookback_days=30,
            as_of=None,
            started_at=built_at(SUNDAY),
            claimant="worker-a",
            ignored=ignored,
        )
        return set(tables_read(request, SHIPPED))

    phase4 = {block.table for block in SHIPPED.blocks}
    retracted = {block.table for block in SHIPPED.blocks if block.processor == PROCESSORS[0]}
    assert read(BuildMode.NORMAL) == set(UPSTREAM)
    assert read(BuildMode.FORCED_FALLBACK) == set(UPSTREAM) - phase4
    assert read(BuildMode.YESTERDAY) == set()
    assert read(BuildMode.NORMAL, frozenset(PROCESSORS[:1])) == set(UPSTREAM) - retracted
