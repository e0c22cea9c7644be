"""What one officer orders alone raises an alarm, and another officer reviews it in time."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509

from cps.review import Judgement
from pki import cms_signed
from pki.der import sha256
from ra.access import Actor
from ra.errors import ConflictError, NotAllowedError, RefusedError, UnknownError
from ra.officer import draft_review
from ra.reviews import ReviewRecord
from runtime.problems import Problem
from tests.support.pki_factory import Credential, p256
from tests.support.ra_world import OPERATOR, RaWorld, officer

HOUR = timedelta(hours=1)


def ordered(world: RaWorld, by: Credential | None = None, reason: Any = "keyCompromise") -> bytes:
    """An order about a new merchant's certificate, taken by the CA."""
    application = world.certified_merchant(key=p256())
    (issued,) = world.store.certificates(application.id)
    certificate = x509.load_der_x509_certificate(issued.der)
    order = world.office.revocation(certificate, by or world.office.vetter, reason=reason, date=world.now)
    world.workflow.revoke(OPERATOR, order)
    return order


def signed_review(world: RaWorld, record: ReviewRecord, by: Credential) -> bytes:
    draft = draft_review(record.order_cms, Judgement.JUSTIFIED, "the key was lost", now=world.now)
    return cms_signed.sign(
        draft.content_type, draft.content, key=by.key, signer=by.certificate, chain=by.chain, signing_time=world.now
    )


def told(world: RaWorld, event: str) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in world.journal.read_text().splitlines()]
    return [each["entry"] for each in entries if each.get("entry", {}).get("event") == event]


def test_an_order_of_one_officer_waits_for_the_review_of_another(world: RaWorld) -> None:
    order = ordered(world)
    (record,) = world.workflow.reviews.open()
    assert (record.ordered_by, record.reason, record.due_at) == ("officer-1", "keyCompromise", world.now + 24 * HOUR)
    assert record.order_sha256 == sha256(order).hex()
    (alarm,) = told(world, "ra.review-due")
    assert (alarm["serial"], alarm["issuer"]) == (record.serial, record.issuer)
    signed = signed_review(world, record, world.office.security)
    reviewed = world.workflow.reviews.review(officer(world.office.security), record.order_sha256, signed)
    assert (reviewed.judgement, reviewed.reviewed_by) == ("justified", "officer-5")
    assert world.workflow.reviews.review(OPERATOR, record.order_sha256, signed) == reviewed
    assert world.workflow.reviews.open() == []
    assert [each["reviewed_by"] for each in told(world, "ra.reviewed")] == ["officer-5"]


def test_a_suspension_is_reviewed_too_and_the_same_order_again_once(world: RaWorld) -> None:
    order = ordered(world, reason="certificateHold")
    world.workflow.revoke(OPERATOR, order)
    assert len(world.workflow.reviews.open()) == 1
    assert len(told(world, "ra.review-due")) == 1


def test_what_the_holder_orders_needs_no_review(world: RaWorld) -> None:
    key = p256()
    application = world.certified_merchant(key=key)
    (issued,) = world.store.certificates(application.id)
    certificate = x509.load_der_x509_certificate(issued.der)
    chain = tuple(x509.load_der_x509_certificate(der) for der in issued.chain)
    holder = Credential(certificate, key, chain, now=world.now)
    world.workflow.revoke(OPERATOR, world.office.revocation(certificate, holder, date=world.now))
    assert world.workflow.reviews.open() == []


def test_whoever_ordered_does_not_review(world: RaWorld) -> None:
    ordered(world)
    (record,) = world.workflow.reviews.open()
    with pytest.raises(RefusedError, match="ordered this before"):
        world.workflow.reviews.review(OPERATOR, record.order_sha256, signed_review(world, record, world.office.vetter))
    assert world.workflow.reviews.open() == [record]
    assert told(world, "ra.refused")[-1]["action"] == "review"


def test_an_officer_hands_in_their_own_review_alone(world: RaWorld) -> None:
    ordered(world)
    (record,) = world.workflow.reviews.open()
    signed = signed_review(world, record, world.office.security)
    with pytest.raises(RefusedError, match="each officer hands in their own"):
        world.workflow.reviews.review(officer(world.office.security_2), record.order_sha256, signed)
    with pytest.raises(NotAllowedError):
        world.workflow.reviews.review(Actor("merchant:M-1"), record.order_sha256, signed)
    with pytest.raises(UnknownError):
        world.workflow.reviews.review(OPERATOR, "0" * 64, signed)


def test_a_second_review_is_told_that_the_first_one_counts(world: RaWorld) -> None:
    ordered(world)
    (record,) = world.workflow.reviews.open()
    world.workflow.reviews.review(OPERATOR, record.order_sha256, signed_review(world, record, world.office.security))
    late = signed_review(world, record, world.office.security_2)
    with pytest.raises(ConflictError, match="officer-5 has reviewed this order already"):
        world.workflow.reviews.review(OPERATOR, record.order_sha256, late)
    assert world.workflow.reviews.get(record.order_sha256).reviewed_by == "officer-5"
    assert len(told(world, "ra.reviewed")) == 1


def test_a_review_that_is_late_is_told_once_and_still_taken(world: RaWorld) -> None:
    ordered(world)
    (record,) = world.workflow.reviews.open()
    world.clock.forward(24 * HOUR - timedelta(seconds=1))
    assert world.workflow.reviews.sweep() == 0
    world.clock.forward(timedelta(seconds=1))
    assert [world.workflow.reviews.sweep(), world.workflow.reviews.sweep()] == [1, 1]
    assert len(told(world, "ra.review-late")) == 1
    signed = signed_review(world, record, world.office.security)
    world.workflow.reviews.review(OPERATOR, record.order_sha256, signed)
    assert world.workflow.reviews.sweep() == 0


def test_an_order_that_the_ca_refused_is_not_reviewed(world: RaWorld) -> None:
    order = ordered(world)
    (record,) = world.workflow.reviews.open()
    certificate = x509.load_der_x509_certificate(world.store.certificates_with_serial(record.serial)[0].der)
    again = world.office.revocation(certificate, world.office.vetter_2, reason="superseded", date=world.now)
    with pytest.raises(Problem):
        world.workflow.revoke(OPERATOR, again)  # it is revoked for another reason
    assert [each.order_sha256 for each in world.workflow.reviews.open()] == [sha256(order).hex()]
