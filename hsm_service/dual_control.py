"""The one function that says whether an operation on a key may be done: M different persons approved exactly it.

It sees bytes, the policy, the roles of the CPS, the trust in force and the time; never a status column. The vault asks
it when an approval arrives, and again at the moment of execution, so that an approval that lapsed or whose certificate
was revoked since then does not count.

Approvals are taken in the order of their dates. One counts if no rule of `_objection` speaks against it; one that does
not is a finding and changes nothing. One rejection by a person who could have approved ends the request; it does not
lapse as approvals do, and the requester may reject too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cryptography.hazmat.primitives import hashes

from cps.decision import Choice
from cps.model import Pack
from cps.signatory import NO_CLASS, Signatory, identify, open_signed
from hsm_service.dual_control_policy import Policy, Requirement, Rule
from hsm_service.key_approval import KeyApproval, parse_approval
from hsm_service.operation_request import OperationRequest, RequestError
from pki.errors import PkiError
from pki.oids import CT_KEY_APPROVAL
from pki.path import Trust
from runtime.language import Message

_OFFICER = "officer:"


class Status(StrEnum):
    """`pending` can still become approved; `approved` may be done now; the others are final."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    VOID = "void"
    """Made under another policy, or one that asks for no approval."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that something breaks; `approval` is the index of the approval that does, None for the request itself."""

    rule: Rule
    clause: str
    message: str
    approval: int | None = None

    def __str__(self) -> str:
        return f"{self.clause}: {self.message}"


@dataclass(frozen=True, slots=True)
class Approval:
    """An approval or rejection that counts: who, by which certificate (SHA-256, hex), when; its place among all."""

    person: str
    organisation: str
    certificate_sha256: str
    signed_at: datetime
    index: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of a request at one instant. `missing` is how many more persons must approve."""

    status: Status
    approvals: tuple[Approval, ...]
    findings: tuple[Finding, ...]
    requirement: Requirement | None
    rejections: tuple[Approval, ...] = ()

    @property
    def missing(self) -> int:
        wanted = 0 if self.requirement is None else self.requirement.approvals
        return max(0, wanted - len(self.approvals))

    def counted(self, index: int) -> Approval | None:
        """The approval or rejection with this index, if it counts."""
        return next((each for each in (*self.approvals, *self.rejections) if each.index == index), None)

    def about(self, index: int) -> Finding | None:
        """Why the approval with this index does not count; None if it does."""
        return next((finding for finding in self.findings if finding.approval == index), None)


@dataclass(frozen=True, slots=True)
class _Vote:
    """An approval or rejection whose signature verifies, with its signatory and its place."""

    index: int
    approval: KeyApproval
    signed_at: datetime
    signatory: Signatory


@dataclass(frozen=True, slots=True)
class _Question:
    request: OperationRequest
    requirement: Requirement
    policy: Policy
    pack: Pack
    trust: Trust
    now: datetime

    def finding(self, rule: Rule, message: str, index: int | None = None) -> Finding:
        return Finding(rule, self.policy.clause(rule), message, index)


def decide_operation(
    request: OperationRequest, approvals: Sequence[bytes], policy: Policy, *, pack: Pack, trust: Trust, now: datetime
) -> Verdict:
    """Judge a request at `now` (aware UTC) by the approvals given (CMS SignedData, DER, of CT_KEY_APPROVAL).

    Believes signatures that `trust` supports. Never raises for anything in `approvals`: what is wrong is a finding.
    """
    requirement = policy.required_for(request)
    if requirement is None or request.policy != policy.digest:
        stale = Finding(
            Rule.REQ_POLICY, policy.clause(Rule.REQ_POLICY), "the policy is another than when it was asked for"
        )
        return Verdict(Status.VOID, (), (stale,), requirement)
    question = _Question(request, requirement, policy, pack, trust, now)
    votes, findings = _votes(question, approvals)
    counted: list[Approval] = []
    rejections: list[Approval] = []
    for vote in votes:
        objection = _objection(question, vote, counted)
        if objection is not None:
            findings.append(objection)
        elif vote.approval.choice is Choice.REJECT:
            rejections.append(_counted(vote))
        else:
            counted.append(_counted(vote))
    if rejections:
        status = Status.REJECTED
        findings.append(question.finding(Rule.REQ_REJECTED, f"{rejections[0].person} rejected it"))
    elif now >= request.expires:
        status = Status.EXPIRED
        findings.append(question.finding(Rule.REQ_EXPIRED, f"the request lapsed at {request.expires.isoformat()}"))
    else:
        status = Status.APPROVED if len(counted) >= requirement.approvals else Status.PENDING
    return Verdict(status, tuple(counted), tuple(findings), requirement, tuple(rejections))


def _votes(question: _Question, approvals: Sequence[bytes]) -> tuple[list[_Vote], list[Finding]]:
    """The approvals whose signatures verify and whose signatories are known, by date; findings about the others."""
    votes: list[_Vote] = []
    findings: list[Finding] = []
    for index, der in enumerate(approvals):
        try:
            signed = open_signed(der, CT_KEY_APPROVAL)
            approval = parse_approval(signed.content)
        except (PkiError, RequestError) as error:
            message = f"not an approval with a verified signature: {error}"
            findings.append(question.finding(Rule.APR_FORM, message, index))
            continue
        try:
            signatory = identify(signed, pack=question.pack, trust=question.trust, now=question.now)
        except PkiError as error:
            message = f"signed by no officer of ours: {error}"
            findings.append(question.finding(Rule.APR_CREDENTIAL, message, index))
            continue
        votes.append(_Vote(index, approval, signed.signing_time, signatory))
    return sorted(votes, key=lambda vote: (vote.approval.date, vote.index)), findings


def _objection(question: _Question, vote: _Vote, counted: Sequence[Approval]) -> Finding | None:
    """The first rule that keeps the vote from counting; None if it counts."""
    broken = _about_this_request(question, vote) or _in_time(question, vote) or _by_right(question, vote)
    if broken is None and vote.approval.choice is Choice.APPROVE:
        broken = _apart(question, vote, counted)
    return None if broken is None else question.finding(broken[0], broken[1], vote.index)


def _about_this_request(question: _Question, vote: _Vote) -> tuple[Rule, str] | None:
    if vote.approval.request != question.request.digest:
        return Rule.APR_REQUEST, "the approval is of another request"
    if vote.approval.operation != question.request.operation:
        return Rule.APR_OPERATION, "the approval names another operation than its request"
    return None


def _in_time(question: _Question, vote: _Vote) -> tuple[Rule, str] | None:
    approval, skew = vote.approval, question.pack.clocks.skew
    if max(approval.date, vote.signed_at) > question.now + skew:
        return Rule.APR_TIME, "the approval is dated in the future"
    if not approval.date - skew <= vote.signed_at < approval.expires:
        return Rule.APR_TIME, "the approval was signed at another time than it states"
    if approval.date < question.request.requested - skew:
        return Rule.APR_TIME, "the approval is older than the request"
    lapses = min(approval.expires, approval.date + question.policy.lasts.approval)
    if approval.choice is Choice.APPROVE and question.now >= lapses:
        return Rule.APR_EXPIRED, f"the approval lapsed at {lapses.isoformat()}"
    return None


def _by_right(question: _Question, vote: _Vote) -> tuple[Rule, str] | None:
    signatory = vote.signatory
    if signatory.lapsed is not None:
        return Rule.APR_CREDENTIAL, f"the certificate of {signatory.person} does not count now: {signatory.lapsed}"
    # Keys are of no class of members: a role that is granted for some classes alone does not count.
    by, now = question.requirement.by, question.now
    if not signatory.holds(by, NO_CLASS, now):
        told = Message(
            "{operation} is approved by {roles}, not by {person}",
            operation=question.request.operation,
            roles=" or ".join(by),
            person=signatory.person,
        )
        return Rule.APR_ROLE, str(signatory.refusal(told, by, NO_CLASS, now))
    exclusive = signatory.exclusive(question.pack, now)
    if exclusive:
        return Rule.APR_EXCLUSIVE, f"{signatory.person} holds the exclusive roles {', '.join(sorted(exclusive))}"
    return None


def _apart(question: _Question, vote: _Vote, counted: Sequence[Approval]) -> tuple[Rule, str] | None:
    """Approver is not the requester, and persons are different: a person is not the certificate they signed with."""
    person = vote.signatory.person
    if question.request.requester == f"{_OFFICER}{person}":
        return Rule.APR_REQUESTER, f"{person} asked for it"
    if any(approval.person == person for approval in counted):
        return Rule.APR_PERSON, f"{person} approved it before"
    return None


def _counted(vote: _Vote) -> Approval:
    signatory = vote.signatory
    certificate = signatory.certificate.fingerprint(hashes.SHA256()).hex()
    return Approval(signatory.person, signatory.organisation, certificate, vote.signed_at, vote.index)
