"""The structures of certificate status (RFC 6960 4), as types of `cryptography.hazmat.asn1`.

Shared by who asks and judges answers (`pki.ocsp`), by the responder, and by the token boundary that signs for it: all
three read the same strict DER. ENUMERATED and the CHOICEs, which those types do not have, stay opaque values.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat import asn1

from pki.algorithms import SHA256_IDENTIFIERS
from pki.der import any_value, decode, encode, tlv
from pki.keys import spki_der

ID_PKIX_OCSP_BASIC: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.1")
ID_PKIX_OCSP_NONCE: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.2")
ID_PKIX_OCSP_ARCHIVE_CUTOFF: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.6")
ID_PKIX_OCSP_EXTENDED_REVOKE: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.9")

MAX_NONCE: Final = 128
"""Octets (RFC 9654 2.1)."""

_SHA1: Final = bytes.fromhex("06052b0e03021a")
SHA1_IDENTIFIERS: Final = frozenset({tlv(0x30, _SHA1), tlv(0x30, _SHA1 + b"\x05\x00")})
SHA1_IDENTIFIER: Final = tlv(0x30, _SHA1 + b"\x05\x00")
"""What clients of RFC 5019 write: with NULL parameters."""

GOOD: Final = b"\x80\x00"
UNKNOWN: Final = b"\x82\x00"
REVOKED_TAG: Final = 0xA1
_SEQUENCE: Final = 0x30
_BARE_TIME: Final = 17  # octets of a GeneralizedTime in whole seconds: revoked, and no reason

REASONS: Final = {
    0: "unspecified",
    1: "keyCompromise",
    2: "cACompromise",
    3: "affiliationChanged",
    4: "superseded",
    5: "cessationOfOperation",
    6: "certificateHold",
    9: "privilegeWithdrawn",
    10: "aACompromise",
}
"""CRLReason (RFC 5280 5.3.1) without removeFromCRL, which is of delta CRLs."""


@asn1.sequence
class Extension:
    id: x509.ObjectIdentifier
    critical: Annotated[bool, asn1.Default(False)]
    value: bytes


@asn1.sequence
class CertId:
    hash_algorithm: asn1.TLV
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial_number: int


@asn1.sequence
class SingleResponse:
    cert_id: CertId
    cert_status: asn1.TLV
    this_update: asn1.GeneralizedTime
    next_update: Annotated[asn1.GeneralizedTime | None, asn1.Explicit(0)]
    single_extensions: Annotated[list[Extension] | None, asn1.Explicit(1)]


@asn1.sequence
class ResponseData:
    """ResponseData of version 1, which DER leaves out."""

    responder_id: asn1.TLV
    produced_at: asn1.GeneralizedTime
    responses: list[SingleResponse]
    response_extensions: Annotated[list[Extension] | None, asn1.Explicit(1)]


@asn1.sequence
class BasicOcspResponse:
    tbs_response_data: asn1.TLV
    signature_algorithm: asn1.TLV
    signature: asn1.BitString
    certificates: Annotated[list[x509.Certificate] | None, asn1.Explicit(0)]


@asn1.sequence
class ResponseBytes:
    response_type: x509.ObjectIdentifier
    response: bytes


@asn1.sequence
class OcspResponse:
    response_status: asn1.TLV
    response_bytes: Annotated[ResponseBytes | None, asn1.Explicit(0)]


@asn1.sequence
class Request:
    req_cert: CertId
    single_request_extensions: Annotated[list[Extension] | None, asn1.Explicit(0)]


@asn1.sequence
class TbsRequest:
    """TBSRequest of version 1, which DER leaves out, as we ask: anonymously."""

    request_list: list[Request]
    request_extensions: Annotated[list[Extension] | None, asn1.Explicit(2)]


@asn1.sequence
class OcspRequest:
    """Unsigned."""

    tbs_request: TbsRequest


@asn1.sequence
class _RevokedAt:
    revocation_time: asn1.GeneralizedTime


@asn1.sequence
class _RevokedFor:
    revocation_time: asn1.GeneralizedTime
    reason: Annotated[asn1.TLV, asn1.Explicit(0)]


@dataclass(frozen=True, slots=True)
class Revoked:
    """RevokedInfo: when, and why (a CRLReason's number; None if it is not stated)."""

    time: asn1.GeneralizedTime
    reason: int | None


def revoked_info(cert_status: asn1.TLV) -> Revoked:
    """The RevokedInfo of a CertStatus whose tag is `REVOKED_TAG`; DerError `malformed` or ValueError if it is none."""
    content = bytes(cert_status.data)
    if len(content) == _BARE_TIME:
        return Revoked(decode(_RevokedAt, tlv(_SEQUENCE, content)).revocation_time, None)
    info = decode(_RevokedFor, tlv(_SEQUENCE, content))
    reason = encode(info.reason)
    if reason[:2] != b"\x0a\x01":
        raise ValueError("a reason is an ENUMERATED of one octet")
    return Revoked(info.revocation_time, reason[2])


@asn1.sequence
class _SubjectPublicKeyInfo:
    algorithm: asn1.TLV
    subject_public_key: asn1.BitString


def sha1(data: bytes) -> bytes:
    """SHA-1, 20 bytes: it names issuers and keys here (RFC 6960 4.1.1) and protects nothing."""
    return hashlib.sha1(data, usedforsecurity=False).digest()


def sha256(data: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(data).digest()


@lru_cache(maxsize=256)
def key_bits(certificate: x509.Certificate) -> bytes:
    """What key hashes are made of: the BIT STRING of the public key without its tag, length and unused bits."""
    spki = decode(_SubjectPublicKeyInfo, spki_der(certificate.public_key()))
    return spki.subject_public_key.as_bytes()


def issuer_hashes(hash_algorithm: bytes, issuer: x509.Certificate) -> tuple[bytes, bytes] | None:
    """issuerNameHash and issuerKeyHash of an authority by the AlgorithmIdentifier (DER) of SHA-1 or SHA-256.

    None for any other algorithm, which we do not name issuers by (RFC 6960 4.1.1; RFC 5019 2.1.1).
    """
    if hash_algorithm in SHA1_IDENTIFIERS:
        digest = sha1
    elif hash_algorithm in SHA256_IDENTIFIERS:
        digest = sha256
    else:
        return None
    return digest(issuer.subject.public_bytes()), digest(key_bits(issuer))


def cert_id(serial: int, issuer: x509.Certificate, hash_algorithm: bytes = SHA1_IDENTIFIER) -> CertId:
    """The CertID of a certificate of `issuer`, by SHA-1 or SHA-256; ValueError for another algorithm."""
    hashes = issuer_hashes(hash_algorithm, issuer)
    if hashes is None:
        raise ValueError("a CertID is hashed with SHA-1 or SHA-256")
    return CertId(
        hash_algorithm=any_value(hash_algorithm),
        issuer_name_hash=hashes[0],
        issuer_key_hash=hashes[1],
        serial_number=serial,
    )


def responder_ids(responder: x509.Certificate) -> tuple[bytes, bytes]:
    """The two ResponderIDs (DER) of a responder: by name, by SHA-1 of its key (RFC 6960 4.2.1)."""
    return tlv(0xA1, responder.subject.public_bytes()), tlv(0xA2, tlv(0x04, sha1(key_bits(responder))))


def compose_request(
    serial: int, issuer: x509.Certificate, *, nonce: bytes | None = None, hash_algorithm: bytes = SHA1_IDENTIFIER
) -> bytes:
    """An OCSPRequest (DER) for one certificate of `issuer`, with a nonce if one is given (RFC 6960 4.1, RFC 9654)."""
    extensions = None
    if nonce is not None:
        extensions = [Extension(id=ID_PKIX_OCSP_NONCE, critical=False, value=encode(nonce))]
    request = Request(req_cert=cert_id(serial, issuer, hash_algorithm), single_request_extensions=None)
    tbs = TbsRequest(request_list=[request], request_extensions=extensions)
    return encode(OcspRequest(tbs_request=tbs))


def wrap_response(basic: bytes) -> bytes:
    """A successful OCSPResponse (DER) around a BasicOCSPResponse (DER)."""
    response_bytes = ResponseBytes(response_type=ID_PKIX_OCSP_BASIC, response=basic)
    return encode(OcspResponse(response_status=any_value(b"\x0a\x01\x00"), response_bytes=response_bytes))
