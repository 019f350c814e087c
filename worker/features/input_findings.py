"""Findings about the upstream tables of a build: unusable tables and columns, repeated keys, stale rows. Pure.

Model: `wanted_share` measures an unusable table or column by the share of the night's cells that wanted the table or
column. A Phase 4 table is wanted by each cell of the block; a Phase 3 table only by the cells that Phase 4 left empty,
so that a full Phase 4 makes the loss harmless. Schedule and roster decide about every row and count as the whole night.
"""

from collections.abc import Iterator, Sequence

from worker.features.findings import Check, FindingPolicy, Found
from worker.features.model import BuildStats, TableFacts, UpstreamFault
from worker.features.pipeline import Block, Feature, Pipeline

WHOLE_NIGHT = 1.0


def unusable_findings(stats: BuildStats, pipeline: Pipeline, policy: FindingPolicy) -> Iterator[Found]:
    """Yield a finding for each upstream table or column that counted as empty."""
    for fault in stats.unusable:
        check = Check.COLUMN_UNUSABLE if fault.column else Check.TABLE_UNUSABLE
        share = wanted_share(fault, stats, pipeline)
        owners = [block.processor for block in pipeline.blocks if block.table == fault.table]
        yield from policy.judge(
            check,
            share,
            subject=f"{fault.table}.{fault.column}" if fault.column else fault.table,
            observed=f"{_found(fault)}; {_wanted_by(fault, share)}",
            expected=f"a column of type {fault.wanted}" if fault.column else "the table of the catalogue",
            next_step=_next_step(fault, owners),
            processor=owners[0] if owners else "",
        )


def _found(fault: UpstreamFault) -> str:
    if not fault.column:
        return f"the table {fault.found}"
    if fault.found.startswith("absent"):
        return f"no such column{fault.found.removeprefix('absent')}"
    return f"the column is {fault.found}"


def _wanted_by(fault: UpstreamFault, share: float) -> str:
    kind = "column" if fault.column else "table"
    if share == WHOLE_NIGHT:
        return f"every row needs the {kind}"
    return f"{share:.1%} of the date's cells wanted the {kind}"


def _next_step(fault: UpstreamFault, owners: Sequence[str]) -> str:
    """Return the action of the owner: the processor of a Phase 4 table, otherwise the owner of the table."""
    what = f"{fault.table}.{fault.column} ({fault.wanted} wanted, {fault.found})" if fault.column else fault.table
    if owners:
        return (
            f"ask the owner of {owners[0]} to repair {what} and to run {owners[0]} again; a run before the cutoff "
            "upgrades DATE"
        )
    return f"ask the owner of {fault.table} to repair {what}; then: mlfs replay DATE --reason 'upstream is repaired'"


def wanted_share(fault: UpstreamFault, stats: BuildStats, pipeline: Pipeline) -> float:
    """Return the share of the night's cells that wanted an unusable table or column, 0 to 1."""
    roster = pipeline.entity.roster
    if pipeline.schedule is not None:
        if fault.table == pipeline.schedule.table:
            return WHOLE_NIGHT
        team = next(column for column in pipeline.identity if column.name == pipeline.schedule.team)
        if fault.table == roster and fault.column in team.columns:
            return WHOLE_NIGHT
    if fault.table == roster and not fault.column:
        return WHOLE_NIGHT
    every = sum(block.players * block.cells_each for block in stats.blocks.values())
    wanted = sum(_wanted(feature, fault, stats, pipeline) for feature in pipeline.features)
    return wanted / every if every else WHOLE_NIGHT


def _wanted(feature: Feature, fault: UpstreamFault, stats: BuildStats, pipeline: Pipeline) -> int:
    """Return the number of the feature's cells that wanted the table or column."""
    block = pipeline.block_of(feature)
    if _reads(block.table, feature.phase4.columns, fault):
        return stats.blocks[block.name].players
    if _reads(feature.phase3_table, feature.phase3.columns, fault):
        return stats.left_empty.get(feature.name, 0)
    return 0


def _reads(table: str, columns: Sequence[str], fault: UpstreamFault) -> bool:
    return fault.table == table and (not fault.column or fault.column in columns)


def table_findings(stats: BuildStats, pipeline: Pipeline, policy: FindingPolicy) -> Iterator[Found]:
    """Yield the findings about repeated keys and stale rows of each Phase 4 table."""
    for block in pipeline.blocks:
        facts = stats.table_facts.get(block.processor)
        if facts is None:
            continue
        yield from _doubled(block, facts, policy)
        yield from _stale(block, facts, policy)


def _doubled(block: Block, facts: TableFacts, policy: FindingPolicy) -> Iterator[Found]:
    if not facts.doubled_keys:
        return
    yield from policy.judge(
        Check.DUPLICATE_KEYS,
        facts.doubled_keys / facts.keys,
        subject=block.table,
        observed=f"{facts.doubled_keys} of {facts.keys} values of {block.key} have several rows",
        expected=f"one row for each {block.key}",
        next_step=(
            f"the build took the newest row of each {block.key}, and any of rows of the same instant; the owner of "
            f"{block.processor} removes the other rows of DATE from {block.table} and runs {block.processor} again"
        ),
        processor=block.processor,
    )


def _stale(block: Block, facts: TableFacts, policy: FindingPolicy) -> Iterator[Found]:
    said = {"old": facts.old_rows, "without processed_at": facts.undated_rows, "ahead": facts.ahead_rows}
    stale = sum(said.values())
    if not stale:
        return
    listed = ", ".join(f"{count} {what}" for what, count in said.items() if count)
    yield from policy.judge(
        Check.STALE_ROWS,
        stale / facts.rows,
        subject=block.table,
        observed=f"{stale} of {facts.rows} rows: {listed}",
        expected="processed_at within two days before the analysis date, or later up to a day after the build",
        next_step=(
            f"ask the owner of {block.processor} whether the run of DATE wrote the rows of {block.table}; a new "
            f"run of {block.processor} writes processed_at anew"
        ),
        processor=block.processor,
    )
