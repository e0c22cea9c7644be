"""The way to a register: mutual TLS, one meaning for each answer, and one word for everything that is none."""

from __future__ import annotations

import itertools
import json

import pytest

from cps.check_model import CheckKind
from ra.checks.connector import NoAnswerError, Question
from ra.checks.https import HttpsMessenger, HttpsRegister
from ra.checks.wire import read_accepted, read_facts
from registers.faults import Fault, Planned
from runtime.client import TlsFiles
from tests.support.pki_factory import IBAN
from tests.support.registers_world import COMPANY, PERSON, Outside

_numbers = itertools.count(1)


def _question(kind: CheckKind = "iban_owner", key: str | None = None, **fields: str) -> Question:
    return Question(kind, key or f"key-{next(_numbers)}", fields or {"iban": IBAN, "name": "Bookshop Co"})


@pytest.mark.parametrize(
    ("kind", "fields", "status", "reason"),
    [
        pytest.param("iban_owner", {"iban": IBAN, "name": "bookshop co"}, "confirmed", "", id="one-of-two-owners"),
        pytest.param("iban_owner", {"iban": IBAN, "name": "Bookshops Co"}, "contradicted", "name_differs", id="other"),
        pytest.param("company_register", {"name": "Bookshop Co"}, "confirmed", "", id="company-by-name"),
        pytest.param(
            "company_register", {"name": "Bookshop Co", "company_id": COMPANY}, "confirmed", "", id="company-by-id"
        ),
        pytest.param(
            "company_register", {"name": "X", "company_id": COMPANY}, "contradicted", "name_differs", id="id-of-another"
        ),
        pytest.param("company_register", {"name": "No Co"}, "contradicted", "not_found", id="no-company"),
        pytest.param("national_code", {"national_code": PERSON[0], "name": PERSON[1]}, "confirmed", "", id="person"),
    ],
)
def test_facts_become_an_answer(
    outside: Outside, kind: CheckKind, fields: dict[str, str], status: str, reason: str
) -> None:
    answer = outside.connector(kind).ask(_question(kind, **fields), timeout=60)
    assert (answer.status, answer.reason) == (status, reason)


def test_of_two_companies_of_one_name_the_register_cannot_tell(outside: Outside) -> None:
    outside.registers.book.enter_company("14001000051", "Twin Co")
    outside.registers.book.enter_company("14001000066", "TWIN CO")
    register = outside.connector("company_register")
    assert register.ask(_question("company_register", name="Twin Co"), timeout=60).status == "unknown"


def test_a_person_who_died_is_contradicted(outside: Outside) -> None:
    outside.registers.book.enter_person("9900100034", "Test Person Three", "deceased")
    fields = {"national_code": "9900100034", "name": "Test Person Three"}
    answer = outside.connector("national_code").ask(_question("national_code", **fields), timeout=60)
    assert (answer.status, answer.reason) == ("contradicted", "deceased")


@pytest.mark.parametrize(
    ("fault", "seconds", "reason"),
    [
        pytest.param("slow", 1.0, "timeout", id="slow"),
        pytest.param("drip", 0.05, "timeout", id="byte-by-byte"),
        pytest.param("close", 0.0, "broken-off", id="closes-the-connection"),
        pytest.param("garbage", 0.0, "garbage", id="garbage"),
        pytest.param("endless", 0.0, "too-long", id="without-end"),
        pytest.param("another_key", 0.0, "garbage", id="an-unknown-member"),
        pytest.param("error", 0.0, "status-500", id="http-500"),
    ],
)
def test_what_is_no_answer_has_one_word(outside: Outside, fault: Fault, seconds: float, reason: str) -> None:
    outside.registers.faults.add(Planned(kind="iban_owner", fault=fault, seconds=seconds))
    with pytest.raises(NoAnswerError) as error:
        outside.connector("iban_owner").ask(_question(), timeout=0.5 if reason == "timeout" else 60)
    assert error.value.reason == reason
    assert IBAN not in repr(error.value)


def test_nobody_listening_is_no_answer(outside: Outside) -> None:
    with pytest.raises(NoAnswerError, match="unreachable"):
        HttpsRegister("nobody", "https://127.0.0.1:1", outside.ra).ask(_question(), timeout=2)


def test_a_server_of_another_root_is_no_register(outside: Outside, office_root: TlsFiles) -> None:
    with pytest.raises(NoAnswerError, match="unreachable"):
        HttpsRegister("false", outside.registers.url, office_root).ask(_question(), timeout=2)


def test_what_identifies_people_goes_over_tls_alone(outside: Outside) -> None:
    with pytest.raises(ValueError, match="TLS"):
        HttpsRegister("plain", "http://127.0.0.1:1", outside.ra)


def test_a_repeat_of_a_question_is_answered_as_the_first_time(outside: Outside) -> None:
    iban = "IR500540000000000000001004"
    outside.registers.book.enter_account(iban, ["First Owner"])
    register, question = outside.connector("iban_owner"), _question(iban=iban, name="First Owner")
    first = register.ask(question, timeout=60)
    outside.registers.book.enter_account(iban, ["Second Owner"])
    assert register.ask(question, timeout=60) == first
    assert outside.registers.book.asked(question.key) == 2


def test_another_question_under_a_used_key_is_refused(outside: Outside) -> None:
    register, question = outside.connector("iban_owner"), _question()
    register.ask(question, timeout=60)
    with pytest.raises(NoAnswerError, match="status-409"):
        register.ask(_question(key=question.key, iban=IBAN, name="Another"), timeout=60)


def test_a_register_that_repeats_itself_otherwise_is_simulated(outside: Outside) -> None:
    outside.registers.faults.add(Planned(kind="iban_owner", fault="differ", count=2))
    register, question = outside.connector("iban_owner"), _question()
    assert register.ask(question, timeout=60).status == "confirmed"
    assert register.ask(question, timeout=60).status == "contradicted"


def test_a_question_and_an_answer_do_not_show_what_is_in_them(outside: Outside) -> None:
    question = _question()
    answer = outside.connector("iban_owner").ask(question, timeout=60)
    assert IBAN not in repr(question)
    assert "BOOKSHOP" not in repr(answer)


# what an answer may look like

ASKED = Question("iban_owner", "k", {"iban": IBAN, "name": "Bookshop Co"})
GOOD = {"version": 1, "key": "k", "found": True, "names": ["Bookshop Co"], "status": "active"}


def test_the_documented_answer_is_understood() -> None:
    assert read_facts(json.dumps(GOOD).encode(), ASKED).status == "confirmed"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"version": 2}, id="another-version"),
        pytest.param({"key": "j"}, id="another-key"),
        pytest.param({"found": "yes"}, id="found-as-text"),
        pytest.param({"found": 1}, id="found-as-number"),
        pytest.param({"names": []}, id="no-names"),
        pytest.param({"names": ["x"] * 21}, id="too-many-names"),
        pytest.param({"names": ["x" * 201]}, id="a-name-without-end"),
        pytest.param({"status": None}, id="no-status"),
        pytest.param({"status": "ACTIVE"}, id="another-spelling"),
        pytest.param({"extra": 1}, id="an-unknown-member"),
    ],
)
def test_another_answer_is_none(change: dict[str, object]) -> None:
    with pytest.raises(NoAnswerError):
        read_facts(json.dumps({**GOOD, **change}).encode(), ASKED)


@pytest.mark.parametrize("status", ["blocked", "inactive", "pending"])
def test_whatever_is_not_active_is_a_contradiction(status: str) -> None:
    answer = read_facts(json.dumps({**GOOD, "status": status}).encode(), ASKED)
    assert (answer.status, answer.reason) == ("contradicted", status)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"version":1,"key":"j","accepted":true}', b'{"version":1,"key":"k","accepted":false}']
)
def test_a_message_that_was_not_taken_was_not_sent(body: bytes) -> None:
    with pytest.raises(NoAnswerError):
        read_accepted(body, "k")


def test_a_message_is_taken_once(outside: Outside) -> None:
    messenger = HttpsMessenger(outside.registers.url, outside.ra)
    for _ in range(2):
        messenger.send("09120000001", "a text", key="message-1", timeout=60)
    (message,) = outside.registers.book.messages_to("09120000001")
    assert (message.text, message.asked) == ("a text", 2)
