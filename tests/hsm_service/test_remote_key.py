"""Libraries that know nothing of us sign with a token key over the network; OpenSSL and they are the judges."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import jwt
import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import pkcs7

from hsm_service.client import HsmClient
from hsm_service.errors import KeyMisused
from hsm_service.remote_key import RemoteEcPrivateKey, RemoteRsaPrivateKey, remote_private_key
from pki.names import name
from tests.support.judges import attime, openssl
from tests.support.pki_factory import NOW, pem
from tests.support.signing_site import Served, refusal
from tests.support.softhsm import run_python

BENCH = "service:bench"
NAME = name(cn="A foreign system")
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
Key = RemoteRsaPrivateKey | RemoteEcPrivateKey


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[HsmClient]:
    with HsmClient.connect(served.url, served.identity(BENCH)) as client:
        yield client


@pytest.fixture(scope="module")
def rsa_key(client: HsmClient) -> RemoteRsaPrivateKey:
    key = remote_private_key(client, "raw-rsa-2048")
    assert isinstance(key, RemoteRsaPrivateKey)
    return key


@pytest.fixture(scope="module")
def ec_key(client: HsmClient) -> RemoteEcPrivateKey:
    key = remote_private_key(client, "raw-ec")
    assert isinstance(key, RemoteEcPrivateKey)
    return key


@pytest.fixture(params=["rsa", "ec"])
def key(request: pytest.FixtureRequest, rsa_key: RemoteRsaPrivateKey, ec_key: RemoteEcPrivateKey) -> Key:
    return rsa_key if request.param == "rsa" else ec_key


def certificate_of(key: Key) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


def test_cryptography_builds_a_certificate_a_list_and_a_request(key: Key, served: Served, tmp_path: Path) -> None:
    certificate = certificate_of(key)
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(NAME)
        .last_update(NOW)
        .next_update(NOW + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(key, hashes.SHA256())
    assert request.is_signature_valid
    root, lists = tmp_path / "root.pem", tmp_path / "root.crl"
    root.write_bytes(pem(certificate))
    lists.write_bytes(crl.public_bytes(serialization.Encoding.PEM))
    openssl("verify", *attime(NOW), "-crl_check", "-CRLfile", lists, "-CAfile", root, root)
    entry = served.world.last_entry()
    assert (entry["event"], entry["result"]) == ("outcome", "done")  # each signature is on the record


def test_cryptography_builds_a_certificate_with_pss(rsa_key: RemoteRsaPrivateKey) -> None:
    request = x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(rsa_key, hashes.SHA256(), rsa_padding=PSS)
    assert request.is_signature_valid


def test_cryptography_builds_a_signed_message(key: Key, tmp_path: Path) -> None:
    certificate = certificate_of(key)
    message = (
        pkcs7.PKCS7SignatureBuilder()
        .set_data(b"data")
        .add_signer(certificate, key, hashes.SHA256())
        .sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary])
    )
    root, signed = tmp_path / "root.pem", tmp_path / "message"
    root.write_bytes(pem(certificate))
    signed.write_bytes(message)
    command = ("cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any", "-CAfile", root, *attime(NOW))
    assert openssl(*command, "-in", signed) == b"data"


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256"])
def test_pyjwt_signs_tokens(algorithm: str, rsa_key: RemoteRsaPrivateKey, ec_key: RemoteEcPrivateKey) -> None:
    key = ec_key if algorithm == "ES256" else rsa_key
    token = jwt.encode({"sub": "M-1"}, key, algorithm=algorithm)
    assert jwt.decode(token, key.public_key(), algorithms=[algorithm]) == {"sub": "M-1"}


def test_a_digest_made_elsewhere_is_signed_as_it_is(rsa_key: RemoteRsaPrivateKey, ec_key: RemoteEcPrivateKey) -> None:
    digest, prehashed = hashlib.sha256(b"data").digest(), Prehashed(hashes.SHA256())
    public = rsa_key.public_key()
    public.verify(rsa_key.sign(digest, PSS, prehashed), b"data", PSS, hashes.SHA256())
    public.verify(rsa_key.sign(digest, padding.PKCS1v15(), prehashed), b"data", padding.PKCS1v15(), hashes.SHA256())
    ec_key.public_key().verify(ec_key.sign(digest, ec.ECDSA(prehashed)), b"data", ec.ECDSA(hashes.SHA256()))


def test_what_the_service_does_not_sign_is_refused_before_it_is_asked(
    served: Served, rsa_key: RemoteRsaPrivateKey, ec_key: RemoteEcPrivateKey
) -> None:
    entries = len(served.world.journal())
    with pytest.raises(UnsupportedAlgorithm, match="SHA-256 digests, not sha384"):
        rsa_key.sign(b"data", padding.PKCS1v15(), hashes.SHA384())
    with pytest.raises(UnsupportedAlgorithm, match="SHA-256 digests, not sha512"):
        ec_key.sign(b"data", ec.ECDSA(hashes.SHA512()))
    with pytest.raises(UnsupportedAlgorithm, match="salt of 32 bytes"):
        rsa_key.sign(b"data", padding.PSS(padding.MGF1(hashes.SHA256()), 20), hashes.SHA256())
    assert len(served.world.journal()) == entries


def test_the_private_half_cannot_be_had(key: Key) -> None:
    with pytest.raises(UnsupportedAlgorithm):
        key.private_numbers()
    with pytest.raises(UnsupportedAlgorithm):
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    assert copy.deepcopy(key) is key
    assert "version 1, at the HSM service" in repr(key)


@pytest.mark.parametrize(
    ("caller", "named", "method"),
    [
        ("service:ca", "merchant-ca-ec", "HsmClient.sign_certificate"),
        ("merchant:M-1", "shop-ec", "HsmClient.sign_cms"),
        ("service:ca", "ocsp-responder", "HsmClient.sign_ocsp"),
        ("service:ca", "timestamp-authority", "HsmClient.sign_timestamp"),
        ("service:ca", "log-ca", "HsmClient.sign_checkpoint"),
        ("service:gateway", "gateway-encryption", "HsmClient.certification_request"),
        ("service:gateway", "gateway-vault", "secret key"),
    ],
)
def test_a_key_that_signs_structures_says_by_which_method(caller: str, named: str, method: str, served: Served) -> None:
    with HsmClient.connect(served.url, served.identity(caller)) as client:
        with pytest.raises(KeyMisused) as caught:
            remote_private_key(client, named)
    assert method in str(caught.value)
    assert "signs no digests" in str(caught.value)


def test_every_purpose_of_a_key_pair_has_its_method() -> None:
    from hsm_service.remote_key import _INSTEAD
    from hsm_service.templates import built_in

    pairs = {template.purpose.value for template in built_in().templates.values() if template.is_pair}
    assert pairs == {*_INSTEAD, "raw"}


def test_a_version_is_fixed_when_the_key_is_looked_up(served: Served, client: HsmClient) -> None:
    key = remote_private_key(client, "raw-ec", version=1)
    assert isinstance(key, RemoteEcPrivateKey)
    key.sign(b"data", ec.ECDSA(hashes.SHA256()))
    intent = served.world.journal()[-2]
    assert intent["keys"] == ["raw-ec/1"]
    refusal(lambda: remote_private_key(client, "raw-ec", version=9), 404, "key-not-found")
    refusal(lambda: remote_private_key(client, "brand"), 403, "caller-not-allowed")


def test_a_remote_key_needs_no_token_module() -> None:
    program = "import sys, hsm_service.remote_key; print('pkcs11' in sys.modules)"
    assert run_python(program).stdout.strip() == "False"
