"""Acceptance of certificates: the statement, and who may make it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat import asn1

from cps.acceptance import AcceptanceTBS, build_acceptance, check_acceptance, parse_acceptance
from cps.errors import StatementError
from pki import cms_signed
from pki.der import encode
from pki.oids import CT_ACCEPTANCE, CT_DECISION
from tests.support.pki_factory import NOW, Credential, PkiFactory


@pytest.fixture(scope="module")
def pki() -> PkiFactory:
    return PkiFactory()


@pytest.fixture(scope="module")
def shop(pki: PkiFactory) -> Credential:
    return pki.service("shop")


def accepted(
    by: Credential,
    *certificates: x509.Certificate,
    application_id: str = "case-1",
    content_type: x509.ObjectIdentifier = CT_ACCEPTANCE,
) -> bytes:
    content = build_acceptance(application_id, certificates, NOW)
    return cms_signed.sign(content_type, content, key=by.key, signer=by.certificate, chain=by.chain, signing_time=NOW)


def test_whoever_has_a_certified_key_accepts(shop: Credential) -> None:
    acceptance = check_acceptance(accepted(shop, shop.certificate), "case-1", [shop.certificate])
    assert (acceptance.application_id, len(acceptance.certificates), acceptance.date) == ("case-1", 1, NOW)


def test_an_acceptance_of_two_certificates_names_both(pki: PkiFactory, shop: Credential) -> None:
    other = pki.service("shop-tls").certificate
    signed = accepted(shop, shop.certificate, other)
    assert len(check_acceptance(signed, "case-1", [other, shop.certificate]).certificates) == 2
    with pytest.raises(StatementError, match="other certificates"):
        check_acceptance(signed, "case-1", [shop.certificate])
    with pytest.raises(StatementError, match="other certificates"):
        check_acceptance(accepted(shop, shop.certificate), "case-1", [other, shop.certificate])


def test_the_key_of_another_case_accepts_nothing(pki: PkiFactory, shop: Credential) -> None:
    with pytest.raises(StatementError, match="not signed by a key that was certified in the case"):
        check_acceptance(accepted(pki.service("thief"), shop.certificate), "case-1", [shop.certificate])


def test_an_acceptance_is_of_one_case(shop: Credential) -> None:
    signed = accepted(shop, shop.certificate, application_id="case-2")
    with pytest.raises(StatementError, match="other certificates"):
        check_acceptance(signed, "case-1", [shop.certificate])


def test_another_statement_is_no_acceptance(shop: Credential) -> None:
    signed = accepted(shop, shop.certificate, content_type=CT_DECISION)
    with pytest.raises(StatementError, match="not an acceptance with a verified signature"):
        check_acceptance(signed, "case-1", [shop.certificate])


@pytest.mark.parametrize(
    ("version", "certificates", "expected"),
    [
        (2, [b"\x01" * 32], "version 2"),
        (1, [], "names 1 to 8"),
        (1, [b"\x01" * 32] * 9, "names 1 to 8"),
        (1, [b"\x01" * 31], "names 1 to 8"),
    ],
)
def test_what_is_not_an_acceptance_is_refused(version: int, certificates: list[bytes], expected: str) -> None:
    date = asn1.GeneralizedTime(datetime(2027, 1, 1, tzinfo=UTC))
    tbs = AcceptanceTBS(version=version, application_id="case-1", certificates=certificates, date=date)
    with pytest.raises(StatementError, match=expected):
        parse_acceptance(encode(tbs))


def test_garbage_is_no_acceptance() -> None:
    with pytest.raises(StatementError, match="not an AcceptanceTBS in DER"):
        parse_acceptance(b"\x30\x00")
