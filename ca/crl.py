"""Certificate revocation lists: one full CRL an authority (RFC 5280 5, CPS 4.9.7).

A CRL lists every certificate of its authority that was ever revoked, also after it expired, so that whoever judges an
old signature finds it in the newest list. Its number is never below the time it was made at, in seconds since 1970: an
authority whose database was restored from a backup, or whose ceremony was run again, cannot publish an older number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from cryptography import x509
from cryptography.x509 import ReasonFlags

from ca.prepare import Issuer, key_identifier
from ca.profile import CrlRule
from pki.builder import tbs_crl

UNSPECIFIED: Final = "unspecified"


class RevokedSerial(Protocol):
    """What a CRL entry is made from."""

    @property
    def serial(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def revoked_at(self) -> datetime: ...
    @property
    def invalidity_date(self) -> datetime | None: ...


def next_number(last: int | None, now: datetime) -> int:
    """The number of the next CRL, greater than `last` (RFC 5280 5.2.3)."""
    return max(int(now.timestamp()), 0 if last is None else last + 1)


def prepare_crl(
    issuer: Issuer, *, number: int, revoked: Sequence[RevokedSerial], rule: CrlRule, now: datetime
) -> bytes:
    """The TBSCertList (DER) of a full CRL, valid from `now` (less the rule's backdate) for the rule's lifetime."""
    now = now.replace(microsecond=0)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(max(now - rule.backdate, issuer.certificate.not_valid_before_utc))
        .next_update(min(now + rule.lifetime, issuer.certificate.not_valid_after_utc))
        .add_extension(
            x509.AuthorityKeyIdentifier(key_identifier(issuer, issuer.public_key), None, None), critical=False
        )
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    for entry in revoked:
        builder = builder.add_revoked_certificate(_entry(entry))
    return tbs_crl(builder, issuer.public_key)


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


def _entry(entry: RevokedSerial) -> x509.RevokedCertificate:
    builder = (
        x509.RevokedCertificateBuilder()
        .serial_number(int(entry.serial, 16))
        .revocation_date(entry.revoked_at.replace(microsecond=0))
    )
    if entry.reason != UNSPECIFIED:  # RFC 5280 5.3.1: absent rather than unspecified
        builder = builder.add_extension(x509.CRLReason(ReasonFlags(entry.reason)), critical=False)
    if entry.invalidity_date is not None:
        builder = builder.add_extension(
            x509.InvalidityDate(entry.invalidity_date.replace(microsecond=0)), critical=False
        )
    return builder.build()
