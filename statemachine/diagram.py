"""Drawing of docs/state_machine.md from the transition table, so that page and table agree."""

from collections import defaultdict

from statemachine.model import State
from statemachine.table import TRANSITIONS

_INTRODUCTION = """\
# The state machine of one analysis date

Drawn from `statemachine/table.py` by `make diagram`; a test fails when it is out of date.
What each reason means: [reasons](reasons.md).
"""


def render() -> str:
    """Return the page: a Mermaid diagram of all moves, and a table of the reasons without a move."""
    moves: dict[tuple[State, State], list[str]] = defaultdict(list)
    stays: dict[State, list[str]] = defaultdict(list)
    for state, events in TRANSITIONS.items():
        for kind, outcomes in events.items():
            for reason, target in outcomes.items():
                if target is state:
                    stays[state].append(f"`{kind}`: {reason}")
                else:
                    moves[state, target].append(reason)
    lines = [_INTRODUCTION, "```mermaid", "stateDiagram-v2", "    [*] --> waiting"]
    for (state, target), reasons in moves.items():
        lines.append(f"    {state} --> {target}: {', '.join(dict.fromkeys(reasons))}")
    lines += ["```", "", "| state | event and reason that leave the date where it is |", "|---|---|"]
    for state in State:
        lines.append(f"| {state} | {', '.join(stays[state])} |")
    return "\n".join(lines) + "\n"
