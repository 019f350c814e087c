"""`mlfs lineage`: source, reason and later change of each feature of a published row."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.console import RenderableType
from rich.markup import escape

from ops.arguments import AnalysisDate, GenerationOption, Json, PublishedByOption, reading_resources, shipped_only
from ops.output import number, out, plain, show_json, table
from worker.date_text import in_zone
from worker.features.generations import Wanted
from worker.lineage.cells import FeatureLineage
from worker.lineage.row import RowLineage, find_player, trace_row

VALUE_FORM = ".4g"
VALUE_WIDTH = 9
PLAYER_ID_MAX = 2**63 - 1


def _read_player(text: str) -> str:
    if text.isdecimal() and int(text) > PLAYER_ID_MAX:
        raise typer.BadParameter(f"must be {PLAYER_ID_MAX} or less, or a name")
    return text


def lineage(
    analysis_date: AnalysisDate,
    player: Annotated[
        str,
        typer.Argument(
            metavar="PLAYER_ID", parser=_read_player, help="The player, by number, or by a part of one player's name."
        ),
    ],
    generation: GenerationOption = None,
    published_by: PublishedByOption = None,
    as_json: Json = False,
) -> None:
    """Show for each feature of a published row the source, the reason, and the changes upstream since the build.

    For a player without a row, the command shows the reason. Times are in the league's zone; UTC in JSON. Exit code 2:
    the analysis date is not published, the generation does not exist, or the player is not active on this date.

    Examples:
      mlfs lineage 2024-12-15 9995663
      mlfs lineage 2024-12-15 9995663 --json
      mlfs lineage 2024-12-15 'Ivo Jarnefors' --generation 1
    """
    with reading_resources() as parts:
        shipped_only(parts.settings)
        wanted = Wanted(generation=generation, published_by=published_by)
        is_number = player.isdecimal()
        player_id = int(player) if is_number else find_player(parts.warehouse, analysis_date, player, wanted)
        traced = trace_row(parts.warehouse, analysis_date, player_id, wanted)
        zone = parts.settings.calendar.zone
    show_json(describe(traced)) if as_json else _show(traced, zone)


def describe(traced: RowLineage) -> dict[str, Any]:
    """Return the lineage of a row for JSON."""
    answer = asdict(traced)
    answer["build"]["ignored"] = sorted(traced.build.ignored)
    changed = [feature.name for feature in traced.features if feature.changed is not None]
    return {**answer, "changed_features": changed}


def _show(traced: RowLineage, zone: ZoneInfo) -> None:
    build = traced.build
    game = f"against {traced.opponent_abbreviation}" if traced.opponent_abbreviation else "no game"
    out.print(
        f"{traced.analysis_date}  {traced.player_name} ({traced.player_id}), {traced.team_abbreviation or 'no team'}, "
        f"{game}",
        markup=False,
        soft_wrap=True,
    )
    out.print(
        f"build {build.build_id} ({build.mode}, {build.trigger}), {build.state}, "
        f"built {build.built_at.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}",
        markup=False,
        soft_wrap=True,
    )
    if not traced.published:
        out.print(f"left out: {traced.left_out_reason}", markup=False, soft_wrap=True)
        return
    out.print(f"row: {traced.data_source}, quality score {number(traced.quality_score)}", markup=False)
    # The tables of one row line up.
    name_width = max(len(feature.name) for feature in traced.features)
    origins: dict[str, list[FeatureLineage]] = {}
    for feature in traced.features:
        origins.setdefault(_origin(feature, zone), []).append(feature)
    for origin, features in origins.items():
        out.print(f"\n{origin}", soft_wrap=True)
        out.print(_features_table(features, zone, name_width))
    if traced.changes:
        out.print()
    for change in traced.changes:
        out.print(f"[yellow]changed since the build:[/] {escape(in_zone(change, zone))}", soft_wrap=True)


def _origin(feature: FeatureLineage, zone: ZoneInfo) -> str:
    source = f"[bold]{feature.source or 'not applicable'}[/]"
    if feature.source_table is None:
        return f"{source}: {plain(in_zone(feature.why, zone))}"
    at = feature.source_processed_at
    processed = f", processed {at.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}" if at is not None else ""
    return f"{source} {feature.source_table} of {feature.source_date}{processed}: {plain(in_zone(feature.why, zone))}"


def _features_table(features: Sequence[FeatureLineage], zone: ZoneInfo, name_width: int) -> RenderableType:
    cells = []
    for feature in features:
        changed = escape(in_zone(feature.changed, zone)) if feature.changed else ""
        note = f"\n[yellow]changed since the build:[/] {changed}" if changed else ""
        name, value = f"  {feature.name:<{name_width}}", f"{number(feature.value, VALUE_FORM):>{VALUE_WIDTH}}"
        cells.append((name, value, f"[dim]{plain(feature.unit)}[/]{note}"))
    return table(("feature", "value", "unit"), cells, numbers={"value"}, texts={"unit"}, header=False)
