"""Who asked for a replay, written to the warehouse before the replay takes effect.

A replay takes effect when its build publishes. So its first attempt writes the audit row before it builds, and an
attempt that cannot write it does not build. One place sees every replay, whoever asked for it and however; the command
that asked may not be able to reach the warehouse at all (a DuckDB file has one owner, the worker).
"""

from datetime import datetime
from typing import NamedTuple

from statemachine.events import EventKind
from statemachine.model import DateRecord
from statemachine.reasons import Reason
from worker.features.model import Statement
from worker.features.records import replay_row
from worker.ports import StateStore, Warehouse
from worker.sql_files import load_sql


class _Request(NamedTuple):
    at: datetime
    previous_state: str | None


class ReplayAudit:
    """Writes one row of `replay_audit` per replay that was accepted."""

    def __init__(self, store: StateStore, warehouse: Warehouse) -> None:
        self._store = store
        self._warehouse = warehouse

    def write(self, record: DateRecord) -> None:
        """Write the row of the replay that *record* is claimed for; a later attempt finds it and writes none.

        Raises:
            Unavailable: Store or warehouse could not serve; nothing may be built yet.
            Fatal: The audit table cannot be read or written.
        """
        requested_by = record.requested_by or "unknown"
        request = self._request(record)
        asked = {
            "analysis_date": record.analysis_date,
            "requested_at": request.at,
            "requested_by": requested_by,
        }
        known = self._warehouse.query(
            Statement(name="replay_audited", sql=load_sql()["replay_audited"], parameters=asked)
        )
        if known[0]["row_count"]:
            return
        committed = self._warehouse.read_ledger(record.analysis_date)
        self._warehouse.log_replay(
            replay_row(
                record.analysis_date,
                requested_at=request.at,
                requested_by=requested_by,
                reason=record.request_reason or "",
                mode=record.mode,
                previous_state=request.previous_state,
                previous_generation=committed.generation if committed is not None else 0,
                decision=Reason.REPLAY_ACCEPTED,
            )
        )

    def _request(self, record: DateRecord) -> _Request:
        """Find the request in the history; where that is lost, the claim stands in for it."""
        for entry in reversed(self._store.history(record.analysis_date)):
            if entry.event == EventKind.REPLAY_REQUESTED and entry.reason == Reason.REPLAY_ACCEPTED:
                return _Request(entry.at, entry.before or None)
        return _Request(record.lease.claimed_at if record.lease is not None else record.opened_at, None)
