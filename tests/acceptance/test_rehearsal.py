"""`mlfs rehearse` plays nights against a worker of another process, which reads linked upstream files."""

import pytest


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_rehearsed_nights_fall_back_and_are_upgraded(program, start_worker, wait_until):
    program.environment |= {"MLFS_SEASON": "01-01..12-31", "MLFS_DRAIN_GRACE_S": "2"}
    folder = program.data_dir / "upstream"
    prepared = program.run("rehearse", "prepare", str(folder))
    assert prepared.returncode == 0, prepared.stderr
    worker = start_worker()
    wait_until(worker.address, "the worker serves", 30)
    nights = [word for name in ("outage", "missing-processor", "nominal") for word in ("--scenario", name)]
    nights += ["--pace", "0"]

    silent, late, tonight = program.json("rehearse", "play", str(folder), *nights)
    again = program.json("rehearse", "play", str(folder), *nights)

    assert [("degraded", 75.0)] == [(one["state"], one["quality_score"]) for one in silent["told"]]
    assert [("degraded", 1, None), ("done", 2, 1)] == [
        (one["state"], one["generation"], one["supersedes"]) for one in late["told"]
    ]
    # Between the deadline and the cutoff of the real evening, the worker has told of tonight as degraded before.
    assert tonight["told"][-1]["state"] == "done"
    assert late["told"][0]["fallback_rate"] > 0.25 > late["told"][1]["fallback_rate"]
    assert [([], "degraded", True), *[([], "done", True)] * 2] == [
        (one["told"], one["state"], one["as_expected"]) for one in again
    ]
