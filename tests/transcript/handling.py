"""A degraded night handled by a person on call, from the alert to its end: what is typed, and what comes back.

`handle` really does it; `render` makes docs/a_degraded_night.md of what came back. Two handlings differ in instants and
names only; `stable` takes those out, so that a test can tell whether the committed page is still true.
"""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ops.arguments import actor
from tests.support.observed_night import LATE, Notice, ObservedNight

PAGED = {"MlfsSeverityP1", "MlfsFallbackCritical"}
LESSER = {"MlfsSeverityP2"}
# Addresses and hashes of one run.
CUT = ("generatorURL", "fingerprint", "externalURL")
WORKER, PERSON = "worker-1", "oncall@desk"

HEAD = """# A degraded night, from alert to end

Two of four processors are late. This page shows the alerts, commands and outputs of a person on call, in order; `make
transcript` played the night and wrote the page.

- **Real**: `mlfs run` and every command, as processes; Prometheus and Alertmanager with the rules and routes of
  `ops/prometheus`; each alert as Alertmanager posted it to a webhook; time.
- **Played**: the four processors. A script publishes two reports in time and writes the two late tables.
- **Set for the play**: the deadline, seconds ahead, in a time zone where it is evening; Alertmanager's waits (a second;
  15 s and a minute as shipped); the [BigQuery peer](adr/0011-a-bigquery-peer-of-our-own.md) as warehouse; invented
  players.
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


def handle(night: ObservedNight) -> Iterator[Entry]:
    """Handle the night once it is degraded; the entries come as things happen."""
    day = night.night.isoformat()

    def type_in(*words: str) -> Typed:
        done = night.mlfs(*words)
        text = (done.stdout + done.stderr).replace(night.worker_name(), WORKER).replace(actor(), PERSON)
        return Typed(words, text, done.returncode)

    yield Prose("## The pager rings")
    yield Delivered(night.notice("pager", "firing", PAGED))
    yield Prose("The alert names the first command. First question: is only this night degraded?")
    yield type_in("status")
    yield Prose("Only this night. Which processors did not report?")
    yield type_in("explain", day)
    yield Prose("How severe is the degradation, and which step is next?")
    yield type_in("incident", day)
    yield Prose("## The rows for Phase 5 meanwhile")
    yield type_in("daily", day)
    yield Prose(
        "The rows are published and above the quality gate; most come from older data. The owners of the two\n"
        "processors are called. A replay now would read the same tables:"
    )
    yield type_in("replay", day, "--reason", "is it worth it?", "--dry-run")
    yield Prose(
        f"## The first table comes\n\nThe owner has run `{LATE[0]}` again; the report starts the upgrade at once."
    )
    night.write_late_table(LATE[0])
    yield type_in("emit", day, LATE[0], "--rows", "449", "--run-id", "rerun-1")
    night.wait_for(2)
    yield type_in("status", day)
    yield Prose("Better, but not good: the pager gets the end of the alert, and the channel for P2 gets the rest.")
    yield Delivered(night.notice("pager", "resolved", PAGED))
    yield Delivered(night.notice("channel", "firing", LESSER))
    yield Prose(f"## The second table comes\n\n`{LATE[1]}` has run as well.")
    night.write_late_table(LATE[1])
    yield type_in("emit", day, LATE[1], "--rows", "449", "--run-id", "rerun-1")
    night.wait_for(3)
    yield type_in("explain", day)
    yield Delivered(night.notice("channel", "resolved", LESSER))
    yield Prose("## Afterwards")
    yield type_in("incident", day)
    yield type_in("daily", day)
    yield Prose("The whole history, for the report in the morning:")
    yield type_in("history", day)


def render(entries: Sequence[Entry]) -> str:
    """Give the page."""
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
    (r"\bpublished \d+ to", "published ID to"),
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
        # An alert that another receiver had been told of may end in the same moment, or in the next.
        body = json.loads(text.removeprefix("json"))
        body["alerts"] = [one for one in body["alerts"] if one["status"] == body["status"]]
        text = json.dumps({name: body[name] for name in ("receiver", "status", "alerts", "groupLabels")})
    for pattern, name in _CHANGING:
        text = re.sub(pattern, name, text)
    return text


def typed(page: str) -> list[list[str]]:
    """The commands of a page, in order."""
    return [shlex.split(line) for line in re.findall(r"^\$ (mlfs .*)$", page, flags=re.MULTILINE)]
