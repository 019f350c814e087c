"""`mlfs bench intake --workers`: does a second worker process help, and a fourth?"""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from ops.bench.measure import in_folder, spread

FIELDS = ("events_per_s", "cpu_us_per_event", "store_cpu_us_per_event", "team_mb")


def measure_workers(events: int, teams: Sequence[int], runs: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Drain the same backlog with teams of several sizes, each beside as many processes that only acknowledge.

    Args:
        events: Completions in the backlog.
        teams: Numbers of worker processes.
        runs: How often each team drains it; all of them in turns, so that a busy minute meets all alike.
        progress: Told of each run.

    Returns:
        `teams`: for each the two sides, `ratio` (intake against nothing), and `against_one`, its rate against the one
        worker's; None where one worker was not measured. No `targets`: those speak of one process.
    """
    done: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for run in range(1, runs + 1):
        for processes in teams:
            progress(f"{events:,} events, {processes} processes: run {run} of {runs}")
            for callback in ("noop", "intake"):
                answer = in_folder("workers", events=events, processes=processes, callback=callback)
                done.setdefault((processes, callback), []).append(answer)
    rates = {team: median(run["events_per_s"] for run in answers) for team, answers in done.items()}
    one = rates.get((1, "intake"))
    measured = [
        {
            "workers": processes,
            **{
                callback: {field: spread([run[field] for run in done[processes, callback]]) for field in FIELDS}
                for callback in ("noop", "intake")
            },
            "smallest_share": min(run["shares"][0] for run in done[processes, "intake"]),
            "ratio": rates[processes, "intake"] / rates[processes, "noop"],
            "against_one": None if one is None else rates[processes, "intake"] / one,
        }
        for processes in teams
    ]
    return {"events": events, "runs": runs, "teams": measured, "targets": []}
