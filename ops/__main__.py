"""The entry point: `mlfs`, and `python -m ops` where the command is not on the path.

Importing the commands takes most of a second. Signals are heard before that: until a command runs nothing is open, so
SIGINT and SIGTERM end the process at once, without a stack trace.
"""

import os
import signal


def _end_at_once(number: int, _frame: object) -> None:
    os._exit(128 + number)


def main() -> None:
    """Hear signals, import the commands, run the command that the arguments name."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end_at_once)
    from ops import cli, leaving

    leaving.listen()
    cli.main()


if __name__ == "__main__":
    main()
