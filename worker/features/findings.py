"""Findings: why the rows of a build may be wrong although the score is high. Pure.

Model: a check measures a number, 0 for rows beyond doubt and higher for worse rows. The pipeline's `Levels` of the
check turn the number into a severity. Each family of checks has a module `<family>_findings` with pure functions from
counted facts to findings; `worker.builds.judge` calls the families in turn.

Source: the design, section 4.4; the thresholds of the components are the pipeline document's.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

from statemachine.model import Finding, FindingSeverity, State
from worker.features.model import QualityReport


class Check(StrEnum):
    """Check of a build. A label of metrics, so the set is closed."""

    NOT_FINITE = "not_finite"
    """Cells that are NaN or infinite. Measure: share of the feature's cells."""
    OUT_OF_RANGE = "out_of_range"
    """Values outside the feature's range in the catalogue. Measure: share of the feature's values."""
    SCHEDULE_MISSING = "schedule_missing"
    """The schedule has no game, and Phase 4 says that entities play. Measure: share of the entities that play."""
    SCHEDULE_DISAGREES = "schedule_disagrees"
    """Schedule and Phase 4 differ about games or opponents. Measure: share of the entities that play by either."""
    UNKNOWN_TEAM = "unknown_team"
    """A team that the team list lacks. Measure: share of the entities concerned."""
    CLAIMED_ROWS_DIFFER = "claimed_rows_differ"
    """The rows of an event and the rows of the table differ. Measure: difference over the larger number."""
    ROSTER_SIZE = "roster_size"
    """Active entities against the median of the last nights. Measure: difference over the median."""
    ROWS_DROPPED = "rows_dropped"
    """Active entities without a row. Measure: share of the active entities."""
    TABLE_UNUSABLE = "table_unusable"
    """An upstream table that is gone, denied or retyped. Measure: share of tonight's cells that wanted the table."""
    COLUMN_UNUSABLE = "column_unusable"
    """An upstream column that is gone or retyped. Measure: share of tonight's cells that wanted the column."""
    COMPONENT_LOW = "component_low"
    """A component of the score below the document's thresholds, which are in points."""
    DUPLICATE_KEYS = "duplicate_keys"
    """Several rows of a Phase 4 table for one key. Measure: share of the keys."""
    STALE_ROWS = "stale_rows"
    """Rows of a Phase 4 table whose `processed_at` is too old, absent or ahead. Measure: share of the rows."""
    SHIFTED = "shifted"
    """A distribution that differs from the last nights. Measure: population stability index.

    Of values that a team shares, the squared distance of the means (`profile.mean_shift`), on the same scale.
    """
    CONSTANT = "constant"
    """A feature with one value. Measure: share of the most frequent value, less the highest of the last nights."""
    UNCHANGED = "unchanged"
    """Values that did not move although the team played.

    Measure: share of the entities whose team played, less the highest of the last nights.
    """
    SCRAMBLED = "scrambled"
    """Values that belong to other entities or columns.

    Measure: the lowest correlation of the last nights with their nights before, less tonight's; or of the entities
    whose team did not play, the share whose value moved, less the highest of the last nights.
    """
    FURTHER_FINDINGS = "further_findings"
    """Findings beyond `FINDINGS_MAX`, counted and left out. No measure and no levels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """Thresholds of a check: a level applies if the measure reaches the threshold; None never applies.

    Attributes:
        note: Threshold of a note.
        warning: Threshold of a warning.
        critical: Threshold of a critical finding.
        refuse: Threshold of a critical finding that refuses the publication.
    """

    note: float | None = None
    warning: float | None = None
    critical: float | None = None
    refuse: float | None = None

    def severity(self, measure: float) -> FindingSeverity | None:
        """Return the highest severity whose threshold *measure* reaches; None below every threshold."""
        if self.refuses(measure) or _reaches(measure, self.critical):
            return FindingSeverity.CRITICAL
        if _reaches(measure, self.warning):
            return FindingSeverity.WARNING
        return FindingSeverity.NOTE if _reaches(measure, self.note) else None

    def refuses(self, measure: float) -> bool:
        """Return whether *measure* refuses the publication."""
        return _reaches(measure, self.refuse)


def _reaches(measure: float, threshold: float | None) -> bool:
    return threshold is not None and measure >= threshold


WARNING_BELOW: Mapping[str, float] = MappingProxyType(
    {
        "phase4_availability": 36,
        "phase3_fallback": 18,
        "data_freshness": 12,
        "dependency_completeness": 15,
        "null_field_rate": 4,
    }
)
"""Points of a component below which the document says Warning; the document has no Warning for row_completeness."""

CRITICAL_BELOW: Mapping[str, float] = MappingProxyType(
    {
        "phase4_availability": 32,
        "phase3_fallback": 15,
        "data_freshness": 8,
        "dependency_completeness": 11.25,
        "row_completeness": 3,
        "null_field_rate": 3,
    }
)
"""Points of a component below which the document says Critical."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingPolicy:
    """Rules of the checks, from `[findings]` of the pipeline's definition.

    Attributes:
        nights: Published nights before the date that a distribution is compared with.
        nights_min: Published nights without which no distribution is judged.
        levels: Thresholds by check; a check without entry finds nothing.
        warning_below: Points of a component below which the finding `component_low` is a warning.
        critical_below: Points of a component below which the finding `component_low` is critical.
    """

    nights: int = 14
    nights_min: int = 5
    levels: Mapping[Check, Levels] = field(default_factory=dict)
    warning_below: Mapping[str, float] = field(default_factory=lambda: WARNING_BELOW)
    critical_below: Mapping[str, float] = field(default_factory=lambda: CRITICAL_BELOW)

    def severity(self, check: Check, measure: float) -> FindingSeverity | None:
        """Return the severity of a measured number; None if the check has nothing to say."""
        levels = self.levels.get(check)
        return None if levels is None else levels.severity(measure)

    def refuses(self, check: Check, measure: float) -> bool:
        """Return whether a measured number refuses the publication."""
        levels = self.levels.get(check)
        return levels is not None and levels.refuses(measure)

    def judge(self, check: Check, measure: float, **texts: str) -> Iterator["Found"]:
        """Yield the finding about a measured number; none below every threshold.

        Args:
            check: The check.
            measure: The measured number.
            texts: The other fields of `Finding`.
        """
        if (severity := self.severity(check, measure)) is not None:
            finding = Finding(check=check, severity=severity, **texts)
            yield Found(finding=finding, refuses=self.refuses(check, measure))


_RANK = {FindingSeverity.CRITICAL: 0, FindingSeverity.WARNING: 1, FindingSeverity.NOTE: 2}
_SEVERITY_AT_LEAST = {FindingSeverity.CRITICAL: "P2", FindingSeverity.WARNING: "P3"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Findings of a build, the most severe first, and the reason for a refusal; the reason is empty without one."""

    findings: tuple[Finding, ...] = ()
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A finding, and whether the finding refuses the publication."""

    finding: Finding
    refuses: bool = False


FINDINGS_MAX = 40
"""Findings of a build that are kept; a usual build has fewer than five."""
TEXT_CHARS_MAX = 300
"""Characters of each text of a kept finding."""


def collect(found: Iterable[Found]) -> Judgement:
    """Return the findings in the order of severity, check and subject, bounded, with the first refusal."""
    ranked = sorted(found, key=lambda one: (_RANK[one.finding.severity], one.finding.check, one.finding.subject))
    refusal = next((_sentence(_cut(one.finding)) for one in ranked if one.refuses), "")
    return Judgement(findings=_bounded([_cut(one.finding) for one in ranked]), refusal=refusal)


def _bounded(ranked: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return at most `FINDINGS_MAX` findings; a note at the end counts the findings that are left out.

    The first finding of each severity and processor stays: a critical finding that names a processor decides whether
    the next run of the processor upgrades the analysis date.
    """
    if len(ranked) <= FINDINGS_MAX:
        return tuple(ranked)
    first: dict[tuple[FindingSeverity, str], int] = {}
    for place, finding in enumerate(ranked):
        first.setdefault((finding.severity, finding.processor), place)
    places = list(dict.fromkeys((*first.values(), *range(len(ranked)))))[: FINDINGS_MAX - 1]
    return (*(ranked[place] for place in sorted(places)), _further(len(ranked) - len(places)))


def _further(count: int) -> Finding:
    return Finding(
        check=Check.FURTHER_FINDINGS,
        severity=FindingSeverity.NOTE,
        subject="findings",
        observed=f"{count} further findings are left out",
        expected=f"at most {FINDINGS_MAX} findings",
        next_step="repair what the findings above name, then: mlfs replay DATE --reason '…'",
    )


def _cut(finding: Finding) -> Finding:
    """Return the finding with texts that fit into record and message."""
    return replace(
        finding,
        subject=_cut_text(finding.subject),
        observed=_cut_text(finding.observed),
        expected=_cut_text(finding.expected),
        next_step=_cut_text(finding.next_step),
    )


def _cut_text(text: str) -> str:
    text = text.encode(errors="replace").decode()
    return text if len(text) <= TEXT_CHARS_MAX else f"{text[: TEXT_CHARS_MAX - 1]}…"


def shown_fields(finding: Finding) -> dict[str, str]:
    """Return the fields of a finding that people and scripts get: all but the processor, which the texts name."""
    return {name: str(value) for name, value in asdict(finding).items() if name != "processor"}


def evidence(observed: str, expected: str) -> str:
    """Return both figures of a finding: `8 points, expected 12 points or more`."""
    return f"{observed}, expected {expected}"


def _sentence(finding: Finding) -> str:
    return f"{finding.check} {finding.subject}: {evidence(finding.observed, finding.expected)}"


def judged(report: QualityReport, judgement: Judgement) -> QualityReport:
    """Return the report with state, severity and gate as the findings demand.

    A critical finding makes the rows `degraded` and P2 at least, a warning P3 at least; a refusing finding closes the
    gate.
    """
    levels = {finding.severity for finding in judgement.findings}
    severities = [report.severity, *(_SEVERITY_AT_LEAST.get(level) for level in levels)]
    gate_message = "; ".join(filter(None, (report.gate_message, judgement.refusal)))
    return replace(
        report,
        severity=min(filter(None, severities), default=None),
        earned_state=State.DEGRADED if FindingSeverity.CRITICAL in levels else report.earned_state,
        gate_passed=not gate_message,
        gate_message=gate_message,
        findings=judgement.findings,
    )
