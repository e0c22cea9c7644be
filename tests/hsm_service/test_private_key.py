"""Certificates, requests and CRLs built by `cryptography` with keys that stay in the token; OpenSSL is the judge."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo, Prehashed
from cryptography.x509.oid import NameOID

from hsm_service.errors import KeyMisused
from hsm_service.private_key import TokenEcPrivateKey, TokenRsaPrivateKey, private_key
from hsm_service.tokens import Token
from tests.support.softhsm import opened, provisioned_home

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Token key")])
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    with opened(provisioned_home(tmp_path_factory.mktemp("private-key")), "ca") as token:
        yield token


@pytest.fixture(scope="module")
def rsa_key(token: Token) -> TokenRsaPrivateKey:
    return TokenRsaPrivateKey(token, token.generate_rsa("rsa", 3072)[0])


@pytest.fixture(scope="module")
def ec_key(token: Token) -> TokenEcPrivateKey:
    return TokenEcPrivateKey(token, token.generate_ec("ec")[0])


@pytest.fixture(params=["rsa", "ec"])
def key(request: pytest.FixtureRequest, rsa_key: TokenRsaPrivateKey, ec_key: TokenEcPrivateKey) -> object:
    return rsa_key if request.param == "rsa" else ec_key


def openssl(folder: Path, *arguments: str) -> str:
    result = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def pem(value: x509.Certificate | x509.CertificateSigningRequest | x509.CertificateRevocationList) -> bytes:
    return value.public_bytes(serialization.Encoding.PEM)


def test_a_certificate_and_a_crl_are_signed_in_the_token(
    key: TokenRsaPrivateKey | TokenEcPrivateKey, tmp_path: Path
) -> None:
    certificate = (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(NAME)
        .last_update(NOW)
        .next_update(NOW + timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "root.pem").write_bytes(pem(certificate))
    (tmp_path / "root.crl").write_bytes(pem(crl))
    moment = str(int((NOW + timedelta(days=1)).timestamp()))
    openssl(
        tmp_path, "verify", "-attime", moment, "-crl_check", "-CRLfile", "root.crl", "-CAfile", "root.pem", "root.pem"
    )


def test_a_request_proves_possession(key: TokenRsaPrivateKey | TokenEcPrivateKey, tmp_path: Path) -> None:
    request = x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(key, hashes.SHA256())
    (tmp_path / "request.pem").write_bytes(pem(request))
    assert "verify OK" in openssl(tmp_path, "req", "-verify", "-noout", "-in", "request.pem")


def test_a_digest_made_elsewhere_is_signed_as_it_is(rsa_key: TokenRsaPrivateKey, ec_key: TokenEcPrivateKey) -> None:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(b"data")
    value, prehashed = digest.finalize(), Prehashed(hashes.SHA256())
    public = rsa_key.public_key()
    public.verify(rsa_key.sign(value, PSS, prehashed), b"data", PSS, hashes.SHA256())
    public.verify(rsa_key.sign(value, padding.PKCS1v15(), prehashed), b"data", padding.PKCS1v15(), hashes.SHA256())
    ec_key.public_key().verify(ec_key.sign(value, ec.ECDSA(prehashed)), b"data", ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize(
    ("scheme", "algorithm"),
    [
        (padding.PSS(padding.MGF1(hashes.SHA256()), 20), hashes.SHA256()),
        (padding.PSS(padding.MGF1(hashes.SHA384()), 32), hashes.SHA256()),
        (PSS, hashes.SHA384()),
        (padding.PKCS1v15(), NoDigestInfo()),
    ],
    ids=["salt", "mgf hash", "hash", "no hash"],
)
def test_other_signature_parameters_are_refused(
    rsa_key: TokenRsaPrivateKey, scheme: padding.PSS | padding.PKCS1v15, algorithm: hashes.HashAlgorithm
) -> None:
    with pytest.raises(UnsupportedAlgorithm):
        rsa_key.sign(b"data", scheme, algorithm)


def test_the_private_half_cannot_be_had(rsa_key: TokenRsaPrivateKey, ec_key: TokenEcPrivateKey) -> None:
    for key in (rsa_key, ec_key):
        with pytest.raises(UnsupportedAlgorithm):
            key.private_numbers()
        with pytest.raises(UnsupportedAlgorithm):
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        assert copy.copy(key) is key
        assert copy.deepcopy(key) is key
    with pytest.raises(UnsupportedAlgorithm):
        rsa_key.decrypt(bytes(384), padding.PKCS1v15())
    with pytest.raises(UnsupportedAlgorithm):
        ec_key.exchange(ec.ECDH(), ec_key.public_key())
    assert repr(rsa_key) == "<TokenRsaPrivateKey 'rsa' in <Token ca>>"


def test_each_kind_of_key_gets_its_class(token: Token, rsa_key: TokenRsaPrivateKey, ec_key: TokenEcPrivateKey) -> None:
    for key in (rsa_key, ec_key):
        again = private_key(token, key._ref)
        assert type(again) is type(key)
        assert again.public_key() == key.public_key()
        assert again.key_size == key.public_key().key_size
    assert isinstance(ec_key.curve, ec.SECP256R1)
    with pytest.raises(KeyMisused):
        private_key(token, token.generate_aes("secret"))
    with pytest.raises(KeyMisused):
        TokenEcPrivateKey(token, rsa_key._ref)
    with pytest.raises(KeyMisused):
        TokenRsaPrivateKey(token, ec_key._ref)
