"""Revocation through the RA: an officer's signature, the CA's CRL, the denylist."""

from __future__ import annotations

import pytest
from cryptography import x509

from audit import read
from cps.rules import Rule
from pki.errors import PathError
from pki.path import validate_path
from pki.roles import Role
from ra.access import Actor
from ra.errors import NotAllowedError, RefusedError
from ra.states import State
from ra.store import Application
from runtime.problems import Problem
from tests.support.pki_factory import Credential, p256
from tests.support.ra_world import OPERATOR, RaWorld


def certificate_of(world: RaWorld, application: Application) -> x509.Certificate:
    (issued,) = world.store.certificates(application.id)
    return x509.load_der_x509_certificate(issued.der)


def test_an_officers_order_takes_effect_at_once(world: RaWorld) -> None:
    certificate = certificate_of(world, world.certified_merchant())
    validate_path(certificate, trust=world.trust_source(), now=world.now, roles={Role.MERCHANT})
    order = world.office.revocation(certificate, world.office.vetter, reason="cessationOfOperation")
    revoked = world.workflow.revoke(OPERATOR, order)
    assert (revoked.record.issuer, revoked.record.ordered_by) == ("merchant-ca", "officer-1")
    assert revoked.crl_number is not None
    with pytest.raises(PathError) as error:
        validate_path(certificate, trust=world.trust_source(), now=world.now, roles={Role.MERCHANT})
    assert error.value.reason == "revoked"
    assert world.store.revocation("merchant-ca", f"{certificate.serial_number:x}") == revoked.record


def test_the_same_order_again_changes_nothing(world: RaWorld) -> None:
    certificate = certificate_of(world, world.certified_merchant())
    order = world.office.revocation(certificate, world.office.vetter)
    first = world.workflow.revoke(OPERATOR, order)
    assert world.workflow.revoke(OPERATOR, order).record == first.record


@pytest.mark.parametrize(("reason", "state"), [("keyCompromise", State.REJECTED), ("superseded", State.RETURNED)])
def test_a_compromised_key_ends_every_later_application(world: RaWorld, reason: str, state: State) -> None:
    key = p256()
    certificate = certificate_of(world, world.certified_merchant(key=key))
    order = world.office.revocation(certificate, world.office.vetter, reason=reason)  # type: ignore[arg-type]
    world.workflow.revoke(OPERATOR, order)
    assert world.open_merchant(key=key, merchant_id="M-2", documents=()).state is state


def test_an_order_of_the_wrong_person_is_refused_by_clause_and_recorded(world: RaWorld) -> None:
    certificate = certificate_of(world, world.certified_merchant())
    order = world.office.revocation(certificate, world.office.approver)
    with pytest.raises(RefusedError) as error:
        world.workflow.revoke(OPERATOR, order)
    finding = error.value.findings[0]
    assert (finding.code, finding.clause) == (Rule.REV_ROLE, "CPS 4.9.2")
    last = list(read(world.journal))[-1].entry
    assert (last["event"], last["action"], last["rules"]) == ("ra.refused", "revoke", ["REV-ROLE"])


def test_an_order_for_a_certificate_that_the_ca_did_not_issue_is_refused_by_the_ca(world: RaWorld) -> None:
    foreign = world.office.pki.merchant("M-7").certificate
    with pytest.raises(Problem) as problem:
        world.workflow.revoke(OPERATOR, world.office.revocation(foreign, world.office.vetter))
    assert problem.value.status == 404


def test_orders_are_handed_in_by_officers_and_the_operator(world: RaWorld) -> None:
    certificate = certificate_of(world, world.certified_merchant())
    with pytest.raises(NotAllowedError):
        world.workflow.revoke(Actor("merchant:M-1"), world.office.revocation(certificate, world.office.vetter))


def test_suspension_and_release_go_through_and_leave_nothing_revoked(world: RaWorld) -> None:
    certificate = certificate_of(world, world.certified_merchant())
    serial = f"{certificate.serial_number:x}"
    hold = world.office.revocation(certificate, world.office.vetter, reason="certificateHold")
    held = world.workflow.revoke(OPERATOR, hold)
    assert (held.state, held.record.reason) == ("held", "certificateHold")
    with pytest.raises(PathError) as error:
        validate_path(certificate, trust=world.trust_source(), now=world.now, roles={Role.MERCHANT})
    assert error.value.reason == "revoked"

    release = world.office.revocation(certificate, world.office.vetter, reason="removeFromCRL")
    assert world.workflow.revoke(OPERATOR, release).state == "released"

    validate_path(certificate, trust=world.trust_source(), now=world.now, roles={Role.MERCHANT})
    assert world.store.revocation("merchant-ca", serial) is None
    events = [each.entry["event"] for each in read(world.journal)]
    assert events[-4:] == ["ra.suspended", "ra.review-due", "ra.released", "ra.review-due"]


def test_the_holder_suspends_with_the_very_key_through_the_ra(world: RaWorld) -> None:
    key = p256()
    application = world.certified_merchant(key=key)
    (issued,) = world.store.certificates(application.id)
    chain = tuple(map(x509.load_der_x509_certificate, issued.chain))
    holder = Credential(x509.load_der_x509_certificate(issued.der), key, chain)
    order = world.office.revocation(holder.certificate, holder, reason="certificateHold")
    assert world.workflow.revoke(OPERATOR, order).record.ordered_by == "urn:kwbp:merchant:M-1"
