"""The shape that certificates, CRLs and PKCS#10 requests share: SEQUENCE { tbs, algorithm, signature }."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat import asn1

from pki.der import any_value, decode, remembered, tlv
from pki.errors import DerError

_BIT_STRING: Final = 0x03
_SEQUENCE: Final = 0x30


@asn1.sequence
class _Signed:
    tbs: asn1.TLV
    algorithm: asn1.TLV
    signature: asn1.BitString


def assemble(tbs: bytes, algorithm: bytes, signature: bytes) -> bytes:
    """Join the DER of the two members and the signature bytes; DerError if a member is not one DER element."""
    any_value(tbs)
    _check_element(algorithm)
    return tlv(_SEQUENCE, tbs + algorithm + tlv(_BIT_STRING, b"\x00" + signature))


@remembered(64)  # there are few algorithms
def _check_element(der: bytes) -> None:
    any_value(der)


def check_octets(der: bytes) -> None:
    """Refuse a signature that is not whole octets.

    A BIT STRING that says "the last bit is unused" where that bit is zero is good DER, and the library verifies it:
    a second spelling of the same object, with another hash. Raises DerError `not_canonical`.
    """
    if decode(_Signed, der, limit=len(der)).signature.padding_bits():
        raise DerError("not_canonical", "signature is not whole octets", clause="RFC 5280 4.1.1.3")
