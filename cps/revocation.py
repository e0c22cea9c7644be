"""Whether a certificate must be revoked: who may order it, in what number, for which reason (CPS 4.9).

Revocation is easier than issuance on purpose: one officer is enough where the pack says so, and an order never lapses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cps.decision import Revocation, parse_revocation
from cps.errors import StatementError
from cps.model import Pack
from cps.rules import Rule
from cps.signatory import Signatory, identify, open_signed
from cps.verdict import Approval, Finding, Findings, Status
from pki.errors import PkiError
from pki.oids import CT_REVOCATION
from pki.path import Trust

_SIGNING_WINDOW: Final = timedelta(hours=1)  # between writing an order and signing it


@dataclass(frozen=True, slots=True)
class RevocationVerdict:
    """The judgement of an order to revoke.

    `order` is the first statement that counts, else the first that can be read. When approved, `publish_by` is the
    deadline for the CRL that lists the certificate, counted from the order's date, and `denylist_key` says whether its
    key may never be certified again.
    """

    status: Status
    order: Revocation | None
    findings: tuple[Finding, ...]
    approvals: tuple[Approval, ...]
    publish_by: datetime | None
    denylist_key: bool

    @property
    def approved(self) -> bool:
        return self.status is Status.APPROVED


def decide_revocation(statements: Sequence[bytes], pack: Pack, *, trust: Trust, now: datetime) -> RevocationVerdict:
    """Judge the revocation that `statements` (each CMS SignedData over RevocationTBS, DER) order together.

    All must name the same certificate and reason. Approved when as many different persons with the role of the reason
    signed as the pack asks for; pending while some are missing; refused if nobody's statement counts. Never raises for
    anything in the statements.
    """
    found = Findings(pack)
    readable: list[Revocation] = []
    counted: list[Revocation] = []
    approvals: list[Approval] = []
    for index, der in enumerate(statements):
        try:
            signed = open_signed(der, CT_REVOCATION)
            stated = parse_revocation(signed.content)
        except (PkiError, StatementError) as error:
            found.add(Rule.REV_STATEMENT, f"not a revocation with a verified signature: {error}", index)
            continue
        readable.append(stated)
        try:
            signatory = identify(signed, pack=pack, trust=trust, now=now)
        except PkiError as error:
            found.add(Rule.DEC_CREDENTIAL, f"signed by no officer and no service of ours: {error}", index)
            continue
        objection = (
            _about_one_certificate(stated, counted, pack)
            or _in_time(stated, signed.signing_time, pack, now)
            or _by_right(stated, signatory, approvals, pack)
        )
        if objection is None:
            counted.append(stated)
            name = pack.revocation[stated.reason].steps[0].name
            approvals.append(Approval(name, signatory.person, signatory.organisation, signed.signing_time, index))
        else:
            found.add(objection[0], objection[1], index)
    order = next(iter(counted + readable), None)
    if order is None or not counted:
        return RevocationVerdict(Status.REFUSED, order, found.all(), (), None, False)
    rule = pack.revocation[order.reason]
    complete = len(approvals) >= rule.steps[0].count
    return RevocationVerdict(
        status=Status.APPROVED if complete else Status.PENDING,
        order=order,
        findings=found.all(),
        approvals=tuple(approvals),
        publish_by=order.date + rule.deadline if complete else None,
        denylist_key=complete and rule.denylist_key,
    )


def _about_one_certificate(stated: Revocation, counted: list[Revocation], pack: Pack) -> tuple[Rule, str] | None:
    if stated.reason not in pack.revocation:
        return Rule.REV_REASON, f"the statement knows no revocation for {stated.reason}"
    this = (stated.issuer_key_id, stated.serial, stated.reason)
    if any(this != (other.issuer_key_id, other.serial, other.reason) for other in counted):
        return Rule.REV_STATEMENT, "the statements name different certificates or reasons"
    return None


def _in_time(stated: Revocation, signed_at: datetime, pack: Pack, now: datetime) -> tuple[Rule, str] | None:
    if max(stated.date, signed_at) > now + pack.clocks.skew:
        return Rule.DEC_TIME, "the order is dated in the future"
    if not -pack.clocks.skew <= signed_at - stated.date <= _SIGNING_WINDOW:
        return Rule.DEC_TIME, "the order was signed at another time than it states"
    return None


def _by_right(
    stated: Revocation, signatory: Signatory, approvals: list[Approval], pack: Pack
) -> tuple[Rule, str] | None:
    if signatory.lapsed is not None:
        return Rule.DEC_CREDENTIAL, f"the certificate of {signatory.person} does not count now: {signatory.lapsed}"
    step = pack.revocation[stated.reason].steps[0]
    if not signatory.holds(step.by):
        return Rule.REV_ROLE, f"revocation is ordered by {' or '.join(step.by)}, not by {signatory.person}"
    if pack.exclusive_roles(signatory.roles):
        return Rule.SOD_EXCLUSIVE, f"{signatory.person} holds exclusive roles"
    if any(approval.person == signatory.person for approval in approvals):
        return Rule.SOD_PERSON, f"{signatory.person} ordered this before"
    return None
