"""Invariants of the records and of the workers: reports, deadlines, joins, moves, rest."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from tests.chaos.evidence import Evidence, Line, instant
from tests.chaos.finding import CLOCK_S, Finding
from tests.simulation.moves import ENDED, MOVES, PUBLISHED

PROCESSORS = {
    "team_defense_zone_analysis",
    "player_shot_zone_analysis",
    "player_composite_factors",
    "player_daily_cache",
}
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
    for row in seen.rows("history"):
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
    ledger = {row["analysis_date"]: row["build_id"] for row in seen.rows("ledger") if row["generation"]}
    for day, line in finals.items():
        if line["record"]["state"] in PUBLISHED:
            result = line["record"]["result"]
            same = ledger.get(day) == f"{day}-g{result['generation']}-a{result['attempt']}"
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
