"""PCertReq at a real gateway (row 8): merchants learn, signed, what card data are to be sealed to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway import certificate_requests as subject
from kwbp.codes import ErrorCode
from kwbp.gateway_certificates import SentCertificateRequest, build_certificate_request, check_certificate_answer
from kwbp.wrapper import MEDIA_TYPE, unwrap
from pki.oids import CT_ERROR, CT_P_CERT_RES
from tests.support.payment_parties import Shop, error_of, now, signed_by
from tests.support.payment_site import ACQUIRER, GATEWAY_ID, Site, wait_for

PATH = "/v1/certificates"


def request(shop: Shop, *, merchant_id: str | None = None) -> tuple[bytes, bytes]:
    """PCertReq of a shop: SignedData and KwbpMessage."""
    draft = build_certificate_request(
        rrpid=os.urandom(20), merchant_id=merchant_id or shop.merchant_id, chall=os.urandom(32), now=now()
    )
    signed = signed_by(shop.credential, draft)
    return signed, draft.message(signed)


def test_the_certificate_is_the_one_that_invoices_name(site: Site, gateway: str, shop: Shop) -> None:
    signed, message = request(shop)
    response = shop.post(gateway, PATH, message)
    assert (response.status_code, response.headers["content-type"]) == (200, MEDIA_TYPE), response.text
    found = check_certificate_answer(
        unwrap(response.content, expected=(CT_P_CERT_RES,)),
        sent=SentCertificateRequest.load(signed),
        acquirer_bin=ACQUIRER,
        trust=site.pki.trust(now()),
        now=now(),
    )
    assert found.identity.certificate == site.encryption.certificate
    assert found.identity.gateway_id == GATEWAY_ID
    assert len(found.chain) == 2  # gateway CA, brand CA


def test_o1_nobody_asks_in_anothers_name(site: Site, gateway: str, shop: Shop) -> None:
    other = site.new_shop()
    for message in (request(other)[1], request(shop, merchant_id=other.merchant_id)[1]):
        told = error_of(shop.post(gateway, PATH, message).content, message, site)
        assert (told.error_code, told.clause) == (ErrorCode.ROLE_NOT_ALLOWED, "O1")


def test_what_is_no_request_is_refused(gateway: str, shop: Shop) -> None:
    answer = shop.post(gateway, PATH, b"\x30\x00")
    assert unwrap(answer.content, expected=(CT_ERROR,)).msg_type == CT_ERROR


def test_requests_are_counted_for_each_merchant(
    site: Site, tmp_path: Path, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "REQUESTS_A_MINUTE", 1)
    with site.gateway(site.gateway_home(tmp_path / "home"), ready=False) as url:
        wait_for(lambda: _answered(url, shop))
        _, message = request(shop)
        told = error_of(shop.post(url, PATH, message).content, message, site)
        assert (told.error_code, told.clause) == (ErrorCode.RATE_LIMITED, "O1")
        assert _answered(url, site.new_shop())


def _answered(url: str, shop: Shop) -> bool:
    response = shop.post(url, PATH, request(shop)[1])
    return response.status_code == 200 and unwrap(response.content, expected=(CT_P_CERT_RES,)).xid is None
