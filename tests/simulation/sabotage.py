"""Ways to break the product, each of which the judge must notice."""

from collections.abc import Mapping

SABOTAGE: Mapping[str, str] = {
    "version_check_off": "the store writes without comparing versions",
    "operation_id_off": "the store does not recognise a commit that is sent again",
    "outbox_dropped": "outcomes are not stored with the record",
    "forgets_before_publish": "the relay's message leaves the outbox before it is published",
    "acks_early": "a message is acknowledged before what it says is stored",
    "fence_off": "the ledger accepts every claim and publication",
    "publishes_nothing": "a publication is confirmed and has no effect",
    "rows_shared": "the rows of an attempt take the place of those that the date has",
    "names_no_attempt": "the ledger names a generation, and shows the rows that its first attempt stored",
    "judges_last": "the ledger points at rows before it is written what they are worth",
    "probe_blind": "the deadline's probe sees empty tables",
    "status_ignored": "a failed processor counts as a success",
    "reads_retracted": "a build reads the table of a run that was taken back",
    "deaf_sweep": "sweeps are lost",
    "forgets_deadline": "a date that failed before its deadline is not due at it",
    "looks_once": "a degraded date is looked at only at its cutoff",
    "audit_skipped": "a request counts as audited though its row was not written",
    "arrivals_dropped": "the warehouse confirms arrivals and stores none",
    "log_blocks": "a line that nobody reads is waited for",
}
