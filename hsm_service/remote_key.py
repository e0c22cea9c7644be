"""Keys of the HSM service that `cryptography`, and any library on top of it, can sign with over the network.

    with HsmClient.connect(url, tls) as hsm:
        key = remote_private_key(hsm, "raw-ec")
        certificate = builder.sign(key, hashes.SHA256())        # cryptography
        token = jwt.encode(claims, key, algorithm="ES256")      # PyJWT

Such a library hands over a digest. So this is for keys of purpose `raw` alone, which a ceremony made to sign digests
that nobody can explain; every other key signs structures, and the refusal says by which method. The version is fixed
when the key is looked up: its public half stands in what is being built, and after a rotation the service refuses
rather than signs by another. Refusals are raised as `runtime.problems.Problem`, as by the client.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from hsm_service.client import HsmClient
from hsm_service.errors import KeyMisused
from hsm_service.held_key import HeldEcPrivateKey, HeldRsaPrivateKey
from hsm_service.service import KeyInfo, RawAlgorithm

_INSTEAD: Final[Mapping[str, str]] = {
    "ca": "HsmClient.sign_certificate and sign_crl take a TBSCertificate or TBSCertList",
    "cms": "HsmClient.sign_cms takes a message content",
    "ocsp": "HsmClient.sign_ocsp takes a ResponseData",
    "timestamp": "HsmClient.sign_timestamp takes a TSTInfo",
    "checkpoint": "HsmClient.sign_checkpoint takes a log's checkpoint",
    "open-order": "it signs the request for its own certificate alone: HsmClient.certification_request",
    "probe": "it signs what the service's self-test makes up, and nothing that anybody could send",
    "restore": "it unwraps backups and signs nothing",
}
"""Purpose → what to call for a key that signs no digests."""


class _AtService:
    """Has a digest signed by one version of a key."""

    def __init__(self, client: HsmClient, info: KeyInfo) -> None:
        self._client = client
        self._name = info.name
        self._version = info.version

    def sign(self, scheme: RawAlgorithm, digest: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
        if not isinstance(algorithm, hashes.SHA256):
            raise UnsupportedAlgorithm(f"key {self._name} signs SHA-256 digests, not {algorithm.name}")
        return self._client.sign_digest(self._name, scheme, digest, version=self._version)


class RemoteRsaPrivateKey(HeldRsaPrivateKey):
    """An RSA key of the service. Signs PKCS#1 v1.5 and PSS (salt of 32 bytes), both with SHA-256."""

    def __init__(self, public: rsa.RSAPublicKey, service: _AtService, where: str) -> None:
        super().__init__(public, where)
        self._service = service

    def _pkcs1v15(self, digest: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
        return self._service.sign("rsa-pkcs1v15-sha256", digest, algorithm)

    def _pss_sha256(self, digest: bytes) -> bytes:
        return self._service.sign("rsa-pss-sha256", digest, hashes.SHA256())


class RemoteEcPrivateKey(HeldEcPrivateKey):
    """An EC key of the service. Signs ECDSA with SHA-256."""

    def __init__(self, public: ec.EllipticCurvePublicKey, service: _AtService, where: str) -> None:
        super().__init__(public, where)
        self._service = service

    def _ecdsa(self, digest: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
        return self._service.sign("ecdsa-sha256", digest, algorithm)


def remote_private_key(
    client: HsmClient, name: str, version: int | None = None
) -> RemoteRsaPrivateKey | RemoteEcPrivateKey:
    """The key `name` (by default the version in use) as `cryptography` wants it; the client must outlive it.

    Raises KeyMisused for a key that signs no digests, and Problem as `HsmClient.describe_key`.
    """
    info = client.describe_key(name) if version is None else client.describe_version(name, version)
    if not info.raw:
        instead = _INSTEAD.get(info.purpose, "it is a secret key and signs nothing")
        raise KeyMisused(f"key {info.name} is for {info.purpose} and signs no digests: {instead}")
    public = load_der_public_key(info.public_key)
    service, where = _AtService(client, info), f"{info.name!r}, version {info.version}, at the HSM service"
    if isinstance(public, rsa.RSAPublicKey):
        return RemoteRsaPrivateKey(public, service, where)
    if isinstance(public, ec.EllipticCurvePublicKey):
        return RemoteEcPrivateKey(public, service, where)
    raise KeyMisused(f"key {info.name} is neither an RSA nor an EC key")
