"""What a responder says, before it is signed: ResponseData (RFC 6960 4.2.1), in DER by hand: it is said often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from cryptography import x509

from ca.ocsp_policy import OcspPolicy
from hsm_service.service import KeyInfo
from pki.der import encode, tlv
from pki.ocsp_structures import GOOD, ID_PKIX_OCSP_ARCHIVE_CUTOFF, ID_PKIX_OCSP_NONCE, REASONS, UNKNOWN

OcspState = Literal["good", "revoked", "unknown"]

_SEQUENCE: Final = 0x30
_OCTET_STRING: Final = 0x04
_GENERALIZED_TIME: Final = 0x18
_REVOKED: Final = 0xA1
_REASON_NUMBERS: Final = {name: number for number, name in REASONS.items() if number}
_CUTOFF_OID: Final = encode(ID_PKIX_OCSP_ARCHIVE_CUTOFF)
_NONCE_OID: Final = encode(ID_PKIX_OCSP_NONCE)

MALFORMED_REQUEST: Final = b"\x30\x03\x0a\x01\x01"
INTERNAL_ERROR: Final = b"\x30\x03\x0a\x01\x02"
TRY_LATER: Final = b"\x30\x03\x0a\x01\x03"
UNAUTHORIZED: Final = b"\x30\x03\x0a\x01\x06"
"""OCSPResponses without an answer (RFC 6960 4.2.1, RFC 5019 2.2.3); they are not signed."""


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """How a serial stands; `revoked_at` and `reason` (a CRLReason) are those of a revoked or suspended one."""

    state: OcspState
    revoked_at: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ResponderKey:
    """The token key that answers for an authority: ResponderID by key, and until when its certificate lives."""

    name: str
    key_hash: bytes
    not_after: datetime
    renew_at: datetime
    """When a third of its life is left: then the next certificate is due."""


@dataclass(frozen=True, slots=True)
class Times:
    """thisUpdate and nextUpdate of an answer."""

    this_update: datetime
    next_update: datetime


def responder_name(issuer: str) -> str:
    """The name of the token key that answers for an authority, and of its certificate profile."""
    return f"ocsp-{issuer}"


def responder_key(info: KeyInfo) -> ResponderKey | None:
    """What is needed of a key to answer with it; None while it has no certificate."""
    if not info.certificate_chain:
        return None
    certificate = x509.load_der_x509_certificate(info.certificate_chain[0])
    digest = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return ResponderKey(info.name, digest, certificate.not_valid_after_utc, certificate.not_valid_after_utc - life / 3)


def times(now: datetime, lifetime: timedelta, policy: OcspPolicy, key: ResponderKey) -> Times:
    """When an answer of `now` begins and ends: never after the certificate of the key that signs it."""
    this_update = now.replace(microsecond=0) - policy.backdate
    return Times(this_update, min(this_update + lifetime, key.not_after))


def single_response(cert_id: bytes, status: CertificateStatus, when: Times, archive_cutoff: datetime) -> bytes:
    """One SingleResponse (DER) about `cert_id` (DER), known back to `archive_cutoff` (RFC 6960 4.4.4)."""
    cutoff = tlv(_SEQUENCE, _CUTOFF_OID + tlv(_OCTET_STRING, _time(archive_cutoff)))
    return tlv(
        _SEQUENCE,
        cert_id
        + _cert_status(status)
        + _time(when.this_update)
        + tlv(0xA0, _time(when.next_update))
        + tlv(0xA1, tlv(_SEQUENCE, cutoff)),
    )


def response_data(key: ResponderKey, now: datetime, singles: Sequence[bytes], nonce: bytes | None = None) -> bytes:
    """ResponseData (DER) of these SingleResponses; `nonce` is the DER OCTET STRING that was asked with."""
    extensions = b""
    if nonce is not None:
        extensions = tlv(0xA1, tlv(_SEQUENCE, tlv(_SEQUENCE, _NONCE_OID + tlv(_OCTET_STRING, nonce))))
    responder_id = tlv(0xA2, tlv(_OCTET_STRING, key.key_hash))
    return tlv(_SEQUENCE, responder_id + _time(now) + tlv(_SEQUENCE, b"".join(singles)) + extensions)


def _cert_status(status: CertificateStatus) -> bytes:
    if status.state == "good":
        return GOOD
    if status.state == "unknown":
        return UNKNOWN
    assert status.revoked_at is not None
    number = _REASON_NUMBERS.get(status.reason or "")
    # RFC 5280 5.3.1: absent rather than unspecified
    reason = b"" if number is None else tlv(0xA0, bytes((0x0A, 1, number)))
    return tlv(_REVOKED, _time(status.revoked_at) + reason)


def _time(moment: datetime) -> bytes:
    return tlv(_GENERALIZED_TIME, moment.astimezone(UTC).strftime("%Y%m%d%H%M%SZ").encode())
