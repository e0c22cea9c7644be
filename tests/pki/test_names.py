"""Names for people, URIs for code."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from pki.errors import CertificateError, DerError
from pki.names import common_name, identity_uri, identity_uris, name, parse_identity, parse_name
from tests.support.judges import openssl
from tests.support.pki_factory import Credential, PkiFactory, pem


def test_a_name_runs_from_the_general_to_the_particular() -> None:
    assert name(cn="M-1", o="Bookshop", ou="Sales").rfc4514_string() == "CN=M-1,OU=Sales,O=Bookshop,C=IR"
    assert name(cn="M-1", c=None).rfc4514_string() == "CN=M-1"


def test_persian_names_are_utf8() -> None:
    assert name(cn="کتاب‌فروشی").public_bytes().count("کتاب‌فروشی".encode()) == 1


def test_a_name_survives_its_encoding() -> None:
    written = name(cn="M-1", o="Bookshop")
    assert parse_name(written.public_bytes()) == written
    with pytest.raises(DerError):
        parse_name(written.public_bytes() + b"\x00")


def test_a_name_has_one_common_name() -> None:
    assert common_name(name(cn="M-1", o="Bookshop")) == "M-1"
    for count in (0, 2):
        several = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "M-1")] * count)
        with pytest.raises(CertificateError) as refused:
            common_name(several)
        assert refused.value.reason == "bad_name"


@pytest.mark.parametrize("kind", ["service", "merchant", "officer", "gateway"])
def test_an_identity_is_a_uri(kind: str) -> None:
    uri = identity_uri(kind, "a-1.b_2")
    assert uri == f"urn:kwbp:{kind}:a-1.b_2"
    assert parse_identity(uri) == (kind, "a-1.b_2")


@pytest.mark.parametrize(
    ("kind", "identifier"),
    [("card", "1"), ("service", ""), ("service", "a:b"), ("service", "a b"), ("service", "-a"), ("merchant", "م")],
)
def test_what_is_not_an_identity_is_not_made_into_one(kind: str, identifier: str) -> None:
    with pytest.raises(ValueError, match="identity"):
        identity_uri(kind, identifier)
    assert parse_identity(f"urn:kwbp:{kind}:{identifier}") is None


def test_other_uris_are_no_identity() -> None:
    assert parse_identity("https://shop.example/") is None


def test_identities_stand_in_subject_alternative_name(pki: PkiFactory, merchant: Credential) -> None:
    assert identity_uris(merchant.certificate) == ("urn:kwbp:merchant:M-1",)
    two = pki.service("ca", uris=["urn:kwbp:service:ca", "urn:kwbp:service:ra"])
    assert identity_uris(two.certificate) == ("urn:kwbp:service:ca", "urn:kwbp:service:ra")
    assert b"URI:urn:kwbp:merchant:M-1" in openssl("x509", "-noout", "-text", stdin=pem(merchant.certificate))


def test_a_certificate_without_alternative_names_has_no_identity(pki: PkiFactory) -> None:
    assert identity_uris(pki.cardholder().certificate) == ()


def test_an_unreadable_alternative_name_is_refused(pki: PkiFactory) -> None:
    broken = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x05")
    credential = pki.cardholder(replace={"subject_alternative_name": (broken, False)})
    with pytest.raises(CertificateError) as refused:
        identity_uris(credential.certificate)
    assert refused.value.reason == "bad_extension"
