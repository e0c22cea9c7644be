"""Whether a certificate must be revoked, suspended or released: who may order it, in what number, for which reason
(CPS 4.9).

Revocation is easier than issuance on purpose: one officer is enough where the pack says so, and an order to revoke
never lapses. Beside officers, the holder may order what the pack lets them by a signature with the very key, whatever
became of the certificate since: who can sign with a key may always say that it is lost. The issuer bank may for its
cards. A release is no revocation: nobody releases a certificate of their own, and who only stands in for an officer
releases no officer, as neither decides on a first one.

What the order then does to the status is `cps.status`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, get_args

from cryptography import x509

from cps.decision import Kind, Revocation, parse_revocation
from cps.errors import StatementError, fault
from cps.model import SYSTEM, MemberClass, Pack
from cps.rules import Rule
from cps.signatory import NO_CLASS, Matter, Signatory, holder_of, identify, open_signed
from cps.verdict import Approval, Finding, Findings, Objection, Status
from pki.cms_signed import SignedData
from pki.errors import PkiError
from pki.extensions import OfficerData
from pki.names import identity_uris, parse_identity
from pki.oids import CT_REVOCATION
from pki.path import Trust
from pki.roles import Role, role_of
from runtime.language import Message, terms

SIGNING_WINDOW: Final = timedelta(hours=1)  # between writing an order and signing it
BY_HOLDER: Final = "holder"
BY_ISSUER_BANK: Final = "issuer-bank"
BY_SYSTEM: Final = "system"


@dataclass(frozen=True, slots=True)
class Target:
    """The certificate that an order is about; `card_bin`: the first six digits of a cardholder's card, by the case."""

    certificate: x509.Certificate
    card_bin: str | None = None

    @property
    def is_authority(self) -> bool:
        """Whether the holder issues certificates (RFC 5280 4.2.1.9)."""
        try:
            return self.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            return False

    @property
    def member_class(self) -> str | None:
        """The class of member that the certificate is of; None for authorities and for services of ours.

        A TLS certificate is its merchant's or gateway's, whom it names.
        """
        if role_of(self.certificate) is Role.CARDHOLDER:
            return "cardholder"
        identities = filter(None, map(parse_identity, identity_uris(self.certificate)))
        return next((kind for kind, _name in identities if kind in get_args(MemberClass)), None)

    @property
    def officer(self) -> str | None:
        """The person whom an officer's certificate is of; None for others."""
        data = OfficerData.from_certificate(self.certificate)
        return None if data is None else data.person_id


_ALONE: Final = frozenset({BY_HOLDER, BY_ISSUER_BANK, BY_SYSTEM})

Find = Callable[[Revocation], Target | None]
"""Looks up the certificate of an order; None if it is not known here, and then only officers can order anything."""


@dataclass(frozen=True, slots=True)
class RevocationVerdict:
    """The judgement of an order about a certificate; `order.kind` says what it does.

    `order` is the first statement that counts, else the first that can be read. When approved, `publish_by` is the
    deadline for the CRL that shows the change, counted from the order's date, `denylist_key` says whether the key may
    never be certified again, and `release_by` when a suspension ends (CPS 4.9.16).
    """

    status: Status
    order: Revocation | None
    findings: tuple[Finding, ...]
    approvals: tuple[Approval, ...]
    publish_by: datetime | None
    denylist_key: bool
    release_by: datetime | None = None

    @property
    def approved(self) -> bool:
        return self.status is Status.APPROVED


def decide_revocation(
    statements: Sequence[bytes], pack: Pack, *, trust: Trust, now: datetime, find: Find = lambda _order: None
) -> RevocationVerdict:
    """Judge the change that `statements` (each CMS SignedData over RevocationTBS, DER) order together.

    All must name the same certificate and reason. Approved when the holder or the issuer bank signed, where the pack
    lets them, or the RA for what was not accepted, or as many different persons with the role of the reason as it asks
    for; pending while some are missing; refused if nobody's statement counts. Never raises for anything in the
    statements.
    """
    found = Findings(pack)
    readable: list[Revocation] = []
    counted: list[Revocation] = []
    approvals: list[Approval] = []
    alone = False
    for index, der in enumerate(statements):
        try:
            signed = open_signed(der, CT_REVOCATION)
            stated = parse_revocation(signed.content)
        except (PkiError, StatementError) as error:
            found.add(
                Rule.REV_STATEMENT, "not a revocation with a verified signature: {fault}", index, fault=fault(error)
            )
            continue
        readable.append(stated)
        objection = _about_one_certificate(stated, counted, pack)
        if objection is not None:
            found.object(*objection, index)
            continue
        target = find(stated)
        try:
            right, signatory = _signatory(signed, stated, target, pack=pack, trust=trust, now=now)
        except PkiError as error:
            found.add(
                Rule.DEC_CREDENTIAL, "signed by no officer and no service of ours: {fault}", index, fault=fault(error)
            )
            continue
        objection = (
            _fits(stated, target, pack)
            or in_time(stated.date, signed.signing_time, pack, now)
            or _by_right(stated, right, signatory, target, approvals, pack, now)
            or _not_accepted(stated, right, target, pack)
        )
        if objection is None:
            counted.append(stated)
            alone = alone or right in _ALONE
            approvals.append(Approval(right, signatory.person, signatory.organisation, signed.signing_time, index))
        else:
            found.object(*objection, index)
    order = next(iter(counted + readable), None)
    if order is None or not counted:
        return RevocationVerdict(Status.REFUSED, order, found.all(), (), None, False)
    rule = pack.revocation[order.reason]
    complete = alone or len(approvals) >= rule.steps[0].count
    held = complete and order.kind is Kind.SUSPEND
    return RevocationVerdict(
        status=Status.APPROVED if complete else Status.PENDING,
        order=order,
        findings=found.all(),
        approvals=tuple(approvals),
        publish_by=pack.publish_by(order.reason, order.date, now) if complete else None,
        denylist_key=complete and rule.denylist_key,
        release_by=now + pack.suspension.longest if held else None,
    )


def in_time(stated_at: datetime, signed_at: datetime, pack: Pack, now: datetime) -> Objection | None:
    """Why a statement of this date does not count now, if its time is wrong."""
    if max(stated_at, signed_at) > now + pack.clocks.skew:
        return Rule.DEC_TIME, Message("the order is dated in the future")
    if not -pack.clocks.skew <= signed_at - stated_at <= SIGNING_WINDOW:
        return Rule.DEC_TIME, Message("the order was signed at another time than it states")
    return None


def _about_one_certificate(stated: Revocation, counted: list[Revocation], pack: Pack) -> Objection | None:
    if stated.reason not in pack.revocation:
        return Rule.REV_REASON, Message("the statement knows no revocation for {reason}", reason=stated.reason)
    this = (stated.issuer_key_id, stated.serial, stated.reason)
    if any(this != (other.issuer_key_id, other.serial, other.reason) for other in counted):
        return Rule.REV_STATEMENT, Message("the statements name different certificates or reasons")
    return None


def _signatory(
    signed: SignedData, stated: Revocation, target: Target | None, *, pack: Pack, trust: Trust, now: datetime
) -> tuple[str, Signatory]:
    """By which right it is signed (the holder's, the issuer bank's, or that of the step), and who signed."""
    rule = pack.revocation[stated.reason]
    if target is not None and rule.by_holder and signed.signer == target.certificate:
        return BY_HOLDER, holder_of(signed, trust=trust)
    signatory = identify(signed, pack=pack, trust=trust, now=now)
    if target is not None and target.card_bin is not None and rule.by_issuer_bank:
        bank = pack.signers.card_confirmation.format(bin=target.card_bin)
        if bank in identity_uris(signatory.certificate):
            return BY_ISSUER_BANK, signatory
    if rule.by_system and signatory.roles == {SYSTEM}:
        return BY_SYSTEM, signatory
    return rule.steps[0].name, signatory


def _not_accepted(stated: Revocation, right: str, target: Target | None, pack: Pack) -> Objection | None:
    """Why the RA's own order does not count: it revokes what was not accepted, and only after the time for that."""
    if right != BY_SYSTEM:
        return None
    if stated.reason != pack.acceptance.reason:
        return Rule.REV_ROLE, Message(
            "the registration authority itself revokes for {reason} alone", reason=pack.acceptance.reason
        )
    if target is None:
        return Rule.REV_ROLE, Message(
            "the registration authority itself revokes certificates that are known here alone"
        )
    over = target.certificate.not_valid_before_utc + pack.acceptance.within
    if not over <= stated.date <= over + pack.acceptance.order_within:
        return Rule.REV_ROLE, Message(
            "it is not the time after that within which the certificate might have been accepted"
        )
    return None


def _fits(stated: Revocation, target: Target | None, pack: Pack) -> Objection | None:
    of = pack.revocation[stated.reason].of
    if target is None or of == "any" or target.is_authority == (of == "authority"):
        return None
    if target.is_authority:
        return Rule.REV_TARGET, Message("{reason} does not fit a certificate of an authority", reason=stated.reason)
    return Rule.REV_TARGET, Message("{reason} does not fit a certificate of a member", reason=stated.reason)


def _by_right(
    stated: Revocation,
    right: str,
    signatory: Signatory,
    target: Target | None,
    approvals: list[Approval],
    pack: Pack,
    now: datetime,
) -> Objection | None:
    lapsed = signatory.objection()
    if lapsed is not None:
        return Rule.DEC_CREDENTIAL, lapsed
    if right in _ALONE:
        return None
    step = pack.revocation[stated.reason].steps[0]
    on = NO_CLASS if target is None else Matter(target.member_class)
    if target is not None and stated.kind is Kind.RELEASE:  # who releases an officer makes one
        on = Matter(target.member_class, in_full=target.member_class in pack.grants.never_for)
        if target.officer == signatory.person:
            return Rule.SOD_OWN, Message("{person} is the person to be certified", person=signatory.person)
    if not signatory.holds(step.by, on, now):
        told = Message(
            "{reason} is ordered by {roles}, not by {person}",
            reason=stated.reason,
            roles=terms("role", step.by, "or"),
            person=signatory.person,
        )
        return Rule.REV_ROLE, signatory.refusal(told, step.by, on, now)
    return may_act(signatory, [approval.person for approval in approvals], pack, now)


def may_act(signatory: Signatory, acted: Sequence[str], pack: Pack, now: datetime) -> Objection | None:
    """Why an officer who holds a role of the step does not count beside those who `acted`, if so (CPS 5.2)."""
    if signatory.exclusive(pack, now):
        return Rule.SOD_EXCLUSIVE, Message("{person} holds exclusive roles", person=signatory.person)
    if signatory.person in acted:
        return Rule.SOD_PERSON, Message("{person} ordered this before", person=signatory.person)
    return None
