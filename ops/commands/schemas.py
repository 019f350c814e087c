"""`mlfs schemas` and `mlfs sql`: print the contract of the messages, and the SQL of the pipeline.

Both commands read the settings and the pipeline alone, and open no resource.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.arguments import Json
from ops.output import out, show_json
from schemas.contract import TopicNames, documents
from worker.errors import Refused
from worker.features.pipeline import Pipeline
from worker.features.sql import read_head
from worker.settings import Settings, load


def contract(settings: Settings) -> Mapping[str, Mapping[str, Any]]:
    """Return the JSON Schemas and the AsyncAPI document of these settings, by file name."""
    topics = TopicNames(
        completions=settings.topic,
        success=settings.success_topic,
        failure=settings.failure_topic,
        dead_letters=settings.dead_letter_topic,
    )
    return documents(topics, settings.definition.processors)


def as_text(document: Mapping[str, Any]) -> str:
    """Return the text of the file of a document."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def schemas(
    directory: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for the files; without DIR print.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the JSON Schemas of all messages, and an AsyncAPI 3.0 document of the topics.

    Examples:
      mlfs schemas --out ./contract
      mlfs schemas --json
    """
    made = contract(load())
    if directory is None:
        show_json(made)
        return
    directory.mkdir(parents=True, exist_ok=True)
    files = [directory / name for name in made]
    for file, document in zip(files, made.values(), strict=True):
        file.write_text(as_text(document), encoding="utf-8")
    if as_json:
        show_json({"files": [str(file) for file in files]})
    else:
        for file in files:
            out.print(str(file), markup=False)


def sql(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Statement or table; without NAME all names.")] = "",
    as_json: Json = False,
) -> None:
    """Print the SQL of the pipeline in BigQuery's dialect: statements and tables.

    Examples:
      mlfs sql
      mlfs sql features
      mlfs sql dependency_rows --json
    """
    pipeline = load().definition
    texts = rendered(pipeline)
    name = next((table for table in pipeline.described if name == table.partition(".")[2]), name)
    if name and name not in texts:
        raise Refused(f"the pipeline {pipeline.name} has no statement and no table {name}; the names: mlfs sql")
    if name:
        if as_json:
            show_json({"name": name, "kind": _kind(pipeline, name), "sql": texts[name]})
        else:
            out.print(texts[name], end="", markup=False, soft_wrap=True)
        return
    rows = [
        {"name": known, "kind": _kind(pipeline, known), "purpose": read_head(text)["Purpose"]}
        for known, text in texts.items()
    ]
    if as_json:
        show_json(rows)
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        out.print(f"{row['name']:<{width}}  {row['purpose']}", markup=False, soft_wrap=True)


def rendered(pipeline: Pipeline) -> Mapping[str, str]:
    """Return all SQL of a pipeline: {name of the statement, or `dataset.table`: text}."""
    statements = {name: pipeline.text(name) for name in (*pipeline.statements, *pipeline.changes)}
    return statements | {table: pipeline.ddl_of(table) for table in pipeline.described}


def _kind(pipeline: Pipeline, name: str) -> str:
    if name in pipeline.tables.views:
        return "view"
    return "table" if name in pipeline.described else "statement"
