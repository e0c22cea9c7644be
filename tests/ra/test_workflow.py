"""The life of an application: every class to its certificates, and each way that is barred."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from audit import read
from cps.model import Purpose
from cps.rules import Rule
from pki.extensions import AccountBinding, MerchantData, OfficerData
from pki.keys import spki_sha256
from pki.roles import Role, role_of
from ra.access import Actor
from ra.errors import (
    ConflictError,
    InvalidSubmissionError,
    NotAllowedError,
    RefusedError,
    UnknownError,
    WrongStateError,
)
from ra.states import State
from ra.submission import Submission
from ra.workflow import NewEvidence
from shetab.iran import build_iban
from tests.support.cps_cases import MINUTE, Office, csr
from tests.support.pki_factory import Credential, p256
from tests.support.ra_world import ANONYMOUS, OPERATOR, RaWorld, merchant_subject, officer


def states(world: RaWorld, application_id: str) -> list[str]:
    """The states an application went through."""
    return [str(each.after) for each in world.store.transitions(application_id)]


def refused(error: pytest.ExceptionInfo[RefusedError]) -> tuple[Rule, str]:
    finding = error.value.findings[0]
    return finding.code, finding.clause


# Every class, to its certificates


def test_a_merchant_is_vetted_approved_and_certified(world: RaWorld) -> None:
    key, tls = p256(), p256()
    application = world.open_merchant(csrs={"signing": csr(key), "tls": csr(tls)})
    assert application.state is State.VETTING
    application = world.decide(application.id, "vet", world.office.vetter)
    assert application.state is State.AWAITING_APPROVAL
    application = world.decide(application.id, "approve", world.office.approver)
    assert application.state is State.ISSUED
    signing, service = world.store.certificates(application.id)
    certificate = x509.load_der_x509_certificate(signing.der)
    assert role_of(certificate) is Role.MERCHANT
    assert spki_sha256(certificate.public_key()) == spki_sha256(key.public_key())
    data = MerchantData.from_certificate(certificate)
    assert data is not None
    assert data.merchant_id == "M-1"
    binding = AccountBinding.from_certificate(certificate)
    assert binding is not None
    assert binding == AccountBinding.of(merchant_subject()["iban"], binding.salt)
    assert role_of(x509.load_der_x509_certificate(service.der)) is Role.SERVICE
    assert states(world, application.id) == [
        "DRAFT",
        "SCREENING",
        "VETTING",
        *["VETTING"] * 3,
        "AWAITING_APPROVAL",
        "APPROVED",
        "ISSUING",
        "ISSUED",
    ]


def test_a_gateway_is_vetted_approved_by_two_and_released(world: RaWorld) -> None:
    office = world.office
    application = world.open_gateway()
    for step, by, state in (
        ("vet", office.vetter, State.AWAITING_APPROVAL),
        ("approve", office.approver, State.AWAITING_APPROVAL),
        ("approve", office.approver_2, State.AWAITING_APPROVAL),
        ("release", office.security, State.ISSUED),
    ):
        assert world.decide(application.id, step, by).state is state
    roles = {role_of(x509.load_der_x509_certificate(issued.der)) for issued in world.store.certificates(application.id)}
    assert roles == {Role.GATEWAY_SIGNING, Role.GATEWAY_ENCRYPTION}


def test_a_cardholder_of_low_risk_needs_nobody(world: RaWorld) -> None:
    application = world.open_cardholder()
    assert application.state is State.ISSUED
    (issued,) = world.store.certificates(application.id)
    assert role_of(x509.load_der_x509_certificate(issued.der)) is Role.CARDHOLDER
    (decision,) = world.store.decisions(application.id)
    assert decision.received_from == "service:ra"


def test_a_cardholder_waits_for_the_confirmation_of_the_bank(world: RaWorld) -> None:
    key = p256()
    application = world.open_cardholder(key=key, confirmed=False)
    assert application.state is State.VETTING
    assert world.confirm(application.id, key).state is State.ISSUED


def test_a_cardholder_of_high_risk_is_reviewed(world: RaWorld) -> None:
    unknown_bin = "999999"
    bank = world.office.pki.service(f"issuer-{unknown_bin}")
    key = p256()
    application = world.open_cardholder(key=key, bin_=unknown_bin, confirmed=False)
    world.confirm(application.id, key, bin_=unknown_bin, by=bank)
    revision = world.store.revision(world.store.application(application.id))
    assert revision is not None
    assert revision.signals == ("bin_unknown",)
    assert world.decide(application.id, "review", world.office.vetter).state is State.ISSUED


def test_an_officer_is_appointed_by_two_security_officers_and_can_then_decide(world: RaWorld) -> None:
    office = world.office
    key = p256()
    application = world.open_officer(key=key)
    world.decide(application.id, "sponsor", office.security)
    application = world.decide(application.id, "approve", office.security_2)
    (issued,) = world.store.certificates(application.id)
    certificate = x509.load_der_x509_certificate(issued.der)
    assert OfficerData.from_certificate(certificate) == OfficerData("officer-9", "RA", ("vetting_officer",))
    chain = tuple(map(x509.load_der_x509_certificate, issued.chain))
    appointed = Credential(certificate, key, chain, world.now)
    merchant = world.open_merchant()
    world.clock.forward(MINUTE)
    assert world.decide(merchant.id, "vet", appointed).state is State.AWAITING_APPROVAL


# Decisions that do not count


def test_self_approval_is_refused(world: RaWorld) -> None:
    office = world.office
    application = world.open_merchant(opener=officer(office.vetter))
    with pytest.raises(RefusedError) as error:
        world.decide(application.id, "vet", office.vetter)
    assert refused(error) == (Rule.SOD_AUTHOR, "CPS 5.2.4")


def test_the_same_person_twice_is_refused(world: RaWorld) -> None:
    office = world.office
    application = world.open_gateway()
    world.decide(application.id, "vet", office.vetter)
    world.decide(application.id, "approve", office.approver)
    world.clock.forward(MINUTE)
    with pytest.raises(RefusedError) as error:
        world.decide(application.id, "approve", office.approver)
    assert refused(error) == (Rule.SOD_PERSON, "CPS 5.2.2")


def test_a_decision_over_an_older_revision_is_refused(world: RaWorld) -> None:
    application = world.open_merchant()
    signed = world.sign(application.id, "vet", world.office.vetter)
    amended = Submission(merchant_subject(name="Other Shop"), {"signing": csr(p256())})
    world.workflow.amend(OPERATOR, application.id, amended)
    with pytest.raises(RefusedError) as error:
        world.workflow.decide(OPERATOR, application.id, signed)
    assert refused(error) == (Rule.DEC_STALE, "CPS 4.2.2")


def test_an_expired_decision_is_refused(world: RaWorld) -> None:
    application = world.open_merchant()
    signed = world.sign(application.id, "vet", world.office.vetter, expires=world.now + MINUTE)
    world.clock.forward(MINUTE)
    with pytest.raises(RefusedError) as error:
        world.workflow.decide(OPERATOR, application.id, signed)
    assert refused(error) == (Rule.DEC_EXPIRED, "CPS 4.2.2")


def test_the_decision_of_a_revoked_officer_is_refused(tmp_path: Path, fresh_office: Office) -> None:
    world = RaWorld(tmp_path, fresh_office)
    application = world.open_merchant()
    fresh_office.pki.revoke(fresh_office.vetter)
    world.trust_source = fresh_office.pki.trust
    with pytest.raises(RefusedError) as error:
        world.decide(application.id, "vet", fresh_office.vetter)
    assert refused(error) == (Rule.DEC_CREDENTIAL, "CPS 5.2.3")
    world.close()


def test_a_refused_decision_leaves_the_case_as_it_was_but_not_the_journal(world: RaWorld) -> None:
    application = world.open_merchant()
    with pytest.raises(RefusedError):
        world.decide(application.id, "vet", world.office.approver)
    assert world.store.decisions(application.id) == []
    assert world.store.application(application.id) == application
    last = list(read(world.journal))[-1].entry
    assert (last["event"], last["person"], last["rules"]) == ("ra.refused", "officer-3", ["DEC-ROLE"])


def test_bytes_that_are_no_decision_are_refused(world: RaWorld) -> None:
    application = world.open_merchant()
    with pytest.raises(RefusedError) as error:
        world.workflow.decide(OPERATOR, application.id, b"\x30\x00")
    assert refused(error) == (Rule.DEC_FORM, "CPS 4.2.2")


def test_the_same_decision_again_changes_nothing(world: RaWorld) -> None:
    application = world.open_merchant()
    signed = world.sign(application.id, "vet", world.office.vetter)
    once = world.workflow.decide(OPERATOR, application.id, signed)
    assert world.workflow.decide(OPERATOR, application.id, signed) == once
    assert len(world.store.decisions(application.id)) == 1


def test_a_rejection_ends_the_application_and_frees_its_key(world: RaWorld) -> None:
    key = p256()
    application = world.open_merchant(key=key)
    assert world.reject(application.id, "vet", world.office.vetter).state is State.REJECTED
    with pytest.raises(WrongStateError):
        world.decide(application.id, "vet", world.office.vetter_2)
    assert world.open_merchant(key=key).state is State.VETTING


def test_new_evidence_makes_decisions_fall_away(world: RaWorld) -> None:
    application = world.open_merchant()
    world.decide(application.id, "vet", world.office.vetter)
    assert world.add_document(application.id, "site_visit").state is State.VETTING
    with pytest.raises(RefusedError) as error:
        world.decide(application.id, "approve", world.office.approver)
    assert refused(error) == (Rule.DEC_ORDER, "CPS 4.2.2")


def test_approval_of_a_case_whose_evidence_is_missing_waits(world: RaWorld) -> None:
    application = world.open_merchant(documents=("acquirer_agreement", "company_register"))
    world.decide(application.id, "vet", world.office.vetter)
    assert world.decide(application.id, "approve", world.office.approver).state is State.AWAITING_APPROVAL


# Submissions


def test_a_key_that_another_application_claims_is_sent_back(world: RaWorld) -> None:
    key = p256()
    world.open_merchant(key=key)
    second = world.open_merchant(key=key, merchant_id="M-2", documents=())
    assert second.state is State.RETURNED
    assert str(second.trouble).startswith("CPS 6.1.1 KEY-REUSED")


def test_a_key_that_was_certified_is_never_certified_again(world: RaWorld) -> None:
    key = p256()
    world.certified_merchant(key=key)
    again = world.open_merchant(key=key, documents=())
    assert (again.state, str(again.trouble)) == (
        State.RETURNED,
        "CPS 6.1.1 KEY-REUSED: the signing key was certified before",
    )


def test_what_was_sent_back_can_be_amended(world: RaWorld) -> None:
    key = p256()
    world.open_merchant(key=key)
    second = world.open_merchant(key=key, merchant_id="M-2", documents=())
    amended = Submission(merchant_subject(merchant_id="M-2"), {"signing": csr(p256())})
    application = world.workflow.amend(OPERATOR, second.id, amended)
    assert (application.state, application.revision, application.trouble) == (State.VETTING, 2, None)


def test_whoever_amended_is_an_author_too(world: RaWorld) -> None:
    application = world.open_merchant(opener=officer(world.office.vetter))
    amended = Submission(merchant_subject(), {"signing": csr(p256())})
    world.workflow.amend(OPERATOR, application.id, amended)
    revision = world.store.revision(world.store.application(application.id))
    assert revision is not None
    assert [author.person for author in revision.authors] == ["officer-1", "service:operator"]


@pytest.mark.parametrize(
    ("subject", "state", "rule"),
    [
        pytest.param({"iban": build_iban("999", "1")}, State.RETURNED, "ID-IBAN", id="iban-of-no-bank"),
        pytest.param({"acquirer_bin": "111111"}, State.RETURNED, "ID-ACQUIRER", id="acquirer"),
        pytest.param({"name": "6037991234567893"}, State.RETURNED, "NAME-FORBIDDEN", id="card-number"),
    ],
)
def test_screening_sends_back_what_cannot_be_right(
    world: RaWorld, subject: dict[str, Any], state: State, rule: str
) -> None:
    application = world.open_merchant(documents=(), **subject)
    assert application.state is state
    assert rule in str(application.trouble)


def refused_at_the_door(world: RaWorld, submission: Submission) -> str | None:
    """The clause by which a draft is refused; it stays as it was."""
    application = world.workflow.open(OPERATOR, "merchant")
    with pytest.raises(InvalidSubmissionError) as refused:
        world.workflow.submit(OPERATOR, application.id, submission)
    assert world.store.application(application.id) == application
    assert len(world.store.transitions(application.id)) == 1
    return refused.value.clause


def test_wrong_check_digits_are_refused_and_the_draft_stays(world: RaWorld) -> None:
    csrs: dict[Purpose, bytes] = {"signing": csr(p256())}
    account = Submission(merchant_subject(iban="IR570560123456789012345679"), csrs)
    person = Submission(merchant_subject(), csrs, national_code="0010350820")
    company = Submission(merchant_subject(company_id="10380284791"), csrs)
    assert refused_at_the_door(world, account) == "CPS 3.2.2"
    pack = world.workflow.pack
    assert refused_at_the_door(world, company) == pack.clause(Rule.ID_COMPANY) == "CPS 3.2.2"
    assert refused_at_the_door(world, person) == pack.clause(Rule.ID_PERSON) == "CPS 3.2.3"


def test_a_national_code_is_kept_as_ten_digits(world: RaWorld) -> None:
    application = world.workflow.open(OPERATOR, "merchant")
    submission = Submission(merchant_subject(), {"signing": csr(p256())}, national_code="۱۰۳۵۰۸۲۹")
    application = world.workflow.submit(OPERATOR, application.id, submission)
    assert (application.state, application.national_code) == (State.VETTING, "0010350829")


def test_a_request_that_names_another_member_is_refused_and_the_draft_stays(world: RaWorld) -> None:
    world.open_merchant(merchant_id="M-77")
    foreign = Submission(merchant_subject(merchant_id="M-78"), {"signing": csr(p256(), "M-77")})
    assert refused_at_the_door(world, foreign) == "CPS 4.1.2"
    own = world.open_merchant(merchant_id="M-79", csrs={"signing": csr(p256(), "M-79")})
    assert own.state is State.VETTING


def test_a_subject_has_one_open_application(world: RaWorld) -> None:
    world.open_merchant()
    second = world.open_merchant(documents=())
    assert second.state is State.RETURNED
    assert "APP-DUPLICATE" in str(second.trouble)


def test_two_returned_applications_do_not_block_each_other(world: RaWorld) -> None:
    first = world.open_merchant()
    second = world.open_merchant(documents=())
    world.workflow.withdraw(OPERATOR, first.id, "")
    amended = Submission(merchant_subject(), {"signing": csr(p256())})
    assert world.workflow.amend(OPERATOR, second.id, amended).state is State.VETTING


def test_a_certified_merchant_is_not_taken_over_by_another_organisation(world: RaWorld) -> None:
    world.certified_merchant()
    assert world.open_merchant(documents=()).state is State.VETTING
    other = world.open_merchant(documents=(), organisation="Somebody Else")
    assert "APP-DUPLICATE" in str(other.trouble)


def test_a_person_who_holds_one_exclusive_role_does_not_get_the_other(world: RaWorld) -> None:
    office = world.office
    application = world.open_officer()
    world.decide(application.id, "sponsor", office.security)
    world.decide(application.id, "approve", office.security_2)
    second = world.open_officer(roles=("approving_officer",))
    assert second.state is State.RETURNED
    assert "SOD-EXCLUSIVE" in str(second.trouble)


def test_a_card_that_was_certified_before_is_a_higher_risk(world: RaWorld) -> None:
    assert world.open_cardholder().state is State.ISSUED
    second = world.open_cardholder()
    revision = world.store.revision(second)
    assert revision is not None
    assert revision.signals == ("commitment_certified_before",)
    assert second.state is State.ISSUED  # 30 is below 40: no person needed


@pytest.mark.parametrize(
    ("submission", "clause"),
    [
        pytest.param(Submission({}, {"signing": b"x"}), "CPS 3.1.4", id="no-subject"),
        pytest.param(Submission({"class": "gateway"}, {}), "CPS 4.1.2", id="another-class"),
        pytest.param(Submission(merchant_subject(), {}), "CPS 4.1.2", id="no-requests"),
        pytest.param(Submission(merchant_subject(), {"signing": b"\x30\x00"}), "CPS 4.1.2", id="no-request"),
        pytest.param(
            Submission(merchant_subject(), {"signing": csr(p256())[:-1] + b"\x00"}), "CPS 3.2.1", id="no-possession"
        ),
    ],
)
def test_a_submission_that_cannot_be_read_changes_nothing(world: RaWorld, submission: Submission, clause: str) -> None:
    application = world.workflow.open(OPERATOR, "merchant")
    with pytest.raises(InvalidSubmissionError) as error:
        world.workflow.submit(OPERATOR, application.id, submission)
    assert error.value.clause == clause
    assert world.store.application(application.id) == application


def test_a_draft_is_submitted_once(world: RaWorld) -> None:
    application = world.open_merchant()
    with pytest.raises(WrongStateError):
        world.workflow.submit(OPERATOR, application.id, Submission(merchant_subject(), {"signing": csr(p256())}))


def test_a_change_names_the_version_it_was_made_on(world: RaWorld) -> None:
    application = world.workflow.open(OPERATOR, "merchant")
    submission = Submission(merchant_subject(), {"signing": csr(p256())})
    with pytest.raises(ConflictError):
        world.workflow.submit(OPERATOR, application.id, submission, version=7)
    assert world.workflow.submit(OPERATOR, application.id, submission, version=1).version == 2


# Who may do what


STRANGER = Actor("merchant:M-9")


def test_only_the_opener_and_the_operator_change_an_application(world: RaWorld) -> None:
    application = world.workflow.open(OPERATOR, "merchant")
    submission = Submission(merchant_subject(), {"signing": csr(p256())})
    for actor in (STRANGER, ANONYMOUS, officer(world.office.vetter)):
        with pytest.raises(NotAllowedError):
            world.workflow.submit(actor, application.id, submission)
        with pytest.raises(NotAllowedError):
            world.workflow.withdraw(actor, application.id, "")


def test_documents_are_taken_in_by_vetting_officers(world: RaWorld) -> None:
    application = world.open_merchant(documents=())
    new = NewEvidence(kind="acquirer_agreement", body=b"a letter", source="bank")
    for actor in (OPERATOR, officer(world.office.approver)):
        with pytest.raises(NotAllowedError, match="vetting officers"):
            world.workflow.add_evidence(actor, application.id, new)


def test_decisions_are_not_handed_in_by_applicants(world: RaWorld) -> None:
    application = world.open_merchant()
    signed = world.sign(application.id, "vet", world.office.vetter)
    with pytest.raises(NotAllowedError):
        world.workflow.decide(STRANGER, application.id, signed)


def test_an_application_is_read_by_its_opener_and_by_officers(world: RaWorld) -> None:
    application = world.open_merchant()
    for actor in (OPERATOR, officer(world.office.security)):
        assert world.workflow.get(actor, application.id) == application
    with pytest.raises(NotAllowedError):
        world.workflow.get(STRANGER, application.id)
    with pytest.raises(UnknownError):
        world.workflow.get(OPERATOR, "0" * 32)


@pytest.mark.parametrize(
    "new",
    [
        NewEvidence(kind="no such kind!", body=b"", source="x"),
        NewEvidence(kind="iban_owner", body=b"", source="the bank\n  written by  nobody"),
        NewEvidence(kind="iban_owner", body=b"", source="\u202eknab eht"),
        NewEvidence(kind="issuer_bank_confirmation", body=bytes(16_385), source="x"),
    ],
    ids=["kind", "source of two lines", "source that reads backwards", "form without end"],
)
def test_evidence_that_is_not_as_it_should_be_is_not_taken(world: RaWorld, new: NewEvidence) -> None:
    application = world.open_merchant(documents=())
    with pytest.raises(InvalidSubmissionError):
        world.workflow.add_evidence(officer(world.office.vetter), application.id, new)


def test_a_case_takes_only_so_much_evidence(world: RaWorld) -> None:
    application = world.workflow.open(ANONYMOUS, "cardholder")
    new = NewEvidence(kind="issuer_bank_confirmation", body=b"x", source="x")
    for _ in range(32):
        world.workflow.add_evidence(ANONYMOUS, application.id, new)
    with pytest.raises(InvalidSubmissionError, match="at most 32"):
        world.workflow.add_evidence(ANONYMOUS, application.id, new)


# Time


def test_an_application_that_nobody_decides_ends(world: RaWorld) -> None:
    application = world.open_merchant()
    world.clock.forward(timedelta(days=30))
    world.trust_source = lambda: world.office.pki.trust(world.now)
    assert world.workflow.sweep() == 1
    assert world.store.application(application.id).state is State.EXPIRED
    assert world.workflow.sweep() == 0


def test_an_application_is_ended_also_when_it_is_met(world: RaWorld) -> None:
    application = world.workflow.open(OPERATOR, "merchant")
    world.clock.forward(timedelta(days=30))
    assert world.workflow.get(OPERATOR, application.id).state is State.EXPIRED


def test_a_withdrawn_application_stays_withdrawn(world: RaWorld) -> None:
    application = world.open_merchant()
    assert world.workflow.withdraw(OPERATOR, application.id, "closed shop").state is State.WITHDRAWN
    with pytest.raises(WrongStateError):
        world.workflow.withdraw(OPERATOR, application.id, "")
