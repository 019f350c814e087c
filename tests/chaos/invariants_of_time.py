"""Invariants of what time owes a date: its deadline, also where it failed before it, and the rows that come later."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from tests.chaos.evidence import Evidence, Line, instant
from tests.chaos.finding import CLOCK_S, Finding

# The design's bound from a deadline, or the first healthy worker after it, to its firing.
DEADLINE_BOUND_S = 40.0
# A degraded date is looked at each minute.
LOOK_BOUND_S = 60.0 + DEADLINE_BOUND_S
FIRED = {"deadline_passed", "found_all"}
# An entry that leaves a failed date failed and owes it nothing more.
SETTLED = {"cancelled", "committed_by_older_generation"}


def deadline_fires(seen: Evidence, finding: Finding) -> None:
    """Never early; at most so much later as the time in which something was wrong, and the bound."""
    deadlines: dict[tuple[str, int], float] = {}
    for line in seen.of_kind("record"):
        deadlines.setdefault((line["date"], line["life"]), instant(line["record"]["deadline_at"]))
    for line in seen.of_kind("entry"):
        due = deadlines.get((line["date"], line["life"]))
        if line["reason"] not in FIRED or due is None:
            continue
        at = instant(line["at"])
        if seen.losses_of_one().get(line["date"]):
            continue  # begun anew, with a deadline of its own
        finding.demand(at >= due - CLOCK_S, f"{line['date']}: fired {due - at:.1f} s before its deadline")
        if line["was"] != "failed":
            _in_time(seen, finding, line["date"], due, at)
    _failed_dates_keep_theirs(seen, finding, deadlines)
    _late_rows_are_found(seen, finding)


def _in_time(seen: Evidence, finding: Finding, day: str, due: float, at: float) -> None:
    late = at - due - (seen.disturbed(due, at) if at > due else 0.0)
    finding.demand(late <= DEADLINE_BOUND_S, f"{day}: {late:.1f} quiet seconds after its deadline")


def _failed_dates_keep_theirs(seen: Evidence, finding: Finding, deadlines: Mapping[tuple[str, int], float]) -> None:
    """A date whose attempt was claimed before the deadline and failed is built again at the deadline."""
    for (day, _part), entries in seen.lives().items():
        for place, entry in enumerate(entries):
            due = deadlines.get((day, entry["life"]))
            if due is None or not _is_owed(entries[: place + 1], due):
                continue
            at = instant(entry["at"])
            begun = max(due, at)
            ends = [*_answers(entries[place + 1 :]), *seen.losses(day, at), seen.last]
            _in_time(seen, finding, day, begun, max(begun, ends[0]))


def _is_owed(entries: list[Line], due: float) -> bool:
    """Whether the last of these entries calls a date failed that is owed its deadline."""
    *earlier, last = entries
    if last["now"] != "failed" or last["was"] == "failed" or last["reason"] == "cancelled":
        return False
    claims = [instant(one["at"]) for one in earlier if one["reason"] == "claimed"]
    published = any(one["reason"].startswith("committed_") for one in earlier)
    return bool(claims) and claims[-1] < due and not published


def _answers(later: list[Line]) -> Iterator[float]:
    """When a failed date was taken up again, or was settled."""
    return (instant(one["at"]) for one in later if one["now"] != "failed" or one["reason"] in SETTLED)


def _late_rows_are_found(seen: Evidence, finding: Finding) -> None:
    """The tables that the build of a degraded date missed got no rows in time for a look before its cutoff."""
    wrote, mended = seen.wrote(), seen.mended()
    for day, line in seen.final_records().items():
        record = line["record"]
        if record["state"] != "degraded" or "upgrade_cutoff_at" not in record:
            continue
        cutoff = instant(record["upgrade_cutoff_at"])
        published = datetime.fromisoformat(record["result"]["committed_at"]).astimezone(UTC).timestamp()
        failed = {name for name, one in record.get("completions", {}).items() if one["status"] == "failed"}
        for name, rows in record["result"]["dependency_rows"].items():
            came = wrote.get(day, {}).get(name)
            if rows or came is None or name in failed or record.get("retractions"):
                continue
            # The rows of a run that failed count only once its processor has reported a success.
            begun = max(came, published, instant(record["deadline_at"]), mended.get((day, name), came))
            end = min(cutoff, seen.last)
            missed = end - begun - (seen.disturbed(begun, end) if end > begun else 0.0)
            finding.demand(missed <= LOOK_BOUND_S, f"{day}: rows of {name} lay there for {missed:.0f} s, not found")


def readers_stop_nothing(seen: Evidence, finding: Finding) -> None:
    """While a reader of logs, metrics or HTTP stalls, probes are answered, reports stored and due builds begun."""
    for line in seen.of_kind("reader"):
        finding.demand(line["ok"], f"{line['act']}: {line['name']}: {line['what']}")
    acked = {line["message_id"]: line["t"] for line in seen.of_kind("acked")}
    for act in seen.reader_acts():
        for line in seen.of_kind("published"):
            if act["begin"] <= line["t"] <= act["end"]:
                at = acked.get(line["message_id"], seen.last)
                _not_held_up(seen, finding, f"{act['act']}: {line['date']} {line['processor']}", line["t"], at)
        for (day, _part), entries in seen.lives().items():
            for entry, following in zip(entries, [*entries[1:], None], strict=True):
                at = instant(entry["at"])
                if entry["reason"] == "join_complete" and act["begin"] <= at <= act["end"]:
                    begun = instant(following["at"]) if following is not None else seen.last
                    _not_held_up(seen, finding, f"{act['act']}: the build of {day}", at, begun)


def _not_held_up(seen: Evidence, finding: Finding, what: str, first: float, last: float) -> None:
    waited = last - first - (seen.disturbed(first, last) if last > first else 0.0)
    finding.demand(waited <= DEADLINE_BOUND_S, f"{what} waited {waited:.1f} quiet seconds for a reader")
