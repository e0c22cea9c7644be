"""What a person is told, in the language they read."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, Field, field_validator

from runtime import problems
from runtime.identity import require
from runtime.language import (
    FSI,
    PDI,
    Language,
    Listed,
    Message,
    Term,
    ToldError,
    negotiate,
    of_environment,
    terms,
    text_of,
)
from runtime.language_catalogue import PACKAGES, CatalogueError, load, of_package, persian
from runtime.problems import Problem
from tests.support.persian import assert_catalogue_fits, assert_reads_as_persian
from tests.support.templates import said_in

FA, EN = Language.FA, Language.EN


def apart(value: str) -> str:
    return f"{FSI}{value}{PDI}"


# ---- messages


def test_a_message_is_english_and_persian_by_its_template() -> None:
    message = Message("{person} approved this step before", person="o-1")
    assert str(message) == "o-1 approved this step before"
    assert message.text(FA) == f"{apart('o-1')} این گام را پیش‌تر تأیید کرده است"


def test_a_foreign_value_stands_apart_and_cannot_leave_its_brackets() -> None:
    hostile = f"o{PDI}\u202e1\n"
    told = Message("{person} approved this step before", person=hostile).text(FA)
    assert told.startswith(apart("o\ufffd\ufffd1\ufffd"))
    assert told.count(FSI) == told.count(PDI) == 1


def test_a_persian_name_keeps_its_half_space() -> None:
    assert Message("{fault}", fault="می‌شود").text(FA) == apart("می‌شود")


def test_numbers_have_the_digits_of_the_language_and_times_are_left_as_they_are() -> None:
    older = Message("older than {days} days", days=398)
    assert (str(older), older.text(FA)) == ("older than 398 days", "از ۳۹۸ روز کهنه‌تر است")
    lapsed = Message("the decision lapsed at {time}", time=datetime(2026, 3, 21, tzinfo=UTC))
    assert str(lapsed) == "the decision lapsed at 2026-03-21T00:00:00+00:00"
    assert apart("2026-03-21T00:00:00+00:00") in lapsed.text(FA)


def test_names_that_are_known_are_translated_and_others_left() -> None:
    roles = terms("role", ["auditor", "emperor"], "or")
    assert str(roles) == "auditor or emperor"
    assert roles.text(FA) == f"ممیز یا {apart('emperor')}"
    assert Term("reason", "revoked", "revoked: on a list").text(EN) == "revoked: on a list"
    assert Term("reason", "revoked", "revoked: on a list").text(FA) == "گواهی باطل یا معلق شده است"
    assert Term("reason", "odd", "odd: indeed").text(FA) == apart("odd: indeed")


def test_lists_are_linked_as_the_language_links_them() -> None:
    assert str(Listed(("a", 1))) == "a, 1"
    assert Listed(("a", 1)).text(FA) == f"{apart('a')}، ۱"
    assert Listed(("a", "b"), "also").text(EN) == "a; b"


def test_a_message_inside_a_message_is_translated_too() -> None:
    outer = Message("{kind}: {fault}", kind=Term("evidence", "iban_owner"), fault=Message("expired"))
    assert str(outer) == "iban_owner: expired"
    assert outer.text(FA) == "مالکیت حساب تسویه (شبا): منقضی شده است"


def test_what_nobody_translated_is_told_in_english_and_says_so() -> None:
    message = Message("nobody translated {this}", this=3)
    assert message.text(FA) == "nobody translated 3"
    assert (message.spoken(FA), message.spoken(EN), Message("expired").spoken(FA)) == (EN, EN, FA)


def test_a_text_without_values_is_no_template() -> None:
    assert str(Message("{braces} as they are")) == "{braces} as they are"


@pytest.mark.parametrize("language", Language)
def test_braces_that_name_no_value_are_said_as_they_are(language: Language) -> None:
    odd = Message("{no such} {0} {} {other} {days.x} {days!r} {days:>9} } { {days}", days=3)
    assert odd.text(language) == "{no such} {0} {} {other} {days.x} {days!r} {days:>9} } { 3"
    assert str(Message("{what}", what="{what} {other}")) == "{what} {other}"


def test_messages_are_values() -> None:
    message = Message("older than {days} days", days=3)
    assert message == Message("older than {days} days", days=3) != Message("older than {days} days", days=4)
    assert {message: 1}[Message("older than {days} days", days=3)] == 1
    with pytest.raises(AttributeError):
        message.template = "other"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(message)) == message == copy.deepcopy(message)  # noqa: S301  # our own bytes


def test_an_error_is_told_in_both_languages_and_survives_a_pickle() -> None:
    error = ToldError("older than {days} days", days=3)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert str(error) == str(again) == "older than 3 days"
    assert error.text(FA) == again.text(FA) == text_of(error, FA) == "از ۳ روز کهنه‌تر است"
    assert str(ToldError(Message("expired"))) == "expired"
    assert text_of("as it is", FA) == "as it is"


# ---- whose language


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, EN),
        ("", EN),
        ("fa", FA),
        ("FA", FA),
        ("fa-IR", FA),
        ("fa-IR, fa;q=0.9, en-US;q=0.8, en;q=0.7", FA),
        ("en-GB,en;q=0.9,fa;q=0.8", EN),
        ("en;q=0.5, fa;q=0.8", FA),
        ("fa, en", FA),
        ("en, fa", EN),
        ("de, fr;q=0.5", EN),
        ("de, fa;q=0.1", FA),
        ("*", EN),
        ("en;q=0.1, *", FA),
        ("en;q=0, *;q=0.5", FA),
        ("fa;q=0", EN),
        ("fa;q=0, en;q=0", EN),
        ("fa;q=2", EN),
        ("fa;level=1", EN),
        ("fa;q=0.0001", EN),
        (",,;q=1,é, fa", FA),
        ("en-US;q=0.3," * 200 + "fa", EN),
    ],
)
def test_a_header_prefers_a_language_as_rfc_9110_says(header: str | None, language: Language) -> None:
    assert negotiate(header) is language


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, EN),
        ({"LANG": "fa_IR.UTF-8"}, FA),
        ({"LANG": "C"}, EN),
        ({"LANG": "fa_IR.UTF-8", "LC_MESSAGES": "en_US.UTF-8"}, EN),
        ({"LC_MESSAGES": "fa_IR", "LC_ALL": "C"}, EN),
        ({"LC_ALL": "", "LC_MESSAGES": "fa"}, FA),
        ({"KWBP_LANG": "fa", "LC_ALL": "C.UTF-8"}, FA),
        ({"KWBP_LANG": "en", "LANG": "fa_IR"}, EN),
        ({"LANG": "fat_GH"}, EN),
    ],
)
def test_a_command_speaks_the_language_of_its_environment(environment: dict[str, str], language: Language) -> None:
    assert of_environment(environment) is language


# ---- catalogues


def test_what_services_say_of_themselves_is_in_the_catalogue() -> None:
    assert_catalogue_fits(of_package("runtime"), said_in("runtime", but=frozenset({"language.py"})))


@pytest.mark.parametrize("package", PACKAGES)
def test_catalogues_are_written_as_persian(package: str) -> None:
    own = of_package(package)
    for text in (*own.messages.values(), *(text for names in own.terms.values() for text in names.values())):
        assert_reads_as_persian(text)


def test_no_sentence_is_translated_in_two_ways() -> None:
    assert persian().messages.keys() >= of_package("cps").messages.keys()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("- a", "a text or names of texts"),
        ("just text", "messages and terms, and nothing else"),
        ("words: {}", "messages and terms, and nothing else"),
        ("messages: {a: b, a: c}", "stands twice"),
        ("messages: {[a]: b}", "not text"),
        ("messages: {a: {b: c}}", "texts by key"),
        ("messages: text", "texts by key"),
        ("messages: {a: }", "a text or names"),
        ("terms: text", "names by kind"),
        ("terms: {role: text}", "texts by key"),
        ("messages: {'a {b}': 'c {d}'}", "other values"),
        ("messages: {'a {b!r}': 'c {b!r}'}", "a name and nothing else"),
        ("messages: {'a {}': 'c {}'}", "a name and nothing else"),
        ("messages: {'a {b.c}': 'c {b.c}'}", "a name and nothing else"),
        ("messages: {'a {b': 'c'}", "expected '}'"),
        ("messages: {a: *b}", "not YAML"),
    ],
)
def test_a_catalogue_of_another_form_is_refused(text: str, wrong: str) -> None:
    with pytest.raises(CatalogueError, match=wrong):
        load(text)


def test_an_empty_catalogue_says_nothing() -> None:
    assert load("").messages == load("# nothing").terms == {}


# ---- problems


class _Order(BaseModel):
    name: str = Field(max_length=3)

    @field_validator("name")
    @classmethod
    def _no_x(cls, value: str) -> str:
        if value == "x":
            raise _NameError("expired")
        return value


class _NameError(ToldError, ValueError):
    pass


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI()
    problems.install(app)

    @app.post("/order")
    def order(body: _Order) -> str:
        return body.name

    @app.get("/refuse")
    def refuse() -> None:
        findings = [{"code": "EVID-AGE", "message": Message("expired")}]
        told = Message("older than {days} days", days=3)
        raise Problem(403, "refused", told, clause="CPS 3.2.2", findings=findings, headers={"vary": "Origin"})

    @app.get("/plain")
    def plain() -> None:
        raise Problem(409, "plain", "has one language", title="Own title")

    @app.get("/closed", dependencies=[])
    def closed() -> None:
        raise Problem(599, "odd", Message("expired"), title="Odd")

    app.get("/officers")(lambda: None)
    app.add_api_route("/ours", lambda: None, dependencies=[_depends()])
    return TestClient(app, raise_server_exceptions=False)


def _depends() -> object:
    from fastapi import Depends

    return Depends(require("officer:*", "service:ca"))


def test_a_problem_is_told_in_the_language_of_the_reader(client: TestClient) -> None:
    answer = client.get("/refuse", headers={"Accept-Language": "fa-IR, en;q=0.5"})
    assert answer.headers["content-language"] == "fa"
    assert answer.headers["vary"] == "Origin, Accept-Language"
    assert answer.json() == {
        "type": "urn:kwbp:problem:refused",
        "title": "غیرمجاز",
        "status": 403,
        "detail": "از ۳ روز کهنه‌تر است",
        "clause": "CPS 3.2.2",
        "findings": [{"code": "EVID-AGE", "message": "منقضی شده است"}],
    }


def test_a_problem_is_told_in_english_to_everybody_else(client: TestClient) -> None:
    answer = client.get("/refuse", headers={"Accept-Language": "de"})
    assert (answer.headers["content-language"], answer.json()["title"]) == ("en", "Forbidden")
    assert answer.json()["detail"] == "older than 3 days"
    assert answer.json()["findings"] == [{"code": "EVID-AGE", "message": "expired"}]


def test_a_problem_that_has_one_language_says_which(client: TestClient) -> None:
    answer = client.get("/plain", headers={"Accept-Language": "fa"})
    assert (answer.headers["content-language"], answer.headers["vary"]) == ("en", "Accept-Language")
    assert (answer.json()["title"], answer.json()["detail"]) == ("Own title", "has one language")


def test_a_status_of_no_registry_keeps_its_title(client: TestClient) -> None:
    assert client.get("/closed", headers={"Accept-Language": "fa"}).json()["title"] == "Odd"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"name": "4111111111111111"}, f"فیلد {apart('body.name')} قاعدهٔ «نوشته بلندتر از حد مجاز است» را نقض می‌کند"),
        ({}, f"فیلد {apart('body.name')} قاعدهٔ «فیلد لازم است» را نقض می‌کند"),
        ({"name": "x"}, f"فیلد {apart('body.name')} قاعدهٔ «مقدار نپذیرفتنی است» را نقض می‌کند: منقضی شده است"),
    ],
)
def test_an_invalid_field_is_named_in_the_language_of_the_reader(client: TestClient, body: object, detail: str) -> None:
    answer = client.post("/order", json=body, headers={"Accept-Language": "fa"})
    assert (answer.status_code, answer.json()["detail"]) == (422, detail)
    assert answer.json()["faults"][0]["message"] == detail
    assert answer.json()["faults"][0]["field"] == "body.name"
    assert "4111111111111111" not in answer.text


def test_what_the_framework_refuses_is_told_in_the_language_of_the_reader(client: TestClient) -> None:
    answer = client.get("/nowhere", headers={"Accept-Language": "fa"})
    assert (answer.status_code, answer.json()["detail"], answer.headers["content-language"]) == (404, "یافت نشد", "fa")


def test_a_caller_who_may_not_is_told_who_may(client: TestClient) -> None:
    answer = client.get("/ours", headers={"Accept-Language": "fa"})
    assert answer.json()["detail"] == f"برای این کار گواهی کاربرِ {apart('officer:*')} یا {apart('service:ca')} لازم است"


def test_a_problem_is_the_same_for_programs_in_every_language() -> None:
    problem = Problem(403, "refused", Message("older than {days} days", days=3), clause="CPS 3.2.2")
    assert (problem.detail, str(problem)) == ("older than 3 days", "older than 3 days (CPS 3.2.2)")
    assert problem.text(FA) == "از ۳ روز کهنه‌تر است (CPS 3.2.2)"
    english, told = problem.document(), json.loads(bytes(problem.response(FA).body))
    assert {key: told[key] for key in ("type", "status", "clause")} == {
        key: english[key] for key in ("type", "status", "clause")
    }
