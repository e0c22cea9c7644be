"""Dual control over HTTP with mutual TLS: 202, officers' approvals, and input that is none."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator

import httpx
import pytest

from hsm_service.client import HsmClient
from hsm_service.operation_request import parse_request
from tests.support.key_officers import KeyOfficers, asked
from tests.support.signing_site import OPERATOR, Served, refusal

OFFICER = "officer:officer-1"


@pytest.fixture
def officer_http(served: Served) -> Iterator[httpx.Client]:
    with served.http(OFFICER) as client:
        yield client


@pytest.mark.parametrize("request_id", ["0" * 64, "f" * 64, "nonsense", "A" * 64, "..%2f..%2fkeys", "0" * 63, "۰" * 64])
def test_there_is_nothing_to_approve_under_an_unknown_id(request_id: str, officer_http: httpx.Client) -> None:
    for answer in (
        officer_http.get(f"/v1/operations/{request_id}"),
        officer_http.post(f"/v1/operations/{request_id}/approvals", json={"approval": "AAAA"}),
        officer_http.post(f"/v1/operations/{request_id}:execute"),
    ):
        assert answer.status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"[]", 422),
        (b'{"approval": 1}', 422),
        (b'{"approval": "not base64!"}', 422),
        (b'{"approval": "AAAA", "force": true}', 422),
        (b'{"approval": null}', 422),
        (b'{"approval": "' + b"A" * 10_000_000 + b'"}', 413),
    ],
    ids=range(8),
)
def test_a_body_of_another_form_is_refused(
    body: bytes, status: int, served: Served, officer_http: httpx.Client
) -> None:
    request = asked(served.vault, "bodies")
    answer = officer_http.post(f"/v1/operations/{request.id}/approvals", content=body)
    assert answer.status_code == status
    assert served.vault.operations.show(OFFICER, request.id).approvals == ()


def test_over_the_network_a_key_that_needs_officers_is_answered_202(served: Served, officer_http: httpx.Client) -> None:
    officers = KeyOfficers(served.world.pki)
    with served.http(OPERATOR) as operator:
        command = {"name": "by-network", "template": "merchant-signing-ec", "owner": "M-9", "reason": "فروشگاه"}
        answer = operator.post("/v1/keys", json=command)
        assert (answer.status_code, answer.headers["content-type"]) == (202, "application/json")
        assert operator.post("/v1/keys", json={**command, "reason": "x" * 501}).status_code == 422
        request_id = answer.json()["id"]
        for officer in (officers.first, officers.second):
            shown = officer_http.get(f"/v1/operations/{request_id}").json()
            request = parse_request(b64decode(shown["request"]))
            assert "فروشگاه" in json.dumps(shown["text"], ensure_ascii=False)
            signed = b64encode(officers.approve(request, officer)).decode()
            done = officer_http.post(f"/v1/operations/{request_id}/approvals", json={"approval": signed})
        assert done.json()["state"] == "DONE"
        assert operator.get(f"/v1/operations/{request_id}").json()["state"] == "DONE"
        assert operator.get("/v1/keys/by-network").json()["state"] == "ENABLED"
    with HsmClient.connect(served.url, served.identity(OFFICER)) as client:
        assert client.operation(request_id).state == "DONE"
        assert request_id in {each.id for each in client.operations()}
        assert client.execute(request_id).state == "DONE"
        refusal(lambda: client.execute(asked(served.vault, "waiting").id), 409, "not-approved")
