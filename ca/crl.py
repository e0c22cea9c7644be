"""Certificate revocation lists: full, delta, and of one partition of an authority's serials (RFC 5280 5, CPS 4.9.7).

A full list has every certificate of its authority that was ever revoked, also after it expired, so that whoever judges
an old signature finds it in the newest list. Its number is never below the time it was made at, in seconds since 1970:
an authority whose database was restored from a backup, or whose ceremony was run again, publishes no older number.
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
REMOVE_FROM_CRL: Final = "removeFromCRL"
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


@dataclass(frozen=True, slots=True)
class CrlScope:
    """What a list is of: by default all of its authority's certificates.

    `base`: number of the full list that a delta continues (RFC 5280 5.2.4); `address`: URL of a partition, which its
    certificates name as their distribution point (5.2.5); `freshest`: where the delta of a full list is (5.2.6).
    """

    base: int | None = None
    address: str | None = None
    freshest: str | None = None


FULL_SCOPE: Final = CrlScope()


@dataclass(frozen=True, slots=True)
class CrlFrame:
    """A TBSCertList (DER) without its entries: what stands before and after them, and when it begins and ends."""

    before: bytes
    after: bytes
    this_update: datetime
    next_update: datetime


def crl_frame(
    issuer: Issuer, *, number: int, size: int, rule: CrlRule, now: datetime, scope: CrlScope = FULL_SCOPE
) -> CrlFrame:
    """What stands around entries of `size` bytes in all; valid from `now` (less the rule's backdate) for its lifetime.

    So the size of a list is known before its first entry is read, and it is written from the front to the end.
    """
    now = now.replace(microsecond=0)
    certificate = issuer.certificate
    this_update = max(now - rule.backdate, certificate.not_valid_before_utc)
    next_update = min(now + rule.lifetime, certificate.not_valid_after_utc)
    extensions = [
        _extension(x509.AuthorityKeyIdentifier(key_identifier(issuer, issuer.public_key), None, None)),
        _extension(x509.CRLNumber(number)),
    ]
    if scope.base is not None:
        extensions.append(_extension(x509.DeltaCRLIndicator(scope.base), critical=True))
    if scope.address is not None:
        name = [x509.UniformResourceIdentifier(scope.address)]
        point = x509.IssuingDistributionPoint(name, None, False, False, None, False, False)
        extensions.append(_extension(point, critical=True))
    if scope.freshest is not None:
        name = [x509.UniformResourceIdentifier(scope.freshest)]
        extensions.append(_extension(x509.FreshestCRL([x509.DistributionPoint(name, None, None, None)])))
    head = b"".join(
        (
            _VERSION_2,
            certificate_signature_identifier(issuer.public_key),
            certificate.subject.public_bytes(),
            time_der(this_update),
            time_der(next_update),
            header(_SEQUENCE, size) if size else b"",  # RFC 5280 5.1.2.6: absent rather than empty
        )
    )
    after = tlv(_EXTENSIONS, tlv(_SEQUENCE, b"".join(extensions)))
    before = header(_SEQUENCE, len(head) + size + len(after)) + head
    return CrlFrame(before, after, this_update, next_update)


def prepare_crl(
    issuer: Issuer,
    *,
    number: int,
    entries: Iterable[bytes],
    rule: CrlRule,
    now: datetime,
    scope: CrlScope = FULL_SCOPE,
) -> bytes:
    """The TBSCertList (DER) of a list that fits into memory: as `crl_frame`.

    `entries` are DER (`entry_der`), each serial once.
    """
    listed = b"".join(entries)
    frame = crl_frame(issuer, number=number, size=len(listed), rule=rule, now=now, scope=scope)
    return frame.before + listed + frame.after


def header(tag: int, size: int) -> bytes:
    """Identifier and length octets of a DER element whose content has `size` bytes (X.690 10.1)."""
    if size < 0x80:
        return bytes((tag, size))
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets


def shard(serial: str, partitions: int) -> int:
    """In which partition of its authority a serial (hexadecimal) is, counted from 0; `partitions` divides 16."""
    return int(serial[-1], 16) % partitions


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
