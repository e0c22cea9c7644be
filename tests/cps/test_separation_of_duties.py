"""Separation of duties as invariants over random histories.

A history is any sequence of decisions by any hands (officers of every role, with two certificates, who are the author
or the applicant's employee, or whose certificate is revoked), on any step, over the current or an older revision,
approving or rejecting, in any order of time. Whatever the history, an approved case obeys the rules below, written here
from the statement's text and share no code with `decide`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cps.decide import Status, Verdict, decide
from cps.decision import Choice
from cps.dossier import Author, Dossier
from pki.path import Trust
from tests.support.cps_cases import MINUTE, OFFICER, Office
from tests.support.pki_factory import NOW, Credential, PkiFactory


@dataclass(frozen=True)
class Hand:
    """A certificate and what is true of its holder."""

    person: str
    roles: frozenset[str]
    organisation: str = "RA"
    revoked: bool = False


HANDS = (
    Hand("p-1", frozenset({"vetting_officer"})),
    Hand("p-2", frozenset({"vetting_officer", "security_officer"})),
    Hand("p-3", frozenset({"approving_officer"})),
    Hand("p-4", frozenset({"approving_officer"})),
    Hand("p-5", frozenset({"approving_officer", "security_officer"})),
    Hand("p-6", frozenset({"security_officer"})),
    Hand("p-7", frozenset({"security_officer"})),
    Hand("p-1", frozenset({"approving_officer"})),  # a second certificate of the first
    Hand("p-8", frozenset({"vetting_officer", "approving_officer"})),  # should never have been issued
    Hand("p-9", frozenset({"vetting_officer"}), organisation="Bookshop Co"),
    Hand("p-10", frozenset({"approving_officer"}), organisation="Bookshop Co"),
    Hand("p-11", frozenset({"approving_officer"}), revoked=True),
    Hand("p-12", frozenset({"vetting_officer"}), revoked=True),
)
# who may decide which step, how many are needed, and which steps and facts exclude a person, from the statement
ROLES = {
    "merchant": {"vet": "vetting_officer", "approve": "approving_officer"},
    "gateway": {"vet": "vetting_officer", "approve": "approving_officer", "release": "security_officer"},
    "officer": {"sponsor": "security_officer", "approve": "security_officer"},
}
COUNTS = {"gateway": {"vet": 1, "approve": 2, "release": 1}}
MAY_BE_AUTHOR = {("officer", "sponsor")}
APART = {
    "merchant": [{"vet", "approve"}],
    "gateway": [{"vet", "approve"}, {"vet", "release"}, {"approve", "release"}],
    "officer": [{"sponsor", "approve"}],
}


@dataclass(frozen=True)
class Act:
    """One decision of a history."""

    hand: int
    step: str
    reject: bool
    stale: bool
    minutes: int


acts = st.builds(
    Act,
    hand=st.integers(0, len(HANDS) - 1),
    step=st.sampled_from(["vet", "approve", "release", "sponsor"]),
    reject=st.integers(0, 19).map(lambda n: n == 0),
    stale=st.integers(0, 5).map(lambda n: n == 0),
    minutes=st.integers(-20, 0),
)
authors = st.sampled_from(["applicant-1", "p-1", "p-3", "p-6"])


class World:
    """The office with all hands, made once."""

    def __init__(self) -> None:
        pki = PkiFactory()
        self.office = Office(pki)
        self.credentials: tuple[Credential, ...] = tuple(
            pki.officer(hand.person, organisation=hand.organisation, roles=tuple(sorted(hand.roles))) for hand in HANDS
        )
        for hand, credential in zip(HANDS, self.credentials, strict=True):
            if hand.revoked:
                pki.revoke(credential)
        self.trust: Trust = pki.trust()

    @lru_cache(maxsize=64)  # noqa: B019  # one world a session
    def case(self, member_class: str, author: str, number: int) -> Dossier:
        changes = {"authors": (Author(person=author),), "number": number}
        if member_class == "officer":
            subject = OFFICER.model_copy(update={"person_id": "p-7", "roles": ("auditor",)})
            return self.office.officer_case(subject, **changes)
        return (
            self.office.merchant_case(**changes) if member_class == "merchant" else self.office.gateway_case(**changes)
        )

    def judge(self, member_class: str, author: str, history: list[Act]) -> tuple[Dossier, Verdict]:
        current = dossier = self.case(member_class, author, 2)
        for act in history:
            over = self.case(member_class, author, 1) if act.stale else current
            signed = self.office.decision(
                over,
                act.step,
                self.credentials[act.hand],
                choice=Choice.REJECT if act.reject else Choice.APPROVE,
                date=NOW + act.minutes * MINUTE,
                expires=NOW + timedelta(hours=1),
            )
            dossier = dossier.with_decision(signed)
        return dossier, decide(dossier, self.office.pack, trust=self.trust, now=NOW)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def _check(member_class: str, author: str, history: list[Act], verdict: Verdict) -> None:
    counted = [(given.step, given.person, history[given.decision]) for given in verdict.approvals]
    for step, person, act in counted:
        hand = HANDS[act.hand]
        assert (person, step) == (hand.person, act.step)
        assert ROLES[member_class][step] in hand.roles, "only who holds the role of the step"
        assert not act.stale, "only the current revision"
        assert not act.reject
        assert not hand.revoked, "only credentials that count now"
        assert not {"vetting_officer", "approving_officer"} <= hand.roles, "nobody of exclusive roles"
        if (member_class, step) not in MAY_BE_AUTHOR:
            assert person != author, "no self-approval"
        if member_class == "merchant":
            assert hand.organisation != "Bookshop Co", "nobody for their employer"
        if member_class == "officer":
            assert person != "p-7", "nobody on their own certificate"
    by_step: dict[str, list[str]] = {}
    for step, person, _act in counted:
        by_step.setdefault(step, []).append(person)
    for persons in by_step.values():
        assert max(Counter(persons).values()) == 1, "m approvals are m persons"
    for one, other in APART[member_class]:
        assert not set(by_step.get(one, [])) & set(by_step.get(other, [])), "different hands"
    if member_class != "officer":
        vetters = {
            HANDS[act.hand].person
            for act in history
            if act.step == "vet" and "vetting_officer" in HANDS[act.hand].roles and act.minutes < 0
        }
        later = {
            person
            for step, person, act in counted
            if step == "approve"
            and any(
                earlier.step == "vet"
                and HANDS[earlier.hand].person == person
                and "vetting_officer" in HANDS[earlier.hand].roles
                and earlier.minutes < act.minutes
                for earlier in history
            )
        }
        assert not later & vetters, "also not after vetting an earlier revision"
    if verdict.approved:
        for step in ROLES[member_class]:
            assert len(by_step.get(step, [])) >= COUNTS.get(member_class, {}).get(step, 1), "every step in full"
    assert verdict.approved == (verdict.not_after is not None)


@pytest.mark.parametrize("member_class", ["merchant", "gateway", "officer"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(author=authors, history=st.lists(acts, max_size=7))
def test_no_history_gets_around_the_separation_of_duties(
    world: World, member_class: str, author: str, history: list[Act]
) -> None:
    _dossier, verdict = world.judge(member_class, author, history)
    _check(member_class, author, history, verdict)


RIGHT = {
    "merchant": [Act(0, "vet", False, False, -20), Act(2, "approve", False, False, -19)],
    "gateway": [
        Act(0, "vet", False, False, -20),
        Act(2, "approve", False, False, -19),
        Act(3, "approve", False, False, -19),
        Act(5, "release", False, False, -18),
    ],
    "officer": [Act(5, "sponsor", False, False, -20), Act(1, "approve", False, False, -19)],
}


@pytest.mark.parametrize("member_class", ["merchant", "gateway", "officer"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.lists(acts.filter(lambda act: act.minutes > -18), max_size=4))
def test_later_noise_can_refuse_an_approved_case_only_by_a_rejection(
    world: World, member_class: str, noise: list[Act]
) -> None:
    """Nobody can take back what the right hands approved, but who may decide may still say no."""
    history = RIGHT[member_class] + noise
    _dossier, verdict = world.judge(member_class, "applicant-1", history)
    _check(member_class, "applicant-1", history, verdict)
    if not any(act.reject for act in noise):
        assert verdict.approved
    assert verdict.status in {Status.APPROVED, Status.REFUSED}


@pytest.mark.parametrize("member_class", ["merchant", "gateway", "officer"])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(left_out=st.integers(0, 3))
def test_no_step_can_be_left_out(world: World, member_class: str, left_out: int) -> None:
    history = list(RIGHT[member_class])
    del history[left_out % len(history)]
    _dossier, verdict = world.judge(member_class, "applicant-1", history)
    assert verdict.status is Status.PENDING
