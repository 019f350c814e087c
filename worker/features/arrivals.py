"""Arrivals: the reports of the processors that counted, as kept in the table of arrivals. Pure.

Model: a report that changed the record of its analysis date is one arrival; so are the rows that a probe found without
a report (`status` found, received at the instant of the probe). A repeated, outdated or retracted report is none. Each
processor may have several arrivals on a night: a failure, the success that followed, a later run.

The foresight of a night (`mlfs outlook`) and the trial of other rules (`mlfs backtest`) rest on these rows alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any

from statemachine.model import CompletionStatus
from worker.features.model import Statement
from worker.features.pipeline import Pipeline

# Columns that name an arrival: the table holds each arrival once.
IDENTITY = ("analysis_date", "processor", "run", "status")
# Beginning of the run of an arrival that `mlfs recover` has read off a build.
BUILD_RUN = "build:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A report that counted; the fields are the columns of the table.

    Attributes:
        analysis_date: Date in the league's calendar.
        processor: Processor of the report.
        run: Identity of the run, as in `statemachine.model.Completion.identity`.
        status: success, failed or found.
        completed_at: End of the run. UTC.
        received_at: Instant of the commit that stored the report. UTC.
        lateness_s: Seconds from the deadline of the analysis date to `received_at`; negative before the deadline.
        rows_claimed: Rows according to the report; None if not reported.
        rows_found: Rows in the processor's table at the next publication; None without a publication, or if a later
            publication has replaced the publication before the arrival was written.
        caused: Trigger of the first generation that began with the report or later; None if no generation followed
            before the arrival was written.
    """

    analysis_date: date
    processor: str
    run: str
    status: str
    completed_at: datetime
    received_at: datetime
    lateness_s: float
    rows_claimed: int | None = None
    rows_found: int | None = None
    caused: str | None = None

    @property
    def identity(self) -> tuple[date, str, str, str]:
        """Return the values of the columns `IDENTITY`."""
        return self.analysis_date, self.processor, self.run, self.status

    @property
    def is_timed(self) -> bool:
        """Return whether the instant of the report is known; the rows that a build saw had come at some time before."""
        return not self.run.startswith(BUILD_RUN)

    @property
    def deadline_at(self) -> datetime:
        """Return the deadline of the analysis date, UTC."""
        return self.received_at - timedelta(seconds=self.lateness_s)


def plan_arrivals(first: date, last: date, pipeline: Pipeline) -> Statement:
    """Plan the statement that reads the arrivals of the analysis dates *first* to *last*."""
    values = {"first_date": first, "last_date": last}
    return Statement(name="arrivals", sql=pipeline.text("arrivals"), parameters=values)


def read_arrivals(rows: Sequence[Mapping[str, Any]]) -> tuple[Arrival, ...]:
    """Read the answer to the statement `arrivals`, by analysis date and instant of the report."""
    return tuple(Arrival(**row) for row in rows)


def plan_arrivals_of_builds(first: date, last: date, pipeline: Pipeline) -> Statement:
    """Plan the statement that reads what builds saw of the nights *first* to *last* without a stored arrival."""
    values = {"first_date": first, "last_date": last}
    return Statement(name="arrivals_of_builds", sql=pipeline.text("arrivals_of_builds"), parameters=values)


def read_arrivals_of_builds(
    rows: Sequence[Mapping[str, Any]], deadline_of: Callable[[date], datetime]
) -> tuple[Arrival, ...]:
    """Read the answer to the statement `arrivals_of_builds`: found rows, received at the start of the build.

    The run is `build:` and the build id: the rows were in the table by then, and the report of the run is not known.

    Args:
        rows: The answer.
        deadline_of: Returns the deadline of an analysis date, UTC.
    """
    return tuple(
        Arrival(
            analysis_date=row["analysis_date"],
            processor=row["processor"],
            run=f"{BUILD_RUN}{row['build_id']}",
            status=CompletionStatus.FOUND.value,
            completed_at=row["started_at"],
            received_at=row["started_at"],
            lateness_s=(row["started_at"] - deadline_of(row["analysis_date"])).total_seconds(),
            rows_found=row["row_count"],
        )
        for row in rows
    )


def arrival_rows(arrivals: Sequence[Arrival]) -> list[dict[str, Any]]:
    """Return the rows of the table of arrivals; the keys are the columns."""
    return [asdict(arrival) for arrival in arrivals]
