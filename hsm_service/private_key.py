"""Token keys that `cryptography` can sign with: its certificate, CSR and CRL builders work with keys they never see.

Only signing and the public key are offered; everything that would need the private numbers is refused.
"""

from __future__ import annotations

from typing import Final, NoReturn, Self, assert_never

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, AsymmetricPadding, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo, Prehashed

from hsm_service import encodings
from hsm_service.errors import KeyMisused
from hsm_service.keys import KeyKind, KeyRef
from hsm_service.token_operations import TokenOperations

_SALT_BYTES: Final = 32


class _InToken:
    """What both kinds of key share: the private half cannot be had."""

    def __init__(self, token: TokenOperations, ref: KeyRef) -> None:
        self._token = token
        self._ref = ref

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._ref.label!r} in {self._token!r}>"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: dict[int, object]) -> Self:
        return self

    def private_numbers(self) -> NoReturn:
        raise UnsupportedAlgorithm("the private key cannot leave its token")

    def private_bytes(
        self,
        encoding: serialization.Encoding,
        format: serialization.PrivateFormat,  # noqa: A002  # the name is cryptography's
        encryption_algorithm: serialization.KeySerializationEncryption,
    ) -> NoReturn:
        raise UnsupportedAlgorithm("the private key cannot leave its token")


class TokenRsaPrivateKey(_InToken, rsa.RSAPrivateKey):
    """An RSA key in a token. Signs PKCS#1 v1.5, and PSS with SHA-256, MGF1-SHA-256 and a salt of 32 bytes."""

    def __init__(self, token: TokenOperations, ref: KeyRef) -> None:
        super().__init__(token, ref)
        public = token.public_key(ref)
        if not isinstance(public, rsa.RSAPublicKey):
            raise KeyMisused(f"{ref.label!r} is no RSA key")
        self._public = public

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public

    def sign(
        self,
        data: bytes | bytearray | memoryview,
        padding: AsymmetricPadding,
        algorithm: Prehashed | hashes.HashAlgorithm | NoDigestInfo,
    ) -> bytes:
        """RSASSA-PKCS1-v1_5 or RSASSA-PSS (RFC 8017 8) in the token; UnsupportedAlgorithm for other parameters."""
        if isinstance(algorithm, NoDigestInfo):
            raise UnsupportedAlgorithm("a signature names its hash")
        hash_algorithm, digest = _digest(bytes(data), algorithm)
        if isinstance(padding, PKCS1v15):
            return self._token.sign_pkcs1v15_digest(self._ref, digest, hash_algorithm)
        if isinstance(padding, PSS) and isinstance(hash_algorithm, hashes.SHA256) and _is_our_pss(padding):
            return self._token.sign_pss_sha256_digest(self._ref, digest)
        raise UnsupportedAlgorithm("token keys sign PKCS#1 v1.5, or PSS with SHA-256 and a salt of 32 bytes")

    def decrypt(self, ciphertext: bytes, padding: AsymmetricPadding) -> NoReturn:
        raise UnsupportedAlgorithm("content keys are unwrapped inside the token, never out of it")


class TokenEcPrivateKey(_InToken, ec.EllipticCurvePrivateKey):
    """An EC key in a token. Signs ECDSA."""

    def __init__(self, token: TokenOperations, ref: KeyRef) -> None:
        super().__init__(token, ref)
        public = token.public_key(ref)
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise KeyMisused(f"{ref.label!r} is no EC key")
        self._public = public

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    def sign(
        self, data: bytes | bytearray | memoryview, signature_algorithm: ec.EllipticCurveSignatureAlgorithm
    ) -> bytes:
        """ECDSA in the token, DER Ecdsa-Sig-Value (RFC 3279 2.2.3)."""
        if not isinstance(signature_algorithm, ec.ECDSA):
            raise UnsupportedAlgorithm("token keys sign ECDSA")
        _hash, digest = _digest(bytes(data), signature_algorithm.algorithm)
        return self._token.sign_ecdsa_digest(self._ref, digest)

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        raise UnsupportedAlgorithm("signing keys do not agree on keys")


def private_key(token: TokenOperations, ref: KeyRef) -> TokenRsaPrivateKey | TokenEcPrivateKey:
    """The key of `ref` as `cryptography` wants it; raises KeyMisused for a secret key."""
    match ref.kind:
        case KeyKind.RSA:
            return TokenRsaPrivateKey(token, ref)
        case KeyKind.EC:
            return TokenEcPrivateKey(token, ref)
        case KeyKind.AES | KeyKind.DES2:
            raise KeyMisused(f"{ref.label!r} is a secret key; it signs nothing")
        case _:
            assert_never(ref.kind)


def _digest(data: bytes, algorithm: Prehashed | hashes.HashAlgorithm) -> tuple[hashes.HashAlgorithm, bytes]:
    if isinstance(algorithm, Prehashed):
        return algorithm._algorithm, data
    return algorithm, encodings.digest(data, algorithm)


def _is_our_pss(padding: PSS) -> bool:
    salt = padding._salt_length
    fits = salt in {_SALT_BYTES, PSS.DIGEST_LENGTH}
    return fits and isinstance(padding.mgf, MGF1) and isinstance(padding.mgf._algorithm, hashes.SHA256)
