"""The simulated registers: who may ask, who may enter records, and what is no record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from registers.book import Book
from registers.client import RegistersAdmin
from registers.service import database_path
from runtime.client import http_client
from runtime.database import open_database
from runtime.problems import Problem
from runtime.settings import Home
from tests.support.registers_world import Outside, outside_world


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    with outside_world(tmp_path_factory.mktemp("registers")) as world:
        yield world


@pytest.fixture
def admin(outside: Outside) -> Iterator[RegistersAdmin]:
    with RegistersAdmin(outside.registers.url, outside.operator) as client:
        yield client


def test_the_seeds_are_records_with_right_check_digits(tmp_path: Path) -> None:
    engine = open_database(database_path(Home(tmp_path)))
    book = Book(engine)
    book.seed()
    book.seed()  # at every start
    assert b'"found": true' in book.answer("company_register", "k-1", {"name": "Bookshop Co"})
    assert b"deceased" in book.answer("national_code", "k-2", {"national_code": "9900100034"})
    assert book.questions() == {"k-1": 1, "k-2": 1}
    engine.dispose()


def test_records_are_entered_by_the_operator(outside: Outside, admin: RegistersAdmin) -> None:
    admin.enter_person("9900100042", "Test Person Four")
    admin.enter_company("14001000028", "Stationer Co", status="dissolved")
    admin.enter_account("IR340540000000000000001001", ["Stationer Co"])
    book = outside.registers.book
    assert b"Test Person Four" in book.answer("national_code", "e-1", {"national_code": "9900100042"})
    assert b"dissolved" in book.answer("company_register", "e-2", {"name": "stationer co"})
    assert b"Stationer Co" in book.answer("iban_owner", "e-3", {"iban": "IR340540000000000000001001"})


def test_a_number_with_a_wrong_check_digit_is_no_record(admin: RegistersAdmin) -> None:
    wrong: list[Callable[[], None]] = [
        lambda: admin.enter_person("9900100041", "Nobody"),
        lambda: admin.enter_company("14001000029", "No Co"),
        lambda: admin.enter_account("IR350540000000000000001001", ["Nobody"]),
    ]
    for enter in wrong:
        with pytest.raises(Problem) as refused:
            enter()
        assert (refused.value.status, refused.value.type) == (422, "check-digit")


def test_faults_are_planned_and_forgotten_and_messages_are_read(outside: Outside, admin: RegistersAdmin) -> None:
    admin.add_fault("iban_owner", "error", count=2)
    taken = outside.registers.faults.take("iban_owner")
    assert taken is not None
    assert (taken.fault, taken.count) == ("error", 2)
    admin.clear_faults()
    assert outside.registers.faults.take("iban_owner") is None
    outside.registers.book.take_message("m-1", "09120000002", "a text")
    assert admin.messages_to("09120000002") == ["a text"]


@pytest.mark.parametrize(
    ("method", "path", "who"),
    [
        ("POST", "/v1/questions/iban_owner", "operator"),
        ("POST", "/v1/messages", "operator"),
        ("POST", "/v1/questions/iban_owner", "stranger"),
        ("PUT", "/v1/people", "ra"),
        ("PUT", "/v1/companies", "stranger"),
        ("PUT", "/v1/accounts", "ra"),
        ("GET", "/v1/messages/09120000002", "ra"),
        ("POST", "/v1/faults", "ra"),
        ("DELETE", "/v1/faults", "ra"),
    ],
)
def test_each_route_is_for_one_caller(outside: Outside, method: str, path: str, who: str) -> None:
    with http_client(getattr(outside, who), outside.registers.url) as client:
        assert client.request(method, path, json={}).status_code == 403


def test_without_a_certificate_nobody_is_heard(outside: Outside) -> None:
    client = http_client(None, outside.registers.url, ca=outside.ra.ca)
    with client, pytest.raises(httpx.TransportError):
        client.get("/health/live")
