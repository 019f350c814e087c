"""Tables of a pipeline beside upstream: the tables and views of the product, and optional tables. Pure.

Model: a definition names each table, `dataset.table`; the DDL of a table is the template with the name of the field.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTables:
    """Tables that the product writes, and views of the published rows, `dataset.table`.

    Attributes:
        published: View of the published rows for consumers.
        quality: View of the scores of the published rows.
        dependency: View of the Phase 4 row counts of the published builds.
        generations: Rows of every attempt, written once and never changed.
        history: Scores of the rows of every attempt.
        execution: Every ended attempt.
        ledger: Claim and pointer of each analysis date.
        arrivals: Every arrival.
        profile: Statistics of each feature in each generation.
        replay: Requests of people.
    """

    published: str
    quality: str
    dependency: str
    generations: str
    history: str
    execution: str
    ledger: str
    arrivals: str
    profile: str
    replay: str

    @property
    def views(self) -> tuple[str, ...]:
        """Return the views for consumers; each view shows only published generations."""
        return self.published, self.quality, self.dependency

    @property
    def stored(self) -> tuple[str, ...]:
        """Return the tables with rows."""
        return tuple(name for name in self.all if name not in self.views)

    @property
    def all(self) -> tuple[str, ...]:
        """Return all names, the views first."""
        return tuple(getattr(self, kind) for kind in self.__dataclass_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionalTables:
    """Tables that no build needs, `dataset.table`; empty for a pipeline without the table.

    Attributes:
        predictions: The consumer's predictions, counted by a report.
        joined_view: The materialized view of the Phase 4 join (ADR 0013).
        fallback_cache: Phase 3 values put aside for the fallback (ADR 0013).
    """

    predictions: str = ""
    joined_view: str = ""
    fallback_cache: str = ""
