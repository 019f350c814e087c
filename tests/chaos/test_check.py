"""The judge of the chaos runs misses no culprit: an honest history is acquitted, each forged one is found guilty."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.acts_on_readers import READER_ACTS
from tests.chaos.check import INVARIANTS, judge
from tests.chaos.evidence import READERS
from tests.support.nights import PROCESSORS

DAY, OTHER = "2025-01-10", "2025-01-11"
START = 1_760_000_000.0
BUILD = f"{DAY}-g1-a1"
WORKER = "host-100"
Lines = list[dict[str, Any]]
Forgery = Callable[[Lines], None]


def iso(after_s: float) -> str:
    return datetime.fromtimestamp(START + after_s, UTC).isoformat()


def line(after_s: float, kind: str, **fields: Any) -> dict[str, Any]:
    return {"t": START + after_s, "kind": kind, **fields}


def entry(after_s: float, was: str, now: str, reason: str, **fields: Any) -> dict[str, Any]:
    filled = {"generation": 0, "attempt": 0, "actor": WORKER, "detail": "", "event": "", **fields}
    return line(after_s, "entry", date=DAY, life=1, at=iso(after_s), was=was, now=now, reason=reason, **filled)


def record(after_s: float, version: int, state: str, generation: int = 0, attempt: int = 0) -> dict[str, Any]:
    body = {"state": state, "generation": generation, "attempt": attempt, "deadline_at": iso(30)}
    return line(after_s, "record", date=DAY, life=1, version=version, record=body)


def honest() -> Lines:
    """One night: four reports, one build, one outcome; a message that is none; one loss of the store; one replay."""
    lines = [
        line(0, "settings", lease_s=5, grace_s=6, attempts_max=10, rows_min=200, score_min=75.0),
        line(0, "worker", name="worker-0", pid=100, event="started", place="", skew_s=0),
        line(0, "night", date=DAY, night="full"),
        line(4.0, "reader", act="log reader stalled", name="worker-0", ok=True, what="200", s=0.1),
        line(5.0, "act", act="log reader stalled", hit="worker-0", begin=START + 0.9, end=START + 5.0, life=1),
        line(0.5, "act", act="store emptied", hit="empty", begin=START + 0.4, end=START + 0.5, life=1),
    ]
    for number, name in enumerate(PROCESSORS):
        at, last = 1.0 + number, number == 3
        lines += [
            line(at, "wrote", date=DAY, processor=name),
            line(at + 0.1, "published", date=DAY, processor=name, status="success", run=1, rows=1000 + number,
                 message_id=f"m{number}"),
            entry(at + 0.2, "waiting" if number else "", "ready" if last else "waiting",
                  "join_complete" if last else "recorded", event="completion_received",
                  detail=f"{name} reported success, {1000 + number} rows", generation=int(last)),
            record(at + 0.2, number + 1, "ready" if last else "waiting", int(last)),
            line(at + 0.3, "acked", message_id=f"m{number}"),
        ]  # fmt: skip
    result = {"generation": 2, "attempt": 1, "quality_score": 99.6}
    final = {
        "state": "done", "generation": 2, "attempt": 1, "deadline_at": iso(30), "result": result,
        "completions": {name: {"status": "success"} for name in PROCESSORS},
    }  # fmt: skip
    for generation, at in ((1, 5.0), (2, 15.0)):
        build = f"{DAY}-g{generation}-a1"
        if generation == 2:
            lines += [
                line(at, "operator", command="replay", date=DAY, key="k", code=0),
                line(at, "final_audit", row={"analysis_date": DAY, "requested_at": iso(at)}),
                entry(at, "done", "ready", "replay_accepted", generation=2),
            ]
        lines += [
            entry(at + 0.1, "ready", "running", "claimed", generation=generation, attempt=1),
            line(at + 0.2, "job", job=f"mlfs-{build}-claim", step="claim", error=None, changed=1),
            line(at + 1.0, "job", job=f"mlfs-{build}-publish-x", step="publish", error=None, changed=1),
            line(at + 1.0, "job", job=f"mlfs-{build}-publish-x-r1", step="publish", error=None, changed=0),
            entry(at + 1.1, "running", "done", "committed_done", generation=generation, attempt=1),
            record(at + 1.1, 6 + generation * 3, "done", generation, 1),
            line(at + 1.5, "look", rows=[[DAY, build, 449]], ledger=[[DAY, build]],
                 claims=[[DAY, [generation, 1], generation]], quality=[[DAY, build, 449]],
                 read=[{"date": DAY, "build_id": build, "count": 449, "digest": build}]),
            line(at + 1.2, "outcome", outcome={
                "event_id": f"ml_feature_store_v2:{DAY}:{generation}", "analysis_date": DAY, "generation": generation,
                "state": "done", "row_count": 449, "quality_score": 99.6,
            }),
            line(at + 1.0, "final_history", row={
                "analysis_date": DAY, "build_id": build, "generation": generation, "attempt": 1, "state": "done",
                "row_count": 449, "quality_score": 99.6, "trigger": "replay" if generation == 2 else "join",
                "started_at": iso(at + 0.1), "processed_at": iso(at + 1.0),
            }),
            line(20, "final_stored", row={"date": DAY, "build_id": build, "count": 449, "digest": build}),
        ]  # fmt: skip
    published = [(generation, f"{DAY}-g{generation}-a1", iso(at)) for generation, at in ((1, 6.0), (2, 16.0))]
    names = ("generation", "build_id", "committed_at")
    lines += [
        line(6, "poison", message_id="bad"),
        line(6.1, "dead_letter", attributes={"mlfs_message_id": "bad", "mlfs_reason": "not_json"}, data="b''"),
        line(6.2, "acked", message_id="bad"),
        line(20, "final_record", date=DAY, version=12, record=final, history=[{}] * 8),
        line(20, "final_store", keys=8, outbox=0, dates=1),
        line(20, "final_ledger", row={
            "analysis_date": DAY, "generation": 2, "build_id": f"{DAY}-g2-a1", "claimed_generation": 2,
            "claimed_attempt": 1, "publications": [dict(zip(names, one, strict=True)) for one in published],
        }),
        # Of the first build there is none: its worker died before it could write one.
        line(20, "final_execution", row={"analysis_date": DAY, "build_id": f"{DAY}-g2-a1", "state": "done"}),
        line(20, "final_rows", row={"date": DAY, "count": 449, "digest": "d", "builds": [f"{DAY}-g2-a1"]}),
        line(20, "final_expected", row={"date": DAY, "state": "done", "count": 449, "score": 99.6, "digest": "d"}),
        line(20, "final_bus", unacked=0, faults={}, settled=True),
        line(20, "final_metrics", name="worker-0", ready=200, values={
            **{f'mlfs_dates{{state="{s}"}}': 0.0 for s in ("waiting", "ready", "running", "degraded", "failed")},
            'mlfs_dates{state="done"}': 1.0, "mlfs_outbox_pending": 0.0, "mlfs_corrupt_records": 0.0,
        }),
    ]  # fmt: skip
    return lines


def judged(lines: Lines, folder: Path) -> dict[str, list[str]]:
    path = folder / "history.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in lines), encoding="utf-8")
    return {name: found["violations"] for name, found in judge(path)["invariants"].items()}


def the(lines: Lines, kind: str, number: int = 0) -> dict[str, Any]:
    """The *number*-th line of a kind, to be forged."""
    return [one for one in lines if one["kind"] == kind][number]


def drop(lines: Lines, kind: str, number: int = 0) -> None:
    lines.remove(the(lines, kind, number))


def _commit_twice(lines: Lines) -> None:
    lines.append({**the(lines, "job", 1), "job": f"mlfs-{DAY}-g1-a2-publish-again"})


def _forget_a_publication(lines: Lines) -> None:
    the(lines, "final_ledger")["row"]["publications"].pop(0)


def _list_a_publication_that_never_was(lines: Lines) -> None:
    for number in (1, 2):
        the(lines, "job", number)["changed"] = 0


def _point_at_an_older_build(lines: Lines) -> None:
    the(lines, "final_ledger")["row"] |= {"generation": 1, "build_id": BUILD}


def _judge_a_build_twice(lines: Lines) -> None:
    row = the(lines, "final_history")
    lines.append({**row, "row": {**row["row"], "started_at": iso(5.05)}})


def _log_what_was_never_published(lines: Lines) -> None:
    the(lines, "final_execution")["row"]["build_id"] = f"{DAY}-g2-a2"


def _lose_a_completion(lines: Lines) -> None:
    del the(lines, "final_record")["record"]["completions"][PROCESSORS[0]]


def _forget_an_ack(lines: Lines) -> None:
    drop(lines, "acked")


def _tell_nobody(lines: Lines) -> None:
    drop(lines, "outcome", 1)


def _tell_another_score(lines: Lines) -> None:
    the(lines, "outcome")["outcome"]["quality_score"] = 90.0


def _tell_before_the_commit(lines: Lines) -> None:
    the(lines, "outcome")["t"] = START + 5.2


def _fire_early(lines: Lines) -> None:
    lines.append({**entry(20, "waiting", "ready", "deadline_passed"), "date": OTHER})
    lines.append({**record(1, 1, "waiting"), "date": OTHER})


def _fire_late(lines: Lines) -> None:
    lines.append({**entry(90, "waiting", "ready", "deadline_passed"), "date": OTHER})
    lines.append({**record(1, 1, "waiting"), "date": OTHER})


def _fail_before_the_deadline(lines: Lines, *then: dict[str, Any]) -> None:
    """Another date is built too early and fails, hours before the history ends; *then* is what follows."""
    night = [
        record(1, 1, "waiting"),
        entry(2, "waiting", "ready", "replay_accepted", generation=1),
        entry(3, "ready", "running", "claimed", generation=1, attempt=1),
        entry(4, "running", "failed", "no_data", generation=1, attempt=1),
        *then,
    ]
    lines += [{**one, "date": OTHER} for one in night]
    lines.append(line(200, "look", rows=[], ledger=[], claims=[], quality=[], read=[]))


def _forget_the_deadline_of_a_failed_date(lines: Lines) -> None:
    _fail_before_the_deadline(lines)


def _build_a_failed_date_long_after_its_deadline(lines: Lines) -> None:
    _fail_before_the_deadline(lines, entry(90, "failed", "ready", "found_all", generation=2))


def _overlook_rows(lines: Lines, *, came: float = 40) -> None:
    """A date that ends degraded at 150 s, its cutoff; the rows of the table that its build missed came before."""
    result = {"generation": 1, "attempt": 1, "committed_at": iso(35), "dependency_rows": {PROCESSORS[0]: 0}}
    body = {"state": "degraded", "deadline_at": iso(30), "upgrade_cutoff_at": iso(150), "result": result}
    lines.append(line(came, "wrote", date=OTHER, processor=PROCESSORS[0]))
    lines.append(line(200, "final_record", date=OTHER, version=9, record=body, history=[]))


def _answer_no_probe(lines: Lines) -> None:
    the(lines, "reader").update(ok=False, what="ReadTimeout: timed out")


def _ack_once_the_reader_reads(lines: Lines) -> None:
    the(lines, "acked", 1)["t"] = START + 60


def _build_once_the_reader_reads(lines: Lines) -> None:
    for one in lines:
        if one.get("reason") == "claimed" and one["generation"] == 1:
            one["at"] = iso(60)


def _fall_back_for_nothing(lines: Lines) -> None:
    the(lines, "final_history")["row"]["state"] = "degraded"


def _pass_the_deadline_for_nothing(lines: Lines) -> None:
    lines.append(entry(40, "waiting", "ready", "deadline_passed"))


def _join_three(lines: Lines) -> None:
    drop(lines, "published", 3)
    drop(lines, "wrote", 3)


def _count_a_stranger(lines: Lines) -> None:
    the(lines, "final_record")["record"]["completions"]["somebody"] = {"status": "found"}


def _go_back_a_version(lines: Lines) -> None:
    lines.append(record(17, 3, "done", 2, 1))


def _go_back_a_generation(lines: Lines) -> None:
    lines.append(record(17, 30, "done", 1, 1))


def _take_a_claim_back(lines: Lines) -> None:
    the(lines, "look", 1)["claims"] = [[DAY, [1, 1], 2]]
    the(lines, "look")["claims"] = [[DAY, [1, 2], 1]]


def _publish_as_a_zombie(lines: Lines) -> None:
    the(lines, "job", 1)["t"] = START + 15.5


def _end_anothers_build(lines: Lines) -> None:
    lines.append(entry(5.5, "running", "running", "giving_up", generation=1, attempt=1, actor="host-200"))
    lines.sort(key=lambda one: one["t"])


def _publish_other_rows(lines: Lines) -> None:
    the(lines, "final_rows")["row"]["digest"] = "other"


def _end_otherwise(lines: Lines) -> None:
    the(lines, "final_record")["record"]["state"] = "degraded"


def _show_two_builds(lines: Lines) -> None:
    the(lines, "look", 1)["rows"] = [[DAY, BUILD, 200], [DAY, f"{DAY}-g2-a1", 249]]


def _write_into_another_date(lines: Lines) -> None:
    the(lines, "look")["rows"] = [[DAY, f"{OTHER}-g1-a1", 449]]


def _show_half(lines: Lines) -> None:
    the(lines, "look")["rows"] = [[DAY, BUILD, 200]]


def _leave_the_end(lines: Lines) -> None:
    moved = next(one for one in lines if one.get("reason") == "replay_accepted")
    moved["reason"] = "build_due"


def _leave_the_end_in_the_same_generation(lines: Lines) -> None:
    next(one for one in lines if one.get("reason") == "replay_accepted")["generation"] = 1


def _tear_a_chain(lines: Lines) -> None:
    lines.remove(next(one for one in lines if one.get("reason") == "claimed"))


def _ack_before_storing(lines: Lines) -> None:
    the(lines, "acked", 1)["t"] = START + 1.5


def _ack_without_storing(lines: Lines) -> None:
    drop(lines, "entry", 1)


def _park_without_a_reason(lines: Lines) -> None:
    the(lines, "dead_letter")["attributes"]["mlfs_reason"] = ""


def _swallow_poison(lines: Lines) -> None:
    drop(lines, "dead_letter")


def _crash(lines: Lines) -> None:
    lines.append(line(18, "worker", name="worker-0", pid=100, event="ended", code=-11, meant=False, place=""))


def _publish_another_quality(lines: Lines) -> None:
    the(lines, "look")["quality"] = [[DAY, f"{DAY}-g2-a1", 449]]


def _change_rows_that_were_read(lines: Lines) -> None:
    the(lines, "final_stored")["row"]["digest"] = "other"


def _remove_a_superseded_generation(lines: Lines) -> None:
    for one in [one for one in lines if one["kind"] == "look"]:
        one["read"] = []
    drop(lines, "final_stored")


def _pass_the_gate_below(lines: Lines) -> None:
    the(lines, "final_history")["row"]["row_count"] = 199


def _publish_what_the_gate_refused(lines: Lines) -> None:
    the(lines, "final_history")["row"]["state"] = "failed"


def _audit_afterwards(lines: Lines) -> None:
    the(lines, "final_audit")["row"]["requested_at"] = iso(16.5)


def _replay_unasked(lines: Lines) -> None:
    drop(lines, "operator")


def _answer_a_replay_with_the_older_commit(lines: Lines) -> None:
    last = [one for one in lines if one.get("reason") == "committed_done"][-1]
    last["generation"] = 1


def _answer_a_replay_with_another_build(lines: Lines) -> None:
    the(lines, "final_history", 1)["row"]["trigger"] = "manual"


def _forget_after_a_loss(lines: Lines) -> None:
    the(lines, "final_record")["record"]["state"] = "waiting"


def _grow_a_history(lines: Lines) -> None:
    the(lines, "final_record")["history"] = [{}] * 500


def _keep_keys(lines: Lines) -> None:
    the(lines, "final_store")["keys"] = 5000


def _wait_for_ever(lines: Lines) -> None:
    the(lines, "final_record")["record"]["state"] = "ready"


def _leave_a_message(lines: Lines) -> None:
    the(lines, "final_bus")["unacked"] = 1


def _disagree_with_the_ledger(lines: Lines) -> None:
    the(lines, "final_ledger")["row"]["build_id"] = f"{DAY}-g2-a2"


def _show_a_wrong_state(lines: Lines) -> None:
    values = the(lines, "final_metrics")["values"]
    values['mlfs_dates{state="done"}'], values['mlfs_dates{state="failed"}'] = 0.0, 1.0


def _show_nothing(lines: Lines) -> None:
    drop(lines, "final_metrics")


FORGERIES: dict[str, list[Forgery]] = {
    "one commit per (date, generation)": [
        _commit_twice,
        _forget_a_publication,
        _list_a_publication_that_never_was,
        _point_at_an_older_build,
        _judge_a_build_twice,
        _log_what_was_never_published,
    ],
    "no acknowledged completion lost": [_lose_a_completion, _forget_an_ack],
    "done or degraded means told, or in the outbox": [_tell_nobody],
    "told means committed, with the same figures": [_tell_another_score, _tell_before_the_commit],
    "a deadline fires in time and never early": [
        _fire_early,
        _fire_late,
        _forget_the_deadline_of_a_failed_date,
        _build_a_failed_date_long_after_its_deadline,
        _overlook_rows,
    ],
    "fallback only when something was missing": [_fall_back_for_nothing, _pass_the_deadline_for_nothing],
    "ready by four successes or filled tables, and by nothing else": [_join_three, _count_a_stranger],
    "generation, attempt and version are monotone": [
        _go_back_a_version,
        _go_back_a_generation,
        _take_a_claim_back,
    ],
    "fenced owners change nothing": [_publish_as_a_zombie, _end_anothers_build],
    "order and duplicates do not matter": [_publish_other_rows, _end_otherwise],
    "one date never touches another, readers see one build": [
        _show_two_builds,
        _write_into_another_date,
        _show_half,
        _publish_another_quality,
    ],
    "a published generation can be read again later": [_change_rows_that_were_read, _remove_a_superseded_generation],
    "an end is left only by replay, upgrade or rescue": [
        _leave_the_end,
        _leave_the_end_in_the_same_generation,
        _tear_a_chain,
    ],
    "acknowledged after it was stored": [_ack_before_storing, _ack_without_storing],
    "bad input is parked with a reason and stops nobody": [_park_without_a_reason, _swallow_poison, _crash],
    "a reader that is slow or gone stops nothing": [
        _answer_no_probe,
        _ack_once_the_reader_reads,
        _build_once_the_reader_reads,
    ],
    "the gate is respected": [_pass_the_gate_below, _publish_what_the_gate_refused],
    "audit before effect, one request one effect": [_audit_afterwards, _replay_unasked],
    "a replay leads to a build of its own": [
        _answer_a_replay_with_the_older_commit,
        _answer_a_replay_with_another_build,
    ],
    "a lost store changes no result": [_forget_after_a_loss],
    "everything is bounded": [_grow_a_history, _keep_keys],
    "everything comes to rest": [
        _wait_for_ever,
        _leave_a_message,
        _disagree_with_the_ledger,
    ],
    "metrics tell the truth": [_show_a_wrong_state, _show_nothing],
}


def test_an_honest_history_is_acquitted_and_every_invariant_looked_at_something(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    lines = honest()
    assert {name: found for name, found in judged(lines, tmp_path).items() if found} == {}

    blind = {name for name, found in judge(path)["invariants"].items() if not found["checked"]}
    # An honest night on time passes no deadline.
    assert blind <= {"a deadline fires in time and never early", "fallback only when something was missing"}


def on_a_file() -> Lines:
    """The same night on a DuckDB file, which notes no jobs."""
    lines = [one for one in honest() if one["kind"] != "job"]
    the(lines, "settings")["warehouse"] = "duckdb"
    return lines


def test_a_run_on_a_file_is_judged_by_what_its_ledger_lists(tmp_path: Path) -> None:
    lines = on_a_file()
    assert {name: found for name, found in judged(lines, tmp_path).items() if found} == {}

    lines = on_a_file()
    _forget_a_publication(lines)
    lost = judged(lines, tmp_path)
    assert lost["told means committed, with the same figures"]
    assert lost["one date never touches another, readers see one build"]

    lines = on_a_file()
    listed = the(lines, "final_ledger")["row"]["publications"]
    listed.insert(1, {**listed[0], "build_id": f"{DAY}-g1-a2"})
    assert judged(lines, tmp_path)["one commit per (date, generation)"]


@pytest.mark.parametrize(
    "then",
    [
        entry(50, "failed", "ready", "found_all", generation=2),
        entry(50, "failed", "failed", "cancelled", generation=1),
        entry(20, "failed", "ready", "rescue_started", generation=2),
    ],
    ids=lambda then: then["reason"],
)
def test_a_failed_date_that_is_taken_up_again_or_stopped_is_no_crime(then: dict[str, Any], tmp_path: Path) -> None:
    lines = honest()
    _fail_before_the_deadline(lines, then)

    assert not judged(lines, tmp_path)["a deadline fires in time and never early"]


def test_rows_that_come_too_late_for_a_look_are_no_crime(tmp_path: Path) -> None:
    lines = honest()
    _overlook_rows(lines, came=100)

    assert not judged(lines, tmp_path)["a deadline fires in time and never early"]


@pytest.mark.parametrize(("success_at", "guilty"), [(40, True), (100, False)])
def test_rows_of_a_run_that_failed_are_looked_for_from_its_success_on(
    success_at: float, guilty: bool, tmp_path: Path
) -> None:
    lines = honest()
    _overlook_rows(lines)
    for at, status in ((35, "failed"), (success_at, "success")):
        said = {"date": OTHER, "processor": PROCESSORS[0], "run": 1, "rows": 1, "message_id": status}
        lines += [line(at, "published", status=status, **said), line(at, "acked", message_id=status)]

    assert guilty == bool(judged(lines, tmp_path)["a deadline fires in time and never early"])


def test_every_act_on_a_reader_is_known_to_excuse_nothing() -> None:
    assert set(READER_ACTS) == READERS


@pytest.mark.parametrize(
    ("invariant", "forge"),
    [(name, forge) for name, forgeries in FORGERIES.items() for forge in forgeries],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_a_forged_history_is_found_guilty_of_its_crime(invariant: str, forge: Forgery, tmp_path: Path) -> None:
    lines = honest()
    forge(lines)

    assert judged(lines, tmp_path)[invariant]


def test_every_invariant_has_a_forgery() -> None:
    assert set(FORGERIES) == set(INVARIANTS)
