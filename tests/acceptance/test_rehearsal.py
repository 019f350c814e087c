"""`mlfs rehearse` plays nights against a worker of another process, which reads linked upstream files."""

import pytest


@pytest.mark.slow
def test_a_late_processor_degrades_a_rehearsed_night_and_upgrades_it(program, start_worker, wait_until):
    program.environment |= {"MLFS_SEASON": "01-01..12-31", "MLFS_DRAIN_GRACE_S": "2"}
    folder = program.data_dir / "upstream"
    prepared = program.run("rehearse", "prepare", str(folder))
    assert prepared.returncode == 0, prepared.stderr
    worker = start_worker()
    wait_until(worker.address, "the worker serves", 30)
    nights = ("--scenario", "missing-processor", "--scenario", "nominal", "--pace", "0")

    late, tonight = program.json("rehearse", "play", str(folder), *nights)
    again = program.json("rehearse", "play", str(folder), *nights)

    assert [("degraded", 1, None), ("done", 2, 1)] == [
        (one["state"], one["generation"], one["supersedes"]) for one in late["told"]
    ]
    assert ["done"] == [one["state"] for one in tonight["told"]]
    assert late["told"][0]["fallback_rate"] > 0.25 > late["told"][1]["fallback_rate"]
    assert [([], "done", True)] * 2 == [(one["told"], one["state"], one["as_expected"]) for one in again]
