"""Who is calling, and what they may do: one table for every way in.

| act       | who                                                                                        |
| --------- | ------------------------------------------------------------------------------------------ |
| open      | anybody                                                                                    |
| edit      | who opened the application, the operator's console                                         |
| amend     | as edit, but nobody without an identity                                                    |
| read      | who opened it, every officer, the operator's console                                       |
| attest    | evidence that proves itself (signed forms): as edit, and every officer                     |
| vouch     | documents: officers who hold the role vetting_officer (CPS 4.2.1)                          |
| hold      | officers who vet, approve or keep security (CPS 4.2.2)                                     |
| return    | officers who vet or approve (CPS 4.2.2)                                                    |
| accept    | as edit; of cases opened without an identity, whoever has none: with the certified key     |
| review    | lists, documents, decisions to hand in, revocations, stories: every officer, the operator  |

A holder's own order about a certificate needs none of them: the very key has signed it (`Workflow.revoke_own`).

Who opened an application without a client certificate is known again by the secret that came with it (`ra.openers`),
not by its id; who sent a registration message, by what is signed in it (`ra.registration`). Handing in a decision gives
no right by itself: what counts is the signature in it (`cps.decide`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from cps.dossier import Author
from cps.model import MemberClass
from pki.errors import PkiError
from pki.extensions import OfficerData, RoleGrant
from pki.path import Trust, validate_path
from pki.roles import Role
from ra.errors import IdentityNeededError, NotAllowedError
from ra.openers import NOBODY, is_nameless, shown
from runtime.identity import Caller
from runtime.language import Message, Term

if TYPE_CHECKING:
    from ra.records import Application

OPERATOR: Final = "service:operator"
_VETTING: Final = "vetting_officer"
VOUCHING: Final = (_VETTING,)
"""The roles that take in evidence (CPS 4.2.1)."""
_DECIDING: Final = frozenset({_VETTING, "approving_officer"})
_HOLDING: Final = _DECIDING | {"security_officer"}


class Act(StrEnum):
    """The acts of the table."""

    OPEN = "open"
    EDIT = "edit"
    AMEND = "amend"
    READ = "read"
    ATTEST = "attest"
    VOUCH = "vouch"
    HOLD = "hold"
    RETURN = "return"
    ACCEPT = "accept"
    REVIEW = "review"


@dataclass(frozen=True, slots=True)
class Actor:
    """A caller whose certificate was checked; `name` is `kind:name`.

    `roles` are an officer's trusted roles, `grants` those that are held now for a time, some in a scope only.
    """

    name: str
    organisation: str = ""
    person: str = ""
    roles: frozenset[str] = frozenset()
    grants: tuple[RoleGrant, ...] = ()

    def holds(self, roles: Collection[str], application: Application | None) -> bool:
        """Whether one of the roles is held for cases of the application's class."""
        return self.holds_for(roles, None if application is None else application.member_class)

    def holds_for(self, roles: Collection[str], member_class: MemberClass | None) -> bool:
        """Whether one of the roles is held for cases of a class; None: of every class."""
        granted = (grant.role for grant in self.grants if grant.covers(member_class))
        return not self.roles.union(granted).isdisjoint(roles)

    @property
    def is_officer(self) -> bool:
        return self.person != ""

    @property
    def reviews(self) -> bool:
        """Whether the actor is of those who look at everybody's cases: officers and the operator's console."""
        return self.is_officer or self.name == OPERATOR

    @property
    def author(self) -> Author:
        """The actor as the author of a revision."""
        return Author(person=self.person or shown(self.name), organisation=self.organisation)


SYSTEM: Final = Actor("service:ra")
CLOCK: Final = Actor("clock")
REGISTRATION: Final = Actor("registration")
"""Whoever sends registration messages without a client certificate: no caller of a route ever has this name."""


def actor_of(caller: Caller, *, trust: Trust, now: datetime) -> Actor:
    """The actor behind a TLS caller.

    TLS checked the chain when the connection was made; here the path is checked with the CRLs in force, so that a
    revoked officer is nobody from that moment on. Raises NotAllowedError.
    """
    if caller.certificate is None:
        return Actor(str(caller))
    role = Role.OFFICER if caller.kind == "officer" else Role.SERVICE
    try:
        validate_path(caller.certificate, trust=trust, now=now, roles={role})
        officer = OfficerData.from_certificate(caller.certificate) if caller.kind == "officer" else None
    except PkiError as error:
        raise NotAllowedError(
            "the client certificate of {caller} does not count: {reason}",
            caller=caller,
            reason=Term("reason", error.reason),
        ) from None
    if caller.kind != "officer":
        return Actor(str(caller))
    if officer is None or officer.person_id != caller.name:
        raise NotAllowedError("the client certificate names no officer")
    grants = tuple(grant for grant in officer.grants if grant.in_effect(now))
    return Actor(str(caller), officer.organisation, officer.person_id, frozenset(officer.roles), grants)


def require(actor: Actor, act: Act, application: Application | None = None) -> None:
    """Raises NotAllowedError unless the table above lets `actor` do this (to this application)."""
    opened = application is not None and application.opened_by == actor.name != NOBODY
    nameless = is_nameless(actor.name)
    permitted = {
        Act.OPEN: True,
        Act.EDIT: opened or actor.name == OPERATOR,
        Act.AMEND: (opened and not nameless) or actor.name == OPERATOR,
        Act.READ: opened or actor.reviews,
        Act.ATTEST: opened or actor.reviews,
        Act.VOUCH: actor.holds(VOUCHING, application),
        Act.HOLD: actor.holds(_HOLDING, application),
        Act.RETURN: actor.holds(_DECIDING, application),
        Act.ACCEPT: opened or actor.name == OPERATOR or (nameless and _opened_without_identity(application)),
        Act.REVIEW: actor.reviews,
    }
    if not permitted[act]:
        refusal = IdentityNeededError if nameless else NotAllowedError
        raise refusal(Message(_EXPECTED[act], actor=shown(actor.name)))


def _opened_without_identity(application: Application | None) -> bool:
    opener = "" if application is None else application.opened_by
    return is_nameless(opener) or opener == REGISTRATION.name


_EXPECTED: Final = {
    Act.EDIT: "{actor} did not open this application",
    Act.AMEND: "an application is amended by whoever opened it with an identity of their own, not by {actor}",
    Act.READ: "{actor} did not open this application",
    Act.ATTEST: "{actor} did not open this application",
    Act.VOUCH: "documents are taken in by vetting officers, not by {actor}",
    Act.HOLD: "cases are held and released by vetting, approving and security officers, not by {actor}",
    Act.RETURN: "cases are returned by vetting and approving officers, not by {actor}",
    Act.ACCEPT: "{actor} did not open this application",
    Act.REVIEW: "this is for officers, not for {actor}",
}
