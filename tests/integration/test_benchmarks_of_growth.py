"""The benchmarks that tell growth, and the profile: they measure what they say; how fast it is, no test asks."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from ops.bench.commands import _sizes
from ops.bench.running import measure_deadline, measure_profile, measure_workers
from ops.bench.sampling import PARTS, divided, kind_of, part_of, read_samples

INTAKE = "GroupScheduler._run (worker/adapters/pubsub/stream.py)"
ENGINE = "Engine.apply_all (worker/engine.py)"
CLIENT = "Connection.send_packed_command (redis/connection.py)"


def silent(_text: str) -> None:
    pass


def test_two_workers_drain_one_backlog_to_the_end_and_share_it() -> None:
    answer = measure_workers(400, [2], 1, silent)

    (team,) = answer["teams"]
    rates = (team["intake"]["events_per_s"]["median"], team["noop"]["events_per_s"]["median"])
    assert (team["workers"], team["ratio"], team["against_one"]) == (2, rates[0] / rates[1], None)


def test_each_number_of_open_dates_is_measured_beside_none() -> None:
    answer = measure_deadline([20], 2, silent)

    (size,) = answer["sizes"]
    assert size["open_dates"] == 20
    assert size["store_bytes_per_date"] > 0
    assert answer["alone_lag_ms"]["p50"] > 0


@pytest.fixture
def tracing_is_allowed() -> None:
    """Containers and hardened kernels forbid one process to read another, which is how py-spy works."""
    program = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(program, stdin=subprocess.PIPE) as child:
        command = [Path(sys.executable).parent / "py-spy", "dump", "--pid", str(child.pid)]
        looked = subprocess.run(command, capture_output=True, text=True, check=False)
        child.communicate()
    if "ermission" in looked.stderr or "ptrace" in looked.stderr:
        pytest.skip(f"py-spy may not trace here: {looked.stderr.strip()[-200:]}")


@pytest.mark.usefixtures("tracing_is_allowed")
def test_the_parts_of_the_profile_add_up_to_what_an_event_costs_without_the_profiler() -> None:
    answer = measure_profile(400, 100, 1, silent, builds_per_run=1)

    assert list(answer["parts"]) == list(PARTS)
    total = sum(part["us"] for part in answer["parts"].values())
    assert total == pytest.approx(answer["plain"]["cpu_us_per_event"]["median"])
    assert answer["samples"] > 0
    assert {"claim", "stage", "publish"} <= answer["build_phases_ms"].keys()


@pytest.mark.parametrize(
    ("frames", "part"),
    [
        ((INTAKE, ENGINE, "RedisStore._call (worker/adapters/redis/store.py)"), "write"),
        ((INTAKE, ENGINE, "RedisStore._run_once (worker/adapters/redis/store.py)", CLIENT), "script"),
        ((INTAKE, ENGINE, "RedisStore.load_all (worker/adapters/redis/store.py)", CLIENT), "read"),
        ((INTAKE, ENGINE, "decide (statemachine/decide.py)"), "decide"),
        (
            (
                INTAKE,
                ENGINE,
                "Observers.note (worker/observing/observer.py)",
                "Metrics.note (worker/observing/metrics.py)",
            ),
            "metrics",
        ),
        ((INTAKE, "Message.ack (pubsub_v1/subscriber/message.py)", "Queue.put (queue.py)"), "acknowledge"),
        ((INTAKE,), "receive"),
        (("consume (pubsub_v1/x.py)", "Channel.<locals>.next (grpc/_channel.py)"), "receive"),
        (("Thread._bootstrap (threading.py)", "Condition.wait (threading.py)"), None),
    ],
)
def test_a_stack_belongs_to_the_innermost_part_that_is_known(frames: tuple[str, ...], part: str | None) -> None:
    assert part_of(frames) == part


def test_samples_divide_the_time_of_their_kind_of_thread_alone() -> None:
    samples, _unnamed = read_samples(
        [
            f"thread (7): intake-0;{INTAKE};decide (statemachine/decide.py) 3",
            f"thread (8): intake-1;{INTAKE} 1",
            "thread (9): MainThread;wait (threading.py) 400",
        ]
    )

    assert divided({"intake": 8.0, "MainThread": 1.0, "native": 2.0}, samples) == {
        "decide": 6.0,
        "receive": 2.0,
        "rest": 1.0,
        "native": 2.0,
    }


def test_threads_of_one_purpose_are_one_kind() -> None:
    assert [kind_of(name) for name in ("intake-1", "Thread-12 (channel_spin)")] == ["intake", "channel_spin"]


@pytest.mark.parametrize("text", ["", "a", "0", "1,-2", "11"])
def test_what_is_no_list_of_sizes_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="--workers"):
        _sizes("--workers", text, 10)
