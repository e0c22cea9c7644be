"""The register of officers: who holds what by which certificate, one human under one id, and what closes an account."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import insert, select

from cps.dossier import Grant
from cps.rules import Rule
from pki.extensions import RoleGrant
from ra import officer_views
from ra.errors import ConflictError, RefusedError, UnknownError
from ra.person_tables import credentials, grants, person_codes, persons
from ra.persons import Persons
from ra.records import Application, NewCertificate
from ra.states import State
from ra.submission import Submission
from tests.support.cps_cases import DAY, OFFICER, csr
from tests.support.pki_factory import Credential, p256
from tests.support.ra_world import OPERATOR, RaWorld

CODE, OTHER_CODE = "0499370899", "0084575948"


def apply(world: RaWorld, *, code: str | None = None, **changes: object) -> Application:
    """An officer's application, submitted."""
    fields = OFFICER.model_copy(update=changes).model_dump(mode="json", by_alias=True, exclude_none=True)
    application = world.workflow.open(OPERATOR, "officer")
    submission = Submission(fields, {"signing": csr(p256())}, national_code=code)
    return world.workflow.submit(OPERATOR, application.id, submission)


def certified(world: RaWorld, **changes: object) -> Application:
    application = apply(world, **changes)  # type: ignore[arg-type]
    world.decide(application.id, "sponsor", world.office.security)
    application = world.decide(application.id, "approve", world.office.security_2)
    assert application.state is State.ISSUED
    return application


def certificate_of(world: RaWorld, application: Application) -> x509.Certificate:
    [issued] = world.store.certificates(application.id)
    return x509.load_der_x509_certificate(issued.der)


def revoke(world: RaWorld, application: Application, reason: str = "affiliationChanged") -> None:
    order = world.office.revocation(
        certificate_of(world, application),
        world.office.security,
        reason=reason,  # type: ignore[arg-type]
        date=world.now,
    )
    world.workflow.revoke(OPERATOR, order)


def found_at_ceremony(world: RaWorld, credential: Credential) -> NewCertificate:
    der = credential.certificate.public_bytes(Encoding.DER)
    return NewCertificate("operations-ca", f"{credential.certificate.serial_number:x}", "signing", der, ())


# What is written


def test_an_officer_is_in_the_register_as_soon_as_certified(world: RaWorld) -> None:
    assert world.workflow.persons.all() == []
    grant = Grant(role="security_officer", not_before=world.now, not_after=world.now + DAY)
    scoped = Grant(role="ca_operator", scope=("merchant",), not_before=world.now + DAY, not_after=world.now + 9 * DAY)
    application = certified(world, grants=(grant, scoped))
    certificate = certificate_of(world, application)
    shown = officer_views.officer(world.workflow, "officer-9")
    assert [each.person_id for each in officer_views.officers(world.workflow)] == ["officer-9"]
    assert (shown.name, shown.organisation, shown.account) == (OFFICER.name, "RA", "officer:officer-9")
    assert shown.account_open
    assert shown.roles == ("security_officer", "vetting_officer")
    [credential] = shown.credentials
    assert (credential.issuer, credential.serial) == ("operations-ca", f"{certificate.serial_number:x}")
    assert (credential.application_id, credential.state) == (application.id, "counts")
    assert [(each.role, each.scope, each.in_effect) for each in credential.grants] == [
        ("vetting_officer", None, True),
        ("security_officer", None, True),
        ("ca_operator", ("merchant",), False),
    ]


def test_officers_of_the_ceremony_are_in_the_register_once(world: RaWorld) -> None:
    found = [found_at_ceremony(world, each) for each in (world.office.security, world.office.security_2)]
    for _ in range(2):
        world.workflow.persons.founders(found, now=world.now)
    shown = officer_views.officers(world.workflow)
    assert [(each.person_id, each.roles, len(each.credentials)) for each in shown] == [
        ("officer-5", ("security_officer",), 1),
        ("officer-6", ("security_officer",), 1),
    ]
    assert shown[0].credentials[0].application_id is None


def test_what_is_no_officers_certificate_is_not_written_down(world: RaWorld) -> None:
    with pytest.raises(ValueError, match="without officer data"):
        world.workflow.persons.founders([found_at_ceremony(world, world.office.ra)], now=world.now)


def test_nobody_is_shown_who_is_not_there(world: RaWorld) -> None:
    with pytest.raises(UnknownError):
        officer_views.officer(world.workflow, "nobody")


# Leaving


def test_an_account_is_open_as_long_as_one_credential_counts(world: RaWorld) -> None:
    first, second = certified(world), certified(world)
    revoke(world, first, "superseded")
    shown = officer_views.officer(world.workflow, "officer-9")
    assert shown.account_open
    assert sorted(each.state for each in shown.credentials) == ["counts", "revoked"]
    revoke(world, second)
    shown = officer_views.officer(world.workflow, "officer-9")
    assert (shown.account_open, shown.roles) == (False, ())
    assert {each.state for each in shown.credentials} == {"revoked"}


def test_a_row_alone_opens_no_account_and_gives_no_role(world: RaWorld) -> None:
    """A forged credential is shown as what it is; its decision is refused as ever."""
    application = certified(world)
    revoke(world, application)
    with world.engine.begin() as db:
        row = dict(db.execute(select(credentials)).mappings().one())
        db.execute(insert(credentials).values(**{**row, "serial": "77"}))
        granted = dict(db.execute(select(grants)).mappings().one())
        db.execute(insert(grants).values(**{**granted, "serial": "77", "role": "security_officer"}))
    shown = officer_views.officer(world.workflow, "officer-9")
    assert (shown.account_open, shown.roles) == (False, ())


def test_the_roles_of_a_person_whose_certificate_was_revoked_or_expired_are_free_again(world: RaWorld) -> None:
    application = certified(world)
    held = world.workflow.persons.held
    assert [each.roles for each in held("officer-9", but="", now=world.now)] == [("vetting_officer",)]
    assert held("officer-9", but=application.id, now=world.now) == ()
    assert held("officer-9", but="", now=world.now + timedelta(days=399)) == ()
    revoke(world, application)
    assert held("officer-9", but="", now=world.now) == ()


# Exclusion is of persons


def test_an_officer_of_the_ceremony_does_not_get_an_exclusive_role_beside_theirs(world: RaWorld) -> None:
    world.workflow.persons.founders([found_at_ceremony(world, world.office.security)], now=world.now)
    application = apply(world, person_id="officer-5", roles=("auditor",))
    assert application.state is State.RETURNED
    assert str(Rule.SOD_EXCLUSIVE) in str(application.trouble)


def test_an_exclusive_role_is_not_granted_for_a_time_in_which_the_other_is_held(world: RaWorld) -> None:
    certified(world)
    grant = Grant(role="approving_officer", not_before=world.now, not_after=world.now + DAY)
    application = apply(world, roles=(), grants=(grant,))
    assert application.state is State.RETURNED
    assert str(Rule.SOD_EXCLUSIVE) in str(application.trouble)


@pytest.mark.parametrize("ask", ["certified", "waiting"])
def test_one_human_has_one_person_id(world: RaWorld, ask: str) -> None:
    certified(world, code=CODE) if ask == "certified" else apply(world, code=CODE)
    second = apply(world, code=CODE, person_id="officer-10", roles=("approving_officer",))
    assert second.state is State.RETURNED
    for each in ("APP-DUPLICATE", "the person is known as", "officer-9"):
        assert each in str(second.trouble)


def test_a_person_id_is_of_one_human(world: RaWorld) -> None:
    certified(world, code=CODE)
    assert officer_views.officer(world.workflow, "officer-9").identified
    second = apply(world, code=OTHER_CODE)
    assert second.state is State.RETURNED
    for each in ("APP-DUPLICATE", "the person id belongs to somebody else"):
        assert each in str(second.trouble)


def test_a_mistyped_person_id_is_mended_and_one_that_came_to_nothing_is_free(world: RaWorld) -> None:
    application = apply(world, code=CODE, person_id="officer-90")
    fields = OFFICER.model_dump(mode="json", by_alias=True, exclude_none=True)
    amended = world.workflow.amend(OPERATOR, application.id, Submission(fields, {"signing": csr(p256())}, CODE))
    assert amended.state is State.VETTING
    world.workflow.withdraw(OPERATOR, application.id, "no longer wanted")
    assert apply(world, code=CODE, person_id="officer-91").state is State.VETTING


def test_of_two_who_claim_one_human_at_once_one_is_told_to_try_again(world: RaWorld) -> None:
    application = apply(world, code=CODE)
    with pytest.raises(ConflictError, match="same person"), world.engine.begin() as db:
        world.workflow.persons.claim(db, CODE, person_id="officer-10", application_id="another")
    with world.engine.begin() as db:  # the same again is no conflict
        world.workflow.persons.claim(db, CODE, person_id="officer-9", application_id=application.id)


def test_a_national_code_is_not_in_the_register(world: RaWorld, tmp_path: Path) -> None:
    certified(world, code=CODE)
    with world.engine.begin() as db:
        [row] = db.execute(select(person_codes)).all()
    assert len(row.blinded) == 64
    assert CODE not in str(row)


def test_without_a_key_nobody_is_compared(world: RaWorld) -> None:
    unkeyed = Persons(world.engine)
    assert unkeyed.other_person(CODE, "officer-10", but="") is None
    assert not unkeyed.other_code(CODE, "officer-9")
    with world.engine.begin() as db:
        unkeyed.claim(db, CODE, person_id="officer-10", application_id="another")


# Who makes an officer


def test_two_appoint_and_nobody_else(world: RaWorld) -> None:
    """The register begins empty; a first officer comes from the ceremony, every other one from two of them."""
    office = world.office
    application = apply(world)
    for credential in (office.vetter, office.approver):
        with pytest.raises(RefusedError) as error:
            world.decide(application.id, "sponsor", credential)
        assert error.value.findings[0].code is Rule.DEC_ROLE
    world.decide(application.id, "sponsor", office.security)
    with pytest.raises(RefusedError) as error:
        world.decide(application.id, "approve", office.security)
    assert error.value.findings[0].code is Rule.SOD_STEP
    with world.engine.begin() as db:
        assert db.execute(select(persons)).all() == []
    assert world.decide(application.id, "approve", office.security_2).state is State.ISSUED


def test_who_stands_in_for_a_security_officer_appoints_nobody(world: RaWorld) -> None:
    grant = RoleGrant("security_officer", None, world.now - DAY, world.now + DAY)
    stand_in = world.office.officer("officer-60", grants=(grant,))
    application = apply(world)
    with pytest.raises(RefusedError, match="does not count here"):
        world.decide(application.id, "sponsor", stand_in)


@pytest.mark.parametrize("who", ["ra", "hsm", "bank"])
def test_no_service_makes_an_officer_not_even_the_registration_authority_itself(world: RaWorld, who: str) -> None:
    """The first officers come from the ceremony (CPS 5.3): nothing that runs can replace them."""
    application = apply(world)
    with pytest.raises(RefusedError) as error:
        world.decide(application.id, "sponsor", getattr(world.office, who))
    assert error.value.findings[0].code is Rule.DEC_ROLE


def test_nobody_appoints_themselves_or_with_themselves(world: RaWorld) -> None:
    """One of two security officers with another role in mind needs a third."""
    application = apply(world, person_id="officer-5", roles=("vetting_officer",))
    with pytest.raises(RefusedError) as error:
        world.decide(application.id, "sponsor", world.office.security)
    assert error.value.findings[0].code is Rule.SOD_OWN
    world.decide(application.id, "sponsor", world.office.security_2)
    with pytest.raises(RefusedError) as error:
        world.decide(application.id, "approve", world.office.security)
    assert error.value.findings[0].code is Rule.SOD_OWN
