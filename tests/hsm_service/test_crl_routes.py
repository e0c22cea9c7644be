"""A list of any size over HTTP: judged while it comes, signed once, recorded like every other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from cryptography import x509

from ca.crl import CrlScope, entry_der, header, prepare_crl
from ca.prepare import Issuer
from ca.profile import CrlRule
from hsm_service.app import create_app
from hsm_service.client import AsyncHsmClient, HsmClient
from hsm_service.crl_routes import largest_body
from runtime.client import http_client
from runtime.problems import Problem
from runtime.server import MAX_BODY, start
from tests.support.pki_factory import DAY, NOW
from tests.support.signing_site import CA, SHOP, Served

KEY = "merchant-ca-ec"
RULE = CrlRule(lifetime=2 * DAY, renew_before=DAY)


@pytest.fixture(scope="module")
def url(served: Served) -> Iterator[str]:
    with start(create_app(served.vault), tls=served.tls("hsm"), larger=largest_body) as url:
        yield url


@pytest.fixture
def ca(served: Served, url: str) -> Iterator[httpx.Client]:
    with http_client(served.identity(CA), url) as client:
        yield client


def tbs(served: Served, number: int, entries: int, scope: CrlScope = CrlScope()) -> bytes:
    issuer = x509.load_der_x509_certificate(served.vault.describe_key(CA, KEY).certificate_chain[0])
    listed = [entry_der(format(serial, "x"), NOW - DAY, "superseded") for serial in range(1, entries + 1)]
    return prepare_crl(Issuer(KEY, issuer), number=number, entries=listed, rule=RULE, now=NOW, scope=scope)


def parts(data: bytes) -> Iterator[bytes]:
    return (data[start : start + 100_000] for start in range(0, len(data), 100_000))


def test_a_list_larger_than_any_body_is_signed(served: Served, ca: httpx.Client) -> None:
    data = tbs(served, 10, 40_000)
    assert len(data) > 5 * MAX_BODY

    after = HsmClient(ca).sign_crl_parts(KEY, lambda: parts(data))

    crl = x509.load_der_x509_crl(header(0x30, len(data) + len(after)) + data + after)
    issuer = x509.load_der_x509_certificate(served.vault.describe_key(CA, KEY).certificate_chain[0])
    assert crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    assert len(crl) == 40_000
    intent = served.world.journal()[-2]
    assert (intent["event"], intent["operation"], intent["caller"]) == ("intent", "crl", CA)
    assert (intent["crl_number"], intent["crl_scope"], intent["revoked"]) == ("10", "full", 40_000)
    # A caller whose answer was lost sends the same list again; another one under its number is refused.
    HsmClient(ca).sign_crl_parts(KEY, lambda: parts(data))
    with pytest.raises(Problem) as caught:
        HsmClient(ca).sign_crl_parts(KEY, lambda: parts(tbs(served, 10, 39_999)))
    assert (caught.value.status, caught.value.type) == (409, "crl-number-not-larger")


def test_an_event_loop_sends_one_alike(served: Served, url: str) -> None:
    data = tbs(served, 15, 5_000)

    async def sign() -> bytes:
        async with AsyncHsmClient.connect(url, served.identity(CA)) as hsm:
            return await hsm.sign_crl_parts(KEY, lambda: parts(data))

    after = asyncio.run(sign())
    assert len(x509.load_der_x509_crl(header(0x30, len(data) + len(after)) + data + after)) == 5_000


def test_a_delta_continues_a_list_that_this_key_signed(served: Served, ca: httpx.Client) -> None:
    hsm = HsmClient(ca)
    hsm.sign_crl_parts(KEY, lambda: parts(tbs(served, 20, 3)))
    hsm.sign_crl_parts(KEY, lambda: parts(tbs(served, 21, 1, CrlScope(base=20))))
    with pytest.raises(Problem, match="continues a full CRL"):
        hsm.sign_crl_parts(KEY, lambda: parts(tbs(served, 23, 1, CrlScope(base=21))))
    assert hsm.sign_crl(KEY, tbs(served, 22, 1, CrlScope(base=20)))  # by the other way, too


def test_what_is_refused_is_on_record_and_nothing_was_signed(served: Served, ca: httpx.Client, url: str) -> None:
    uses = served.vault.describe_key(CA, KEY).uses
    answer = ca.post(f"/v1/keys/{KEY}:signCrl", content=parts(tbs(served, 30, 3)[:-1] + b"\x00\x00"))
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:kwbp:problem:malformed")
    entry = served.world.last_entry()
    assert (entry["event"], entry["operation"], entry["reason"]) == ("refused", "crl", "malformed")

    with http_client(served.identity(SHOP), url) as shop:
        answer = shop.post(f"/v1/keys/{KEY}:signCrl", content=parts(tbs(served, 30, 3)))
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:kwbp:problem:caller-not-allowed")
    assert served.world.last_entry()["caller"] == SHOP
    assert served.vault.describe_key(CA, KEY).uses == uses


def test_only_this_route_takes_large_bodies(ca: httpx.Client) -> None:
    large = b"\x30" * (MAX_BODY + 1)
    assert ca.post(f"/v1/keys/{KEY}:sign", content=large).status_code == 413
    assert ca.post(f"/v1/keys/{KEY}:signCrl", content=large).status_code == 422
    assert ca.post(f"/v1/keys/{KEY}/versions/1:signCrl", content=b"").status_code == 422


def test_a_ceremony_signs_in_place_alike(served: Served) -> None:
    data = tbs(served, 40, 5)
    assert served.vault.as_caller(CA).sign_crl_parts(KEY, lambda: parts(data))
    with pytest.raises(Problem, match="DER"):
        served.vault.as_caller(CA).sign_crl_parts(KEY, lambda: parts(b"\x31" + data[1:]))
    assert served.world.last_entry()["event"] == "refused"
