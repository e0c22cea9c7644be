"""Typed signing of certificates, second half: the approvals that a certificate rests on (CPS 4.3.1, tokens.md).

A CA in service is given no certificate on its own word. With the TBSCertificate it hands over the dossier that it was
decided on and the CRLs to judge the officers by; here the case is decided again, with the policy packs that this
service itself found published, its pinned root and its clock, and the TBSCertificate must say exactly what was
approved. So whoever has taken over the CA's process still needs the officers' signatures for each certificate, and gets
one certificate for each approval (`hsm_service.ledger.DossierClaim`).

CRLs come with the request, because the CA may be on another machine. They are signed, and must be the newest that this
service knows to have been signed with a key in its own custody: an officer's revocation cannot be hidden by sending an
older list that has not ended yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from cps.decide import Verdict, decide
from cps.dossier import Dossier
from cps.entitlement import Entitlement, entitlements, require_issuer
from cps.errors import DossierError, EntitlementError, IssuerError
from cps.model import Pack
from cps.register import PackRegister
from hsm_service.judging import (
    CLOCK_SKEW,
    SigningKey,
    authority_key_identifier,
    extension_value,
    from_pki,
    parse,
    reading,
    refuse,
)
from hsm_service.service import Basis
from hsm_service.typed_certificate import CertificateOrder, value_of
from pki.crl import CrlSet
from pki.errors import PkiError
from pki.keys import spki_der
from pki.oids import SET_CERTIFICATE_TYPE
from pki.path import Trust
from pki.roles import role_of
from runtime.problems import Problem

MAX_DOSSIER: Final = 512 * 1024
"""Largest dossier, bytes of JSON: four requests and a dozen signed statements with their chains take a fifth of it."""
MAX_CRLS: Final = 8
"""Most CRLs: root, brand and the authority of officers and services, and a successor of each."""
MAX_CRL: Final = 1024 * 1024
"""Largest of these CRLs, bytes."""
MAX_BACKDATE: Final = timedelta(hours=1)
"""How long before its last approval a certificate may begin, for relying parties whose clock runs slow."""

_CLAUSE: Final = "CPS 4.3.1"
_OF_EVERY_CERTIFICATE: Final = frozenset(
    {
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
        SET_CERTIFICATE_TYPE,
    }
)


@dataclass(frozen=True, slots=True)
class Believed:
    """What this service itself believes when it decides a case again.

    `statements` are the published versions of the CPS. `newest_crl` gives, for the subject key identifier of an
    authority whose key is in custody here, the number of the last CRL that was signed with it; None for any other.
    """

    statements: PackRegister
    anchors: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...]
    newest_crl: Callable[[bytes], int | None]


@dataclass(frozen=True, slots=True)
class ApprovedOrder:
    """That a certificate was approved: by whom, in which revision of a case, for which of its purposes."""

    revision: str  # SHA-256, hex
    purpose: str
    approvers: tuple[str, ...]


def check_approval(
    order: CertificateOrder, key: SigningKey, basis: Basis | None, believed: Believed, *, now: datetime
) -> ApprovedOrder:
    """Judge at `now` whether the certificate of `order`, to be signed with `key`, is one that the officers approved.

    Refused (Problem 422): no dossier, one that cannot be read or is too large, one that `cps.decide` does not approve
    now and here, and every difference between the TBSCertificate and the approved case: subject key, role, names,
    extensions, extended key usage, validity; and a key that is not of the authority that the statement has issue it
    (CERT-ISSUER). Refused for now (409 `crl-superseded`): a CRL that is not the newest.
    """
    if basis is None:
        raise refuse("approval-missing", "a certificate is signed only with the approvals it rests on", _CLAUSE)
    if len(basis.dossier) > MAX_DOSSIER or len(basis.crls) > MAX_CRLS or any(len(crl) > MAX_CRL for crl in basis.crls):
        raise refuse("too-big", "the dossier or the CRLs are too large", _CLAUSE)
    try:
        dossier = Dossier.from_json(basis.dossier)
    except DossierError as error:
        raise refuse("dossier-unreadable", str(error), _CLAUSE) from None
    pack = believed.statements.governing(dossier.revision.cps, now)
    verdict = _decide(dossier, pack, _crls(basis.crls, believed), believed, now)
    approved = _entitlement(dossier, pack, verdict, order)
    with reading("TBSCertificate"):
        _check_holder(order, approved)
        _check_issuer(approved, key, pack)
        _check_extensions(order, approved)
    _check_validity(order, verdict, now)
    approvers = tuple(dict.fromkeys(approval.person for approval in verdict.approvals))
    return ApprovedOrder(dossier.revision.digest.hex(), approved.purpose, approvers)


@dataclass(frozen=True, slots=True)
class _Lists:
    """CRLs that were read: `numbers` has of each its key identifier, its number and its issuer's name."""

    crls: CrlSet
    numbers: tuple[tuple[bytes, int, str], ...]


def _crls(encoded: tuple[bytes, ...], believed: Believed) -> CrlSet:
    """The lists; that each speaks for its issuer now is asked by path validation, of those that are needed."""
    lists = _read_lists(encoded)
    for issuer, number, name in lists.numbers:
        newest = believed.newest_crl(issuer)
        if newest is not None and number < newest:
            raise Problem(
                409,
                "crl-superseded",
                f"CRL {number} of {name} was followed by CRL {newest}; send that one",
                clause="RFC 5280 6.3.3",
            )
    return lists.crls


@lru_cache(maxsize=4)
def _read_lists(encoded: tuple[bytes, ...]) -> _Lists:
    """What depends on the bytes alone: the same few lists come with every certificate until the next ones are out."""
    lists = [parse(x509.CertificateRevocationList, der, "CRL", limit=MAX_CRL) for der in encoded]
    try:
        with reading("CRL"):
            numbers = tuple(map(_number, lists))
        return _Lists(CrlSet(lists), numbers)
    except PkiError as error:
        raise from_pki(error) from None


def _number(crl: x509.CertificateRevocationList) -> tuple[bytes, int, str]:
    number, issuer = extension_value(crl, x509.CRLNumber), authority_key_identifier(crl)
    if number is None or issuer is None:
        raise refuse("crl-number-missing", "a CRL has a number and names its issuer's key", "RFC 5280 5.2")
    return issuer, number.crl_number, crl.issuer.rfc4514_string()


_trust: Final = lru_cache(maxsize=4)(Trust)  # which keeps what it read of its certificates


def _decide(dossier: Dossier, pack: Pack, crls: CrlSet, believed: Believed, now: datetime) -> Verdict:
    try:
        trust = _trust(believed.anchors, believed.intermediates, crls)
        verdict = decide(dossier, pack, trust=trust, now=now)
    except PkiError as error:
        raise from_pki(error) from None
    if verdict.approved:
        return verdict
    reasons = [str(finding) for finding in verdict.findings]
    if verdict.next_step is not None:
        reasons.append(f"step {verdict.next_step.name} misses {verdict.next_step.missing} approvals")
    clause = verdict.findings[0].clause if verdict.findings else _CLAUSE
    raise refuse("not-approved", f"the case is {verdict.status}: {'; '.join(reasons)}"[:1000], clause)


def _entitlement(dossier: Dossier, pack: Pack, verdict: Verdict, order: CertificateOrder) -> Entitlement:
    """What was approved for the key that the certificate is for."""
    try:
        asked = entitlements(dossier, pack, not_after=verdict.not_after)
    except EntitlementError as error:
        raise refuse("not-approved", str(error), error.clause) from None
    found = next((each for each in asked if spki_der(each.holder.public_key) == order.subject_key), None)
    if found is None:
        raise refuse("foreign-subject-key", "the key is in none of the requests that were approved", "CPS 3.2.1")
    return found


def _check_issuer(approved: Entitlement, key: SigningKey, pack: Pack) -> None:
    try:
        require_issuer(approved, role_of(key.certificate), pack)
    except IssuerError as error:
        raise refuse("issuer-not-approved", f"{error.rule}: {error}", error.clause) from None


def _check_holder(order: CertificateOrder, approved: Entitlement) -> None:
    holder = approved.holder
    if order.role is not approved.kind.role:
        raise refuse("role-not-approved", f"{approved.kind.role} was approved, not {order.role}", "CPS 7.1")
    if order.subject != holder.subject.public_bytes():
        raise refuse("subject-not-approved", "the subject is not the one that was approved", "CPS 3.1.1")
    named = value_of(order.extensions, x509.SubjectAlternativeName)
    if tuple(named or ()) != holder.alternative_names:
        raise refuse("names-not-approved", "subjectAltName is not what was approved", "CPS 3.1.1")
    usages = value_of(order.extensions, x509.ExtendedKeyUsage)
    if frozenset(usages or ()) != approved.kind.extended_key_usage:
        raise refuse("usage-not-approved", "the extended key usages are not those of the profile", "CPS 7.1")


def _check_extensions(order: CertificateOrder, approved: Entitlement) -> None:
    expected = {each.oid: each.public_bytes() for each in (own.to_extension() for own in approved.holder.extensions)}
    found = {
        oid: each.value.public_bytes() for oid, each in order.extensions.items() if oid not in _OF_EVERY_CERTIFICATE
    }
    if found != expected:
        differing = sorted(
            oid.dotted_string for oid in found.keys() | expected.keys() if found.get(oid) != expected.get(oid)
        )
        raise refuse("extension-not-approved", f"{', '.join(differing)} is not what was approved", "CPS 7.1")


def _check_validity(order: CertificateOrder, verdict: Verdict, now: datetime) -> None:
    assert verdict.not_after is not None  # it was approved
    if order.not_after > verdict.not_after + CLOCK_SKEW:
        raise refuse("validity-not-approved", f"the statement lets it end by {verdict.not_after}", "CPS 6.3.2")
    approved_at = max(approval.signed_at for approval in verdict.approvals)
    if not approved_at - MAX_BACKDATE <= order.not_before <= now + CLOCK_SKEW:
        raise refuse("validity-not-approved", "it begins before it was approved, or in the future", "CPS 6.3.2")
