"""The judge of a chaos run: `python -m tests.chaos.check HISTORY`. It reads the history and nothing else.

Each invariant of the design is a function that says how much it looked at and what broke it. An invariant that looked
at nothing proves nothing; the report shows the number.
"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.evidence import Evidence, Line, instant
from tests.simulation.moves import BY_A_BUILDER, ENDED, MOVES, PUBLISHED

PROCESSORS = {
    "team_defense_zone_analysis",
    "player_shot_zone_analysis",
    "player_composite_factors",
    "player_daily_cache",
}
PIPELINE = "ml_feature_store_v2"
# The design's bound from a deadline, or the first healthy worker after it, to its firing.
DEADLINE_BOUND_S = 40.0
# Two processes read one clock; what was confirmed may be noted a moment after it was used.
CLOCK_S = 0.25
HISTORY_MAX = 400
GENERATIONS_MAX = 60
KEYS_PER_DATE_MAX = 4
# Operations, requests and the pipeline's own keys expire by themselves; each date sees so many in ten minutes.
PASSING_KEYS_PER_DATE = 120
PROBE_PATIENCE_S = 15.0
REFUSED = 1
READ_ONLY = {
    "store read-only",
    "failover, master dead",
    "failover by order",
    "failover, master cut off with its clients",
}
# A store that stands still is not seen either; what is stored is seen within this.
UNSEEN_S = 8.0


@dataclass(slots=True)
class Finding:
    """How much one invariant looked at, and what broke it."""

    checked: int = 0
    violations: list[str] = field(default_factory=list)

    def demand(self, holds: object, what: str) -> None:
        self.checked += 1
        if not holds:
            self.violations.append(what)


Invariant = Callable[[Evidence, Finding], None]


def single_commit(seen: Evidence, finding: Finding) -> None:
    for (day, generation), jobs in seen.commits().items():
        finding.demand(len(jobs) == 1, f"{day} g{generation}: published by {[job.name for job in jobs]}")
    logged = Counter(
        (row["analysis_date"], row["generation"]) for row in seen.rows("execution") if row["state"] in PUBLISHED
    )
    for (day, generation), times in logged.items():
        finding.demand(times == 1, f"{day} g{generation}: {times} successful executions")
    in_ledger = Counter(row["analysis_date"] for row in seen.rows("ledger"))
    for day, times in in_ledger.items():
        finding.demand(times == 1, f"{day}: {times} ledger rows")


def nothing_lost(seen: Evidence, finding: Finding) -> None:
    """Every confirmed report is in the final record; only a record that was corrupted may have forgotten it."""
    finals = seen.final_records()
    acked = {line["message_id"] for line in seen.of_kind("acked")}
    for line in seen.of_kind("published"):
        what = f"{line['date']} {line['processor']} {line['status']} (message {line['message_id']})"
        finding.demand(line["message_id"] in acked, f"{what}: confirmed, never acknowledged by a worker")
        record = finals.get(line["date"])
        if record is None:
            finding.demand(False, f"{what}: its date is unknown")
            continue
        kept = record["record"].get("completions", {}).get(line["processor"])
        damaged = any(at >= line["t"] for at in seen.losses_of_one().get(line["date"], []))
        stands = kept is not None and (line["status"] == "failed" or kept["status"] in {"success", "found"})
        finding.demand(stands or damaged, f"{what}: the record has {kept}")


def told(seen: Evidence, finding: Finding) -> None:
    """What is published, or failed, was told; what left the outbox, too."""
    heard = {line["outcome"]["event_id"] for line in seen.of_kind("outcome")}
    for day, line in seen.final_records().items():
        record = line["record"]
        if record["state"] in ENDED and record.get("generation"):
            event_id = f"{PIPELINE}:{day}:{record['generation']}"
            finding.demand(event_id in heard, f"{event_id}: {record['state']}, and nobody was told")
    for (day, generation), jobs in seen.commits().items():
        later = [
            job.at for (other, g), found in seen.commits().items() if other == day and g > generation for job in found
        ]
        if not seen.lost_between(day, jobs[0].at, min(later, default=float("inf"))):
            event_id = f"{PIPELINE}:{day}:{generation}"
            finding.demand(event_id in heard, f"{event_id}: committed, and nobody was told")
    for line in seen.of_kind("final_store"):
        finding.demand(line["outbox"] == 0, f"{line['outbox']} outcomes are left in the outbox")


def committed_before_told(seen: Evidence, finding: Finding) -> None:
    commits = seen.commits()
    executed = {
        (row["analysis_date"], row["generation"]): row for row in seen.rows("execution") if row["state"] in PUBLISHED
    }
    for line in seen.of_kind("outcome"):
        outcome = line["outcome"]
        place = (outcome["analysis_date"], outcome["generation"])
        if outcome["state"] == "failed":
            finding.demand(place not in commits, f"{outcome['event_id']}: told as failed, and committed")
            continue
        jobs = commits.get(place, [])
        finding.demand(jobs, f"{outcome['event_id']}: told as {outcome['state']}, and never committed")
        finding.demand(not jobs or jobs[0].at <= line["t"] + CLOCK_S, f"{outcome['event_id']}: told before its commit")
        row = executed.get(place)
        same = row is not None and (row["state"], row["row_count"], row["quality_score"]) == (
            outcome["state"],
            outcome["row_count"],
            outcome["quality_score"],
        )
        finding.demand(same, f"{outcome['event_id']}: told {outcome['quality_score']}, the warehouse has {row}")


def deadline_fires(seen: Evidence, finding: Finding) -> None:
    """Never early; at most so much later as the time in which something was wrong, and the bound."""
    deadlines: dict[tuple[str, int], float] = {}
    for line in seen.of_kind("record"):
        deadlines.setdefault((line["date"], line["life"]), instant(line["record"]["deadline_at"]))
    for line in seen.of_kind("entry"):
        due = deadlines.get((line["date"], line["life"]))
        if line["reason"] not in {"deadline_passed", "found_all"} or due is None:
            continue
        at = instant(line["at"])
        if seen.losses_of_one().get(line["date"]):
            continue  # begun anew, with a deadline of its own
        finding.demand(at >= due - CLOCK_S, f"{line['date']}: fired {due - at:.1f} s before its deadline")
        late = at - due - (seen.disturbed(due, at) if at > due else 0.0)
        finding.demand(late <= DEADLINE_BOUND_S, f"{line['date']}: fired {late:.1f} quiet seconds after its deadline")


def fallback_justified(seen: Evidence, finding: Finding) -> None:
    """At the deadline something had no rows; a build that fell back found a table empty when it began."""
    wrote = seen.wrote()
    for line in seen.of_kind("entry"):
        if line["reason"] != "deadline_passed":
            continue
        at = instant(line["at"])
        filled = {name for name, when in wrote.get(line["date"], {}).items() if when < at - CLOCK_S}
        blind = seen.disturbed(at - PROBE_PATIENCE_S, at) > 0
        finding.demand(
            filled != PROCESSORS or blind, f"{line['date']}: fell back though all tables were filled at its deadline"
        )
    for row in seen.rows("execution"):
        if row["state"] != "degraded":
            continue
        began = instant(row["started_at"])
        filled = {n for n, when in wrote.get(row["analysis_date"], {}).items() if when < began - CLOCK_S}
        finding.demand(
            filled != PROCESSORS, f"{row['build_id']}: degraded though all tables were filled before it began"
        )


def exact_join(seen: Evidence, finding: Finding) -> None:
    successes: dict[str, dict[str, float]] = defaultdict(dict)
    # A report may count before its confirmation reaches the processor.
    for line in seen.of_kind("published"):
        if line["status"] == "success":
            successes[line["date"]].setdefault(line["processor"], line["t"])
    wrote = seen.wrote()
    for line in seen.of_kind("entry"):
        reported = set(successes.get(line["date"], {}))
        if line["reason"] == "join_complete":
            supported = reported | set(wrote.get(line["date"], {}))
            finding.demand(reported and supported == PROCESSORS, f"{line['date']}: joined with {sorted(reported)}")
        if line["reason"] == "found_all":
            supported = reported | set(wrote.get(line["date"], {}))
            finding.demand(supported == PROCESSORS, f"{line['date']}: found all, there are {sorted(supported)}")
    for day, line in seen.final_records().items():
        for name, one in line["record"].get("completions", {}).items():
            true = one["status"] != "success" or name in successes.get(day, {})
            finding.demand(true, f"{day}: counts a success of {name} that nobody sent")
            finding.demand(name in PROCESSORS, f"{day}: counts {name}")
        if line["record"]["state"] == "waiting":
            counted = {n for n, one in line["record"].get("completions", {}).items() if one["status"] != "failed"}
            finding.demand(counted != PROCESSORS, f"{day}: waits with four successes")


def monotone(seen: Evidence, finding: Finding) -> None:
    before: dict[tuple[str, int], Line] = {}
    for line in seen.of_kind("record"):
        place = (line["date"], line["life"])
        earlier = before.get(place)
        before[place] = line
        if earlier is None or seen.losses_of_one().get(line["date"]):
            continue
        finding.demand(
            line["version"] > earlier["version"], f"{line['date']}: version {earlier['version']} -> {line['version']}"
        )
        tokens = [(one["record"].get("generation", 0), one["record"].get("attempt", 0)) for one in (earlier, line)]
        finding.demand(tokens[1] >= tokens[0], f"{line['date']}: {tokens[0]} -> {tokens[1]}")
    newest: dict[tuple[str, str], tuple[int, int]] = {}
    for job in seen.jobs:
        if job.worked:
            last = newest.get((job.day, job.step), (0, 0))
            finding.demand(job.token >= last, f"{job.name}: after {last}")
            newest[job.day, job.step] = job.token
    for row in seen.rows("ledger"):
        claimed = newest.get((row["analysis_date"], "claim"), (0, 0))
        held = (row["claimed_generation"], row["claimed_attempt"])
        finding.demand(held == claimed, f"{row['analysis_date']}: the ledger is claimed by {held}, last was {claimed}")


def fenced(seen: Evidence, finding: Finding) -> None:
    """No publication under an older token than the newest claim; no builder ends what another one has claimed."""
    claims: dict[str, tuple[int, int]] = {}
    for job in seen.jobs:
        if job.worked and job.step == "claim":
            claims[job.day] = max(claims.get(job.day, (0, 0)), job.token)
        elif job.worked:
            finding.demand(
                job.token == claims.get(job.day), f"{job.name}: published under the claim {claims.get(job.day)}"
            )
    for (day, _life), entries in seen.lives().items():
        owner = None
        for entry in entries:
            if entry["reason"] == "claimed":
                owner = entry["actor"]
            elif entry["reason"] in BY_A_BUILDER and entry["was"] == "running" and owner is not None:
                finding.demand(
                    entry["actor"] == owner, f"{day}: {entry['reason']} by {entry['actor']}, claimed by {owner}"
                )


def confluence(seen: Evidence, finding: Finding) -> None:
    """Each night ends as its tables say, whatever came in which order how often."""
    finals, rows = seen.final_records(), {row["date"]: row for row in seen.rows("rows")}
    for expected in seen.rows("expected"):
        day = expected["date"]
        record = finals.get(day, {}).get("record", {})
        finding.demand(
            record.get("state") == expected["state"], f"{day}: {record.get('state')}, not {expected['state']}"
        )
        published = rows.get(day, {"count": 0, "digest": ""})
        finding.demand(
            published["count"] == expected["count"], f"{day}: {published['count']} rows, not {expected['count']}"
        )
        if expected["count"]:
            finding.demand(published["digest"] == expected["digest"], f"{day}: other rows than worked out")
            score = (record.get("result") or {}).get("quality_score")
            finding.demand(score == expected["score"], f"{day}: score {score}, not {expected['score']}")


def isolated(seen: Evidence, finding: Finding) -> None:
    """A reader sees rows of one build of the date itself, and all of them."""
    sizes = {row["build_id"]: row["row_count"] for row in seen.rows("execution") if row["state"] in PUBLISHED}
    for look in seen.of_kind("look"):
        builds = Counter(day for day, _build, _count in look["rows"])
        ledger = {day: build for day, build, _count in look["ledger"]}
        for day, build, count in look["rows"]:
            finding.demand(builds[day] == 1, f"{day}: a reader saw rows of {builds[day]} builds")
            finding.demand(build.startswith(f"{day}-"), f"{day}: holds rows of {build}")
            finding.demand(ledger.get(day) == build, f"{day}: rows of {build}, the ledger says {ledger.get(day)}")
            finding.demand(count == sizes.get(build), f"{day}: a reader saw {count} of {sizes.get(build)} rows")
    ledger_rows = {row["analysis_date"]: row for row in seen.rows("ledger") if row["generation"]}
    for row in seen.rows("rows"):
        finding.demand(
            row["builds"] == [ledger_rows.get(row["date"], {}).get("build_id")], f"{row['date']}: {row['builds']}"
        )


def stable(seen: Evidence, finding: Finding) -> None:
    """Every step of a history is a legal move that follows on the one before; an end is left for a new generation."""
    for (day, _life), entries in seen.lives().items():
        for earlier, entry in zip([None, *entries], entries, strict=False):
            was = entry["was"] or None
            if earlier is not None and was is not None:
                finding.demand(
                    earlier["now"] == was, f"{day}: {entry['reason']} follows {earlier['now']} but left {was}"
                )
            allowed = MOVES[was].get(entry["now"], set())
            finding.demand(entry["reason"] in allowed, f"{day}: {was} -> {entry['now']} by {entry['reason']}")
            if earlier is not None and was in ENDED and entry["now"] not in ENDED:
                higher = entry["generation"] > earlier["generation"]
                finding.demand(higher, f"{day}: left {was} for generation {entry['generation']} again")


def durable_before_ack(seen: Evidence, finding: Finding) -> None:
    """At the moment of its acknowledgement a report stands in the date's history."""
    sent = {line["message_id"]: line for line in seen.of_kind("published") if line["status"] == "success"}
    stored: dict[tuple[str, str, int], float] = {}
    for line in seen.of_kind("entry"):
        words = str(line["detail"]).split()
        if line["event"] == "completion_received" and "reported success" in line["detail"]:
            rows = words[words.index("success,") + 1] if "success," in words else ""
            at = instant(line["at"])
            place = (line["date"], f"{words[0]} {rows}", line["life"])
            stored[place] = min(at, stored.get(place, at))
    for line in seen.of_kind("acked"):
        report, life = sent.get(line["message_id"]), seen.life_at(line["t"])
        if report is None or life is None:
            continue
        day = report["date"]
        at = stored.get((day, f"{report['processor']} {report['rows']}", life))
        if at is None and (
            seen.lost_between(day, line["t"], line["t"] + UNSEEN_S)
            or seen.losses_of_one().get(day)
            or _is_outdated(report, sent.values())
        ):
            continue  # lost before anybody looked, or displaced before it came
        finding.demand(
            at is not None and at <= line["t"] + CLOCK_S,
            f"{day} {report['processor']}: acknowledged at {line['t']:.2f} in life {life}, stored at {at}",
        )


def _is_outdated(report: Line, sent: Any) -> bool:
    same = (report["date"], report["processor"])
    return any((one["date"], one["processor"]) == same and one["run"] > report["run"] for one in sent)


def poison_contained(seen: Evidence, finding: Finding) -> None:
    parked = {line["attributes"].get("mlfs_message_id"): line["attributes"] for line in seen.of_kind("dead_letter")}
    acked = {line["message_id"] for line in seen.of_kind("acked")}
    for line in seen.of_kind("poison"):
        found = parked.get(line["message_id"])
        finding.demand(found and found.get("mlfs_reason"), f"message {line['message_id']} is parked nowhere")
        finding.demand(line["message_id"] in acked, f"message {line['message_id']} was never acknowledged")
    good = {line["message_id"] for line in seen.of_kind("published")}
    for message_id in parked:
        finding.demand(message_id not in good, f"message {message_id} was parked, and was good")
    for line in seen.of_kind("worker"):
        if line["event"] == "ended" and not line["meant"]:
            away = line["code"] in {4, 0} and seen.disturbed(line["t"] - 30, line["t"]) > 0
            finding.demand(away or _was_refused(seen, line), f"{line['name']} ended by itself with {line['code']}")


def _was_refused(seen: Evidence, line: Line) -> bool:
    """A start that meets a read-only replica is refused; the documents say so, and the next start finds the primary."""
    return line["code"] == REFUSED and any(
        act["act"] in READ_ONLY and act["begin"] <= line["t"] <= act["end"] + CLOCK_S for act in seen.of_kind("act")
    )


def gate(seen: Evidence, finding: Finding) -> None:
    rows_min, score_min = seen.settings["rows_min"], seen.settings["score_min"]
    for line in seen.of_kind("outcome"):
        outcome = line["outcome"]
        if outcome["state"] in PUBLISHED:
            passes = outcome["row_count"] >= rows_min and outcome["quality_score"] >= score_min
            finding.demand(passes, f"{outcome['event_id']}: {outcome['row_count']} rows, {outcome['quality_score']}")
    for row in [*seen.rows("ledger"), *[r for r in seen.rows("execution") if r["state"] in PUBLISHED]]:
        if row["generation"]:
            passes = row["row_count"] >= rows_min and row["quality_score"] >= score_min
            finding.demand(passes, f"{row['build_id']}: {row['row_count']} rows, {row['quality_score']}")


def audited(seen: Evidence, finding: Finding) -> None:
    """Who asked stands in the audit before the build that obeys; one request is one generation."""
    audits = seen.rows("audit")
    asked: dict[str, set[str]] = defaultdict(set)
    for line in seen.of_kind("operator"):
        if line["command"] == "replay":
            asked[line["date"]].add(line["key"])
    replayed = [row for row in seen.rows("execution") if row["trigger"] == "replay"]
    for row in replayed:
        begun = instant(row["completed_at"])
        found = [
            a for a in audits if a["analysis_date"] == row["analysis_date"] and instant(a["requested_at"]) <= begun
        ]
        finding.demand(found, f"{row['build_id']}: replayed without a row in the audit before it")
    for day, keys in asked.items():
        generations = {
            row["generation"] for row in replayed if row["analysis_date"] == day and row["state"] in PUBLISHED
        }
        if not seen.losses(day, since=min(line["t"] for line in seen.of_kind("operator"))):
            finding.demand(
                len(generations) <= len(keys), f"{day}: {len(keys)} requests, generations {sorted(generations)}"
            )
    for row in replayed:
        finding.demand(row["analysis_date"] in asked, f"{row['build_id']}: nobody asked for it")


def amnesia(seen: Evidence, finding: Finding) -> None:
    """Nights whose record was lost on the way end as worked out, and without a second commit."""
    finals = seen.final_records()
    commits = seen.commits()
    expected = {row["date"]: row["state"] for row in seen.rows("expected")}
    for day in seen.days:
        begun = min((line["t"] for line in seen.of_kind("night") if line["date"] == day), default=0.0)
        if any(at >= begun for at in seen.losses(day)):
            state = finals.get(day, {}).get("record", {}).get("state")
            finding.demand(state == expected.get(day), f"{day}: {state} after a loss, not {expected.get(day)}")
            again = [g for (other, g), jobs in commits.items() if other == day and len(jobs) > 1]
            finding.demand(not again, f"{day}: generations {again} were committed again after a loss")


def bounded(seen: Evidence, finding: Finding) -> None:
    for day, line in seen.final_records().items():
        record = line["record"]
        finding.demand(len(line["history"]) <= HISTORY_MAX, f"{day}: {len(line['history'])} entries of history")
        finding.demand(record.get("generation", 0) <= GENERATIONS_MAX, f"{day}: generation {record.get('generation')}")
        finding.demand(
            record.get("attempt", 0) <= seen.settings["attempts_max"], f"{day}: attempt {record.get('attempt')}"
        )
    for line in seen.of_kind("final_store"):
        keys_max = (KEYS_PER_DATE_MAX + PASSING_KEYS_PER_DATE) * max(line["dates"], 1) + 50
        finding.demand(line["keys"] <= keys_max, f"{line['keys']} keys for {line['dates']} dates")


def converged(seen: Evidence, finding: Finding) -> None:
    finals = seen.final_records()
    for day in seen.days:
        state = finals.get(day, {}).get("record", {}).get("state")
        finding.demand(state in ENDED, f"{day}: {state} at the end")
    for line in seen.of_kind("final_bus"):
        finding.demand(line["unacked"] == 0, f"{line['unacked']} messages are not acknowledged")
        finding.demand(line["settled"], "it did not come to rest in time")
    ledger = {row["analysis_date"]: row for row in seen.rows("ledger") if row["generation"]}
    for day, line in finals.items():
        if line["record"]["state"] in PUBLISHED:
            result = line["record"]["result"]
            row = ledger.get(day, {})
            same = (result["generation"], result["attempt"]) == (row.get("generation"), row.get("attempt"))
            finding.demand(same, f"{day}: the record's result is not the ledger's")


def truthful(seen: Evidence, finding: Finding) -> None:
    """At rest every replica shows the same, and nothing that is not so."""
    shown = seen.of_kind("final_metrics")
    finding.demand(shown, "no metrics were read")
    latest = sorted(seen.final_records())[-_window(shown) :] if shown else []
    states = Counter(seen.final_records()[day]["record"]["state"] for day in latest)
    for line in shown:
        values = line.get("values")
        if values is None:
            finding.demand(False, f"{line['name']}: {line['error']}")
            continue
        for state in sorted(ENDED | {"waiting", "ready", "running"}):
            told_count = values.get(f'mlfs_dates{{state="{state}"}}')
            finding.demand(
                told_count == states[state], f"{line['name']}: {told_count} dates {state}, there are {states[state]}"
            )
        finding.demand(values.get("mlfs_outbox_pending") == 0, f"{line['name']}: the outbox is shown as pending")
        finding.demand(values.get("mlfs_corrupt_records") == 0, f"{line['name']}: a record is shown as corrupt")
        finding.demand(line["ready"] == 200, f"{line['name']}: not ready at rest ({line['ready']})")


def _window(shown: list[Line]) -> int:
    """How many dates the gauge counts: a window that the worker bounds."""
    values: Mapping[str, float] = shown[0].get("values") or {}
    return int(sum(value for name, value in values.items() if name.startswith("mlfs_dates{"))) or 1


INVARIANTS: Mapping[str, Invariant] = {
    "one commit per (date, generation)": single_commit,
    "no acknowledged completion lost": nothing_lost,
    "done or degraded means told, or in the outbox": told,
    "told means committed, with the same figures": committed_before_told,
    "a deadline fires in time and never early": deadline_fires,
    "fallback only when something was missing": fallback_justified,
    "ready by four successes or filled tables, and by nothing else": exact_join,
    "generation, attempt and version are monotone": monotone,
    "fenced owners change nothing": fenced,
    "order and duplicates do not matter": confluence,
    "one date never touches another, readers see one build": isolated,
    "an end is left only by replay, upgrade or rescue": stable,
    "acknowledged after it was stored": durable_before_ack,
    "bad input is parked with a reason and stops nobody": poison_contained,
    "the gate is respected": gate,
    "audit before effect, one request one effect": audited,
    "a lost store changes no result": amnesia,
    "everything is bounded": bounded,
    "everything comes to rest": converged,
    "metrics tell the truth": truthful,
}


def judge_evidence(seen: Evidence) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, invariant in INVARIANTS.items():
        finding = Finding()
        invariant(seen, finding)
        found[name] = {"checked": finding.checked, "violations": finding.violations}
    return {"violations": sum(len(one["violations"]) for one in found.values()), "invariants": found}


def judge(path: Path) -> dict[str, Any]:
    """The verdict on the history in a file."""
    return judge_evidence(Evidence.read(path))


def show(verdict: Mapping[str, Any]) -> Iterator[str]:
    for name, found in verdict["invariants"].items():
        yield f"{name:<62} {found['checked']:>7} checked  {len(found['violations'])} violations"
        yield from (f"    {what}" for what in found["violations"][:20])
    yield f"violations {verdict['violations']}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("history", type=Path)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    verdict = judge(chosen.history)
    sys.stdout.write(json.dumps(verdict, indent=2) + "\n" if chosen.json else "\n".join(show(verdict)) + "\n")
    return 1 if verdict["violations"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
