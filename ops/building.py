"""Commands about the data: load, build, features."""

import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.arguments import AnalysisDate, Json, actor, exit_code, guest_parts, read_date
from ops.cost import describe_estimates, estimates_table
from ops.output import components_table, dates_table, err, out, show_json
from schemas.outcome import RATE_DIGITS
from statemachine.model import BuildMode, State
from worker.clock import SystemClock
from worker.errors import Refused
from worker.features.model import BuildKey, BuildOutcome, BuildRequest

LEFT_OUT_SHOWN_MAX = 20
# Far above what a worker counts to: a build by hand and a worker's attempt at the same generation never share a token.
MANUAL_ATTEMPT_MIN = 1000


def load_folder(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of <dataset>.<table>.parquet files.")],
    generate: Annotated[
        str, typer.Option(metavar="DATE", help="First write generated data for the nights up to DATE into DIR.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Load Parquet files into the embedded warehouse, one table a file, replacing what is there.

    Examples:
      mlfs load ./data
      mlfs load ./sample --generate 2024-12-15
    """
    from worker.local.sample_data import write_sample_data
    from worker.local.warehouse_loading import load_parquet_folder

    if generate:
        write_sample_data(directory, analysis_date=read_date(generate))
    with guest_parts() as parts:
        tables = load_parquet_folder(parts.embedded_warehouse, directory)
    if as_json:
        show_json({"tables": dict(tables)})
        return
    for table, rows in tables:
        out.print(f"{table:<45} {rows:>9,} rows")


def build(
    analysis_date: AnalysisDate,
    force_phase3_fallback: Annotated[
        bool, typer.Option("--force-phase3-fallback", help="Ignore Phase 4, as if it did not exist.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Estimate the cost, build and score, publish nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Build one date now and publish it if it passes the gate. No state machine: no retries, no outcome message.

    A dry run first asks the warehouse what each statement would read and cost, and shows it with the result. It does
    build and score, so on BigQuery it is billed what it shows.

    Exit codes: 0 done, 3 degraded, 1 failed (nothing was published).

    Examples:
      mlfs build 2024-12-15
      mlfs build 2024-12-15 --force-phase3-fallback --dry-run --json
    """
    from worker.building import estimate_build, run_build

    clock = SystemClock()
    with guest_parts() as parts:
        ledger = parts.warehouse.read_ledger(analysis_date)
        generation = ledger.generation + 1 if ledger is not None else 1
        started_at = clock.now()
        attempt = MANUAL_ATTEMPT_MIN + int(started_at.timestamp()) % 1_000_000
        request = BuildRequest(
            key=BuildKey(analysis_date=analysis_date, generation=generation, attempt=attempt),
            mode=BuildMode.FORCED_FALLBACK if force_phase3_fallback else BuildMode.NORMAL,
            trigger="manual",
            phase3_lookback_days=parts.settings.phase3_lookback_days,
            as_of=None,
            started_at=started_at,
            claimant=f"{actor()}/{uuid.uuid4().hex}",
        )
        progress = (lambda _step: None) if as_json else (lambda step: err.print(f"[dim]{step}[/]"))
        estimates = estimate_build(parts.warehouse, request, started_at) if dry_run else []
        outcome = run_build(parts.warehouse, request, now=clock.now, progress=progress, publish=not dry_run)
    answer = describe(outcome)
    if dry_run:
        answer["plan"] = describe_estimates(estimates)
    if as_json:
        show_json(answer)
    else:
        if dry_run:
            out.print(estimates_table(answer["plan"]))
        _show(answer, outcome)
    raise typer.Exit(exit_code(answer["state"]))


def describe(outcome: BuildOutcome) -> dict[str, Any]:
    """Give a build's outcome in the words of `mlfs status`."""
    report, stats, key = outcome.report, outcome.stats, outcome.request.key
    return {
        "analysis_date": key.analysis_date.isoformat(),
        "state": (report.earned_state if outcome.failure is None else State.FAILED).value,
        "generation": key.generation,
        "row_count": report.row_count,
        "quality_score": report.quality_score,
        "components": dict(report.components),
        "component_total": report.component_total,
        "fallback_rate": round(report.fallback_rate, RATE_DIGITS),
        "missing_rate": round(report.missing_rate, RATE_DIGITS),
        "severity": report.severity,
        "published": outcome.published,
        "failure": {"because": outcome.failure.value, "message": outcome.message} if outcome.failure else None,
        "trigger": outcome.request.trigger,
        "dependency_rows": dict(stats.dependency_rows),
        "left_out_count": stats.left_out_count,
        "left_out": [
            {
                "player_id": player.player_id,
                "player_name": player.player_name,
                "team_abbreviation": player.team_abbreviation,
                "reason": player.reason,
            }
            for player in stats.left_out
        ],
    }


def _show(answer: dict[str, Any], outcome: BuildOutcome) -> None:
    out.print(dates_table([answer]))
    out.print(components_table(answer))
    for player in answer["left_out"][:LEFT_OUT_SHOWN_MAX]:
        out.print(f"left out: {player['player_name']} ({player['player_id']}): {player['reason']}", markup=False)
    if answer["left_out_count"] > LEFT_OUT_SHOWN_MAX:
        out.print(f"… and {answer['left_out_count'] - LEFT_OUT_SHOWN_MAX} more; all of them with --json")
    if outcome.failure is not None:
        err.print(f"[red]not published:[/] {outcome.message}")
    elif not outcome.published:
        out.print("dry run: nothing was published")


def features(
    analysis_date: AnalysisDate,
    out_file: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write; .parquet, .csv or .jsonl.")],
    as_json: Json = False,
) -> None:
    """Write the published features of a date to a file.

    Examples:
      mlfs features 2024-12-15 --out features.parquet
      mlfs features 2024-12-15 --out features.csv
    """
    with guest_parts() as parts:
        rows = parts.warehouse.export_features(analysis_date, str(out_file))
    if rows == 0:
        out_file.unlink(missing_ok=True)
        raise Refused(f"nothing is published for {analysis_date}; see the dates there are: mlfs status")
    show_json({"file": str(out_file), "rows": rows}) if as_json else out.print(f"{rows} rows in {out_file}")
