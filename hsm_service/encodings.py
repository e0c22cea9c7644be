"""Between the forms that PKCS#11 uses and those of X.509 and RFC 8017: public keys, digests, signatures, components.

Pure functions, no token here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Final

from asn1crypto.core import OctetString
from asn1crypto.keys import ECDomainParameters
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from pkcs11 import Attribute

from hsm_service.errors import BadInput, TokenUnavailable
from hsm_service.keys import TDES, ZONE_KEY_SIZES, KeyKind
from runtime.secrets import Secret

_DES_BYTES: Final = 8
_AES_BYTES: Final = 16
# RFC 8017 9.2, note 1
_DIGEST_INFO: Final = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}
_CURVES: Final[dict[str, ec.EllipticCurve]] = {"secp256r1": ec.SECP256R1(), "secp384r1": ec.SECP384R1()}


def digest(data: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
    """The hash of `data`. Computed in the host: what is signed is no secret, and a token is slow at hashing."""
    context = hashes.Hash(algorithm)
    context.update(data)
    return context.finalize()


def digest_info(value: bytes, algorithm: hashes.HashAlgorithm) -> bytes:
    """DER DigestInfo of a digest, the input of CKM_RSA_PKCS (RFC 8017 9.2)."""
    if algorithm.name not in _DIGEST_INFO:
        raise BadInput(f"signatures are made over {', '.join(_DIGEST_INFO)}; not over {algorithm.name}")
    if len(value) != algorithm.digest_size:
        raise BadInput(f"a {algorithm.name} digest has {algorithm.digest_size} bytes, not {len(value)}")
    return _DIGEST_INFO[algorithm.name] + value


def ecdsa_signature(raw: bytes) -> bytes:
    """DER Ecdsa-Sig-Value from PKCS#11's r ‖ s, each half of the length."""
    half = len(raw) // 2
    return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))


def rsa_public_key(values: dict[Attribute, Any]) -> rsa.RSAPublicKey:
    """From CKA_MODULUS and CKA_PUBLIC_EXPONENT."""
    exponent = int.from_bytes(values[Attribute.PUBLIC_EXPONENT])
    return rsa.RSAPublicNumbers(exponent, int.from_bytes(values[Attribute.MODULUS])).public_key()


def ec_public_key(values: dict[Attribute, Any]) -> ec.EllipticCurvePublicKey:
    """From CKA_EC_PARAMS and CKA_EC_POINT; some tokens leave the OCTET STRING around the point away."""
    curve = ECDomainParameters.load(values[Attribute.EC_PARAMS]).native
    if curve not in _CURVES:
        raise TokenUnavailable(f"the token holds a key on the curve {curve}; expected {sorted(_CURVES)}")
    point = values[Attribute.EC_POINT]
    uncompressed = 1 + 2 * ((_CURVES[curve].key_size + 7) // 8)
    if len(point) != uncompressed:
        point = bytes(OctetString.load(point))
    return ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[curve], point)


def combine_components(kind: KeyKind, components: Sequence[Secret]) -> Secret:
    """The XOR of at least two components of one size that fits `kind`; a TDES key gets odd parity (ANSI X3.92)."""
    if len(components) < 2:
        raise BadInput("a zone key is split over at least two components, so that no one person knows it")
    values = [each.reveal() for each in components]
    sizes = ZONE_KEY_SIZES.get(kind, frozenset())
    if len(values[0]) not in sizes or any(len(each) != len(values[0]) for each in values):
        raise BadInput(f"every component of a zone key of {kind} has {' or '.join(map(str, sorted(sizes)))} bytes")
    key = reduce(lambda left, right: bytes(a ^ b for a, b in zip(left, right, strict=True)), values)
    if kind in TDES:
        key = bytes(_with_odd_parity(byte) for byte in key)
        parts = [key[at : at + _DES_BYTES] for at in range(0, len(key), _DES_BYTES)]
        if len(set(parts)) != len(parts):
            raise BadInput("two parts of the key are equal: that would be single or double DES")
    if not any(key):
        raise BadInput("the components cancel each other out")
    return Secret(key)


def cmac_of_zeros(encrypt: Callable[[bytes], bytes]) -> bytes:
    """The CMAC of a zero block by a key that may only encrypt blocks, for its check value (SP 800-38B 6.1).

    A key that makes PIN blocks makes no MACs, so what this computes on the way protects nothing.
    """
    doubled = int.from_bytes(encrypt(bytes(_AES_BYTES))) << 1
    if doubled >> (8 * _AES_BYTES):
        doubled = (doubled ^ 0x87) & ((1 << (8 * _AES_BYTES)) - 1)
    return encrypt(doubled.to_bytes(_AES_BYTES))


def single_des_part(key: Secret) -> Secret:
    """The first half of a 2-key TDES key as TDES of three equal parts, which is single DES."""
    return Secret(key.reveal()[:_DES_BYTES] * 3)


def _with_odd_parity(byte: int) -> int:
    high = byte & 0xFE
    return high | (high.bit_count() + 1) % 2
