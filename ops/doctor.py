"""`mlfs doctor`: looks at everything a night needs before the night does. Changes nothing."""

from collections.abc import Callable, Mapping, Sequence

import typer

from ops.arguments import EXIT_FAILED, EXIT_UNAVAILABLE, Json, guest_parts
from ops.output import out, show_json
from worker.errors import PipelineError, Unavailable
from worker.parts import Parts


def _check_store(parts: Parts) -> Sequence[str]:
    parts.store.check_server()
    return ()


def _check_upstream(parts: Parts) -> Sequence[str]:
    from worker.building import upstream_faults

    return upstream_faults(parts.warehouse)


CHECKS: Mapping[str, Callable[[Parts], Sequence[str]]] = {
    "state store keeps what it is told": _check_store,
    "upstream tables have the columns a build reads": _check_upstream,
}
"""What is looked at, in order. A check gives its faults, each naming what to repair, or raises why it cannot look."""


def doctor(as_json: Json = False) -> None:
    """Check what a night needs, and name everything that is wrong at once.

    Exit codes: 0 nothing is wrong, 1 something is, 4 something did not answer.

    Examples:
      mlfs doctor
      mlfs doctor --json
    """
    with guest_parts() as parts:
        looks = {name: _look(check, parts) for name, check in CHECKS.items()}
    if as_json:
        show_json([{"check": name, "ok": not faults, "faults": faults} for name, (faults, _) in looks.items()])
    else:
        for name, (faults, _) in looks.items():
            out.print(f"{'FAULT' if faults else 'ok   '}  {name}", markup=False)
            for fault in faults:
                out.print(f"       {fault}", markup=False)
    raise typer.Exit(max(code for _, code in looks.values()))


def _look(check: Callable[[Parts], Sequence[str]], parts: Parts) -> tuple[list[str], int]:
    """Give a check's faults and the exit code they mean; one that cannot look must not hide the others."""
    try:
        faults = list(check(parts))
    except Unavailable as exc:
        return [str(exc)], EXIT_UNAVAILABLE
    except PipelineError as exc:
        return [str(exc)], EXIT_FAILED
    return faults, EXIT_FAILED if faults else 0
