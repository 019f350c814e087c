"""The place where tests may come between the local Pub/Sub server and its clients."""

from collections.abc import Sequence

from worker.local.pubsub_model import Delivery


class Faults:
    """What goes wrong on the way. This one is the default: nothing does."""

    def on_deliver(self, subscription: str, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:  # noqa: ARG002
        """Give what really reaches the consumer of *deliveries*, which are leased already."""
        return deliveries

    def on_acknowledge(self, subscription: str, ack_ids: Sequence[str]) -> Sequence[str]:  # noqa: ARG002
        """Give the acknowledgements that really reach the broker."""
        return ack_ids
