"""`mlfs dlq`: list the dead letters, and publish dead letters to the source topic again.

The messages are leased while the command reads them. A redriven message is removed from the dead letters after the bus
has confirmed the copy in the source topic. After a crash between both steps a message is in both places; the worker
counts the completion once.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.console import RenderableType

from ops.arguments import (
    EXIT_FAILED,
    EXIT_REFUSED,
    EXIT_UNAVAILABLE,
    DryRun,
    Json,
    Yes,
    confirmed,
    finite,
    reading_resources,
)
from ops.output import err, out, plain, show_json, table
from schemas.completion import RefusalReason
from schemas.dead_letter import UNDELIVERED, UNKNOWN, DeadLetter
from worker.dead_letters import LEASE_S, LeasedDeadLetters, Plan, Redriven, Selection, looking, plan_redrive, redrive
from worker.errors import Refused, Unavailable
from worker.ports import ParkedMessage
from worker.resources import Resources

if TYPE_CHECKING:
    from worker.adapters.pubsub.dead_letters import DeadLetterSubscription

BODY_CHARS_SHOWN = 2048
LETTERS_COLUMNS = 110
# Google's service takes about a second for this many messages: print the progress after each such step.
PROGRESS_EVERY = 500

Wait = Annotated[
    float, typer.Option("--wait", help="Seconds without a message that end the list.", min=0.1, max=60, callback=finite)
]


@contextmanager
def _queue(resources: Resources, wait_s: float) -> Iterator["DeadLetterSubscription"]:
    from worker.adapters.pubsub.dead_letters import DeadLetterSubscription

    settings = resources.settings
    queue = DeadLetterSubscription(
        project=settings.pubsub_project,
        subscription=settings.dead_letter_subscription,
        source_topic=settings.topic,
        local_address=resources.bus_address,
        quiet_s=wait_s,
    )
    try:
        yield queue
    finally:
        queue.close()


def list_dead_letters(
    limit: Annotated[int, typer.Option(help="Largest number of messages.", min=1, max=1000)] = 50,
    wait: Wait = 2.0,
    as_json: Json = False,
) -> None:
    """Show the messages in the dead-letter subscription, and the copies in the store; remove no message.

    The messages are leased while the command reads them: a redrive at the same time does not see the messages.

    Examples:
      mlfs dlq list
      mlfs dlq list --limit 500 --json
    """
    with reading_resources() as resources:
        with _queue(resources, wait) as queue, looking(queue, limit) as look:
            letters = [held.letter for held in look.held]
            more = look.more
        copies, fault = _copies(resources, limit)
    if as_json:
        waiting = [_facts(letter) for letter in letters]
        show_json({"waiting": waiting, "more": more, "copies": [_copy_facts(copy) for copy in copies or ()]})
    else:
        _show_waiting(letters, resources.settings.dead_letter_subscription, resources.settings.calendar.zone, more=more)
        known = {letter.original_message_id for letter in letters}
        gone = [copy for copy in copies or () if copy.message_id not in known]
        # With further dead letters unread, a copy without a read message may still wait.
        if gone and not more:
            out.print(f"\n{len(gone)} refused earlier and waiting no more, see: mlfs status")
    if fault:
        err.print(f"the copies in the store cannot be shown: {fault}", markup=False, soft_wrap=True)


def _copies(resources: Resources, limit: int) -> tuple[Sequence[ParkedMessage] | None, str]:
    """Return the copies in the store; without an answer None and the error, so that the messages are still shown."""
    try:
        return resources.store.parked(limit), ""
    except Unavailable as exc:
        return None, str(exc)


def _show_waiting(letters: Sequence[DeadLetter], subscription: str, zone: ZoneInfo, *, more: bool) -> None:
    if not letters:
        out.print(f"nothing waits in {subscription}")
        return
    out.print(letters_table(letters, zone))
    if more:
        out.print(f"and perhaps more; these are the first {len(letters)}: --limit")


def letters_table(letters: Sequence[DeadLetter], zone: ZoneInfo) -> RenderableType:
    """Return the table of messages; on a narrow screen all facts of a message stand beside the id."""
    cells = []
    for letter in letters:
        at = f"{letter.published_at.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}"
        name, reason, detail = plain(letter.message_id), plain(letter.reason), plain(letter.detail)
        again = f", sent again {letter.redriven} times" if letter.redriven else ""
        about = f"{reason}: {detail}\n[dim]published {at}{again}[/]"
        cells.append((at, name, reason, str(letter.redriven), detail, about))
    return table(
        ("published", "message", "reason", "again", "what", "about"),
        cells,
        numbers={"again"},
        texts={"what", "about"},
        wide={"published", "reason", "again", "what"},
        narrow={"about"},
        wide_from=LETTERS_COLUMNS,
    )


def _facts(letter: DeadLetter) -> dict[str, Any]:
    return {
        "message_id": letter.message_id,
        "original_message_id": letter.original_message_id,
        "published_at": letter.published_at.isoformat(),
        "reason": letter.reason,
        "detail": letter.detail,
        "redriven": letter.redriven,
        "attributes": dict(letter.attributes),
        "bytes": len(letter.data),
        "body": letter.data.decode(errors="replace")[:BODY_CHARS_SHOWN],
    }


def _copy_facts(copy: ParkedMessage) -> dict[str, Any]:
    return {
        "message_id": copy.message_id,
        "received_at": copy.received_at.isoformat(),
        "reason": copy.reason,
        "detail": copy.detail,
    }


def redrive_dead_letters(
    reason: Annotated[list[str] | None, typer.Option("--reason", help="Only this reason; repeatable.")] = None,
    message_id: Annotated[list[str] | None, typer.Option("--message-id", help="Only this message; repeatable.")] = None,
    count_max: Annotated[int, typer.Option("--max", help="Largest number of messages.", min=1, max=10_000)] = 1000,
    dry_run: DryRun = False,
    yes: Yes = False,
    wait: Wait = 2.0,
    as_json: Json = False,
) -> None:
    """Publish dead letters to the source topic again after the cause is repaired.

    A running worker takes the messages at once. A message leaves the dead letters only after the bus has confirmed the
    copy. A message that the worker refuses again returns with a higher count; after five redrives the message stays.

    Exit codes: 0 done or no message to send, 1 broken off, 2 refused or not confirmed, 4 the bus does not answer.

    Examples:
      mlfs dlq redrive --reason unknown_processor --dry-run
      mlfs dlq redrive --message-id 1234567 --yes --json
    """
    _check_reasons(reason or ())
    selection = Selection(reasons=frozenset(reason or ()), message_ids=frozenset(message_id or ()))
    # A selected message may lie anywhere in the subscription.
    look_max = 10_000 if reason or message_id else count_max
    with reading_resources() as resources, _queue(resources, wait) as queue:
        settings, looked_at = resources.settings, time.monotonic()
        with looking(queue, look_max) as look:
            plan = plan_redrive(look, selection, count_max=count_max, subscription=settings.subscription)
            _check_named(plan, selection)
            if not as_json:
                _show_plan(look, plan, settings.topic, settings.calendar.zone)
            done = None
            if plan.chosen and not dry_run:
                if not yes and not confirmed(f"send {len(plan.chosen)} again?"):
                    raise typer.Exit(EXIT_REFUSED)
                if time.monotonic() - looked_at > LEASE_S - 60:
                    raise Refused("the lease of the messages may have ended; run the command again")
                done = redrive(queue, plan.chosen, lambda count: _progress(count, len(plan.chosen)))
    _report(look, plan, done, settings.topic, as_json=as_json)


def _check_reasons(reasons: Sequence[str]) -> None:
    known = [*(reason.value for reason in RefusalReason), UNDELIVERED, UNKNOWN]
    strange = [reason for reason in reasons if reason not in known]
    if strange:
        raise Refused(f"no reason of a dead letter: {', '.join(strange)}; there are {', '.join(known)}")


def _check_named(plan: Plan, selection: Selection) -> None:
    meant = [held.letter for held in plan.chosen] + [letter for letter, _ in plan.left]
    found = {name for letter in meant for name in (letter.message_id, letter.original_message_id)}
    missing = sorted(selection.message_ids - found)
    if missing:
        raise Refused(f"not among the dead letters: {', '.join(missing)}; see: mlfs dlq list")


def _show_plan(look: LeasedDeadLetters, plan: Plan, topic: str, zone: ZoneInfo) -> None:
    out.print(f"dead letters looked at: {len(look.held)}{', there may be more' if look.more else ''}")
    if plan.chosen:
        out.print(f"to {topic} again: {len(plan.chosen)}")
        out.print(letters_table([held.letter for held in plan.chosen[:20]], zone))
        if len(plan.chosen) > 20:  # noqa: PLR2004 - the number of shown messages
            out.print(f"and {len(plan.chosen) - 20} more")
    reasons = [why for _, why in plan.left]
    for why in dict.fromkeys(reasons):
        out.print(f"stays: {reasons.count(why)}, {why}", markup=False)


def _progress(count: int, total: int) -> None:
    if total > PROGRESS_EVERY and (count % PROGRESS_EVERY == 0 or count == total):
        err.print(f"sent again {count} of {total}")


def _report(look: LeasedDeadLetters, plan: Plan, done: Redriven | None, topic: str, *, as_json: bool) -> None:
    sent = done.sent if done is not None else ()
    if as_json:
        show_json(
            {
                "topic": topic,
                "looked_at": len(look.held),
                "more": look.more,
                "chosen": [_facts(held.letter) for held in plan.chosen],
                "left": [{**_facts(letter), "why": why} for letter, why in plan.left],
                "applied": done is not None,
                "redriven": [letter.message_id for letter in sent],
                "error": str(done.error) if done is not None and done.error is not None else None,
            }
        )
    elif done is None:
        out.print("dry run: nothing was changed" if plan.chosen else "nothing to send again")
    else:
        out.print(f"sent again: {len(sent)} of {len(plan.chosen)}")
    if done is not None and done.error is not None:
        twice = len(done.sent) - done.removed
        more = f"; {twice} sent messages were not removed and may come twice, which counts once" if twice else ""
        err.print(f"broken off after {len(done.sent)}: {done.error}{more}", markup=False, soft_wrap=True)
        raise typer.Exit(EXIT_UNAVAILABLE if isinstance(done.error, Unavailable) else EXIT_FAILED)
