"""Play a degraded night and write docs/a_degraded_night.md: `make transcript`."""

import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from tests.support.alerting import ROOT
from tests.support.observed_night import missing_program, observed_night
from tests.transcript.handling import handle, render

PAGE = ROOT / "docs" / "a_degraded_night.md"
DEADLINE_IN = timedelta(seconds=30)


def main() -> int:
    if (missing := missing_program()) is not None:
        sys.stderr.write(f"{missing}\n")
        return 1
    with (
        tempfile.TemporaryDirectory(prefix="mlfs-transcript-") as folder,
        observed_night(Path(folder), deadline_in=DEADLINE_IN) as night,
    ):
        night.report_in_time()
        night.wait_for(1)
        page = render(list(handle(night)))
    PAGE.write_text(page, encoding="utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}: {len(page.splitlines())} lines\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
