"""The published hierarchy on disk: what every party pins and builds paths from.

    root.pem               the trust anchor
    roots/<name>.cer       the roots that follow it, DER: each is the one that the root before it names (RFC 8649)
    cas/<name>.pem         one certificate each: brand, cardholder-ca, merchant-ca, gateway-ca, operations-ca
    crls/<name>.crl        the newest full CRL of each authority, DER
    keys/<name>.pem        system keys in tokens, with their chain
    services/<name>.pem    services from the ceremony, with their chain (as TLS wants it)
    officers/<person>.pem  founding officers, with their chain
    transcript.json        the ceremony

Chains go from the leaf up, without the root. Nothing here is secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from ca.errors import StoreError
from ca.prepare import ROOT, Issuer
from ca.profile import Profile, profiles
from pki.crl import CrlSet
from pki.errors import PkiError
from pki.extensions import authority_key_id
from pki.path import Trust
from pki.roles import Role, role_of
from pki.rollover import next_roots

TRANSCRIPT: Final = "transcript.json"
ROOTS: Final = "roots"
"""Folder of the roots that follow the first one, `<name>.cer` (DER), for whoever decides by RFC 8649 to pin them."""


@dataclass(frozen=True)
class Authority:
    """A CA that has been founded. Its name is also the name of its key in the token and of its files."""

    name: str
    profile: Profile
    certificate: x509.Certificate

    @cached_property
    def issuer(self) -> Issuer:
        return Issuer(self.name, self.certificate)

    @property
    def is_root(self) -> bool:
        return self.profile.role is Role.ROOT


@dataclass(frozen=True)
class Hierarchy:
    """All authorities by name, the root first, then those that follow it in their order."""

    authorities: Mapping[str, Authority]

    @property
    def root(self) -> Authority:
        return self.authorities[ROOT]

    @property
    def anchors(self) -> tuple[x509.Certificate, ...]:
        """The pinned root, and those that follow it: each is believed because the one before names it (RFC 8649)."""
        return tuple(authority.certificate for authority in self.authorities.values() if authority.is_root)

    @property
    def intermediates(self) -> tuple[x509.Certificate, ...]:
        return tuple(authority.certificate for authority in self.authorities.values() if not authority.is_root)

    def __getitem__(self, name: str) -> Authority:
        return self.authorities[name]

    def parent(self, authority: Authority) -> Authority:
        """Who certified an authority, as its certificate says; the root certified itself. KeyError if unknown here."""
        wanted = authority_key_id(authority.certificate.extensions)
        if authority.is_root:
            return authority
        found = None if wanted is None else self.by_key_identifier(wanted)
        if found is None:
            raise KeyError(authority.name)
        return found

    def chain(self, issuer: str) -> tuple[x509.Certificate, ...]:
        """What goes below a leaf of `issuer`: the issuer and those above it, without the root."""
        chain = []
        authority = self.authorities[issuer]
        while not authority.is_root:
            chain.append(authority.certificate)
            authority = self.parent(authority)
        return tuple(chain)

    def by_key_identifier(self, key_identifier: bytes) -> Authority | None:
        """The authority with this subjectKeyIdentifier."""
        for authority in self.authorities.values():
            extensions = authority.certificate.extensions
            if extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest == key_identifier:
                return authority
        return None

    def trust(self, crls: CrlSet) -> Trust:
        """What this hierarchy lets a party believe, with these CRLs."""
        return Trust(self.anchors, self.intermediates, crls)


def load_hierarchy(folder: Path) -> Hierarchy:
    """Read `root.pem`, `roots/*.cer` and `cas/*.pem`; raises StoreError if they are not one hierarchy."""
    found = [(folder / "root.pem", x509.load_pem_x509_certificate)]
    found += [(path, x509.load_der_x509_certificate) for path in sorted((folder / ROOTS).glob("*.cer"))]
    found += [(path, x509.load_pem_x509_certificate) for path in sorted((folder / "cas").glob("*.pem"))]
    authorities: dict[str, Authority] = {}
    for path, load in found:
        try:
            certificate = load(path.read_bytes())
            role = role_of(certificate)
        except (OSError, ValueError, PkiError) as error:
            raise StoreError(f"{path} is not the certificate of an authority: {error}") from None
        profile = next((found for found in profiles().values() if found.role is role and found.ca is not None), None)
        if profile is None:
            raise StoreError(f"{path} is the certificate of a {role}, not of an authority")
        if path.parent.name == ROOTS and role is not Role.ROOT:
            raise StoreError(f"{path} is the certificate of a {role}, not of a root")
        if path.stem in authorities:
            raise StoreError(f"{path}: there is another authority {path.stem}")
        authorities[path.stem] = Authority(path.stem, profile, certificate)
    authorities = _in_order(authorities)
    hierarchy = Hierarchy(authorities)
    for authority in authorities.values():
        try:
            authority.certificate.verify_directly_issued_by(hierarchy.parent(authority).certificate)
        except (KeyError, ValueError, TypeError, InvalidSignature):
            raise StoreError(f"{authority.name} is not certified by {authority.profile.issuer}") from None
    return hierarchy


def _in_order(authorities: Mapping[str, Authority]) -> dict[str, Authority]:
    """The root, those that follow it one after the other, the others. Raises StoreError for a root that does not."""
    roots = {each.certificate: name for name, each in authorities.items() if each.is_root and name != ROOT}
    following = [roots[each] for each in next_roots(authorities[ROOT].certificate, list(roots))]
    if strange := sorted(set(roots.values()) - set(following)):
        raise StoreError(f"{strange[0]} is not the root that follows", clause="RFC 8649 2")
    return {name: authorities[name] for name in dict.fromkeys([ROOT, *following, *authorities])}
