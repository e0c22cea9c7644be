"""Typed signing of revocation lists: is this TBSCertList one that the authority's key may sign? (RFC 5280 5.1)

Full lists, deltas (critical deltaCRLIndicator, over a full list that the same key signed) and partitions (critical
issuingDistributionPoint that names one address and restricts nothing else) of the key's own authority. A list that
comes in pieces is judged by the same rules: `hsm_service.crl_reader`.
"""

from __future__ import annotations

from collections.abc import Callable
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
from hsm_service.ledger import CrlScope
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

_REMOVE: Final = x509.CRLReason(x509.ReasonFlags.remove_from_crl)


@dataclass(frozen=True, slots=True)
class CrlOrder:
    """A TBSCertList that the key may sign, if its number is larger than the last."""

    tbs: bytes
    number: int
    revoked: int
    scope: CrlScope = "full"


def check_crl(
    tbs: bytes,
    key: SigningKey,
    *,
    now: datetime,
    last: int | None = None,
    is_full: Callable[[int], bool] = lambda _number: False,
) -> CrlOrder:
    """An order to sign the DER TBSCertList `tbs`: a CRL of the authority whose key `key` is.

    Refused (Problem 422): what is not one TBSCertList in DER, another signature algorithm, an issuer or authority key
    identifier that is not this key's, no number, one that is negative or far ahead of `last` (the last number) and of
    the time, a thisUpdate in the future or older than a day, a nextUpdate that is missing, past or too far away, a
    revocation in the future, a delta whose base `is_full` does not know as a full list of this key, a distribution
    point that is more than one address, another critical extension. Whether the number is larger than the last one is
    known to whoever signed the last one: `hsm_service.ledger`.
    """
    with reading("TBSCertList"):
        return _check_crl(tbs, key, now, last, is_full)


def _check_crl(
    tbs: bytes, key: SigningKey, now: datetime, last: int | None, is_full: Callable[[int], bool]
) -> CrlOrder:
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
    scope = _scope(extensions)
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
    base = extension_value(crl, x509.DeltaCRLIndicator)
    if base is not None and not (base.crl_number < number.crl_number and is_full(base.crl_number)):
        raise refuse("unknown-base-crl", f"a delta continues a full CRL that key {key.name} signed", "RFC 5280 5.2.4")
    return CrlOrder(tbs, number.crl_number, _check_entries(crl, now, scope), scope)


def _scope(extensions: x509.Extensions) -> CrlScope:
    """What kind of list these are the extensions of; refuses what is none of ours."""
    scope: CrlScope = "full"
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.DeltaCRLIndicator | x509.IssuingDistributionPoint):
            if scope != "full":
                raise refuse("unknown-scope", "a list is a delta or a partition, not both", "RFC 5280 5.2")
            if not extension.critical:
                raise refuse("not-critical", "what limits a list is critical", "RFC 5280 5.2.4, 5.2.5")
            scope = "delta" if isinstance(value, x509.DeltaCRLIndicator) else _partition(value)
        elif extension.critical:
            raise refuse("unknown-critical-extension", "a CRL has no other critical extension", "RFC 5280 5.2")
    if scope == "delta" and any(isinstance(each.value, x509.FreshestCRL) for each in extensions):
        raise refuse("freshest-of-delta", "a delta names no further delta", "RFC 5280 5.2.6")
    return scope


def _partition(point: x509.IssuingDistributionPoint) -> CrlScope:
    names = list(point.full_name or ())
    plain = x509.IssuingDistributionPoint(point.full_name, None, False, False, None, False, False)
    if point != plain or len(names) != 1 or not isinstance(names[0], x509.UniformResourceIdentifier):
        raise refuse("bad-distribution-point", "a partition is one address, and of all kinds", "RFC 5280 5.2.5")
    return "partition"


def _check_entries(crl: x509.CertificateRevocationList, now: datetime, scope: CrlScope) -> int:
    """Number of entries, each of them read."""
    serials = set()
    for entry in crl:
        serials.add(entry.serial_number)
        if entry.revocation_date_utc > now + CLOCK_SKEW:
            raise refuse("bad-revocation-date", "a certificate is revoked in the future", "RFC 5280 5.1.2.6")
        for extension in entry.extensions:
            if extension.critical:
                raise refuse("unknown-critical-extension", "an entry has a critical extension", "RFC 5280 5.3")
            if scope != "delta" and extension.value == _REMOVE:
                raise refuse("bad-reason", "removeFromCRL stands in deltas alone", "RFC 5280 5.3.1")
    if len(serials) != len(crl):
        raise refuse("repeated-entry", "a serial number is listed twice", "RFC 5280 5.1.2.6")
    return len(serials)
