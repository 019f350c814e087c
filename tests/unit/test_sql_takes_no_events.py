"""What an event says never becomes SQL: statements are the same text whatever was reported; only dates are bound."""

from datetime import date, datetime
from typing import Any

from tests.support.nights import NIGHT, PROCESSORS
from tests.support.services import Service
from worker.features.model import Statement

HOSTILE = "'; DROP TABLE nba_predictions.ml_feature_store_v2; --"


def statements_of_a_night(**fields: Any) -> list[Statement]:
    with Service() as service:
        for processor in PROCESSORS:
            service.push(processor, **fields)
        service.client.post("/process", json={"analysis_date": NIGHT.isoformat(), "force_phase3_fallback": True})
    return service.warehouse.statements


def test_hostile_fields_change_no_statement() -> None:
    plain, hostile = statements_of_a_night(), statements_of_a_night(run_id=HOSTILE, error=HOSTILE)

    assert len(plain) > 0
    assert [(one.name, one.sql) for one in plain] == [(one.name, one.sql) for one in hostile]
    assert HOSTILE not in "".join(one.sql for one in hostile)


def test_no_text_of_an_event_is_bound() -> None:
    values = [value for one in statements_of_a_night(run_id=HOSTILE, error=HOSTILE) for value in bound(one)]

    assert not [value for value in values if isinstance(value, str) and HOSTILE in value]
    assert [value for value in values if isinstance(value, date | datetime)]


def bound(statement: Statement) -> list[Any]:
    return list(statement.parameters.values())
