"""Settings, read once at the start from `MLFS_…` environment variables into a frozen model.

`load` reports all faults together and stops the start. The pipeline's definition gives defaults; environment variables
come first. Secrets never appear in `describe()`.
"""

import os
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from schemas.fault_words import words_of
from statemachine.model import OnRerun, OnUpstreamFailure, Policy
from worker.calendar import NOON, Calendar, MonthDay, WallClock
from worker.errors import BadSettings, masked
from worker.features.pipeline import Pipeline
from worker.pipelines.files import BadPipeline, load_pipeline
from worker.settings import checks
from worker.settings.access import AccessSettings


class PipelineSettings(BaseSettings):
    """Pipeline field of `Settings`, and the defaults from the pipeline's definition."""

    pipeline: str = Field(
        default="",
        description="The pipeline's definition: a TOML file, or the folder of a pipeline.toml; empty: the shipped one.",
    )

    @model_validator(mode="before")
    @classmethod
    def _take_defaults_of_pipeline(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Add the settings of the definition that the environment leaves out."""
        try:
            definition = load_pipeline(values.get("pipeline") or "")
        except BadPipeline:
            # `_sound_pipeline` reports the fault; with the shipped defaults no further field reports the fault again.
            definition = load_pipeline("")
        return {**definition.settings, **values}

    @field_validator("pipeline")
    @classmethod
    def _sound_pipeline(cls, value: str) -> str:
        load_pipeline(value)
        return value

    @property
    def definition(self) -> Pipeline:
        """Definition of the pipeline."""
        return load_pipeline(self.pipeline)


PREFIX = "MLFS_"
_EMULATOR = "PUBSUB_EMULATOR_HOST"


class Settings(PipelineSettings, AccessSettings):
    """Settings of one worker process. Wall clock times are in `timezone`; durations end in their unit."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True, allow_inf_nan=False
    )

    data_dir: Path = Field(default=Path(".mlfs"), description="Folder of the embedded resources.")
    warehouse: str = Field(
        default="", description="`duckdb:///path` or `bigquery://project[?location=US]`; empty: in data_dir."
    )
    redis_url: str = Field(default="", description="`redis(s)://…` or `embedded:///dir`; empty: embedded in data_dir.")
    redis_replicas: int = Field(
        default=0, ge=0, le=10, description="Replicas that must hold a commit before it counts; 0 on a single server."
    )
    pubsub: str = Field(
        default="", description="`google`, `emulator://host:port` or `embedded:///dir`; empty: embedded in data_dir."
    )
    canary: bool = Field(default=False, description="Send a synthetic journey through the worker every five minutes.")
    pubsub_faults: str = Field(
        default="", description="Faults of the embedded bus, for drills: `duplicate=0.05,stall=0.001`."
    )
    pubsub_project: str = Field(description="Project that owns topics and subscriptions.")
    topic: str = Field(description="Topic of the completions.")
    subscription: str = Field(description="The worker's subscription to `topic`.")
    success_topic: str = Field(description="Outcomes done and degraded.")
    failure_topic: str = Field(description="Outcomes failed.")
    dead_letter_topic: str = Field(description="Refused messages.")
    dead_letter_subscription: str = Field(
        default="", description="Subscription that `mlfs dlq` reads; empty: the topic's name and `-parked`."
    )

    timezone: str = Field(description="Zone of every wall clock time.")
    deadline: Annotated[WallClock, NoDecode] = Field(
        description="Waiting ends; `23:25` on the analysis date, `00:30+1d` on the day after."
    )
    upgrade_cutoff: Annotated[WallClock, NoDecode] = Field(
        description="Later completions no longer upgrade a date; written like `deadline`."
    )
    season: Annotated[tuple[MonthDay, MonthDay], NoDecode] = Field(
        description="First and last month-day of expected dates, `10-15..06-30`."
    )
    skip_dates: Annotated[frozenset[date], NoDecode] = Field(
        default=frozenset(), description="Dates that are not expected, comma separated."
    )
    catch_up_days: int = Field(default=7, ge=0, le=60, description="Missed dates opened after a downtime, at most.")
    earliest_date: date = Field(description="Completions for earlier dates are refused.")
    drain_grace_s: float = Field(default=20.0, ge=0, le=30, description="Queued messages are read before a deadline.")

    attempts_max: int = Field(default=3, ge=1, le=10, description="Builds tried per generation.")
    retry_delay_s: float = Field(default=300.0, ge=0, le=3600, description="Wait between two attempts.")
    lease_s: float = Field(default=60.0, ge=5, le=3600, description="A claim holds this long without renewal.")
    on_upstream_failure: OnUpstreamFailure = Field(
        default=OnUpstreamFailure.WAIT, description="`wait` for the deadline, or `fallback_now` once all reported."
    )
    rerun: OnRerun = Field(default=OnRerun.HOLD, description="A processor ran again after done: `hold` or `rebuild`.")
    phase3_lookback_days: int = Field(ge=1, le=365, description="Oldest Phase 3 row a fallback may use.")
    keep_finished_days: int = Field(
        default=400, ge=0, le=36_500, description="Finished dates are forgotten after; 0: never."
    )

    keep_generations: int = Field(
        default=0, ge=0, le=36_500, description="Superseded generations are deleted after so many days; 0: never."
    )

    tick_s: float = Field(default=0.5, ge=0.01, le=30, description="Longest pause between two sweeps.")
    build_threads: int = Field(default=1, ge=1, le=16, description="Dates built at the same time.")
    duckdb_memory_limit: str = Field(default="2GB", description="Memory of the embedded warehouse.")
    duckdb_threads: int = Field(default=2, ge=1, le=64, description="Threads of the embedded warehouse.")
    duckdb_wait_s: float = Field(
        default=30.0, ge=0, le=600, description="Wait for a warehouse file that another process has open."
    )
    bigquery_endpoint: str = Field(
        default="", description="Base address instead of Google's; on this machine it is spoken to without signing in."
    )
    bigquery_max_bytes_billed: int = Field(
        default=10_000_000_000, ge=104_857_600, le=10**18, description="A statement that would bill more is refused."
    )
    bigquery_job_timeout_s: float = Field(default=600.0, ge=1, le=21_600, description="A longer job is stopped.")
    bigquery_usd_per_tib: float = Field(
        default=6.25, ge=0, le=10_000, description="On-demand price, for estimates and reports."
    )
    messages_leased_max: int = Field(default=500, ge=10, le=1000, description="Messages in hand at a time.")
    stream_silence_s: float = Field(
        default=120.0, ge=1, le=3600, description="A stream silent for so long is checked over a second connection."
    )
    stream_recycles_max: int = Field(
        default=3, ge=1, le=100, description="New streams tried in a row before the process ends with exit code 4."
    )
    openlineage: str = Field(
        default="", description="Address for OpenLineage events: `file:///path` or `http(s)://…`; empty: no events."
    )
    tracing: str = Field(
        default="auto",
        pattern="^(auto|on|off)$",
        description="OpenTelemetry spans; `auto`: by the OTEL_… variables.",
    )
    trace_project: str = Field(
        default="", description="Google Cloud project of the traces that log lines name; empty: pubsub_project."
    )
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$", description="Least level logged.")

    @field_validator("season", mode="before")
    @classmethod
    def _read_season(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            first, last = value.split("..")
            # A leap year, so that 02-29 is a day.
            days = [date.fromisoformat(f"2024-{part}") for part in (first, last)]
        except ValueError as exc:
            raise ValueError("is not two days of the calendar like 10-15..06-30") from exc
        return tuple((day.month, day.day) for day in days)

    @field_validator("skip_dates", mode="before")
    @classmethod
    def _read_dates(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return frozenset(date.fromisoformat(part.strip()) for part in value.split(",") if part.strip())

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as exc:
            raise ValueError(f"{value!r} is no IANA time zone, such as America/New_York") from exc
        return value

    @field_validator("deadline", "upgrade_cutoff", mode="before")
    @classmethod
    def _wall_clock(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str):
            return value
        read = WallClock.read(value)
        if info.field_name == "deadline" and "+" not in value and read.at < NOON:
            raise ValueError(
                f"{value} lies before noon: write {value}+1d for the day after the analysis date, {value}+0d for the "
                "morning of the analysis date itself"
            )
        return read

    @field_validator("upgrade_cutoff")
    @classmethod
    def _after_deadline(cls, value: WallClock, info: ValidationInfo) -> WallClock:
        deadline = info.data.get("deadline")
        if deadline is not None and value < deadline:
            advice = "" if value.days else f"; for the day after the analysis date write {value.at:%H:%M}+1d"
            raise ValueError(f"{value} lies before deadline {deadline}{advice}")
        return value

    _warehouse = field_validator("warehouse")(checks.warehouse_url)
    _store = field_validator("redis_url")(checks.store_url)
    _bus = field_validator("pubsub")(checks.bus_url)
    _endpoint = field_validator("bigquery_endpoint")(checks.http_url)
    _sink = field_validator("openlineage")(checks.sink_url)
    _memory = field_validator("duckdb_memory_limit")(checks.memory_limit)
    _names = field_validator("topic", "subscription", "success_topic", "failure_topic", "dead_letter_topic")(
        checks.resource_name
    )
    _project = field_validator("pubsub_project")(checks.project_id)

    @field_validator("dead_letter_subscription")
    @classmethod
    def _parked(cls, value: str) -> str:
        return checks.resource_name(value) if value else value

    @field_validator("trace_project")
    @classmethod
    def _traced(cls, value: str) -> str:
        return checks.project_id(value) if value else value

    @field_validator("data_dir")
    @classmethod
    def _folder(cls, value: Path) -> Path:
        if value.exists() and not value.is_dir():
            raise ValueError(f"{value} is a file; name a folder")
        return value

    @model_validator(mode="after")
    def _fill_embedded(self) -> Self:
        """Replace empty addresses by the embedded resources below `data_dir`."""
        base = self.data_dir.absolute()
        filled = {
            "warehouse": self.warehouse or f"{checks.DUCKDB}://{base}/warehouse.duckdb",
            "redis_url": self.redis_url or f"{checks.EMBEDDED}://{base}/valkey",
            "pubsub": self.pubsub or f"{checks.EMBEDDED}://{base}/pubsub",
            "trace_project": self.trace_project or self.pubsub_project,
            "dead_letter_subscription": self.dead_letter_subscription or f"{self.dead_letter_topic}-parked",
        }
        for name, value in filled.items():
            object.__setattr__(self, name, value)
        faults = []
        faults += [
            f"{PREFIX}DATA_DIR: {base} has a {sign} in its name, which DuckDB cannot take; choose another folder"
            for sign in checks.UNUSABLE_IN_PATHS
            if sign in str(base) and self.warehouse.startswith(f"{checks.DUCKDB}://{base}/")
        ]
        if self.topic in {self.success_topic, self.failure_topic, self.dead_letter_topic}:
            faults.append(f"{PREFIX}TOPIC is also a topic that the worker publishes to; choose another topic")
        if self.pubsub_faults and not self.pubsub.startswith(checks.EMBEDDED):
            faults.append(f"{PREFIX}PUBSUB_FAULTS is for the embedded bus; {self.pubsub} has faults of its own")
        try:
            checks.resource_name(self.dead_letter_subscription)
        except ValueError as exc:
            faults.append(f"{PREFIX}DEAD_LETTER_SUBSCRIPTION: {self.dead_letter_subscription} {exc}")
        if faults:
            raise ValueError("\n  ".join(faults))
        return self

    @property
    def policy(self) -> Policy:
        """Rules of the state machine."""
        return Policy(
            processors=self.definition.processors,
            optional=self.definition.optional_processors,
            attempts_max=self.attempts_max,
            retry_delay=timedelta(seconds=self.retry_delay_s),
            lease=timedelta(seconds=self.lease_s),
            on_upstream_failure=self.on_upstream_failure,
            rerun=self.rerun,
        )

    @property
    def calendar(self) -> Calendar:
        """Calendar of the pipeline."""
        return Calendar(
            zone=ZoneInfo(self.timezone),
            deadline=self.deadline,
            upgrade_cutoff=self.upgrade_cutoff,
            season_start=self.season[0],
            season_end=self.season[1],
            skip_dates=self.skip_dates,
            drain_grace=timedelta(seconds=self.drain_grace_s),
            catch_up_days=self.catch_up_days,
        )

    def describe(self) -> dict[str, str]:
        """Return every setting as text, by environment name, with masked passwords."""
        return {f"{PREFIX}{name.upper()}": _shown(name, getattr(self, name)) for name in type(self).model_fields}


def load(environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:  # noqa: ANN401 - any field
    """Read the settings from the process environment.

    Args:
        environment: Variables searched for unknown `MLFS_…` names; the process environment by default.
        overrides: Values that replace the values of the environment, by field name.

    Raises:
        BadSettings: At least one fault exists; the message has a line for each fault.
    """
    names = os.environ if environment is None else environment
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    faults = [
        f"{name}: no such setting" for name in sorted(names) if name.startswith(PREFIX) and name.upper() not in known
    ]
    faults += checks.unreadable_names(names, PREFIX)
    emulator = os.environ.get(_EMULATOR)
    if emulator and not (overrides.get("pubsub") or os.environ.get(f"{PREFIX}PUBSUB")):
        # Without `MLFS_PUBSUB`, Google's variable for the emulator applies.
        overrides = {**overrides, "pubsub": f"emulator://{emulator}"}
        try:
            checks.host_and_port(emulator)
        except ValueError as exc:
            faults.append(f"{_EMULATOR}: {exc}")
            del overrides["pubsub"]
    try:
        settings = Settings(**overrides)
    except ValidationError as exc:
        faults += [_told(fault) for fault in exc.errors()]
    if faults:
        raise BadSettings("wrong settings:\n  " + "\n  ".join(faults))
    return settings


def _told(fault: Mapping[str, Any]) -> str:
    location = fault["loc"]
    return f"{PREFIX}{str(location[0]).upper()}: {words_of(fault)}" if location else words_of(fault)


def _shown(name: str, value: object) -> str:
    if name == "season" and isinstance(value, tuple):
        return "..".join(f"{month:02}-{day:02}" for month, day in value)
    if isinstance(value, frozenset):
        return ",".join(sorted(str(item) for item in value))
    if value is None:
        return ""
    return masked(str(value))
