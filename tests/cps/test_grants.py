"""Roles granted for a time, in full or for some classes: what may be granted, and what such a role decides."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from cps.decide import Finding, Status, Verdict, decide, decide_revocation
from cps.denial import decide_denial
from cps.dossier import Grant, OfficerSubject
from cps.entitlement import entitlement
from cps.granting import exclusive_at_once
from cps.model import MemberClass
from cps.revocation import Target
from cps.rules import Rule
from pki.extensions import OfficerData, RoleGrant
from pki.path import Trust
from tests.support.cps_cases import DAY, MINUTE, OFFICER, Office
from tests.support.pki_factory import NOW, Credential

SECOND = timedelta(seconds=1)


def grant(
    role: str = "vetting_officer",
    *scope: str,
    begins: datetime = NOW - DAY,
    ends: datetime = NOW + DAY,
) -> RoleGrant:
    return RoleGrant(role, scope or None, begins, ends)


def hand(office: Office, *grants: RoleGrant, roles: tuple[str, ...] = (), person: str = "officer-50") -> Credential:
    return office.officer(person, *roles, grants=grants)


# Deciding


def vet(office: Office, trust: Trust, by: Credential, *, now: datetime = NOW, **changes: Any) -> Verdict:
    dossier = office.decided(office.merchant_case(), "vet", by, **changes)
    return decide(dossier, office.pack, trust=trust, now=now)


def only(verdict: Verdict) -> Finding:
    assert verdict.status is Status.PENDING
    assert len(verdict.findings) == 1, verdict.findings
    return verdict.findings[0]


@pytest.mark.parametrize("scope", [(), ("merchant",), ("gateway", "merchant")])
def test_a_granted_role_counts_in_its_time_and_scope(office: Office, trust: Trust, scope: tuple[str, ...]) -> None:
    verdict = vet(office, trust, hand(office, grant("vetting_officer", *scope)))
    assert [(given.step, given.person) for given in verdict.approvals] == [("vet", "officer-50")]
    assert verdict.findings == ()


def test_a_role_held_for_another_class_does_not_count(office: Office, trust: Trust) -> None:
    finding = only(vet(office, trust, hand(office, grant("vetting_officer", "gateway", "cardholder"))))
    assert (finding.code, finding.clause) == (Rule.DEC_ROLE, "CPS 5.2.1")
    assert "vetting_officer is held only for gateway, cardholder" in str(finding)


def test_a_decision_does_not_outlast_the_grant_it_was_signed_under(office: Office, trust: Trust) -> None:
    by = hand(office, grant(ends=NOW + MINUTE))
    verdict = vet(office, trust, by)
    assert [given.lapses_at for given in verdict.approvals] == [NOW + MINUTE]
    finding = only(vet(office, trust, by, now=NOW + MINUTE))
    assert finding.code is Rule.DEC_ROLE
    assert f"the grant of vetting_officer ended at {(NOW + MINUTE).isoformat()}" in str(finding)


def test_a_role_in_full_beside_a_grant_lapses_with_the_decision(office: Office, trust: Trust) -> None:
    both = hand(office, grant(ends=NOW + MINUTE), roles=("vetting_officer",))
    assert [given.lapses_at for given in vet(office, trust, both).approvals] == [NOW + DAY]


def test_what_was_signed_before_the_role_was_granted_does_not_count(office: Office, trust: Trust) -> None:
    by = hand(office, grant(begins=NOW - MINUTE))
    finding = only(vet(office, trust, by, date=NOW - MINUTE - SECOND))
    assert finding.code is Rule.DEC_ROLE
    assert f"is granted from {(NOW - MINUTE).isoformat()}, after it was signed" in str(finding)
    assert vet(office, trust, by, date=NOW - MINUTE).approvals


def test_a_role_that_begins_tomorrow_does_not_count_today(office: Office, trust: Trust) -> None:
    finding = only(vet(office, trust, hand(office, grant(begins=NOW + DAY, ends=NOW + 2 * DAY))))
    assert "is granted from" in str(finding)


def test_one_grant_may_follow_another(office: Office, trust: Trust) -> None:
    by = hand(office, grant(ends=NOW), grant(begins=NOW))
    assert vet(office, trust, by, date=NOW - MINUTE).approvals


def test_of_several_grants_the_one_that_comes_nearest_is_explained(office: Office, trust: Trust) -> None:
    by = hand(office, grant("vetting_officer", "gateway"), grant("vetting_officer", "merchant", ends=NOW))
    assert "ended at" in str(only(vet(office, trust, by)))


def test_a_grant_of_a_role_that_the_statement_does_not_know_gives_no_right(office: Office, trust: Trust) -> None:
    finding = only(vet(office, trust, hand(office, grant("king"))))
    assert str(finding).endswith("not by officer-50")


@pytest.mark.parametrize("step", ["sponsor", "approve"])
def test_who_stands_in_for_a_security_officer_makes_nobody_an_officer(office: Office, trust: Trust, step: str) -> None:
    stand_in = hand(office, grant("security_officer"))
    dossier = office.decided(office.officer_case(), "sponsor", office.security)
    dossier = office.decided(dossier, step, stand_in, date=NOW + MINUTE)
    verdict = decide(dossier, office.pack, trust=trust, now=NOW + MINUTE)
    assert verdict.status is Status.PENDING
    assert [finding.code for finding in verdict.about(1)] == [Rule.DEC_ROLE]
    assert "does not count here" in str(verdict.findings[0])


def test_who_vetted_by_a_grant_that_ended_still_does_not_approve(office: Office, trust: Trust) -> None:
    first = hand(office, grant(ends=NOW))
    dossier = office.decided(office.merchant_case(), "vet", first, date=NOW - MINUTE)
    dossier = office.decided(dossier, "vet", office.vetter, date=NOW - MINUTE)
    dossier = office.decided(dossier, "approve", hand(office, roles=("approving_officer",)))
    verdict = decide(dossier, office.pack, trust=trust, now=NOW)
    assert [finding.code for finding in verdict.about(2)] == [Rule.SOD_STEP]


@pytest.mark.parametrize("scope", [(), ("gateway",)])
def test_exclusive_roles_are_counted_over_everything_held_at_the_time(
    office: Office, trust: Trust, scope: tuple[str, ...]
) -> None:
    by = hand(office, grant("approving_officer", *scope), roles=("vetting_officer",))
    assert only(vet(office, trust, by)).code is Rule.SOD_EXCLUSIVE


def test_an_exclusive_role_of_yesterday_does_not_matter_today(office: Office, trust: Trust) -> None:
    by = hand(office, grant("approving_officer", ends=NOW - MINUTE), roles=("vetting_officer",))
    assert vet(office, trust, by).approvals
    signed_then = vet(office, trust, by, date=NOW - 2 * MINUTE)
    assert only(signed_then).code is Rule.SOD_EXCLUSIVE


# Orders


def revoked(office: Office, trust: Trust, by: Credential, target: Credential | None) -> list[str]:
    about = (target or office.pki.merchant()).certificate
    found = None if target is None else Target(about)
    order = office.revocation(about, by, reason="superseded")
    verdict = decide_revocation([order], office.pack, trust=trust, now=NOW, find=lambda _order: found)
    assert verdict.approved is (verdict.findings == ())
    return [str(finding) for finding in verdict.findings]


def test_a_certificate_is_of_the_class_of_its_holder(office: Office) -> None:
    pki = office.pki
    tls = pki.service("shop", uris=["urn:kwbp:merchant:M-1"])
    classes = {
        "cardholder": pki.cardholder(),
        "merchant": pki.merchant(),
        "gateway": pki.gateway_signing(),
        "officer": office.vetter,
    }
    assert {name: Target(each.certificate).member_class for name, each in classes.items()} == {n: n for n in classes}
    assert Target(tls.certificate).member_class == "merchant"
    assert Target(office.hsm.certificate).member_class is None
    assert Target(pki.merchant_ca.certificate).member_class is None


def test_a_scope_holds_for_orders_about_certificates_too(office: Office, trust: Trust) -> None:
    by = hand(office, grant("vetting_officer", "merchant"))
    assert revoked(office, trust, by, office.pki.merchant()) == []
    [refused] = revoked(office, trust, by, office.pki.cardholder())
    assert "REV-ROLE" in refused
    assert "held only for merchant" in refused


def test_an_order_about_a_certificate_that_nobody_knows_takes_a_role_without_scope(
    office: Office, trust: Trust
) -> None:
    assert revoked(office, trust, hand(office, grant("vetting_officer")), None) == []
    [refused] = revoked(office, trust, hand(office, grant("vetting_officer", "merchant")), None)
    assert "held only for merchant" in refused


def test_a_key_is_denied_by_a_role_without_scope(office: Office, trust: Trust) -> None:
    key = bytes(32)
    for scope, rules in (((), []), (("merchant",), [Rule.DENY_ROLE])):
        order = office.denial(key, hand(office, grant("vetting_officer", *scope)))
        verdict = decide_denial([order], office.pack, trust=trust, now=NOW)
        assert [finding.code for finding in verdict.findings] == rules


# Granting


def asked(role: str, *scope: MemberClass, begins: datetime = NOW, ends: datetime = NOW + 10 * DAY) -> Grant:
    return Grant(role=role, scope=scope or None, not_before=begins, not_after=ends)


def subject(*grants: Grant, roles: tuple[str, ...] = ()) -> OfficerSubject:
    return OfficerSubject(
        person_id="officer-9", name="Officer Nine", organisation="RA", roles=roles, grants=grants or None
    )


def broken(office: Office, trust: Trust, *grants: Grant, roles: tuple[str, ...] = ()) -> list[tuple[Rule, str]]:
    dossier = office.officer_case(subject(*grants, roles=roles))
    return [(each.code, each.clause) for each in decide(dossier, office.pack, trust=trust, now=NOW).broken]


def test_the_certificate_says_what_two_security_officers_granted(office: Office, trust: Trust) -> None:
    granted = subject(asked("vetting_officer", "merchant"), asked("security_officer"))
    dossier = office.decided(office.officer_case(granted), "sponsor", office.security)
    dossier = office.decided(dossier, "approve", office.security_2)
    assert decide(dossier, office.pack, trust=trust, now=NOW).approved
    [extension] = entitlement(dossier, office.pack, "signing", not_after=None).holder.extensions
    assert extension == OfficerData(
        "officer-9",
        "RA",
        (),
        (
            RoleGrant("vetting_officer", ("merchant",), NOW, NOW + 10 * DAY),
            RoleGrant("security_officer", None, NOW, NOW + 10 * DAY),
        ),
    )


def test_a_revision_without_grants_is_digested_as_before_there_were_any(office: Office) -> None:
    assert b"grants" not in office.officer_case(OFFICER).revision.canonical()


def test_a_revision_with_grants_is_read_back(office: Office) -> None:
    revision = office.officer_case(subject(asked("vetting_officer", "merchant"))).revision
    assert type(revision).model_validate_json(revision.canonical()).digest == revision.digest


@pytest.mark.parametrize(
    ("wanted", "rule"),
    [
        pytest.param(asked("king"), (Rule.NAME_FORM, "CPS 3.1.4"), id="unknown-role"),
        pytest.param(asked("applicant"), (Rule.NAME_FORM, "CPS 3.1.4"), id="no-trusted-role"),
        pytest.param(asked("security_officer", "officer"), (Rule.GRANT_SCOPE, "CPS 5.2.1"), id="delegation-chains"),
        pytest.param(
            asked("auditor", ends=NOW + 30 * DAY + SECOND), (Rule.GRANT_TIME, "CPS 5.2.1"), id="too-long-in-full"
        ),
        pytest.param(
            asked("vetting_officer", "merchant", begins=NOW - DAY, ends=NOW + 397 * DAY + SECOND),
            (Rule.GRANT_TIME, "CPS 5.2.1"),
            id="too-long-in-scope",
        ),
        pytest.param(asked("auditor", begins=NOW - DAY, ends=NOW), (Rule.GRANT_TIME, "CPS 5.2.1"), id="over"),
        pytest.param(
            asked("auditor", begins=NOW + 390 * DAY, ends=NOW + 399 * DAY),
            (Rule.GRANT_TIME, "CPS 5.2.1"),
            id="beyond-the-certificate",
        ),
    ],
)
def test_what_may_not_be_granted(office: Office, trust: Trust, wanted: Grant, rule: tuple[Rule, str]) -> None:
    assert broken(office, trust, wanted) == [rule]


@pytest.mark.parametrize(
    "wanted", [asked("auditor", ends=NOW + 30 * DAY), asked("vetting_officer", "merchant", ends=NOW + 398 * DAY)]
)
def test_the_longest_grants(office: Office, trust: Trust, wanted: Grant) -> None:
    assert broken(office, trust, wanted) == []


def test_exclusive_roles_are_not_granted_for_the_same_time(office: Office, trust: Trust) -> None:
    clash = [(Rule.SOD_EXCLUSIVE, "CPS 5.2.4")]
    later = asked("approving_officer", begins=NOW + 5 * DAY, ends=NOW + 15 * DAY)
    assert broken(office, trust, asked("approving_officer", "merchant"), roles=("vetting_officer",)) == clash
    assert broken(office, trust, asked("vetting_officer"), later) == clash
    assert broken(office, trust, asked("vetting_officer", ends=NOW + 5 * DAY), later) == []


def test_what_a_person_holds_by_several_certificates_is_counted_together(office: Office) -> None:
    both = {"vetting_officer", "approving_officer"}
    assert exclusive_at_once(["vetting_officer"], [grant("approving_officer")], office.pack) == both
    one_by_one = [grant("vetting_officer", ends=NOW), grant("approving_officer", begins=NOW)]
    assert exclusive_at_once([], one_by_one, office.pack) == frozenset()


@pytest.mark.parametrize(
    "fields",
    [
        {"roles": ()},
        {"roles": ("auditor",), "grants": ()},
        {"grants": ({"role": "auditor", "not_before": NOW, "not_after": NOW},)},
        {"grants": ({"role": "auditor", "not_before": NOW, "not_after": NOW + DAY, "scope": ()},)},
        {"grants": ({"role": "auditor", "not_before": NOW, "not_after": NOW + DAY, "scope": ("bank",)},)},
        {"grants": ({"role": "auditor", "not_before": NOW.replace(microsecond=1), "not_after": NOW + DAY},)},
        {"grants": ({"role": "", "not_before": NOW, "not_after": NOW + DAY},)},
    ],
)
def test_roles_and_grants_have_a_form(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        OfficerSubject(person_id="officer-9", name="Nine", organisation="RA", **fields)
