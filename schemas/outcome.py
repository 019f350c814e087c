"""The event out: what the consumers of the features are told about one generation.

The pipeline document's fields (`processor`, `analysis_date`, `row_count`, `quality_score`, `timestamp`), and with them
what a consumer needs to trust or refuse the rows. `event_id` is the same each time a generation is told, so a repeat
can be dropped.
"""

from collections.abc import Mapping
from datetime import date, datetime

from pydantic import BaseModel, ConfigDict, Field

from statemachine.effects import PublishOutcome
from statemachine.model import DateRecord, State, Trigger

# A rate is told to a hundredth of a percent; the ledger keeps it exact.
RATE_DIGITS = 4


class OutcomeMessage(BaseModel):
    """The wire form of an outcome, version 1."""

    model_config = ConfigDict(frozen=True)

    processor: str = Field(description="The pipeline, `ml_feature_store_v2`.")
    analysis_date: date
    state: State = Field(description="`done`, `degraded` or `failed`.")
    generation: int = Field(ge=0)
    supersedes: int | None = Field(description="The generation that consumers could read before; null for the first.")
    event_id: str = Field(description="`pipeline:date:generation`.")
    row_count: int = Field(ge=0)
    quality_score: float = Field(ge=0, le=100)
    component_total: float = Field(ge=0, le=100)
    components: Mapping[str, float]
    fallback_rate: float = Field(ge=0, le=1)
    missing_rate: float = Field(ge=0, le=1)
    severity: str | None
    trigger: Trigger | None = Field(description="Why the generation was built; null when it was cancelled before.")
    timestamp: datetime = Field(description="When it was committed, or when it failed. UTC.")
    failed_because: str | None = None
    message: str | None = None


def outcome_message(effect: PublishOutcome, pipeline: str) -> OutcomeMessage:
    """Say what is told about the record of *effect*; a failed generation is told with zeros and its reason."""
    record = effect.record
    event_id = f"{pipeline}:{record.analysis_date.isoformat()}:{record.generation}"
    if record.state is State.FAILED or record.result is None:
        return _failed(record, pipeline, event_id)
    result = record.result
    return OutcomeMessage(
        processor=pipeline,
        analysis_date=record.analysis_date,
        state=record.state,
        generation=record.generation,
        supersedes=effect.supersedes,
        event_id=event_id,
        row_count=result.row_count,
        quality_score=result.quality_score,
        component_total=result.component_total,
        components=result.components,
        fallback_rate=round(result.fallback_rate, RATE_DIGITS),
        missing_rate=round(result.missing_rate, RATE_DIGITS),
        severity=result.severity,
        trigger=record.trigger,
        timestamp=result.committed_at,
    )


def _failed(record: DateRecord, pipeline: str, event_id: str) -> OutcomeMessage:
    failure = record.failure
    return OutcomeMessage(
        processor=pipeline,
        analysis_date=record.analysis_date,
        state=State.FAILED,
        generation=record.generation,
        supersedes=None,
        event_id=event_id,
        row_count=0,
        quality_score=0.0,
        component_total=0.0,
        components={},
        fallback_rate=0.0,
        missing_rate=0.0,
        severity="P0",
        trigger=record.trigger,
        timestamp=failure.at if failure is not None else record.opened_at,
        failed_because=failure.because if failure is not None else None,
        message=failure.message if failure is not None else None,
    )
