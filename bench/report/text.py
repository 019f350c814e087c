"""How figures are written: three digits that mean something, a range where there were several runs."""

from collections.abc import Mapping, Sequence
from typing import Any


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Give a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" if line[0] != "---" else "|" + "---|" * len(line) for line in lines)


def amount(value: float) -> str:
    """Give a figure with three digits, and all of a large one's."""
    if value == int(value) or abs(value) >= 100:  # noqa: PLR2004 - three digits
        return f"{value:,.0f}"
    return f"{value:.3g}"


def spread(values: Mapping[str, Any], decimals: int) -> str:
    """Give a median with its range; alone where it was measured once."""
    middle, low, high = (f"{values[name]:,.{decimals}f}" for name in ("median", "low", "high"))
    return middle if len(values["runs"]) == 1 else f"{middle} ({low}-{high})"


def of(values: Mapping[str, float], *names: str) -> tuple[str, ...]:
    """Give some of the figures, with three digits."""
    return tuple(amount(values[name]) for name in names)
