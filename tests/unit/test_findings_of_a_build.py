"""Findings on their way: bounded, stored with the result, read back from the ledger, told; a level may refuse."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from schemas.record import decode_record, encode_record
from statemachine.model import FailedBecause, Finding, FindingSeverity, State
from statemachine.reasons import Reason
from tests.support.nights import CACHE, DEADLINE, EVENING, NIGHT, PROCESSORS, REPLAY, done, doubted, finding, retract
from tests.support.rigs import repair_of
from tests.unit.test_builder import Site
from worker.features.findings import (
    FINDINGS_MAX,
    TEXT_CHARS_MAX,
    Check,
    FindingPolicy,
    Found,
    Levels,
    collect,
)
from worker.features.records import read_findings, write_findings
from worker.pipelines.shipped import ROSTER, SHIPPED

USUAL_BYTES_MAX = 4096


class ShortSite(Site):
    """A site whose table of CACHE holds a quarter of the rows that the event claims, judged by *levels*."""

    def __init__(self, **levels: float) -> None:
        super().__init__()
        policy = replace(SHIPPED.findings, levels={Check.CLAIMED_ROWS_DIFFER: Levels(**levels)})
        self.warehouse.pipeline = replace(SHIPPED, findings=policy)
        self.warehouse.rows[CACHE] = 100


def test_a_critical_finding_is_published_as_degraded_and_is_the_same_in_record_ledger_and_message() -> None:
    site = ShortSite(critical=0.5)

    site.builder.run_one(NIGHT)

    result = site.record().result
    assert result is not None
    assert (State.DEGRADED, "P2", CACHE) == (site.record().state, result.severity, result.findings[0].processor)
    assert site.warehouse.ledger[NIGHT].findings == result.findings
    [message] = site.rig.store.outbox(9)
    assert json.loads(message.message.data)["findings"][0]["observed"] == "the table holds 100 rows"


def test_a_store_that_was_lost_gets_the_findings_back_from_the_ledger() -> None:
    built, fresh = ShortSite(critical=0.5), Site()
    built.builder.run_one(NIGHT)

    restored = repair_of(fresh.rig, built.warehouse).restore(NIGHT).record

    known = built.record().result
    assert known is not None
    assert restored.result == known


def test_a_level_that_refuses_closes_the_gate_with_the_sentence_of_the_finding() -> None:
    site = ShortSite(refuse=0.5)

    decision = site.builder.run_one(NIGHT)

    assert decision is not None
    failure = site.record().failure
    assert failure is not None
    assert (Reason.GATE_REFUSED, FailedBecause.GATE_REFUSED) == (decision.reason, failure.because)
    assert f"{CACHE}: the table holds 100 rows, expected 400 rows" in failure.message
    assert site.warehouse.published == []
    assert json.loads(site.warehouse.refused[0]["findings"])[0]["severity"] == "critical"


def test_the_rows_of_a_table_that_no_build_may_read_are_not_compared_with_a_claim() -> None:
    site = ShortSite(critical=0.5)
    site.rig.engine.apply(NIGHT, replace(REPLAY, take_over=True))
    site.builder.settle_retractions = lambda _record: site.rig.engine.apply(NIGHT, retract(CACHE)).record

    site.builder.run_one(NIGHT)

    assert CACHE in site.warehouse.ignored
    assert Check.CLAIMED_ROWS_DIFFER not in {one.check for one in site.warehouse.ledger[NIGHT].findings}


def test_an_unusable_roster_is_no_roster_and_names_the_table_and_the_last_resort() -> None:
    site = Site()

    def columns(table: str) -> Mapping[str, str]:
        return {} if table == ROSTER else SHIPPED.readable[table]

    site.warehouse.columns = columns  # type: ignore[method-assign]
    site.warehouse.players = site.warehouse.left_out = 0

    site.builder.run_one(NIGHT)

    failure = site.record().failure
    assert failure is not None
    assert (State.FAILED, "no_roster") == (site.record().state, failure.because)
    assert f"no active players: table {ROSTER} does not exist" in failure.message
    assert "mlfs replay 2024-12-15 --source yesterday --reason" in failure.message
    assert [("normal", "no_roster")] == site.rig.notes.builds


@pytest.mark.parametrize("as_of", [None, EVENING - timedelta(hours=5)])
def test_a_replay_as_of_an_instant_is_built_as_of_the_instant(as_of: object) -> None:
    site = Site()
    site.rig.engine.apply(NIGHT, replace(REPLAY, as_of=as_of))  # type: ignore[arg-type]

    site.builder.run_one(NIGHT)

    [features] = [statement for statement in site.warehouse.statements if statement.name == "features"]
    assert features.parameters.get("as_of") == as_of


# --- bounds ----------------------------------------------------------------------------------------------------------


def _many(count: int, processor: str = "") -> list[Found]:
    return [Found(finding=replace(finding(processor), subject=f"feature {number:03}")) for number in range(count)]


def test_many_findings_are_cut_and_the_last_says_how_many_are_left_out() -> None:
    kept = collect([*_many(100), *(Found(finding=finding(name, FindingSeverity.WARNING)) for name in PROCESSORS)])

    assert len(kept.findings) == FINDINGS_MAX
    assert kept.findings[-1].observed == "65 further findings are left out"
    assert {one.processor for one in kept.findings} == {"", *PROCESSORS}


def test_a_processor_with_a_critical_finding_is_never_cut() -> None:
    kept = collect([*_many(60, CACHE), Found(finding=replace(finding(PROCESSORS[0]), subject="zzz"))])

    assert {CACHE, PROCESSORS[0]} <= {one.processor for one in kept.findings if one.severity == "critical"}


def test_exactly_the_largest_number_of_findings_is_kept_whole() -> None:
    assert [one.check for one in collect(_many(FINDINGS_MAX)).findings] == ["claimed_rows_differ"] * FINDINGS_MAX


def test_a_long_text_is_cut_and_half_a_character_replaced() -> None:
    [kept] = collect([Found(finding=replace(finding(), observed="x" * 5000, subject="a\ud800b"))]).findings

    assert (TEXT_CHARS_MAX, "…", "a?b") == (len(kept.observed), kept.observed[-1], kept.subject)


def test_the_record_of_a_usual_night_stays_small_and_the_worst_comes_back_whole() -> None:
    findings = collect(_many(100, CACHE)).findings
    usual, worst = doubted(CACHE), doubted()
    assert worst.result is not None
    worst = replace(worst, result=replace(worst.result, findings=findings))

    assert max(len(encode_record(record)) for record in (usual, done())) <= USUAL_BYTES_MAX
    assert decode_record(encode_record(worst)) == worst


# --- the column ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("findings", [None, (), (finding(CACHE),), (finding(), finding(CACHE, FindingSeverity.NOTE))])
def test_the_column_gives_back_what_was_written(findings: tuple[Finding, ...] | None) -> None:
    assert read_findings(write_findings(findings)) == findings


def test_rows_that_no_check_judged_differ_from_rows_without_a_finding() -> None:
    assert (write_findings(None), write_findings(())) == (None, "[]")


@pytest.mark.parametrize("text", ["nonsense", "{}", '[{"check": "x"}]', '[{"severity": "loud"}]', "[1]"])
def test_a_damaged_text_is_a_note_and_stops_no_other_date(text: str) -> None:
    [note] = read_findings(text) or ()

    assert (note.severity, note.processor) == (FindingSeverity.NOTE, "")
    assert "unreadable" in note.observed


def test_fields_of_a_newer_release_are_left_out() -> None:
    [row] = json.loads(write_findings((finding(CACHE),)) or "")

    assert read_findings(json.dumps([row | {"trend": [1, 2]}])) == (finding(CACHE),)


def test_without_a_level_a_check_refuses_nothing() -> None:
    assert not FindingPolicy().refuses(Check.CONSTANT, 1.0)
    assert DEADLINE > EVENING
