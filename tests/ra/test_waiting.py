"""Who a case waits for: whatever its state, somebody who can bring it on, and the queue shows it to them."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest

from cps.decide import decide
from cps.decision import Choice
from cps.dossier import Dossier
from cps.verdict import Status, Verdict
from ra.access import VOUCHING
from ra.queue import Wanted
from ra.states import State
from ra.waiting import EVIDENCE, waits_for
from ra.workflow import NewEvidence
from tests.support.cps_cases import Office
from tests.support.pki_factory import p256
from tests.support.ra_world import RaWorld, officer

STEPS = {"merchant": ("vet", "approve"), "gateway": ("vet", "approve", "approve", "release"), "cardholder": ("auto",)}
CASES = [
    (member, decisions, lacks, rejected)
    for member, steps in STEPS.items()
    for decisions, lacks, rejected in product(range(len(steps) + 1), ("nothing", "all", "age"), (False, True))
    if not (rejected and decisions == 0)
]


def case(office: Office, member: str, decisions: int, lacks: str, rejected: bool) -> Dossier:
    """A case after so many decisions, the last of which may be a rejection, over evidence that may lack or be old."""
    made = {"merchant": office.merchant_case, "gateway": office.gateway_case, "cardholder": office.cardholder_case}
    dossier = made[member]()
    if lacks == "all":
        dossier = dossier.model_copy(update={"evidence": ()})
    deciding = {
        "vet": [office.vetter],
        "approve": [office.approver, office.approver_2],
        "release": [office.security],
        "auto": [office.ra],
    }
    for number, step in enumerate(STEPS[member][:decisions], 1):
        choice = Choice.REJECT if rejected and number == decisions else Choice.APPROVE
        changes = {"choice": choice, "reason": "not so"} if choice is Choice.REJECT else {}
        dossier = office.decided(dossier, step, deciding[step].pop(0), **changes)
    return dossier


def judged(office: Office, dossier: Dossier, lacks: str) -> Verdict:
    """By a statement in which evidence is too old at once, if its age is what lacks."""
    pack = office.pack
    if lacks == "age":
        classes = {
            name: member.model_copy(
                update={
                    "evidence": tuple(
                        rule.model_copy(update={"max_age": timedelta(seconds=-1)}) for rule in member.evidence
                    )
                }
            )
            for name, member in pack.classes.items()
        }
        pack = pack.model_copy(update={"classes": classes})
    return decide(dossier, pack, trust=office.pki.trust(), now=office.now)


@pytest.mark.parametrize(("member", "decisions", "lacks", "rejected"), CASES)
def test_whatever_is_decided_and_whatever_lacks_a_pending_case_waits_for_who_can_bring_it_on(
    office: Office, member: str, decisions: int, lacks: str, rejected: bool
) -> None:
    verdict = judged(office, case(office, member, decisions, lacks, rejected), lacks)
    waits = waits_for(verdict)
    assert bool(verdict.lacking) is (lacks != "nothing")
    assert (waits is not None) is (verdict.status is Status.PENDING)
    if waits is None:
        assert rejected or (decisions == len(STEPS[member]) and lacks == "nothing")
    elif lacks == "nothing":
        assert waits == verdict.next_step
    else:
        assert set(VOUCHING) <= set(waits.by)
        assert waits.name in ("vet", EVIDENCE)


def mine(world: RaWorld) -> dict[str, set[str]]:
    """The cases that each officer's page shows as theirs."""
    office = world.office
    people = {"vetter": office.vetter, "approver": office.approver, "security": office.security}
    return {
        name: {
            identifier
            for identifier, _place in world.store.queue.page(Wanted(held=officer(credential).holds_for), limit=50)
        }
        for name, credential in people.items()
    }


def test_a_case_without_its_evidence_is_on_the_page_of_who_brings_it_until_it_came(world: RaWorld) -> None:
    application = world.open_merchant(documents=("company_register", "iban_owner"))
    for step, by in (("vet", world.office.vetter), ("approve", world.office.approver)):
        decided = world.decide(application.id, step, by)
        assert (decided.state, decided.step, decided.missing) == (State.AWAITING_APPROVAL, EVIDENCE, 1)
        assert mine(world) == {"vetter": {application.id}, "approver": set(), "security": set()}
    (waiting,) = world.store.statistics(world.now).waiting
    assert (waiting.step, waiting.roles, waiting.cases) == (EVIDENCE, VOUCHING, 1)
    after = world.add_document(application.id, "acquirer_agreement")
    assert (after.state, after.step) == (State.VETTING, "vet")


def test_a_case_whose_evidence_ages_while_it_waits_goes_to_who_brings_it(world: RaWorld) -> None:
    application = world.open_merchant(documents=("company_register", "iban_owner"))
    agreement = NewEvidence("acquirer_agreement", b"an agreement", "mail", world.now + timedelta(hours=1))
    world.workflow.add_evidence(officer(world.office.vetter), application.id, agreement)
    world.decide(application.id, "vet", world.office.vetter)
    assert mine(world) == {"vetter": set(), "approver": {application.id}, "security": set()}
    world.clock.forward(timedelta(hours=1))
    world.workflow.sweep()
    assert mine(world) == {"vetter": {application.id}, "approver": set(), "security": set()}
    after = world.store.application(application.id)
    assert (after.state, after.step) == (State.AWAITING_APPROVAL, EVIDENCE)


def test_what_time_mended_goes_on_by_itself_after_a_restart(world: RaWorld) -> None:
    """The bank's clock is ahead: its word does not count yet, and nobody brings another."""
    key = p256()
    application = world.open_cardholder(key=key, confirmed=False)
    waiting = world.confirm(application.id, key, date=world.now + timedelta(minutes=3))
    assert (waiting.step, waiting.waiting_for) == (EVIDENCE, VOUCHING[0])
    world.clock.forward(timedelta(minutes=2))
    assert world.workflow.resume() == 1
    assert world.store.application(application.id).state is State.ISSUED


def test_a_card_without_its_banks_word_waits_for_a_person_and_goes_on_by_itself_when_it_came(world: RaWorld) -> None:
    key = p256()
    application = world.open_cardholder(key=key, confirmed=False)
    assert (application.state, application.step, application.waiting_for) == (State.VETTING, EVIDENCE, VOUCHING[0])
    assert mine(world)["vetter"] == {application.id}
    confirmed = world.confirm(application.id, key)
    assert (confirmed.state, confirmed.step) == (State.ISSUED, None)
    assert mine(world)["vetter"] == set()
