"""The life of keys over HTTP with mutual TLS: asked for once, approved, done; and input that is none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from hsm_service.client import AsyncHsmClient, HsmClient
from hsm_service.operation_info import ApprovalNeeded, OperationInfo
from hsm_service.operation_request import parse_request
from pki.csr import parse_csr
from pki.keys import spki_der
from pki.names import name
from tests.support.key_officers import KeyOfficers
from tests.support.pki_factory import NOW
from tests.support.signing_site import (
    ACK,
    CEREMONY,
    OPERATOR,
    SHOP,
    Served,
    acknowledgement,
    der,
    merchant_chain,
    public_key,
    refusal,
)

OFFICER = "officer:officer-1"


@pytest.fixture
def operator(served: Served) -> Iterator[HsmClient]:
    with HsmClient.connect(served.url, served.identity(OPERATOR)) as client:
        yield client


def needed(call: Any) -> OperationInfo:
    with pytest.raises(ApprovalNeeded) as asked:
        call()
    return asked.value.operation


def approved(served: Served, asked: OperationInfo) -> OperationInfo:
    """The request after two officers signed it."""
    officers, request = KeyOfficers(served.world.pki), parse_request(asked.request)
    for officer in (officers.first, officers.second):
        last = served.vault.operations.approve(OFFICER, asked.id, officers.approve(request, officer))
    return last


def test_a_coming_version_gets_its_certificate_before_it_signs(served: Served, operator: HsmClient) -> None:
    asked = needed(lambda: operator.rotate("shop-ec", reason="yearly"))
    assert needed(lambda: operator.rotate("shop-ec")).id == asked.id, "asking again is the same request"
    assert approved(served, asked).state == "DONE"
    versions = operator.list_versions("shop-ec")
    assert [(info.version, info.in_use) for info in versions] == [(1, True), (2, False)]

    subject = name(cn="M-1").public_bytes()
    request = parse_csr(operator.certification_request("shop-ec", subject, ["urn:kwbp:merchant:M-1"], version=2))
    assert spki_der(request.public_key()) == versions[1].public_key
    with HsmClient.connect(served.url, served.identity(SHOP)) as shop:
        assert shop.sign("shop-ec", "cms", acknowledgement(), content_type=ACK).version == 1
        chain = merchant_chain(served.world.pki, "M-1", public_key(versions[1].public_key))
        operator.attach_certificate("shop-ec", der(*chain))
        assert shop.sign("shop-ec", "cms", acknowledgement(), content_type=ACK).version == 2
        old = lambda: shop.sign("shop-ec", "cms", acknowledgement(), content_type=ACK, version=1)  # noqa: E731
        refusal(old, 409, "key-not-in-use")


def test_both_clients_disable_and_ask_for_the_rest(served: Served, operator: HsmClient) -> None:
    assert operator.disable("other-shop", 1).state == "DISABLED"
    asked = [
        needed(lambda: operator.enable("other-shop", 1)),
        needed(lambda: operator.destroy("other-shop", 1, at=NOW + timedelta(days=2))),
        needed(lambda: operator.limit("other-shop", {"uses": 5, "rate": None}, reason="a test")),
    ]

    async def the_same() -> list[str]:
        async with AsyncHsmClient.connect(served.url, served.identity(OPERATOR)) as client:
            calls = (
                client.enable("other-shop", 1),
                client.destroy("other-shop", 1, at=NOW + timedelta(days=2)),
                client.limit("other-shop", {"uses": 5, "rate": None}, version=1),
            )
            found = []
            for call in calls:
                with pytest.raises(ApprovalNeeded) as again:
                    await call
                found.append(again.value.operation.id)
            return found

    assert asyncio.run(the_same()) == [each.id for each in asked]
    refusal(lambda: operator.keep("other-shop", 1), 409, "key-state")
    assert approved(served, asked[0]).state == "DONE"
    late = approved(served, asked[1])
    assert (late.state, late.result and late.result["reason"]) == ("FAILED", "key-state"), "it is judged again"
    assert operator.describe_key("other-shop").state == "ENABLED"


def test_what_was_answered_under_an_idempotency_key_is_answered_again(served: Served) -> None:
    with served.http(OPERATOR) as http:
        disable = "/v1/keys/bare-shop/versions/1:disable"
        first = http.post(disable, json={}, headers={"Idempotency-Key": "k1"})
        assert first.json()["state"] == "DISABLED"
        served.vault.life.enable(CEREMONY, "bare-shop", 1)
        again = http.post(disable, json={}, headers={"Idempotency-Key": "k1"})
        assert (again.status_code, again.content) == (200, first.content)
        assert http.get("/v1/keys/bare-shop").json()["state"] == "ENABLED"


FAR = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).isoformat()
BAD: list[tuple[str, str, Any, int, str]] = [
    ("POST", ":rotate", {"activate_at": "tomorrow"}, 422, "invalid-request"),
    ("POST", ":rotate", {"activate_at": "2030-01-01T00:00:00"}, 422, "invalid-request"),
    ("POST", ":rotate", {"activate_at": FAR}, 422, "bad-time"),
    ("POST", ":rotate", {"activate_at": "9999-12-31T23:59:59-14:00"}, 422, "bad-time"),
    ("POST", ":rotate", {"activate_at": "0001-01-01T00:00:00+14:00"}, 422, "bad-time"),
    ("POST", ":rotate", {"activate_at": 1}, 422, "invalid-request"),
    ("POST", ":rotate", {"reason": "x" * 501}, 422, "invalid-request"),
    ("POST", ":rotate", {"now": True}, 422, "invalid-request"),
    ("POST", ":rotate", [], 422, "invalid-request"),
    ("POST", "/versions/9:enable", {}, 404, "key-not-found"),
    ("POST", "/versions/0:disable", {}, 404, "key-not-found"),
    ("POST", "/versions/1:keep", {}, 409, "key-state"),
    ("POST", "/versions/1:destroy", {"at": FAR}, 422, "bad-time"),
    ("POST", "/versions/1:destroy", {"at": NOW.isoformat()}, 422, "too-soon"),
    ("PUT", "/limits", {"uses": -1}, 422, "invalid-request"),
    ("PUT", "/limits", {"uses": 2**64}, 422, "invalid-request"),
    ("PUT", "/limits", {"rate": 0}, 422, "invalid-request"),
    ("PUT", "/limits", {"speed": 1}, 422, "invalid-request"),
    ("PUT", "/limits", {"not_before": FAR, "not_after": NOW.isoformat()}, 422, "bad-limits"),
    ("POST", ":backup", {"recipient": "AAAA", "attestation": "AAAA"}, 409, "key-misused"),
    ("POST", ":backup", {"recipient": ""}, 422, "invalid-request"),
]


@pytest.fixture(scope="module")
def http(served: Served) -> Iterator[httpx.Client]:
    with served.http(OPERATOR) as client:
        yield client


@pytest.mark.parametrize(("method", "path", "body", "status", "slug"), BAD, ids=range(len(BAD)))
def test_input_that_is_none_is_refused_and_changes_nothing(
    method: str, path: str, body: Any, status: int, slug: str, served: Served, http: httpx.Client
) -> None:
    before = served.vault.list_versions(CEREMONY, "shop")
    requests = len(served.vault.operations.list(OFFICER))
    answer = http.request(method, f"/v1/keys/shop{path}", json=body)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:kwbp:problem:{slug}")
    assert served.vault.list_versions(CEREMONY, "shop") == before
    assert len(served.vault.operations.list(OFFICER)) == requests
    entry = served.world.last_entry()
    assert (entry["event"], entry["reason"]) == ("refused", slug)


def test_a_statement_about_another_key_gets_no_backup(served: Served, operator: HsmClient) -> None:
    recipient = operator.describe_key("backup-recipient").public_key
    statement = operator.attest_key("backup-recipient")
    asked = needed(lambda: operator.back_up("lasting-ca-ec", recipient=recipient, attestation=statement))
    assert asked.operation == "backup"
    other = operator.attest_key("shop")
    refusal(lambda: operator.back_up("lasting-ca-ec", recipient=recipient, attestation=other), 422, "bad-attestation")
