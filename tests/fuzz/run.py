"""Coverage-guided fuzzing of the parsers: `make fuzz INPUTS=1000000`. Needs atheris, which make installs.

First every depth of nesting up to 2,000 and sizes up to 10 MB are delivered, in groups and alone. Then every
input is read as a message, as a push request, and as one field of a message that is otherwise good. It ends with
how many inputs ended how; a finding ends it at once, with a stack and a file `crash-…` that holds the input:
`make fuzz ARGS=crash-…` reads it again.
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["json", "base64", "schemas", "statemachine"]):
    from tests.fuzz.judge import judge_deliveries, judge_message, judge_push
    from tests.fuzz.seeds import SHAPES, messages, nested, pushes, sized, with_one_field

# One more than the parser reads, so that its limit is met too.
INPUT_BYTES_MAX = 64 * 1024 + 1
DEPTH_SWEPT_MAX = 2000
SIZES_SWEPT = (1_000, 60_000, 64 * 1024, 70_000, 1_000_000, 10_000_000)


def main() -> None:
    """Fuzz, or read the named files again."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("files", nargs="*", help="inputs to read again instead")
    wanted = parser.parse_args()
    if not wanted.files:
        _sweep()
    ended: Counter[str] = Counter()
    seen = 0

    def one_input(data: bytes) -> None:
        nonlocal seen
        seen += 1
        ended["message " + judge_message(data)] += 1
        ended["push " + judge_push(data)] += 1
        ended["one field " + judge_message(with_one_field(data))] += 1
        if seen == wanted.inputs:
            _report(seen, ended)

    options = [
        f"-runs={wanted.inputs}",
        f"-max_len={INPUT_BYTES_MAX}",
        "-verbosity=0",
        "-timeout=10",
        "-rss_limit_mb=2048",
    ]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate((*messages(), *pushes())):
            (Path(corpus) / f"{number:03}").write_bytes(seed[:INPUT_BYTES_MAX])
        atheris.Setup([sys.argv[0], *options, *(wanted.files or [corpus])], one_input)
        atheris.Fuzz()


def _sweep() -> None:
    """Deliver messages of every depth and of many sizes."""
    parked = 0
    for shape in SHAPES:
        bodies = [nested(shape, depth) for depth in range(1, DEPTH_SWEPT_MAX + 1)]
        parked += len(judge_deliveries(bodies))
    for size in SIZES_SWEPT:
        bodies = [*sized(size)]
        parked += len(judge_deliveries(bodies))
        for body in bodies:
            judge_push(body)
    sys.stdout.write(
        f"{len(SHAPES) * DEPTH_SWEPT_MAX} depths and {len(SIZES_SWEPT)} sizes, {parked} parked, no finding\n"
    )


def _report(seen: int, ended: Counter[str]) -> None:
    lines = [f"{seen} inputs, no finding", *(f"{count:>10}  {how}" for how, count in ended.most_common())]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
