"""The queue over HTTP: for officers, page by page, what waits for oneself, and the figures."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from ra.app import create_app
from ra.queue_wire import QueuePage, StatisticsView
from runtime.identity import ANONYMOUS, Caller
from tests.support.ra_world import RaWorld, as_caller


@pytest.fixture
def operator(world: RaWorld) -> TestClient:
    for number in range(3):
        world.open_merchant(merchant_id=f"M-{number}", documents=())
    caller = Caller("service", "operator", world.office.pki.service("operator").certificate)
    return TestClient(as_caller(create_app(world.workflow), caller))


def test_pages_follow_one_another_to_the_last(operator: TestClient) -> None:
    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = QueuePage.model_validate_json(operator.get("/v1/applications", params={"limit": 2, **after}).content)
        found += [str(each.subject_id) for each in page.applications]
        assert page.total == 3
        if page.next is None:
            break
        after = {"after": page.next}
    assert sorted(found) == ["M-0", "M-1", "M-2"]


def test_nothing_waits_for_who_holds_no_role(operator: TestClient) -> None:
    page = QueuePage.model_validate_json(operator.get("/v1/applications", params={"mine": True}).content)
    assert (page.applications, page.next, page.total) == ((), None, 0)


def test_a_name_is_found_in_the_spelling_that_is_kept(operator: TestClient) -> None:
    page = QueuePage.model_validate_json(operator.get("/v1/applications", params={"begins": "M-۱"}).content)
    assert [each.subject_id for each in page.applications] == ["M-1"]


def test_what_is_no_place_is_refused(operator: TestClient) -> None:
    assert operator.get("/v1/applications", params={"after": "bnVsbA"}).status_code == 422


def test_the_figures_are_for_officers(operator: TestClient, world: RaWorld) -> None:
    figures = StatisticsView.model_validate_json(operator.get("/v1/statistics").content)
    assert [(each.state, each.cases) for each in figures.states] == [("VETTING", 3)]
    assert [(each.step, each.by, each.cases) for each in figures.waiting] == [("vet", ("vetting_officer",), 3)]
    nobody = TestClient(as_caller(create_app(world.workflow), ANONYMOUS))
    assert nobody.get("/v1/statistics").status_code == 401
