"""A degraded night handled by a person on call, from the alert to its end: what is typed, and what comes back.

`handle` really does it; `render` makes docs/a_degraded_night.md of what came back. Two handlings differ in instants,
durations and names only; `stable` takes those out, so that a test can tell whether the committed page is still true.
"""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from ops.arguments import actor
from tests.support.observed_night import (
    CHANNEL,
    DEGRADED,
    FAILED,
    FAILING,
    Notice,
    ObservedNight,
    TooSlow,
    observed_night,
)
from worker.clock import SystemClock

# From the launch of the worker to the deadline: time for the alert and for the commands before the deadline.
SOON, LATER = timedelta(seconds=35), timedelta(seconds=100)
# Addresses and hashes of one run.
CUT = ("generatorURL", "fingerprint", "externalURL")
WORKER, PERSON = "worker-1", "oncall@desk"

HEAD = """# A degraded night, from alert to end

A processor fails before the deadline. The alert comes at once, the person on call has the processor run again, and the
date is whole before the cutoff. This page shows the alerts, commands and outputs in order; `make transcript` played the
night and wrote the page.

- **Real**: `mlfs run` and every command, as processes; Prometheus and Alertmanager with the rules and routes of
  `ops/prometheus`; each alert as Alertmanager posted it to a webhook; time.
- **Played**: the four processors and their owners. A script publishes the four reports, and later writes the missing
  table and publishes the success.
- **Set for the play**: the deadline, less than a minute after the failure, in a time zone where it is evening. On a
  real night the failure might come at 23:04; the deadline is at 23:25 and the cutoff at 23:50. Alertmanager's waits are
  a second (15 s and a minute as shipped). The warehouse is the
  [BigQuery peer](adr/0011-a-bigquery-peer-of-our-own.md); the players are invented.
- **Changed afterwards**: the names of worker and person. Addresses and hashes of one run are cut from the alerts.

A test plays the night again and fails if a command prints another output, instants aside. The [runbook](runbook.md)
explains each alert.
"""


@dataclass(frozen=True)
class Prose:
    """What the person thinks, or what happens elsewhere."""

    text: str


@dataclass(frozen=True)
class Delivered:
    """An alert as it came in."""

    notice: Notice


@dataclass(frozen=True)
class Typed:
    """A command and all it printed."""

    words: Sequence[str]
    output: str
    exit_code: int


Entry = Prose | Delivered | Typed


@contextmanager
def handled_night(folder: Path) -> Iterator[tuple[ObservedNight, Sequence[Entry]]]:
    """Play a night and handle it to the end; everything is still up for the caller.

    On a busy machine the deadline may pass before the person has read the alert: then another night with more time.
    """
    with ExitStack() as stack:
        try:
            handled = _played(folder / "night", SOON, stack)
        except TooSlow:
            handled = _played(folder / "another", LATER, stack)
        yield handled


def _played(folder: Path, deadline_in: timedelta, stack: ExitStack) -> tuple[ObservedNight, Sequence[Entry]]:
    folder.mkdir()
    with ExitStack() as own:
        night = own.enter_context(observed_night(folder, deadline_in=deadline_in))
        entries = list(handle(night))
        stack.push(own.pop_all())
    return night, entries


def handle(night: ObservedNight) -> Iterator[Entry]:
    """Play the processors and handle the night; the entries come as things happen.

    Raises:
        TooSlow: The deadline passed before the commands that belong before the deadline were typed.
    """
    night.report_in_time()
    yield from _before_the_deadline(night)
    if SystemClock().now() >= night.deadline_at:
        raise TooSlow(f"the deadline {night.deadline_at} passed while the person was at work")
    night.wait_for(1)
    yield from _degraded(night)
    night.run_again()
    night.wait_for(2)
    yield from _upgraded(night)


def _type_in(night: ObservedNight, *words: str) -> Typed:
    done = night.mlfs(*words)
    text = (done.stdout + done.stderr).replace(night.worker_name(), WORKER).replace(actor(), PERSON)
    return Typed(words, text, done.returncode)


def _before_the_deadline(night: ObservedNight) -> Iterator[Entry]:
    night.report_failure()
    yield Prose(
        "## A processor fails\n\n"
        f"Three processors have reported success; `{FAILING}` reports a failure. The alert comes at once, to\n"
        "the channel for P2: the deadline is still to come."
    )
    yield Delivered(night.notice(CHANNEL, "firing", FAILED))
    yield Prose("First question: does the failure concern tonight only?")
    yield _type_in(night, "status")
    yield Prose("Tonight only. Why did the processor fail, and how much time is left?")
    yield _type_in(night, "incident", night.night.isoformat())
    yield Prose(
        f"The person calls the owner of `{FAILING}` and reads out the error. The owner has the quota raised, and the\n"
        "processor runs again, but not within the time left."
    )


def _degraded(night: ObservedNight) -> Iterator[Entry]:
    day = night.night.isoformat()
    yield Prose(
        "## The deadline passes\n\n"
        "The worker does not wait longer: the features of the failed processor come from Phase 3, and the date is\n"
        "published as degraded. The channel hears what the failure costs."
    )
    yield Delivered(night.notice(CHANNEL, "firing", DEGRADED))
    yield Prose("What is published, and what happens next?")
    yield _type_in(night, "explain", day)
    yield Prose("The success of the processor upgrades the date without a command. What does Phase 5 read meanwhile?")
    yield _type_in(night, "daily", day)


def _upgraded(night: ObservedNight) -> Iterator[Entry]:
    day = night.night.isoformat()
    yield Prose(
        "## The processor runs again\n\n"
        f"Before the cutoff `{FAILING}` has run again: the table is written, the success is reported, and the\n"
        "worker builds the date again."
    )
    yield _type_in(night, "status", day)
    yield Prose("The date is done, and the channel is told that all alerts of the night are over.")
    yield Delivered(night.over(CHANNEL, DEGRADED))
    yield Prose("## Afterwards\n\nIs anything left to do?")
    yield _type_in(night, "incident", day)
    yield Prose("The record of the incident, to be completed for the review:")
    yield _type_in(night, "incident", day, "--record", "-")
    yield Prose("The whole history, for the report in the morning:")
    yield _type_in(night, "history", day)


def render(entries: Sequence[Entry]) -> str:
    """Return the page."""
    return "\n".join([HEAD, *(_show(entry) for entry in entries)]).rstrip("\n") + "\n"


def _show(entry: Entry) -> str:
    match entry:
        case Prose(text):
            return f"{text}\n"
        case Delivered(notice):
            body = json.dumps(_without_cut(notice.body), indent=2, ensure_ascii=False)
            return f"`POST /{notice.receiver}`\n\n```json\n{body}\n```\n"
        case Typed(words, output, exit_code):
            lines = "\n".join(line.rstrip() for line in output.rstrip("\n").split("\n"))
            ending = f"\n(exit code {exit_code})" if exit_code else ""
            return f"```\n$ mlfs {shlex.join(words)}\n{lines}{ending}\n```\n"


def _without_cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_cut(inner) for name, inner in value.items() if name not in CUT}
    return [_without_cut(inner) for inner in value] if isinstance(value, list) else value


_CHANGING = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?", "INSTANT"),
    (r"\b[A-Z][a-z]+day (?=\d{4}-\d\d-\d\d)", ""),
    (r"\d{4}-\d\d-\d\d", "DATE"),
    (r"\b\d\d-\d\d (?=\d\d:\d\d)", ""),
    (r"\b\d\d:\d\d(:\d\d)?Z?", "TIME"),
    (r"TIME ([+-]\d\d|UTC|GMT)\b", "TIME"),
    (r"\bEtc/GMT([+-]\d+)?", "ZONE"),  # the play's, where it is evening
    (r"\b(in|for|since) \d+ (s|min|h)\b", r"\1 A-WHILE"),
    (r"\b\d+ (seconds|minutes)\b", "A-WHILE"),
    (r"\| \d+\.\d s \|", "| A-WHILE |"),
    (r"[─│╭╮╰╯]", " "),
)


def stable(page: str) -> list[tuple[str, list[str]]]:
    """Split a page into blocks: the line that begins each, and its words, less what two nights differ in.

    Words are sorted, since a longer name moves the line breaks of a table.
    """
    blocks = [_stable_block(block) for block in re.split(r"^```", page, flags=re.MULTILINE)]
    return [(block.split("\n")[0], sorted(block.split())) for block in blocks]


def _stable_block(block: str) -> str:
    text = block.strip()
    if text.startswith("json\n"):
        # Which resolved alerts a notice names depends on the moment: see `ObservedNight.over`.
        body = json.loads(text.removeprefix("json"))
        body["alerts"] = [alert for alert in body["alerts"] if alert["status"] == "firing"]
        text = json.dumps({name: body[name] for name in ("receiver", "status", "alerts", "groupLabels")})
    for pattern, name in _CHANGING:
        text = re.sub(pattern, name, text)
    return text


def typed(page: str) -> list[list[str]]:
    """The commands of a page, in order."""
    return [shlex.split(line) for line in re.findall(r"^\$ (mlfs .*)$", page, flags=re.MULTILINE)]
