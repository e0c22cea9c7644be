"""A PKCS#11 token, logged in, and the operations this product does in it.

Nothing here decides who may do what: that is the registry's and typed signing's part. What is decided here cannot be
switched off above: a key that the token protects less than required is refused at its first use, private keys leave
only as references, content keys never enter host memory, and a sealed order that does not open gives one error whatever
the cause.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from pkcs11 import MGF, Attribute, GCMParams, KeyType, Mechanism, ObjectClass
from pkcs11.exceptions import GeneralError, PKCS11Error

from hsm_service import encodings, probe
from hsm_service.errors import BadInput, DecodingFailure, MechanismMissing
from hsm_service.key_store import KeyStore
from hsm_service.keys import KeyAttributes, KeyKind, KeyRef, Usage, protected_template
from hsm_service.return_codes import Kind, kind_of
from hsm_service.sessions import Session

__all__ = ["KeyAttributes", "KeyKind", "KeyRef", "Token", "Usage"]

_OAEP: Final = {
    "oaep-sha1": (Mechanism.SHA_1, MGF.SHA1, None),
    "oaep-sha256": (Mechanism.SHA256, MGF.SHA256, None),
}
_PSS_SHA256: Final = (Mechanism.SHA256, MGF.SHA256, 32)
_CONTENT_KEY_BYTES: Final = 32
_GCM_NONCE_BYTES: Final = 12
_GCM_TAG_BYTES: Final = 16
_CMAC_BYTES: Final = 16

_CONTENT_KEY: Final = {
    **protected_template(ObjectClass.SECRET_KEY, Usage.SEAL, store=False),
    Attribute.ENCRYPT: False,
}
"""The template of a content key: it lives in the session, opens one order, and does nothing else."""

# What a token may answer when a key or a ciphertext is wrong. SoftHSM2 says GeneralError to a bad GCM tag and to bad
# OAEP padding; a real failure of the token hides behind the same word, so the caller then hears that decoding failed.
_DOES_NOT_OPEN: Final = frozenset({Kind.CALLER, Kind.KEY, Kind.MECHANISM})


class Token(KeyStore):
    """One logged-in token and what is done in it. Safe for threads; use `open`, and `close` (or `with`) when done."""

    @cached_property
    def capabilities(self) -> probe.Capabilities:
        """What this token really can do, tried with throw-away session keys (about 0.1 s, once)."""
        return self._run(lambda session: probe.probe(session.raw))

    # -- signatures --------------------------------------------------------------------------------------------------

    def sign_pss_sha256(self, ref: KeyRef, data: bytes) -> bytes:
        """RSASSA-PSS over `data` with SHA-256, MGF1-SHA-256 and a salt of 32 bytes (RFC 8017 8.1)."""
        return self.sign_pss_sha256_digest(ref, encodings.digest(data, hashes.SHA256()))

    def sign_pss_sha256_digest(self, ref: KeyRef, digest: bytes) -> bytes:
        """As `sign_pss_sha256`, for a SHA-256 digest."""
        return self._sign(ref, KeyKind.RSA, digest, Mechanism.RSA_PKCS_PSS, _PSS_SHA256)

    def sign_pkcs1v15(self, ref: KeyRef, data: bytes, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
        """RSASSA-PKCS1-v1_5 over `data` (RFC 8017 8.2) with SHA-256 (default), SHA-384 or SHA-512."""
        algorithm = algorithm or hashes.SHA256()
        return self.sign_pkcs1v15_digest(ref, encodings.digest(data, algorithm), algorithm)

    def sign_pkcs1v15_digest(self, ref: KeyRef, digest: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
        """As `sign_pkcs1v15`, for a digest made with `algorithm`."""
        return self._sign(ref, KeyKind.RSA, encodings.digest_info(digest, algorithm), Mechanism.RSA_PKCS, None)

    def prove_possession(self, ref: KeyRef, data: bytes) -> bytes:
        """RSASSA-PKCS1-v1_5 with SHA-256 by an OPEN key, over the CertificationRequestInfo of its own request."""
        info = encodings.digest_info(encodings.digest(data, hashes.SHA256()), hashes.SHA256())
        return self._sign(ref, KeyKind.RSA, info, Mechanism.RSA_PKCS, None, usage=Usage.OPEN)

    def sign_ecdsa(self, ref: KeyRef, data: bytes, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
        """ECDSA over `data` with SHA-256 (default), SHA-384 or SHA-512; DER Ecdsa-Sig-Value (RFC 3279 2.2.3)."""
        return self.sign_ecdsa_digest(ref, encodings.digest(data, algorithm or hashes.SHA256()))

    def sign_ecdsa_digest(self, ref: KeyRef, digest: bytes) -> bytes:
        """As `sign_ecdsa`, for a digest."""
        return encodings.ecdsa_signature(self._sign(ref, KeyKind.EC, digest, Mechanism.ECDSA, None))

    # -- opening what was sealed to a key ------------------------------------------------------------------------------

    def unwrap_and_decrypt_gcm(
        self, ref: KeyRef, suite: str, encrypted_key: bytes, nonce: bytes, ciphertext: bytes, tag: bytes
    ) -> bytes:
        """Open AES-256-GCM content whose key was sealed to an RSA key by RSAES-OAEP; returns the plaintext.

        `suite` is "oaep-sha1" or "oaep-sha256" (MGF1 with the same hash, empty label), `nonce` 12 bytes, `tag` 16. The
        content key is unwrapped into the token as a non-extractable session object that can only decrypt, used once
        and destroyed. Raises MechanismMissing if the token cannot do the suite, DecodingFailure for everything that
        depends on the sealed bytes: after a failed unwrap the copy of a decoy key decrypts in its place, so that bad
        padding (Manger's oracle), another key length and a bad tag look alike and take equally long.
        """
        if suite not in _OAEP:
            raise MechanismMissing(f"no sealing suite {suite!r}; there are {sorted(_OAEP)}")
        if not self.capabilities.supports(suite):
            raise MechanismMissing(f"token {self.label!r} cannot do {suite}")
        if len(nonce) != _GCM_NONCE_BYTES or len(tag) != _GCM_TAG_BYTES:
            raise DecodingFailure
        self._require_kind(ref, KeyKind.RSA, Usage.OPEN)

        def open_it(session: Session) -> bytes:
            private, decoy = session.key(ref), session.decoy(_CONTENT_KEY)
            self._count("unwrap", ref)
            content_key = _unwrapped(private, suite, encrypted_key)
            genuine = content_key is not None
            if content_key is None:
                content_key = decoy.copy({})
            plaintext = None
            try:
                plaintext = bytes(
                    content_key.decrypt(
                        ciphertext + tag,
                        mechanism=Mechanism.AES_GCM,
                        mechanism_param=GCMParams(nonce, None, _GCM_TAG_BYTES * 8),
                        buffer_size=len(ciphertext) + _GCM_TAG_BYTES,
                    )
                )
            except PKCS11Error as error:
                if not _says_does_not_open(error):
                    raise
            finally:
                content_key.destroy()
            if not genuine or plaintext is None:
                raise DecodingFailure
            return plaintext

        return self._run(open_it, ref)

    # -- secret keys ---------------------------------------------------------------------------------------------------

    def aes_gcm_encrypt(self, ref: KeyRef, plaintext: bytes, aad: bytes) -> bytes:
        """Seal `plaintext` with AES-GCM under a SEAL key: nonce (12 bytes, from the token) ‖ ciphertext ‖ tag (16)."""
        self._require_kind(ref, KeyKind.AES, Usage.SEAL)
        nonce = self.random(_GCM_NONCE_BYTES)

        def seal(session: Session) -> bytes:
            key = session.key(ref)
            self._count("gcm-encrypt", ref)
            sealed = key.encrypt(
                plaintext, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(nonce, aad, _GCM_TAG_BYTES * 8)
            )
            return nonce + bytes(sealed)

        return self._run(seal, ref)

    def aes_gcm_decrypt(self, ref: KeyRef, sealed: bytes, aad: bytes) -> bytes:
        """Open what `aes_gcm_encrypt` sealed; raises DecodingFailure if key, bytes or `aad` differ."""
        self._require_kind(ref, KeyKind.AES, Usage.SEAL)
        nonce, body = sealed[:_GCM_NONCE_BYTES], sealed[_GCM_NONCE_BYTES:]
        if len(body) < _GCM_TAG_BYTES:
            raise DecodingFailure

        def unseal(session: Session) -> bytes:
            key = session.key(ref)
            self._count("gcm-decrypt", ref)
            try:
                return bytes(
                    key.decrypt(
                        body, mechanism=Mechanism.AES_GCM, mechanism_param=GCMParams(nonce, aad, _GCM_TAG_BYTES * 8)
                    )
                )
            except PKCS11Error as error:
                if not _says_does_not_open(error):
                    raise
                raise DecodingFailure from None

        return self._run(unseal, ref)

    def aes_cmac(self, ref: KeyRef, data: bytes) -> bytes:
        """AES-CMAC over `data` (RFC 4493, NIST SP 800-38B): 16 bytes; the dialect truncates."""
        self._require_kind(ref, KeyKind.AES, Usage.MAC)

        def mac(session: Session) -> bytes:
            key = session.key(ref)
            self._count("mac", ref)
            return bytes(key.sign(data, mechanism=Mechanism.AES_CMAC, buffer_size=_CMAC_BYTES))

        return self._run(mac, ref)

    def des3_ecb_encrypt(self, ref: KeyRef, block: bytes) -> bytes:
        """Encrypt one clear PIN block of 8 bytes under the zone PIN key: 2-key TDES, one block (ISO 9564-1 9.3)."""
        self._require_kind(ref, KeyKind.DES2, Usage.PIN_BLOCK)
        if len(block) != 8:
            raise BadInput(f"a PIN block has 8 bytes, not {len(block)}")

        def encrypt(session: Session) -> bytes:
            key = session.key(ref)
            self._count("pin-block", ref)
            return bytes(key.encrypt(block, mechanism=Mechanism.DES3_ECB, buffer_size=8))

        return self._run(encrypt, ref)

    def check_value(self, ref: KeyRef) -> bytes:
        """The check value of a zone key, 3 bytes, by which two parties see that they hold the same key.

        The first bytes of: TDES, the encryption of a zero block (ANSI X9.24-1 A.3); AES, the CMAC of a zero block
        (ANSI X9.24-1:2017 Annex A).
        """
        if ref.kind is KeyKind.DES2:
            return self.des3_ecb_encrypt(ref, bytes(8))[:3]
        return self.aes_cmac(ref, bytes(16))[:3]

    def _sign(
        self,
        ref: KeyRef,
        kind: KeyKind,
        data: bytes,
        mechanism: Mechanism,
        parameters: Any,
        *,
        usage: Usage = Usage.SIGN,
    ) -> bytes:
        self._require_kind(ref, kind, usage)

        def sign(session: Session) -> bytes:
            key = session.key(ref)
            self._count("sign", ref)
            return bytes(key.sign(data, mechanism=mechanism, mechanism_param=parameters, buffer_size=1024))

        return self._run(sign, ref)


def _unwrapped(private: Any, suite: str, encrypted_key: bytes) -> Any:
    """The content key as a session object, or None if no AES-256 key comes out."""
    key = None
    try:
        key = private.unwrap_key(
            ObjectClass.SECRET_KEY,
            KeyType.AES,
            encrypted_key,
            mechanism=Mechanism.RSA_PKCS_OAEP,
            mechanism_param=_OAEP[suite],
            template=_CONTENT_KEY,
        )
    except PKCS11Error as error:
        if not _says_does_not_open(error):
            raise
    # SoftHSM2 leaves CKA_VALUE_LEN of an unwrapped key at 0. A shorter key that thus goes unseen weakens only the order
    # of the sender who chose it.
    if key is not None and key[Attribute.VALUE_LEN] not in {0, _CONTENT_KEY_BYTES}:
        key.destroy()
        key = None
    return key


def _says_does_not_open(error: PKCS11Error) -> bool:
    return kind_of(error) in _DOES_NOT_OPEN or isinstance(error, GeneralError)
