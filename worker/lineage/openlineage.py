"""OpenLineage run events of builds: what is told when a build starts, completes, fails or is given up.

Plain dictionaries in the shape of the specification, 2-0-2: its Python client takes half a second to import and brings
an HTTP stack of its own. A run is one attempt at one generation; its id follows from the two, so that every worker that
tells of an attempt tells of the same run.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from statemachine.events import BuildClaimed, BuildCommitted, BuildFailed
from statemachine.model import BuildMode, BuildResult, DateRecord, FailedBecause, State
from statemachine.reasons import Reason
from worker.features.pipeline import Cell, Feature, Pipeline
from worker.observing.observer import Decided

SPEC = "https://openlineage.io/spec"
EVENT_SCHEMA = f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
FACETS: Mapping[str, str] = {
    "nominalTime": "1-0-1/NominalTimeRunFacet",
    "processing_engine": "1-1-1/ProcessingEngineRunFacet",
    "errorMessage": "1-0-1/ErrorMessageRunFacet",
    "jobType": "2-0-4/JobTypeJobFacet",
    "schema": "1-2-0/SchemaDatasetFacet",
    "columnLineage": "1-2-0/ColumnLineageDatasetFacet",
    "dataQualityMetrics": "1-0-1/DataQualityMetricsDatasetFacet",
    "dataQualityAssertions": "1-1-0/DataQualityAssertionsDatasetFacet",
    "inputStatistics": "1-0-0/InputStatisticsInputDatasetFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
}
"""Version and name of each standard facet; `mlfs_…` are the product's own, under the schema of every facet."""

JOB_NAMESPACE = "ml-feature-store-worker"
MESSAGE_CHARS_MAX = 2000
_RUNS = uuid.uuid5(uuid.NAMESPACE_URL, "urn:ml-feature-store-worker:runs")

Event = dict[str, Any]
Facet = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """One attempt: date, fencing token, why, and which data it may use."""

    analysis_date: date
    generation: int
    attempt: int
    mode: BuildMode
    trigger: str


class EventWriter:
    """Writes the events of one pipeline over one warehouse."""

    def __init__(
        self, *, pipeline: Pipeline, dataset_namespace: str, dataset_prefix: str, version: str, zone: ZoneInfo
    ) -> None:
        """Prepare to write events.

        Args:
            pipeline: Names the job, its tables and its columns.
            dataset_namespace: Where the tables are, as OpenLineage names it.
            dataset_prefix: What stands before `dataset.table`, empty or with a dot at its end.
            version: The worker's.
            zone: Zone of the analysis dates, for the run's nominal time.
        """
        self._pipeline = pipeline
        self._namespace = dataset_namespace
        self._prefix = dataset_prefix
        self._version = version
        self._zone = zone
        self._producer = f"urn:ml-feature-store-worker:{version}"

    def events_of(self, decided: Decided) -> Iterator[Event]:
        """Give what is to be told of a decision that took effect: nothing, one event, seldom two."""
        if not decided.decision.changed:
            return
        before, event = decided.before, decided.event
        if isinstance(event, BuildClaimed) and decided.decision.reason is Reason.CLAIMED:
            yield self.started(_run_of(decided.decision.record), decided.at)
            return
        running = _run_of(before) if before.state is State.RUNNING else None
        if isinstance(event, BuildCommitted):
            told = RunFacts(
                analysis_date=before.analysis_date,
                generation=event.result.generation,
                attempt=event.result.attempt,
                mode=before.mode,
                trigger=_trigger(before),
            )
            yield self.completed(told, event.result, decided.at)
            if running is not None and running != told:
                yield self.ended(running, f"overtaken by {_build_id(told)}", decided.at, kind="ABORT")
        elif running is not None and isinstance(event, BuildFailed):
            yield self.ended(running, event.message, decided.at, kind="FAIL")
        elif running is not None and decided.decision.record.state is not State.RUNNING and not _is_told(before):
            yield self.ended(running, f"given up: {decided.decision.reason}", decided.at, kind="ABORT")

    def started(self, run: RunFacts, at: datetime) -> Event:
        """Tell that an attempt was claimed."""
        return self._event("START", run, at)

    def completed(self, run: RunFacts, result: BuildResult, at: datetime) -> Event:
        """Tell that an attempt was published, and what it was worth."""
        statistics = {
            block.table: {"rowCount": result.dependency_rows[block.processor]}
            for block in self._pipeline.blocks
            if block.processor in result.dependency_rows
        }
        event = self._event("COMPLETE", run, at, input_statistics=statistics)
        output = event["outputs"][0]
        output["facets"] |= self._quality_facets(result)
        output["outputFacets"] = self._facets(outputStatistics={"rowCount": result.row_count})
        return event

    def ended(self, run: RunFacts, message: str, at: datetime, *, kind: str) -> Event:
        """Tell that an attempt published nothing: it failed (`FAIL`), or nobody works on it any more (`ABORT`)."""
        event = self._event(kind, run, at)
        error = {"message": message[:MESSAGE_CHARS_MAX] or "no message", "programmingLanguage": "PYTHON"}
        event["run"]["facets"] |= self._facets(errorMessage=error)
        return event

    def _event(
        self, kind: str, run: RunFacts, at: datetime, input_statistics: Mapping[str, Facet] | None = None
    ) -> Event:
        statistics = input_statistics or {}
        inputs = []
        for table in self._tables_read(run.mode):
            dataset: Event = self._dataset(table)
            if table in statistics:
                dataset["inputFacets"] = self._facets(inputStatistics=statistics[table])
            inputs.append(dataset)
        job_type = {"processingType": "BATCH", "integration": "MLFS", "jobType": "JOB"}
        return {
            "eventType": kind,
            "eventTime": at.astimezone(UTC).isoformat(),
            "producer": self._producer,
            "schemaURL": EVENT_SCHEMA,
            "run": {"runId": run_id(run), "facets": self._run_facets(run)},
            "job": {"namespace": JOB_NAMESPACE, "name": self._pipeline.name, "facets": self._facets(jobType=job_type)},
            "inputs": inputs,
            "outputs": [self._dataset(self._pipeline.tables.published) | {"facets": self._output_facets(run.mode)}],
        }

    def _run_facets(self, run: RunFacts) -> dict[str, Facet]:
        night = datetime.combine(run.analysis_date, time(), self._zone)
        morning = datetime.combine(run.analysis_date + timedelta(days=1), time(), self._zone)
        return self._facets(
            nominalTime={
                "nominalStartTime": night.astimezone(UTC).isoformat(),
                "nominalEndTime": morning.astimezone(UTC).isoformat(),
            },
            processing_engine={"version": self._version, "name": JOB_NAMESPACE},
            mlfs_build={
                "analysisDate": run.analysis_date.isoformat(),
                "generation": run.generation,
                "attempt": run.attempt,
                "buildId": _build_id(run),
                "mode": run.mode.value,
                "trigger": run.trigger,
            },
        )

    def _output_facets(self, mode: BuildMode) -> dict[str, Facet]:
        fields = [
            {"name": column.name, "type": column.type, "ordinal_position": position}
            for position, column in enumerate(self._pipeline.output_columns, 1)
        ]
        return self._facets(schema={"fields": fields}, columnLineage={"fields": self._column_lineage(mode)})

    def _column_lineage(self, mode: BuildMode) -> dict[str, Facet]:
        features, published = self._pipeline.features, self._pipeline.tables.published
        identity = [column for column in self._pipeline.identity if column.table]
        if mode is BuildMode.YESTERDAY:
            listed = [column.name for column in identity if column.table == self._pipeline.entity.roster]
            copied = [*(feature.name for feature in features), *listed]
            return {name: {"inputFields": [self._input(published, name, "of a night before")]} for name in copied}
        fields = {feature.name: {"inputFields": self._sources(feature, mode)} for feature in features}
        for column in identity:
            sources = [self._input(column.table, name, "of the date") for name in column.columns]
            fields[column.name] = {"inputFields": sources}
        return fields

    def _sources(self, feature: Feature, mode: BuildMode) -> list[Facet]:
        said = "where Phase 4 has none: of the latest game"
        phase3 = [self._read(feature.phase3_table, feature.phase3, name, said) for name in feature.phase3.columns]
        if mode is BuildMode.FORCED_FALLBACK:
            return phase3
        table = self._pipeline.block_of(feature).table
        return [*(self._read(table, feature.phase4, name, "of the date") for name in feature.phase4.columns), *phase3]

    def _read(self, table: str, cell: Cell, column: str, description: str) -> Facet:
        return self._input(table, column, description, "IDENTITY" if cell.sql == column else "TRANSFORMATION")

    def _input(self, table: str, column: str, description: str, subtype: str = "IDENTITY") -> Facet:
        copied = {"type": "DIRECT", "subtype": subtype, "description": description, "masking": False}
        return {**self._dataset(table), "field": column, "transformations": [copied]}

    def _quality_facets(self, result: BuildResult) -> dict[str, Facet]:
        policy, entity = self._pipeline.quality, self._pipeline.entity
        columns = {
            entity.key: {"nullCount": 0, "distinctCount": result.row_count},
            entity.must_have: {"nullCount": 0},
        }
        gate = (
            ("row_count", policy.rows_min, result.row_count),
            ("quality_score", policy.score_min, result.quality_score),
        )
        return self._facets(
            dataQualityMetrics={"rowCount": result.row_count, "columnMetrics": columns},
            dataQualityAssertions={
                "assertions": [
                    {
                        "assertion": f"{name} >= {least:g}",
                        "success": actual >= least,
                        "expected": f"{least:g}",
                        "actual": f"{actual:g}",
                    }
                    for name, least, actual in gate
                ]
            },
            mlfs_quality={
                "state": result.state.value if result.state is not None else None,
                "qualityScore": result.quality_score,
                "components": dict(result.components),
                "componentTotal": result.component_total,
                "fallbackRate": result.fallback_rate,
                "missingRate": result.missing_rate,
                "severity": result.severity,
                "leftOut": result.left_out,
            },
        )

    def _tables_read(self, mode: BuildMode) -> Sequence[str]:
        """Name the tables that a build reads."""
        pipeline = self._pipeline
        if mode is BuildMode.YESTERDAY:
            return (pipeline.tables.published,)
        identity = [column.table for column in pipeline.identity if column.table]
        phase4 = [] if mode is BuildMode.FORCED_FALLBACK else [block.table for block in pipeline.blocks]
        phase3 = [feature.phase3_table for feature in pipeline.features]
        return tuple(dict.fromkeys((pipeline.entity.roster, *identity, *phase4, *phase3)))

    def _dataset(self, table: str) -> Event:
        return {"namespace": self._namespace, "name": f"{self._prefix}{table}"}

    def _facets(self, **facets: Facet) -> dict[str, Facet]:
        return {
            name: {"_producer": self._producer, "_schemaURL": _facet_schema(name), **facet}
            for name, facet in facets.items()
        }


def run_id(run: RunFacts) -> str:
    """Give the run's id, the same whoever asks."""
    return str(uuid.uuid5(_RUNS, _build_id(run)))


def _facet_schema(name: str) -> str:
    if name not in FACETS:
        return f"{SPEC}/2-0-2/OpenLineage.json#/$defs/BaseFacet"
    return f"{SPEC}/facets/{FACETS[name]}.json#/$defs/{FACETS[name].partition('/')[2]}"


def _build_id(run: RunFacts) -> str:
    return f"{run.analysis_date.isoformat()}-g{run.generation}-a{run.attempt}"


def _run_of(record: DateRecord) -> RunFacts:
    return RunFacts(
        analysis_date=record.analysis_date,
        generation=record.generation,
        attempt=record.attempt,
        mode=record.mode,
        trigger=_trigger(record),
    )


def _trigger(record: DateRecord) -> str:
    return record.trigger.value if record.trigger is not None else "none"


def _is_told(record: DateRecord) -> bool:
    """Whether the end of the attempt was told when it failed; what follows ends only the generation."""
    return record.failure is not None and record.failure.because != FailedBecause.CANCELLED
