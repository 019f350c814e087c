"""`make plots` draws the pictures and writes the tables; with `--tables` only the tables, which need no matplotlib."""

import sys

from bench.report.pages import made
from bench.report.results import ROOT, read_results


def main() -> None:
    """Write."""
    results = read_results()
    for path, text in made(results).items():
        path.write_text(text, encoding="utf-8")
    if sys.argv[1:] == ["--tables"]:
        return
    from bench.report.plots import draw_all  # noqa: PLC0415 - matplotlib is there for pictures alone

    for picture in draw_all(results):
        sys.stdout.write(f"{picture.relative_to(ROOT)}: {picture.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
