"""Asks the warehouse which generations of a date were published, for whoever reads another one than the published."""

from datetime import date

from worker.features.generations import (
    PUBLISHED_NOW,
    PublishedGeneration,
    Wanted,
    choose,
    plan_publications,
    read_publications,
)
from worker.ports import Warehouse


def publications(warehouse: Warehouse, analysis_date: date) -> tuple[PublishedGeneration, ...]:
    """Return every publication of a date, oldest generation first.

    Raises:
        Unavailable: The warehouse could not serve.
    """
    return read_publications(warehouse.query(plan_publications(analysis_date, warehouse.pipeline)))


def find_generation(warehouse: Warehouse, analysis_date: date, wanted: Wanted = PUBLISHED_NOW) -> PublishedGeneration:
    """Return the generation that a reader asks for; its rows were there a moment ago.

    Raises:
        Refused: There is no such generation, or its rows are gone; the message names what there is.
        Unavailable: The warehouse could not serve.
    """
    return choose(analysis_date, publications(warehouse, analysis_date), wanted)
