"""What goes wrong with bus and warehouse."""

import signal
from collections.abc import Mapping

from tests.chaos.services import pause
from tests.chaos.stage import Act, Stage


def kill_bus(stage: Stage) -> str:
    stage.bus.restart()
    return "restarted"


def freeze_bus(stage: Stage) -> str:
    stage.bus.signal(signal.SIGSTOP)
    pause(stage.dice.uniform(2.0, 5.0))
    stage.bus.signal(signal.SIGCONT)
    return "frozen"


def silence_streams(stage: Stage) -> str:
    return f"{stage.bus.order('silence')} streams"


def close_streams(stage: Stage) -> str:
    return f"{stage.bus.order('close')} streams"


def storm_on_bus(stage: Stage) -> str:
    plan = {"duplicate": 0.3, "drop_ack": 0.1, "reorder": 0.8, "close": 0.02}
    stage.bus.order("plan", **plan, seed=stage.dice.randrange(1000))
    pause(6.0)
    stage.bus.order("plan")
    return "duplicates, lost acks, disorder"


# --- the warehouse ---------------------------------------------------------------------------------------------------


def _planned(fault: str, jobs: str, times: int, lasts_s: float) -> Act:
    def act(stage: Stage) -> str | None:
        if "warehouse" not in stage.links:
            return None  # a file has no jobs
        stage.warehouse.order("fault", fault=fault, jobs=jobs, times=times)
        pause(lasts_s)
        stage.warehouse.order("clear")
        return jobs

    return act


def freeze_warehouse(stage: Stage) -> str:
    stage.warehouse.signal(signal.SIGSTOP)
    pause(stage.dice.uniform(2.0, 6.0))
    stage.warehouse.signal(signal.SIGCONT)
    return "frozen"


SERVICE_ACTS: Mapping[str, Act] = {
    "bus killed": kill_bus,
    "bus frozen": freeze_bus,
    "streams silent": silence_streams,
    "streams closed": close_streams,
    "bus repeats, loses and shuffles": storm_on_bus,
    "jobs refused with 503": _planned("REFUSED", ".", 8, 3.0),
    "jobs accepted, answer lost": _planned("REPLY_LOST", "claim|features|history|publish", 4, 4.0),
    "publication silent after its commit": _planned("SILENCE", "-publish-", 1, 4.0),
    "jobs exist already": _planned("DUPLICATE", "claim|features|history|publish", 4, 4.0),
    "transactions aborted": _planned("CONFLICT", "claim|publish", 5, 4.0),
    "jobs limited in rate": _planned("RATE_LIMIT", "claim|features|history|publish", 4, 4.0),
    "jobs slow": _planned("SLOW", "claim|features|history|publish", 4, 4.0),
    "jobs stuck": _planned("STUCK", "claim|features|history|publish", 2, 5.0),
    "warehouse frozen": freeze_warehouse,
}
