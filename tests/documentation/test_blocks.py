"""Every code block of the documentation runs, or is checked as the tables below say; none is passed over in silence."""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from prometheus_client.parser import text_string_to_metric_families

from ops.demo.demo_run import GENERATED_NIGHTS_MAX
from tests.documentation.pages import ROOT, Block, Kind, blocks, program
from tests.documentation.stage import Ran, Stage, assert_same, play, staged
from tests.support.arrivals import generated_season, store_arrivals
from tests.support.league import League
from worker.adapters.pubsub.connection import publisher_client
from worker.http.problems import Problem
from worker.local.ownership import read_address

pytestmark = pytest.mark.timeout(180)

NAMED = {block.name: block for block in blocks()}
NIGHT = "2024-12-15"
TODAY = r"\d{4}-\d\d-\d\d"

# Whole pages whose blocks another test holds; it must name the page.
ELSEWHERE: Mapping[str, str] = {
    "docs/a_degraded_night.md": "tests/acceptance/test_observed_night.py",  # played, typed and compared
    "docs/document_queries.md": "tests/integration/test_document_queries.py",  # each query runs on built nights
    "docs/events.md": "tests/unit/test_event_contract.py",  # validated against the exported schemas
    "docs/phase5.md": "tests/integration/test_phase5.py",  # executed
    "docs/state_machine.md": "tests/architecture/test_diagram.py",  # drawn from the transition table
}
# Blocks with commands that cannot run here. Names, options, targets and files in them are checked by test_names.py.
NOT_RUN: Mapping[tuple[str, str], str] = {
    ("README.md", "make run     # set up, then play one night on this machine"): "what it runs is run: see the next",
    ("docs/tutorial.md", "make run"): "what it runs is run, as for the README",
    ("docs/compose.md", "docker compose exec worker mlfs status"): "no Docker; the mlfs part is parsed",
    ("docs/document_queries.md", "bq query --use_legacy_sql=false --parameter=analysis_date:DATE:2024-12-15 \"$(cat"
     ' query.sql)"'): "needs Google",
    ("docs/http.md", "gcloud pubsub subscriptions create ml-feature-store-worker --topic phase4-processor-success \\"):
    "needs Google",
    ("docs/http.md", "gcloud scheduler jobs create http mlfs-tick --schedule '* 22,23,0 * * *' --time-zone"
     " America/New_York \\"): "needs Google",
    ("ops/cloudrun/README.md", "kubectl kustomize ops/cloudrun/pull > pool.yaml"): "needs Google",
    ("ops/cloudrun/README.md", "kubectl kustomize ops/cloudrun/push > service.yaml"): "needs Google",
    ("ops/k8s/README.md", "kubectl create namespace mlfs"): "needs a cluster",
    ("ops/k8s/README.md", "kubectl -n mlfs create job mlfs-hand --from=cronjob/mlfs-tick --dry-run=client -o json \\"):
    "needs a cluster",
    ("ops/terraform/README.md", "printf '%s\\n' 'network = \"projects/P/global/networks/default\"' 'upstream_members ="
     " [\"serviceAccount:…\"]' 'phase5_members = [\"serviceAccount:…\"]' > ops/terraform/terraform.tfvars"):
    "needs Google and Terraform",
    ("ops/workflows/README.md", "export PROJECT=my-project REGION=us-central1 MLFS_URL=https://mlfs-xyz.run.app"):
    "needs Google",
    ("docs/performance.md", "make measure                              # ten minutes; refused while the load"
     " is above 1"): "takes ten minutes; each benchmark runs small in tests/integration",
    ("docs/reliability.md", 'make chaos ARGS="--minutes 5 --seed 7"                     # one Redis (Debian\'s'
     " redis-server)"):
    "takes minutes; a short run is in tests/chaos",
}  # fmt: skip
DRAWINGS: Mapping[tuple[str, str], str] = {
    ("README.md", "flowchart LR"): "a picture",
    (
        "docs/architecture.md",
        "statemachine/     pure: states, events, the transition table, decide(), invariants",
    ): "a tree",
    ("docs/pipelines.md", "[[features]]"): "tests/unit/test_pipeline_definition.py reads it",
    ("docs/deploy.md", "# The account of a worker"): "read by tests/contract/test_redis_rights.py",
}
# Blocks that change something: run in order by the test that is named.
IN_ORDER: Mapping[tuple[str, str], str] = {
    ("README.md", "export MLFS_DATA_DIR=$PWD/own"): "test_tables_of_ones_own",
    ("docs/tutorial.md", "Preparing .venv (Python 3.11.7)"): "test_a_fresh_checkout_prints_the_night_of_the_tutorial",
    ("docs/cli.md", "export MLFS_DATA_DIR=$PWD/night"): "test_a_worker_of_ones_own",
    ("docs/cli.md", "mlfs status                                    # the latest dates, and refused messages"):
    "test_everyday_commands",
    ("docs/cli.md", "mlfs demo --scenario missing-processor"): "test_the_demo_commands",
    ("docs/tutorial.md", "mlfs demo --scenario missing-processor"): "played",  # the same line as in docs/cli.md
    ("docs/tutorial.md", "export MLFS_DATA_DIR=$PWD/night"): "test_the_worker_of_the_tutorial",
    ("docs/tutorial.md", "mlfs emit 2024-12-15 player_daily_cache --run-id 1"): "test_the_worker_of_the_tutorial",
    ("docs/tutorial.md", "mlfs replay 2024-12-15 --reason 'trying it out' --dry-run"):
    "test_the_worker_of_the_tutorial",
    ("docs/cli.md", "$ mlfs explain 2024-12-15"): "test_a_worker_of_ones_own",
    ("docs/cli.md", "mlfs emit 2024-12-15 player_daily_cache --rows 449 --run-id nightly-1"):
    "test_a_worker_of_ones_own",
    ("docs/cli.md", "$ mlfs dlq redrive --reason unknown_processor --yes"): "test_a_worker_of_ones_own",
    ("docs/cli.md", "$ mlfs recover --yes"): "test_a_worker_of_ones_own",
    ("docs/cli.md", "mlfs load ./sample --generate 2024-12-15"): "test_a_worker_of_ones_own",
    ("docs/cli.md", "$ mlfs replay --from 2024-12-12 --to 2024-12-15 --only missing --reason 'first build' --yes"):
    "test_a_worker_of_ones_own",
    ("docs/cli.md", "mlfs serve                                     # on loopback: no token needed"):
    "test_a_worker_of_ones_own",
    ("docs/http.md", "curl -X POST https://mlfs.example/process \\"): "test_a_worker_of_ones_own",
    ("docs/http.md", '{"opened": 0, "due": 1, "failed": 0, "published": 1, "left": 0,'): "test_a_worker_of_ones_own",
    ("docs/http.md", '{"type": "urn:mlfs:problem:refused", "title": "Not in this state", "status": 409,'):
    "test_the_shown_problem_has_the_form_of_one",
    ("docs/cli.md", "$ mlfs replay 2024-12-15 --reason 'daily cache was repaired' --yes --wait 60"):
    "test_a_replay_beside_a_worker",
    ("docs/cli.md", "$ mlfs backtest --from 2024-10-22 --to 2024-11-20 --deadline 23:35"):
    "test_a_backtest_of_recorded_nights",
}  # fmt: skip
# The folder in which the other sessions and commands run; those not named here run where a processor was missing.
PLAYED_IN: Mapping[tuple[str, str], str] = {
    ("docs/cli.md", f"$ mlfs status {NIGHT}"): "nominal",
    ("docs/tutorial.md", f"$ mlfs features {NIGHT} --out features.parquet"): "nominal",
    ("docs/lineage.md", f"$ mlfs lineage {NIGHT} 9995663"): "nominal",
    ("docs/cli.md", f"$ mlfs incident {NIGHT}"): "outage",
}
# Exit codes other than 0 that a command has on these nights, and why.
EXIT_CODES: Mapping[str, tuple[set[int], str]] = {
    "MLFS_DEADLINE=23:55 MLFS_TICK_S=0 mlfs config": ({2}, "the settings are wrong on purpose"),
    f"mlfs incident {NIGHT}": ({1}, "P1"),
    f"mlfs daily {NIGHT}": ({0}, "all green"),
    "mlfs daily": ({3}, "the night before that of the demo was asked for again"),
    "mlfs replay --from 2024-12-12 --to 2024-12-15 --only missing --reason 'first build' --yes": (
        {1},
        "the first of them has no players",
    ),
}


def blocks_of(kind: Kind) -> list[Block]:
    return [
        block
        for block in NAMED.values()
        if block.kind is kind and not {block.name} & {*NOT_RUN, *IN_ORDER, *DRAWINGS} and block.page not in ELSEWHERE
    ]


DEMOS = NAMED["docs/cli.md", "mlfs demo --scenario missing-processor"]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A folder in which demos ran, what the nominal one printed, and that of an outage as JSON.

    Two of them are those of docs/cli.md, one with more nights, one with another scenario, so that none is played twice.
    """
    folder = tmp_path_factory.mktemp("played")
    missing, anew, _look = DEMOS.commands()
    nominal, _, outage = play(
        folder, "mlfs demo", f"{missing} --nights {GENERATED_NIGHTS_MAX}", f"{anew} --scenario outage"
    )
    return folder, nominal, outage


@pytest.fixture
def stage(played: tuple[Path, str, str], tmp_path: Path, wait_until: Callable[..., None]) -> Iterator[Stage]:
    """A copy of all the nights: what a session changes, no other session shows."""
    shutil.copytree(played[0], tmp_path / "played", ignore=shutil.ignore_patterns("*.sock"))
    with staged(tmp_path / "played", wait_until) as stage:
        yield stage


@pytest.fixture
def copied_stage(played: tuple[Path, str, str], tmp_path: Path, wait_until: Callable[..., None]) -> Iterator[Stage]:
    """A copy of the nights in which a processor was missing, for what changes them."""
    night = Path(".mlfs/demo-missing-processor")
    shutil.copytree(played[0] / night, tmp_path / night, ignore=shutil.ignore_patterns("*.sock"))
    with staged(tmp_path, wait_until) as stage:
        stage.exports["MLFS_DATA_DIR"] = str(night)
        yield stage


@pytest.fixture
def own_stage(tmp_path: Path, wait_until: Callable[..., None]) -> Iterator[Stage]:
    with staged(tmp_path, wait_until) as stage:
        yield stage


def ran(stage: Stage, line: str) -> Ran:
    codes, _why = EXIT_CODES.get(line, ({0}, ""))
    done = stage.type(line)
    assert done.code in codes, f"{line}: exit code {done.code}\n{done.text}"
    return done


def type_all(stage: Stage, page: str, first_line: str) -> list[Ran]:
    return [ran(stage, line) for line in NAMED[page, first_line].commands()]


def converse(stage: Stage, page: str, first_line: str, *also: str) -> None:
    """Type the commands of a session, and compare what they print."""
    block = NAMED[page, first_line]
    for line, written in block.dialogue():
        assert_same(written, ran(stage, line).text, *also, where=block.where)


def test_every_block_has_its_check() -> None:
    named = [*NOT_RUN, *DRAWINGS, *IN_ORDER, *PLAYED_IN]

    assert not set(named) - NAMED.keys(), "a table names a block that is gone"
    assert len({*NOT_RUN, *DRAWINGS, *IN_ORDER}) == len(NOT_RUN) + len(DRAWINGS) + len(IN_ORDER)
    assert not [block.where for block in blocks_of(Kind.DRAWING)], "say in DRAWINGS why it is not checked"
    assert not [block.where for block in blocks_of(Kind.PYTHON)], "name the test that executes it"
    assert not [block.where for block in blocks_of(Kind.JSON)], "name the test that validates it"
    foreign = [
        block.where for block in blocks_of(Kind.COMMANDS) if {program(one) for one in block.commands()} != {"mlfs"}
    ]
    assert not foreign, "say in NOT_RUN why it is not run"
    source = Path(__file__).read_text(encoding="utf-8")
    assert not [test for test in IN_ORDER.values() if f"def {test}(" not in source]


@pytest.mark.parametrize("page", ELSEWHERE)
def test_the_test_that_holds_a_page_reads_it(page: str) -> None:
    test = (ROOT / ELSEWHERE[page]).read_text(encoding="utf-8")

    assert Path(page).name in test


@pytest.mark.parametrize("block", blocks_of(Kind.SESSION), ids=lambda block: block.where)
def test_a_session_prints_what_the_page_says(stage: Stage, block: Block) -> None:
    stage.exports["MLFS_DATA_DIR"] = f".mlfs/demo-{PLAYED_IN.get(block.name, 'missing-processor')}"

    converse(stage, *block.name)


@pytest.mark.parametrize("block", blocks_of(Kind.COMMANDS), ids=lambda block: block.where)
def test_commands_end_well(stage: Stage, block: Block) -> None:
    stage.exports["MLFS_DATA_DIR"] = ".mlfs/demo-missing-processor"

    type_all(stage, *block.name)


@pytest.mark.parametrize("block", [one for one in NAMED.values() if one.kind is Kind.JSON], ids=lambda one: one.where)
def test_json_can_be_read(block: Block) -> None:
    assert json.loads(block.text)


@pytest.mark.parametrize("block", [one for one in NAMED.values() if one.kind is Kind.SQL], ids=lambda one: one.where)
def test_sql_can_be_read(block: Block) -> None:
    assert sqlglot.parse(block.text, read="bigquery")


def test_tables_of_ones_own(own_stage: Stage, sample_folder: Path) -> None:
    shutil.copytree(sample_folder, own_stage.folder / "tables")

    *_, features, lineage = type_all(own_stage, "README.md", "export MLFS_DATA_DIR=$PWD/own")

    assert "449 rows" in features.text
    assert "9995663" in lineage.text


def test_a_fresh_checkout_prints_the_night_of_the_tutorial(played: tuple[Path, str, str]) -> None:
    block = NAMED["docs/tutorial.md", "Preparing .venv (Python 3.11.7)"]
    # The first lines are make's, on a machine without environment.
    assert_same(block.text[block.text.index("───") :], played[1], where=block.where)


def test_everyday_commands(copied_stage: Stage) -> None:
    """Beside a date that nobody builds, so that there is something to cancel; `today` is the demo's night."""
    stage = copied_stage
    ran(stage, "mlfs replay 2024-12-14 --reason 'to have one' --yes")

    type_all(
        stage, "docs/cli.md", "mlfs status                                    # the latest dates, and refused messages"
    )

    assert (stage.folder / "features.parquet").stat().st_size > 0


def test_the_demo_commands(stage: Stage, played: tuple[Path, str, str]) -> None:
    *_, look = DEMOS.commands()

    assert json.loads(played[2])["state"] == "degraded"
    ran(stage, look)


def test_a_replay_beside_a_worker(copied_stage: Stage) -> None:
    stage = copied_stage
    stage.start("run")

    converse(
        stage,
        "docs/cli.md",
        "$ mlfs replay 2024-12-15 --reason 'daily cache was repaired' --yes --wait 60",
        r"generation \d",
    )
    stage.stop_workers()


def test_a_backtest_of_recorded_nights(own_stage: Stage) -> None:
    league = League(str(own_stage.folder / "warehouse.duckdb"))
    store_arrivals(league.warehouse, generated_season(1, 30))
    league.warehouse.close()
    own_stage.exports["MLFS_DATA_DIR"] = "."

    converse(own_stage, "docs/cli.md", "$ mlfs backtest --from 2024-10-22 --to 2024-11-20 --deadline 23:35")


def test_the_worker_of_the_tutorial(own_stage: Stage, wait_until: Callable[..., None]) -> None:
    stage = own_stage
    *lines, explain = NAMED["docs/tutorial.md", "export MLFS_DATA_DIR=$PWD/night"].commands()
    for line in lines:
        ran(stage, line)
    # A person is slower than the bus.
    wait_until(lambda: "3 of 4" in stage.type(explain).text, "three completions are in")
    assert re.search(r"player_daily_cache +not reported", ran(stage, explain).text)
    type_all(stage, "docs/tutorial.md", "mlfs emit 2024-12-15 player_daily_cache --run-id 1")
    wait_until(lambda: "done" in stage.type("mlfs status").text, "the night is done", 30.0)
    _plan, replayed, history = type_all(
        stage, "docs/tutorial.md", "mlfs replay 2024-12-15 --reason 'trying it out' --dry-run"
    )
    assert f"{NIGHT} is done" in replayed.text
    assert "trying it out" in history.text
    stage.stop_workers()


def publish(stage: Stage, *bodies: bytes) -> None:
    client = publisher_client(read_address(stage.folder / "night" / "pubsub"))
    try:
        topic = client.topic_path("nba-props-platform", "phase4-processor-success")
        for body in bodies:
            client.publish(topic, body).result(timeout=10)
    finally:
        client.stop()
        client.transport.close()


def test_a_worker_of_ones_own(own_stage: Stage, wait_until: Callable[..., None]) -> None:
    """The session of docs/cli.md; then, in its folder, the blocks that need a worker, a lost store, or a new night."""
    stage = own_stage
    *_, processed, status, _stop = type_all(stage, "docs/cli.md", "export MLFS_DATA_DIR=$PWD/night")
    assert json.loads(processed.text)["state"] == "done"
    assert "done" in status.text

    metrics_are_as_described(stage)
    beside_the_worker(stage, wait_until)
    stage.stop_workers()
    after_a_loss(stage)
    pushed(stage)
    stage.stop_workers()


def metrics_are_as_described(stage: Stage) -> None:
    """Type and labels of every metric of a worker that has published a night, against its row of docs/metrics.md."""
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(mlfs_\w+)` \| (\w+)[^|]*\|([^|]*)\|", page, re.MULTILINE)
    written = {name: (kind, set(re.findall(r"\w+", labels))) for name, kind, labels in rows}
    for family in text_string_to_metric_families(ran(stage, "curl localhost:8080/metrics").text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if not name.startswith("mlfs_") or not family.samples:
            continue
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert written[name] == (family.type, labels), name


def beside_the_worker(stage: Stage, wait_until: Callable[..., None]) -> None:
    for processor in ("team_defense_zone_analysis", "player_shot_zone_analysis", "player_composite_factors"):
        ran(stage, f"mlfs emit {NIGHT} {processor} --rows 30")
    wait_until(lambda: "3 of 4" in stage.type(f"mlfs explain {NIGHT}").text, "three completions are in")
    converse(stage, "docs/cli.md", "$ mlfs explain 2024-12-15")
    type_all(stage, "docs/cli.md", "mlfs emit 2024-12-15 player_daily_cache --rows 449 --run-id nightly-1")
    odds = b'{"processor": "odds", "analysis_date": "2024-12-15", "status": "success"}'
    publish(stage, b"completed!", odds, b"[1, 2]")
    wait_until(lambda: stage.type("mlfs status").text.count("not_") >= 2, "they are parked")
    converse(stage, "docs/cli.md", "$ mlfs dlq redrive --reason unknown_processor --yes")


def after_a_loss(stage: Stage) -> None:
    shutil.rmtree(stage.folder / "night" / "valkey")
    converse(stage, "docs/cli.md", "$ mlfs recover --yes", TODAY, r"\b\d+(\.\d)?%?(?= )")
    shutil.rmtree(stage.folder / "night")


def pushed(stage: Stage) -> None:
    stage.replaced = {**stage.replaced, "/srv/upstream": "./sample"}
    type_all(stage, "docs/cli.md", "mlfs load ./sample --generate 2024-12-15")
    stage.exports["MLFS_SERVE_LOOPS"] = "true"
    serve, curl = NAMED[
        "docs/cli.md", "mlfs serve                                     # on loopback: no token needed"
    ].commands()
    ran(stage, serve)
    converse(
        stage,
        "docs/cli.md",
        "$ mlfs replay --from 2024-12-12 --to 2024-12-15 --only missing --reason 'first build' --yes",
    )
    assert json.loads(ran(stage, curl).text)["state"] == "done"
    stage.replaced = {**stage.replaced, "$(gcloud auth print-identity-token)": "none"}
    [by_token] = type_all(stage, "docs/http.md", "curl -X POST https://mlfs.example/process \\")
    assert json.loads(by_token.text)["analysis_date"] == NIGHT
    shown = json.loads(NAMED["docs/http.md", '{"opened": 0, "due": 1, "failed": 0, "published": 1, "left": 0,'].text)
    assert shown.keys() == json.loads(ran(stage, "curl -X POST https://mlfs.example/tick").text).keys()


@pytest.mark.parametrize(
    "written", ["449 rows at 2024-12-15 23:05:00", "448 rows at 2024-12-15 23:05:00 by vm-5723", "…"]
)
def test_an_output_that_differs_is_found(written: str) -> None:
    """But for what is volatile, and for what `…` leaves out on purpose."""
    real = "449 rows at 2024-12-16 01:00:00 by other-host-99"

    if written == "…":
        assert_same(written, real, where="page")
    else:
        with pytest.raises(pytest.fail.Exception, match="page: only on the page"):
            assert_same(written, real, where="page")
    assert_same("449 rows at 2024-12-15 23:05:00 by vm-5723", real, where="page")


def test_the_shown_problem_has_the_form_of_one() -> None:
    first_line = '{"type": "urn:mlfs:problem:refused", "title": "Not in this state", "status": 409,'
    shown: dict[str, Any] = json.loads(NAMED["docs/http.md", first_line].text)

    assert Problem.model_validate(shown).model_extra == {}
