"""The transition table: for each state and event the possible reasons, and the next state for each reason.

The table is data. `statemachine.decide` reads the next state for a reason from the table, so a move missing in the
table cannot happen. docs/state_machine.md is drawn from the table.
"""

from collections.abc import Mapping
from typing import TypeAlias

from statemachine.events import EventKind as E
from statemachine.model import State as S
from statemachine.reasons import Reason as R

Outcomes: TypeAlias = Mapping[R, S]


def _stay(state: S, *reasons: R) -> dict[R, S]:
    """Return outcomes without a change of the state."""
    return dict.fromkeys(reasons, state)


def _replay(state: S) -> Outcomes:
    """Return the outcomes of a replay; a repeated request changes no state."""
    return {R.REPLAY_ACCEPTED: S.READY, R.DUPLICATE: state}


def _retract(state: S) -> Outcomes:
    """Return the outcomes of a retraction without a change of the state."""
    return _stay(state, R.RETRACTED, R.RETRACTION_REFUSED, R.DUPLICATE)


# The ledger decides: a commit in the ledger is published, so every state accepts a commit of the present or a newer
# generation.
_COMMITTED: Outcomes = {
    R.COMMITTED_DONE: S.DONE,
    R.COMMITTED_DEGRADED: S.DEGRADED,
    R.COMMITTED_UPGRADE_FOLLOWS: S.READY,
    R.COMMITTED_REBUILD_FOLLOWS: S.READY,
}

TRANSITIONS: Mapping[S, Mapping[E, Outcomes]] = {
    S.WAITING: {
        E.DATE_OPENED: _stay(S.WAITING, R.OPENED, R.ALREADY_OPEN),
        E.COMPLETION_RECEIVED: {
            **_stay(S.WAITING, R.RECORDED, R.FAILURE_RECORDED, R.DUPLICATE, R.OUTDATED, R.RUN_RETRACTED),
            R.JOIN_COMPLETE: S.READY,
            R.UPSTREAM_FAILED: S.READY,
        },
        E.TIMER_FIRED: {
            **_stay(S.WAITING, R.TOO_EARLY, R.NEEDS_PROBE),
            R.FOUND_ALL: S.READY,
            R.DEADLINE_PASSED: S.READY,
        },
        E.BUILD_CLAIMED: _stay(S.WAITING, R.NOT_READY),
        E.LEASE_RENEWED: _stay(S.WAITING, R.STALE),
        E.BUILD_COMMITTED: _COMMITTED,
        E.BUILD_FAILED: _stay(S.WAITING, R.STALE),
        E.REPLAY_REQUESTED: {R.REPLAY_ACCEPTED: S.READY},
        E.CANCEL_REQUESTED: {R.CANCELLED: S.FAILED, R.CANCELLING: S.RUNNING},
        E.COMPLETION_RETRACTED: _retract(S.WAITING),
    },
    S.READY: {
        E.DATE_OPENED: _stay(S.READY, R.ALREADY_OPEN),
        E.COMPLETION_RECEIVED: _stay(S.READY, R.RECORDED, R.FAILURE_RECORDED, R.DUPLICATE, R.OUTDATED, R.RUN_RETRACTED),
        E.TIMER_FIRED: _stay(S.READY, R.TOO_EARLY, R.BUILD_DUE),
        E.BUILD_CLAIMED: {R.CLAIMED: S.RUNNING, R.TOO_EARLY: S.READY, R.GIVING_UP: S.RUNNING},
        E.LEASE_RENEWED: _stay(S.READY, R.STALE),
        E.BUILD_COMMITTED: {
            **_COMMITTED,
            **_stay(S.READY, R.COMMITTED_REPLAY_FOLLOWS, R.COMMITTED_BY_OLDER_GENERATION, R.STALE),
        },
        E.BUILD_FAILED: _stay(S.READY, R.STALE),
        E.REPLAY_REQUESTED: _replay(S.READY),
        E.CANCEL_REQUESTED: {R.CANCELLED: S.FAILED, R.CANCELLING: S.RUNNING},
        E.COMPLETION_RETRACTED: {
            **_retract(S.READY),
            R.WAITS_AGAIN: S.WAITING,
            R.FALLBACK_FOLLOWS: S.READY,
        },
    },
    S.RUNNING: {
        E.DATE_OPENED: _stay(S.RUNNING, R.ALREADY_OPEN),
        E.COMPLETION_RECEIVED: _stay(
            S.RUNNING, R.RECORDED, R.FAILURE_RECORDED, R.DUPLICATE, R.OUTDATED, R.RUN_RETRACTED
        ),
        E.TIMER_FIRED: {
            **_stay(S.RUNNING, R.TOO_EARLY, R.NEEDS_PROBE),
            R.LEASE_EXPIRED: S.READY,
            R.RETRIES_EXHAUSTED: S.FAILED,
            R.FATAL_ERROR: S.FAILED,
            R.CANCELLED: S.FAILED,
            R.RESCUE_FOLLOWS: S.READY,
        },
        E.BUILD_CLAIMED: _stay(S.RUNNING, R.NOT_READY),
        E.LEASE_RENEWED: _stay(S.RUNNING, R.LEASE_RENEWED, R.STALE),
        E.BUILD_COMMITTED: {
            **_COMMITTED,
            R.COMMITTED_RERUN_FOLLOWS: S.READY,
            R.COMMITTED_REPLAY_FOLLOWS: S.READY,
            **_stay(S.RUNNING, R.COMMITTED_BY_OLDER_GENERATION, R.STALE),
        },
        E.BUILD_FAILED: {
            **_stay(S.RUNNING, R.STALE, R.GIVING_UP),
            R.RETRY_SCHEDULED: S.READY,
            R.RESCUE_FOLLOWS: S.READY,
            **_stay(S.FAILED, R.GATE_REFUSED, R.NO_DATA, R.NO_ROSTER),
        },
        E.REPLAY_REQUESTED: {**_replay(S.RUNNING), R.REPLAY_REFUSED_RUNNING: S.RUNNING},
        E.CANCEL_REQUESTED: {R.CANCELLING: S.RUNNING},
        E.COMPLETION_RETRACTED: _retract(S.RUNNING),
    },
    S.DONE: {
        E.DATE_OPENED: _stay(S.DONE, R.ALREADY_OPEN),
        E.COMPLETION_RECEIVED: {
            **_stay(S.DONE, R.RECORDED, R.FAILURE_RECORDED, R.DUPLICATE, R.OUTDATED, R.RUN_RETRACTED, R.RERUN_HELD),
            R.RERUN_STARTED: S.READY,
            R.UPGRADE_STARTED: S.READY,
            R.UPGRADE_TOO_LATE: S.DONE,
        },
        E.TIMER_FIRED: _stay(S.DONE, R.NOTHING_DUE),
        E.BUILD_CLAIMED: _stay(S.DONE, R.NOT_READY),
        E.LEASE_RENEWED: _stay(S.DONE, R.STALE),
        E.BUILD_COMMITTED: {**_COMMITTED, R.STALE: S.DONE},
        E.BUILD_FAILED: _stay(S.DONE, R.STALE),
        E.REPLAY_REQUESTED: _replay(S.DONE),
        E.CANCEL_REQUESTED: _stay(S.DONE, R.CANCEL_REFUSED),
        E.COMPLETION_RETRACTED: {**_retract(S.DONE), R.REBUILD_STARTED: S.READY},
    },
    S.DEGRADED: {
        E.DATE_OPENED: _stay(S.DEGRADED, R.ALREADY_OPEN),
        E.COMPLETION_RECEIVED: {
            **_stay(S.DEGRADED, R.RECORDED, R.FAILURE_RECORDED, R.DUPLICATE, R.OUTDATED, R.RUN_RETRACTED, R.RERUN_HELD),
            R.UPGRADE_STARTED: S.READY,
            R.UPGRADE_TOO_LATE: S.DEGRADED,
            R.RERUN_STARTED: S.READY,
        },
        E.TIMER_FIRED: {
            **_stay(S.DEGRADED, R.TOO_EARLY, R.NEEDS_PROBE, R.STILL_MISSING, R.UPGRADE_WINDOW_CLOSED, R.NOTHING_DUE),
            R.UPGRADE_STARTED: S.READY,
        },
        E.BUILD_CLAIMED: _stay(S.DEGRADED, R.NOT_READY),
        E.LEASE_RENEWED: _stay(S.DEGRADED, R.STALE),
        E.BUILD_COMMITTED: {**_COMMITTED, R.STALE: S.DEGRADED},
        E.BUILD_FAILED: _stay(S.DEGRADED, R.STALE),
        E.REPLAY_REQUESTED: _replay(S.DEGRADED),
        E.CANCEL_REQUESTED: _stay(S.DEGRADED, R.CANCEL_REFUSED),
        E.COMPLETION_RETRACTED: {**_retract(S.DEGRADED), R.REBUILD_STARTED: S.READY},
    },
    S.FAILED: {
        E.DATE_OPENED: _stay(S.FAILED, R.ALREADY_OPEN),
        E.COMPLETION_RECEIVED: {
            **_stay(S.FAILED, R.RECORDED, R.FAILURE_RECORDED, R.DUPLICATE, R.OUTDATED, R.RUN_RETRACTED),
            R.RESCUE_STARTED: S.READY,
        },
        E.TIMER_FIRED: {
            **_stay(S.FAILED, R.TOO_EARLY, R.NEEDS_PROBE, R.NOTHING_DUE, R.STILL_MISSING, R.UPGRADE_WINDOW_CLOSED),
            R.FOUND_ALL: S.READY,
            R.DEADLINE_PASSED: S.READY,
            R.UPGRADE_STARTED: S.READY,
        },
        E.BUILD_CLAIMED: _stay(S.FAILED, R.NOT_READY),
        E.LEASE_RENEWED: _stay(S.FAILED, R.STALE),
        E.BUILD_COMMITTED: {**_COMMITTED, **_stay(S.FAILED, R.COMMITTED_BY_OLDER_GENERATION, R.STALE)},
        E.BUILD_FAILED: _stay(S.FAILED, R.STALE),
        E.REPLAY_REQUESTED: _replay(S.FAILED),
        E.CANCEL_REQUESTED: _stay(S.FAILED, R.CANCELLED, R.CANCEL_REFUSED),
        E.COMPLETION_RETRACTED: {**_retract(S.FAILED), R.REBUILD_STARTED: S.READY},
    },
}
