"""Re-key: the next certificate for whoever proves the old key, by the steps that the CPS lists for it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from cps.model import load_pack
from cps.rekey_statement import build_rekey
from cps.rules import Rule
from pki import cms_signed
from pki.extensions import IdentityChecked
from pki.keys import spki_sha256
from pki.oids import CT_REKEY
from ra.access import Actor
from ra.errors import InvalidSubmissionError, NotAllowedError, RefusedError, UnknownError
from ra.records import Application
from ra.states import State
from ra.submission import Submission
from ra.workflow import NewEvidence
from tests.cps.test_model import TEXT
from tests.support.cps_cases import Office, csr
from tests.support.pki_factory import Key, p256
from tests.support.ra_world import OPERATOR, RaWorld, merchant_subject


@pytest.fixture
def key() -> Key:
    return p256()


@pytest.fixture
def old(world: RaWorld, key: Key) -> Application:
    return world.certified_merchant(key=key)


def proof(world: RaWorld, old: Application, key: Key, application: Application, *new: Key) -> NewEvidence:
    """A proof of the old signing key for the new keys, as evidence."""
    issued = next(each for each in world.store.certificates(old.id) if each.purpose == "signing")
    certificate = x509.load_der_x509_certificate(issued.der)
    body = cms_signed.sign(
        CT_REKEY,
        build_rekey(application.id, certificate, [spki_sha256(each.public_key()) for each in new], world.now),
        key=key,
        signer=certificate,
        chain=[x509.load_der_x509_certificate(der) for der in issued.chain],
        signing_time=world.now,
    )
    return NewEvidence(kind="old_key", body=body, source="holder")


def rekeyed(world: RaWorld, old: Application, key: Key) -> Application:
    new = p256()
    draft = world.workflow.open(OPERATOR, "merchant", replaces=old.id)
    world.workflow.add_evidence(OPERATOR, draft.id, proof(world, old, key, draft, new))
    return world.workflow.submit(OPERATOR, draft.id, Submission({}, {"signing": csr(new)}))


def test_one_officer_decides_on_a_rekey(world: RaWorld, old: Application, key: Key) -> None:
    application = rekeyed(world, old, key)
    assert (application.state, application.step, application.replaces) == (State.VETTING, "approve", old.id)
    assert application.subject_id == old.subject_id
    issued = world.decide(application.id, "approve", world.office.approver)
    assert issued.state is State.ISSUED
    before, after = (x509.load_der_x509_certificate(world.store.certificates(each.id)[0].der) for each in (old, issued))
    assert before.subject == after.subject
    assert before.public_key() != after.public_key()


def test_a_certificate_is_rekeyed_again_and_again(world: RaWorld, old: Application, key: Key) -> None:
    second = p256()
    draft = world.workflow.open(OPERATOR, "merchant", replaces=old.id)
    world.workflow.add_evidence(OPERATOR, draft.id, proof(world, old, key, draft, second))
    world.workflow.submit(OPERATOR, draft.id, Submission({}, {"signing": csr(second)}))
    issued = world.decide(draft.id, "approve", world.office.approver)
    third = rekeyed(world, issued, second)
    last = world.decide(third.id, "approve", world.office.approver)
    assert last.state is State.ISSUED
    certificates = [x509.load_der_x509_certificate(world.store.certificates(each.id)[0].der) for each in (old, last)]
    assert IdentityChecked.from_certificate(certificates[0]) is None
    assert IdentityChecked.from_certificate(certificates[1]) == IdentityChecked(certificates[0].not_valid_before_utc)


def test_without_proof_the_officer_finds_what_is_missing(world: RaWorld, old: Application) -> None:
    draft = world.workflow.open(OPERATOR, "merchant", replaces=old.id)
    application = world.workflow.submit(OPERATOR, draft.id, Submission({}, {"signing": csr(p256())}))
    decided = world.decide(application.id, "approve", world.office.approver)
    assert decided.state is State.AWAITING_APPROVAL
    verdict = world.workflow.judge(world.workflow.dossier(decided))
    assert [each.code for each in verdict.findings] == [Rule.EVID_MISSING]


def test_a_proof_with_another_key_is_none(world: RaWorld, old: Application) -> None:
    stranger = p256()
    other = world.certified_merchant(key=stranger, merchant_id="M-2")
    new = p256()
    draft = world.workflow.open(OPERATOR, "merchant", replaces=old.id)
    world.workflow.add_evidence(OPERATOR, draft.id, proof(world, other, stranger, draft, new))
    application = world.workflow.submit(OPERATOR, draft.id, Submission({}, {"signing": csr(new)}))
    assert world.decide(application.id, "approve", world.office.approver).state is State.AWAITING_APPROVAL


def test_the_subject_is_taken_over_and_not_given(world: RaWorld, old: Application) -> None:
    draft = world.workflow.open(OPERATOR, "merchant", replaces=old.id)
    with pytest.raises(InvalidSubmissionError, match="takes over the subject"):
        world.workflow.submit(OPERATOR, draft.id, Submission(merchant_subject(), {"signing": csr(p256())}))
    assert world.store.application(draft.id).state is State.DRAFT


def test_a_certificate_that_the_old_case_has_not_is_no_rekey(world: RaWorld, old: Application, key: Key) -> None:
    new, tls = p256(), p256()
    draft = world.workflow.open(OPERATOR, "merchant", replaces=old.id)
    world.workflow.add_evidence(OPERATOR, draft.id, proof(world, old, key, draft, new, tls))
    application = world.workflow.submit(OPERATOR, draft.id, Submission({}, {"signing": csr(new), "tls": csr(tls)}))
    assert application.state is State.RETURNED
    assert "REKEY-PROOF" in str(application.trouble)


def test_only_who_opened_the_old_case_opens_the_next(world: RaWorld, old: Application) -> None:
    with pytest.raises(NotAllowedError):
        world.workflow.open(Actor("merchant:M-9"), "merchant", replaces=old.id)
    with pytest.raises(UnknownError):
        world.workflow.open(OPERATOR, "merchant", replaces="0" * 32)


@pytest.mark.parametrize("member_class", ["gateway", "officer"])
def test_a_case_is_replaced_by_one_of_its_class(world: RaWorld, old: Application, member_class: Any) -> None:
    with pytest.raises(InvalidSubmissionError, match="apply anew"):
        world.workflow.open(OPERATOR, member_class, replaces=old.id)


def test_what_was_never_certified_is_not_replaced(world: RaWorld) -> None:
    application = world.open_merchant()
    with pytest.raises(InvalidSubmissionError, match="no certificates in force"):
        world.workflow.open(OPERATOR, "merchant", replaces=application.id)


def test_a_case_whose_certificate_was_revoked_meanwhile_is_not_replaced(
    world: RaWorld, old: Application, key: Key
) -> None:
    application = rekeyed(world, old, key)
    (issued,) = world.store.certificates(old.id)
    certificate = x509.load_der_x509_certificate(issued.der)
    world.workflow.revoke(OPERATOR, world.office.revocation(certificate, world.office.vetter, date=world.now))
    decided = world.decide(application.id, "approve", world.office.approver)
    assert decided.state is State.AWAITING_APPROVAL
    with pytest.raises(InvalidSubmissionError, match="no certificates in force"):
        world.workflow.amend(OPERATOR, application.id, Submission({}, {"signing": csr(p256())}))


def test_a_rejected_rekey_says_so(world: RaWorld, old: Application, key: Key) -> None:
    application = rekeyed(world, old, key)
    assert world.reject(application.id, "approve", world.office.approver).state is State.REJECTED
    with pytest.raises(RefusedError):
        world.decide(rekeyed(world, old, key).id, "vet", world.office.vetter)


def test_a_chain_that_grew_too_old_is_refused_before_anybody_works_on_it(tmp_path: Path, office: Office) -> None:
    """The member is told to apply anew, and no open case is in the way of that."""
    strict = load_pack(TEXT.replace("max_chain_age: P825D", "max_chain_age: P1D"))
    world = RaWorld(tmp_path, Office(office.pki, strict))
    old = world.certified_merchant()
    world.clock.forward(timedelta(hours=23))
    world.workflow.withdraw(OPERATOR, world.workflow.open(OPERATOR, "merchant", replaces=old.id).id, "not yet")
    world.clock.forward(timedelta(hours=2))
    with pytest.raises(InvalidSubmissionError, match="apply anew") as refused:
        world.workflow.open(OPERATOR, "merchant", replaces=old.id)
    assert refused.value.clause == strict.clause(Rule.REKEY_AGE)
    assert [each.replaces for each in world.store.applications(states=[State.DRAFT], limit=10)] == []
    world.close()
