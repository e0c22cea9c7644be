"""Who is calling: certificates are judged anew at each call, and the table of acts is kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509

from pki.extensions import OfficerData
from ra.access import REGISTRATION, Act, Actor, actor_of, require
from ra.errors import IdentityNeededError, NotAllowedError
from ra.openers import name_of
from ra.records import Application
from ra.states import State
from runtime.identity import ANONYMOUS, Caller
from tests.support.cps_cases import Office
from tests.support.pki_factory import NOW, Credential, PkiFactory

OPENED = Application(
    id="a" * 32,
    member_class="merchant",
    state=State.DRAFT,
    version=1,
    opened_by="merchant:M-1",
    opened_at=NOW,
    due_from=NOW,
    due_at=NOW,
    nonce_cca=None,
    national_code=None,
    subject_id=None,
    organisation=None,
    revision=None,
    trouble=None,
)
OPENER = Actor("merchant:M-1")
STRANGER = Actor("merchant:M-2")
OPERATOR = Actor("service:operator")
OFFICER = Actor("officer:officer-1", "RA", "officer-1", frozenset({"approving_officer"}))
VETTER = Actor("officer:officer-2", "RA", "officer-2", frozenset({"vetting_officer"}))

TABLE = {
    Act.OPEN: {OPENER, STRANGER, OPERATOR, OFFICER, VETTER},
    Act.EDIT: {OPENER, OPERATOR},
    Act.AMEND: {OPENER, OPERATOR},
    Act.READ: {OPENER, OPERATOR, OFFICER, VETTER},
    Act.ATTEST: {OPENER, OPERATOR, OFFICER, VETTER},
    Act.VOUCH: {VETTER},
    Act.HOLD: {OFFICER, VETTER},
    Act.RETURN: {OFFICER, VETTER},
    Act.ACCEPT: {OPENER, OPERATOR},
    Act.REVIEW: {OPERATOR, OFFICER, VETTER},
}


@pytest.mark.parametrize("act", list(Act))
@pytest.mark.parametrize("actor", [OPENER, STRANGER, OPERATOR, OFFICER, VETTER], ids=lambda actor: actor.name)
def test_the_table_of_acts_is_kept(act: Act, actor: Actor) -> None:
    if actor in TABLE[act]:
        require(actor, act, OPENED)
    else:
        with pytest.raises(NotAllowedError):
            require(actor, act, OPENED)


def test_who_has_no_name_amends_nothing_though_they_know_the_id() -> None:
    anonymous = Actor(name_of("a secret"))
    opened = replace(OPENED, opened_by=anonymous.name)
    require(anonymous, Act.EDIT, opened)
    with pytest.raises(IdentityNeededError, match="with an identity of their own"):
        require(anonymous, Act.AMEND, opened)


@pytest.mark.parametrize("act", [Act.EDIT, Act.READ, Act.ATTEST])
@pytest.mark.parametrize("opener", ["anonymous", name_of("a secret"), REGISTRATION.name])
@pytest.mark.parametrize(
    "name", ["anonymous", name_of("another secret"), "merchant:registration", "merchant:anonymous"]
)
def test_the_id_of_a_case_that_somebody_opened_without_a_name_opens_nothing(act: Act, opener: str, name: str) -> None:
    with pytest.raises(NotAllowedError, match="did not open this application"):
        require(Actor(name), act, replace(OPENED, opened_by=opener))


def test_authors_without_a_name_have_none_in_what_officers_sign() -> None:
    assert Actor(name_of("a secret")).author.person == "anonymous"


def test_an_anonymous_caller_is_asked_who_they_are() -> None:
    with pytest.raises(IdentityNeededError):
        require(Actor("anonymous"), Act.REVIEW)


def caller(kind: str, name: str, credential: Credential) -> Caller:
    return Caller(kind, name, credential.certificate)  # type: ignore[arg-type]


def test_an_officer_is_a_person_with_an_employer_and_roles() -> None:
    office = Office()
    actor = actor_of(caller("officer", "officer-1", office.vetter), trust=office.pki.trust(), now=NOW)
    assert actor == Actor("officer:officer-1", "RA", "officer-1", frozenset({"vetting_officer"}))
    assert (actor.author.person, actor.author.organisation) == ("officer-1", "RA")


def test_a_service_and_an_anonymous_applicant_are_no_persons() -> None:
    office = Office()
    operator = office.pki.service("operator")
    actor = actor_of(caller("service", "operator", operator), trust=office.pki.trust(), now=NOW)
    assert (actor, actor.is_officer, actor.author.person) == (OPERATOR, False, "service:operator")
    assert actor_of(ANONYMOUS, trust=office.pki.trust(), now=NOW).name == "anonymous"


def test_a_revoked_officer_is_nobody() -> None:
    office = Office()
    office.pki.revoke(office.vetter)
    with pytest.raises(NotAllowedError, match="revoked"):
        actor_of(caller("officer", "officer-1", office.vetter), trust=office.pki.trust(), now=NOW)


def test_a_certificate_of_another_hierarchy_is_nobodys() -> None:
    office = Office()
    stranger = PkiFactory(brand="Another").officer("officer-1", roles=("vetting_officer",))
    with pytest.raises(NotAllowedError, match="unknown_issuer"):
        actor_of(caller("officer", "officer-1", stranger), trust=office.pki.trust(), now=NOW)


def test_a_name_alone_makes_no_officer() -> None:
    office = Office()
    service = office.pki.service("ra", uris=["urn:kwbp:officer:officer-1"])
    assert OfficerData.from_certificate(service.certificate) is None
    with pytest.raises(NotAllowedError, match="wrong_role"):
        actor_of(caller("officer", "officer-1", service), trust=office.pki.trust(), now=NOW)


def test_an_officers_certificate_is_no_services() -> None:
    office = Office()
    with pytest.raises(NotAllowedError, match="wrong_role"):
        actor_of(caller("service", "operator", office.vetter), trust=office.pki.trust(), now=NOW)


def test_the_name_and_the_data_of_an_officer_agree() -> None:
    office = Office()
    uris = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("urn:kwbp:officer:officer-2")])
    two_faced = office.officer("officer-1", "vetting_officer", replace={"subject_alternative_name": (uris, False)})
    with pytest.raises(NotAllowedError, match="names no officer"):
        actor_of(caller("officer", "officer-2", two_faced), trust=office.pki.trust(), now=NOW)
