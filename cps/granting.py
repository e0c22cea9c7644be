"""What roles an officer may be given: trusted ones, none that exclude each other, for a time that the statement allows.

A person who holds roles by several grants, or several certificates, is judged by everything they would hold at any one
time. A role that is granted for a time or for some classes only stands in for an officer; it never makes officers:
delegation ends and does not chain (CPS 5.2.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, Protocol

from cps.dossier import Grant, OfficerSubject
from cps.model import Pack
from cps.rules import Rule
from cps.verdict import Findings
from runtime.language import Term, terms

_APPLICANT: Final = "applicant"


def check_roles(subject: OfficerSubject, pack: Pack, *, now: datetime, found: Findings) -> None:
    """Add a finding for each rule that the roles asked for break."""
    grants = subject.grants or ()
    grantable = set(pack.roles) - {_APPLICANT}
    asked = {*subject.roles, *(grant.role for grant in grants)}
    if len(set(subject.roles)) != len(subject.roles) or not grantable.issuperset(asked):
        found.add(Rule.NAME_FORM, "the roles asked for are not different trusted roles")
    for grant in grants:
        _check_scope(grant, pack, found)
        _check_time(grant, pack, now, found)
    exclusive = exclusive_at_once(subject.roles, grants, pack)
    if exclusive:
        found.add(
            Rule.SOD_EXCLUSIVE,
            "one person asks for the exclusive roles {roles}",
            roles=terms("role", sorted(exclusive)),
        )


class HeldForATime(Protocol):
    """A `cps.dossier.Grant`, or a `pki.extensions.RoleGrant`."""

    @property
    def role(self) -> str: ...
    @property
    def not_before(self) -> datetime: ...
    @property
    def not_after(self) -> datetime: ...


def exclusive_at_once(roles: Iterable[str], grants: Sequence[HeldForATime], pack: Pack) -> frozenset[str]:
    """The exclusive roles that one person would hold together at some time, having all these."""
    in_full = frozenset(roles)
    # What is held grows only where a grant begins.
    together = [in_full, *(in_full | _granted(grants, each.not_before) for each in grants)]
    return frozenset().union(*map(pack.exclusive_roles, together))


def _granted(grants: Iterable[HeldForATime], at: datetime) -> frozenset[str]:
    return frozenset(grant.role for grant in grants if grant.not_before <= at < grant.not_after)


def _check_scope(grant: Grant, pack: Pack, found: Findings) -> None:
    beyond = sorted(set(grant.scope or ()).intersection(pack.grants.never_for))
    if beyond:
        found.add(
            Rule.GRANT_SCOPE,
            "{role} is not granted for cases of the class {classes}",
            role=Term("role", grant.role),
            classes=terms("class", beyond),
        )


def _check_time(grant: Grant, pack: Pack, now: datetime, found: Findings) -> None:
    role = Term("role", grant.role)
    longest = pack.grants.temporary if grant.scope is None else pack.grants.scoped
    if grant.not_after - grant.not_before > longest:
        found.add(Rule.GRANT_TIME, "{role} is granted for more than {days} days", role=role, days=longest.days)
    if grant.not_after <= now:
        found.add(Rule.GRANT_TIME, "the grant of {role} ended at {time}", role=role, time=grant.not_after)
    if grant.not_after > now + pack.classes["officer"].validity.max + pack.clocks.skew:
        found.add(Rule.GRANT_TIME, "the grant of {role} would outlast the certificate that carries it", role=role)
