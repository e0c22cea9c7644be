"""Which certificates a list speaks about, and for which reasons (RFC 5280 5.2.5, 6.3.3 (b)).

A partition says in its issuingDistributionPoint under which name it is found and what kind of certificates it covers; a
certificate says in cRLDistributionPoints where its status stands. A list counts for a certificate only if the two meet.
Lists over certificates of other issuers (indirect lists) are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography import x509

from pki.errors import UNREADABLE, CertificateError
from pki.extensions import extensions_of

ALL_REASONS: Final = frozenset(x509.ReasonFlags) - {
    x509.ReasonFlags.unspecified,
    x509.ReasonFlags.remove_from_crl,
}
"""Every reason a distribution point may be restricted to (ReasonFlags, RFC 5280 4.2.1.13)."""


@dataclass(frozen=True)
class _Point:
    names: frozenset[x509.GeneralName]
    reasons: frozenset[x509.ReasonFlags]


@dataclass(frozen=True)
class Subject:
    """What of a certificate decides which lists speak about it."""

    serial: int
    is_ca: bool
    points: tuple[_Point, ...]


@dataclass(frozen=True)
class Scope:
    """What an issuingDistributionPoint says; without one the list covers everything its issuer issued."""

    names: frozenset[x509.GeneralName] = frozenset()
    only_users: bool = False
    only_cas: bool = False
    only_attributes: bool = False
    reasons: frozenset[x509.ReasonFlags] = ALL_REASONS
    indirect: bool = False

    @property
    def is_full(self) -> bool:
        """Whether nothing that the issuer issued is left out."""
        return self == _FULL

    def reasons_for(self, subject: Subject) -> frozenset[x509.ReasonFlags]:
        """For which reasons lists of this scope tell whether `subject` is revoked; none: they do not cover it."""
        if self.only_attributes or (self.only_users and subject.is_ca) or (self.only_cas and not subject.is_ca):
            return frozenset()
        if not self.names:
            return self.reasons
        covered: frozenset[x509.ReasonFlags] = frozenset()
        for point in subject.points:
            if not self.names.isdisjoint(point.names):
                covered |= point.reasons
        return covered & self.reasons


_FULL: Final = Scope()


@lru_cache(maxsize=4096)
def subject_of(certificate: x509.Certificate) -> Subject:
    """Read a certificate; CertificateError `bad_extension` if it cannot be read.

    Beside the distribution points that it names stands its issuer's own name (RFC 5280 6.3.3, last paragraph). A point
    that names another issuer of lists is passed over.
    """
    extensions = extensions_of(certificate)
    named: x509.CRLDistributionPoints | Iterable[x509.DistributionPoint] = ()
    is_ca = False
    for extension in extensions:
        if isinstance(extension.value, x509.CRLDistributionPoints):
            named = extension.value
        elif isinstance(extension.value, x509.BasicConstraints):
            is_ca = extension.value.ca
    try:
        issuer, serial = certificate.issuer, certificate.serial_number
    except UNREADABLE:
        raise CertificateError("bad_certificate", "unreadable issuer or serial", clause="RFC 5280 4.1") from None
    points = [
        _Point(_names(point.full_name, point.relative_name, issuer), point.reasons or ALL_REASONS)
        for point in named
        if point.crl_issuer is None
    ]
    return Subject(serial, is_ca, (*points, _Point(frozenset({x509.DirectoryName(issuer)}), ALL_REASONS)))


def scope_of(extension: x509.IssuingDistributionPoint | None, issuer: x509.Name) -> Scope:
    """Read a list's issuingDistributionPoint, critical or not; `issuer` is the list's."""
    if extension is None:
        return _FULL
    return Scope(
        names=_names(extension.full_name, extension.relative_name, issuer),
        only_users=extension.only_contains_user_certs,
        only_cas=extension.only_contains_ca_certs,
        only_attributes=extension.only_contains_attribute_certs,
        reasons=extension.only_some_reasons or ALL_REASONS,
        indirect=extension.indirect_crl,
    )


def _names(
    full_name: Iterable[x509.GeneralName] | None, relative: x509.RelativeDistinguishedName | None, issuer: x509.Name
) -> frozenset[x509.GeneralName]:
    """The names of a distribution point; one relative to the issuer is completed."""
    if relative is not None:
        return frozenset({x509.DirectoryName(x509.Name([*issuer.rdns, relative]))})
    return frozenset(full_name or ())
