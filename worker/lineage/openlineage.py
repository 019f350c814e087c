"""OpenLineage run events of builds, as classes of OpenLineage's client: START, COMPLETE, FAIL and ABORT.

An OpenLineage run is an attempt of a generation. The id of the run follows from analysis date, generation and
attempt: an event sent by a second worker belongs to the same run. The ledger decides what is published; a crash can
lose events. Needs the extra `lineage`, so this module is imported only if the settings name a receiver.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

from openlineage.client import set_producer
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    DatasetFacet,
    RunFacet,
    column_lineage_dataset,
    data_quality_assertions_dataset,
    data_quality_metrics_dataset,
    error_message_run,
    input_statistics_input_dataset,
    job_type_job,
    nominal_time_run,
    output_statistics_output_dataset,
    processing_engine_run,
    schema_dataset,
)

from statemachine.events import BuildClaimed, BuildCommitted, BuildFailed
from statemachine.model import BuildMode, BuildResult, DateRecord, FailedBecause, State
from statemachine.reasons import Reason
from worker.features.pipeline import Cell, Feature, Pipeline
from worker.observing.observer import Decided

JOB_NAMESPACE = "ml-feature-store-worker"
MESSAGE_CHARS_MAX = 2000
_RUNS = uuid.uuid5(uuid.NAMESPACE_URL, "urn:ml-feature-store-worker:runs")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """Facts of an attempt: analysis date, fencing token, build mode, and trigger."""

    analysis_date: date
    generation: int
    attempt: int
    mode: BuildMode
    trigger: str


class EventWriter:
    """Writer of the events of a pipeline in a warehouse."""

    def __init__(
        self, *, pipeline: Pipeline, dataset_namespace: str, dataset_prefix: str, version: str, zone: ZoneInfo
    ) -> None:
        """Prepare to write events; set the producer of every event and facet of this process.

        Args:
            pipeline: Names of the job, of the tables and of the columns.
            dataset_namespace: OpenLineage's name of the place of the tables.
            dataset_prefix: Text before `dataset.table`, empty or with a dot at the end.
            version: Version of the worker.
            zone: Zone of the analysis dates, for the run's nominal time.
        """
        self._pipeline = pipeline
        self._namespace = dataset_namespace
        self._prefix = dataset_prefix
        self._version = version
        self._zone = zone
        # The facets of a mode are the same in each event; queued events share the facets.
        self._output_facets: dict[BuildMode, dict[str, DatasetFacet]] = {}
        set_producer(f"urn:ml-feature-store-worker:{version}")

    def events_of(self, decided: Decided) -> Iterator[RunEvent]:
        """Yield the events of a stored decision: at most an event, or two events after an overtaken attempt."""
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

    def started(self, run: RunFacts, at: datetime) -> RunEvent:
        """Return the START event of a claimed attempt."""
        return self._event("START", run, at)

    def completed(self, run: RunFacts, result: BuildResult, at: datetime) -> RunEvent:
        """Return the COMPLETE event of a published attempt, with rows, score and quality gate."""
        rows = {
            block.table: result.dependency_rows[block.processor]
            for block in self._pipeline.blocks
            if block.processor in result.dependency_rows
        }
        return self._event("COMPLETE", run, at, rows=rows, result=result)

    def ended(self, run: RunFacts, message: str, at: datetime, *, kind: str) -> RunEvent:
        """Return the event of an attempt without publication: `FAIL` after an error, `ABORT` if no worker continues."""
        error = error_message_run.ErrorMessageRunFacet(
            message=message[:MESSAGE_CHARS_MAX] or "no message", programmingLanguage="PYTHON"
        )
        return self._event(kind, run, at, error=error)

    def _event(
        self,
        kind: str,
        run: RunFacts,
        at: datetime,
        *,
        rows: Mapping[str, int] | None = None,
        result: BuildResult | None = None,
        error: RunFacet | None = None,
    ) -> RunEvent:
        job_type = job_type_job.JobTypeJobFacet(processingType="BATCH", integration="MLFS", jobType="JOB")
        failed = {} if error is None else {"errorMessage": error}
        return RunEvent(
            eventType=RunState(kind),
            eventTime=at.astimezone(UTC).isoformat(),
            run=Run(runId=run_id(run), facets={**self._run_facets(run), **failed}),
            job=Job(namespace=JOB_NAMESPACE, name=self._pipeline.name, facets={"jobType": job_type}),
            inputs=[self._input(table, (rows or {}).get(table)) for table in self._tables_read(run.mode)],
            outputs=[self._output(run.mode, result)],
        )

    def _input(self, table: str, rows: int | None) -> InputDataset:
        if rows is None:
            return InputDataset(**self._dataset(table), facets=None, inputFacets=None)
        read = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(rowCount=rows)
        return InputDataset(**self._dataset(table), facets=None, inputFacets={"inputStatistics": read})

    def _output(self, mode: BuildMode, result: BuildResult | None) -> OutputDataset:
        if mode not in self._output_facets:
            self._output_facets[mode] = {
                "schema": self._schema(),
                "columnLineage": column_lineage_dataset.ColumnLineageDatasetFacet(
                    fields={
                        name: column_lineage_dataset.Fields(inputFields=list(sources))
                        for name, sources in self._column_lineage(mode).items()
                    },
                    dataset=None,
                ),
            }
        output = OutputDataset(
            **self._dataset(self._pipeline.tables.published), facets=dict(self._output_facets[mode]), outputFacets=None
        )
        if result is not None:
            rows = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=result.row_count)
            output.facets = {**self._output_facets[mode], **self._quality_facets(result)}
            output.outputFacets = {"outputStatistics": rows}
        return output

    def _run_facets(self, run: RunFacts) -> dict[str, RunFacet]:
        night = datetime.combine(run.analysis_date, time(), self._zone)
        morning = datetime.combine(run.analysis_date + timedelta(days=1), time(), self._zone)
        build = RunFacet().with_additional_properties(
            analysisDate=run.analysis_date.isoformat(),
            generation=run.generation,
            attempt=run.attempt,
            buildId=_build_id(run),
            mode=run.mode.value,
            trigger=run.trigger,
        )
        return {
            "nominalTime": nominal_time_run.NominalTimeRunFacet(
                nominalStartTime=night.astimezone(UTC).isoformat(), nominalEndTime=morning.astimezone(UTC).isoformat()
            ),
            "processing_engine": processing_engine_run.ProcessingEngineRunFacet(
                version=self._version, name=JOB_NAMESPACE
            ),
            "mlfs_build": cast("RunFacet", build),
        }

    def _schema(self) -> DatasetFacet:
        return schema_dataset.SchemaDatasetFacet(
            fields=[
                schema_dataset.SchemaDatasetFacetFields(
                    name=column.name, type=column.type, ordinal_position=position, fields=None
                )
                for position, column in enumerate(self._pipeline.output_columns, 1)
            ]
        )

    def _column_lineage(self, mode: BuildMode) -> Mapping[str, Sequence[column_lineage_dataset.InputField]]:
        features, published = self._pipeline.features, self._pipeline.tables.published
        identity = [column for column in self._pipeline.identity if column.table]
        if mode is BuildMode.YESTERDAY:
            listed = [column.name for column in identity if column.table == self._pipeline.entity.roster]
            copied = [*(feature.name for feature in features), *listed]
            return {name: [self._source(published, name, "of a night before")] for name in copied}
        fields = {feature.name: self._sources(feature, mode) for feature in features}
        for column in identity:
            fields[column.name] = [self._source(column.table, name, "of the date") for name in column.columns]
        return fields

    def _sources(self, feature: Feature, mode: BuildMode) -> list[column_lineage_dataset.InputField]:
        said = "where Phase 4 has none: of the latest game"
        phase3 = [self._read(feature.phase3_table, feature.phase3, name, said) for name in feature.phase3.columns]
        if mode is BuildMode.FORCED_FALLBACK:
            return phase3
        table = self._pipeline.block_of(feature).table
        return [*(self._read(table, feature.phase4, name, "of the date") for name in feature.phase4.columns), *phase3]

    def _read(self, table: str, cell: Cell, column: str, description: str) -> column_lineage_dataset.InputField:
        return self._source(table, column, description, "IDENTITY" if cell.sql == column else "TRANSFORMATION")

    def _source(
        self, table: str, column: str, description: str, subtype: str = "IDENTITY"
    ) -> column_lineage_dataset.InputField:
        copied = column_lineage_dataset.Transformation(
            type="DIRECT", subtype=subtype, description=description, masking=False
        )
        return column_lineage_dataset.InputField(**self._dataset(table), field=column, transformations=[copied])

    def _quality_facets(self, result: BuildResult) -> dict[str, Any]:
        policy, entity = self._pipeline.quality, self._pipeline.entity
        column = data_quality_metrics_dataset.ColumnMetrics
        gate = (
            ("row_count", policy.rows_min, result.row_count),
            ("quality_score", policy.score_min, result.quality_score),
        )
        return {
            "dataQualityMetrics": data_quality_metrics_dataset.DataQualityMetricsDatasetFacet(
                rowCount=result.row_count,
                columnMetrics={
                    entity.key: column(nullCount=0, distinctCount=result.row_count, quantiles=None),
                    entity.must_have: column(nullCount=0, quantiles=None),
                },
            ),
            "dataQualityAssertions": data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
                assertions=[
                    data_quality_assertions_dataset.Assertion(
                        assertion=f"{name} >= {least:g}",
                        success=actual >= least,
                        expected=f"{least:g}",
                        actual=f"{actual:g}",
                        params=None,
                    )
                    for name, least, actual in gate
                ]
            ),
            "mlfs_quality": DatasetFacet().with_additional_properties(
                state=result.state.value if result.state is not None else None,
                qualityScore=result.quality_score,
                components=dict(result.components),
                componentTotal=result.component_total,
                fallbackRate=result.fallback_rate,
                missingRate=result.missing_rate,
                severity=result.severity,
                leftOut=result.left_out,
            ),
        }

    def _tables_read(self, mode: BuildMode) -> Sequence[str]:
        """Return the tables read by a build in a mode."""
        pipeline = self._pipeline
        if mode is BuildMode.YESTERDAY:
            return (pipeline.tables.published,)
        identity = [column.table for column in pipeline.identity if column.table]
        phase4 = [] if mode is BuildMode.FORCED_FALLBACK else [block.table for block in pipeline.blocks]
        phase3 = [feature.phase3_table for feature in pipeline.features]
        return tuple(dict.fromkeys((pipeline.entity.roster, *identity, *phase4, *phase3)))

    def _dataset(self, table: str) -> dict[str, str]:
        return {"namespace": self._namespace, "name": f"{self._prefix}{table}"}


def run_id(run: RunFacts) -> str:
    """Return the id of the run; every worker computes the same id."""
    return str(uuid.uuid5(_RUNS, _build_id(run)))


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
    """Return whether the FAIL event of the attempt was written before; a later decision ends only the generation."""
    return record.failure is not None and record.failure.because != FailedBecause.CANCELLED
