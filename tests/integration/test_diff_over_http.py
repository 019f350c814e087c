"""`GET /dates/DATE/diff` answers what `mlfs diff --json` prints."""

from collections.abc import Iterator

import pytest

from statemachine.model import BuildMode
from tests.support.league import FRIDAY, SUNDAY, League
from tests.support.services import Service
from worker.builds.generations import compare_generations
from worker.features.diff import describe


@pytest.fixture(scope="module")
def league() -> Iterator[League]:
    league = League()
    league.build(SUNDAY, mode=BuildMode.FORCED_FALLBACK)
    league.build(SUNDAY, 2)
    yield league
    league.warehouse.close()


@pytest.fixture
def service(league: League) -> Iterator[Service]:
    with Service(warehouse=league.warehouse) as running:
        yield running


@pytest.mark.parametrize(("query", "pair"), [("", None), ("?generations=2,1", (2, 1))])
def test_a_diff_over_http_is_the_diff_of_the_command(
    league: League, service: Service, query: str, pair: tuple[int, int] | None
) -> None:
    answer = service.client.get(f"/dates/{SUNDAY}/diff{query}")

    assert answer.status_code == 200
    assert answer.json() == describe(compare_generations(league.warehouse, SUNDAY, pair))


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        (f"/dates/{FRIDAY}/diff", 409, "nothing is published for 2024-12-13"),
        (f"/dates/{SUNDAY}/diff?generations=1,7", 409, "generation 7 was never published"),
        (f"/dates/{SUNDAY}/diff?generations=1", 422, "generations"),
        (f"/dates/{SUNDAY}/diff?generations=0,1", 422, "generations"),
    ],
)
def test_what_cannot_be_compared_is_a_problem_that_says_why(
    service: Service, path: str, status: int, said: str
) -> None:
    answer = service.client.get(path)

    assert answer.status_code == status
    assert said in answer.json()["detail"]
