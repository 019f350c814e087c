"""The published state diagram is drawn from the transition table, never by hand."""

from pathlib import Path

from statemachine.diagram import render

DIAGRAM = Path(__file__).parents[2] / "docs" / "state_machine.md"


def test_the_state_diagram_is_what_the_transition_table_draws() -> None:
    assert DIAGRAM.read_text(encoding="utf-8") == render(), "out of date; run: make diagram"
