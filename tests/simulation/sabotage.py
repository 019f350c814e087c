"""Ways to break the product, each of which the judge must notice; and faults that are known and not mended."""

from collections.abc import Mapping

SABOTAGE: Mapping[str, str] = {
    "version_check_off": "the store writes without comparing versions",
    "operation_id_off": "the store does not recognise a commit that is sent again",
    "outbox_dropped": "outcomes are not stored with the record",
    "forgets_before_publish": "the relay's message leaves the outbox before it is published",
    "acks_early": "a message is acknowledged before what it says is stored",
    "fence_off": "the ledger accepts every claim and publication",
    "publishes_nothing": "a publication is confirmed and has no effect",
    "probe_blind": "the deadline's probe sees empty tables",
    "status_ignored": "a failed processor counts as a success",
    "deaf_sweep": "sweeps are lost",
}

# Named in `--explore`, a run meets them; otherwise the world stays clear of them. An entry is removed together with the
# change that mends it.
OPEN_ISSUES: Mapping[str, str] = {
    "builds_outlive_records": "a build that goes on after the store lost its date shares its token, and its staging "
    "table, with the next claim",
    "calls_outlive_records": "a decision made before the store lost a date may be stored on the date's next record: "
    "versions begin at 1 again",
    "completions_lost_with_the_record": "a damaged record of a degraded date forgets the late successes it knew; "
    "nobody looks into the tables again, and the date is not upgraded",
    "given_up_in_the_dark": "the last attempt fails while the ledger cannot be read: `failed` is told although an "
    "earlier attempt has published",
    "published_after_giving_up": "an attempt that lost its lease publishes after the last one failed without a claim, "
    "and its worker dies before it can report",
    "jump_while_rebuilding": "with rerun=rebuild, a completion that a worker with a fast clock received starts builds "
    "until the true time has caught up",
}
