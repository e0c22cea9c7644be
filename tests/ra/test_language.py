"""The RA speaks to each caller in the language that they prefer, whatever it is that it says."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from ra.app import create_app
from runtime.identity import Caller
from runtime.language import FSI, PDI
from tests.support.ra_world import InProcess, RaWorld, as_caller, merchant_subject

PERSIAN = {"accept-language": "fa-IR,fa;q=0.9,en;q=0.1"}
ENGLISH = {"accept-language": "en"}


def apart(value: str) -> str:
    return f"{FSI}{value}{PDI}"


@pytest.fixture
def client(world: RaWorld) -> Iterator[httpx.Client]:
    app = as_caller(create_app(world.workflow), Caller("service", "operator"))
    with httpx.Client(transport=InProcess(app), base_url="http://ra") as client:
        yield client


def test_a_refusal_is_told_in_the_language_of_the_reader(client: httpx.Client) -> None:
    nobody = f"/v1/applications/{'0' * 32}"
    told = client.get(nobody, headers=PERSIAN)
    assert told.headers["content-language"] == "fa"
    assert "Accept-Language" in told.headers["vary"]
    assert told.json() == {
        "type": "urn:kwbp:problem:unknown",
        "title": "یافت نشد",
        "status": 404,
        "detail": "چنین درخواستی وجود ندارد",
    }
    assert client.get(nobody, headers=ENGLISH).json()["detail"] == "there is no such application"


def test_a_wrong_state_is_named_by_its_persian_name(client: httpx.Client) -> None:
    draft = client.post("/v1/applications", json={"class": "merchant"}).json()["id"]
    told = client.post(f"/v1/applications/{draft}/accept", json={}, headers=PERSIAN)
    assert told.status_code == 409
    assert told.json()["detail"] == (
        "عملِ «پذیرش» برای درخواستی که در وضعیت «پیش‌نویس» است وجود ندارد: "
        "\u2068service:operator\u2069 عملِ «باز کردن» را انجام داده است"
    )
    assert told.json()["clause"] == "CPS 4.2"


def test_a_field_is_named_with_its_rule_and_never_what_it_holds(client: httpx.Client) -> None:
    draft = client.post("/v1/applications", json={"class": "merchant"}).json()["id"]
    body = {"subject": merchant_subject(name="Shop \u202e4111111111111111"), "csrs": {"signing": "AAAA"}}
    told = client.post(f"/v1/applications/{draft}/submit", json=body, headers=PERSIAN)
    assert told.status_code == 422
    assert told.json()["clause"].startswith("CPS ")
    assert "جهت متن را تغییر می‌دهد" in told.json()["detail"]
    assert apart("U+202E RIGHT-TO-LEFT OVERRIDE") in told.json()["detail"]
    assert "4111111111111111" not in told.text


def test_findings_of_a_case_are_told_in_the_language_of_the_reader(world: RaWorld, client: httpx.Client) -> None:
    application = world.open_merchant(documents=())
    path = f"/v1/applications/{application.id}"
    persian, english = client.get(path, headers=PERSIAN), client.get(path, headers=ENGLISH)
    assert (persian.headers["content-language"], english.headers["content-language"]) == ("fa", "en")
    persian_findings, english_findings = persian.json()["findings"], english.json()["findings"]
    assert [each["code"] for each in persian_findings] == [each["code"] for each in english_findings]
    assert "مدرکِ قرارداد با بانک پذیرنده در پرونده نیست" in [each["message"] for each in persian_findings]
    assert "no acquirer_agreement on file" in [each["message"] for each in english_findings]


def test_why_a_case_came_back_is_kept_for_readers_of_every_language(world: RaWorld, client: httpx.Client) -> None:
    application = world.open_merchant(acquirer_bin="999999", documents=())
    path = f"/v1/applications/{application.id}"
    persian, english = client.get(path, headers=PERSIAN).json(), client.get(path, headers=ENGLISH).json()
    assert (persian["state"], english["state"]) == ("RETURNED", "RETURNED")
    assert english["trouble"] == "CPS 3.2.2 ID-ACQUIRER: the acquirer's prefix is of no member bank"
    assert persian["trouble"].startswith("پیش‌شمارهٔ پذیرنده از آنِ هیچ بانک عضوی نیست (")


def test_the_transport_refuses_in_the_language_of_the_reader_too(client: httpx.Client) -> None:
    told = client.post("/v1/applications", json={"class": "emperor"}, headers=PERSIAN)
    assert told.status_code == 422
    assert told.json()["detail"].startswith(f"فیلد {apart('body.class')} قاعدهٔ «")
    assert "emperor" not in told.text
