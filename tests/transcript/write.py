"""Play a degraded night and write docs/a_degraded_night.md: `make transcript`."""

import sys
import tempfile
from pathlib import Path

from tests.support.alerting import ROOT
from tests.support.observed_night import missing_program
from tests.transcript.handling import handled_night, render

PAGE = ROOT / "docs" / "a_degraded_night.md"


def main() -> int:
    if (missing := missing_program()) is not None:
        sys.stderr.write(f"{missing}\n")
        return 1
    with (
        tempfile.TemporaryDirectory(prefix="mlfs-transcript-") as folder,
        handled_night(Path(folder)) as (_, entries),
    ):
        page = render(entries)
    PAGE.write_text(page, encoding="utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}: {len(page.splitlines())} lines\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
