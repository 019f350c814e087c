"""Outcome messages: the end of a generation, for the consumers of the features.

Model: the fields of the pipeline document (`processor`, `analysis_date`, `row_count`, `quality_score`, `timestamp`),
and the figures with which a consumer trusts or refuses the rows.

Guarantees: every message about a generation has the same `event_id`, so a consumer can drop a repeat.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from statemachine.decision import PublishOutcome
from statemachine.evidence import severity_of
from statemachine.model import RATE_DIGITS, BuildResult, DateRecord, FindingSeverity, State, Trigger

# Rises only when a consumer of the version before would misread the message; a new field does not raise it.
SCHEMA_VERSION = 1

Told = Annotated[State, WithJsonSchema({"type": "string", "enum": ["done", "degraded", "failed"]})]


class CellChangeMessage(BaseModel):
    """One cell that an upgrade changed."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    column: str = Field(description="Its column.")
    key: int | str = Field(description="Tells the row apart within the night.")
    label: str = Field(description="What people know the row by.")
    before: float | None = Field(description="Its value before; null for none.")
    after: float | None = Field(description="Its value now; null for none.")


class ChangesMessage(BaseModel):
    """What an upgrade changed, in short; `mlfs diff` tells it whole."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    from_generation: int = Field(ge=0, description="The generation that was published before.")
    rows_added: int = Field(ge=0, description="Rows that the generation before does not have.")
    rows_removed: int = Field(ge=0, description="Rows that only the generation before has.")
    cells_changed: int = Field(ge=0, description="Cells of rows that both have, whose value differs.")
    largest: Sequence[CellChangeMessage] = Field(
        max_length=3, description="The largest changes, each beside the usual size of its column; three at most."
    )


class FindingMessage(BaseModel):
    """One reason why the rows may be wrong."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    check: str = Field(description="The check that found it.")
    severity: FindingSeverity = Field(description="`note`, `warning` or `critical`.")
    subject: str = Field(description="The table, column, feature, team or component.")
    observed: str = Field(description="What was measured, for people.")
    expected: str = Field(description="What the check accepts, for people.")
    next_step: str = Field(description="What the person on call does next.")


class OutcomeMessage(BaseModel):
    """The wire form of an outcome, version 1."""

    model_config = ConfigDict(frozen=True)

    schema_version: int = Field(default=SCHEMA_VERSION, ge=1, description="Of this form; 1 where it is absent.")
    processor: str = Field(description="Name of the pipeline.")
    analysis_date: date = Field(description="The night, in the zone of the pipeline.")
    state: Told = Field(description="`done`, `degraded` or `failed`.")
    generation: int = Field(ge=0, description="Rises with every new trigger; 0 when it was cancelled before one.")
    supersedes: int | None = Field(description="The generation that consumers could read before; null for the first.")
    event_id: str = Field(description="`pipeline:date:generation`; a repeat bears the same one.")
    row_count: int = Field(ge=0, description="Rows published; 0 when it failed.")
    quality_score: float = Field(ge=0, le=100, description="What the rows are worth; 0 when it failed.")
    component_total: float = Field(ge=0, le=100, description="Sum of the components.")
    components: Mapping[str, float] = Field(description="The six parts of the score, in points; empty when it failed.")
    fallback_rate: float = Field(ge=0, le=1, description="Share of blocks not from Phase 4.")
    missing_rate: float = Field(ge=0, le=1, description="Share of blocks from neither phase.")
    severity: str | None = Field(description="`P0` to `P3`; null where nothing is wrong.")
    trigger: Trigger | None = Field(description="Why the generation was built; null when it was cancelled before.")
    timestamp: datetime = Field(description="When it was committed, or when it failed. UTC.")
    changes: ChangesMessage | None = Field(
        default=None,
        description="What differs from the generation before; null for the first, and where it is not known.",
    )
    findings: Annotated[Sequence[FindingMessage], Field(max_length=40)] | None = Field(
        default=None,
        description=(
            "Why the rows may be wrong, the most severe first; a critical one makes the state `degraded`. Null where "
            "the rows were not judged: a failed generation, or one of an older release."
        ),
    )
    failed_because: str | None = Field(default=None, description="Only with `failed`: the reason.")
    message: str | None = Field(default=None, description="Only with `failed`: what happened, for people.")


def outcome_message(effect: PublishOutcome, pipeline: str) -> OutcomeMessage:
    """Return the outcome message of *effect*; for a failed generation with zeros and the reason."""
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
        changes=ChangesMessage.model_validate(effect.changes) if effect.changes is not None else None,
        findings=_findings(result),
    )


def _findings(result: BuildResult) -> list[FindingMessage] | None:
    if result.findings is None:
        return None
    return [FindingMessage.model_validate(finding) for finding in result.findings]


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
        severity=severity_of(record),
        trigger=record.trigger,
        timestamp=failure.at if failure is not None else record.opened_at,
        failed_because=failure.because if failure is not None else None,
        message=failure.message if failure is not None else None,
    )
