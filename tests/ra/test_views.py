"""Stories where one of the two records is silent, and decisions whose signature does not verify."""

from __future__ import annotations

import pytest
from cryptography import x509

from ra import views
from ra.errors import NotAllowedError, UnknownError
from ra.statement import read_decision
from ra.story import of_certificate
from runtime.problems import Problem
from tests.support.cps_cases import Office
from tests.support.ra_world import ANONYMOUS, OPERATOR, RaWorld


def test_a_signature_that_does_not_verify_is_told(office: Office) -> None:
    signed = office.decision(office.merchant_case(), "vet", office.vetter)
    assert read_decision(signed).verifies
    assert not read_decision(signed[:-1] + bytes([signed[-1] ^ 1])).verifies


def test_the_registration_authoritys_own_decision_names_its_service(office: Office) -> None:
    statement = read_decision(office.decision(office.cardholder_case(), "auto", office.ra))
    assert (statement.person, statement.roles) == ("urn:kwbp:service:ra", ())


def _serial(world: RaWorld) -> str:
    (issued,) = world.store.certificates(world.certified_merchant().id)
    return issued.serial


def test_a_certificate_that_the_ca_does_not_know_has_half_a_story(
    world: RaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    serial = _serial(world)

    def unknown(_issuer: str, _serial: str) -> object:
        raise Problem(404, "unknown-certificate", "no certificate with this serial")

    monkeypatch.setattr(world.workflow.authority, "look_up", unknown)
    story = of_certificate(world.workflow, OPERATOR, serial)
    assert story.ca is None
    assert len(story.decisions) == 2


def test_a_story_is_not_told_without_the_ca(world: RaWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    serial = _serial(world)

    def away(_issuer: str, _serial: str) -> object:
        raise Problem(503, "ca-unreachable", "the certificate authority does not answer")

    monkeypatch.setattr(world.workflow.authority, "look_up", away)
    with pytest.raises(Problem, match="does not answer"):
        of_certificate(world.workflow, OPERATOR, serial)


def test_a_certificate_that_nobody_knows_has_no_story(world: RaWorld) -> None:
    with pytest.raises(UnknownError):
        of_certificate(world.workflow, OPERATOR, "abcdef")
    with pytest.raises(NotAllowedError):
        of_certificate(world.workflow, ANONYMOUS, "abcdef")


def test_the_chain_that_is_shown_leads_to_the_certificate(world: RaWorld) -> None:
    shown = views.show(world.workflow, world.certified_merchant())
    (issued,) = shown.certificates
    leaf, issuer, brand = map(x509.load_der_x509_certificate, (issued.certificate, *issued.chain))
    leaf.verify_directly_issued_by(issuer)
    issuer.verify_directly_issued_by(brand)
    brand.verify_directly_issued_by(world.office.pki.root.certificate)
