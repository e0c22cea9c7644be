"""Separation of duties over random histories: a case is approved exactly when the sentences say so.

A history is the right one of its kind of case with anything done to it: other hands, steps and statements, decisions
replayed, handed over in another order, made for another case, dated wrongly; edits, fresh evidence, revocations, time,
another version of the statement (`tests.cps.duties`). What must come of it is told a second time, by people's words, in
`tests.cps.duties_oracle`. That each guard is needed is shown by taking it out: histories of the same kinds then find a
difference.

`DUTIES_EXAMPLES=20000` looks at so many histories of each kind.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import cps.decide
import cps.signatory
from cps.decide import Status
from cps.register import PackRegister
from cps.signatory import Matter, Signatory
from pki.cms_signed import parse_signed_data
from pki.errors import CmsError
from pki.extensions import RoleGrant
from pki.oids import CT_DECISION, CT_REVOCATION
from tests.cps.duties import (
    Collect,
    Denounce,
    DutiesWorld,
    Edit,
    History,
    Played,
    Reevaluate,
    Revoke,
    Sign,
    Supersede,
    Wait,
)
from tests.cps.duties_oracle import CASES, DAY, HANDS, HOUR, MINUTE, OWN, Kind, judged
from tests.cps.guards import Guard, guards_of, remember_what_is_verified

EXAMPLES: Final = int(os.environ.get("DUTIES_EXAMPLES", "30"))
SEARCHED: Final = 100
"""Histories of each kind, among which, and the `TELLING` ones, the lack of a guard shows; or else among some `MORE`."""
MORE: Final = 5000

RIGHT: Final[dict[str, tuple[Kind, History]]] = {
    "cardholder": ("cardholder", (Sign("ra", "auto"),)),
    "cardholder at risk": ("cardholder-at-risk", (Sign("vetter", "review"),)),
    "merchant": ("merchant", (Sign("vetter", "vet"), Wait(), Sign("approver", "approve"))),
    "merchant under another version": (
        "merchant",
        (
            *(Wait(), Supersede(), Reevaluate(), Sign("vetter", "vet"), Wait()),
            *(Sign("approver", "approve"), Wait(), Sign("approver 2", "approve")),
        ),
    ),
    "merchant under the version before": (
        "merchant",
        (Sign("vetter", "vet"), Wait(), Supersede(grandfather=DAY), Sign("approver", "approve")),
    ),
    "merchant by those who stand in": (
        "merchant",
        (Sign("vetter for a while", "vet"), Wait(3 * MINUTE), Sign("approver from later", "approve")),
    ),
    "merchant by those who stood in": (
        "merchant",
        (Wait(2 * HOUR), Sign("vetter, approving for a while", "vet"), Wait(), Sign("approver", "approve")),
    ),
    "merchant by those who will stand in": (
        "merchant",
        (Sign("vetter, approving from later", "vet"), Wait(), Sign("approver", "approve")),
    ),
    "merchant edited meanwhile": (
        "merchant",
        (
            *(Sign("vetter", "vet"), Wait(), Edit("applicant-1", "Agency"), Wait(), Sign("vetter 2", "vet"), Wait()),
            Sign("approver", "approve"),
        ),
    ),
    "re-key": ("merchant-rekey", (Sign("approver", "approve"),)),
    "gateway": (
        "gateway",
        (
            *(Sign("vetter", "vet"), Wait(), Sign("approver", "approve"), Wait(), Sign("approver 2", "approve")),
            *(Wait(), Sign("security", "release")),
        ),
    ),
    "officer": ("officer", (Sign("security", "sponsor"), Wait(), Sign("security 2", "approve"))),
}

TELLING: Final[tuple[tuple[Kind, History], ...]] = (
    # dated in the future; signed long before
    ("merchant", (Sign("vetter", "vet"), Wait(), Sign("approver", "approve", dated=2 * DAY, signed=2 * DAY))),
    ("merchant", (Wait(DAY), Sign("vetter", "vet", signed=-2 * DAY), Wait(), Sign("approver", "approve"))),
    # a delegation that has ended since
    ("merchant", (Sign("vetter for a while", "vet"), Wait(6 * HOUR), Sign("approver", "approve"))),
    # an author of the application is of the same organisation as those who decide
    ("merchant", (Edit("p-99", "RA"), Sign("vetter", "vet"), Wait(), Sign("approver", "approve"))),
)
"""What chance finds only once in some hundred histories."""

TIMES: Final = (MINUTE, HOUR, 6 * HOUR, DAY, 2 * DAY, 5 * DAY, 8 * DAY, 31 * DAY)
AWAY: Final = (-3 * MINUTE, -MINUTE, MINUTE, 3 * MINUTE, 2 * DAY, -2 * DAY)
STEPS: Final = sorted({step.name for rule in CASES.values() for step in (*rule.steps, *rule.beside)})
AUTHORS: Final = (
    *(Edit("applicant-1", "Agency"), Edit("applicant-2"), Edit("p-1"), Edit("p-3"), Edit("p-5"), Edit(OWN)),
    *(Edit("p-99", "RA"), Edit("p-99", "ACQUIRER")),
)

OTHERS: Final = (*(Reevaluate(), Collect(), Denounce(), Supersede(), Supersede(HOUR), Supersede(7 * DAY)),)

hands = st.sampled_from(sorted(HANDS))
variations: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.sampled_from(AWAY).map(lambda away: {"dated": away}),
    st.sampled_from(AWAY).map(lambda away: {"signed": away}),
    st.sampled_from(AWAY).map(lambda away: {"dated": away, "signed": away}),
    st.sampled_from((MINUTE, HOUR, DAY)).map(lambda lasts: {"lasts": lasts}),
    st.sampled_from(("tampered", "tampered", "renamed", "order", "denial")).map(lambda form: {"form": form}),
    *map(st.just, ({"reject": True}, {"reject": True, "listed": False}, {"elsewhere": True}, {"times": 2})),
)
RELEVANT: Final = {
    (kind, step.name): [
        name
        for name, hand in sorted(HANDS.items())
        if step.by in hand.roles or any(step.by == grant.role for grant in hand.grants)
    ]
    for kind, rule in CASES.items()
    for step in (*rule.steps, *rule.beside)
}
"""The hands that have the role of a step, in whatever way."""
OF_ONE_PERSON: Final = {
    name: [other for other, its in sorted(HANDS.items()) if its.person == hand.person] for name, hand in HANDS.items()
}


@st.composite
def histories(draw: st.DrawFn, kind: Kind, right: History) -> tuple[History, bool]:
    """The right history with one to five things done to it, and whether its statements are handed over backwards."""
    steps = [step.name for step in (*CASES[kind].steps, *CASES[kind].beside)]
    history = list(right)
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 2, 3, 4, 5)))):
        place = draw(st.integers(0, len(history)))
        at = history[place] if place < len(history) else Wait()
        signed = [each for each in history if isinstance(each, Sign)] or [Sign("king", steps[0])]
        match draw(st.integers(0, 15)):
            case 0 if place < len(history):
                del history[place]
            case 1 if place + 1 < len(history):
                history[place : place + 2] = reversed(history[place : place + 2])
            case 2 | 3 | 4 | 5 if isinstance(at, Sign):
                history[place] = replace(at, hand=draw(st.sampled_from(RELEVANT.get((kind, at.step), ["king"]))))
            case 6 | 7 if isinstance(at, Sign):
                history[place] = replace(at, **draw(variations))
            case 8 if isinstance(at, Sign):
                history[place] = replace(at, hand=draw(hands), step=draw(st.sampled_from(STEPS)))
            case 9:  # the same statement once more, or one by the same hand
                history.append(draw(st.sampled_from(signed)))
            case 10 | 11:
                hand = draw(st.sampled_from(OF_ONE_PERSON[draw(st.sampled_from(signed)).hand]))
                history.insert(place, Sign(hand, draw(st.sampled_from(steps))))
            case 12:
                history.insert(place, Revoke(draw(st.one_of(hands, st.sampled_from([each.hand for each in signed])))))
            case 13:
                history.insert(place, Wait(draw(st.sampled_from(TIMES))))
            case 14:
                history.insert(place, draw(st.sampled_from(AUTHORS)))
            case _:
                history.insert(place, draw(st.sampled_from(OTHERS)))
    return tuple(history), draw(st.integers(0, 9)) == 0


@pytest.fixture(scope="module")
def world() -> DutiesWorld:
    return DutiesWorld()


def check(played: Played) -> None:
    """What `decide` says of the case is what the sentences say, approvals and all."""
    verdict, expected = played.verdict(), judged(played.case)
    counted = tuple((given.step, _hand(played, given.decision)) for given in verdict.approvals)
    assert (verdict.status.name, counted) == (expected.standing, expected.counted)
    assert verdict.approved == (verdict.not_after is not None)
    assert (verdict.next_step is None) or verdict.status is Status.PENDING
    assert all(finding.clause.startswith("CPS ") for finding in verdict.findings)


def _hand(played: Played, decision: int) -> str:
    return played.case.votes[decision].hand


quietly = settings(deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", RIGHT)
def test_no_history_gets_around_the_separation_of_duties_and_none_is_refused_for_nothing(
    world: DutiesWorld, name: str
) -> None:
    kind, right = RIGHT[name]
    assert world.play(kind, right).verdict().approved

    @settings(quietly, max_examples=EXAMPLES)
    @given(histories(kind, right))
    def holds(told: tuple[History, bool]) -> None:
        history, backwards = told
        check(world.play(kind, history, backwards=backwards))

    holds()


@pytest.mark.parametrize("name", RIGHT)
def test_what_was_approved_stays_so_whatever_is_handed_in_later_but_a_rejection(world: DutiesWorld, name: str) -> None:
    """Nobody takes back what the right hands approved, but who may decide may still say no."""
    kind, right = RIGHT[name]
    noise = st.lists(
        st.builds(Sign, hands, st.sampled_from(STEPS), st.integers(0, 19).map(lambda n: n == 0)), max_size=4
    )

    @settings(quietly, max_examples=EXAMPLES // 3)
    @given(noise)
    def holds(later: list[Sign]) -> None:
        verdict = world.play(kind, (*right, Wait(), *later)).verdict()
        if any(sign.reject for sign in later):
            assert verdict.status in {Status.APPROVED, Status.REFUSED}
        else:
            assert verdict.approved

    holds()


@pytest.mark.parametrize("name", RIGHT)
def test_no_decision_can_be_left_out(world: DutiesWorld, name: str) -> None:
    kind, right = RIGHT[name]
    edited = max((place for place, event in enumerate(right) if isinstance(event, Edit)), default=-1)
    for place, event in enumerate(right):
        if isinstance(event, Sign) and place > edited:
            assert not world.play(kind, (*right[:place], *right[place + 1 :])).verdict().approved


# -- each guard is needed ----------------------------------------------------------------------------------------------

Fault = Callable[[pytest.MonkeyPatch], None]


def _unless(patched: pytest.MonkeyPatch, of: Any, name: str, made: Callable[[Any], Any]) -> None:
    patched.setattr(of, name, made(getattr(of, name)))


def _one_is_enough(patched: pytest.MonkeyPatch) -> None:
    def open_step(ballot: Any) -> Any:
        given = {approval.step for approval in ballot.approvals}
        return next(((step, 1) for step in ballot.steps if step.name not in given), None)

    patched.setattr(cps.decide._Ballot, "open_step", open_step)


def _after_each_vote(do: Callable[[Any, Any, int], None]) -> Fault:
    """A fault that does something to the ballot after each vote; it is told how many approvals there were before."""

    def fault(patched: pytest.MonkeyPatch) -> None:
        def made(take: Any) -> Any:
            def taken(ballot: Any, vote: Any, found: Any) -> None:
                before = len(ballot.approvals)
                take(ballot, vote, found)
                do(ballot, vote, before)

            return taken

        _unless(patched, cps.decide, "_take", made)

    return fault


def _forget_rejections(ballot: Any, _vote: Any, _before: int) -> None:
    ballot.rejected = False


def _forget_acts(ballot: Any, _vote: Any, _before: int) -> None:
    ballot.acts.clear()


def _forget_what_did_not_count(ballot: Any, vote: Any, before: int) -> None:
    if len(ballot.approvals) == before and not ballot.rejected:
        ballot.acts.pop(vote.signatory.person, None)


def _forget_older_revisions(ballot: Any, vote: Any, _before: int) -> None:
    if vote.decision.revision_digest != ballot.dossier.revision.digest:
        ballot.acts.pop(vote.signatory.person, None)


def _any_statement(patched: pytest.MonkeyPatch) -> None:
    def parse(der: bytes, *, content_type: Any) -> Any:
        try:
            return parse_signed_data(der, content_type=CT_DECISION)
        except CmsError:
            return parse_signed_data(der, content_type=CT_REVOCATION)

    patched.setattr(cps.signatory, "parse_signed_data", parse)


def _certificates_for_persons(patched: pytest.MonkeyPatch) -> None:
    def made(identify: Any) -> Any:
        def identified(*arguments: Any, **named: Any) -> Signatory:
            found: Signatory = identify(*arguments, **named)
            return replace(found, person=f"{found.person}/{found.certificate.serial_number}")

        return identified

    _unless(patched, cps.decide, "identify", made)


def _set(of: Any, name: str, value: Any) -> Fault:
    return lambda patched: patched.setattr(of, name, value)


def _without_authors(revision: Any) -> set[str]:
    named = set() if revision.subject.member_class == "cardholder" else {revision.subject.organisation}
    return {" ".join(name.casefold().split()) for name in named}


def _without_the_subject(revision: Any) -> set[str]:
    return {" ".join(author.organisation.casefold().split()) for author in revision.authors if author.organisation}


def _at_signing(signatory: Any, pack: Any, _now: Any) -> Any:
    return pack.exclusive_roles(signatory.held(signatory.signed_at))


def _now_alone(signatory: Any, pack: Any, now: Any) -> Any:
    return pack.exclusive_roles(signatory.held(now))


def _by_place(votes: Any) -> Any:
    return lambda *arguments: sorted(votes(*arguments), key=lambda vote: vote.index)


FAULTS: Final[dict[str, Fault]] = {
    "one approval is enough": _one_is_enough,
    "rejections are forgotten": _after_each_vote(_forget_rejections),
    "what was done earlier is forgotten": _after_each_vote(_forget_acts),
    "what did not count is forgotten": _after_each_vote(_forget_what_did_not_count),
    "what was done over older revisions is forgotten": _after_each_vote(_forget_older_revisions),
    "signatures are not verified": _set(cps.signatory, "verify_signature", lambda _signed: None),
    "statements of any kind are decisions": _any_statement,
    "certificates of anybody are believed": _set(cps.signatory, "validate_path", lambda *_a, **_n: None),
    "a person is a certificate": _certificates_for_persons,
    "the scope of a role is ignored": _set(RoleGrant, "covers", lambda _grant, _member_class: True),
    "delegation chains": _set(Matter, "case_of", lambda member_class, _pack: Matter(member_class)),
    "delegation does not end": _set(Signatory, "acts_as", lambda signatory, by, on, _now: signatory.acted_as(by, on)),
    "a role may come after the signature": _set(
        Signatory, "acts_as", lambda signatory, by, on, now: signatory._on(by, on, now)
    ),
    "exclusive roles of now are ignored": _set(Signatory, "exclusive", _at_signing),
    "exclusive roles of then are ignored": _set(Signatory, "exclusive", _now_alone),
    "the employer of an author is ignored": _set(cps.decide, "_organisations", _without_authors),
    "the organisation of the subject is ignored": _set(cps.decide, "_organisations", _without_the_subject),
    "organisations are compared letter by letter": _set(cps.decide, "_fold", lambda organisation: organisation),
    "a step never lapses": _set(cps.decide, "_lapses_at", lambda decision, _step: decision.expires),
    "evidence is not looked at": _set(cps.decide, "check_evidence", lambda *_a, **_n: None),
    "the application is not looked at": _set(cps.decide, "check_application", lambda *_a, **_n: None),
    "a chain of re-keys never ends": _set(cps.decide, "check_rekey", lambda *_a: None),
    "a superseded statement goes on": _set(PackRegister, "governing", lambda register, pin, _now: register.find(pin)),
    "decisions are taken as they are handed over": lambda patched: _unless(patched, cps.decide, "_votes", _by_place),
}
OF_SIGNATURES: Final = {
    *("signatures are not verified", "statements of any kind are decisions", "certificates of anybody are believed"),
}
GUARDS: Final[list[Guard]] = guards_of(
    cps.decide._objection,
    cps.decide._about_this_case,
    cps.decide._for_a_reason,
    cps.decide._in_time,
    cps.decide._by_right,
    cps.decide._separation_of_duties,
    cps.decide._in_turn,
)


@pytest.fixture(scope="module")
def searched(world: DutiesWorld) -> list[Played]:
    """Histories of all kinds, the same in each run, about which `decide` says what it should."""
    with pytest.MonkeyPatch.context() as patched:
        remember_what_is_verified(patched)
        telling = [world.play(kind, history) for kind, history in TELLING]
        for played in telling:
            check(played)
        return telling + [played for kind, right in RIGHT.values() for played in _histories_of(world, kind, right)]


def _histories_of(world: DutiesWorld, kind: Kind, right: History) -> list[Played]:
    found: list[Played] = []

    @settings(quietly, max_examples=SEARCHED, phases=[Phase.generate], derandomize=True, database=None)
    @given(histories(kind, right))
    def collect(told: tuple[History, bool]) -> None:
        played = world.play(kind, told[0], backwards=told[1])
        check(played)
        found.append(played)

    collect()
    return found


def shows(searched: Sequence[Played], world: DutiesWorld) -> bool:
    """Whether `decide` as it is now says anything else than the sentences about one of these, or one of some more."""
    return any(map(differs, searched)) or _found_among_more(world)


def differs(played: Played) -> bool:
    """Whether `decide` says anything else about the case than what the sentences say."""
    try:
        check(played)
    except Exception:  # a guard that is missing may also leave something undefined
        return True
    return False


def _found_among_more(world: DutiesWorld) -> bool:
    @settings(quietly, max_examples=MORE, phases=[Phase.generate], derandomize=True, database=None)
    @given(st.sampled_from(sorted(RIGHT)).flatmap(lambda name: st.tuples(st.just(name), histories(*RIGHT[name]))))
    def same(told: tuple[str, tuple[History, bool]]) -> None:
        name, (history, backwards) = told
        assert not differs(world.play(RIGHT[name][0], history, backwards=backwards))

    try:
        same()
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize("guard", GUARDS, ids=str)
def test_without_any_one_of_its_guards_decide_would_be_caught(
    searched: list[Played], world: DutiesWorld, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember_what_is_verified(monkeypatch)
    assert not any(map(differs, searched[:20]))
    guard.take_out(monkeypatch)
    assert shows(searched, world)


@pytest.mark.parametrize("fault", FAULTS)
def test_with_any_one_of_these_faults_decide_would_be_caught(
    searched: list[Played], world: DutiesWorld, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault not in OF_SIGNATURES:
        remember_what_is_verified(monkeypatch)
    FAULTS[fault](monkeypatch)
    assert shows(searched, world)


def test_every_guard_of_decide_was_found() -> None:
    """A rule that `decide` refuses a decision by is one of those that are taken out above."""
    assert {guard.rule for guard in GUARDS} == {
        *("DEC_STEP", "DEC_FORM", "DEC_STALE", "DEC_EVIDENCE", "DEC_TIME", "DEC_EXPIRED", "DEC_CREDENTIAL", "DEC_ROLE"),
        *(
            "DEC_CODE",
            "SOD_EXCLUSIVE",
            "SOD_OWN",
            "SOD_AUTHOR",
            "SOD_ORGANISATION",
            "SOD_STEP",
            "SOD_PERSON",
            "DEC_ORDER",
        ),
    }
