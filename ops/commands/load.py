"""`mlfs load`: fill or link the embedded warehouse from a folder of Parquet files, and check the files at once.

The check reads the files before the warehouse is opened. Loading is a transaction: a crash leaves the tables as before.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.arguments import Json, guest_resources, now_of_words, print_named_date, read_date
from ops.output import err, out, plain, show_json, table
from statemachine.model import Finding, FindingSeverity
from worker.errors import Refused
from worker.settings import load

if TYPE_CHECKING:
    from worker.local.folder_check import CheckedFile

EXIT_UNUSABLE_ROSTER = 1
# Below this width the findings are shown without the name of the check, so that names of columns stay whole.
CHECK_COLUMNS = 140
SEVERITY_STYLE = {
    FindingSeverity.CRITICAL: "red",
    FindingSeverity.WARNING: "yellow",
    FindingSeverity.NOTE: "dim",
}


def load_folder(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of <dataset>.<table>.parquet files.")],
    generate: Annotated[
        str, typer.Option(metavar="DATE", help="First write generated data for the three dates up to DATE into DIR.")
    ] = "",
    link: Annotated[
        bool, typer.Option("--link", help="Read the files in place, also files that replace them later.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Show what builds will find in the files; load none.")] = False,
    as_json: Json = False,
) -> None:
    """Load Parquet files into the embedded warehouse; each file replaces one table.

    The files are checked against the columns that builds read. A finding names the table or column, the cause and the
    next step; warnings stop nothing, because a build does without the column or table.

    Exit codes: 0 loaded, 1 loaded but no build is possible with this roster, 2 nothing was loaded.

    Examples:
      mlfs load ./data
      mlfs load ./data --check
      mlfs load ./data --link
      mlfs load ./sample --generate 2024-12-15
    """
    from worker.local.folder_check import check_folder, folder_findings
    from worker.local.parquet_folder import link_parquet_folder, load_parquet_folder
    from worker.local.sample.data import write_sample_data

    if check and link:
        raise Refused("--check loads nothing, and --link links the files; give one of the two")
    if generate:
        write_sample_data(directory, analysis_date=_last_generated(generate))
    pipeline = load().definition
    files = check_folder(directory, pipeline)  # refuse a wrong file before a warehouse is created
    if check:
        findings = folder_findings(files, pipeline, {})
    else:
        in_folder = {file.table.casefold() for file in files}
        others = [name for name in pipeline.upstream if name.casefold() not in in_folder]
        with guest_resources() as resources:
            warehouse = resources.embedded_warehouse
            (link_parquet_folder if link else load_parquet_folder)(warehouse, directory)
            findings = folder_findings(files, pipeline, warehouse.columns_of(others) if others else {})
    if as_json:
        show_json(_answer(files, findings, is_loaded=not check))
    else:
        _show(directory, files, findings, is_loaded=not check)
    if any(finding.severity is FindingSeverity.CRITICAL for finding in findings):
        raise typer.Exit(EXIT_UNUSABLE_ROSTER)


def _answer(files: "Sequence[CheckedFile]", findings: Sequence[Finding], *, is_loaded: bool) -> dict[str, Any]:
    dated = [(file.table, file.dates) for file in files if file.dates is not None]
    return {
        "loaded": is_loaded,
        "tables": {file.table: file.rows for file in files},
        "dates": {
            name: {"first": first.isoformat(), "last": last.isoformat(), "count": count}
            for name, (first, last, count) in dated
        },
        "findings": [
            {name: value for name, value in asdict(finding).items() if name != "processor"} for finding in findings
        ],
    }


def _show(directory: Path, files: "Sequence[CheckedFile]", findings: Sequence[Finding], *, is_loaded: bool) -> None:
    from worker.local.parquet_folder import hidden_files

    if hidden := hidden_files(directory):
        err.print(f"hidden files are left out: {', '.join(hidden)}", markup=False)
    rows = [(file.table, f"{file.rows:,}", *_dates(file)) for file in files]
    out.print(table(("table", "rows", "first date", "last date", "dates"), rows, numbers={"rows", "dates"}))
    if findings:
        cells = [
            (
                f"[{SEVERITY_STYLE[finding.severity]}]{finding.severity}[/]",
                finding.check,
                plain(finding.subject),
                plain(f"{finding.observed}; expected: {finding.expected}. Next: {finding.next_step}"),
            )
            for finding in findings
        ]
        names = ("severity", "check", "subject", "found")
        out.print()
        out.print(table(names, cells, texts={"found"}, wide={"check"}, wide_from=CHECK_COLUMNS))
    if not is_loaded:
        out.print("checked only; nothing was loaded")


def _dates(file: "CheckedFile") -> tuple[str, str, str]:
    if file.dates is None:
        return ("-", "-", "-")
    first, last, count = file.dates
    return (first.isoformat(), last.isoformat(), str(count))


def _last_generated(text: str) -> date:
    """Return the last date to generate: for `today` and `tonight` the calendar date of the league.

    Generated Phase 4 rows cover three dates, so before noon both tonight's date and the calendar date have rows.
    """
    if text not in {"today", "tonight"}:
        return read_date(text)
    settings = load()
    now = now_of_words(settings)
    print_named_date(text, settings.calendar.tonight(now))
    return settings.calendar.league_day(now)
