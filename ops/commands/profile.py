"""`mlfs profile`: distributions of the features of a published date beside the nights before. Reads the warehouse."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import RenderableType

from ops.arguments import AnalysisDate, Json, reading_resources
from ops.output import counted, list_findings, number, out, plain, severity_text, show_json, table
from worker.builds.generations import describe_distributions, read_distributions
from worker.calendar import with_weekday
from worker.features.distributions import (
    Distribution,
    Distributions,
    NightStatistics,
    bin_names,
    only,
    shares,
)
from worker.finding_text import worst

BLOCKS = " ▁▂▃▄▅▆▇█"
BAR_COLUMNS = 24
VALUE_FORM = ".4g"
SHIFT_FORM = ".2f"
TABLE_COLUMNS = 110
NIGHTS_COLUMNS = 80


def profile(
    analysis_date: AnalysisDate,
    feature: Annotated[
        str, typer.Argument(metavar="FEATURE", help="A feature; without FEATURE the table of all features.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Show the distribution of each feature of a published date beside the nights before, with the findings.

    PSI compares the distribution with the nights before: 0 is the same, 0.25 and more is a shift. For a feature with
    one value for each team, PSI is the shift of the mean on the same scale. Means and bins hold values from Phase 4.
    Exit code 2: nothing is published for the date, the generation has no statistics, or no such feature exists.

    Examples:
      mlfs profile 2024-12-15
      mlfs profile 2024-12-15 pace
      mlfs profile yesterday --json
    """
    with reading_resources() as resources:
        found = read_distributions(resources.warehouse, analysis_date)
    answer = describe_distributions(found, feature)
    if as_json:
        show_json(answer)
        return
    if feature:
        _show_one(found, only(found, feature))
    else:
        _show_all(found)
    list_findings(answer)


def _show_all(found: Distributions) -> None:
    out.print(
        f"{with_weekday(found.analysis_date)}, generation {found.generation}, {found.row_count} rows, beside "
        f"{counted(found.nights_count, 'night')} before",
        soft_wrap=True,
    )
    out.print(_table(found.features))


def _table(features: Sequence[Distribution]) -> RenderableType:
    before = f"last {max((len(feature.nights) for feature in features), default=0)}"
    names = ("feature", "missing", "mean", "deviation", "lowest", "highest", "PSI", "tonight", before, "findings")
    cells = [
        (
            feature.feature,
            str(feature.tonight.row_count - feature.tonight.present_count),
            number(feature.tonight.mean, VALUE_FORM),
            number(feature.tonight.deviation, VALUE_FORM),
            number(feature.tonight.lowest, VALUE_FORM),
            number(feature.tonight.highest, VALUE_FORM),
            number(feature.shift, SHIFT_FORM),
            *histograms(feature.tonight.bins, feature.usual_bins),
            _checks(feature),
        )
        for feature in features
    ]
    return table(
        names,
        cells,
        numbers={"missing", "mean", "deviation", "lowest", "highest", "PSI"},
        texts={"findings"},
        wide={"deviation", "lowest", "highest", before},
        wide_from=TABLE_COLUMNS,
    )


def _checks(feature: Distribution) -> str:
    if not feature.findings:
        return "-"
    checks = ", ".join(dict.fromkeys(finding.check for finding in feature.findings))
    return severity_text(worst(feature.findings), plain(checks))


def histograms(*counts: Sequence[int]) -> list[str]:
    """Return each of several counts by bin as a line of blocks, as shares on one scale."""
    rows = [shares(bins) for bins in counts]
    highest = max((share for row in rows for share in row), default=0.0)
    return ["".join(BLOCKS[_level(share, highest)] for share in row) for row in rows]


def _level(share: float, highest: float) -> int:
    """Return the block for a share: the lowest block at least for a share above zero."""
    return max(1, round(share / highest * (len(BLOCKS) - 1))) if share > 0 else 0


def _show_one(found: Distributions, chosen: Distribution) -> None:
    tonight = chosen.tonight
    per_team = ", one value for each team" if chosen.per_team else ""
    out.print(
        f"{with_weekday(found.analysis_date)}, generation {found.generation}: {chosen.feature}, {chosen.unit}"
        f"{per_team}, by {chosen.processor}",
        soft_wrap=True,
    )
    out.print(
        f"{tonight.row_count} rows, {tonight.row_count - tonight.present_count} without a value, "
        f"{tonight.out_of_range_count} out of range; mean {number(tonight.mean, VALUE_FORM)}, deviation "
        f"{number(tonight.deviation, VALUE_FORM)}, lowest {number(tonight.lowest, VALUE_FORM)}, highest "
        f"{number(tonight.highest, VALUE_FORM)}; PSI {number(chosen.shift, SHIFT_FORM)} against "
        f"{counted(len(chosen.nights), 'night')} before",
        soft_wrap=True,
    )
    if tonight.bin_edges:
        out.print(_bins_table(chosen))
    out.print(_nights_table([tonight, *chosen.nights]))


def _bins_table(chosen: Distribution) -> RenderableType:
    rows = shares(chosen.tonight.bins), shares(chosen.usual_bins or [0] * len(chosen.tonight.bins))
    highest = max(*rows[0], *rows[1]) or 1.0
    before = f"last {len(chosen.nights)} nights"
    cells = [
        (name, str(count), f"{here:.1%}", _bar(here / highest, "cyan"), f"{usual:.1%}", _bar(usual / highest, "dim"))
        for name, count, here, usual in zip(
            bin_names(chosen.tonight.bin_edges), chosen.tonight.bins, *rows, strict=True
        )
    ]
    names = ("values", "count", "share", "tonight", "usual", before)
    return table(names, cells, numbers={"count", "share", "usual"}, wide={"count"}, wide_from=NIGHTS_COLUMNS)


def _bar(share: float, style: str) -> str:
    filled = round(BAR_COLUMNS * share)
    return f"[{style}]{'█' * filled}[/]{' ' * (BAR_COLUMNS - filled)}"


def _nights_table(nights: Sequence[NightStatistics]) -> RenderableType:
    lines = histograms(*(night.bins for night in nights))
    cells = [
        (
            night.analysis_date.isoformat(),
            str(night.value_count),
            number(night.mean, VALUE_FORM),
            number(night.deviation, VALUE_FORM),
            number(night.lowest, VALUE_FORM),
            number(night.highest, VALUE_FORM),
            number(night.correlation, SHIFT_FORM),
            line,
        )
        for night, line in zip(nights, lines, strict=True)
    ]
    names = ("date", "values", "mean", "deviation", "lowest", "highest", "agrees", "distribution")
    return table(
        names,
        cells,
        numbers={"values", "mean", "deviation", "lowest", "highest", "agrees"},
        wide={"deviation", "agrees"},
        wide_from=NIGHTS_COLUMNS,
    )
