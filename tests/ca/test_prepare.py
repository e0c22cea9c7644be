"""Preparing a certificate: the holder must fit the profile, and nobody outlives their issuer."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519

from ca.errors import RequestError
from ca.lints import twin
from ca.prepare import Issuer, new_serial, prepare, supported_key, validity
from ca.profile import profiles
from cps.entitlement import Holder
from pki.names import name
from tests.support.ca_world import PUBLICATION
from tests.support.pki_factory import PkiFactory, p256

SHOP = Holder(p256().public_key(), name(cn="Bookshop", o="Bookshop Co"), identity="urn:kwbp:merchant:M-1")
TLS = replace(SHOP, hosts=("localhost", "127.0.0.1"))


@pytest.fixture(scope="module")
def pki() -> PkiFactory:
    return PkiFactory()


def prepared(pki: PkiFactory, holder: Holder, profile: str = "merchant-signing", issuer: str = "merchant-ca") -> bytes:
    authorities = {authority.role.value: authority.certificate for authority in pki.authorities}
    return prepare(
        profiles()[profile],
        holder,
        issuer=Issuer(issuer, authorities[issuer]),
        serial=1 << 100,
        now=pki.now,
        publication=PUBLICATION,
    )


@pytest.mark.parametrize(
    ("wrong", "holder"),
    [
        ("identity None", replace(SHOP, identity=None)),
        ("identity 'urn:kwbp:officer:o-1'", replace(SHOP, identity="urn:kwbp:officer:o-1")),
        ("host names", TLS),
        ("before it begins", replace(SHOP, not_after=PkiFactory().now - timedelta(seconds=1))),
    ],
)
def test_a_holder_that_does_not_fit_the_profile_is_refused(pki: PkiFactory, wrong: str, holder: Holder) -> None:
    with pytest.raises(RequestError, match=wrong):
        prepared(pki, holder)


def test_an_origin_belongs_to_merchants(pki: PkiFactory) -> None:
    with pytest.raises(RequestError, match="origin"):
        prepared(pki, replace(TLS, origins=("https://shop.example",)), "service-tls", "operations-ca")


def test_a_key_that_the_profile_does_not_certify_is_refused(pki: PkiFactory) -> None:
    holder = Holder(p256().public_key(), name(cn="Gateway", o="Acquirer"), identity="urn:kwbp:gateway:GW-1")
    with pytest.raises(RequestError, match="curve P-256"):
        prepared(pki, holder, "gateway-encryption", "gateway-ca")


def test_an_authority_issues_only_its_own_profiles(pki: PkiFactory) -> None:
    with pytest.raises(RequestError, match="issued by merchant-ca, not by gateway-ca"):
        prepared(pki, SHOP, "merchant-signing", "gateway-ca")
    with pytest.raises(RequestError, match="issued by self"):
        prepared(pki, SHOP, "root", "brand")


def test_host_names_and_addresses_are_told_apart(pki: PkiFactory) -> None:
    certificate = twin(prepared(pki, TLS, "service-tls", "operations-ca"), pki.operations_ca.certificate.public_key())  # type: ignore[arg-type]  # P-256

    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_keys_are_rsa_or_on_a_curve() -> None:
    with pytest.raises(RequestError, match="Ed25519"):
        supported_key(ed25519.Ed25519PrivateKey.generate().public_key())


def test_validity_is_within_the_profile_the_issuer_and_the_limit_of_the_case(pki: PkiFactory) -> None:
    profile = profiles()["merchant-signing"]
    issuer = Issuer("merchant-ca", pki.merchant_ca.certificate)
    limit = pki.now + timedelta(days=10)
    late = issuer.certificate.not_valid_after_utc - timedelta(days=1)
    early = issuer.certificate.not_valid_before_utc + timedelta(seconds=5)

    start, end = validity(profile, issuer, pki.now, None)
    assert (start, end - start) == (pki.now - timedelta(minutes=1), timedelta(days=398))
    assert validity(profile, issuer, pki.now, limit)[1] == limit
    assert validity(profile, issuer, late, None)[1] == issuer.certificate.not_valid_after_utc
    assert validity(profile, issuer, early, None)[0] == issuer.certificate.not_valid_before_utc


def test_serials_are_random_positive_and_long() -> None:
    draws = [b"\x00" * 16, b"\x00" * 8 + b"\xff" * 8, b"\xff" * 16]

    assert new_serial(lambda _n: draws.pop(0)) == (1 << 128) - 1
    assert draws == []
