"""The operations that tokens do in more than one way, each as a list of ways, best first.

The probe tries the ways of a list in order and remembers the first whose result was right; `Token` then uses that one.
A way is here only if it is as safe as the first. So there is no CMAC computed from single AES blocks, which would bring
its subkeys into host memory, no RSA-PSS from a raw RSA operation, for which the key would have to allow any input, and
no opening by C_Decrypt where unwrapping is missing, which would bring the content key into host memory.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeVar

from cryptography.hazmat.primitives import hashes
from pkcs11 import MGF, Attribute, GCMParams, KeyType, Mechanism, ObjectClass
from pkcs11.constants import DEFAULT

from hsm_service.gcm_from_blocks import open_sealed
from hsm_service.keys import Usage, protected_template

GCM_NONCE_BYTES: Final = 12
GCM_TAG_BYTES: Final = 16
CMAC_BYTES: Final = 16
BLOCK_BYTES: Final = 8
AES_BLOCK_BYTES: Final = 16

_PSS_SHA256: Final = (Mechanism.SHA256, MGF.SHA256, 32)
_PSS_SHA512: Final = (Mechanism.SHA512, MGF.SHA512, 64)
_OAEP: Final = {
    "oaep-sha1": (Mechanism.SHA_1, MGF.SHA1, None),
    "oaep-sha256": (Mechanism.SHA256, MGF.SHA256, None),
}
OAEP_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "oaep-sha1": hashes.SHA1(),  # noqa: S303  # RFC 8017 A.2.1: OAEP does not rest on collision resistance
    "oaep-sha256": hashes.SHA256(),
}

_Do = TypeVar("_Do")


@dataclass(frozen=True, slots=True)
class Way(Generic[_Do]):
    """One way of doing an operation; `name` is what a finding calls its variant."""

    name: str
    do: _Do


Ways = tuple[Way[_Do], ...]


def named(ways: Ways[_Do], name: str) -> _Do:
    """What does the operation in the way `name`."""
    return next(way.do for way in ways if way.name == name)


# -- signatures: (private key, input) -> signature; tokens do these in one way only ------------------------------------


def sign_pss(key: Any, digest: bytes) -> bytes:
    """RSASSA-PSS with SHA-256, MGF1-SHA-256 and a salt of 32 bytes (RFC 8017 8.1), over a digest."""
    return bytes(key.sign(digest, mechanism=Mechanism.RSA_PKCS_PSS, mechanism_param=_PSS_SHA256, buffer_size=1024))


def sign_pss_sha512(key: Any, digest: bytes) -> bytes:
    """RSASSA-PSS with SHA-512, MGF1-SHA-512 and a salt of 64 bytes, over a digest: as RFC 9421 3.3.1 has it."""
    return bytes(key.sign(digest, mechanism=Mechanism.RSA_PKCS_PSS, mechanism_param=_PSS_SHA512, buffer_size=1024))


def sign_pkcs1v15(key: Any, digest_info: bytes) -> bytes:
    """RSASSA-PKCS1-v1_5 over a DER DigestInfo (RFC 8017 8.2)."""
    return bytes(key.sign(digest_info, mechanism=Mechanism.RSA_PKCS, buffer_size=1024))


def sign_ecdsa(key: Any, digest: bytes) -> bytes:
    """ECDSA over a digest: r ‖ s, each half of the length."""
    return bytes(key.sign(digest, mechanism=Mechanism.ECDSA, buffer_size=1024))


# -- AES-GCM: (key, nonce, additional data) -> mechanism parameters ----------------------------------------------------


class _GcmParams220(ctypes.Structure):
    """CK_GCM_PARAMS as in the headers before PKCS#11 v2.40 errata 01, without `ulIvBits`."""

    _fields_ = (
        ("pIv", ctypes.c_char_p),
        ("ulIvLen", ctypes.c_ulong),
        ("pAAD", ctypes.c_char_p),
        ("ulAADLen", ctypes.c_ulong),
        ("ulTagBits", ctypes.c_ulong),
    )


def _gcm(nonce: bytes, aad: bytes | None) -> GCMParams:
    return GCMParams(nonce, aad, GCM_TAG_BYTES * 8)


class _OldGcmParams(bytes):
    """The bytes of the old structure; it holds what its pointers point to."""

    structure: _GcmParams220

    @classmethod
    def of(cls, nonce: bytes, aad: bytes | None) -> _OldGcmParams:
        structure = _GcmParams220(nonce, len(nonce), aad, len(aad or b""), GCM_TAG_BYTES * 8)
        made = cls(bytes(structure))
        made.structure = structure
        return made


GcmParameters = Callable[[bytes, bytes | None], Any]

GCM: Final[Ways[GcmParameters]] = (
    Way("CK_GCM_PARAMS", _gcm),
    Way("CK_GCM_PARAMS without ulIvBits", _OldGcmParams.of),
)


def gcm_encrypt(key: Any, parameters: Any, plaintext: bytes) -> bytes:
    """Ciphertext and tag."""
    return bytes(
        key.encrypt(
            plaintext,
            mechanism=Mechanism.AES_GCM,
            mechanism_param=parameters,
            buffer_size=len(plaintext) + GCM_TAG_BYTES,
        )
    )


def gcm_decrypt(key: Any, parameters: Any, sealed: bytes) -> bytes:
    """The plaintext of ciphertext and tag."""
    return bytes(key.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=parameters, buffer_size=len(sealed)))


# -- opening AES-GCM content whose key was sealed by RSAES-OAEP --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opening:
    """A way of opening: the one usage of the content key, and (content key, nonce, sealed) -> plaintext or None."""

    usage: Attribute
    decrypt: Callable[[Any, bytes, bytes], bytes | None]

    @property
    def template(self) -> dict[Attribute, Any]:
        """The template of a content key: it lives in the session, opens one order, and does nothing else."""
        protected = protected_template(ObjectClass.SECRET_KEY, Usage.SEAL, store=False)
        return {**protected, Attribute.ENCRYPT: False, Attribute.DECRYPT: False, self.usage: True}

    def unwrap(self, key: Any, suite: str, encrypted_key: bytes) -> Any:
        """The AES key in `encrypted_key` as a session object (RFC 8017 7.1, empty label)."""
        return key.unwrap_key(
            ObjectClass.SECRET_KEY,
            KeyType.AES,
            encrypted_key,
            mechanism=Mechanism.RSA_PKCS_OAEP,
            mechanism_param=_OAEP[suite],
            template=self.template,
        )


def _open_by_gcm(parameters: GcmParameters, key: Any, nonce: bytes, sealed: bytes) -> bytes | None:
    return gcm_decrypt(key, parameters(nonce, None), sealed)


def _open_by_blocks(key: Any, nonce: bytes, sealed: bytes) -> bytes | None:
    def encrypt(blocks: bytes) -> bytes:
        return bytes(key.encrypt(blocks, mechanism=Mechanism.AES_ECB, buffer_size=len(blocks)))

    return open_sealed(encrypt, nonce, sealed)


OPENING: Final[Ways[Opening]] = (
    *(Way(f"CKM_AES_GCM, {way.name}", Opening(Attribute.DECRYPT, partial(_open_by_gcm, way.do))) for way in GCM),
    Way("CKM_AES_ECB and GHASH in the host", Opening(Attribute.ENCRYPT, _open_by_blocks)),
)


# -- AES-CMAC: (key, data) -> 16 bytes ---------------------------------------------------------------------------------


def _cmac(key: Any, data: bytes) -> bytes:
    return bytes(key.sign(data, mechanism=Mechanism.AES_CMAC, buffer_size=CMAC_BYTES))


def _cmac_general(key: Any, data: bytes) -> bytes:
    length = bytes(ctypes.c_ulong(CMAC_BYTES))  # CK_MAC_GENERAL_PARAMS
    return bytes(key.sign(data, mechanism=Mechanism.AES_CMAC_GENERAL, mechanism_param=length, buffer_size=CMAC_BYTES))


CMAC: Final[Ways[Callable[[Any, bytes], bytes]]] = (
    Way("CKM_AES_CMAC", _cmac),
    Way("CKM_AES_CMAC_GENERAL", _cmac_general),
)

# -- one block of TDES: (key, 8 bytes) -> 8 bytes ----------------------------------------------------------------------


def _des3_ecb(key: Any, block: bytes) -> bytes:
    return bytes(key.encrypt(block, mechanism=Mechanism.DES3_ECB, buffer_size=BLOCK_BYTES))


def _des3_cbc(key: Any, block: bytes) -> bytes:
    """CBC of one block under a zero initialisation vector is ECB of that block (NIST SP 800-38A 6.2)."""
    return bytes(
        key.encrypt(block, mechanism=Mechanism.DES3_CBC, mechanism_param=bytes(BLOCK_BYTES), buffer_size=BLOCK_BYTES)
    )


DES2_BLOCK: Final[Ways[Callable[[Any, bytes], bytes]]] = (
    Way("CKM_DES3_ECB", _des3_ecb),
    Way("CKM_DES3_CBC with a zero vector", _des3_cbc),
)

# -- one block of AES: (key, 16 bytes) -> 16 bytes ---------------------------------------------------------------------


def _aes_ecb(key: Any, block: bytes) -> bytes:
    return bytes(key.encrypt(block, mechanism=Mechanism.AES_ECB, buffer_size=AES_BLOCK_BYTES))


def _aes_cbc(key: Any, block: bytes) -> bytes:
    """CBC of one block under a zero initialisation vector, as with TDES above."""
    vector = bytes(AES_BLOCK_BYTES)
    return bytes(key.encrypt(block, mechanism=Mechanism.AES_CBC, mechanism_param=vector, buffer_size=AES_BLOCK_BYTES))


AES_BLOCK: Final[Ways[Callable[[Any, bytes], bytes]]] = (
    Way("CKM_AES_ECB", _aes_ecb),
    Way("CKM_AES_CBC with a zero vector", _aes_cbc),
)

# -- ANSI X9.19: (key, its first half as TDES of three equal parts, whole blocks) -> 8 bytes ---------------------------


def _retail_mac_by_cbc(key: Any, chain: Any, blocks: bytes) -> bytes:
    """Single DES CBC up to the last block, which TDES under the whole key closes: two operations of the token.

    What E(K1) makes of the last block is undone by nobody: D(K2) and E(K1) follow in the same TDES operation, so the
    value that would show single DES of it is never outside the token. The value chained into it is.
    """
    vector = bytes(BLOCK_BYTES)
    if len(blocks) > BLOCK_BYTES:
        size = len(blocks) - BLOCK_BYTES
        vector = bytes(
            chain.encrypt(blocks[:-BLOCK_BYTES], mechanism=Mechanism.DES3_CBC, mechanism_param=vector, buffer_size=size)
        )[-BLOCK_BYTES:]
    last = blocks[-BLOCK_BYTES:]
    return bytes(key.encrypt(last, mechanism=Mechanism.DES3_CBC, mechanism_param=vector, buffer_size=BLOCK_BYTES))


def _retail_mac_by_ecb(key: Any, chain: Any, blocks: bytes) -> bytes:
    """The same block by block, for a token without CBC."""

    def joined(left: bytes, right: bytes) -> bytes:
        return bytes(a ^ b for a, b in zip(left, right, strict=True))

    *heads, last = (blocks[at : at + BLOCK_BYTES] for at in range(0, len(blocks), BLOCK_BYTES))
    vector = bytes(BLOCK_BYTES)
    for each in heads:
        vector = _des3_ecb(chain, joined(vector, each))
    return _des3_ecb(key, joined(vector, last))


RETAIL_MAC: Final[Ways[Callable[[Any, Any, bytes], bytes]]] = (
    Way("CKM_DES3_CBC, single DES as TDES of equal parts", _retail_mac_by_cbc),
    Way("CKM_DES3_ECB block by block, single DES as TDES of equal parts", _retail_mac_by_ecb),
)

# -- taking in a zone key from AES key wrap (RFC 3394): (master key, type, wrapped key, template) -> key ---------------


def _unwrap_secret_by(
    mechanism: Mechanism, key: Any, key_type: KeyType, wrapped: bytes, template: dict[Attribute, Any]
) -> Any:
    ordered = sorted(template.items(), key=lambda each: each[0] is Attribute.MODIFIABLE)  # as in `_unwrap_by`
    return key.unwrap_key(ObjectClass.SECRET_KEY, key_type, wrapped, mechanism=mechanism, template=dict(ordered))


ZoneUnwrap = Callable[[Any, KeyType, bytes, dict[Attribute, Any]], Any]

ZONE_KEY_WRAP: Final[Ways[ZoneUnwrap]] = (Way("CKM_AES_KEY_WRAP", partial(_unwrap_secret_by, Mechanism.AES_KEY_WRAP)),)

# -- restoring a private key from AES-KWP (RFC 5649): (wrapping key, type, wrapped PKCS#8, template) -> key ------------


_NOT_OF_PRIVATE_KEYS: Final = dict.fromkeys((Attribute.ENCRYPT, Attribute.WRAP, Attribute.VERIFY), DEFAULT)
"""What python-pkcs11 puts into every unwrap template, although a private key cannot have it; DEFAULT takes it out."""


def _unwrap_by(
    mechanism: Mechanism, key: Any, key_type: KeyType, wrapped: bytes, template: dict[Attribute, Any]
) -> Any:
    # SoftHSM2 works a template off in order and refuses what comes after MODIFIABLE=false.
    ordered = sorted({**_NOT_OF_PRIVATE_KEYS, **template}.items(), key=lambda each: each[0] is Attribute.MODIFIABLE)
    return key.unwrap_key(ObjectClass.PRIVATE_KEY, key_type, wrapped, mechanism=mechanism, template=dict(ordered))


KWP: Final[Ways[Callable[[Any, KeyType, bytes, dict[Attribute, Any]], Any]]] = (
    Way("CKM_AES_KEY_WRAP_KWP", partial(_unwrap_by, Mechanism.AES_KEY_WRAP_KWP)),
    # PKCS#11 v2.40 left open what padding this one has; where it is that of RFC 5649, it does.
    Way("CKM_AES_KEY_WRAP_PAD", partial(_unwrap_by, Mechanism.AES_KEY_WRAP_PAD)),
)
