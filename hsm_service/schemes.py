"""Signature schemes: what is hashed, and what the token is asked for.

The service hashes, the token signs the digest: a CRL of a million entries never crosses into the token's process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from hsm_service import encodings
from hsm_service.judging import SigningKey
from hsm_service.keys import KeyRef
from hsm_service.service import RawAlgorithm
from hsm_service.steps import Call
from pki.algorithms import SignatureSuite


@dataclass(frozen=True, slots=True, eq=False)
class Scheme:
    """A signature algorithm under the name it is reported by, its hash and the token's word for it. One of each."""

    name: str
    hash: hashes.HashAlgorithm
    mechanism: str

    def digest(self, data: bytes) -> bytes:
        """What the token is given for `data`."""
        return encodings.digest(data, self.hash)

    def call(self, token: Any, ref: KeyRef, digest: bytes) -> Call:
        """The step that signs one digest; its result is the signature as certificates and messages carry it."""
        match self.mechanism:
            case "pss-sha256":
                return Call(token, "sign_pss_sha256_digest", (ref, digest))
            case "ecdsa":
                return Call(token, "sign_ecdsa_digest", (ref, digest))
            case _:
                return Call(token, "sign_pkcs1v15_digest", (ref, digest, self.hash))

    def call_many(self, token: Any, ref: KeyRef, digests: Sequence[bytes]) -> Call:
        """The step that signs many digests at once; its result is the signatures in the same order."""
        return Call(token, "sign_many", (ref, self.mechanism, list(digests)))


PSS_SHA256: Final = Scheme(SignatureSuite.RSA_PSS_SHA256.value, hashes.SHA256(), "pss-sha256")
ECDSA_MESSAGE: Final = Scheme(SignatureSuite.ECDSA_SHA256.value, hashes.SHA256(), "ecdsa")
PKCS1V15_SHA256: Final = Scheme("sha256WithRSAEncryption", hashes.SHA256(), "pkcs1v15-sha256")
ECDSA_SHA256: Final = Scheme("ecdsa-with-SHA256", hashes.SHA256(), "ecdsa")
ECDSA_SHA384: Final = Scheme("ecdsa-with-SHA384", hashes.SHA384(), "ecdsa")

RAW: Final[Mapping[RawAlgorithm, Scheme]] = {
    "rsa-pkcs1v15-sha256": Scheme("rsa-pkcs1v15-sha256", hashes.SHA256(), "pkcs1v15-sha256"),
    "rsa-pss-sha256": PSS_SHA256,
    "ecdsa-sha256": ECDSA_MESSAGE,
}
"""How digests are signed by keys that sign digests."""


def x509_scheme(key: SigningKey) -> Scheme:
    """How a key signs certificates, CRLs and requests (`pki.algorithms.certificate_signature_identifier`)."""
    if isinstance(key.public_key, rsa.RSAPublicKey):
        return PKCS1V15_SHA256
    return ECDSA_SHA384 if key.public_key.curve.key_size > 256 else ECDSA_SHA256


def message_scheme(key: SigningKey) -> Scheme:
    """How a key signs messages (`pki.algorithms.SignatureSuite`)."""
    return PSS_SHA256 if isinstance(key.public_key, rsa.RSAPublicKey) else ECDSA_MESSAGE
