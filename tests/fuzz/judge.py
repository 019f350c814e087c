"""What a parser may do with any bytes: give a sound event, or refuse with a class. Anything else is a finding."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from schemas.completion import (
    ERROR_CHARS_MAX,
    MESSAGE_BYTES_MAX,
    Delivery,
    Expectation,
    Refusal,
    decode,
)
from schemas.push import read_push
from statemachine.model import CompletionStatus
from tests.support.rigs import Bus, ModelClock, Rig, repair_of
from worker.intake import Intake, Verdict

NOW = datetime(2024, 12, 16, 4, 0, tzinfo=UTC)
EXPECTED = Expectation(
    processors=(
        "team_defense_zone_analysis",
        "player_shot_zone_analysis",
        "player_composite_factors",
        "player_daily_cache",
    ),
    earliest=date(2000, 1, 1),
    latest=date(2024, 12, 23),
)


def judge_message(data: bytes, attributes: Mapping[str, str] | None = None) -> str:
    """Decode one message; give `accepted` or the class of the refusal."""
    delivery = Delivery(data=data, attributes=attributes or {}, message_id="1", published_at=NOW)
    try:
        day, completion = decode(delivery, EXPECTED, NOW)
    except Refusal as refusal:
        refusal.detail.encode()
        return refusal.reason.value
    assert EXPECTED.earliest <= day <= EXPECTED.latest
    assert completion.processor in EXPECTED.processors
    assert completion.status in {CompletionStatus.SUCCESS, CompletionStatus.FAILED}
    assert completion.completed_at.utcoffset() == timedelta(0)
    assert completion.row_count is None or 0 <= completion.row_count <= 10**12
    assert len(data) <= MESSAGE_BYTES_MAX
    texts = (completion.identity, completion.error or "")
    assert all(len(text.encode()) <= 4 * ERROR_CHARS_MAX for text in texts)
    return "accepted"


def judge_push(body: bytes) -> str:
    """Read one push request, and decode what it delivers."""
    try:
        pushed = read_push(body, {}, NOW)
    except Refusal as refusal:
        return refusal.reason.value
    assert pushed.delivery.published_at.utcoffset() == timedelta(0)
    assert 0 < len(pushed.delivery.message_id) <= 200
    return judge_message(pushed.delivery.data, pushed.delivery.attributes)


def judge_deliveries(bodies: Sequence[bytes]) -> list[str]:
    """Deliver all *bodies* as one group, and each alone; return the reasons of those that were parked, in order.

    Every message must end stored or parked, no exception may leave the intake, and a group must end as its messages do.
    """
    deliveries = [
        Delivery(data=body, attributes={}, message_id=str(number), published_at=NOW)
        for number, body in enumerate(bodies)
    ]
    parked = []
    for together in (True, False):
        rig, bus = Rig(clock=ModelClock(NOW)), Bus()
        intake = Intake(
            engine=rig.engine,
            store=rig.store,
            repair=repair_of(rig),
            dead_letters=bus,
            dead_letter_topic="dlq",
            processors=EXPECTED.processors,
            earliest=EXPECTED.earliest,
            clock=rig.clock,
            observer=rig.notes,
            stopwatch=lambda: 0.0,
        )
        groups = [deliveries] if together else [[delivery] for delivery in deliveries]
        verdicts = [verdict for group in groups for _place, verdict in intake.handle_all(group)]
        assert [Verdict.ACK] * len(bodies) == verdicts
        parked.append([letter.attributes["mlfs_reason"] for letter in bus.confirmed])
    assert parked[0] == parked[1]
    assert "unreadable" not in parked[0]
    return parked[0]
