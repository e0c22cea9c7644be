"""The queue over HTTP: for officers, page by page, what waits for oneself, and the figures."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from ra.app import create_app
from ra.errors import InvalidSubmissionError
from ra.queue import Place
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


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=4), inside, max_size=3),
    max_leaves=6,
)
_JSON = _JUNK.map(json.dumps) | st.sampled_from(
    [
        "[" * 90_000,
        '{"a":' * 20_000,
        '["\\ud800","a"]',
        '["a","\\u0000"]',
        f'["a",{"9" * 5000}]',
        "[NaN,Infinity]",
        "[]",
    ]
)


def _place(told: bytes) -> str:
    return base64.urlsafe_b64encode(told).decode().rstrip("=")


@given(_JSON.map(str.encode).map(_place) | st.binary(max_size=60).map(_place) | st.text(max_size=60))
def test_whatever_is_said_is_a_place_or_refused(text: str) -> None:
    try:
        place = Place.read(text)
    except InvalidSubmissionError:
        return
    assert Place.read(place.text) == place
    assert "\0" not in place.key + place.id
    assert (place.key + place.id).encode()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_place_is_a_fault_of_the_service(operator: TestClient, data: st.DataObject) -> None:
    two = st.tuples(st.text(max_size=20), st.text(max_size=20)).map(lambda each: json.dumps(each).encode())
    told = data.draw(two | _JSON.map(str.encode) | st.binary(max_size=60))
    sort = data.draw(st.sampled_from(["urgency", "age", "newest"]))
    answer = operator.get("/v1/applications", params={"after": _place(told[:280]), "sort": sort})
    assert answer.status_code in (200, 422)


def test_the_figures_are_for_officers(operator: TestClient, world: RaWorld) -> None:
    figures = StatisticsView.model_validate_json(operator.get("/v1/statistics").content)
    assert [(each.state, each.cases) for each in figures.states] == [("VETTING", 3)]
    assert [(each.step, each.by, each.cases) for each in figures.waiting] == [("vet", ("vetting_officer",), 3)]
    nobody = TestClient(as_caller(create_app(world.workflow), ANONYMOUS))
    assert nobody.get("/v1/statistics").status_code == 401
