"""Screen of the demo: a line for each event of the night, and on a terminal a live panel below the lines."""

import threading
from collections.abc import Mapping
from datetime import date, datetime
from types import TracebackType
from typing import Any, Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ops.output import STATE_STYLE, components_table, console, findings_short, number, plain, state_text
from statemachine.events import BuildClaimed, DateOpened, LeaseRenewed
from statemachine.model import CompletionStatus, DateRecord
from worker.clock import OffsetClock
from worker.date_text import in_zone
from worker.observing.observer import BuildScored, BuildStep, Decided, MessageParked, Notice, OutcomeRelayed
from worker.pipelines.shipped import PROCESSORS
from worker.settings import Settings

LEFT_OUT_SHOWN_MAX = 20
LEFT_OUT_OF_MANY = 3


class NightScreen:
    """Screen of a night; the threads of the worker call `note`."""

    def __init__(self, settings: Settings, clock: OffsetClock, *, quiet: bool) -> None:
        self._console = console(quiet=quiet)
        self._zone = settings.calendar.zone
        self._clock = clock
        self._lock = threading.Lock()
        self._record: DateRecord | None = None
        self._steps: list[str] = []
        self._left_out: dict[date, list[dict[str, Any]]] = {}
        self.live = self._console.is_terminal and not quiet
        self._live = Live(get_renderable=self._panel, console=self._console, refresh_per_second=12, transient=True)

    def __enter__(self) -> Self:
        if self.live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Remove the panel; repeatable."""
        if self.live:
            self._live.stop()

    def begin(self, day: date, *, resumed: bool) -> None:
        """Print the head of a night."""
        self._console.rule(f"night of {day}")
        if resumed:
            self._line("this night was played before: the night goes on from the stored state")

    def say(self, text: str) -> None:
        """Print an act of the player."""
        self._line(f"[bold]→[/] {text}")

    def note(self, notice: Notice) -> None:
        """Show the notice as a line of the night."""
        match notice:
            case Decided():
                self._show_decision(notice)
            case BuildStep(text=text):
                with self._lock:
                    self._steps.append(text)
                self._line(f"    [dim]build: {text}[/]")
            case BuildScored(outcome=outcome):
                self._left_out[outcome.request.key.analysis_date] = [
                    {"player_id": player.key, "player_name": player.label, "reason": player.reason}
                    for player in outcome.stats.left_out
                ]
            case MessageParked(reason=reason, detail=detail):
                self._line(f"  [yellow]parked[/] {reason}: {plain(detail)}")
            case OutcomeRelayed(message=message, confirmed=True):
                state, generation = message.attributes["state"], message.attributes["generation"]
                self._line(f"  [magenta]told[/] {message.topic}: {state}, generation {generation}")

    def _show_decision(self, decided: Decided) -> None:
        decision = decided.decision
        with self._lock:
            self._record = decision.record
            if isinstance(decided.event, BuildClaimed):
                self._steps = []
        if isinstance(decided.event, LeaseRenewed):
            return
        if isinstance(decided.event, DateOpened) and not decision.changed:
            return
        after = decision.record
        if decision.changed:
            move = f"{state_text(after.state)} [dim]{decision.reason}[/]"
            self._line(f"  {move}  {plain(in_zone(decided.sentence, self._zone))}", decided.at)
        elif decision.reason in {"duplicate", "outdated"}:
            self._line(f"  {state_text(after.state)} [dim]{decision.reason}: changes nothing[/]", decided.at)

    def left_out(self, day: date) -> list[dict[str, Any]]:
        """Return the players left out of the last build of the date in this run."""
        return self._left_out.get(day, [])

    def show_summary(self, row: Mapping[str, Any]) -> None:
        """Print the end of the night."""
        self._console.print(Panel(_summary(row), title="the night in short", border_style=STATE_STYLE[row["state"]]))
        self._console.print("look at the night again:")
        # A text, not `markup=False`: the console draws the panel with the options of the printed line.
        self._console.print(Text(f"  {row['look_again']}"), soft_wrap=True)

    def _line(self, text: str, at: datetime | None = None) -> None:
        local = (at or self._clock.now()).astimezone(self._zone)
        self._console.print(f"[dim]{local:%H:%M:%S}[/] {text}", soft_wrap=not self.live)

    def _panel(self) -> RenderableType:
        with self._lock:
            record, steps = self._record, list(self._steps)
        if record is None:
            return Text("starting …")
        grid = Table.grid(padding=(0, 2))
        for name in PROCESSORS:
            completion = record.completions.get(name)
            mark = "·" if completion is None else "✗" if completion.status is CompletionStatus.FAILED else "✓"
            grid.add_row(f"[green]{mark}[/]" if mark == "✓" else mark, name)
        working = Text(" → ".join(steps), style="dim")
        local = self._clock.now().astimezone(self._zone)
        title = f"{record.analysis_date}  {local:%H:%M:%S %Z}  {state_text(record.state)}"
        return Panel(Group(grid, working), title=title, title_align="left")


def _summary(row: Mapping[str, Any]) -> Group:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    grid.add_row("state", f"{state_text(row['state'])}, generation {row['generation']}")
    if row["failure"]:
        grid.add_row("because", f"{row['failure']['because']}: {row['failure']['message']}")
    grid.add_row("rows", number(row["row_count"], "d"))
    grid.add_row("score", number(row["quality_score"]))
    grid.add_row("fallback rate", number(row["fallback_rate"], ".1%"))
    grid.add_row("severity", row["severity"] or "none")
    if row["quality_score"] is not None:
        grid.add_row("findings", findings_short(row))
    players = row["left_out_players"]
    shown = players if len(players) <= LEFT_OUT_SHOWN_MAX else players[:LEFT_OUT_OF_MANY]
    for player in shown:
        grid.add_row("left out", f"{player['player_name']} ({player['player_id']}): {player['reason']}")
    if len(players) > len(shown):
        grid.add_row("left out", f"… and {len(players) - len(shown)} more; the whole list: --json")
    grid.add_row("table", row["table"] or "nothing was published")
    for message in row["told"]:
        superseded = f", supersedes {message['supersedes']}" if message["supersedes"] else ""
        grid.add_row(
            "Phase 5 was told",
            f"{message['state']}: {message['row_count']} rows, score {message['quality_score']:.1f} "
            f"({message['event_id']}{superseded})",
        )
    for message in row["on_call_told"]:
        grid.add_row("on call was told", f"{message['state']}: {plain(message['message'])} ({message['event_id']})")
    if not row["told"]:
        grid.add_row("Phase 5 was told", "nothing in this run")
    grid.add_row("worker log", row["log"])
    return Group(grid, Text(), components_table(row)) if row["components"] else Group(grid)
