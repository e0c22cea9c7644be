"""TBS bytes first, signature later: the result is what signing at once would have given."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pki.builder import assemble_certificate, assemble_crl, tbs_certificate, tbs_crl
from pki.crl import verify_crl
from pki.errors import CertificateError, DerError
from pki.names import name
from pki.roles import Role, role_of
from tests.support.judges import attime, certtool, openssl_accepts
from tests.support.pki_factory import (
    DAY,
    NOW,
    Authority,
    Credential,
    Key,
    PkiFactory,
    p256,
    pem,
    role_extensions,
    rsa_key,
)

ISSUER = name(cn="Issuer")


def sign(key: Key, tbs: bytes) -> bytes:
    """As a token would."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(tbs, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(tbs, ec.ECDSA(hashes.SHA256() if key.curve.key_size == 256 else hashes.SHA384()))


def certificate_builder(issuer: Key) -> x509.CertificateBuilder:
    """A self-signed root."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(ISSUER)
        .issuer_name(ISSUER)
        .public_key(issuer.public_key())
        .serial_number(4711)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(issuer.public_key()), critical=False)
    )
    for value, critical in role_extensions(Role.ROOT).values():
        builder = builder.add_extension(value, critical=critical)
    return builder


def crl_builder() -> x509.CertificateRevocationListBuilder:
    entry = x509.RevokedCertificateBuilder().serial_number(4712).revocation_date(NOW).build()
    return (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ISSUER)
        .last_update(NOW - timedelta(hours=1))
        .next_update(NOW + DAY)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_revoked_certificate(entry)
    )


KEYS: list[Callable[[], Key]] = [rsa_key, p256, lambda: ec.generate_private_key(ec.SECP384R1())]
each_key = pytest.mark.parametrize("make_key", KEYS, ids=["rsa", "p256", "p384"])


def digest(key: Key) -> hashes.SHA256 | hashes.SHA384:
    return (
        hashes.SHA384()
        if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size == 384
        else hashes.SHA256()
    )


@each_key
def test_the_tbs_is_the_one_that_the_library_would_sign(make_key: Callable[[], Key]) -> None:
    key = make_key()
    made = tbs_certificate(certificate_builder(key), key.public_key())
    assert made == certificate_builder(key).sign(key, digest(key)).tbs_certificate_bytes
    assert tbs_crl(crl_builder(), key.public_key()) == crl_builder().sign(key, digest(key)).tbs_certlist_bytes


@each_key
def test_a_certificate_put_together_is_a_certificate(make_key: Callable[[], Key], tmp_path: Path) -> None:
    key = make_key()
    tbs = tbs_certificate(certificate_builder(key), key.public_key())
    certificate = x509.load_der_x509_certificate(assemble_certificate(tbs, sign(key, tbs), key.public_key()))
    certificate.verify_directly_issued_by(certificate)
    assert certificate.tbs_certificate_bytes == tbs
    assert role_of(certificate) is Role.ROOT
    (tmp_path / "root.pem").write_bytes(pem(certificate))
    assert openssl_accepts(
        "verify", "-x509_strict", *attime(NOW), "-CAfile", tmp_path / "root.pem", tmp_path / "root.pem"
    )
    assert b"Subject: CN=Issuer" in certtool("--certificate-info", stdin=pem(certificate))


@each_key
def test_a_crl_put_together_is_a_crl(make_key: Callable[[], Key], tmp_path: Path) -> None:
    key = make_key()
    issuer = Authority(Credential(certificate_builder(key).sign(key, digest(key)), key, ()), Role.ROOT)
    tbs = tbs_crl(crl_builder(), key.public_key())
    crl = x509.load_der_x509_crl(assemble_crl(tbs, sign(key, tbs), key.public_key()))
    verify_crl(crl, issuer.certificate, NOW)
    assert crl.get_revoked_certificate_by_serial_number(4712) is not None
    (tmp_path / "root.pem").write_bytes(pem(issuer.certificate))
    crl_der = crl.public_bytes(Encoding.DER)
    assert openssl_accepts("crl", "-inform", "DER", "-noout", "-CAfile", tmp_path / "root.pem", stdin=crl_der)
    assert b"Serial Number (hex): 1268" in certtool("--crl-info", "--inder", stdin=crl_der)


@each_key
def test_a_wrong_signature_does_not_verify(make_key: Callable[[], Key]) -> None:
    key = make_key()
    tbs = tbs_certificate(certificate_builder(key), key.public_key())
    other = x509.load_der_x509_certificate(assemble_certificate(tbs, sign(key, tbs + b"\x00"), key.public_key()))
    with pytest.raises(InvalidSignature):
        other.verify_directly_issued_by(other)


def test_the_same_builder_gives_the_same_bytes() -> None:
    key = p256()
    builder = certificate_builder(key)
    assert tbs_certificate(builder, key.public_key()) == tbs_certificate(builder, key.public_key())


@pytest.mark.parametrize(
    "key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP521R1())], ids=["ed25519", "p521"]
)
def test_other_issuer_keys_are_refused(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> None:
    with pytest.raises(CertificateError):
        tbs_certificate(certificate_builder(p256()), key.public_key())
    with pytest.raises(CertificateError):
        tbs_crl(crl_builder(), key.public_key())
    with pytest.raises(CertificateError):
        assemble_certificate(b"\x30\x00", b"\x00", key.public_key())


def test_an_incomplete_builder_is_refused() -> None:
    with pytest.raises(ValueError):
        tbs_certificate(x509.CertificateBuilder(), p256().public_key())


def test_bytes_that_are_not_one_element_are_not_put_together(pki: PkiFactory) -> None:
    for tbs in (b"", b"\x30\x00\x00", b"\x30\x05"):
        with pytest.raises(DerError):
            assemble_certificate(tbs, b"\x00", pki.root.credential.key.public_key())
