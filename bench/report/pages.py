"""The measured parts of the pages."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.report.results import ROOT, Results
from bench.report.tables import TABLES

PAGES = (ROOT / "README.md", ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "performance.md")
_PART = re.compile(r"(<!-- measured: ([^\n]+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def made(results: Results) -> Mapping[Path, str]:
    """Give each page as it should be.

    Raises:
        KeyError: A page asks for a table that there is none of.
    """
    return {page: refreshed(page.read_text(encoding="utf-8"), results) for page in PAGES}


def refreshed(page: str, results: Results) -> str:
    """Give a page with each measured part made anew."""
    return _PART.sub(lambda found: f"{found[1]}\n{TABLES[found[2]](results)}\n\n{found[4]}", page)


def parts_of(page: str) -> Iterator[str]:
    """Give the names of the measured parts of a page."""
    return (found[2] for found in _PART.finditer(page))
