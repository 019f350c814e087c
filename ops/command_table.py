"""Every command of `mlfs`: the place of the function, and the sentence that `mlfs --help` shows.

`mlfs --help` reads this table and imports no command. A test compares each sentence with the docstring of the function.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Entry(NamedTuple):
    """One command: `module:function`, and the first sentence of the docstring of the function."""

    target: str
    sentence: str


Section = Mapping[str, Entry]

# The sections of `mlfs --help`, by task.
SECTIONS: Mapping[str, Section] = {
    "Begin": {
        "demo": Entry(
            "ops.demo.command:demo",
            "Play a night: the real worker on embedded Pub/Sub, Valkey and DuckDB; four processors report on schedule.",
        ),
        "load": Entry(
            "ops.commands.data:load_folder",
            "Load Parquet files into the embedded warehouse, one table a file, replacing what is there.",
        ),
        "doctor": Entry(
            "ops.commands.doctor:doctor", "Check what a night needs, and name everything that is wrong at once."
        ),
        "config": Entry(
            "ops.commands.status:config",
            "Show every setting as this process reads it, secrets masked; fails with all faults when one is wrong.",
        ),
    },
    "Run the worker": {
        "run": Entry(
            "ops.commands.run:run",
            "Run the worker until SIGTERM or Ctrl-C: pull completions, build, publish, serve /metrics and health.",
        ),
        "serve": Entry(
            "ops.commands.run:serve",
            "Run the push worker until SIGTERM or Ctrl-C: HTTP only, for Cloud Run and its like.",
        ),
        "tick": Entry(
            "ops.commands.run:tick",
            "Open dates, fire what is due, build what is ready, publish outcomes: once, then end.",
        ),
        "emit": Entry("ops.commands.run:emit", "Publish a completion event, as a processor would."),
    },
    "See how analysis dates stand": {
        "status": Entry("ops.commands.status:status", "Show how dates stand."),
        "explain": Entry(
            "ops.commands.status:explain",
            "Show why a date stands as it does: what arrived, what is missing, what happens next.",
        ),
        "history": Entry(
            "ops.commands.status:history",
            "List every change of a date: when, from where to where, why, by whom.",
        ),
        "incident": Entry(
            "ops.reports.incident:incident",
            "Show how bad a night is, the symptoms, the root cause that fits, and what to run next.",
        ),
    },
    "Change an analysis date": {
        "replay": Entry(
            "ops.commands.intervene:replay", "Build a date, or each date of a range, again, as a new generation."
        ),
        "cancel": Entry(
            "ops.commands.intervene:cancel",
            "Stop a date that is waiting or being built; it stays failed until somebody replays it.",
        ),
        "retract": Entry(
            "ops.commands.intervene:retract",
            "Take back the success of a processor whose run was wrong: it no longer counts, and no build reads its "
            "table.",
        ),
        "build": Entry("ops.commands.data:build", "Build one date now and publish it if it passes the gate."),
    },
    "Read published features": {
        "features": Entry(
            "ops.commands.data:features",
            "Write the published features of a date to a file, every column, by the entity's key.",
        ),
        "lineage": Entry(
            "ops.reports.lineage:lineage",
            "Show where each feature of a published row comes from, why, and what has changed upstream since.",
        ),
        "diff": Entry(
            "ops.commands.generations:diff",
            "Show what changed from one published generation of a date to another: rows, cells by column and source.",
        ),
    },
    "Report": {
        "daily": Entry(
            "ops.reports.daily:daily",
            "Go through the daily checklist of one night: was it built, from what, how good, can Phase 5 go on.",
        ),
        "trend": Entry(
            "ops.reports.weekly:trend",
            "Show score, fallback rate and rows, night by night, and whether the score falls.",
        ),
        "reliability": Entry(
            "ops.reports.weekly:reliability",
            "Show which processor fails, comes late, or does not come at all, and on which days of the week.",
        ),
        "durations": Entry(
            "ops.reports.weekly:durations",
            "Show how long builds take: of all attempts from the execution log, and by phase where the store "
            "remembers.",
        ),
        "cost": Entry(
            "ops.reports.cost:cost",
            "Show what the pipeline's BigQuery jobs read, took and cost, by day and by step.",
        ),
    },
    "Repair and clean": {
        "recover": Entry(
            "ops.commands.recover:recover",
            "Restore lost dates from the warehouse's ledger, then have the bus deliver its retained completions again.",
        ),
        "dlq": Entry("", "List and redrive dead letters: messages that were refused, or never acknowledged."),
        "vacuum": Entry(
            "ops.commands.generations:vacuum",
            "Delete rows of attempts that were never published, and of generations superseded "
            "MLFS_KEEP_GENERATIONS days ago.",
        ),
    },
    "Show the interfaces": {
        "schemas": Entry(
            "ops.commands.schemas:schemas",
            "Print JSON Schemas of the messages in and out, and an AsyncAPI 3.0 document of the topics.",
        ),
        "sql": Entry(
            "ops.commands.schemas:sql",
            "Print the SQL that is rendered from the pipeline's definition, in BigQuery's dialect: statements and "
            "tables.",
        ),
    },
    "Measure and rehearse": {
        "bench": Entry("", "Measure what the design promises, each beside its yardstick."),
        "rehearse": Entry("", "Play nights against a worker that runs elsewhere."),
    },
}
# The commands of a group: `mlfs bench build`.
GROUPS: Mapping[str, Section] = {
    "bench": {
        "build": Entry(
            "ops.bench.commands:build",
            "Measure a build from claim to ledger beside a table of its select, and beside the bare join.",
        ),
        "intake": Entry(
            "ops.bench.commands:intake",
            "Measure completions per second, stored and acknowledged, beside a callback that does nothing.",
        ),
        "latency": Entry(
            "ops.bench.commands:latency",
            "Measure the time from the fourth completion's publish to the claim of the build, beside one message's "
            "hop.",
        ),
        "deadline": Entry(
            "ops.bench.commands:deadline", "Measure how late deadlines fire while many other dates are open."
        ),
        "footprint": Entry(
            "ops.bench.commands:footprint",
            "Measure memory and time of a start of `mlfs run`, and what a finished date leaves in the store.",
        ),
        "profile": Entry(
            "ops.bench.commands:profile",
            "Measure what one completion costs by part of its way, and a build of 400 by phase.",
        ),
    },
    "dlq": {
        "list": Entry(
            "ops.commands.dead_letters:list_dead_letters",
            "Show what waits in the dead-letter subscription, and the copies in the store.",
        ),
        "redrive": Entry(
            "ops.commands.dead_letters:redrive_dead_letters",
            "Send dead letters to the source topic again, once their cause is repaired; a running worker takes them "
            "at once.",
        ),
    },
    "rehearse": {
        "prepare": Entry(
            "ops.demo.rehearsal_command:prepare",
            "Write invented upstream files for three nights without Phase 4, and link them into the embedded "
            "warehouse.",
        ),
        "play": Entry(
            "ops.demo.rehearsal_command:play",
            "Play the prepared nights: write each processor's rows, report them on the bus, and listen as Phase 5 "
            "does.",
        ),
    },
}
