"""Entry point: `mlfs`, or `python -m ops` if the command is not on the path.

Until the function of a command begins, the process has opened no resource: SIGINT and SIGTERM end the process at once,
without a stack trace, also in the middle of an import.
"""

import gc
import os
import signal


def _end_at_once(number: int, _frame: object) -> None:
    os._exit(128 + number)


def main() -> None:
    """Set the signal handlers, import the command line, run the command of the arguments."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end_at_once)
    # No object of the start becomes garbage, and a collection would cost a tenth of `mlfs status`.
    gc.disable()
    # Pydantic searches all installed packages for plugins; the product uses none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from ops import cli, leaving

    def begin() -> None:
        gc.freeze()
        gc.enable()
        leaving.listen()

    cli.main(begin)


if __name__ == "__main__":
    main()
