"""Typed signing of revocation lists: is this TBSCertList one that the authority's key may sign? (RFC 5280 5.1)"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat import asn1

from hsm_service.judging import (
    CLOCK_SKEW,
    PLACEHOLDER,
    SigningKey,
    authority_key_identifier,
    extension_value,
    parse,
    reading,
    refuse,
    sound,
    subject_key_identifier,
)
from pki.builder import assemble_crl
from pki.extensions import extensions_of
from pki.roles import Role

MAX_CRL_AGE: Final = timedelta(hours=24)
"""How far back thisUpdate of a CRL may lie when it is signed."""
MAX_CRL_LIFE: Final = timedelta(days=10)
"""How long after thisUpdate a CRL may serve: one that lasts for years would hide every later one."""
MAX_ROOT_CRL_LIFE: Final = timedelta(days=400)
"""The same for a root, whose CRLs are signed at ceremonies."""
FARTHEST_AHEAD: Final = 1000
"""By how much a number may exceed the last one and the time (seconds since 1970): numbers cannot be used up."""


@dataclass(frozen=True, slots=True)
class CrlOrder:
    """A TBSCertList that the key may sign, if its number is larger than the last."""

    tbs: bytes
    number: int
    revoked: int


def check_crl(tbs: bytes, key: SigningKey, *, now: datetime, last: int | None = None) -> CrlOrder:
    """An order to sign the DER TBSCertList `tbs`: a full CRL of the authority whose key `key` is.

    Refused (Problem 422): what is not one TBSCertList in DER, another signature algorithm, an issuer or authority key
    identifier that is not this key's, no number, one that is negative or far ahead of `last` (the last number) and of
    the time, a thisUpdate in the future or older than a day, a nextUpdate that is missing, past or too far away, a
    revocation in the future, a critical extension. Whether the number is larger than the last one is known to whoever
    signed the last one: `hsm_service.ledger`.
    """
    with reading("TBSCertList"):
        return _check_crl(tbs, key, now, last)


def _check_crl(tbs: bytes, key: SigningKey, now: datetime, last: int | None) -> CrlOrder:
    parse(asn1.TLV, tbs, "TBSCertList")
    crl = parse(
        x509.CertificateRevocationList, assemble_crl(tbs, PLACEHOLDER, key.public_key), "TBSCertList of this key"
    )
    if crl.tbs_certlist_bytes != tbs:
        raise refuse("malformed", "not one TBSCertList in DER", "RFC 5280 5.1")
    issuer = key.certificate
    if crl.issuer.public_bytes() != issuer.subject.public_bytes():
        raise refuse("issuer-mismatch", f"the issuer is not the subject of key {key.name}", "RFC 5280 5.1.2.3")
    extensions = sound(lambda: extensions_of(crl))
    if any(extension.critical for extension in extensions):
        raise refuse("unknown-critical-extension", "a full CRL has no critical extension", "RFC 5280 5.2")
    if authority_key_identifier(crl) != subject_key_identifier(issuer):
        raise refuse("authority-key-mismatch", "authorityKeyIdentifier is not this key's", "RFC 5280 5.2.1")
    number = extension_value(crl, x509.CRLNumber)
    if number is None:
        raise refuse("crl-number-missing", "a CRL has a number", "RFC 5280 5.2.3")
    # After the largest number there is no other, and nothing could be revoked any more.
    if not 0 <= number.crl_number <= max(int(now.timestamp()), last or 0) + FARTHEST_AHEAD:
        raise refuse("bad-crl-number", "a number follows the last one, or the time in seconds", "RFC 5280 5.2.3")
    if not now - MAX_CRL_AGE <= crl.last_update_utc <= now + CLOCK_SKEW:
        raise refuse("bad-this-update", "thisUpdate is now, at most a day ago", "RFC 5280 5.1.2.4")
    if crl.next_update_utc is None or crl.next_update_utc <= max(now, crl.last_update_utc):
        raise refuse("bad-next-update", "nextUpdate is in the future", "RFC 5280 5.1.2.5")
    life = MAX_ROOT_CRL_LIFE if Role.ROOT in key.template.holds else MAX_CRL_LIFE
    if crl.next_update_utc - crl.last_update_utc > life:
        raise refuse("bad-next-update", f"nextUpdate is within {life.days} days of thisUpdate", "CPS 4.9.7")
    return CrlOrder(tbs, number.crl_number, _check_entries(crl, now))


def _check_entries(crl: x509.CertificateRevocationList, now: datetime) -> int:
    """Number of entries, each of them read."""
    serials = set()
    for entry in crl:
        serials.add(entry.serial_number)
        if entry.revocation_date_utc > now + CLOCK_SKEW:
            raise refuse("bad-revocation-date", "a certificate is revoked in the future", "RFC 5280 5.1.2.6")
        if any(extension.critical for extension in entry.extensions):
            raise refuse("unknown-critical-extension", "an entry has a critical extension", "RFC 5280 5.3")
    if len(serials) != len(crl):
        raise refuse("repeated-entry", "a serial number is listed twice", "RFC 5280 5.1.2.6")
    return len(serials)
