"""The store: append-only where it must be, and nobody overwrites what they have not read."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from cryptography import x509
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from ra import schema
from ra.errors import ConflictError, RaError, RefusedError, UnknownError
from ra.records import Change, Passage
from ra.screening import Screening, screen
from ra.states import Action, State
from ra.submission import Submission
from tests.support.cps_cases import csr
from tests.support.pki_factory import p256
from tests.support.ra_world import OPERATOR, RaWorld, merchant_subject


@pytest.mark.parametrize("table", [table.name for table in schema.APPEND_ONLY if table.name != "denylist"])
@pytest.mark.parametrize("verb", ["UPDATE {0} SET {1} = {1}", "DELETE FROM {0}"])
def test_records_are_never_changed_or_deleted(world: RaWorld, table: str, verb: str) -> None:
    key = p256()
    application = world.certified_merchant(key=key)
    world.workflow.accept(OPERATOR, application.id, world.acceptance(application.id, key))
    (issued,) = world.store.certificates(application.id)
    office = world.office
    order = office.revocation(x509.load_der_x509_certificate(issued.der), office.vetter, date=world.now)
    world.workflow.revoke(OPERATOR, order)
    column = next(iter(schema.metadata.tables[table].columns)).name
    with pytest.raises(IntegrityError, match="append-only"), world.engine.begin() as db:
        db.execute(text(verb.format(table, column)))


def test_a_change_on_an_old_version_does_not_happen(world: RaWorld) -> None:
    application = world.workflow.open(OPERATOR, "merchant")
    withdrawn = [Passage(Action.WITHDRAW, State.WITHDRAWN)]
    world.store.change(application, withdrawn, actor="a", now=world.now)
    with pytest.raises(ConflictError):
        world.store.change(application, withdrawn, actor="b", now=world.now)
    assert [each.actor for each in world.store.transitions(application.id)] == ["service:operator", "a"]


def test_two_applications_do_not_claim_one_key_at_the_same_time(world: RaWorld) -> None:
    one, two = (world.workflow.open(OPERATOR, "merchant") for _ in range(2))
    claim = Change(claims=[b"\x01" * 32])
    passage = [Passage(Action.SUBMIT, State.SCREENING)]
    world.store.change(one, passage, actor="a", now=world.now, change=claim)
    with pytest.raises(ConflictError, match="claimed"):
        world.store.change(two, passage, actor="a", now=world.now, change=claim)
    assert world.store.application(two.id).state is State.DRAFT


def test_one_person_does_not_get_two_applications_at_the_same_time(
    world: RaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are screened before either is written; only one of them may rest on what it saw."""
    met = threading.Barrier(2)

    def screened_together(*args: Any, **kwargs: Any) -> Screening:
        outcome = screen(*args, **kwargs)
        met.wait(timeout=20)
        return outcome

    monkeypatch.setattr("ra.intake.screen", screened_together)
    states: list[State] = []
    told: list[ConflictError] = []

    def apply(role: str) -> None:
        try:
            states.append(world.open_officer(person_id="officer-77", roles=(role,)).state)
        except ConflictError as error:
            told.append(error)

    threads = [threading.Thread(target=apply, args=(role,)) for role in ("vetting_officer", "approving_officer")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (states, len(told)) == ([State.VETTING], 1)


def test_of_many_that_hand_in_decisions_at_once_each_is_counted_or_told(world: RaWorld) -> None:
    application = world.open_merchant()
    decisions = [world.sign(application.id, "vet", by) for by in (world.office.vetter, world.office.vetter_2)]
    told: list[RaError] = []

    def hand_in(signed: bytes) -> None:
        try:
            world.workflow.decide(OPERATOR, application.id, signed)
        except RaError as error:
            told.append(error)

    threads = [threading.Thread(target=hand_in, args=(signed,)) for signed in decisions * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(world.store.decisions(application.id)) in {1, 2}
    # At the same moment, or after the step was taken.
    assert all(isinstance(error, ConflictError | RefusedError) for error in told)
    assert world.store.application(application.id).state is State.AWAITING_APPROVAL


def test_what_is_not_there_is_unknown(world: RaWorld) -> None:
    draft = world.workflow.open(OPERATOR, "merchant")
    with pytest.raises(UnknownError):
        world.store.application("none")
    with pytest.raises(UnknownError):
        world.workflow.dossier(draft)
    with pytest.raises(UnknownError):
        world.store.evidence_body(draft.id, b"\x00" * 32)


def test_lists_are_filtered(world: RaWorld) -> None:
    merchant, card = world.open_merchant(), world.open_cardholder()
    assert [each.id for each in world.store.applications(states={State.VETTING})] == [merchant.id]
    assert [each.id for each in world.store.applications(member_class="cardholder")] == [card.id]


def test_evidence_documents_are_kept_byte_for_byte(world: RaWorld) -> None:
    application = world.open_merchant()
    piece = world.store.evidence(application.id)[0]
    assert world.store.evidence_body(application.id, piece.sha256) == f"{piece.kind} of {application.id}".encode()
    amended = Submission(merchant_subject(), {"signing": csr(p256())})
    world.workflow.amend(OPERATOR, application.id, amended)
    assert len(world.store.evidence(application.id)) == 3
