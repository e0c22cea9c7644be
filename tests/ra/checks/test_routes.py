"""Identity checks over HTTP: phones, codes, and what officers are shown."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from ra.access import Actor
from ra.app import create_app
from ra.checks.assembly import checks as assembled
from ra.checks.assembly import phone_key
from ra.states import State
from ra.submission import Submission
from registers.faults import Planned
from runtime.identity import ANONYMOUS, Caller
from runtime.settings import Home, Settings
from tests.support.cps_cases import csr
from tests.support.pki_factory import IBAN, p256
from tests.support.ra_world import InProcess, as_caller, merchant_subject
from tests.support.registers_world import AskingRa

PHONE = "09190000001"


def _client(ra: AskingRa, caller: Caller) -> httpx.Client:
    app = create_app(ra.world.workflow, checks=ra.checks)
    return httpx.Client(transport=InProcess(as_caller(app, caller)), base_url="http://ra")


@pytest.fixture
def operator(ra: AskingRa) -> httpx.Client:
    return _client(ra, Caller("service", "operator"))


def test_a_phone_is_given_and_confirmed(ra: AskingRa, operator: httpx.Client) -> None:
    draft = ra.draft()
    given = operator.post(f"/v1/applications/{draft.id}/phone", json={"phone": PHONE})
    assert given.status_code == 202
    assert given.json()["state"] == "sent"
    wrong = operator.post(f"/v1/applications/{draft.id}/phone/code", json={"code": "x"})
    assert wrong.status_code == 422
    assert (wrong.json()["clause"], wrong.json()["detail"]) == (
        "CPS 3.2.3",
        "this is not the code that was sent; 2 tries left",
    )
    code = ra.outside.registers.book.messages_to(PHONE)[-1].text.removeprefix("KWBP: ")
    right = operator.post(f"/v1/applications/{draft.id}/phone/code", json={"code": code})
    assert (right.status_code, right.json()["state"]) == (200, "confirmed")
    assert PHONE not in given.text + wrong.text + right.text


def test_officers_see_what_was_asked_and_why_there_is_no_answer(ra: AskingRa, operator: httpx.Client) -> None:
    ra.outside.registers.faults.add(Planned(kind="iban_owner", fault="error"))
    case = ra.submit()
    assert case.state is State.SCREENING
    shown = operator.get(f"/v1/applications/{case.id}/checks")
    checks: dict[str, Any] = {each["kind"]: each for each in shown.json()}
    assert {kind: each["state"] for kind, each in checks.items()} == {
        "company_register": "answered",
        "iban_owner": "due",
        "phone_code": "not_asked",
    }
    assert (checks["iban_owner"]["trouble"], checks["iban_owner"]["attempts"]) == ("status-500", 1)
    assert checks["company_register"]["answer"] == "confirmed"
    assert IBAN not in shown.text


def test_an_applicant_is_not_given_what_the_answer_could_be_guessed_by(ra: AskingRa, operator: httpx.Client) -> None:
    draft = ra.world.workflow.open(Actor("merchant:shop-1"), "merchant")
    submission = Submission(merchant_subject(name="Bookshop", organisation="Not The Owner"), {"signing": csr(p256())})
    ra.world.workflow.submit(Actor("merchant:shop-1"), draft.id, submission)
    path = f"/v1/applications/{draft.id}/checks"
    shown = {each["kind"]: each for each in _client(ra, Caller("merchant", "shop-1")).get(path).json()}
    assert (shown["iban_owner"]["answer"], shown["iban_owner"]["reason"]) == ("contradicted", "name_differs")
    assert {each["answer_sha256"] for each in shown.values()} == {""}
    assert all(each["answer_sha256"] for each in operator.get(path).json() if each["answer"])


def test_others_see_nothing(ra: AskingRa) -> None:
    case = ra.submit()
    stranger = _client(ra, ANONYMOUS)
    assert stranger.get(f"/v1/applications/{case.id}/checks").status_code in {401, 403}
    assert stranger.post(f"/v1/applications/{case.id}/phone", json={"phone": PHONE}).status_code in {401, 403}


def test_an_installation_has_checks_from_its_settings(ra: AskingRa, tmp_path: Any) -> None:
    home = Home(tmp_path / "home")
    home.create()
    world = ra.world
    settings = Settings.model_validate({"identity": {}})
    made = assembled(
        world.engine,
        home,
        settings,
        statements=lambda: world.register,
        sign=world._sign,
        rng=lambda size: b"\x05" * size,
        clock=world.clock,
    )
    made.close()
    key = phone_key(home, rng=lambda size: b"\x06" * size)
    assert key.reveal() == b"\x05" * 32  # made once
    with pytest.raises(ValueError, match="https"):
        Settings.model_validate({"identity": {"iban_owner": "http://127.0.0.1:1"}})
    (home.secrets / "ra-phone-key").write_text("short")
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        phone_key(home, rng=lambda size: b"")
