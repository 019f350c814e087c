"""Findings as people and scripts read them: JSON form, short form, a line each, and three kinds of answer."""

from typing import Any

import pytest

from ops.output import out, show_findings
from statemachine.model import Finding, FindingSeverity
from worker.finding_text import FindingModel, finding_line, short, shown, worst

CRITICAL, WARNING, NOTE = FindingSeverity.CRITICAL, FindingSeverity.WARNING, FindingSeverity.NOTE


def a_finding(severity: FindingSeverity = CRITICAL, check: str = "unchanged", subject: str = "pace") -> Finding:
    return Finding(
        check=check,
        severity=severity,
        subject=subject,
        observed="97 % of the values did not move",
        expected="less than 60 %",
        next_step="compare both nights: mlfs profile 2024-12-15 pace; UPDATED is no date",
        processor="player_daily_cache",
    )


def test_the_processor_of_a_finding_stays_inside() -> None:
    [model] = shown([a_finding()]) or []

    assert model == FindingModel(
        check="unchanged",
        severity="critical",
        subject="pace",
        observed="97 % of the values did not move",
        expected="less than 60 %",
        next_step="compare both nights: mlfs profile 2024-12-15 pace; UPDATED is no date",
    )


def test_never_judged_is_not_the_same_as_no_findings() -> None:
    assert shown(None) is None
    assert shown(()) == []
    assert (short(None), short(())) == ("not judged", "no findings")
    assert worst(None) == worst(()) == ""


@pytest.mark.parametrize(
    ("findings", "text"),
    [
        ([a_finding()], "1 critical finding: unchanged pace"),
        ([a_finding(WARNING, "shifted"), a_finding(NOTE)], "1 warning: shifted pace; 1 note"),
        (
            [a_finding(subject="a"), a_finding(subject="b"), a_finding(WARNING), a_finding(WARNING), a_finding(NOTE)],
            "2 critical findings: unchanged a, unchanged b; 2 warnings; 1 note",
        ),
        ([a_finding(subject=name) for name in "abcde"], "5 critical findings: unchanged a, unchanged b and 3 more"),
    ],
)
def test_the_short_form_names_the_most_severe(findings: list[Finding], text: str) -> None:
    assert short(findings) == text
    assert short(shown(findings)) == text


def test_a_line_holds_the_evidence() -> None:
    assert finding_line(a_finding()) == "unchanged pace: 97 % of the values did not move, expected less than 60 %"


@pytest.mark.parametrize(
    ("findings", "lines"),
    [
        (None, ["findings: not judged"]),
        ([], ["findings: none"]),
        (
            [vars(model) for model in shown([a_finding(NOTE, subject="[red]pace")]) or []],
            [
                "findings: 1 note: unchanged [red]pace",
                "  note      unchanged [red]pace: 97 % of the values did not move, expected less than 60 %",
                "            next: compare both nights: mlfs profile 2024-12-15 pace; UPDATED is no date",
            ],
        ),
    ],
)
def test_a_command_prints_two_lines_for_each_finding(findings: Any, lines: list[str]) -> None:
    with out.capture() as captured:
        show_findings({"findings": findings})

    assert captured.get().splitlines() == lines
