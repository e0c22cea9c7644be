"""Deciding on cases: each class approved by the right hands, each wrong hand refused by the clause it breaks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cps.decide import Finding, NextStep, Status, Verdict, decide
from cps.decision import Choice
from cps.dossier import Author, Dossier
from cps.model import load_pack
from cps.rules import Rule
from pki.names import name
from pki.path import Trust
from pki.roles import Role
from runtime.language import Language
from tests.cps.test_model import TEXT
from tests.support.cps_cases import AUTHOR, DAY, MERCHANT, MINUTE, OFFICER, Office, evidence
from tests.support.pki_factory import NOW, PkiFactory

Judge = Callable[[Dossier], Verdict]


@pytest.fixture(scope="session")
def judge(office: Office, trust: Trust) -> Judge:
    return lambda dossier: decide(dossier, office.pack, trust=trust, now=NOW)


def only_finding(verdict: Verdict) -> Finding:
    assert len(verdict.findings) == 1, verdict.findings
    return verdict.findings[0]


def assert_last_decision_refused(verdict: Verdict, dossier: Dossier, rule: Rule, clause: str) -> None:
    """The case waits on, and the one finding is about the last decision."""
    assert verdict.status is Status.PENDING
    finding = only_finding(verdict)
    assert (finding.code, finding.clause, finding.decision) == (rule, clause, len(dossier.decisions) - 1)
    assert verdict.about(len(dossier.decisions) - 1) == (finding,)


# Every class, decided by the right hands


def test_a_merchant_is_vetted_and_approved_by_two_persons(office: Office, judge: Judge) -> None:
    dossier = office.merchant_case()
    assert judge(dossier).next_step == NextStep("vet", ("vetting_officer",), 1)
    dossier = office.decided(dossier, "vet", office.vetter)
    assert judge(dossier).next_step == NextStep("approve", ("approving_officer",), 1)
    verdict = judge(office.decided(dossier, "approve", office.approver))
    assert verdict.approved
    assert (verdict.next_step, verdict.findings) == (None, ())
    assert [(given.step, given.person, given.decision) for given in verdict.approvals] == [
        ("vet", "officer-1", 0),
        ("approve", "officer-3", 1),
    ]
    assert verdict.not_after == NOW + 398 * DAY


def test_a_gateway_is_vetted_approved_by_two_and_released(office: Office, judge: Judge) -> None:
    dossier = office.decided(office.gateway_case(), "vet", office.vetter)
    dossier = office.decided(dossier, "approve", office.approver)
    assert judge(dossier).next_step == NextStep("approve", ("approving_officer",), 1)
    dossier = office.decided(dossier, "approve", office.approver_2)
    assert judge(dossier).next_step == NextStep("release", ("security_officer",), 1)
    assert judge(office.decided(dossier, "release", office.security)).approved


def test_an_officer_is_sponsored_and_approved_by_two_security_officers(office: Office, judge: Judge) -> None:
    dossier = office.decided(office.officer_case(), "sponsor", office.security)
    assert judge(office.decided(dossier, "approve", office.security_2)).approved


def test_a_sponsor_may_open_the_case_of_an_officer(office: Office, judge: Judge) -> None:
    dossier = office.officer_case(authors=(Author(person="officer-5", organisation="RA"),))
    dossier = office.decided(dossier, "sponsor", office.security)
    assert judge(office.decided(dossier, "approve", office.security_2)).approved


def test_a_cardholder_of_low_risk_is_decided_by_the_registration_authority_itself(office: Office, judge: Judge) -> None:
    dossier = office.cardholder_case()
    assert judge(dossier).next_step == NextStep("auto", ("system",), 1)
    verdict = judge(office.decided(dossier, "auto", office.ra))
    assert verdict.approved
    assert verdict.not_after == NOW + 90 * DAY


def test_a_cardholder_of_high_risk_is_reviewed_by_a_person(office: Office, judge: Judge) -> None:
    dossier = office.cardholder_case(signals=("rejected_before",))
    verdict = judge(dossier)
    assert (verdict.risk, verdict.next_step) == (50, NextStep("review", ("vetting_officer",), 1))
    by_system = office.decided(dossier, "auto", office.ra)
    assert_last_decision_refused(judge(by_system), by_system, Rule.DEC_STEP, "CPS 4.2.2")
    assert judge(office.decided(dossier, "review", office.vetter)).approved


def test_a_cardholder_certificate_does_not_outlive_the_card(office: Office, judge: Judge) -> None:
    dossier = office.cardholder_case(office.confirmation(expires_at=NOW + 10 * DAY))
    assert judge(office.decided(dossier, "auto", office.ra)).not_after == NOW + 10 * DAY


# Separation of duties


def test_the_author_does_not_decide(office: Office, judge: Judge) -> None:
    dossier = office.merchant_case(authors=(Author(person="officer-1"),))
    dossier = office.decided(dossier, "vet", office.vetter)
    assert_last_decision_refused(judge(dossier), dossier, Rule.SOD_AUTHOR, "CPS 5.2.4")


def test_the_author_of_an_earlier_revision_does_not_decide_either(office: Office, judge: Judge) -> None:
    dossier = office.merchant_case(authors=(Author(person="officer-1"), AUTHOR), number=2)
    dossier = office.decided(dossier, "vet", office.vetter)
    assert_last_decision_refused(judge(dossier), dossier, Rule.SOD_AUTHOR, "CPS 5.2.4")


def test_the_author_does_not_approve_what_another_vetted(office: Office, judge: Judge) -> None:
    dossier = office.merchant_case(authors=(Author(person="officer-3"),))
    dossier = office.decided(office.decided(dossier, "vet", office.vetter), "approve", office.approver)
    assert_last_decision_refused(judge(dossier), dossier, Rule.SOD_AUTHOR, "CPS 5.2.4")


@pytest.mark.parametrize("organisation", ["Bookshop Co", " bookshop  CO "])
def test_an_officer_does_not_decide_for_their_employer(office: Office, judge: Judge, organisation: str) -> None:
    colleague = office.officer("officer-20", "vetting_officer", organisation=organisation)
    dossier = office.decided(office.merchant_case(), "vet", colleague)
    assert_last_decision_refused(judge(dossier), dossier, Rule.SOD_ORGANISATION, "CPS 5.2.4")


def test_an_officer_does_not_decide_on_what_a_colleague_wrote(office: Office, judge: Judge) -> None:
    dossier = office.merchant_case(authors=(Author(person="officer-2", organisation="RA"),))
    dossier = office.decided(dossier, "vet", office.vetter)
    assert_last_decision_refused(judge(dossier), dossier, Rule.SOD_ORGANISATION, "CPS 5.2.4")


def test_a_cardholder_has_no_employer_but_the_author_has(office: Office, trust: Trust) -> None:
    pack = load_pack(TEXT.replace('count: 1, not: [author], when: "risk', 'count: 1, not: [same_org], when: "risk'))
    here = Office(office.pki, pack)
    risky: dict[str, Any] = {"signals": ("rejected_before",)}
    dossier = here.decided(here.cardholder_case(**risky), "review", office.vetter)
    assert decide(dossier, pack, trust=trust, now=NOW).approved
    dossier = here.cardholder_case(authors=(Author(person="teller-1", organisation="ra"),), **risky)
    dossier = here.decided(dossier, "review", office.vetter)
    verdict = decide(dossier, pack, trust=trust, now=NOW)
    assert_last_decision_refused(verdict, dossier, Rule.SOD_ORGANISATION, "CPS 5.2.4")


def test_a_case_written_by_a_service_for_an_applicant_is_nobodys_employers(office: Office, judge: Judge) -> None:
    dossier = office.merchant_case(authors=(Author(person="service:operator"),))
    assert judge(office.decided(dossier, "vet", office.officer("officer-21", "vetting_officer"))).findings == ()


def test_two_approvals_of_one_person_are_one(office: Office, judge: Judge) -> None:
    dossier = office.decided(office.gateway_case(), "vet", office.vetter)
    dossier = office.decided(dossier, "approve", office.approver, office.approver)
    assert_last_decision_refused(judge(dossier), dossier, Rule.SOD_PERSON, "CPS 5.2.2")


def test_a_second_certificate_does_not_make_a_second_person(office: Office, judge: Judge) -> None:
    again = office.officer("officer-3", "approving_officer")
    dossier = office.decided(office.gateway_case(), "vet", office.vetter)
    dossier = office.decided(dossier, "approve", office.approver, again)
    assert_last_decision_refused(judge(dossier), dossier, Rule.SOD_PERSON, "CPS 5.2.2")


def test_who_sponsors_an_officer_does_not_approve_them(office: Office, judge: Judge) -> None:
    dossier = office.decided(office.officer_case(), "sponsor", office.security)
    dossier = office.decided(dossier, "approve", office.security, date=NOW + MINUTE)
    assert_last_decision_refused(judge(dossier), dossier, Rule.SOD_STEP, "CPS 5.2.4")


def test_who_approves_an_officer_does_not_sponsor_them_afterwards(office: Office, judge: Judge) -> None:
    dossier = office.decided(office.officer_case(), "sponsor", office.security)
    dossier = office.decided(dossier, "approve", office.security_2)
    verdict = judge(office.decided(dossier, "sponsor", office.security_2, date=NOW + MINUTE))
    assert verdict.approved
    assert [finding.code for finding in verdict.about(2)] == [Rule.SOD_STEP]


def test_nobody_decides_on_their_own_certificate(office: Office, judge: Judge) -> None:
    own = OFFICER.model_copy(update={"person_id": "officer-5", "roles": ("security_officer",)})
    dossier = office.decided(office.officer_case(own), "sponsor", office.security)
    assert_last_decision_refused(judge(dossier), dossier, Rule.SOD_OWN, "CPS 5.2.4")


def test_an_officer_certified_for_exclusive_roles_decides_nothing(office: Office, judge: Judge) -> None:
    both = office.officer("officer-22", "vetting_officer", "approving_officer")
    dossier = office.decided(office.merchant_case(), "vet", both)
    assert_last_decision_refused(judge(dossier), dossier, Rule.SOD_EXCLUSIVE, "CPS 5.2.4")


def test_who_vetted_an_earlier_revision_does_not_approve_a_later_one(office: Office, judge: Judge) -> None:
    first = office.merchant_case()
    stale = office.decision(first, "vet", office.officer("officer-23", "vetting_officer"), date=NOW - MINUTE)
    second = office.merchant_case(number=2, authors=(AUTHOR, AUTHOR)).with_decision(stale)
    promoted = office.officer("officer-23", "approving_officer")
    dossier = office.decided(office.decided(second, "vet", office.vetter), "approve", promoted)
    verdict = judge(dossier)
    assert [finding.code for finding in verdict.about(2)] == [Rule.SOD_STEP]
    assert [finding.code for finding in verdict.about(0)] == [Rule.DEC_STALE]


def test_roles_that_exclude_each_other_are_not_acted_in_by_one_person_in_one_case(office: Office, trust: Trust) -> None:
    """Also where the steps themselves would allow it: the pack's exclusive roles stand above its steps."""
    pack = load_pack(
        TEXT.replace("not: [author, vet, same_org], expires: P2D", "not: [author, same_org], expires: P2D")
    )
    dossier = Office(office.pki, pack).gateway_case()
    dossier = office.decided(dossier, "vet", office.officer("officer-24", "vetting_officer"))
    dossier = office.decided(dossier, "approve", office.officer("officer-24", "approving_officer"))
    verdict = decide(dossier, pack, trust=trust, now=NOW)
    assert_last_decision_refused(verdict, dossier, Rule.SOD_EXCLUSIVE, "CPS 5.2.4")


def test_a_decision_without_the_role_for_it_leaves_its_person_free_to_act(office: Office, judge: Judge) -> None:
    dossier = office.decided(office.merchant_case(), "approve", office.vetter)
    dossier = office.decided(dossier, "vet", office.vetter)
    verdict = judge(dossier)
    assert [approval.step for approval in verdict.approvals] == ["vet"]


# Decisions over other things, at other times, by other hands


def test_a_decision_over_an_older_revision_does_not_count(office: Office, judge: Judge) -> None:
    vetted = office.decided(office.merchant_case(), "vet", office.vetter)
    amended = office.merchant_case(subject=MERCHANT.model_copy(update={"iban": "IR" + "0" * 24}))
    dossier = amended.with_decision(vetted.decisions[0])
    assert_last_decision_refused(judge(dossier), dossier, Rule.DEC_STALE, "CPS 4.2.2")


def test_a_decision_before_new_evidence_does_not_count(office: Office, judge: Judge) -> None:
    vetted = office.decided(office.merchant_case(), "vet", office.vetter)
    more = (*vetted.evidence, evidence("site_visit"))
    dossier = vetted.model_copy(update={"evidence": more})
    assert_last_decision_refused(judge(dossier), dossier, Rule.DEC_EVIDENCE, "CPS 4.2.2")


def test_a_decision_about_another_case_does_not_count(office: Office, judge: Judge) -> None:
    dossier = office.decided(office.merchant_case(), "vet", office.vetter, application_id="case-2")
    assert_last_decision_refused(judge(dossier), dossier, Rule.DEC_FORM, "CPS 4.2.2")


def test_a_step_that_the_class_does_not_have_cannot_be_decided(office: Office, judge: Judge) -> None:
    dossier = office.decided(office.merchant_case(), "release", office.security)
    assert_last_decision_refused(judge(dossier), dossier, Rule.DEC_STEP, "CPS 4.2.2")


def test_approval_does_not_come_before_vetting(office: Office, judge: Judge) -> None:
    dossier = office.decided(office.merchant_case(), "approve", office.approver)
    assert_last_decision_refused(judge(dossier), dossier, Rule.DEC_ORDER, "CPS 4.2.2")


def test_decisions_are_taken_in_the_order_of_their_dates(office: Office, judge: Judge) -> None:
    dossier = office.decided(office.merchant_case(), "approve", office.approver, date=NOW)
    dossier = office.decided(dossier, "vet", office.vetter, date=NOW - MINUTE)
    assert judge(dossier).approved


@pytest.mark.parametrize(
    ("times", "rule"),
    [
        pytest.param({"date": NOW + 3 * MINUTE}, Rule.DEC_TIME, id="in-the-future"),
        pytest.param({"date": NOW, "signing_time": NOW + 3 * MINUTE}, Rule.DEC_TIME, id="signed-in-the-future"),
        pytest.param({"date": NOW, "signing_time": NOW - 3 * MINUTE}, Rule.DEC_TIME, id="signed-before-it-was-written"),
        pytest.param(
            {"date": NOW - DAY, "expires": NOW - MINUTE, "signing_time": NOW}, Rule.DEC_TIME, id="signed-when-expired"
        ),
        pytest.param({"date": NOW - DAY, "expires": NOW}, Rule.DEC_EXPIRED, id="expired-as-it-says"),
    ],
)
def test_a_decision_counts_only_in_its_time(office: Office, judge: Judge, times: dict[str, object], rule: Rule) -> None:
    dossier = office.merchant_case()
    dossier = dossier.with_decision(office.decision(dossier, "vet", office.vetter, **times))
    assert_last_decision_refused(judge(dossier), dossier, rule, "CPS 4.2.2")


def test_a_decision_does_not_outlast_what_its_step_allows(office: Office) -> None:
    dossier = office.decided(office.merchant_case(), "vet", office.vetter, expires=NOW + 20 * DAY)
    dossier = office.decided(dossier, "approve", office.approver, expires=NOW + 20 * DAY)
    later = NOW + 5 * DAY
    verdict = decide(dossier, office.pack, trust=office.pki.trust(later), now=later)
    assert_last_decision_refused(verdict, dossier, Rule.DEC_EXPIRED, "CPS 4.2.2")


def test_a_decision_lapses_with_its_own_expiry_where_the_step_sets_none(office: Office) -> None:
    pack = load_pack(TEXT.replace("not: [author, vet, same_org], expires: P5D", "not: [author, vet, same_org]"))
    dossier = Office(office.pki, pack).merchant_case()
    dossier = office.decided(dossier, "vet", office.vetter, expires=NOW + 20 * DAY)
    dossier = office.decided(dossier, "approve", office.approver, expires=NOW + 20 * DAY)
    later = NOW + 19 * DAY
    assert decide(dossier, pack, trust=office.pki.trust(later), now=later).approved


def test_an_officer_of_another_role_does_not_decide(office: Office, judge: Judge) -> None:
    dossier = office.decided(office.merchant_case(), "vet", office.approver)
    assert_last_decision_refused(judge(dossier), dossier, Rule.DEC_ROLE, "CPS 5.2.1")


def test_the_registration_authority_does_not_decide_for_persons(office: Office, judge: Judge) -> None:
    dossier = office.decided(office.merchant_case(), "vet", office.ra)
    assert_last_decision_refused(judge(dossier), dossier, Rule.DEC_ROLE, "CPS 5.2.1")


def test_another_service_does_not_decide_for_the_registration_authority(office: Office, judge: Judge) -> None:
    dossier = office.decided(office.cardholder_case(), "auto", office.pki.service("gateway"))
    assert_last_decision_refused(judge(dossier), dossier, Rule.DEC_ROLE, "CPS 5.2.1")


def test_a_service_without_a_name_decides_nothing(office: Office, judge: Judge) -> None:
    nameless = office.pki.service("ra", uris=["https://ra.example"], dns=[])
    dossier = office.decided(office.cardholder_case(), "auto", nameless)
    assert_last_decision_refused(judge(dossier), dossier, Rule.DEC_ROLE, "CPS 5.2.1")


def test_an_officer_does_not_decide_for_the_registration_authority(office: Office, judge: Judge) -> None:
    dossier = office.decided(office.cardholder_case(), "auto", office.officer("officer-27", "system"))
    assert_last_decision_refused(judge(dossier), dossier, Rule.DEC_ROLE, "CPS 5.2.1")


def test_a_decision_with_a_flipped_bit_does_not_count(office: Office, judge: Judge) -> None:
    dossier = office.merchant_case()
    signed = bytearray(office.decision(dossier, "vet", office.vetter))
    signed[-1] ^= 1
    dossier = dossier.with_decision(bytes(signed))
    assert_last_decision_refused(judge(dossier), dossier, Rule.DEC_FORM, "CPS 4.2.2")


def test_another_signed_statement_is_no_decision(office: Office, judge: Judge) -> None:
    order = office.revocation(office.vetter.certificate, office.vetter)
    dossier = office.merchant_case().with_decision(order)
    assert_last_decision_refused(judge(dossier), dossier, Rule.DEC_FORM, "CPS 4.2.2")


# Credentials


def test_a_revoked_officer_does_not_decide(office: Office) -> None:
    pki = PkiFactory()
    here = Office(pki)
    dossier = here.decided(here.merchant_case(), "vet", here.vetter)
    assert decide(dossier, here.pack, trust=pki.trust(), now=NOW).findings == ()
    pki.revoke(here.vetter)
    verdict = decide(dossier, here.pack, trust=pki.trust(), now=NOW)
    assert_last_decision_refused(verdict, dossier, Rule.DEC_CREDENTIAL, "CPS 5.2.3")
    assert "revoked" in only_finding(verdict).message


def test_what_a_revoked_officer_did_still_excludes_the_person(office: Office) -> None:
    pki = PkiFactory()
    here = Office(pki)
    dossier = here.decided(here.merchant_case(), "vet", here.vetter)
    pki.revoke(here.vetter)
    dossier = here.decided(dossier, "vet", here.vetter_2)
    dossier = here.decided(dossier, "approve", here.officer("officer-1", "approving_officer"))
    verdict = decide(dossier, here.pack, trust=pki.trust(), now=NOW)
    assert [finding.code for finding in verdict.about(2)] == [Rule.SOD_STEP]


def test_an_expired_officer_does_not_decide(office: Office, trust: Trust) -> None:
    hand = office.officer("officer-28", "vetting_officer", not_after=NOW + timedelta(hours=1))
    dossier = office.decided(office.merchant_case(), "vet", hand)
    later = NOW + timedelta(hours=2)
    verdict = decide(dossier, office.pack, trust=trust, now=later)
    assert_last_decision_refused(verdict, dossier, Rule.DEC_CREDENTIAL, "CPS 5.2.3")
    assert "expired" in only_finding(verdict).message


def test_an_officer_does_not_sign_before_their_certificate_begins(office: Office, judge: Judge) -> None:
    hand = office.officer("officer-29", "vetting_officer", not_before=NOW - MINUTE)
    dossier = office.decided(office.merchant_case(), "vet", hand, date=NOW - 5 * MINUTE)
    assert_last_decision_refused(judge(dossier), dossier, Rule.DEC_CREDENTIAL, "CPS 5.2.3")


def test_an_officer_of_another_hierarchy_does_not_decide(office: Office, judge: Judge) -> None:
    stranger = PkiFactory(brand="Another").officer("officer-1", roles=("vetting_officer",))
    dossier = office.decided(office.merchant_case(), "vet", stranger)
    assert_last_decision_refused(judge(dossier), dossier, Rule.DEC_CREDENTIAL, "CPS 5.2.3")


def test_a_merchant_does_not_decide(office: Office, judge: Judge) -> None:
    dossier = office.decided(office.merchant_case(), "vet", office.pki.merchant())
    assert_last_decision_refused(judge(dossier), dossier, Rule.DEC_CREDENTIAL, "CPS 5.2.3")


def test_an_officer_certificate_without_officer_data_decides_nothing(office: Office, judge: Judge) -> None:
    bare = office.pki.leaf(Role.OFFICER, office.pki.operations_ca, name(cn="officer-30"))
    dossier = office.decided(office.merchant_case(), "vet", bare)
    assert_last_decision_refused(judge(dossier), dossier, Rule.DEC_CREDENTIAL, "CPS 5.2.3")


# Rejection


def test_a_rejection_refuses_the_case_whatever_follows(office: Office, judge: Judge) -> None:
    dossier = office.decided(office.merchant_case(), "vet", office.vetter, choice=Choice.REJECT, reason="no such shop")
    dossier = office.decided(dossier, "vet", office.vetter_2)
    dossier = office.decided(dossier, "approve", office.approver)
    verdict = judge(dossier)
    assert (verdict.status, verdict.next_step, verdict.not_after) == (Status.REFUSED, None, None)
    assert [(finding.code, finding.decision) for finding in verdict.findings] == [(Rule.DEC_REJECTED, 0)]


def test_who_approved_may_still_reject(office: Office, judge: Judge) -> None:
    dossier = office.decided(office.merchant_case(), "vet", office.vetter)
    dossier = office.decided(dossier, "vet", office.vetter, choice=Choice.REJECT)
    assert only_finding(judge(dossier)).code is Rule.DEC_REJECTED


def test_a_rejection_by_one_who_may_not_decide_does_not_count(office: Office, judge: Judge) -> None:
    dossier = office.decided(office.merchant_case(), "vet", office.security, choice=Choice.REJECT)
    assert_last_decision_refused(judge(dossier), dossier, Rule.DEC_ROLE, "CPS 5.2.1")


def test_a_rejection_gives_a_reason_of_the_class(office: Office, judge: Judge) -> None:
    """One that the statement does not list, or lists for others, does not count; the case waits on."""
    for code in ("made_up", "card_in_doubt"):
        dossier = office.decided(office.merchant_case(), "vet", office.vetter, choice=Choice.REJECT, code=code)
        assert_last_decision_refused(judge(dossier), dossier, Rule.DEC_CODE, "CPS 4.2.2")


def test_a_rejection_is_told_in_the_readers_language(office: Office, judge: Judge) -> None:
    dossier = office.decided(office.merchant_case(), "vet", office.vetter, choice=Choice.REJECT, code="no_agreement")
    finding = only_finding(judge(dossier))
    assert finding.message == "officer-1 rejected the case at step vet: no agreement with the acquirer is in force"
    assert "قرارداد معتبری با بانک پذیرنده در کار نیست" in finding.text(Language.FA)


def test_a_case_to_which_no_step_applies_is_refused(office: Office, trust: Trust) -> None:
    pack = load_pack(TEXT.replace('when: "risk >= 40"', 'when: "risk >= 60"'))
    dossier = Office(office.pki, pack).cardholder_case(signals=("rejected_before",))
    verdict = decide(dossier, pack, trust=trust, now=NOW)
    assert (verdict.status, only_finding(verdict).code) == (Status.REFUSED, Rule.DEC_STEP)


def test_what_is_wrong_with_the_application_refuses_however_it_was_decided(office: Office, judge: Judge) -> None:
    dossier = office.merchant_case(subject=MERCHANT.model_copy(update={"name": "Shop 6037991234567893"}))
    dossier = office.decided(dossier, "vet", office.vetter)
    verdict = judge(office.decided(dossier, "approve", office.approver))
    assert (verdict.status, only_finding(verdict).code) == (Status.REFUSED, Rule.NAME_FORBIDDEN)
    assert str(only_finding(verdict)).startswith("CPS 3.1.3 NAME-FORBIDDEN: ")


def test_what_is_wrong_with_the_evidence_holds_an_approved_case(office: Office, judge: Judge) -> None:
    dossier = office.merchant_case().model_copy(update={"evidence": ()})
    dossier = office.decided(dossier, "vet", office.vetter)
    verdict = judge(office.decided(dossier, "approve", office.approver))
    assert (verdict.status, verdict.next_step) == (Status.PENDING, None)
    assert {finding.code for finding in verdict.findings} == {Rule.EVID_MISSING}
    assert verdict.lacking == verdict.findings


def test_what_other_evidence_mends_is_told_apart(office: Office, judge: Judge) -> None:
    dossier = office.merchant_case(subject=MERCHANT.model_copy(update={"name": "Shop 6037991234567893"}))
    dossier = office.decided(dossier.model_copy(update={"evidence": ()}), "vet", office.approver)
    verdict = judge(dossier)
    assert [finding.code for finding in verdict.broken] == [Rule.NAME_FORBIDDEN]
    assert {finding.code for finding in verdict.lacking} == {Rule.EVID_MISSING}
    assert [finding.code for finding in verdict.findings if finding.decision is not None] == [Rule.DEC_ROLE]


def test_a_verdict_is_the_same_for_the_dossier_read_back_from_json(office: Office, judge: Judge) -> None:
    dossier = office.decided(office.gateway_case(), "vet", office.vetter)
    assert judge(Dossier.from_json(dossier.to_json())) == judge(dossier)


# Until when a judgement holds


def test_a_judgement_holds_until_an_approval_lapses(office: Office, judge: Judge) -> None:
    dossier = office.decided(office.merchant_case(), "vet", office.vetter, expires=NOW + DAY)
    assert judge(dossier).holds_until == NOW + DAY
    dossier = office.decided(dossier, "approve", office.approver, expires=NOW + 30 * DAY)
    assert judge(dossier).approvals[1].lapses_at == NOW + 5 * DAY  # sooner, by the rule of the step


def test_a_judgement_holds_until_a_document_is_too_old(office: Office, trust: Trust) -> None:
    old = evidence("acquirer_agreement", at=NOW - 397 * DAY)
    dossier = office.case(MERCHANT, office.merchant_case().csrs, (old, evidence("of_no_rule", at=NOW)))
    until = decide(dossier, office.pack, trust=trust, now=NOW).holds_until
    assert until is not None
    lacking = [each.code for each in decide(dossier, office.pack, trust=trust, now=until).findings]
    before = [each.code for each in decide(dossier, office.pack, trust=trust, now=until - MINUTE / 60).findings]
    assert (Rule.EVID_AGE in lacking, Rule.EVID_AGE in before) == (True, False)
    assert decide(dossier, office.pack, trust=trust, now=until).holds_until is None


def test_a_judgement_holds_until_a_document_expires(office: Office, judge: Judge) -> None:
    piece = evidence("acquirer_agreement", expires_at=NOW + DAY)
    assert judge(office.case(MERCHANT, office.merchant_case().csrs, (piece,))).holds_until == NOW + DAY
