"""Bodies of requests and answers: the check of a request, and the schemas of the OpenAPI document."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any

from fastapi import Header
from fastapi import Path as PathParameter
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, WithJsonSchema

from statemachine.events import CancelRequested, CompletionRetracted, InterventionEvent, ReplayRequested
from statemachine.model import BuildMode
from worker.builds.queue import Built
from worker.calendar import DAY_WORDS
from worker.date_text import DateSummary
from worker.errors import Refused
from worker.features.diff import ColumnDiff, RowDiff
from worker.finding_text import FindingModel
from worker.interventions.audit import REASON_CHARS_MAX, SEEN_PATTERN, read_as_of, read_reason
from worker.interventions.idempotency import KEY_PATTERN
from worker.observing.outbox import Untold
from worker.ports import HistoryEntry
from worker.tick import Ticked

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# An answer with a field unknown to this module keeps the field.
_GROWS = ConfigDict(extra="allow")
RELATIVE_PATTERN = f"^({'|'.join(DAY_WORDS)})$"
_EXAMPLE_DAY = "2024-12-15"
NAME_CHARS_MAX = 100


def _canonical(value: object) -> object:
    """Return a date or a text `YYYY-MM-DD`; refuse every other form, so that each analysis date has a single name."""
    if isinstance(value, date) or (isinstance(value, str) and _DATE.fullmatch(value)):
        return value
    raise ValueError("must be a date like 2024-12-15")


def _instant(value: object) -> datetime:
    """Return an instant with a zone in UTC; refuse numbers, which would be read as seconds."""
    if not isinstance(value, str):
        raise ValueError("must be an instant like 2024-12-15T22:00:00Z")  # noqa: TRY004 - pydantic reads ValueError
    try:
        return read_as_of(value)
    except Refused as exc:
        raise ValueError(str(exc)) from exc


def _read_name(text: str) -> str:
    return read_reason(text, NAME_CHARS_MAX) if text.strip() else ""


Day = Annotated[
    date,
    BeforeValidator(_canonical),
    WithJsonSchema({"type": "string", "format": "date", "examples": [_EXAMPLE_DAY]}),
]
DayInPath = Annotated[Day, PathParameter(description="The analysis date, `YYYY-MM-DD`, in the zone of the pipeline.")]
RelativeDay = Annotated[str, Field(pattern=RELATIVE_PATTERN)]
ReasonText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=REASON_CHARS_MAX,
        pattern=SEEN_PATTERN,
        description="Reason; kept in audit and history.",
    ),
    AfterValidator(read_reason),
]
InstantText = Annotated[
    datetime,
    BeforeValidator(_instant),
    # The years of a record, as `read_as_of` demands.
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "pattern": "^(19|2[0-9])[0-9]{2}-",
            "examples": ["2024-12-15T22:00:00Z"],
        }
    ),
]
NameText = Annotated[str, AfterValidator(_read_name)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=KEY_PATTERN,
        description="A repeated request with the same key takes no second effect and gets the same answer, for a day.",
    ),
]


class ProcessRequest(BaseModel):
    """Analysis date to build. Other fields, such as `upstream_completions` of a workflow, are ignored."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"analysis_date": _EXAMPLE_DAY, "force_phase3_fallback": False}]}
    )

    analysis_date: Day | RelativeDay = Field(
        description="The analysis date; until noon in the league's zone `today` and `tonight` mean the date before."
    )
    force_phase3_fallback: StrictBool = Field(default=False, description="Ignore Phase 4 and always build again.")


class ReplayRequest(BaseModel):
    """Reason and mode of a replay."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "daily cache was repaired"}]})

    reason: ReasonText
    force_phase3_fallback: StrictBool = Field(default=False, description="Ignore Phase 4.")
    force: StrictBool = Field(default=False, description="Fence off a running build. Admins only.")
    as_of: InstantText | None = Field(
        default=None, description="Read only upstream rows with `processed_at` up to this instant."
    )
    dry_run: StrictBool = Field(default=False, description="Return the plan, change no state.")

    def event(self, actor: str) -> InterventionEvent:
        """Return the event of the request."""
        mode = BuildMode.FORCED_FALLBACK if self.force_phase3_fallback else BuildMode.NORMAL
        return ReplayRequested(actor=actor, reason=self.reason, mode=mode, take_over=self.force, as_of=self.as_of)


class FormControls(BaseModel):
    """Fields that each form of the status page has besides the fields of the request."""

    name: NameText = Field(default="", description="Name of the person, if no token names the caller.")
    key: str = Field(pattern=KEY_PATTERN, description="Key of the form: a form sent twice takes effect once.")
    confirmed: bool = Field(default=False, description="The plan was shown; apply the request.")


class CancelRequest(BaseModel):
    """Reason of a cancel."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"reason": "upstream is known to be wrong"}]}
    )

    reason: ReasonText

    def event(self, actor: str) -> InterventionEvent:
        """Return the event of the request."""
        return CancelRequested(actor=actor, reason=self.reason)


class RetractRequest(BaseModel):
    """Processor of the retracted run, and the reason."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"processor": "cache_job", "reason": "it wrote last week's rows"}]},
    )

    processor: str = Field(min_length=1, max_length=100, description="Processor of the wrong run.")
    reason: ReasonText
    run_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=210,
        description="The run; refused if another run counts by now. Default: the run that counts.",
    )
    rebuild: StrictBool = Field(default=False, description="Build a finished analysis date again at once.")
    dry_run: StrictBool = Field(default=False, description="Return the plan, change no state.")

    def event(self, actor: str) -> InterventionEvent:
        """Return the event of the request; an empty identity stands for the run that counts."""
        identity = self.run_id or ""
        return CompletionRetracted(
            processor=self.processor, identity=identity, actor=actor, reason=self.reason, rebuild=self.rebuild
        )


class NotToldModel(Untold):
    """Outcome message in the outbox: subscribers of the topic have not received the message yet."""

    __pydantic_config__ = ConfigDict(extra="ignore")


@dataclass(frozen=True, kw_only=True)
class DateRow(DateSummary):
    """State of an analysis date, with the newest unpublished outcome message."""

    not_told: Annotated[
        NotToldModel | None, Field(description="The newest outcome message in the outbox; null without a message.")
    ]


class DateFindings(BaseModel):
    """Findings about the published rows of an analysis date."""

    analysis_date: str = Field(examples=[_EXAMPLE_DAY])
    weekday: str = Field(examples=["Sunday"])
    state: str = Field(examples=["done"])
    published_generation: int = Field(description="The generation that consumers read; 0 before the first publication.")
    quality_score: float | None
    severity: str | None
    findings: list[FindingModel] | None = Field(
        description="The most severe first; null without a publication, and if no check judged the rows."
    )


class DamagedDate(BaseModel):
    """Analysis date with an unreadable record."""

    analysis_date: str
    state: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Intervened(DateSummary):
    """Effect of an intervention, or of a dry run."""

    applied: bool
    event: str
    reason: str


class RetractionModel(BaseModel):
    """Retracted run."""

    run: str
    by: str
    reason: str
    at: str


class ProcessorModel(BaseModel):
    """Completion of a processor."""

    model_config = _GROWS

    processor: str
    optional: bool
    status: str
    completed_at: str | None
    row_count: int | None
    error: str | None
    run: str | None
    rows_at_build: int | None
    retractions: list[RetractionModel] = Field(default_factory=list)


class HistoryItem(HistoryEntry):
    """Stored change of an analysis date."""

    __pydantic_config__ = ConfigDict(extra="ignore")


@dataclass(frozen=True, kw_only=True)
class DateStory(DateRow):
    """Explanation of an analysis date: completions, missing processors, next step, history."""

    now: str
    processors: list[ProcessorModel]
    missing: list[str]
    headline: str
    next: str
    history: Sequence[HistoryItem]


class PublishedModel(BaseModel):
    """Published generation of an analysis date."""

    generation: int
    build_id: str
    published_at: str
    state: str | None
    quality_score: float | None
    findings: list[FindingModel] | None = Field(description="As in `/dates/{analysis_date}/findings`.")
    row_count: int


class DateDiff(BaseModel):
    """Difference of two published generations of an analysis date."""

    analysis_date: str = Field(examples=[_EXAMPLE_DAY])
    before: PublishedModel
    after: PublishedModel
    rows_added: int
    rows_removed: int
    cells_changed: int = Field(description="Cells with different values, in rows of both generations.")
    added: Sequence[RowDiff] = Field(description="The first twenty rows of `after` alone.")
    removed: Sequence[RowDiff] = Field(description="The first twenty rows of `before` alone.")
    columns: Sequence[ColumnDiff] = Field(description="Columns with different cells, and the largest changes.")


class CheckOfFeature(BaseModel):
    """Check with a finding about a feature or about the table of the feature."""

    check: str
    severity: str


class NightProfile(BaseModel):
    """Statistics of a feature on a night; from `mean` on the figures hold values from Phase 4 inside the range."""

    analysis_date: str
    row_count: int
    present_count: int = Field(description="Rows with a value.")
    out_of_range_count: int
    value_count: int = Field(description="Values in the figures, one for each entity or team.")
    mean: float | None
    deviation: float | None
    lowest: float | None
    highest: float | None
    mode_share: float | None = Field(description="Share of the most frequent value.")
    correlation: float | None = Field(description="Agreement with the night before, at most 1.")
    bins: Sequence[int] = Field(description="Values in each bin, one more than edges.")
    bin_edges: Sequence[float]


class FeatureDistribution(BaseModel):
    """Distribution of a feature beside the nights before."""

    feature: str = Field(examples=["feature_name"])
    unit: str
    processor: str
    per_team: bool = Field(description="Whether the values are values of teams, one for each team.")
    row_count: int
    present_count: int
    out_of_range_count: int
    value_count: int
    mean: float | None
    deviation: float | None
    lowest: float | None
    highest: float | None
    mode_share: float | None
    correlation: float | None
    bins: Sequence[int]
    bin_edges: Sequence[float]
    usual_mean: float | None = Field(description="Mean over the nights before.")
    usual_bins: Sequence[int] = Field(description="Values of the nights before in each bin.")
    shift: float | None = Field(description="Population stability index; of teams the shift of the mean, same scale.")
    findings: list[CheckOfFeature]
    nights: list[NightProfile] | None = Field(description="The nights before, newest first; null without `feature`.")


class DateProfile(BaseModel):
    """Distributions of the features of a published analysis date."""

    analysis_date: str = Field(examples=[_EXAMPLE_DAY])
    weekday: str = Field(examples=["Sunday"])
    generation: int
    row_count: int
    nights_count: int = Field(description="Nights before with which the analysis date is compared.")
    findings: list[FindingModel] | None = Field(description="As in `/dates/{analysis_date}/findings`.")
    features: list[FeatureDistribution]


class BuiltModel(Built):
    """End of a build."""


@dataclass(frozen=True, kw_only=True)
class TickAnswer(Ticked):
    """Result of a tick."""

    __pydantic_config__ = ConfigDict(
        json_schema_extra={"examples": [{"opened": 0, "due": 1, "failed": 0, "built": [], "published": 1, "left": 0}]}
    )

    built: Annotated[tuple[BuiltModel, ...], Field(description="Builds that ended.")]


class Health(BaseModel):
    """Health of the process, with the faults."""

    status: str = Field(examples=["ok"])
    faults: list[str]


PUSH_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The envelope of Pub/Sub, or the bare message of a subscription without wrapper.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["message", "subscription"],
                    "properties": {
                        "message": {"type": "object"},
                        "subscription": {"type": "string"},
                        "deliveryAttempt": {"type": "integer"},
                    },
                },
                "example": {
                    "message": {
                        "data": "eyJwcm9jZXNzb3IiOiAicGxheWVyX2RhaWx5X2NhY2hlIn0=",
                        "messageId": "11459",
                        "publishTime": "2024-12-16T04:15:00Z",
                    },
                    "subscription": "projects/nba-props-platform/subscriptions/ml-feature-store-worker",
                },
            }
        },
    }
}
