"""Who may decide what, told a second time: from the sentences on the separation of duties, not from `cps.decide`.

A case is told in the terms of people. `judged` says how it stands and whose approvals count; it knows no bytes, no
digests and no pack, and takes nothing from the code that it is compared with.

| sentence                                                                           | here                           |
| ---------------------------------------------------------------------------------- | ------------------------------ |
| Author, vetters and approvers of one case are different persons, as the class asks  | `_author`, `_acted_elsewhere`  |
| m approvals are m persons                                                          | `_approved_before`             |
| No decision counts whose digest is not the current one                             | `_about_what_is_on_file`       |
| No officer acts on their own or their employer's case                              | `_own`, `_employers`           |
| Exclusive roles, including what a person did earlier in the same case              | `_exclusive`, `_exclusive_acts`|
| The credential was valid and unrevoked when it signed, and is                      | `_known`, `_credential`        |
| Delegation ends and never chains                                                   | `_held`                        |
| A rejection gives one of the reasons that the statement lists for the class        | `_for_a_listed_reason`         |
| A chain of re-keys ends: registers are asked again                                 | `_chain_ended`                 |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from tests.support.pki_factory import NOW

MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
SKEW: Final = 2 * MINUTE

Kind = Literal["cardholder", "cardholder-at-risk", "merchant", "merchant-rekey", "gateway", "officer"]
MemberClass = Literal["cardholder", "merchant", "gateway", "officer"]
Standing = Literal["APPROVED", "PENDING", "REFUSED"]

VETTING, APPROVING, SECURITY, AUDITOR = "vetting_officer", "approving_officer", "security_officer", "auditor"
SYSTEM: Final = "system"
EXCLUSIVE: Final = ({VETTING, APPROVING, AUDITOR}, {"ca_operator", SECURITY, AUDITOR})


# -- the hands ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Delegated:
    """A role for a time, for cases of the classes in `scope`; None: of all."""

    role: str
    scope: tuple[MemberClass, ...] | None = None
    begins: datetime = NOW - DAY
    ends: datetime = NOW + 20 * DAY


@dataclass(frozen=True)
class Hand:
    """A certificate and what is true of its holder. `service`: it is one of ours, `stranger`: of another hierarchy."""

    person: str
    roles: frozenset[str] = frozenset()
    grants: tuple[Delegated, ...] = ()
    employer: str = "RA"
    valid_from: datetime = NOW - DAY
    valid_until: datetime = NOW + 80 * DAY
    stranger: bool = False
    service: bool = False


def _hand(person: str, *roles: str, **told: object) -> Hand:
    return Hand(person, frozenset(roles), **told)  # type: ignore[arg-type]


OWN: Final = "p-own"
"""The person whom the case of an officer is about."""

HANDS: Final[dict[str, Hand]] = {
    "vetter": _hand("p-1", VETTING),
    "vetter 2": _hand("p-2", VETTING),
    "vetter as approver": _hand("p-1", APPROVING),  # a second certificate of the first person
    "vetter again": _hand("p-1", VETTING),  # a third, for the role of the first
    "approver": _hand("p-3", APPROVING),
    "approver 2": _hand("p-4", APPROVING),
    "approver again": _hand("p-3", APPROVING),
    "approver as security": _hand("p-3", SECURITY),
    "security": _hand("p-5", SECURITY),
    "security 2": _hand("p-6", SECURITY),
    "security again": _hand("p-5", SECURITY),
    "security, own": _hand(OWN, SECURITY),
    "both": _hand("p-8", VETTING, APPROVING),  # should never have been issued
    "vetter and security": _hand("p-9", VETTING, SECURITY),
    "vetter of the shop": _hand("p-10", VETTING, employer="bookshop  CO"),
    "approver of the shop": _hand("p-11", APPROVING, employer="Bookshop Co"),
    "approver of the acquirer": _hand("p-12", APPROVING, employer="Acquirer"),
    "security of the acquirer": _hand("p-13", SECURITY, employer="Acquirer"),
    "auditor": _hand("p-14", AUDITOR),
    "king": _hand("p-15", "king"),
    "vetter for a while": Hand("p-16", grants=(Delegated(VETTING, ends=NOW + 6 * HOUR),)),
    "approver for a while": Hand("p-17", grants=(Delegated(APPROVING, ends=NOW + 6 * HOUR),)),
    "approver from later": Hand("p-18", grants=(Delegated(APPROVING, begins=NOW + 2 * MINUTE),)),
    "vetter for shops": Hand("p-19", grants=(Delegated(VETTING, ("merchant",)),)),
    "approver for gateways": Hand("p-20", grants=(Delegated(APPROVING, ("gateway",)),)),
    "security for a while": Hand("p-21", grants=(Delegated(SECURITY),)),
    "vetter, approving for a while": Hand(
        "p-22", frozenset({VETTING}), (Delegated(APPROVING, ("gateway",), begins=NOW, ends=NOW + HOUR),)
    ),
    "vetter, approving from later": Hand(
        "p-26", frozenset({VETTING}), (Delegated(APPROVING, ("gateway",), begins=NOW + 30 * MINUTE),)
    ),
    "vetter of the agency": _hand("p-25", VETTING, employer="AGENCY"),
    "vetter until noon": _hand("p-23", VETTING, valid_until=NOW + 30 * MINUTE),
    "approver from then on": _hand("p-24", APPROVING, valid_from=NOW + 2 * MINUTE),
    "vetter elsewhere": _hand("p-2", VETTING, stranger=True),
    "approver elsewhere": _hand("p-4", APPROVING, stranger=True),
    "ra": _hand("service:ra", SYSTEM, service=True),
    "hsm": _hand("service:hsm", service=True),
    "bank": _hand("service:bank", service=True),
}


# -- the rules of the classes ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepRule:
    """`apart`: steps of the case that other persons decide."""

    name: str
    by: str
    count: int = 1
    apart: frozenset[str] = frozenset()
    not_the_author: bool = True
    not_of_the_case: bool = False
    lapses: timedelta = 5 * DAY


@dataclass(frozen=True)
class CaseRule:
    """A kind of case; `steps` are those that it needs, `beside` those that its class has for other cases."""

    member_class: MemberClass
    steps: tuple[StepRule, ...]
    beside: tuple[StepRule, ...] = ()
    evidence_lasts: timedelta | None = None
    vouched_by: str | None = None
    chain_lasts: timedelta | None = None


_AUTO = StepRule("auto", SYSTEM, not_the_author=False, lapses=DAY)
_REVIEW = StepRule("review", VETTING)
_VET = StepRule("vet", VETTING, not_of_the_case=True, lapses=30 * DAY)

CASES: Final[dict[Kind, CaseRule]] = {
    "cardholder": CaseRule("cardholder", (_AUTO,), (_REVIEW,), DAY, "bank"),
    "cardholder-at-risk": CaseRule("cardholder", (_REVIEW,), (_AUTO,), DAY, "bank"),
    "merchant": CaseRule(
        "merchant",
        (_VET, StepRule("approve", APPROVING, apart=frozenset({"vet"}), not_of_the_case=True)),
        evidence_lasts=30 * DAY,
        vouched_by="ra",
    ),
    "merchant-rekey": CaseRule(
        "merchant",
        (StepRule("approve", APPROVING, not_of_the_case=True),),
        evidence_lasts=7 * DAY,
        chain_lasts=825 * DAY,
    ),
    "gateway": CaseRule(
        "gateway",
        (
            StepRule("vet", VETTING, not_of_the_case=True),
            StepRule("approve", APPROVING, 2, frozenset({"vet"}), not_of_the_case=True, lapses=2 * DAY),
            StepRule("release", SECURITY, 1, frozenset({"vet", "approve"}), not_of_the_case=True, lapses=DAY),
        ),
        evidence_lasts=7 * DAY,
        vouched_by="hsm",
    ),
    "officer": CaseRule(
        "officer",
        (
            StepRule("sponsor", SECURITY, not_the_author=False),
            StepRule("approve", SECURITY, apart=frozenset({"sponsor"})),
        ),
    ),
}
SECOND: Final = {
    **CASES,
    "merchant": CaseRule(
        "merchant",
        (_VET, StepRule("approve", APPROVING, 2, not_of_the_case=True)),
        evidence_lasts=30 * DAY,
        vouched_by="ra",
    ),
}
"""Version 2 of the statement: merchants are approved by two, and exclusive roles alone keep out who vetted."""
SUBJECTS_EMPLOYER: Final[dict[MemberClass, str]] = {"merchant": "Bookshop Co", "gateway": "Acquirer", "officer": "RA"}


# -- a case ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Vote:
    """A statement that was handed in as a decision; `readable`: it is one, and as it was signed.

    `listed`: the reason it gives, if it rejects the case, is one of those for the class.
    """

    hand: str
    step: str
    reject: bool
    listed: bool
    readable: bool
    this_case: bool
    revision: int
    evidence: int
    date: datetime
    signed: datetime
    expires: datetime


@dataclass(frozen=True)
class Case:
    """A case at `now`; `revision` and `evidence` count what was edited and collected.

    `checked_at`: when registers were last asked about the holder of the certificate that is replaced, if one is.
    """

    kind: Kind
    now: datetime
    revision: int
    evidence: int
    collected_at: datetime
    authors: tuple[tuple[str, str], ...]
    made_under: int
    superseded: bool
    grandfathered_until: datetime | None
    revoked: frozenset[str]
    denounced: bool
    checked_at: datetime | None
    votes: tuple[Vote, ...]


@dataclass(frozen=True)
class Standings:
    """How a case stands, and the step and hand of each approval that counts, in the order of their dates."""

    standing: Standing
    counted: tuple[tuple[str, str], ...]


def judged(case: Case) -> Standings:
    """What the sentences say of the case."""
    governed = not case.superseded or case.made_under == 2 or _grandfathered(case)
    rule = (SECOND if case.superseded and (case.made_under == 2 or not governed) else CASES)[case.kind]
    counted: list[tuple[str, str]] = []
    earlier: list[Vote] = []
    rejected = False
    for vote in sorted(case.votes, key=lambda each: each.date):
        if not vote.readable or not _known(vote):
            continue
        if _counts(case, rule, vote, earlier, counted):
            if vote.reject:
                rejected = True
            else:
                counted.append((vote.step, vote.hand))
        if vote.this_case and _acts_by_role(rule, vote):
            earlier.append(vote)
    if case.denounced or rejected or not governed or _chain_ended(case, rule):
        return Standings("REFUSED", tuple(counted))
    complete = all(_approvals(counted, step) >= step.count for step in rule.steps)
    return Standings("APPROVED" if complete and _evidence_holds(case, rule) else "PENDING", tuple(counted))


def _grandfathered(case: Case) -> bool:
    return case.grandfathered_until is not None and case.now < case.grandfathered_until


def _evidence_holds(case: Case, rule: CaseRule) -> bool:
    if rule.evidence_lasts is None:
        return True
    return case.now - case.collected_at <= rule.evidence_lasts and rule.vouched_by not in case.revoked


def _chain_ended(case: Case, rule: CaseRule) -> bool:
    """Whether nobody has asked a register about the holder for longer than certificates are re-keyed in a chain."""
    if rule.chain_lasts is None or case.checked_at is None:
        return False
    return case.now - case.checked_at > rule.chain_lasts


def _approvals(counted: Sequence[tuple[str, str]], step: StepRule) -> int:
    return sum(name == step.name for name, _hand in counted)


def _counts(
    case: Case, rule: CaseRule, vote: Vote, earlier: Sequence[Vote], counted: Sequence[tuple[str, str]]
) -> bool:
    step = next((each for each in rule.steps if each.name == vote.step), None)
    if step is None:
        return False
    return (
        _about_what_is_on_file(case, vote)
        and _for_a_listed_reason(vote)
        and _in_time(case, step, vote)
        and _credential(case, vote)
        and all(_held(vote.hand, step.by, rule.member_class, at) for at in (vote.signed, case.now))
        and not _exclusive(case, vote)
        and not _own(rule, vote)
        and not (step.not_the_author and _author(case, vote))
        and not (step.not_of_the_case and _employers(case, rule, vote))
        and not _acted_elsewhere(rule, step, vote, earlier)
        and not _exclusive_acts(rule, step, vote, earlier)
        and not (not vote.reject and _approved_before(vote, counted))
        and _in_turn(rule, step, counted)
    )


# -- the sentences -----------------------------------------------------------------------------------------------------


def _about_what_is_on_file(case: Case, vote: Vote) -> bool:
    return vote.this_case and (vote.revision, vote.evidence) == (case.revision, case.evidence)


def _for_a_listed_reason(vote: Vote) -> bool:
    return vote.listed or not vote.reject


def _in_time(case: Case, step: StepRule, vote: Vote) -> bool:
    """Signed at the time it states, not in the future, and neither it nor its step has lapsed."""
    as_stated = vote.date - SKEW <= vote.signed < vote.expires
    future = max(vote.date, vote.signed) > case.now + SKEW
    return as_stated and not future and case.now < vote.expires and case.now < vote.date + step.lapses


def _known(vote: Vote) -> bool:
    """Whether the certificate was one of ours, and not ended, when it signed; else nobody knows who acted."""
    hand = HANDS[vote.hand]
    return not hand.stranger and hand.valid_from <= vote.signed <= hand.valid_until


def _credential(case: Case, vote: Vote) -> bool:
    hand = HANDS[vote.hand]
    return vote.hand not in case.revoked and hand.valid_from <= case.now <= hand.valid_until


def _held(name: str, role: str, member_class: MemberClass, at: datetime) -> bool:
    """In full; or for a time and a scope, which makes nobody an officer."""
    hand = HANDS[name]
    if role in hand.roles:
        return True
    return member_class != "officer" and any(
        grant.role == role and grant.begins <= at < grant.ends and member_class in (grant.scope or (member_class,))
        for grant in hand.grants
    )


def _exclusive(case: Case, vote: Vote) -> bool:
    """Whether the certificate gave exclusive roles at once when it signed, or does now; whatever they are for."""
    hand = HANDS[vote.hand]
    for at in (vote.signed, case.now):
        held = hand.roles | {grant.role for grant in hand.grants if grant.begins <= at < grant.ends}
        if any(len(group & held) > 1 for group in EXCLUSIVE):
            return True
    return False


def _own(rule: CaseRule, vote: Vote) -> bool:
    return rule.member_class == "officer" and HANDS[vote.hand].person == OWN


def _author(case: Case, vote: Vote) -> bool:
    return HANDS[vote.hand].person in {person for person, _employer in case.authors}


def _employers(case: Case, rule: CaseRule, vote: Vote) -> bool:
    organisations = [SUBJECTS_EMPLOYER[rule.member_class], *(employer for _person, employer in case.authors)]
    return _same(HANDS[vote.hand].employer) in {_same(each) for each in organisations if each}


def _same(organisation: str) -> tuple[str, ...]:
    return tuple(organisation.lower().split())


def _acts_by_role(rule: CaseRule, vote: Vote) -> bool:
    """Whether a statement was an act in a step of the class, by somebody who held its role then."""
    step = _step_of_class(rule, vote.step)
    return step is not None and _held(vote.hand, step.by, rule.member_class, vote.signed)


def _step_of_class(rule: CaseRule, name: str) -> StepRule | None:
    return next((each for each in (*rule.steps, *rule.beside) if each.name == name), None)


def _same_person(vote: Vote, earlier: Sequence[Vote]) -> list[Vote]:
    return [each for each in earlier if HANDS[each.hand].person == HANDS[vote.hand].person]


def _acted_elsewhere(rule: CaseRule, step: StepRule, vote: Vote, earlier: Sequence[Vote]) -> bool:
    """Whether the person acted in a step that is to be another's, over whichever revision; in either order."""
    for act in _same_person(vote, earlier):
        other = _step_of_class(rule, act.step)
        if other is not None and (other.name in step.apart or step.name in other.apart):
            return True
    return False


def _exclusive_acts(rule: CaseRule, step: StepRule, vote: Vote, earlier: Sequence[Vote]) -> bool:
    roles = {step.by}
    for act in _same_person(vote, earlier):
        other = _step_of_class(rule, act.step)
        if other is not None:
            roles.add(other.by)
    return any(len(group & roles) > 1 for group in EXCLUSIVE)


def _approved_before(vote: Vote, counted: Sequence[tuple[str, str]]) -> bool:
    return (vote.step, HANDS[vote.hand].person) in {(step, HANDS[hand].person) for step, hand in counted}


def _in_turn(rule: CaseRule, step: StepRule, counted: Sequence[tuple[str, str]]) -> bool:
    before = rule.steps[: rule.steps.index(step)]
    return all(_approvals(counted, each) >= each.count for each in before)
