"""The audit rows of commands, written by the worker that holds the warehouse.

A DuckDB file has one owner. A command that finds a worker owning the file leaves its audit row in the state store,
waits until the worker has written the row into the warehouse, and only then applies the event. A command that dies
while it waits leaves at most a row without a change; a worker that dies after writing leaves the row in the store, and
the next worker finds the request id in the audit and writes no second row.
"""

import json
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

import structlog

from worker.engine import Engine
from worker.errors import CorruptRecord, Unavailable
from worker.features.model import Statement
from worker.ports import StateStore, Warehouse
from worker.repair import Repair

log = structlog.get_logger(__name__)

Row = Mapping[str, Any]
# A build of the worker may have the warehouse for seconds; a person does not wait longer than this.
WAIT_S = 30.0
POLL_S = 0.1
_DATES, _INSTANTS = ("analysis_date",), ("requested_at", "run_completed_at")


def _encode(row: Row) -> bytes:
    return json.dumps(dict(row), default=lambda value: value.isoformat()).encode()


def _decode(stored: bytes) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(stored)
    dates = {name: date.fromisoformat(row[name]) for name in _DATES}
    return row | dates | {name: datetime.fromisoformat(row[name]) for name in _INSTANTS if row[name] is not None}


def have_written(store: StateStore, row: Row, held: Unavailable, pause: Callable[[float], None]) -> None:
    """Have the worker that holds the warehouse write *row*, and return once the row is written.

    Args:
        store: The state store that command and worker share.
        row: As `records.replay_row` makes it, with a request id.
        held: Why the command cannot write the row itself.
        pause: Waits so many seconds.

    Raises:
        Unavailable: No worker has written the row in time; nothing was changed.
    """
    request_id = row["request_id"]
    store.ask_audit(request_id, _encode(row))
    try:
        for _ in range(round(WAIT_S / POLL_S)):
            if request_id not in store.audits_asked():
                return
            pause(POLL_S)
    finally:
        withdrawn = store.settle_audit(request_id)
    if withdrawn:
        raise Unavailable(
            f"{row['analysis_date']}: nothing was changed: no worker wrote the audit row within {WAIT_S:.0f} s. {held}"
        )


class AuditDesk:
    """Writes the audit rows that commands have left in the state store."""

    def __init__(self, *, store: StateStore, warehouse: Warehouse, engine: Engine, repair: Repair) -> None:
        self._store = store
        self._warehouse = warehouse
        self._engine = engine
        self._repair = repair

    def run_once(self) -> int:
        """Write the rows that wait, and return their number. A row that cannot be written stays for the next pass.

        Raises:
            Unavailable: The store does not answer.
        """
        written = 0
        for request_id, stored in self._store.audits_asked().items():
            try:
                self._write(request_id, stored)
            except Exception as exc:  # noqa: BLE001 - logged; a row that nobody can write keeps no other row waiting
                log.warning("audit_row_not_written", request_id=request_id, kind=type(exc).__name__, error=str(exc))
                continue
            self._store.settle_audit(request_id)
            written += 1
        return written

    def _write(self, request_id: str, stored: bytes) -> None:
        row = _decode(stored)
        day: date = row["analysis_date"]
        asked = {"analysis_date": day, "request_id": request_id}
        statement = self._warehouse.pipeline.text("replay_audited")
        known = self._warehouse.query(Statement(name="replay_audited", sql=statement, parameters=asked))
        if known[0]["row_count"]:
            return
        self._follow(day, row)
        self._warehouse.log_replay(row)
        log.info("audit", audit=True, **{name: str(value) for name, value in row.items() if value is not None})

    def _follow(self, day: date, row: dict[str, Any]) -> None:
        """Let the record follow the ledger, which the command could not read, and correct the row by it."""
        try:
            unreported = self._repair.unreported(day)
        except CorruptRecord as exc:
            unreported, record = None, self._repair.replace_damaged(day, str(exc)).record
            row["previous_generation"] = record.published_generation
        if unreported is not None:
            record = self._engine.apply(day, unreported).record
            row |= {"previous_state": record.state.value, "previous_generation": record.published_generation}
