"""`mlfs run` whose wall clock steps while it runs, under libfaketime: `python -m tests.chaos.stepping`.

Where libfaketime leaves the monotonic clock alone, it breaks the call that `time.sleep` makes (Python 3.11 sleeps until
an instant of that clock, and gets EINVAL). Google's clients sleep between two tries, so here they wait in `select`.
"""

import select
import sys
import time


def sleep(seconds: float) -> None:
    select.select([], [], [], max(seconds, 0.0))


if __name__ == "__main__":
    time.sleep = sleep  # noqa: TID251 - replaced, not called
    from ops import cli

    sys.argv[1:] = ["run"]
    cli.main()
