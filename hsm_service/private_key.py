"""Token keys that `cryptography` can sign with: its certificate, CSR and CRL builders work with keys they never see.

For keys in a token of this process; `hsm_service.remote_key` has those of a service elsewhere.
"""

from __future__ import annotations

from typing import assert_never

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hsm_service.errors import KeyMisused
from hsm_service.held_key import HeldEcPrivateKey, HeldRsaPrivateKey
from hsm_service.keys import KeyKind, KeyRef
from hsm_service.tokens import Token


class TokenRsaPrivateKey(HeldRsaPrivateKey):
    """An RSA key in a token."""

    def __init__(self, token: Token, ref: KeyRef) -> None:
        public = token.public_key(ref)
        if not isinstance(public, rsa.RSAPublicKey):
            raise KeyMisused(f"{ref.label!r} is no RSA key")
        super().__init__(public, f"{ref.label!r} in {token!r}")
        self._token = token
        self._ref = ref

    def _pkcs1v15(self, digest: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
        return self._token.sign_pkcs1v15_digest(self._ref, digest, algorithm)

    def _pss_sha256(self, digest: bytes) -> bytes:
        return self._token.sign_pss_sha256_digest(self._ref, digest)

    def _pss_sha512(self, digest: bytes) -> bytes:
        return self._token.sign_pss_sha512_digest(self._ref, digest)


class TokenEcPrivateKey(HeldEcPrivateKey):
    """An EC key in a token."""

    def __init__(self, token: Token, ref: KeyRef) -> None:
        public = token.public_key(ref)
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise KeyMisused(f"{ref.label!r} is no EC key")
        super().__init__(public, f"{ref.label!r} in {token!r}")
        self._token = token
        self._ref = ref

    def _ecdsa(self, digest: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
        return self._token.sign_ecdsa_digest(self._ref, digest)


def private_key(token: Token, ref: KeyRef) -> TokenRsaPrivateKey | TokenEcPrivateKey:
    """The key of `ref` as `cryptography` wants it; raises KeyMisused for a secret key."""
    match ref.kind:
        case KeyKind.RSA:
            return TokenRsaPrivateKey(token, ref)
        case KeyKind.EC:
            return TokenEcPrivateKey(token, ref)
        case KeyKind.AES | KeyKind.DES2 | KeyKind.DES3:
            raise KeyMisused(f"{ref.label!r} is a secret key; it signs nothing")
        case _:
            assert_never(ref.kind)
