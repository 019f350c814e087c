"""Reading of a pipeline from TOML: a file, or the `pipeline.toml` of a folder. Shipped templates render the SQL.

All faults of a definition are reported together, each in the words of the file. `sql_checks` reads the rendered
statements of every definition except the shipped definition; the test suite reads the statements of the shipped
definition. Reading has no side effects.
"""

import tomllib
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from schemas.fault_words import words_of
from schemas.pipeline import FeaturePart, IdentityPart, PipelineFile, SchedulePart
from worker.features.findings import Check, FindingPolicy, Levels
from worker.features.own_tables import OptionalTables, OwnTables
from worker.features.pipeline import (
    PHASE4_DATE,
    Block,
    Cell,
    Entity,
    Feature,
    IdentityColumn,
    Pipeline,
    Schedule,
    UpstreamTable,
)
from worker.features.quality import QualityPolicy, Severity
from worker.features.sql import Templates
from worker.pipelines.checks import find_faults

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
"""Settings with defaults from the definition: these settings differ between two pipelines of an installation."""

TEMPLATES = ("sql", "dml", "ddl", "parts")

HAND_WRITTEN = ("sql", "ddl")
"""Folders of hand-written statements: definitions had these folders before the SQL was rendered."""


class BadPipeline(ValueError):
    """The definition is faulty; `faults` holds a sentence fragment for each fault."""

    def __init__(self, where: str, faults: Sequence[str]) -> None:
        """Build the message from the place of the definition and all faults."""
        self.faults = tuple(faults)
        super().__init__(f"{where} defines no pipeline:\n    " + "\n    ".join(faults))


@cache
def shipped_pipeline() -> Pipeline:
    """Return the pipeline of the package; read once."""
    return _read(resources.files("worker.features").joinpath(DEFINITION), DEFINITION)


@cache
def templates() -> Templates:
    """Return the templates of the package; read once."""
    root = resources.files("worker.features").joinpath("templates")
    texts = {
        f"{folder}/{file.name}": file.read_text("utf-8")
        for folder in TEMPLATES
        for file in root.joinpath(folder).iterdir()
        if file.name.endswith(".sql")
    }
    return Templates(MappingProxyType(texts))


@lru_cache(maxsize=8)
def load_pipeline(where: str) -> Pipeline:
    """Return the pipeline of a definition; read and checked once in a process.

    Args:
        where: File of the definition, or folder of a `pipeline.toml`; empty for the shipped definition.

    Raises:
        BadPipeline: The definition has faults; the message names every fault.
    """
    return shipped_pipeline() if not where else read_pipeline(Path(where))


def read_pipeline(path: Path) -> Pipeline:
    """Return the pipeline of a definition; check the definition and the rendered SQL.

    Args:
        path: File of the definition, or folder of a `pipeline.toml`.

    Raises:
        BadPipeline: The definition has faults; the message names every fault.
    """
    # The import of sqlglot takes a tenth of a second, and the shipped pipeline needs no sqlglot here.
    from worker.pipelines.sql_checks import find_sql_faults  # noqa: PLC0415

    if path.is_dir() and (unread := _hand_written(path)):
        raise BadPipeline(str(path), unread)
    file = path / DEFINITION if path.is_dir() else path
    pipeline = _read(file, str(file))
    if faults := find_sql_faults(pipeline):
        raise BadPipeline(str(file), faults)
    return pipeline


def _hand_written(folder: Path) -> list[str]:
    """Return a fault for each hand-written statement: a worker that ignored the statement would build other rows."""
    found = sorted(file.relative_to(folder) for name in HAND_WRITTEN for file in folder.glob(f"{name}/*.sql"))
    return [
        f"{file} is not read: SQL is rendered from {DEFINITION}. Write what is special about a value as the feature's "
        "expression (docs/pipelines.md), then remove the file"
        for file in found
    ]


def _read(file: Traversable, where: str) -> Pipeline:
    try:
        document = PipelineFile.model_validate(tomllib.loads(file.read_text("utf-8")))
    except OSError as exc:
        raise BadPipeline(where, [f"it cannot be read: {exc.strerror}"]) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise BadPipeline(where, [f"it is not TOML: {exc}"]) from exc
    except ValidationError as exc:
        raise BadPipeline(where, [_said(fault) for fault in exc.errors()]) from exc
    faults: list[str] = []
    pipeline = _pipeline(document, faults)
    if faults := [*faults, *find_faults(pipeline), *_setting_faults(pipeline)]:
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


def _pipeline(document: PipelineFile, faults: list[str]) -> Pipeline:
    """Return the pipeline of a document; append the faults of expressions to *faults*."""
    given = document.schedule
    return Pipeline(
        name=document.name,
        entity=Entity(**document.entity.model_dump()),
        identity=tuple(_identity(document, column) for column in document.identity),
        blocks=tuple(
            Block(**block.model_dump() | {"matches": block.matches or block.key}) for block in document.blocks
        ),
        features=tuple(_feature(document, feature, faults) for feature in document.features),
        upstream_tables=MappingProxyType({name: _upstream(document, name) for name in _tables_read(document)}),
        schedule=None if given is None else _schedule(given),
        tables=OwnTables(**document.tables.model_dump()),
        optional=OptionalTables(**{name: table or "" for name, table in document.optional}),
        quality=_quality(document),
        findings=_findings(document, faults),
        settings=document.settings,
        templates=templates(),
    )


def _schedule(given: SchedulePart) -> Schedule:
    said = given.model_dump() | {"teams": given.teams or "", "teams_column": given.teams_column or given.team}
    return Schedule(**said)


def _identity(document: PipelineFile, column: IdentityPart) -> IdentityColumn:
    schedule, is_flag = document.schedule, False
    table: str = document.entity.roster
    columns: tuple[str, ...] = (column.column or column.name,)
    if schedule is not None and column.name == schedule.opponent:
        table, columns = schedule.table, schedule.sides
    elif schedule is not None and column.name == schedule.plays:
        table, columns, is_flag = "", (), True
    required = is_flag or column.name == document.entity.key
    return IdentityColumn(name=column.name, type=column.type, required=required, table=table, columns=columns)


def _feature(document: PipelineFile, feature: FeaturePart, faults: list[str]) -> Feature:
    table = next((block.table for block in document.blocks if block.name == feature.block), "")
    phase3_column = feature.phase3_column or feature.name
    is_float = feature.type == "FLOAT64"
    return Feature(
        name=feature.name,
        type=feature.type,
        unit=feature.unit,
        block=feature.block,
        phase3_table=feature.phase3_table,
        phase4=_cell(document, feature, table, "expression", faults) or _plain(feature.name, is_float=is_float),
        phase3=_cell(document, feature, feature.phase3_table, "phase3_expression", faults)
        or _plain(phase3_column, is_float=is_float),
        required=feature.required,
        range=feature.range,
        bins=tuple(feature.bins),
    )


def _plain(column: str, *, is_float: bool) -> Cell:
    return Cell(sql=column, columns=(column,), is_float=is_float)


def _cell(document: PipelineFile, feature: FeaturePart, table: str, key: str, faults: list[str]) -> Cell | None:
    """Return the cell of a feature's expression; None without an expression, or if the expression is refused."""
    if (expression := getattr(feature, key)) is None:
        return None
    from worker.pipelines.sql_checks import columns_of, find_expression_faults, with_finite  # noqa: PLC0415 -- as above

    columns = document.upstream[table].columns if table in document.upstream else {}
    if found := find_expression_faults(expression, columns, feature.type):
        faults += [f"features.{feature.name}.{key} {fault}" for fault in found]
        return None
    # A NaN in a column is missing inside the expression, too: COALESCE takes the next value.
    clean = with_finite(expression, columns)
    read = columns_of(expression)
    if feature.type != "FLOAT64":
        return Cell(sql=expression, columns=read, clean=clean, is_float=False)
    # An upstream column of whole numbers may stand for a float. The cast makes the value a float.
    return Cell(sql=f"CAST({expression} AS FLOAT64)", columns=read, clean=f"CAST({clean} AS FLOAT64)")


def _tables_read(document: PipelineFile) -> tuple[str, ...]:
    schedule = () if document.schedule is None else (document.schedule.table, document.schedule.teams)
    phase3 = (feature.phase3_table for feature in document.features)
    phase4 = (block.table for block in document.blocks)
    named = (document.entity.roster, *schedule, *phase3, *phase4, *document.upstream)
    return tuple(name for name in dict.fromkeys(named) if name is not None)


def _upstream(document: PipelineFile, name: str) -> UpstreamTable:
    """Return an upstream table; the parts block, roster and schedule define the joins of the named tables."""
    part, entity = document.upstream.get(name), document.entity
    block = next((block for block in document.blocks if block.table == name), None)
    key, matches, date = entity.key, entity.key, ""
    if block is not None:
        key, matches, date = block.key, block.matches or block.key, PHASE4_DATE
    elif document.schedule is not None and name == document.schedule.table:
        key = document.schedule.sides[0]
    elif document.schedule is not None and name == document.schedule.teams:
        key = (part.key if part is not None else None) or document.schedule.teams_column or document.schedule.team
    elif name == entity.roster:
        key = next((column.column or column.name for column in document.identity if column.name == key), key)
    elif part is not None:
        key = part.key or key
        matches = part.matches or key
    return UpstreamTable(
        name=name,
        date=(part.date if part is not None else None) or date,
        key=key,
        matches=matches,
        purpose=(part.purpose if part is not None else None) or f"upstream's table {name}.",
        rows=(part.rows if part is not None else None) or "of several rows for one key the newest processed_at counts.",
        columns=part.columns if part is not None else {},
    )


def _quality(document: PipelineFile) -> QualityPolicy:
    # Field by field, because a dump would write fractions as text.
    said = {name: value for name, value in document.quality if value is not None}
    if document.quality.severities is not None:
        said["severities"] = tuple(Severity(**dict(level)) for level in document.quality.severities)
    return QualityPolicy(**said, required_field_count=sum(feature.required for feature in document.features))


def _findings(document: PipelineFile, faults: list[str]) -> FindingPolicy:
    known = {check.value for check in Check}
    faults += [
        f"findings.levels.{name} is no check; the checks: {', '.join(known)}"
        for name in document.findings.levels
        if name not in known
    ]
    said = {name: value for name, value in document.findings if value is not None and name != "levels"}
    levels = {
        Check(name): Levels(**part.model_dump()) for name, part in document.findings.levels.items() if name in known
    }
    return FindingPolicy(**said, levels=MappingProxyType(levels))
