"""What comes back from the token boundary is compared before it is believed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ca.errors import CompareError, SigningRefusedError, TokenUnavailableError
from ca.signing import sign_certificate, sign_crl
from pki.builder import assemble_certificate, assemble_crl
from runtime.problems import Problem
from tests.support.pki_factory import PkiFactory, p256, rsa_key
from tests.support.software_signing import raw_signature


class Answering:
    """A signing service that answers as told."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self.answer = answer

    def sign_certificate(self, _name: str, tbs: bytes, _basis: object = None) -> bytes:
        return self.answer(tbs)

    sign_crl = sign_certificate


def certificate(answer: Callable[[bytes], bytes], tbs: bytes, key: Any) -> x509.Certificate:
    return sign_certificate(Answering(answer), "merchant-ca", tbs, key.public_key())  # type: ignore[arg-type]  # only signs


@pytest.fixture(scope="module")
def pki() -> PkiFactory:
    return PkiFactory()


@pytest.mark.parametrize(
    "key", [p256(), ec.generate_private_key(ec.SECP384R1()), rsa_key(0)], ids=["P-256", "P-384", "RSA"]
)
def test_the_certificate_that_was_asked_for_is_accepted(pki: PkiFactory, key: Any) -> None:
    honest = PkiFactory(make_key=lambda: key).root.certificate
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256:
        honest = _p384_root(key)
    tbs = honest.tbs_certificate_bytes

    signed = certificate(lambda tbs: assemble_certificate(tbs, raw_signature(key, tbs), key.public_key()), tbs, key)

    assert signed.tbs_certificate_bytes == tbs


def _p384_root(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    made = PkiFactory()
    return made.build(
        subject=made.root.certificate.subject,
        issuer=made.root.certificate.subject,
        public_key=key.public_key(),
        issuer_key=key,
        extensions={},
        algorithm=hashes.SHA384(),
    )


def test_other_bytes_than_the_linted_ones_are_refused(pki: PkiFactory) -> None:
    key = pki.merchant_ca.credential.key
    asked, other = pki.merchant("M-1").certificate, pki.merchant("M-2")

    with pytest.raises(CompareError, match="other bytes"):
        certificate(lambda _tbs: other.der, asked.tbs_certificate_bytes, key)


def test_a_signature_by_another_key_is_refused(pki: PkiFactory) -> None:
    tbs, key, stranger = pki.merchant().certificate.tbs_certificate_bytes, pki.merchant_ca.credential.key, p256()

    with pytest.raises(CompareError):
        certificate(
            lambda tbs: assemble_certificate(tbs, raw_signature(stranger, tbs), stranger.public_key()), tbs, key
        )


def test_another_algorithm_beside_the_signature_is_refused(pki: PkiFactory) -> None:
    key = pki.merchant_ca.credential.key
    tbs = pki.merchant().certificate.tbs_certificate_bytes
    # An honest signature, labelled as RSA's
    with pytest.raises(CompareError, match="algorithm"):
        certificate(lambda tbs: assemble_certificate(tbs, raw_signature(key, tbs), rsa_key(0).public_key()), tbs, key)


@pytest.mark.parametrize("answer", [b"", b"\x30\x00", b"no DER"])
def test_what_is_no_certificate_is_refused(pki: PkiFactory, answer: bytes) -> None:
    with pytest.raises(CompareError):
        certificate(
            lambda _tbs: answer, pki.merchant().certificate.tbs_certificate_bytes, pki.merchant_ca.credential.key
        )


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (422, SigningRefusedError),
        (403, SigningRefusedError),
        (409, SigningRefusedError),
        (429, TokenUnavailableError),
        (500, TokenUnavailableError),
        (503, TokenUnavailableError),
    ],
)
def test_a_refusal_is_final_and_trouble_is_not(pki: PkiFactory, status: int, error: type[Exception]) -> None:
    def answer(_tbs: bytes) -> bytes:
        raise Problem(status, "whatever", "told so", clause="RFC 5280 4.1")

    with pytest.raises(error, match="told so"):
        certificate(answer, pki.merchant().certificate.tbs_certificate_bytes, pki.merchant_ca.credential.key)


def test_crls_are_compared_too(pki: PkiFactory) -> None:
    key = pki.merchant_ca.credential.key
    tbs = pki.merchant_ca.crl(pki.now).tbs_certlist_bytes
    other = pki.merchant_ca.crl(pki.now, number=77).public_bytes(Encoding.DER)

    def asked(answer: Callable[[bytes], bytes]) -> x509.CertificateRevocationList:
        return sign_crl(Answering(answer), "merchant-ca", tbs, key.public_key())  # type: ignore[arg-type]  # only signs

    assert asked(lambda tbs: assemble_crl(tbs, raw_signature(key, tbs), key.public_key())).tbs_certlist_bytes == tbs
    with pytest.raises(CompareError, match="other bytes"):
        asked(lambda _tbs: other)
