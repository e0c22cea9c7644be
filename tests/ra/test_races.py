"""Two that read the same case and then act: each is counted, or told; never both where one excludes the other.

Every pair is brought to the same point: both have read the case and judged it before either may write.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from audit import read
from cps.model import load_pack
from cps.register import PackRegister
from cps.rekey_statement import build_rekey
from pki import cms_signed
from pki.keys import spki_sha256
from pki.oids import CT_REKEY
from ra.errors import ConflictError, RaError, RefusedError, WrongStateError
from ra.records import Application
from ra.states import Action, State
from ra.store import Store
from ra.submission import Submission
from ra.workflow import NewEvidence
from tests.cps.test_model import TEXT
from tests.support.cps_cases import DAY, Office, csr
from tests.support.databases import DATABASES, ra_database
from tests.support.pki_factory import Key, p256
from tests.support.ra_world import OPERATOR, RaWorld, merchant_subject, officer

Act = Callable[[], object]


@pytest.fixture(params=DATABASES)
def world(request: pytest.FixtureRequest, tmp_path: Path, office: Office) -> Iterator[RaWorld]:
    made = RaWorld(tmp_path, office, database=ra_database(request.param, tmp_path / "db"))
    yield made
    made.close()


def both(world: RaWorld, monkeypatch: pytest.MonkeyPatch, one: Act, other: Act) -> list[RaError]:
    """Do both at once, neither writing before the other has read; what those who did not win are told."""
    met = threading.Barrier(2)
    waited = threading.local()
    change = Store.change

    def after_meeting(store: Store, *arguments: Any, **named: Any) -> Application:
        if not getattr(waited, "once", False):
            waited.once = True
            met.wait(timeout=30)
        return change(store, *arguments, **named)

    told: list[RaError] = []
    broken: list[BaseException] = []

    def do(act: Act) -> None:
        try:
            act()
        except RaError as error:
            told.append(error)
        except BaseException as error:  # told below, in the thread of the test
            broken.append(error)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "change", after_meeting)
        threads = [threading.Thread(target=do, args=[act]) for act in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert broken == []
    assert {type(each) for each in told} <= {ConflictError, WrongStateError, RefusedError}
    return told


def once_in_the_journal(world: RaWorld, case: Application) -> None:
    keys = [str(each.entry.get("key")) for each in read(world.journal)]
    wanted = [f"transition/{each.seq}" for each in world.store.transitions(case.id)]
    assert [keys.count(key) for key in wanted] == [1] * len(wanted)


def actions(world: RaWorld, case: Application) -> list[Action]:
    return [each.action for each in world.store.transitions(case.id)]


def vetted(world: RaWorld) -> Application:
    return world.decide(world.open_merchant().id, "vet", world.office.vetter)


def test_two_that_approve_one_step_at_once_are_two_or_one_is_told(
    world: RaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = world.office
    case = world.open_gateway()
    case = world.decide(case.id, "vet", office.vetter)
    signed = [world.sign(case.id, "approve", by) for by in (office.approver, office.approver_2)]
    told = both(
        world,
        monkeypatch,
        lambda: world.workflow.decide(OPERATOR, case.id, signed[0]),
        lambda: world.workflow.decide(OPERATOR, case.id, signed[1]),
    )
    assert [type(each) for each in told] == [ConflictError]
    assert len(world.store.decisions(case.id)) == 2
    for each in signed:  # whoever was told hands it in again, whoever was not changes nothing
        after = world.workflow.decide(OPERATOR, case.id, each)
    assert (after.step, len(world.store.decisions(case.id))) == ("release", 3)
    once_in_the_journal(world, case)


RIVALS: dict[str, Callable[[RaWorld, Application], Act]] = {
    "amend": lambda world, case: (
        lambda: world.workflow.amend(OPERATOR, case.id, Submission(merchant_subject(), {"signing": csr(p256())}))
    ),
    "evidence": lambda world, case: lambda: world.add_document(case.id, "acquirer_agreement"),
    "hold": lambda world, case: lambda: world.workflow.hold(officer(world.office.vetter), case.id, "wait"),
    "expiry": lambda world, case: lambda: world.workflow.desk.expire(world.store.application(case.id)),
    "another statement": lambda world, case: (
        lambda: world.workflow._intake.reevaluate(world.store.application(case.id))
    ),
}


@pytest.mark.parametrize("rival", RIVALS)
def test_the_last_decision_and_a_rival_never_both_happen(
    world: RaWorld, rival: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A case that was changed at the same moment is not certified by a decision over what it was before."""
    case = vetted(world)
    signed = world.sign(case.id, "approve", world.office.approver)
    if rival == "another statement":
        later = TEXT.replace("version: 1.0.0", "version: 1.1.0").replace("cps:1.0.0", "cps:1.1.0")
        pack = load_pack(later.replace("effective: 2026-01-01T00:00:00Z", f"effective: {world.now:%Y-%m-%dT%H:%M:%SZ}"))
        world.register = world.register.with_pack(pack)
        # The decision was judged by the statement before: it came into force between the judgement and the writing.
        judge = world.workflow.desk.pack_of
        old = PackRegister((world.office.pack,))
        monkeypatch.setattr(
            world.workflow.desk,
            "pack_of",
            lambda revision: world.office.pack if old.find(revision.cps) else judge(revision),
        )
    told = both(
        world, monkeypatch, lambda: world.workflow.decide(OPERATOR, case.id, signed), RIVALS[rival](world, case)
    )
    assert len(told) == 1
    done = actions(world, case)
    after = world.store.application(case.id)
    certified = [Action.DECIDE, Action.ISSUE, Action.STORE]
    if done[-3:] == certified:
        assert (after.state, len(world.store.certificates(case.id))) == (State.ISSUED, 1)
    else:
        assert Action.ISSUE not in done
        assert after.state in {State.VETTING, State.ON_HOLD, State.EXPIRED}
        assert world.store.certificates(case.id) == []
    once_in_the_journal(world, case)


def test_of_two_submissions_of_one_subject_one_comes_in(world: RaWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    drafts = [world.workflow.open(OPERATOR, "merchant") for _ in range(2)]
    submissions = [Submission(merchant_subject(), {"signing": csr(p256())}) for _ in drafts]
    told = both(
        world,
        monkeypatch,
        lambda: world.workflow.submit(OPERATOR, drafts[0].id, submissions[0]),
        lambda: world.workflow.submit(OPERATOR, drafts[1].id, submissions[1]),
    )
    assert [type(each) for each in told] == [ConflictError]
    assert sorted(world.store.application(each.id).state for each in drafts) == [State.DRAFT, State.VETTING]


def test_of_two_rekeys_of_one_certificate_one_comes_in(world: RaWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    key = p256()
    old = world.certified_merchant(key=key)
    drafts = [rekey(world, old, key) for _ in range(2)]
    told = both(
        world,
        monkeypatch,
        lambda: world.workflow.submit(OPERATOR, drafts[0][0].id, drafts[0][1]),
        lambda: world.workflow.submit(OPERATOR, drafts[1][0].id, drafts[1][1]),
    )
    assert [type(each) for each in told] == [ConflictError]
    states = {each.id: world.store.application(each.id).state for each, _submission in drafts}
    assert sorted(states.values()) == [State.DRAFT, State.VETTING]
    [(left, submission)] = [each for each in drafts if states[each[0].id] is State.DRAFT]
    assert world.workflow.submit(OPERATOR, left.id, submission).state is State.RETURNED  # APP-DUPLICATE


def rekey(world: RaWorld, old: Application, key: Key) -> tuple[Application, Submission]:
    """A draft of a re-key with the proof of the old key on file, and what is to be submitted."""
    [issued] = world.store.certificates(old.id)
    certificate, new = x509.load_der_x509_certificate(issued.der), p256()
    draft = world.workflow.open(OPERATOR, "merchant", replaces=old.id)
    body = cms_signed.sign(
        CT_REKEY,
        build_rekey(draft.id, certificate, [spki_sha256(new.public_key())], world.now),
        key=key,
        signer=certificate,
        chain=[x509.load_der_x509_certificate(der) for der in issued.chain],
        signing_time=world.now,
    )
    world.workflow.add_evidence(OPERATOR, draft.id, NewEvidence(kind="old_key", body=body, source="holder"))
    return draft, Submission({}, {"signing": csr(new)})


# -- the clock ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def alone(tmp_path: Path, office: Office) -> Iterator[RaWorld]:
    """A world whose lists are fresh however far the clock goes."""
    made = RaWorld(tmp_path, office)
    made.trust_source = lambda: office.pki.trust(made.now)
    begun = made.now
    yield made
    made.clock.now = begun
    made.close()


def test_a_clock_that_jumps_and_comes_back_does_nothing_twice(alone: RaWorld) -> None:
    case = alone.open_merchant()
    alone.clock.forward(4 * DAY)  # past both marks of deciding
    alone.workflow.sweep()
    reminded = actions(alone, case).count(Action.WARN)
    assert reminded == 1
    for back, forward in ((4, 4), (3, 3), (4, 4)):
        alone.clock.forward(-back * DAY)
        assert alone.workflow.sweep() == 0
        alone.clock.forward(forward * DAY)
        assert alone.workflow.sweep() == 0
    assert actions(alone, case).count(Action.WARN) == reminded
    alone.clock.forward(90 * DAY)
    assert alone.workflow.sweep() == 1
    assert alone.store.application(case.id).state is State.EXPIRED
    alone.clock.forward(-94 * DAY)
    assert alone.workflow.sweep() == 0
    alone.clock.forward(94 * DAY)
    assert alone.workflow.sweep() == 0
    assert actions(alone, case).count(Action.EXPIRE) == 1
    once_in_the_journal(alone, case)


def test_a_clock_that_went_back_revokes_nothing_early(alone: RaWorld) -> None:
    case = alone.certified_merchant()
    alone.clock.forward(-6 * DAY)
    assert alone.workflow.sweep() == 0
    alone.clock.forward(6 * DAY)
    assert alone.workflow.sweep() == 0
    assert alone.store.application(case.id).state is State.ISSUED


def test_what_was_accepted_is_never_revoked_by_a_clock_that_jumps(alone: RaWorld) -> None:
    case = alone.certified_merchant()
    alone.workflow.accept(OPERATOR, case.id)
    for months in (1, 6, -5):
        alone.clock.forward(months * 30 * DAY)
        assert alone.workflow.sweep() == 0
    assert alone.store.application(case.id).state is State.ACTIVE


def test_a_decision_of_a_clock_that_was_ahead_counts_when_its_time_is_there(alone: RaWorld) -> None:
    """The case waits where it was: what was signed in the future is not counted before it, and not lost."""
    case = alone.open_merchant()
    alone.decide(case.id, "vet", alone.office.vetter)
    alone.clock.forward(-DAY)
    ahead = alone.workflow.judge(alone.workflow.dossier(alone.store.application(case.id)))
    assert ahead.approvals == ()
    assert alone.workflow.sweep() == 0
    alone.clock.forward(DAY)
    assert alone.decide(case.id, "approve", alone.office.approver).state is State.ISSUED
