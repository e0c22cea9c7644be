"""`kwbp explain` tells what is so, also where an order went to the CA directly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from cli.explain import page
from ra.story import of_certificate
from ra.story_wire import StoryView
from tests.support.cps_cases import Office
from tests.support.ra_world import OPERATOR, RaWorld


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RaWorld]:
    world = RaWorld(tmp_path, Office())
    yield world
    world.close()


def story_of(world: RaWorld, serial: str) -> StoryView:
    return of_certificate(world.workflow, OPERATOR, serial)


def test_the_story_names_rules_evidence_persons_lints_and_journals(world: RaWorld) -> None:
    application = world.certified_merchant()
    (issued,) = world.store.certificates(application.id)
    text = "\n".join(page(story_of(world, issued.serial)))
    for part in (
        "status      in force",
        "statement   kwbp-cps 1.0.0",
        "rule        vet: 1 × vetting_officer",
        "evidence    iban_owner from register, taken in by service:operator",
        "vet: approve by officer-1 (vetting_officer); signature verifies, counted",
        "approve: approve by officer-3 (approving_officer); signature verifies, counted",
        "rules kept, over SHA-256",
        "CA log      ca.intent",
    ):
        assert part in text


def test_a_certificate_revoked_at_the_ca_directly_is_told_as_revoked(world: RaWorld) -> None:
    application = world.certified_merchant()
    (issued,) = world.store.certificates(application.id)
    certificate = x509.load_der_x509_certificate(issued.der)
    order = world.office.revocation(certificate, world.office.vetter, date=world.now)
    world.ca.authority.revocation.apply(order)
    story = story_of(world, issued.serial)
    assert story.certificate is not None
    assert story.certificate.revocation is None  # the RA was not asked
    text = "\n".join(page(story))
    assert "revoked" in text
    assert "by order of officer-1" in text
    assert "in force" not in text


def test_what_a_ceremony_made_has_a_subject_and_a_status_too(world: RaWorld) -> None:
    serial = f"{world.office.pki.brand.certificate.serial_number:x}"
    text = "\n".join(page(story_of(world, serial)))
    assert "subject     CN=" in text
    assert "status      in force" in text


def test_a_source_cannot_colour_the_story(world: RaWorld) -> None:
    application = world.certified_merchant()
    (issued,) = world.store.certificates(application.id)
    story = story_of(world, issued.serial)
    piece = story.evidence[0].model_copy(update={"source": "[conceal]nobody"})
    assert r"from \[conceal]nobody" in "\n".join(page(story.model_copy(update={"evidence": (piece,)})))
