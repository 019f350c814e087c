"""`mlfs schemas`: what goes in and out, for other programs to check against."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.arguments import Json
from ops.output import out, show_json
from schemas.contract import TopicNames, documents
from worker.settings import Settings, load


def contract(settings: Settings) -> Mapping[str, Mapping[str, Any]]:
    """Give the JSON Schemas and the AsyncAPI document for these settings, by file name."""
    topics = TopicNames(
        completions=settings.topic,
        success=settings.success_topic,
        failure=settings.failure_topic,
        dead_letters=settings.dead_letter_topic,
    )
    return documents(topics, settings.definition.processors)


def as_text(document: Mapping[str, Any]) -> str:
    """Give a document as its file holds it."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def schemas(
    directory: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write the files there; without it they are printed.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Give JSON Schemas of the messages in and out, and an AsyncAPI 3.0 document of the topics as they are set.

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
