"""Closed lists of algorithms, compared as bytes."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from pki import algorithms
from pki.algorithms import SealingSuite, SignatureSuite
from pki.errors import CertificateError
from tests.support.judges import openssl
from tests.support.pki_factory import p256, rsa_key


def test_a_suite_follows_from_the_key() -> None:
    assert SignatureSuite.for_key(rsa_key().public_key()) is SignatureSuite.RSA_PSS_SHA256
    assert SignatureSuite.for_key(p256().public_key()) is SignatureSuite.ECDSA_SHA256


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()], ids=["p384", "ed25519"]
)
def test_other_keys_sign_no_messages(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> None:
    with pytest.raises(CertificateError) as refused:
        SignatureSuite.for_key(key.public_key())
    assert refused.value.reason == "weak_algorithm"


def test_what_we_write_is_on_the_list_of_what_we_read() -> None:
    for suite in SignatureSuite:
        assert algorithms.SIGNATURE_IDENTIFIERS[suite.identifier] is suite
    for sealing in SealingSuite:
        assert algorithms.SEALING_IDENTIFIERS[sealing.identifier] is sealing
    assert algorithms.SHA256_IDENTIFIER in algorithms.SHA256_IDENTIFIERS


def test_pss_parameters_state_sha256_mgf1_and_salt_32() -> None:
    shown = openssl("asn1parse", "-inform", "DER", stdin=SignatureSuite.RSA_PSS_SHA256.identifier).decode()
    for part in ("rsassaPss", "sha256", "mgf1", ":20"):
        assert part in shown


def test_oaep_identifiers_are_the_capabilities_of_rfc_3560() -> None:
    assert SealingSuite.OAEP_SHA1.identifier.hex() == "300d06092a864886f70d0101073000"
    assert SealingSuite.OAEP_SHA256.identifier.hex() == (
        "303806092a864886f70d010107302ba00d300b0609608648016503040201a11a301806092a864886f70d010108300b0609608648016503040201"
    )


def test_lists_are_as_short_as_meant() -> None:
    assert len(algorithms.SHA256_IDENTIFIERS) == 2
    assert len(algorithms.SIGNATURE_IDENTIFIERS) == 5
    assert len(algorithms.SEALING_IDENTIFIERS) == 5
    assert len(algorithms.CERTIFICATE_SIGNATURE_OIDS) == 4


def test_an_issuer_key_has_one_certificate_signature_algorithm() -> None:
    identifiers = {
        algorithms.certificate_signature_identifier(key)
        for key in (
            rsa_key().public_key(),
            p256().public_key(),
            ec.generate_private_key(ec.SECP384R1()).public_key(),
        )
    }
    assert len(identifiers) == 3


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP521R1()), ed25519.Ed25519PrivateKey.generate()], ids=["p521", "ed25519"]
)
def test_other_keys_issue_nothing(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> None:
    with pytest.raises(CertificateError):
        algorithms.certificate_signature_identifier(key.public_key())
