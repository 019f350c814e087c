"""Arrivals: the reports of the processors that counted, as kept in the table of arrivals. Pure.

Model: a report that changed the record of its analysis date is one arrival; so are the rows that a probe found without
a report (`status` found, received at the instant of the probe). A repeated, outdated or retracted report is none. Each
processor may have several arrivals on a night: a failure, the success that followed, a later run.

The foresight of a night (`mlfs outlook`) and the trial of other rules (`mlfs backtest`) rest on these rows alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from worker.features.model import Statement
from worker.features.pipeline import Pipeline


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
        rows_found: Rows in the processor's table at the build that followed; None without a build.
        caused: Trigger of the generation that followed the report; None if the report started no generation.
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
