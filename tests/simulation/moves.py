"""Which moves of a date the judge accepts, written down a second time and not read from the product's table."""

from collections.abc import Mapping

PUBLISHED = {"done", "degraded"}
ENDED = {"done", "degraded", "failed"}
BY_A_BUILDER = {"retry_scheduled", "giving_up", "gate_refused", "no_data", "no_roster"}

_RECORDED = {"recorded", "failure_recorded", "retracted"}
_LOOKED = {"still_missing", "upgrade_window_closed"}
_FOLLOWED = {"committed_upgrade_follows", "committed_rerun_follows", "committed_rebuild_follows"}
_WOKEN = {"join_complete", "found_all", "deadline_passed", "upstream_failed", "replay_accepted"} | _FOLLOWED
# Whatever was believed before: what the ledger holds is published.
_LEDGER: Mapping[str, set[str]] = {"done": {"committed_done"}, "degraded": {"committed_degraded"}}
_ASKED = {"committed_replay_follows"}
COMMITTED = {"committed_done", "committed_degraded"} | _FOLLOWED | _ASKED
RETRACTING = {"retracted", "waits_again", "fallback_follows", "rebuild_started"}

# state before -> states after -> the reasons that may lead there. None: never seen.
MOVES: Mapping[str | None, Mapping[str, set[str]]] = {
    None: {"waiting": {"opened"} | _RECORDED, "ready": _WOKEN, "failed": {"cancelled"}, **_LEDGER},
    "waiting": {
        "waiting": {"opened"} | _RECORDED,
        "ready": _WOKEN,
        "running": {"cancelling"},
        "failed": {"cancelled"},
        **_LEDGER,
    },
    "ready": {
        "ready": {"replay_accepted", "committed_by_older_generation", "fallback_follows"}
        | _RECORDED
        | _FOLLOWED
        | _ASKED,
        "waiting": {"waits_again"},
        "running": {"claimed", "giving_up", "cancelling"},
        "failed": {"cancelled"},
        **_LEDGER,
    },
    "running": {
        "running": {"lease_renewed", "giving_up", "cancelling", "committed_by_older_generation"} | _RECORDED,
        "ready": {"lease_expired", "retry_scheduled", "rescue_follows", "replay_accepted"} | _FOLLOWED | _ASKED,
        "failed": {"retries_exhausted", "fatal_error", "gate_refused", "no_data", "no_roster", "cancelled"},
        **_LEDGER,
    },
    "done": {
        "done": {"rerun_held", "committed_done", "upgrade_too_late"} | _RECORDED,
        "ready": {"replay_accepted", "rerun_started", "upgrade_started", "rebuild_started"} | _FOLLOWED,
        "degraded": {"committed_degraded"},
    },
    "degraded": {
        "degraded": {"rerun_held", "upgrade_too_late", "upgrade_window_closed", "still_missing", "committed_degraded"}
        | _RECORDED,
        "ready": {"replay_accepted", "upgrade_started", "rerun_started", "rebuild_started"} | _FOLLOWED,
        "done": {"committed_done"},
    },
    "failed": {
        "failed": {"committed_by_older_generation", "cancelled", "upgrade_window_closed", "still_missing"} | _RECORDED,
        "ready": {"replay_accepted", "rescue_started", "rebuild_started", "found_all", "deadline_passed"}
        | {"upgrade_started"}
        | _FOLLOWED,
        **_LEDGER,
    },
}
