"""The local Pub/Sub server in a process of its own: `python -m tests.chaos.bus_service FOLDER PORT`.

Orders come as JSON lines on standard input, as for the warehouse. Every acknowledgement that a worker sent for the
completions' subscription is written to `acks.jsonl`, also one that a fault then loses.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.chaos.warehouse_service import serve
from worker.clock import SystemClock
from worker.local.pubsub.faults import FaultPlan, PlannedFaults
from worker.local.pubsub.model import CallRefused, LeasedMessage, RefusalCode
from worker.local.pubsub.server import PubSubServer

SUBSCRIPTION = "ml-feature-store-worker"


class RecordingFaults(PlannedFaults):
    """Faults of a plan that may change at any time; writes down what workers acknowledge."""

    def __init__(self, path: Path) -> None:
        super().__init__(FaultPlan())
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._clock = SystemClock()
        self._numbers: dict[str, int] = {}
        self._seen: set[str] = set()
        self._closing: set[str] = set()

    def replace_plan(self, plan: FaultPlan) -> None:
        self._plan = plan

    def silence(self) -> int:
        """Let every stream of the workers fall silent without ending."""
        self._silent |= self._seen
        self.counts["stall"] += len(self._seen)
        return len(self._seen)

    def close_streams(self) -> int:
        """End every stream of the workers once."""
        self._closing |= self._seen
        return len(self._seen)

    def on_deliver(self, subscription: str, deliveries: Sequence[LeasedMessage]) -> Sequence[LeasedMessage]:
        if subscription.endswith(SUBSCRIPTION):
            self._numbers |= {delivery.ack_id: delivery.message.number for delivery in deliveries}
        return super().on_deliver(subscription, deliveries)

    def on_acknowledge(self, subscription: str, ack_ids: Sequence[str]) -> Sequence[str]:
        if not subscription.endswith(SUBSCRIPTION):
            return ack_ids
        now = self._clock.now().timestamp()
        for ack_id in ack_ids:
            number = self._numbers.pop(ack_id, None)
            if number is not None:
                self._file.write(json.dumps({"t": now, "message_id": str(number)}) + "\n")
        return super().on_acknowledge(subscription, ack_ids)

    def on_stream(self, subscription: str, stream: str) -> bool:
        if subscription.endswith(SUBSCRIPTION):
            self._seen.add(stream)
        if stream in self._closing:
            self._closing.discard(stream)
            self._seen.discard(stream)
            self.counts["close"] += 1
            raise CallRefused(RefusalCode.UNAVAILABLE, "Closed by the test.")
        return super().on_stream(subscription, stream)


class Bus:
    """The server and its faults."""

    def __init__(self, folder: Path, port: int) -> None:
        self._faults = RecordingFaults(folder / "acks.jsonl")
        self._server = PubSubServer(folder / "journal.sqlite", port=port, faults=self._faults)
        self._server.start()

    @property
    def address(self) -> str:
        return self._server.address

    def do(self, order: Mapping[str, Any]) -> Any:
        match order["do"]:
            case "plan":
                self._faults.replace_plan(FaultPlan(**{k: v for k, v in order.items() if k != "do"}))
                return "planned"
            case "silence":
                return self._faults.silence()
            case "close":
                return self._faults.close_streams()
            case "undelivered":
                return self._server.undelivered(order["subscription"])
            case "counts":
                return dict(self._faults.counts)
            case other:
                raise ValueError(other)

    def stop(self) -> None:
        self._server.stop()


if __name__ == "__main__":
    bus = Bus(Path(sys.argv[1]), int(sys.argv[2]))
    serve(bus, bus.address)
