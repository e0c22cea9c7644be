"""OCSP requests, read strictly and cheaply (RFC 6960 4.1, RFC 9654).

Everybody may send anything here, so nothing is built before it is known to be small and in order: one pass over the
bytes, definite lengths in their shortest form, no more entries than the policy allows. A signature of the requestor is
allowed and means nothing to us (RFC 6960 4.1.2): what we say is public.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ca.errors import CaError

SHA1: Final = bytes.fromhex("06052b0e03021a")
SHA256: Final = bytes.fromhex("0609608648016503040201")
_NONCE: Final = bytes.fromhex("06092b0601050507300102")
_UNDERSTOOD: Final = frozenset(
    {
        _NONCE,
        bytes.fromhex("06092b0601050507300104"),  # acceptable responses: basic ones are all there are
        bytes.fromhex("06092b0601050507300108"),  # preferred signature algorithms: the key decides (RFC 6960 4.4.7)
    }
)
_PARAMETERS: Final = frozenset({b"", b"\x05\x00"})
_MAX_NONCE: Final = 128
_MAX_SERIAL: Final = 20  # octets (RFC 5280 4.1.2.2)

_SEQUENCE: Final = 0x30
_INTEGER: Final = 0x02
_OCTET_STRING: Final = 0x04
_OID: Final = 0x06
_TRUE: Final = b"\x01\x01\xff"


class MalformedRequestError(CaError):
    """Not an OCSP request that this responder answers; `malformedRequest` says so (RFC 6960 4.2.1)."""

    reason = "malformed-request"


@dataclass(frozen=True, slots=True)
class Asked:
    """One CertID: as it came (DER), the OID (DER) of its hash, the issuer's two hashes, the serial as it is stored."""

    cert_id: bytes
    hash_algorithm: bytes
    issuer: tuple[bytes, bytes]
    serial: str


@dataclass(frozen=True, slots=True)
class OcspRequest:
    """What is asked; `nonce` as it came (DER OCTET STRING), None if there is none."""

    asked: tuple[Asked, ...]
    nonce: bytes | None


def read_request(der: bytes, *, octets: int, certificates: int) -> OcspRequest:
    """The request in `der`, of at most so many octets and certificates; raises MalformedRequestError."""
    if len(der) > octets:
        raise MalformedRequestError(f"a request has at most {octets} octets")
    start, end = _element(der, 0, len(der), _SEQUENCE)
    if end != len(der):
        raise MalformedRequestError("something follows the request")
    start, tbs_end = _element(der, start, end, _SEQUENCE)
    if tbs_end != end:
        _start, signature_end = _element(der, tbs_end, end, 0xA0)
        if signature_end != end:
            raise MalformedRequestError("something follows the requestor's signature")
    if start < tbs_end and der[start] == 0xA1:  # requestorName
        _start, start = _element(der, start, tbs_end, 0xA1)
    start, list_end = _element(der, start, tbs_end, _SEQUENCE)
    asked: list[Asked] = []
    while start < list_end:
        if len(asked) == certificates:
            raise MalformedRequestError(f"a request is about at most {certificates} certificates")
        found, start = _asked(der, start, list_end)
        asked.append(found)
    if not asked:
        raise MalformedRequestError("a request is about a certificate")
    nonce = None
    if list_end != tbs_end:
        start, extensions_end = _element(der, list_end, tbs_end, 0xA2)
        if extensions_end != tbs_end:
            raise MalformedRequestError("something follows the extensions")
        nonce = _nonce(der, start, extensions_end)
    return OcspRequest(tuple(asked), nonce)


def _asked(der: bytes, at: int, limit: int) -> tuple[Asked, int]:
    start, end = _element(der, at, limit, _SEQUENCE)
    inner, id_end = _element(der, start, end, _SEQUENCE)
    cert_id = der[start:id_end]
    algorithm, algorithm_end = _element(der, inner, id_end, _SEQUENCE)
    _start, oid_end = _element(der, algorithm, algorithm_end, _OID)
    oid = der[algorithm:oid_end]
    if oid not in {SHA1, SHA256} or der[oid_end:algorithm_end] not in _PARAMETERS:
        # A responder cannot tell whose certificate is meant by hashes that it does not compute.
        raise MalformedRequestError("issuers are named by SHA-1 or SHA-256", clause="RFC 6960 4.1.1")
    name, name_end = _element(der, algorithm_end, id_end, _OCTET_STRING)
    key, key_end = _element(der, name_end, id_end, _OCTET_STRING)
    serial, serial_end = _element(der, key_end, id_end, _INTEGER)
    if serial_end != id_end:
        raise MalformedRequestError("something follows the serial number")
    number = der[serial:serial_end]
    if (
        not 1 <= len(number) <= _MAX_SERIAL
        or number[0] & 0x80
        or number == b"\x00"
        or (number[0] == 0 and not number[1] & 0x80)
    ):
        raise MalformedRequestError("a serial number is positive, of at most 20 octets", clause="RFC 5280 4.1.2.2")
    if id_end != end:
        start, extensions_end = _element(der, id_end, end, 0xA0)
        if extensions_end != end:
            raise MalformedRequestError("something follows a request")
        _extensions(der, start, extensions_end, frozenset())
    issuer = (der[name:name_end], der[key:key_end])
    return Asked(cert_id, oid, issuer, format(int.from_bytes(number, "big"), "x")), end


def _nonce(der: bytes, at: int, limit: int) -> bytes | None:
    value = _extensions(der, at, limit, _UNDERSTOOD).get(_NONCE)
    if value is None:
        return None
    start, end = _element(value, 0, len(value), _OCTET_STRING)
    if end != len(value) or not 1 <= end - start <= _MAX_NONCE:
        raise MalformedRequestError(f"a nonce has 1 to {_MAX_NONCE} octets", clause="RFC 9654 2.1")
    return value


def _extensions(der: bytes, at: int, limit: int, understood: frozenset[bytes]) -> dict[bytes, bytes]:
    """The extensions of `understood` by their OID (DER); none other may be critical (RFC 6960 4.4)."""
    start, end = _element(der, at, limit, _SEQUENCE)
    if end != limit:
        raise MalformedRequestError("something follows the extensions")
    found: dict[bytes, bytes] = {}
    seen: set[bytes] = set()
    while start < end:
        inner, extension_end = _element(der, start, end, _SEQUENCE)
        _start, oid_end = _element(der, inner, extension_end, _OID)
        oid = der[inner:oid_end]
        critical = der.startswith(_TRUE, oid_end)
        value, value_end = _element(der, oid_end + (len(_TRUE) if critical else 0), extension_end, _OCTET_STRING)
        if value_end != extension_end or oid in seen:
            raise MalformedRequestError("an extension is malformed, or comes twice")
        if critical and oid not in understood:
            raise MalformedRequestError("a critical extension is not understood", clause="RFC 6960 4.4")
        seen.add(oid)
        if oid in understood:
            found[oid] = der[value:value_end]
        start = extension_end
    return found


def _element(der: bytes, at: int, limit: int, tag: int) -> tuple[int, int]:
    """Where the content of the element at `at` begins and ends, which has this tag and ends by `limit`."""
    if at + 2 > limit or der[at] != tag:
        raise MalformedRequestError("not an OCSP request in DER")
    size, start = der[at + 1], at + 2
    if size >= 0x80:
        octets = size & 0x7F
        start += octets
        if not 1 <= octets <= 3 or start > limit:
            raise MalformedRequestError("not an OCSP request in DER")
        size = int.from_bytes(der[start - octets : start], "big")
        if size < 0x80 or size >> 8 * (octets - 1) == 0:
            raise MalformedRequestError("a length is not in its shortest form")
    if start + size > limit:
        raise MalformedRequestError("not an OCSP request in DER")
    return start, start + size
