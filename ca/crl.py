"""Certificate revocation lists: one full CRL an authority (RFC 5280 5, CPS 4.9.7).

A CRL lists every certificate of its authority that was ever revoked, also after it expired, so that whoever judges an
old signature finds it in the newest list. Its number is never below the time it was made at, in seconds since 1970: an
authority whose database was restored from a backup, or whose ceremony was run again, cannot publish an older number.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.x509 import ReasonFlags

from ca.prepare import Issuer, key_identifier
from ca.profile import CrlRule
from pki.algorithms import certificate_signature_identifier
from pki.der import encode, tlv

UNSPECIFIED: Final = "unspecified"
_SEQUENCE: Final = 0x30
_OCTET_STRING: Final = 0x04
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_EXTENSIONS: Final = 0xA0
_VERSION_2: Final = b"\x02\x01\x01"
_TRUE: Final = b"\x01\x01\xff"
_GENERALIZED_FROM: Final = 2050


def next_number(last: int | None, now: datetime) -> int:
    """The number of the next CRL, greater than `last` (RFC 5280 5.2.3)."""
    return max(int(now.timestamp()), 0 if last is None else last + 1)


def prepare_crl(issuer: Issuer, *, number: int, entries: Iterable[bytes], rule: CrlRule, now: datetime) -> bytes:
    """The TBSCertList (DER) of a full CRL, valid from `now` (less the rule's backdate) for the rule's lifetime.

    `entries` are DER (`entry_der`), each serial once.
    """
    now = now.replace(microsecond=0)
    certificate = issuer.certificate
    listed = b"".join(entries)
    extensions = (
        _extension(x509.AuthorityKeyIdentifier(key_identifier(issuer, issuer.public_key), None, None)),
        _extension(x509.CRLNumber(number)),
    )
    return tlv(
        _SEQUENCE,
        b"".join(
            (
                _VERSION_2,
                certificate_signature_identifier(issuer.public_key),
                certificate.subject.public_bytes(),
                time_der(max(now - rule.backdate, certificate.not_valid_before_utc)),
                time_der(min(now + rule.lifetime, certificate.not_valid_after_utc)),
                tlv(_SEQUENCE, listed) if listed else b"",  # RFC 5280 5.1.2.6: absent rather than empty
                tlv(_EXTENSIONS, tlv(_SEQUENCE, b"".join(extensions))),
            )
        ),
    )


def _extension(value: x509.ExtensionType, *, critical: bool = False) -> bytes:
    oid = encode(value.oid)
    return tlv(_SEQUENCE, oid + (_TRUE if critical else b"") + tlv(_OCTET_STRING, value.public_bytes()))


def time_der(moment: datetime) -> bytes:
    """Time (RFC 5280 4.1.2.5): UTCTime through 2049, GeneralizedTime from then on, in whole seconds."""
    moment = moment.astimezone(UTC)
    if moment.year < _GENERALIZED_FROM:
        return tlv(_UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(_GENERALIZED_TIME, moment.strftime("%Y%m%d%H%M%SZ").encode())


def entry_der(serial: str, at: datetime, reason: str, invalidity_date: datetime | None = None) -> bytes:
    """The DER entry of a list (RFC 5280 5.1.2.6): `serial` in hexadecimal, `reason` a CRLReason."""
    extensions = []
    if reason != UNSPECIFIED:  # RFC 5280 5.3.1: absent rather than unspecified
        extensions.append(_extension(x509.CRLReason(ReasonFlags(reason))))
    if invalidity_date is not None:
        extensions.append(_extension(x509.InvalidityDate(invalidity_date.astimezone(UTC).replace(microsecond=0))))
    return tlv(
        _SEQUENCE,
        encode(int(serial, 16)) + time_der(at) + (tlv(_SEQUENCE, b"".join(extensions)) if extensions else b""),
    )


@dataclass(frozen=True, slots=True)
class ListedSerial:
    """An entry of a CRL, read back."""

    serial: str
    reason: str
    revoked_at: datetime
    invalidity_date: datetime | None


def listed(crl: x509.CertificateRevocationList) -> list[ListedSerial]:
    """The entries of a CRL, in its order."""
    return [_listed(entry) for entry in crl]


def _listed(entry: x509.RevokedCertificate) -> ListedSerial:
    reason, since = UNSPECIFIED, None
    for extension in entry.extensions:
        if isinstance(extension.value, x509.CRLReason):
            reason = extension.value.reason.value
        elif isinstance(extension.value, x509.InvalidityDate):
            since = extension.value.invalidity_date_utc
    return ListedSerial(format(entry.serial_number, "x"), reason, entry.revocation_date_utc, since)
