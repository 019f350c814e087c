"""`python -m tests.simulation.run --seeds 20000`: play many seeds, say what was done, stop at the first violation."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import structlog

from tests.simulation.checker import Violation
from tests.simulation.drawing import DISASTERS, draw, draw_strike
from tests.simulation.raising import code_that_raises
from tests.simulation.sabotage import SABOTAGE
from tests.simulation.store import cheap_codec
from tests.simulation.world import Report, World

# Every so many seeds keep records as JSON, so that what is stored is also what is read back.
REAL_CODEC_EVERY = 16
TRACE_LINES_SHOWN = 120


@dataclass(slots=True)
class Totals:
    """What a set of seeds did together."""

    schedules: int = 0
    steps: int = 0
    commits: int = 0
    modes: Counter[str] = field(default_factory=Counter)
    injected: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)

    def add(self, report: Report) -> None:
        self.schedules += 1
        self.steps += report.steps
        self.commits += report.commits
        self.modes[report.mode] += 1
        self.injected += report.injected
        self.states += report.states


@contextmanager
def quiet() -> Iterator[None]:
    """Log nothing: the trace says more."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        yield
    finally:
        structlog.configure(**before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What is different from the usual run.

    Attributes:
        sabotage: Keys of `SABOTAGE`: what is broken in the product.
        strike: A kind of disaster that hits every schedule while an upgrade waits or runs.
    """

    sabotage: frozenset[str] = frozenset()
    strike: str | None = None

    def arguments(self) -> str:
        """The command line that gives this variant."""
        pairs = [("sabotage", one) for one in sorted(self.sabotage)]
        pairs += [("strike", self.strike)] if self.strike is not None else []
        return "".join(f" --{name} {value}" for name, value in pairs)


USUAL = Variant()


def play(seed: int, variant: Variant = USUAL, trace: list[str] | None = None) -> Report:
    """Play one seed.

    Raises:
        Violation: An invariant is broken.
    """
    schedule = draw(seed) if variant.strike is None else draw_strike(seed, variant.strike)
    with ExitStack() as stack:
        stack.enter_context(quiet())
        if any(happening.kind == "raising" for happening in schedule.happenings):
            stack.enter_context(code_that_raises())
        if seed % REAL_CODEC_EVERY:
            stack.enter_context(cheap_codec())
        tell = None if trace is None else trace.append
        return World(schedule, sabotage=variant.sabotage, trace=tell).run()


def explain(seed: int, variant: Variant = USUAL) -> str:
    """Play a seed again and tell it step by step."""
    trace: list[str] = []
    end = "no violation"
    try:
        play(seed, variant, trace)
    except Violation as exc:
        end = f"VIOLATION {exc}"
    return "\n".join([*trace, end])


def play_all(seeds: Iterable[int], variant: Variant = USUAL) -> tuple[Totals, tuple[int, Violation] | None, float]:
    """Play seeds until one breaks an invariant; give what was done, the violation, and the seconds it took."""
    totals = Totals()
    started = time.perf_counter()
    found = None
    for seed in seeds:
        try:
            totals.add(play(seed, variant))
        except Violation as exc:
            found = (seed, exc)
            break
    return totals, found, time.perf_counter() - started


def describe(totals: Totals, seeds: range, seconds: float) -> str:
    """The report of a run."""

    def listed(counts: Counter[str]) -> str:
        return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))

    return "\n".join(
        [
            f"seeds       {seeds.start}..{seeds.stop - 1}",
            f"schedules   {totals.schedules:,} ({listed(totals.modes)})",
            f"steps       {totals.steps:,}",
            f"faults      {sum(totals.injected.values()):,}: {listed(totals.injected)}",
            f"end states  {listed(totals.states)}; ledger commits {totals.commits:,}",
            f"time        {seconds:.1f} s, {seconds / max(totals.schedules, 1) * 1000:.1f} ms a schedule",
        ]
    )


def parse_seeds(text: str) -> range:
    """`20000` is the first 20,000 seeds; `5..9` is from 5 to 9."""
    first, dots, last = text.partition("..")
    return range(int(first), int(last) + 1) if dots else range(int(first))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=parse_seeds, default=range(2000), help="a count, or first..last")
    parser.add_argument("--seed", type=int, help="one seed, told step by step")
    parser.add_argument("--sabotage", action="append", default=[], choices=SABOTAGE, help="break the product")
    parser.add_argument(
        "--strike", choices=sorted({*DISASTERS, "raising"}), help="hit every schedule with this, at an upgrade"
    )
    return parser.parse_args()


def main() -> int:
    options = read_options()
    write = sys.stdout.write
    variant = Variant(sabotage=frozenset(options.sabotage), strike=options.strike)
    if options.seed is not None:
        write(explain(options.seed, variant) + "\n")
        return 0
    totals, found, seconds = play_all(options.seeds, variant)
    write(describe(totals, options.seeds, seconds) + "\n")
    if found is None:
        write("violations  0\n")
        return 0
    seed, violation = found
    told = explain(seed, variant).splitlines()
    arguments = variant.arguments()
    write(f"violations  1: seed {seed}: {violation}\n\n")
    write("\n".join(told[-TRACE_LINES_SHOWN:]))
    more = f' ARGS="{arguments.strip()}"' if arguments else ""
    write(f"\n\nAgain: make simulate SEEDS={seed}..{seed}{more}\n")
    write(f"Whole:  python -m tests.simulation.run --seed {seed}{arguments}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
