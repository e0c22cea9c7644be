"""Who signed a statement: from a CMS signature to a person with roles, or to a service.

An officer's certificate carries the person, the employer and the trusted roles, in full or for a time and a scope
(`pki.extensions.OfficerData`); it was itself issued by the decision of two security officers, so it proves the grant of
the roles. A signature counts only while the whole path is valid and unrevoked, and the role was held when it was made
and still is. Who signed is known beyond that, because what a person did earlier in a case keeps them from other steps
of it even after their certificate was revoked or their grant ended.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509

from cps.model import SYSTEM, MemberClass, Pack
from pki.cms_signed import SignedData, parse_signed_data, verify_signature
from pki.errors import CertificateError, PathError
from pki.extensions import OfficerData, RoleGrant
from pki.names import common_name, identity_uris
from pki.past import validate_path_at
from pki.path import Trust, validate_path
from pki.roles import Role, role_of
from runtime.language import Message, Term, terms

_DECIDERS: Final = frozenset({Role.OFFICER, Role.SERVICE})


@dataclass(frozen=True, slots=True)
class Matter:
    """What a role is exercised on: something of a class of members, or of none.

    `in_full`: only a role that is held in full counts.
    """

    member_class: str | None = None
    in_full: bool = False

    @classmethod
    def case_of(cls, member_class: MemberClass, pack: Pack) -> Matter:
        """A case of this class; of officers' cases the statement may let none decide who stand in for others."""
        return cls(member_class, in_full=member_class in pack.grants.never_for)


NO_CLASS: Final = Matter()
"""Keys and authorities: what no narrower scope than "all" holds."""


@dataclass(frozen=True, slots=True)
class Signatory:
    """A person or service that signed. `lapsed` says why the certificate does not count now; None if it does.

    `roles` are held in full as long as the certificate lasts, `grants` for a time; `signed_at` is the signing time.
    """

    person: str
    organisation: str
    roles: frozenset[str]
    certificate: x509.Certificate
    lapsed: str | None  # a reason of `pki.errors`
    signed_at: datetime
    grants: tuple[RoleGrant, ...] = ()

    def objection(self) -> Message | None:
        """Why a signature of this certificate does not count now, if it does not."""
        if self.lapsed is None:
            return None
        return Message(
            "the certificate of {person} does not count now: {reason}",
            person=self.person,
            reason=Term("reason", self.lapsed),
        )

    def held(self, at: datetime) -> frozenset[str]:
        """Everything held at `at`, whatever its scope."""
        return self.roles.union(grant.role for grant in self.grants if grant.in_effect(at))

    def exclusive(self, pack: Pack, now: datetime) -> frozenset[str]:
        """Exclusive roles that the person held together when they signed, or does now."""
        return pack.exclusive_roles(self.held(self.signed_at)) | pack.exclusive_roles(self.held(now))

    def acted_as(self, by: Collection[str], on: Matter) -> frozenset[str]:
        """Those of the roles `by` that were held on the matter when it was signed."""
        return self._on(by, on, self.signed_at)

    def acts_as(self, by: Collection[str], on: Matter, now: datetime) -> frozenset[str]:
        """Those of the roles `by` that were held on the matter when it was signed, and still are."""
        return self.acted_as(by, on) & self._on(by, on, now)

    def holds(self, by: Collection[str], on: Matter, now: datetime) -> bool:
        """Whether one of the roles `by` was held on the matter when it was signed, and still is."""
        return bool(self.acts_as(by, on, now))

    def holds_until(self, by: Collection[str], on: Matter, now: datetime) -> datetime | None:
        """When the role of `by` that is held now ends by itself; None for a role in full."""
        if on.in_full or not self.roles.isdisjoint(by):
            return None
        found = (grant for grant in self._granted(by) if grant.covers(on.member_class) and grant.in_effect(now))
        return max((grant.not_after for grant in found), default=None)

    def refusal(self, told: Message, by: Collection[str], on: Matter, now: datetime) -> Message:
        """The refusal `told`, with what the grant of a role of `by` lacks where the person has one."""
        grants = sorted(self._granted(by), key=lambda grant: not grant.covers(on.member_class))
        if not grants:
            return told
        return Message("{refusal}; {why}", refusal=told, why=self._lack(grants[0], on, now))

    def _lack(self, grant: RoleGrant, on: Matter, now: datetime) -> Message:
        role = Term("role", grant.role)
        if on.in_full:
            return Message("{role} is held for a time or for some classes only, which does not count here", role=role)
        if not grant.covers(on.member_class):
            return Message("{role} is held only for {classes}", role=role, classes=terms("class", grant.scope or ()))
        if now >= grant.not_after:
            return Message("the grant of {role} ended at {time}", role=role, time=grant.not_after)
        return Message("{role} is granted from {time}, after it was signed", role=role, time=grant.not_before)

    def _on(self, by: Collection[str], on: Matter, at: datetime) -> frozenset[str]:
        held = self.roles.intersection(by)
        if on.in_full:
            return held
        granted = (grant for grant in self._granted(by) if grant.in_effect(at) and grant.covers(on.member_class))
        return held.union(grant.role for grant in granted)

    def _granted(self, by: Collection[str]) -> list[RoleGrant]:
        return [grant for grant in self.grants if grant.role in by]


def open_signed(der: bytes, content_type: x509.ObjectIdentifier) -> SignedData:
    """Parse SignedData (DER) of this content type and verify its signature; says nothing yet about who signed.

    What bytes say and whether their signature verifies never changes, and a case is judged many times: the last ones
    are remembered. Who signed is asked anew each time (`identify`). Raises CmsError (`pki.cms_signed`).
    """
    return _opened(der, content_type) if len(der) <= _LONGEST_REMEMBERED else _open(der, content_type)


def _open(der: bytes, content_type: x509.ObjectIdentifier) -> SignedData:
    signed = parse_signed_data(der, content_type=content_type)
    verify_signature(signed)
    return signed


_opened: Final = lru_cache(maxsize=1024)(_open)
_LONGEST_REMEMBERED: Final = 8192  # bytes


def identify(
    signed: SignedData, *, pack: Pack, trust: Trust, now: datetime, past: bool = False, lists: bool = True
) -> Signatory:
    """The officer or service behind a verified signature.

    Raises PathError or CertificateError if the certificate was not one of an officer or service when it signed. If it
    was, but is expired or revoked at `now`, the signatory is returned with `lapsed` set. With `past`, `now` is a moment
    that is proven, and may be long ago: then the newest lists of `trust` say what was so by then (`pki.past`), or none
    is asked if not `lists`.
    """
    signer = signed.signer
    validate_path(
        signer, signed.certificates, trust=trust, now=signed.signing_time, roles=_DECIDERS, check_revocation=False
    )
    lapsed = None
    try:
        if past and lists:
            validate_path_at(signer, signed.certificates, trust=trust, at=now, roles=_DECIDERS)
        else:
            validate_path(signer, signed.certificates, trust=trust, now=now, roles=_DECIDERS, check_revocation=lists)
    except PathError as error:
        lapsed = error.reason
    if role_of(signer) is Role.SERVICE:
        uris = identity_uris(signer)
        roles = frozenset({SYSTEM}) if pack.signers.system_step in uris else frozenset()
        return Signatory(uris[0] if uris else "", "", roles, signer, lapsed, signed.signing_time)
    officer = OfficerData.from_certificate(signer)
    if officer is None:
        raise CertificateError("wrong_role", "an officer's certificate without officer data", clause="CPS 5.2.1")
    # A role that the statement does not know gives no right.
    roles = frozenset(officer.roles).intersection(pack.roles)
    grants = tuple(grant for grant in officer.grants if grant.role in pack.roles)
    return Signatory(officer.person_id, officer.organisation, roles, signer, lapsed, signed.signing_time, grants)


def holder_of(signed: SignedData, *, trust: Trust) -> Signatory:
    """Whoever holds the key of a member's certificate, by a verified signature with it while the certificate lasted.

    Whether it was suspended or revoked does not matter: this is for orders against the certificate itself.
    Raises PathError if it was not one of this hierarchy when it signed.
    """
    signer = signed.signer
    validate_path(
        signer, signed.certificates, trust=trust, now=signed.signing_time, roles=set(Role), check_revocation=False
    )
    uris = identity_uris(signer)
    name = uris[0] if uris else common_name(signer.subject)
    return Signatory(name, "", frozenset(), signer, None, signed.signing_time)


def statement_of_service(
    der: bytes, content_type: x509.ObjectIdentifier, uri: str, *, trust: Trust, now: datetime
) -> SignedData:
    """SignedData (DER) by the service whose certificate names `uri`, valid and unrevoked at `now`.

    Raises CmsError for the structure or signature, PathError or CertificateError for the signer.
    """
    signed = open_signed(der, content_type)
    validate_path(signed.signer, signed.certificates, trust=trust, now=now, roles={Role.SERVICE})
    if uri not in identity_uris(signed.signer):
        raise CertificateError("wrong_role", "signed by another service", clause="CPS 4.2.1")
    return signed
