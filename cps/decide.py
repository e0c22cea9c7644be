"""The one function that says whether a case may be certified.

The RA runs it when a decision is posted, the CA before it prepares a certificate, the HSM service before it signs one.
It sees bytes, a policy pack, the trust in force and the time; it never sees a status column. Rules are in the pack, and
each refusal names the clause of the rule that refused.

Decisions are taken in the order of their dates. One counts if every rule of `_objection` lets it; those that do not are
findings, and a case can still be approved by others. What a person did earlier in the case keeps them from steps that
exclude it, also when it was done over an older revision or their certificate lapsed since.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cps.application import KnownKeys, check_application
from cps.decision import Choice, Decision, parse_decision
from cps.dossier import Dossier, Revision, rule_of
from cps.errors import StatementError, fault
from cps.evidence import check_evidence, lasts_until
from cps.model import AUTHOR, SAME_ORG, Pack, Step
from cps.rejection import RejectionReason, rejections_of
from cps.rekey import chain_lasts_until, check_rekey
from cps.revocation import RevocationVerdict, decide_revocation
from cps.rules import Rule
from cps.signatory import Matter, Signatory, identify, open_signed
from cps.verdict import Approval, Finding, Findings, NextStep, Objection, Status, Verdict
from pki.errors import PkiError
from pki.oids import CT_DECISION
from pki.path import Trust
from runtime.language import Message, Term, terms

__all__ = [
    "Approval",
    "Finding",
    "KnownKeys",
    "NextStep",
    "RevocationVerdict",
    "Status",
    "Verdict",
    "decide",
    "decide_revocation",
]

_NOTHING_KNOWN: Final = KnownKeys()


@dataclass(frozen=True, slots=True)
class _Vote:
    """A decision whose signature verifies, with its signatory and its place in the dossier."""

    index: int
    decision: Decision
    signed_at: datetime
    signatory: Signatory


@dataclass(frozen=True, slots=True)
class _Act:
    """That a person acted in a step, in roles they held; steps exclude each other in whatever order they are taken."""

    step: str
    excluded: tuple[str, ...]
    roles: frozenset[str]


@dataclass(slots=True)
class _Ballot:
    """The state of deciding, while the votes are taken in order."""

    dossier: Dossier
    pack: Pack
    now: datetime
    steps: tuple[Step, ...]
    acts: dict[str, list[_Act]] = field(default_factory=dict)  # by person, over any revision of the case
    approvals: list[Approval] = field(default_factory=list)
    rejected: bool = False

    @property
    def matter(self) -> Matter:
        """What the roles are exercised on."""
        return Matter.case_of(self.dossier.revision.member_class, self.pack)

    @property
    def reasons(self) -> dict[str, RejectionReason]:
        """For what the case may be rejected, by code."""
        return rejections_of(self.pack, self.dossier.revision.member_class)

    def open_step(self) -> tuple[Step, int] | None:
        """The first step that still misses approvals, and how many."""
        for step in self.steps:
            missing = step.count - sum(approval.step == step.name for approval in self.approvals)
            if missing > 0:
                return step, missing
        return None


def decide(
    dossier: Dossier, pack: Pack, *, trust: Trust, now: datetime, known_keys: KnownKeys = _NOTHING_KNOWN
) -> Verdict:
    """Judge a case at `now` (aware UTC) by `pack`, believing signatures that `trust` supports.

    `known_keys` is what the caller's own registers say of the keys in the case: the RA and the CA each pass theirs.
    Never raises for anything in the dossier: what is wrong with it is in the findings.
    """
    member = rule_of(dossier.revision, pack)
    risk = pack.risk_of(dossier.revision.signals)
    broken, lacking, votes = Findings(pack), Findings(pack), Findings(pack)
    check_application(dossier, pack, known_keys=known_keys, now=now, found=broken)
    check_rekey(dossier, pack, now, broken)
    card_expiry = check_evidence(dossier, pack, trust=trust, now=now, found=lacking)
    steps = tuple(step for step in member.steps if step.applies(risk=risk))
    ballot = _Ballot(dossier, pack, now, steps)
    for vote in _votes(dossier, pack, trust, now, votes):
        _take(ballot, vote, votes)
    due = ballot.open_step()
    if not steps:
        broken.add(Rule.DEC_STEP, "no step of the class applies to the case")

    if broken or ballot.rejected:
        status = Status.REFUSED
    elif due is None and not lacking:
        status = Status.APPROVED
    else:
        status = Status.PENDING
    not_after = None
    if status is Status.APPROVED:
        not_after = now + member.validity.max
        if member.validity.not_beyond is not None and card_expiry is not None:
            not_after = min(not_after, card_expiry)
    return Verdict(
        status=status,
        next_step=NextStep(due[0].name, due[0].by, due[1]) if due is not None and status is Status.PENDING else None,
        findings=broken.all() + lacking.all() + votes.all(),
        broken=broken.all(),
        approvals=tuple(ballot.approvals),
        risk=risk,
        not_after=not_after,
        holds_until=min(
            filter(
                None,
                (
                    lasts_until(dossier, pack, now),
                    chain_lasts_until(dossier, pack, now),
                    *(approval.lapses_at for approval in ballot.approvals),
                ),
            ),
            default=None,
        ),
    )


def _votes(dossier: Dossier, pack: Pack, trust: Trust, now: datetime, found: Findings) -> list[_Vote]:
    """The decisions whose signatures verify and whose signatories are known, in the order of their dates."""
    votes = []
    for index, der in enumerate(dossier.decisions):
        try:
            signed = open_signed(der, CT_DECISION)
            decision = parse_decision(signed.content)
        except (PkiError, StatementError) as error:
            found.add(Rule.DEC_FORM, "not a decision with a verified signature: {fault}", index, fault=fault(error))
            continue
        try:
            signatory = identify(signed, pack=pack, trust=trust, now=now)
        except PkiError as error:
            found.add(
                Rule.DEC_CREDENTIAL, "signed by no officer and no service of ours: {fault}", index, fault=fault(error)
            )
            continue
        votes.append(_Vote(index, decision, signed.signing_time, signatory))
    return sorted(votes, key=lambda vote: (vote.decision.date, vote.index))


def _take(ballot: _Ballot, vote: _Vote, found: Findings) -> None:
    """Count the vote, or say why not; either way remember that the person acted, if they had the role to."""
    signatory, decision = vote.signatory, vote.decision
    objection = _objection(ballot, vote)
    if objection is not None:
        found.object(*objection, vote.index)
    elif decision.choice is Choice.REJECT:
        ballot.rejected = True
        found.add(
            Rule.DEC_REJECTED,
            "{person} rejected the case at step {step}: {why}",
            vote.index,
            person=signatory.person,
            step=Term("step", decision.step),
            why=ballot.reasons[decision.code or ""].told,
        )
    else:
        ballot.approvals.append(_approval(ballot, vote))
    step = _step(rule_of(ballot.dossier.revision, ballot.pack).steps, decision.step)
    of_this_case = decision.application_id == ballot.dossier.revision.application_id
    if of_this_case and step is not None and (roles := signatory.acted_as(step.by, ballot.matter)):
        ballot.acts.setdefault(signatory.person, []).append(_Act(step.name, step.excluded, roles))


def _approval(ballot: _Ballot, vote: _Vote) -> Approval:
    """A vote that counts: until the decision lapses, or the grant ends by which the role is held."""
    signatory, decision = vote.signatory, vote.decision
    step = next(step for step in ballot.steps if step.name == decision.step)
    lapses = (_lapses_at(decision, step), signatory.holds_until(step.by, ballot.matter, ballot.now))
    return Approval(
        decision.step,
        signatory.person,
        signatory.organisation,
        vote.signed_at,
        vote.index,
        min(filter(None, lapses)),
    )


def _step(steps: tuple[Step, ...], name: str) -> Step | None:
    return next((step for step in steps if step.name == name), None)


def _objection(ballot: _Ballot, vote: _Vote) -> Objection | None:
    """The first rule that keeps the vote from counting; None if it counts."""
    step = _step(ballot.steps, vote.decision.step)
    if step is None:
        return Rule.DEC_STEP, Message("the case has no step {step}", step=Term("step", vote.decision.step))
    return (
        _about_this_case(ballot, vote)
        or _for_a_reason(ballot, vote)
        or _in_time(ballot, vote, step)
        or _by_right(ballot, vote, step)
        or _separation_of_duties(ballot, vote, step)
        or _in_turn(ballot, vote, step)
    )


def _about_this_case(ballot: _Ballot, vote: _Vote) -> Objection | None:
    revision, decision = ballot.dossier.revision, vote.decision
    if decision.application_id != revision.application_id:
        return Rule.DEC_FORM, Message("the decision is about another case")
    if decision.revision_digest != revision.digest:
        return Rule.DEC_STALE, Message("the decision is over another revision than the current one")
    if decision.evidence_digest != ballot.dossier.evidence_digest:
        return Rule.DEC_EVIDENCE, Message("the decision is over other evidence than is on file")
    return None


def _for_a_reason(ballot: _Ballot, vote: _Vote) -> Objection | None:
    code = vote.decision.code
    if code is not None and code not in ballot.reasons:
        return Rule.DEC_CODE, Message(
            "the statement lists no reason {code} for which a case of the class {member_class} is rejected",
            code=code,
            member_class=Term("class", ballot.dossier.revision.member_class),
        )
    return None


def _in_time(ballot: _Ballot, vote: _Vote, step: Step) -> Objection | None:
    decision, skew = vote.decision, ballot.pack.clocks.skew
    if max(decision.date, vote.signed_at) > ballot.now + skew:
        return Rule.DEC_TIME, Message("the decision is dated in the future")
    if vote.signed_at - decision.date < -skew or vote.signed_at >= decision.expires:
        return Rule.DEC_TIME, Message("the decision was signed at another time than it states")
    lapses = _lapses_at(decision, step)
    if ballot.now >= lapses:
        return Rule.DEC_EXPIRED, Message("the decision lapsed at {time}", time=lapses)
    return None


def _lapses_at(decision: Decision, step: Step) -> datetime:
    """When a decision lapses: what it says itself, or sooner by the rule of its step."""
    if step.expires is None:
        return decision.expires
    return min(decision.expires, decision.date + step.expires)


def _by_right(ballot: _Ballot, vote: _Vote, step: Step) -> Objection | None:
    signatory = vote.signatory
    lapsed = signatory.objection()
    if lapsed is not None:
        return Rule.DEC_CREDENTIAL, lapsed
    if not signatory.holds(step.by, ballot.matter, ballot.now):
        told = Message(
            "step {step} is decided by {roles}, not by {person}",
            step=Term("step", step.name),
            roles=terms("role", step.by, "or"),
            person=signatory.person,
        )
        return Rule.DEC_ROLE, signatory.refusal(told, step.by, ballot.matter, ballot.now)
    exclusive = signatory.exclusive(ballot.pack, ballot.now)
    if exclusive:
        return Rule.SOD_EXCLUSIVE, Message(
            "{person} holds the exclusive roles {roles}",
            person=signatory.person,
            roles=terms("role", sorted(exclusive)),
        )
    return None


def _separation_of_duties(ballot: _Ballot, vote: _Vote, step: Step) -> Objection | None:
    revision, signatory = ballot.dossier.revision, vote.signatory
    person = signatory.person
    acts = ballot.acts.get(person, [])
    if revision.subject.member_class == "officer" and revision.subject.person_id == person:
        return Rule.SOD_OWN, Message("{person} is the person to be certified", person=person)
    if AUTHOR in step.excluded and any(author.person == person for author in revision.authors):
        return Rule.SOD_AUTHOR, Message("{person} is an author of the case", person=person)
    if SAME_ORG in step.excluded and _fold(signatory.organisation) in _organisations(revision):
        return Rule.SOD_ORGANISATION, Message("{person} is employed by an organisation of the case", person=person)
    apart = sorted({act.step for act in acts if act.step in step.excluded or step.name in act.excluded})
    if apart:
        return Rule.SOD_STEP, Message("{person} already acted in {steps}", person=person, steps=terms("step", apart))
    acting = signatory.acts_as(step.by, ballot.matter, ballot.now)
    clash = ballot.pack.exclusive_roles(acting.union(*(act.roles for act in acts)))
    if clash:
        return Rule.SOD_EXCLUSIVE, Message(
            "{person} already acted in the case in the other of {roles}",
            person=person,
            roles=terms("role", sorted(clash)),
        )
    counted = any((approval.person, approval.step) == (person, step.name) for approval in ballot.approvals)
    if counted and vote.decision.choice is Choice.APPROVE:
        return Rule.SOD_PERSON, Message("{person} approved this step before", person=person)
    return None


def _organisations(revision: Revision) -> set[str]:
    """The organisations of the case, comparable; a service that wrote it for an applicant is of none."""
    named = {author.organisation for author in revision.authors}
    if revision.subject.member_class != "cardholder":
        named.add(revision.subject.organisation)
    return {_fold(name) for name in named if name}


def _fold(organisation: str) -> str:
    return " ".join(organisation.casefold().split())


def _in_turn(ballot: _Ballot, vote: _Vote, step: Step) -> Objection | None:
    due = ballot.open_step()
    if due is not None and ballot.steps.index(step) > ballot.steps.index(due[0]):
        return Rule.DEC_ORDER, Message("step {step} comes first", step=Term("step", due[0].name))
    return None
