"""Private keys that `cryptography` can sign with although nobody here holds them: what all such keys share.

Where the key is (a token of this process, a service elsewhere) a subclass says, by signing a digest there. Only signing
and the public key are offered; everything that would need the private numbers is refused.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NoReturn, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, AsymmetricPadding, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo, Prehashed


class _Held:
    """The private half cannot be had."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._where}>"

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


class HeldRsaPrivateKey(_Held, rsa.RSAPrivateKey):
    """An RSA key. Signs PKCS#1 v1.5, and PSS with one hash for all and a salt of its length: SHA-256, where the key is
    at hand also SHA-512.
    """

    def __init__(self, public: rsa.RSAPublicKey, where: str) -> None:
        super().__init__(where)
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
        """RSASSA-PKCS1-v1_5 or RSASSA-PSS (RFC 8017 8); UnsupportedAlgorithm for other parameters."""
        if isinstance(algorithm, NoDigestInfo):
            raise UnsupportedAlgorithm("a signature names its hash")
        hash_algorithm, digest = _digest(bytes(data), algorithm)
        if isinstance(padding, PKCS1v15):
            return self._pkcs1v15(digest, hash_algorithm)
        if isinstance(padding, PSS) and _is_our_pss(padding, hash_algorithm):
            if isinstance(hash_algorithm, hashes.SHA256):
                return self._pss_sha256(digest)
            if isinstance(hash_algorithm, hashes.SHA512):
                return self._pss_sha512(digest)
        raise UnsupportedAlgorithm("token keys sign PKCS#1 v1.5, or PSS with SHA-256 and a salt of 32 bytes")

    @abstractmethod
    def _pkcs1v15(self, digest: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
        """RSASSA-PKCS1-v1_5 over a digest."""

    @abstractmethod
    def _pss_sha256(self, digest: bytes) -> bytes:
        """RSASSA-PSS over a SHA-256 digest."""

    def _pss_sha512(self, digest: bytes) -> bytes:
        """RSASSA-PSS over a SHA-512 digest, for keys that do that."""
        raise UnsupportedAlgorithm("this key signs PSS with SHA-256 and a salt of 32 bytes")

    def decrypt(self, ciphertext: bytes, padding: AsymmetricPadding) -> NoReturn:
        raise UnsupportedAlgorithm("content keys are unwrapped inside the token, never out of it")


class HeldEcPrivateKey(_Held, ec.EllipticCurvePrivateKey):
    """An EC key. Signs ECDSA."""

    def __init__(self, public: ec.EllipticCurvePublicKey, where: str) -> None:
        super().__init__(where)
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
        """ECDSA, DER Ecdsa-Sig-Value (RFC 3279 2.2.3); UnsupportedAlgorithm for other schemes."""
        if not isinstance(signature_algorithm, ec.ECDSA):
            raise UnsupportedAlgorithm("token keys sign ECDSA")
        hash_algorithm, digest = _digest(bytes(data), signature_algorithm.algorithm)
        return self._ecdsa(digest, hash_algorithm)

    @abstractmethod
    def _ecdsa(self, digest: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
        """ECDSA over a digest, DER."""

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        raise UnsupportedAlgorithm("signing keys do not agree on keys")


def _digest(data: bytes, algorithm: Prehashed | hashes.HashAlgorithm) -> tuple[hashes.HashAlgorithm, bytes]:
    if isinstance(algorithm, Prehashed):
        return algorithm._algorithm, data
    context = hashes.Hash(algorithm)
    context.update(data)
    return algorithm, context.finalize()


def _is_our_pss(padding: PSS, algorithm: hashes.HashAlgorithm) -> bool:
    """Whether salt and MGF1 are of the hash's own measure."""
    salt = padding._salt_length
    fits = salt in {algorithm.digest_size, PSS.DIGEST_LENGTH}
    return fits and isinstance(padding.mgf, MGF1) and padding.mgf._algorithm.name == algorithm.name
