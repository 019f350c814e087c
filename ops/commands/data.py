"""`mlfs build`, `mlfs features`: build by hand, export published rows.

A manual build goes without the state machine: the build claims a new generation in the ledger and publishes by one
statement under this claim. A crash before the publication leaves a claim and unpublished rows; a vacuum deletes the
rows.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.arguments import (
    AnalysisDate,
    AsOfOption,
    Forced,
    GenerationOption,
    Json,
    PublishedByOption,
    Reason,
    SourceOption,
    actor,
    build_mode,
    exit_code,
    reading_resources,
)
from ops.output import components_table, dates_table, err, number, out, show_findings, show_json
from ops.reports.cost import describe_estimates, estimates_table
from statemachine.model import BuildMode, State
from worker import finding_text
from worker.builds.generations import find_generation
from worker.date_text import figures
from worker.errors import PipelineError, Refused
from worker.features.generations import Wanted, export_ending, instant_text
from worker.features.model import BuildKey, BuildOutcome, BuildRequest, LedgerRow
from worker.features.records import replay_row
from worker.interventions.audit import copy_over_done
from worker.resources import Resources, open_lineage

LEFT_OUT_SHOWN_MAX = 20
# Above every attempt of a worker, so that a manual build and a worker never share a fencing token.
MANUAL_ATTEMPT_MIN = 1000
LINEAGE_FLUSH_S = 5.0
SendEnd = Callable[[BuildOutcome], None]


def build(
    analysis_date: AnalysisDate,
    force_phase3_fallback: Forced = False,
    source: SourceOption = None,
    as_of: AsOfOption = None,
    reason: Reason = "built by hand",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Estimate the cost, build and score; publish no row.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Build a date now, and publish the rows if they pass the quality gate.

    The build goes without the state machine: no retries, no outcome message. A dry run first asks the warehouse for
    the bytes and the cost of each statement, and shows both with the result. A dry run builds and scores, so BigQuery
    bills the shown cost.

    With --as-of the build reads upstream as it was at an instant: no row processed later, in no upstream table, the
    roster and the schedule included. An upstream row that was replaced in place since then is gone.

    Exit codes: 0 done, 3 degraded, 1 failed (no row was published).

    Examples:
      mlfs build 2024-12-15
      mlfs build 2024-12-15 --force-phase3-fallback --dry-run --json
      mlfs build 2024-12-15 --source yesterday --reason 'both phases are empty'
      mlfs build 2024-12-15 --as-of 2024-12-15T17:00:00-05:00 --dry-run
    """
    from worker.builds.steps import estimate_build, run_build

    mode = build_mode(source, force_phase3_fallback=force_phase3_fallback)
    if as_of is not None and mode is BuildMode.YESTERDAY:
        raise typer.BadParameter("--source yesterday reads no upstream row; leave --as-of out")
    with reading_resources() as resources:
        clock = resources.clock
        ledger = resources.warehouse.read_ledger(analysis_date)
        if why := copy_over_done(analysis_date.isoformat(), mode, ledger.state if ledger is not None else None):
            raise Refused(why)
        request = _manual_request(resources, analysis_date, mode, as_of, clock.now())
        if mode is BuildMode.YESTERDAY and not dry_run:
            resources.warehouse.log_replay(_audit_row(request, ledger, reason))
        progress = (lambda _step: None) if as_json else (lambda step: err.print(f"[dim]{step}[/]"))
        estimates = estimate_build(resources.warehouse, request, request.started_at) if dry_run else []
        with _send_lineage(resources, request, quiet=dry_run) as ended:
            outcome = run_build(resources.warehouse, request, now=clock.now, progress=progress, publish=not dry_run)
            ended(outcome)
    answer = describe(outcome)
    if dry_run:
        answer["plan"] = describe_estimates(estimates)
    if as_json:
        show_json(answer)
    else:
        if dry_run:
            out.print(estimates_table(answer["plan"]))
        _show(answer, outcome, dry_run=dry_run)
    raise typer.Exit(exit_code(answer["state"]))


def _manual_request(
    resources: Resources, analysis_date: date, mode: BuildMode, as_of: datetime | None, now: datetime
) -> BuildRequest:
    """Return a build request for a generation without a claim, with an attempt above every attempt of a worker."""
    claimed_generation, _ = resources.warehouse.claimed_token(analysis_date)
    attempt = MANUAL_ATTEMPT_MIN + int(now.timestamp()) % 1_000_000
    return BuildRequest(
        key=BuildKey(analysis_date=analysis_date, generation=claimed_generation + 1, attempt=attempt),
        mode=mode,
        trigger="manual",
        phase3_lookback_days=resources.settings.phase3_lookback_days,
        as_of=as_of,
        started_at=now,
        claimant=f"{actor()}/{uuid.uuid4().hex}",
    )


@contextmanager
def _send_lineage(resources: Resources, request: BuildRequest, *, quiet: bool) -> Iterator[SendEnd]:
    """Send the start of the build to OpenLineage, and yield a function that sends the end."""
    from worker.builds.builder import result_from_ledger

    emitter = None if quiet else open_lineage(resources.settings, lambda _result: None)
    if emitter is None:
        yield lambda _outcome: None
        return
    from worker.lineage.openlineage import RunFacts

    key, now = request.key, resources.clock.now
    run = RunFacts(
        analysis_date=key.analysis_date,
        generation=key.generation,
        attempt=key.attempt,
        mode=request.mode,
        trigger=request.trigger,
    )

    def ended(outcome: BuildOutcome) -> None:
        committed = resources.warehouse.read_ledger(key.analysis_date) if outcome.published else None
        if committed is not None:
            emitter.emit([emitter.writer.completed(run, result_from_ledger(committed), now())])
        else:
            emitter.emit([emitter.writer.ended(run, outcome.message, now(), kind="FAIL")])

    emitter.emit([emitter.writer.started(run, request.started_at)])
    try:
        yield ended
    except PipelineError as exc:
        emitter.emit([emitter.writer.ended(run, str(exc), now(), kind="FAIL")])
        raise
    except BaseException as exc:
        emitter.emit([emitter.writer.ended(run, f"broken off: {type(exc).__name__}", now(), kind="ABORT")])
        raise
    finally:
        if not emitter.close(LINEAGE_FLUSH_S):
            err.print(f"lineage events were not all sent to {resources.settings.describe()['MLFS_OPENLINEAGE']}")


def _audit_row(request: BuildRequest, ledger: LedgerRow | None, reason: str) -> dict[str, Any]:
    return replay_row(
        request.key.analysis_date,
        requested_at=request.started_at,
        requested_by=actor(),
        reason=reason,
        mode=request.mode.value,
        request_id=request.claimant,
        previous_state=ledger.state if ledger is not None else None,
        previous_generation=ledger.generation if ledger is not None else 0,
        decision="built_by_hand",
    )


def describe(outcome: BuildOutcome) -> dict[str, Any]:
    """Return the outcome of a build in the fields of `mlfs status`."""
    report, stats, key = outcome.report, outcome.stats, outcome.request.key
    return {
        "analysis_date": key.analysis_date.isoformat(),
        "state": (report.earned_state if outcome.failure is None else State.FAILED).value,
        "generation": key.generation,
        **figures(report),
        "published": outcome.published,
        "failure": {"because": outcome.failure.value, "message": outcome.message} if outcome.failure else None,
        "trigger": outcome.request.trigger,
        "as_of": instant_text(outcome.request.as_of) if outcome.request.as_of is not None else None,
        "dependency_rows": dict(stats.dependency_rows),
        "left_out_count": stats.left_out_count,
        "left_out": [{**entity.identity, "reason": entity.reason} for entity in stats.left_out],
    }


def _show(answer: dict[str, Any], outcome: BuildOutcome, *, dry_run: bool) -> None:
    out.print(dates_table([answer | {"state": f"would be {answer['state']}"} if dry_run else answer]))
    out.print(components_table(answer))
    show_findings(answer)
    for entity in outcome.stats.left_out[:LEFT_OUT_SHOWN_MAX]:
        out.print(f"left out: {entity.label} ({entity.key}): {entity.reason}", markup=False)
    if answer["left_out_count"] > LEFT_OUT_SHOWN_MAX:
        out.print(f"… and {answer['left_out_count'] - LEFT_OUT_SHOWN_MAX} more; the whole list: --json")
    if outcome.failure is not None:
        err.print(f"[red]not published:[/] {outcome.message}")
    if dry_run:
        out.print(
            f"dry run: {answer['analysis_date']} would be {answer['state']} as generation {answer['generation']}; "
            "nothing was published"
        )


def _writable(path: Path | None) -> Path | None:
    """Return the path; refuse an unknown file ending before the other arguments are read."""
    if path is not None:
        export_ending(str(path))
    return path


def features(
    analysis_date: AnalysisDate,
    out_file: Annotated[
        Path,
        typer.Option(
            "--out", metavar="FILE", help="File to write: .parquet, .csv or .jsonl.", callback=_writable, is_eager=True
        ),
    ],
    generation: GenerationOption = None,
    published_by: PublishedByOption = None,
    as_json: Json = False,
) -> None:
    """Write the published features of a date to a file: every column, sorted by the entity's key.

    An existing file is replaced. Exit code 2: no generation of the date is published, or the generation does not exist;
    the message names the existing generations.

    Examples:
      mlfs features 2024-12-15 --out features.parquet
      mlfs features 2024-12-15 --out features.csv --json
      mlfs features 2024-12-15 --out read.parquet --published-by 2024-12-15T23:50:00-05:00
    """
    wanted = Wanted(generation=generation, published_by=published_by)
    folder = out_file.absolute().parent
    if not folder.is_dir():
        raise Refused(f"{out_file} for {analysis_date}: there is no folder {folder}; create the folder")
    with reading_resources() as resources:
        chosen = find_generation(resources.warehouse, analysis_date, wanted)
        rows = resources.warehouse.export_features(analysis_date, chosen.build_id, str(out_file))
        if not rows:
            # A vacuum has deleted the rows meanwhile: leave no empty file, and name the remaining generations.
            out_file.unlink(missing_ok=True)
            find_generation(resources.warehouse, analysis_date, wanted)
        columns = [column.name for column in resources.warehouse.pipeline.output_columns]
    if as_json:
        written = {"file": str(out_file), "rows": rows, "columns": columns}
        published = {
            "state": chosen.state,
            "generation": chosen.generation,
            "build_id": chosen.build_id,
            "published_at": instant_text(chosen.committed_at),
            "quality_score": chosen.quality_score,
            "findings": finding_text.as_json(chosen.findings),
        }
        show_json({"analysis_date": analysis_date.isoformat(), **written, **published})
    else:
        score = f"quality score {number(chosen.quality_score)}, {finding_text.short(chosen.findings)}"
        line = f"{rows} rows in {out_file}: {chosen.state or '-'}, generation {chosen.generation}, {score}"
        out.print(line, markup=False, soft_wrap=True)
