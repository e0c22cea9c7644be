"""Certification paths: from a leaf to a pinned root, now, or not at all (RFC 5280 6.1, KWBP check K5).

Everything fails closed. Each CA of a path needs a current CRL, as with `openssl verify -crl_check_all`; each
certificate needs a role, and the role of its issuer must be the one that may issue it, so that a merchant CA cannot
make gateways.

`pki.rfc5280` judges every path as well; nothing that it refuses gets past these rules, which only narrow it.

The same few chains recur on every payment. Therefore what depends on bytes alone (the issuer's signature, the role, the
strength of the key) is remembered in bounded caches keyed on those bytes; validity and revocation are judged each time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from pki.algorithms import CERTIFICATE_SIGNATURE_OIDS
from pki.crl import CrlSet
from pki.crl_scope import subject_of
from pki.errors import UNREADABLE, CertificateError, DerError, PathError
from pki.extensions import authority_key_id, extensions_of, subject_key_id
from pki.keys import screen_public_key
from pki.rfc5280 import process
from pki.roles import PROFILES, Role, role_of
from pki.signed import check_octets

MAX_DEPTH: Final = 5  # leaf, issuing CA, geopolitical CA, brand, root
MAX_EXTRA: Final = 8
LARGEST: Final = 10_240
"""Bytes of a certificate: 8192 that are signed (CPS 7.1), and the longest signature."""
_REMEMBERED: Final = 4096
_CHAINS: Final = 1024  # of up to `MAX_EXTRA` certificates that a stranger sent along, each of `LARGEST` bytes
_CLAUSE: Final = "RFC 5280 6.1"
_ROLE_CLAUSE: Final = "KWBP global rule 4"
_PROCESSED: Final = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.CertificatePolicies,
    x509.SubjectAlternativeName,
)


@dataclass(frozen=True)
class Trust:
    """What a party believes at a moment: pinned roots, CA certificates it knows, CRLs it has fetched.

    CertificateError `bad_extension` on first use if one of its own certificates cannot be read.
    """

    anchors: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...] = ()
    crls: CrlSet = field(default_factory=CrlSet)

    @cached_property
    def _known_anchors(self) -> tuple[_Known, ...]:
        return tuple(_known(certificate) for certificate in self.anchors)

    @cached_property
    def _known_intermediates(self) -> tuple[_Known, ...]:
        return tuple(_known(certificate) for certificate in self.intermediates)


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


class _Known:
    """A certificate and what its bytes say, read once. Compared by identity: `_known` gives one object per bytes."""

    def __init__(self, certificate: x509.Certificate) -> None:
        extensions = extensions_of(certificate)
        self.certificate: Final = certificate
        der = certificate.public_bytes(Encoding.DER)
        if len(der) > LARGEST:  # what strangers send is remembered, so it is bounded
            raise CertificateError("bad_certificate", f"{len(der)} bytes, at most {LARGEST}", clause="CPS 7.1")
        try:
            check_octets(der)
            self.issuer: Final = certificate.issuer.public_bytes()
            self.subject: Final = certificate.subject.public_bytes()
            self.serial: Final = certificate.serial_number
            self.not_before: Final = certificate.not_valid_before_utc
            self.not_after: Final = certificate.not_valid_after_utc
        except (DerError, *UNREADABLE):
            raise CertificateError("bad_certificate", "unreadable name or signature", clause="RFC 5280 4.1") from None
        self.authority_key_id: Final = authority_key_id(extensions)
        self.subject_key_id: Final = subject_key_id(extensions)
        self.basic_constraints: Final = next(
            (e.value for e in extensions if isinstance(e.value, x509.BasicConstraints)), None
        )
        self._is_processed = not any(e.critical and not isinstance(e.value, _PROCESSED) for e in extensions)
        self.subject_of_lists: Final = subject_of(certificate)

    @cached_property
    def role(self) -> Role:
        """The role, once everything that depends on the bytes alone is in order; CertificateError otherwise."""
        certificate = self.certificate
        if certificate.version is not x509.Version.v3 or self.serial <= 0:
            raise CertificateError("bad_certificate", "not version 3 with a positive serial", clause="RFC 5280 4.1.2")
        if not self._is_processed:
            raise CertificateError(
                "unknown_critical_extension", "a critical extension is not processed", clause="RFC 5280 4.2"
            )
        if certificate.signature_algorithm_oid not in CERTIFICATE_SIGNATURE_OIDS:
            raise CertificateError("weak_algorithm", "certificate signature algorithm is not accepted", clause=_CLAUSE)
        try:
            key = certificate.public_key()
        except UNREADABLE:
            raise CertificateError("weak_algorithm", "unknown kind of key", clause=_CLAUSE) from None
        screen_public_key(key)
        return role_of(certificate)

    def may_have_issued(self, certificate: _Known) -> bool:
        """Whether the names match, and the key identifiers where both are stated."""
        return self.subject == certificate.issuer and (
            None in (self.subject_key_id, certificate.authority_key_id)
            or self.subject_key_id == certificate.authority_key_id
        )


_known_by_bytes = lru_cache(maxsize=_REMEMBERED)(_Known)
_known_by_identity: Final[dict[int, tuple[x509.Certificate, _Known]]] = {}


def _known(certificate: x509.Certificate) -> _Known:
    """What the bytes of a certificate say. To compare bytes takes longer than most of what is asked here afterwards.

    Therefore an object that was looked up before is found by its identity, which is its own as long as it is kept.
    """
    found = _known_by_identity.get(id(certificate))
    if found is not None:
        return found[1]
    known = _known_by_bytes(certificate)
    if len(_known_by_identity) >= _REMEMBERED:
        _known_by_identity.clear()
    _known_by_identity[id(certificate)] = certificate, known
    return known


@lru_cache(maxsize=_REMEMBERED)
def _is_signed(certificate: _Known, issuer: _Known) -> bool:
    try:
        certificate.certificate.verify_directly_issued_by(issuer.certificate)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


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
    `bad_certificate`, `unknown_critical_extension`, `bad_extension`, `not_a_ca`, `bad_key_usage`, `path_too_long`,
    `wrong_role`, `revoked`, `crl_missing`, `crl_expired`, `crl_not_yet_valid`: the first check that failed, seen
    from the root.
    """
    if now.tzinfo is None:
        raise ValueError("now must be an aware datetime")
    if len(extra) > MAX_EXTRA:
        raise PathError("path_too_long", f"more than {MAX_EXTRA} certificates came along", clause=_CLAUSE)
    try:
        start = _known(leaf)
        candidates = dict.fromkeys((*trust._known_anchors, *trust._known_intermediates, *map(_known, extra)))
    except CertificateError as error:
        raise _as_path_error(error) from None
    first: PathError | None = None
    for chain in _chains(start, trust._known_anchors, tuple(candidates)):
        try:
            _check_chain(chain, trust.crls if check_revocation else None, now)
        except CertificateError as error:
            first = first or _as_path_error(error)
        except PathError as error:
            first = first or error
        else:
            return _with_role(chain, roles)
    if first is None:
        first = _why_no_chain(start, tuple(candidates))
    raise first


def _as_path_error(error: CertificateError) -> PathError:
    return PathError(error.reason, error.detail, clause=error.clause)


@lru_cache(maxsize=_CHAINS)
def _chains(
    leaf: _Known, anchors: tuple[_Known, ...], candidates: tuple[_Known, ...]
) -> tuple[tuple[_Known, ...], ...]:
    """Every chain of verified signatures from the leaf to an anchor: remembered, for it depends on bytes alone."""
    return tuple(_longer((leaf,), anchors, candidates))


def _longer(
    chain: tuple[_Known, ...], anchors: tuple[_Known, ...], candidates: tuple[_Known, ...]
) -> Iterator[tuple[_Known, ...]]:
    last = chain[-1]
    if last in anchors:
        yield chain
    elif len(chain) < MAX_DEPTH:
        for candidate in candidates:
            if candidate.may_have_issued(last) and candidate not in chain and _is_signed(last, candidate):
                yield from _longer((*chain, candidate), anchors, candidates)


def _why_no_chain(leaf: _Known, candidates: tuple[_Known, ...]) -> PathError:
    if any(candidate.may_have_issued(leaf) and not _is_signed(leaf, candidate) for candidate in candidates):
        return PathError("bad_signature", "not signed by the issuer it names", clause=_CLAUSE)
    return PathError("unknown_issuer", "no chain to a pinned root", clause=_CLAUSE)


def _with_role(chain: tuple[_Known, ...], roles: Collection[Role]) -> Path:
    role = chain[0].role
    if role not in roles:
        raise PathError("wrong_role", f"{role} where {', '.join(sorted(roles))} is needed", clause=_ROLE_CLAUSE)
    return Path(tuple(known.certificate for known in chain), role)


def _check_chain(chain: tuple[_Known, ...], crls: CrlSet | None, now: datetime) -> None:
    """Check from the root down; PathError or CertificateError on the first failure."""
    span = _span(chain)
    if span is None or not span[0] <= now <= span[1]:
        _walk(chain, crls, now)  # to say what comes first
    elif crls is not None:
        for certificate, issuer in reversed(tuple(pairwise(chain))):
            _check_revocation(certificate, issuer, crls, now)


@lru_cache(maxsize=_REMEMBERED)
def _span(chain: tuple[_Known, ...]) -> tuple[datetime, datetime] | None:
    """From when until when the chain holds but for revocation; None if it never does. It depends on bytes alone."""
    begin, end = max(each.not_before for each in chain), min(each.not_after for each in chain)
    try:
        _walk(chain, None, begin)
    except (CertificateError, PathError):
        return None
    return begin, end


def _walk(chain: tuple[_Known, ...], crls: CrlSet | None, now: datetime) -> None:
    issuer: _Known | None = None
    for depth, certificate in reversed(tuple(enumerate(chain))):
        if depth > 0:
            _check_ca(certificate, cas_below=depth - 1)
        _check_validity(certificate, now)
        role = certificate.role
        if issuer is not None:
            if issuer.role not in PROFILES[role].issuers:
                raise PathError("wrong_role", f"{issuer.role} may not issue {role}", clause=_ROLE_CLAUSE)
            if crls is not None:
                _check_revocation(certificate, issuer, crls, now)
        issuer = certificate
    process([known.certificate for known in reversed(chain)])


def _check_ca(certificate: _Known, cas_below: int) -> None:
    """CA:TRUE and path length; that it may sign certificates is part of its role."""
    constraints = certificate.basic_constraints
    if constraints is None or not constraints.ca:
        raise PathError("not_a_ca", "issuer is not a CA", clause="RFC 5280 6.1.4 (k)")
    if constraints.path_length is not None and cas_below > constraints.path_length:
        raise PathError(
            "path_too_long", f"{cas_below} CAs below a limit of {constraints.path_length}", clause="RFC 5280 6.1.4 (m)"
        )


def _check_validity(certificate: _Known, now: datetime) -> None:
    if now < certificate.not_before:
        raise PathError("not_yet_valid", "before notBefore", clause="RFC 5280 6.1.3 (a)(2)")
    if now > certificate.not_after:
        raise PathError("expired", "after notAfter", clause="RFC 5280 6.1.3 (a)(2)")


def _check_revocation(certificate: _Known, issuer: _Known, crls: CrlSet, now: datetime) -> None:
    if crls.status_of(certificate.subject_of_lists, issuer.certificate, now) is not None:
        raise PathError("revoked", "certificate is on its issuer's CRL", clause="RFC 5280 6.3")
