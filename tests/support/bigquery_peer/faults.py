"""What goes wrong between the BigQuery peer and its clients, on request."""

import re
import threading
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """One thing that can happen to a job."""

    REFUSED = "the insert is answered with 503, and no job exists"
    REPLY_LOST = "the job is accepted, and its insert answered with 503"
    SILENCE = "the job runs, and from its insert on every call about it is answered with 503"
    DUPLICATE = "the job is accepted, and its insert answered with 409"
    RATE_LIMIT = "the job fails with rateLimitExceeded"
    QUOTA = "the job fails with quotaExceeded"
    CONFLICT = "the job fails: its transaction is aborted due to a concurrent update"
    OUTSTANDING = "the job fails: twenty statements wait for its table already"
    SLOW = "the job runs only after it has been looked at a few times"
    STUCK = "the job is RUNNING until it is cancelled"


@dataclass(slots=True)
class _Planned:
    fault: Fault
    jobs: re.Pattern[str]
    times: int


class PlannedJobFaults:
    """What is planned; each plan hits a number of jobs and is then over."""

    def __init__(self) -> None:
        self._planned: list[_Planned] = []
        self._lock = threading.Lock()

    def plan(self, fault: Fault, jobs: str, *, times: int = 1) -> None:
        """Let *fault* happen to the next *times* jobs whose id holds the regular expression *jobs*."""
        with self._lock:
            self._planned.append(_Planned(fault, re.compile(jobs), times))

    def clear(self) -> None:
        """Let nothing planned happen any more."""
        with self._lock:
            self._planned.clear()

    def take(self, job_id: str) -> Fault | None:
        """Give what happens to a new job, None for nothing."""
        with self._lock:
            for planned in self._planned:
                if planned.times > 0 and planned.jobs.search(job_id):
                    planned.times -= 1
                    return planned.fault
        return None
