"""Whether a key must be denied that is no key of a compromised certificate of ours: officers say so (CPS 4.9.12)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cps.decision import KeyDenial, parse_key_denial
from cps.errors import StatementError, fault
from cps.model import Pack
from cps.revocation import in_time, may_act
from cps.rules import Rule
from cps.signatory import NO_CLASS, Signatory, identify, open_signed
from cps.verdict import Approval, Finding, Findings, Objection, Status
from pki.errors import PkiError
from pki.oids import CT_KEY_DENIAL
from pki.path import Trust
from runtime.language import Message, terms


@dataclass(frozen=True, slots=True)
class DenialVerdict:
    """The judgement; `denial` is the first statement that counts."""

    status: Status
    denial: KeyDenial | None
    findings: tuple[Finding, ...]
    approvals: tuple[Approval, ...]

    @property
    def approved(self) -> bool:
        return self.status is Status.APPROVED


def decide_denial(statements: Sequence[bytes], pack: Pack, *, trust: Trust, now: datetime) -> DenialVerdict:
    """Judge whether `statements` (each CMS SignedData over KeyDenialTBS, DER) deny one key together.

    Approved when as many different persons signed as the pack asks for, pending while some are missing, refused if
    nobody's statement counts. Never raises for anything in the statements.
    """
    found = Findings(pack)
    counted: list[KeyDenial] = []
    approvals: list[Approval] = []
    step = pack.denylist.steps[0]
    for index, der in enumerate(statements):
        try:
            signed = open_signed(der, CT_KEY_DENIAL)
            stated = parse_key_denial(signed.content)
            signatory = identify(signed, pack=pack, trust=trust, now=now)
        except (PkiError, StatementError) as error:
            found.add(
                Rule.DENY_STATEMENT,
                "not a key's denial signed by an officer of ours: {fault}",
                index,
                fault=fault(error),
            )
            continue
        objection = in_time(stated.date, signed.signing_time, pack, now) or _by_right(
            stated, signatory, counted, approvals, pack, now
        )
        if objection is None:
            counted.append(stated)
            approvals.append(Approval(step.name, signatory.person, signatory.organisation, signed.signing_time, index))
        else:
            found.object(*objection, index)
    if not counted:
        return DenialVerdict(Status.REFUSED, None, found.all(), ())
    complete = len(approvals) >= step.count
    status = Status.APPROVED if complete else Status.PENDING
    return DenialVerdict(status, counted[0], found.all(), tuple(approvals))


def _by_right(
    stated: KeyDenial,
    signatory: Signatory,
    counted: list[KeyDenial],
    approvals: list[Approval],
    pack: Pack,
    now: datetime,
) -> Objection | None:
    lapsed = signatory.objection()
    if lapsed is not None:
        return Rule.DEC_CREDENTIAL, lapsed
    if any(stated.spki_sha256 != other.spki_sha256 for other in counted):
        return Rule.DENY_STATEMENT, Message("the statements name different keys")
    by = pack.denylist.steps[0].by
    if not signatory.holds(by, NO_CLASS, now):
        told = Message(
            "a key is denied by {roles}, not by {person}", roles=terms("role", by, "or"), person=signatory.person
        )
        return Rule.DENY_ROLE, signatory.refusal(told, by, NO_CLASS, now)
    return may_act(signatory, [approval.person for approval in approvals], pack, now)
