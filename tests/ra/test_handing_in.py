"""Borrowed credentials: an officer hands in what they signed themselves, and a signature is of one certificate only."""

from __future__ import annotations

import pytest
from cryptography import x509

from audit import read
from cps.rules import Rule
from pki.cms_signed import assemble_signed_data, build_signed_attributes, parse_signed_data, sign_signed_attributes
from pki.extensions import RoleGrant
from pki.oids import CT_DECISION, CT_REVOCATION
from ra.access import Act, actor_of, require
from ra.errors import NotAllowedError, RefusedError
from ra.handing_in import borrowed
from ra.records import Application
from runtime.identity import Caller
from tests.ra.conftest import new_office
from tests.support.cps_cases import DAY
from tests.support.pki_factory import Credential
from tests.support.ra_world import OPERATOR, RaWorld, officer


def refused(error: pytest.ExceptionInfo[RefusedError]) -> tuple[Rule, str]:
    [finding] = error.value.findings
    return finding.code, finding.clause


def test_an_officer_does_not_hand_in_anothers_decision(world: RaWorld) -> None:
    application, office = world.open_merchant(), world.office
    signed = world.sign(application.id, "vet", office.vetter)
    with pytest.raises(RefusedError, match="officer:officer-2 hands in what officer-1 signed") as error:
        world.workflow.decide(officer(office.vetter_2), application.id, signed)
    assert refused(error) == (Rule.DEC_CREDENTIAL, "CPS 5.2.3")
    assert world.store.application(application.id) == application
    last = list(read(world.journal))[-1].entry
    assert (last["event"], last["actor"], last["person"]) == ("ra.refused", "officer:officer-2", "officer-1")
    assert world.workflow.decide(officer(office.vetter), application.id, signed).version > application.version


def test_not_even_one_that_is_on_file_already(world: RaWorld) -> None:
    application, office = world.open_merchant(), world.office
    signed = world.sign(application.id, "vet", office.vetter)
    world.workflow.decide(OPERATOR, application.id, signed)
    with pytest.raises(RefusedError):
        world.workflow.decide(officer(office.vetter_2), application.id, signed)


def test_the_operators_console_hands_in_anybodys(world: RaWorld) -> None:
    application = world.open_merchant()
    assert world.decide(application.id, "vet", world.office.vetter).version > application.version


def test_an_officer_does_not_hand_in_anothers_order(world: RaWorld) -> None:
    office = world.office
    certificate = x509.load_der_x509_certificate(world.store.certificates(world.certified_merchant().id)[0].der)
    order = office.revocation(certificate, office.vetter, date=world.now)
    with pytest.raises(RefusedError) as error:
        world.workflow.revoke(officer(office.security), order)
    assert refused(error) == (Rule.DEC_CREDENTIAL, "CPS 5.2.3")
    assert world.workflow.revoke(officer(office.vetter), order).record.ordered_by == "officer-1"


def test_what_is_no_officers_or_cannot_be_read_is_left_to_the_judgement(world: RaWorld) -> None:
    office = world.office
    of_the_holder = office.revocation(office.pki.merchant().certificate, office.pki.merchant())
    assert borrowed(officer(office.vetter), of_the_holder, CT_REVOCATION, office.pack) is None
    assert borrowed(officer(office.vetter), b"nothing", CT_DECISION, office.pack) is None


# One key, two names


def forged(world: RaWorld, application: Application, signer: Credential, shown: Credential) -> bytes:
    """A decision signed by one credential in which another one's certificate stands."""
    signed = parse_signed_data(world.sign(application.id, "vet", signer), content_type=CT_DECISION)
    attributes = build_signed_attributes(CT_DECISION, signed.content, signer=signer.certificate, signing_time=world.now)
    signature = sign_signed_attributes(attributes, signer.key)
    return assemble_signed_data(
        CT_DECISION, signed.content, attributes, signature, signer=shown.certificate, chain=shown.chain
    )


def test_a_signature_counts_for_the_certificate_it_was_made_with_alone(world: RaWorld) -> None:
    """The same key, certified for two persons (which no CA of ours does): the names cannot be exchanged."""
    office = world.office
    twin = office.officer("officer-70", "vetting_officer", key=office.vetter.key)
    application = world.open_merchant()
    with pytest.raises(RefusedError) as error:
        world.workflow.decide(OPERATOR, application.id, forged(world, application, office.vetter, twin))
    assert refused(error) == (Rule.DEC_FORM, "CPS 4.2.2")


def test_a_signature_under_another_officers_certificate_is_none(world: RaWorld) -> None:
    office, application = world.office, world.open_merchant()
    with pytest.raises(RefusedError) as error:
        world.workflow.decide(OPERATOR, application.id, forged(world, application, office.approver, office.vetter))
    assert refused(error) == (Rule.DEC_FORM, "CPS 4.2.2")


def test_a_certificate_of_another_hierarchy_names_nobody(world: RaWorld) -> None:
    stranger = new_office().vetter
    application = world.open_merchant()
    with pytest.raises(RefusedError) as error:
        world.decide(application.id, "vet", stranger)
    assert refused(error) == (Rule.DEC_CREDENTIAL, "CPS 5.2.3")


def test_a_chain_that_was_exchanged_leads_nowhere(world: RaWorld) -> None:
    office, application = world.office, world.open_merchant()
    mixed = Credential(office.vetter.certificate, office.vetter.key, new_office().vetter.chain)
    counted = world.decide(application.id, "vet", mixed)  # the CAs are known anyway: what comes along proves nothing
    assert counted.version > application.version


# Roles for a time, over TLS


def test_a_caller_acts_by_the_roles_they_hold_now_in_their_scope(world: RaWorld) -> None:
    office = world.office
    scoped = RoleGrant("vetting_officer", ("merchant",), world.now - DAY, world.now + DAY)
    over = RoleGrant("approving_officer", None, world.now - 2 * DAY, world.now - DAY)
    credential = office.officer("officer-71", grants=(scoped, over))
    caller = Caller("officer", "officer-71", credential.certificate)
    actor = actor_of(caller, trust=office.pki.trust(), now=world.now)
    assert (actor.roles, actor.grants) == (frozenset(), (scoped,))
    require(actor, Act.VOUCH, world.open_merchant(documents=()))
    with pytest.raises(NotAllowedError, match="vetting officers"):
        require(actor, Act.VOUCH, world.open_officer())
