"""Reads a pipeline from a folder: `pipeline.toml`, its statements in `sql/`, its tables in `ddl/`.

All faults of a definition are reported together, each in the words of the file. The statements of a definition that
does not ship with the package are read too (`worker.pipeline_sql`); those of the shipped one the test suite reads.
"""

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from schemas.fault_words import words_of
from schemas.pipeline import PipelineFile
from worker.features.pipeline import Block, Entity, Feature, IdentityColumn, Pipeline, Tables
from worker.features.pipeline_checks import find_faults
from worker.features.quality import QualityPolicy, Severity

DEFINITION = "pipeline.toml"

SETTINGS = (
    "timezone",
    "deadline",
    "upgrade_cutoff",
    "season",
    "earliest_date",
    "phase3_lookback_days",
    "pubsub_project",
    "topic",
    "subscription",
    "success_topic",
    "failure_topic",
    "dead_letter_topic",
)
"""The settings whose defaults a definition gives: what differs between two pipelines on one installation."""

STATEMENTS = ("dependency_rows", "features", "build_stats", "left_out", "retractions")
"""What every pipeline ships; a command that needs another one says so."""


class BadPipeline(ValueError):
    """The fault of whoever wrote the definition; `faults` has them all, one sentence fragment each."""

    def __init__(self, where: str, faults: Sequence[str]) -> None:
        """Say where the definition lies and what is wrong with it."""
        self.faults = tuple(faults)
        super().__init__(f"{where} defines no pipeline:\n    " + "\n    ".join(faults))


@cache
def shipped_pipeline() -> Pipeline:
    """Give the pipeline that comes with the package; read once."""
    return _read(resources.files("worker.features"), DEFINITION)


@lru_cache(maxsize=8)
def load_pipeline(folder: str) -> Pipeline:
    """Read and check a definition; once in a process.

    Args:
        folder: Where it lies; empty for the shipped one.

    Raises:
        BadPipeline: With every fault.
    """
    return shipped_pipeline() if not folder else read_pipeline(Path(folder))


def read_pipeline(folder: Path) -> Pipeline:
    """Read and check a definition, its statements included.

    Raises:
        BadPipeline: With every fault.
    """
    # sqlglot takes a tenth of a second, and the shipped pipeline needs none of it here.
    from worker.pipeline_sql import find_sql_faults  # noqa: PLC0415

    pipeline = _read(folder, str(folder / DEFINITION))
    if faults := find_sql_faults(pipeline):
        raise BadPipeline(str(folder), faults)
    return pipeline


def _read(folder: Traversable, where: str) -> Pipeline:
    try:
        document = PipelineFile.model_validate(tomllib.loads(folder.joinpath(DEFINITION).read_text("utf-8")))
    except OSError as exc:
        raise BadPipeline(where, [f"it cannot be read: {exc.strerror}"]) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise BadPipeline(where, [f"it is not TOML: {exc}"]) from exc
    except ValidationError as exc:
        raise BadPipeline(where, [_said(fault) for fault in exc.errors()]) from exc
    unreadable: list[str] = []
    pipeline = _pipeline(document, sql=_texts(folder, "sql", unreadable), ddl=_texts(folder, "ddl", unreadable))
    if unreadable:
        raise BadPipeline(where, unreadable)
    if faults := [*find_faults(pipeline), *_setting_faults(pipeline), *_missing_files(pipeline)]:
        raise BadPipeline(where, faults)
    return pipeline


def _said(fault: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    return f"{'.'.join(str(part) for part in fault['loc'])}: {words_of(fault)}"


def _setting_faults(pipeline: Pipeline) -> list[str]:
    unknown = [f"settings.{name} is none that a pipeline gives a default for" for name in pipeline.settings]
    return [
        *(fault for name, fault in zip(pipeline.settings, unknown, strict=True) if name not in SETTINGS),
        *(f"settings.{name} is missing" for name in SETTINGS if name not in pipeline.settings),
    ]


def _missing_files(pipeline: Pipeline) -> list[str]:
    tables = [table.partition(".")[2] for table in pipeline.tables.all]
    return [
        *(f"sql/{name}.sql is missing" for name in STATEMENTS if name not in pipeline.sql),
        *(f"ddl/{name}.sql is missing" for name in tables if name not in pipeline.ddl),
    ]


def _texts(folder: Traversable, name: str, unreadable: list[str]) -> Mapping[str, str]:
    inner = folder.joinpath(name)
    files = sorted(inner.iterdir(), key=lambda file: file.name) if inner.is_dir() else []
    texts = {}
    for file in files:
        if file.name.endswith(".sql"):
            try:
                texts[file.name.removesuffix(".sql")] = file.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as exc:
                unreadable.append(f"{name}/{file.name} cannot be read: {exc}")
    return MappingProxyType(texts)


def _pipeline(document: PipelineFile, *, sql: Mapping[str, str], ddl: Mapping[str, str]) -> Pipeline:
    return Pipeline(
        name=document.name,
        entity=Entity(**document.entity.model_dump()),
        identity=tuple(
            IdentityColumn(
                name=column.name,
                type=column.type,
                table=column.table or "",
                columns=tuple(column.columns or ([column.name] if column.table else [])),
            )
            for column in document.identity
        ),
        blocks=tuple(Block(**block.model_dump()) for block in document.blocks),
        features=tuple(
            Feature(**feature.model_dump() | {"phase3_column": feature.phase3_column or feature.name})
            for feature in document.features
        ),
        reads=document.reads,
        tables=Tables(**document.tables.model_dump()),
        quality=_quality(document),
        settings=document.settings,
        sql=sql,
        ddl=ddl,
    )


def _quality(document: PipelineFile) -> QualityPolicy:
    # Field by field: a dump would write fractions as text.
    said = {name: value for name, value in document.quality if value is not None}
    if document.quality.severities is not None:
        said["severities"] = tuple(Severity(**dict(level)) for level in document.quality.severities)
    return QualityPolicy(**said, required_field_count=sum(feature.required for feature in document.features))
