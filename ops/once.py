"""`--idempotency-key`: a command that is run twice under one key takes effect once."""

import uuid
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, NamedTuple

from worker.idempotency import Answer, Once
from worker.parts import Parts


class Asked(NamedTuple):
    """The generation that was asked for, and whether this very call asked for it."""

    generation: int
    now: bool


def ask_once(parts: Parts, *, key: str | None, caller: str, asked: Mapping[str, Any], act: Callable[[], int]) -> Asked:
    """Ask for a generation, or give the one that was asked for under this key within the last day.

    Args:
        parts: The store's memory of requests.
        key: The caller's key; None asks in any case.
        caller: Who asks; keys of different people never meet.
        asked: What is asked for, JSON values.
        act: Asks; gives the generation.

    Raises:
        KeyInUse: The key stands for another request, or for one that is just being answered.
        Unavailable: The store does not answer.
    """
    acted = False

    def answer() -> Answer:
        nonlocal acted
        generation = act()
        acted = True
        return Answer(status=0, body={"generation": generation})

    given = Once(parts.requests).run(key, f"command {caller}", {"command": "replay", **asked}, answer)
    return Asked(int(given.body["generation"]), acted)


def request_id_of(key: str | None, caller: str, analysis_date: date, today: date) -> str:
    """Give the id of a request: the same each time it is made under one key, so that a repeat finds its own change.

    It is another one the next day: the memory of keys lasts one day, and each request after that has its own audit row.
    """
    if key is None:
        return uuid.uuid4().hex
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{caller}/{key}/{analysis_date}/{today}").hex
