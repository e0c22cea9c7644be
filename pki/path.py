"""Certification paths: from a leaf to a pinned root, now, or not at all (RFC 5280 6.1, KWBP check K5).

Everything fails closed. Each CA of a path needs a current CRL, as with `openssl verify -crl_check_all`; each
certificate needs a role, and the role of its issuer must be the one that may issue it, so that a merchant CA cannot
make gateways.

The same few chains recur on every payment. Therefore what depends on bytes alone (the issuer's signature, the role, the
strength of the key) is remembered in bounded caches keyed on those bytes; validity and revocation are judged each time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from pki.algorithms import CERTIFICATE_SIGNATURE_OIDS
from pki.crl import CrlSet, verify_crl
from pki.errors import CertificateError, PathError
from pki.extensions import authority_key_id, extensions_of, subject_key_id
from pki.keys import screen_public_key
from pki.roles import PROFILES, Role, role_of

MAX_DEPTH: Final = 6
MAX_EXTRA: Final = 8
_CLAUSE: Final = "RFC 5280 6.1"
_PROCESSED: Final = (x509.BasicConstraints, x509.KeyUsage, x509.CertificatePolicies, x509.SubjectAlternativeName)


@dataclass(frozen=True)
class Trust:
    """What a party believes at a moment: pinned roots, CA certificates it knows, CRLs it has fetched."""

    anchors: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...] = ()
    crls: CrlSet = field(default_factory=CrlSet)


@dataclass(frozen=True)
class Path:
    """A path that held: certificates from the leaf to the root, and the leaf's role."""

    certificates: tuple[x509.Certificate, ...]
    role: Role

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate that was asked about."""
        return self.certificates[0]

    @property
    def root(self) -> x509.Certificate:
        """The pinned anchor it ends at."""
        return self.certificates[-1]


@dataclass(frozen=True)
class _Facts:
    """What a certificate's bytes say, read once."""

    issuer: bytes
    subject: bytes
    authority_key_id: bytes | None
    subject_key_id: bytes | None
    basic_constraints: x509.BasicConstraints | None
    key_usage: x509.KeyUsage | None
    has_unprocessed_extension: bool
    not_before: datetime
    not_after: datetime
    is_sound: bool


def validate_path(
    leaf: x509.Certificate,
    extra: Sequence[x509.Certificate] = (),
    *,
    trust: Trust,
    now: datetime,
    roles: Collection[Role],
    check_revocation: bool = True,
) -> Path:
    """Find a path from `leaf` to an anchor of `trust` that holds at `now` (aware UTC) and has one of `roles`.

    `extra` are untrusted certificates that came with the message; they may only help to build the path.

    Raises PathError. `unknown_issuer`: no chain of names and keys to an anchor. `bad_signature`: a certificate names an
    issuer we know and was not signed by it. `expired`, `not_yet_valid`, `weak_key`, `weak_algorithm`,
    `unknown_critical_extension`, `bad_extension`, `not_a_ca`, `bad_key_usage`, `path_too_long`, `wrong_role`,
    `revoked`, `crl_missing`, `crl_expired`, `crl_not_yet_valid`: the first check that failed, seen from the root.
    """
    if now.tzinfo is None:
        raise ValueError("now must be an aware datetime")
    if len(extra) > MAX_EXTRA:
        raise PathError("path_too_long", f"more than {MAX_EXTRA} certificates came along", clause=_CLAUSE)
    pool = (*trust.intermediates, *extra)
    first: PathError | None = None
    for chain in _chains((leaf,), trust.anchors, pool):
        try:
            role = _check_chain(chain, trust, now, roles, check_revocation)
        except PathError as error:
            first = first or error
        else:
            return Path(chain, role)
    raise first or _why_no_chain(leaf, trust.anchors, pool)


def _chains(
    chain: tuple[x509.Certificate, ...],
    anchors: tuple[x509.Certificate, ...],
    pool: tuple[x509.Certificate, ...],
) -> Iterator[tuple[x509.Certificate, ...]]:
    """Every chain of verified signatures from the leaf to an anchor, anchors tried first."""
    last = chain[-1]
    if last in anchors:
        yield chain
        return
    if len(chain) >= MAX_DEPTH:
        return
    for candidate in dict.fromkeys((*anchors, *pool)):
        if candidate not in chain and _may_have_issued(candidate, last) and _signed(last, candidate):
            yield from _chains((*chain, candidate), anchors, pool)


def _why_no_chain(
    leaf: x509.Certificate, anchors: tuple[x509.Certificate, ...], pool: tuple[x509.Certificate, ...]
) -> PathError:
    if any(_may_have_issued(candidate, leaf) and not _signed(leaf, candidate) for candidate in (*anchors, *pool)):
        return PathError("bad_signature", "not signed by the issuer it names", clause=_CLAUSE)
    return PathError("unknown_issuer", "no chain to a pinned root", clause=_CLAUSE)


def _may_have_issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        above, below = _facts(issuer), _facts(certificate)
    except CertificateError:
        return False
    same_key = None in (above.subject_key_id, below.authority_key_id) or above.subject_key_id == below.authority_key_id
    return above.subject == below.issuer and same_key


@lru_cache(maxsize=4096)
def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


@lru_cache(maxsize=4096)
def _facts(certificate: x509.Certificate) -> _Facts:
    extensions = extensions_of(certificate)
    return _Facts(
        issuer=certificate.issuer.public_bytes(),
        subject=certificate.subject.public_bytes(),
        authority_key_id=authority_key_id(extensions),
        subject_key_id=subject_key_id(extensions),
        basic_constraints=next((e.value for e in extensions if isinstance(e.value, x509.BasicConstraints)), None),
        key_usage=next((e.value for e in extensions if isinstance(e.value, x509.KeyUsage)), None),
        has_unprocessed_extension=any(e.critical and not isinstance(e.value, _PROCESSED) for e in extensions),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        is_sound=certificate.version is x509.Version.v3 and certificate.serial_number > 0,
    )


@lru_cache(maxsize=4096)
def _screen(certificate: x509.Certificate) -> None:
    if certificate.signature_algorithm_oid not in CERTIFICATE_SIGNATURE_OIDS:
        raise CertificateError("weak_algorithm", "certificate signature algorithm is not accepted", clause=_CLAUSE)
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        raise CertificateError("weak_algorithm", "unknown kind of key", clause=_CLAUSE) from None
    screen_public_key(key)


def _check_chain(
    chain: tuple[x509.Certificate, ...],
    trust: Trust,
    now: datetime,
    roles: Collection[Role],
    check_revocation: bool,
) -> Role:
    """Check a chain from the root down and return the leaf's role; PathError on the first failure."""
    try:
        role = _check_certificate(chain[-1], now)
        for depth in range(len(chain) - 1, 0, -1):
            issuer, certificate = chain[depth], chain[depth - 1]
            _check_issuer(issuer, cas_below=depth - 1)
            issuer_role, role = role, _check_certificate(certificate, now)
            if PROFILES[role].issuer is not issuer_role:
                raise PathError("wrong_role", f"{issuer_role} may not issue {role}", clause="KWBP global rule 4")
            if check_revocation:
                _check_revocation(certificate, issuer, trust.crls, now)
    except CertificateError as error:
        raise PathError(error.reason, error.detail, clause=error.clause) from None
    if role not in roles:
        raise PathError("wrong_role", f"{role} where {', '.join(sorted(roles))} is needed", clause="KWBP global rule 4")
    return role


def _check_certificate(certificate: x509.Certificate, now: datetime) -> Role:
    facts = _facts(certificate)
    if now < facts.not_before:
        raise PathError("not_yet_valid", "before notBefore", clause=_CLAUSE)
    if now > facts.not_after:
        raise PathError("expired", "after notAfter", clause=_CLAUSE)
    if not facts.is_sound:
        raise PathError("bad_certificate", "not version 3 with a positive serial number", clause="RFC 5280 4.1.2")
    if facts.has_unprocessed_extension:
        raise PathError("unknown_critical_extension", "critical extension is not processed", clause="RFC 5280 4.2")
    _screen(certificate)
    return role_of(certificate)


def _check_issuer(issuer: x509.Certificate, cas_below: int) -> None:
    facts = _facts(issuer)
    if facts.basic_constraints is None or not facts.basic_constraints.ca:
        raise PathError("not_a_ca", "issuer is not a CA", clause="RFC 5280 6.1.4 (k)")
    if facts.key_usage is None or not facts.key_usage.key_cert_sign:
        raise PathError("bad_key_usage", "issuer may not sign certificates", clause="RFC 5280 6.1.4 (n)")
    limit = facts.basic_constraints.path_length
    if limit is not None and cas_below > limit:
        raise PathError("path_too_long", f"{cas_below} CAs below a limit of {limit}", clause="RFC 5280 6.1.4 (m)")


def _check_revocation(certificate: x509.Certificate, issuer: x509.Certificate, crls: CrlSet, now: datetime) -> None:
    crl = crls.indexed(issuer)
    if crl is None:
        raise PathError("crl_missing", "no CRL of the issuer", clause="RFC 5280 6.3")
    verify_crl(crl, issuer, now)
    if certificate.serial_number in crl.revoked:
        raise PathError("revoked", "certificate is on its issuer's CRL", clause="RFC 5280 6.3")
