"""Why a decision came out as it did: a closed set, used as log field, metric label and history entry."""

from enum import StrEnum


class Reason(StrEnum):
    """One reason per outcome of `decide`; docs/reasons.md explains each to the person on call."""

    OPENED = "opened"
    ALREADY_OPEN = "already_open"

    RECORDED = "recorded"
    FAILURE_RECORDED = "failure_recorded"
    DUPLICATE = "duplicate"
    OUTDATED = "outdated"
    JOIN_COMPLETE = "join_complete"
    UPSTREAM_FAILED = "upstream_failed"
    UPGRADE_STARTED = "upgrade_started"
    UPGRADE_TOO_LATE = "upgrade_too_late"
    RESCUE_STARTED = "rescue_started"
    RERUN_HELD = "rerun_held"
    RERUN_STARTED = "rerun_started"

    TOO_EARLY = "too_early"
    NOTHING_DUE = "nothing_due"
    NEEDS_PROBE = "needs_probe"
    FOUND_ALL = "found_all"
    DEADLINE_PASSED = "deadline_passed"
    BUILD_DUE = "build_due"
    LEASE_EXPIRED = "lease_expired"
    STILL_MISSING = "still_missing"
    UPGRADE_WINDOW_CLOSED = "upgrade_window_closed"

    CLAIMED = "claimed"
    NOT_READY = "not_ready"
    LEASE_RENEWED = "lease_renewed"
    STALE = "stale"
    COMMITTED_DONE = "committed_done"
    COMMITTED_DEGRADED = "committed_degraded"
    COMMITTED_UPGRADE_FOLLOWS = "committed_upgrade_follows"
    COMMITTED_RERUN_FOLLOWS = "committed_rerun_follows"
    COMMITTED_BY_OLDER_GENERATION = "committed_by_older_generation"
    RETRY_SCHEDULED = "retry_scheduled"
    GIVING_UP = "giving_up"
    RETRIES_EXHAUSTED = "retries_exhausted"
    FATAL_ERROR = "fatal_error"
    GATE_REFUSED = "gate_refused"
    NO_DATA = "no_data"
    RESCUE_FOLLOWS = "rescue_follows"

    REPLAY_ACCEPTED = "replay_accepted"
    REPLAY_REFUSED_RUNNING = "replay_refused_running"
    CANCELLED = "cancelled"
    CANCEL_REFUSED = "cancel_refused"
