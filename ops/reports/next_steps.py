"""Next commands after a diagnosis, each with the purpose. Pure.

A line that begins with `#` is a step for people and not for a shell.
"""

from collections.abc import Callable, Iterator, Mapping

from ops.reports.facts import DateFacts, short
from ops.reports.symptoms import has_idle_worker, time_left
from ops.reports.triage import Cause, Diagnosis, RootCause, phase3_looks
from statemachine.model import PUBLISHED_STATES, TERMINAL_STATES, CompletionStatus, State
from worker.finding_text import shown

Step = tuple[str, str]


def next_steps(facts: DateFacts, found: Diagnosis) -> tuple[Step, ...]:
    """Return the next commands in order."""
    steps = (*_first(facts, found), *_by_cause(facts, found), *_by_findings(facts))
    return tuple(dict(steps).items())


def _first(facts: DateFacts, found: Diagnosis) -> Iterator[Step]:
    day, idle = facts.day, has_idle_worker(facts)
    if facts.untold_too_long:
        yield "mlfs doctor", "what the bus needs; a worker publishes the outcome as soon as the bus takes it"
    if idle:
        yield "mlfs run", "no worker fires the due timer; see also: mlfs doctor"
    left = time_left(facts)
    if left is not None:
        for name in _failed(facts):
            yield f"# run {name} again for {day}", f"with its owner, within {left}: then no fallback is needed"
    if not facts.opened:
        # `mlfs explain` and `mlfs history` refuse an analysis date without a record.
        if facts.ledger_is_ahead:
            yield "mlfs recover", "restores lost records from the ledger"
        elif not idle:
            yield "mlfs doctor", "why no worker has opened the date; a running worker opens the date: mlfs run"
    elif found.severity is None:
        yield f"mlfs explain {day}", "what happens next"
    else:
        yield f"mlfs history {day}", "what happened, step by step"


def _failed(facts: DateFacts) -> list[str]:
    completions = facts.record.completions
    return [
        name
        for name in facts.pipeline.processors
        if name in completions and completions[name].status is CompletionStatus.FAILED
    ]


def _by_cause(facts: DateFacts, found: Diagnosis) -> Iterator[Step]:
    record, day = facts.record, facts.day
    if found.severity is None or found.cause is None:
        return
    if facts.published_is_retracted and record.ignored and record.state in TERMINAL_STATES:
        yield f"mlfs replay {day} --reason 'without what was taken back' --wait 300", "at once, without those tables"
    if (steps := _BY_CAUSE.get(found.cause)) is not None:
        yield from steps(facts, found)
    elif record.state not in PUBLISHED_STATES:
        yield f"mlfs replay {day} --reason '…'", "to build it after all"


def _by_findings(facts: DateFacts) -> Iterator[Step]:
    """Yield the next step of each critical finding and of each warning."""
    about: dict[str, list[str]] = {}
    for finding in shown(facts.grave_findings) or ():
        about.setdefault(finding.next_step, []).append(f"{finding.check} {finding.subject}")
    yield from ((f"# {step}", ", ".join(subjects)) for step, subjects in about.items())


def _repairs(facts: DateFacts) -> Iterator[Step]:
    for look in facts.faulty_tables:
        yield f"# repair {look.table}", look.fault


def _for_the_tables(facts: DateFacts, _found: Diagnosis) -> Iterator[Step]:
    yield from _repairs(facts)
    yield f"mlfs replay {facts.day} --reason 'repaired upstream' --wait 300", "after the repair"


def _for_the_findings(facts: DateFacts, _found: Diagnosis) -> Iterator[Step]:
    yield f"mlfs replay {facts.day} --reason 'repaired upstream' --wait 300", "after the repair of the findings below"


def _for_the_store(facts: DateFacts, _found: Diagnosis) -> Iterator[Step]:
    yield "mlfs doctor", "store, bus, tables, permissions"
    yield f"mlfs replay {facts.day} --reason 'incident' --wait 300", "build it again"


def _for_the_checks(facts: DateFacts, found: Diagnosis) -> Iterator[Step]:
    yield from ((f"# {done.action}", done.name) for done in found.checks if done.name == "phase 5" and done.action)
    yield f"mlfs daily {facts.day}", "the five checks with their expectations"


def _when_unknown(_facts: DateFacts, _found: Diagnosis) -> Iterator[Step]:
    yield "mlfs doctor", "why the warehouse cannot be read; then this command again"


def _for_phase4(facts: DateFacts, found: Diagnosis) -> Iterator[Step]:
    return _when_all_failed(facts) if found.scenario is RootCause.A else _when_some_failed(facts)


def _for_the_roster(facts: DateFacts, _found: Diagnosis) -> Iterator[Step]:
    day, roster = facts.day, facts.pipeline.entity.roster
    look = facts.roster
    if look is not None and look.is_unusable:
        yield f"# repair {roster}", look.fault
    elif look is None or not look.row_count:
        yield f"# load {roster} for {day}", "with the owner of the roster; no active players, so nothing can be built"
    yield f"mlfs replay {day} --reason 'the roster is there' --wait 300", "once the roster has rows"
    if facts.record.result is None:
        yield _yesterday(facts)


def _yesterday(facts: DateFacts) -> Step:
    command = f"mlfs replay {facts.day} --source yesterday --reason 'last resort' --wait 300"
    return command, "until then, the last resort: stale rows, marked as such"


def _when_some_failed(facts: DateFacts) -> Iterator[Step]:
    record, day, absent = facts.record, facts.day, facts.absent
    for name in absent:
        look = facts.upstream.get(name)
        if look is not None and look.is_unusable:
            yield f"# repair {look.table}", look.fault
            continue
        taken_back = name in record.ignored
        cause = "another run counts again" if taken_back else "its log says why it failed"
        yield f"# run {name} again for {day}", f"with its owner; {cause}"
    if record.state in {State.DEGRADED, State.DONE} and facts.now < record.upgrade_cutoff_at:
        cutoff = record.upgrade_cutoff_at
        yield (
            f"mlfs explain {day}",
            f"its success before {cutoff:%Y-%m-%d %H:%M}Z builds the date again by itself",
        )
    yield f"mlfs replay {day} --reason 'repaired {', '.join(absent)}' --wait 300", "after the repair"


def _when_all_failed(facts: DateFacts) -> Iterator[Step]:
    day = facts.day
    yield from _repairs(facts)
    yield "# tell the owners of Phase 3 and Phase 2", "all processors failed together"
    yield f"mlfs replay {day} --reason 'Phase 4 is back' --wait 300", "once they have run"
    if facts.record.result is not None:
        return
    held = phase3_looks(facts)
    must_have = facts.pipeline.entity.must_have
    projected = short(next(one.phase3_table for one in facts.pipeline.features if one.name == must_have))
    rows = held.get(projected)
    if rows != 0 and not (projected in facts.upstream and facts.upstream[projected].is_unusable):
        there = "; Phase 3 was not read" if rows is None else f"; {rows} rows of Phase 3 are there"
        yield f"mlfs replay {day} --force-phase3-fallback --reason 'no Phase 4' --wait 300", f"until then{there}"
    yield _yesterday(facts)


_BY_CAUSE: Mapping[Cause, Callable[[DateFacts, Diagnosis], Iterator[Step]]] = {
    Cause.ROSTER: _for_the_roster,
    Cause.PHASE4: _for_phase4,
    Cause.TABLES: _for_the_tables,
    Cause.FINDINGS: _for_the_findings,
    Cause.FEATURE_STORE: _for_the_store,
    Cause.CHECKS: _for_the_checks,
    Cause.UNKNOWN: _when_unknown,
}
