"""The judgement of operation requests: what is approved, and each approval that does not count, by its rule."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cps.decision import Choice
from hsm_service.dual_control import Status
from hsm_service.dual_control_policy import Policy, Rule, built_in_policy
from hsm_service.operation_request import KeyOperation, OperationRequest
from pki.cms_signed import assemble_signed_data, build_signed_attributes, parse_signed_data
from pki.extensions import RoleGrant
from pki.oids import CT_DECISION, CT_KEY_APPROVAL
from tests.support.key_officers import HOUR, PARAMETERS, KeyOfficers
from tests.support.pki_factory import DAY, NOW, Credential, PkiFactory

MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def officers() -> KeyOfficers:
    return KeyOfficers()


@pytest.fixture(scope="module")
def request_(officers: KeyOfficers) -> OperationRequest:
    return officers.request()


def test_two_different_officers_approve(officers: KeyOfficers, request_: OperationRequest) -> None:
    approvals = [officers.approve(request_, each) for each in (officers.first, officers.second)]
    verdict = officers.decide(request_, *approvals)
    assert (verdict.status, verdict.findings, verdict.missing) == (Status.APPROVED, (), 0)
    assert [(each.person, each.organisation, each.index) for each in verdict.approvals] == [
        ("officer-1", "KWBP", 0),
        ("officer-2", "KWBP", 1),
    ]


def test_one_officer_is_not_two(officers: KeyOfficers, request_: OperationRequest) -> None:
    assert officers.decide(request_).missing == 2
    verdict = officers.decide(request_, officers.approve(request_, officers.first))
    assert (verdict.status, verdict.missing) == (Status.PENDING, 1)


def test_more_than_enough_is_enough_and_no_order_matters(officers: KeyOfficers, request_: OperationRequest) -> None:
    approvals = [
        officers.approve(request_, each, date=NOW - number * MINUTE / 2)
        for number, each in enumerate((officers.first, officers.second, officers.third))
    ]
    for order in itertools.permutations(approvals):
        verdict = officers.decide(request_, *order)
        assert verdict.status is Status.APPROVED
        assert {each.person for each in verdict.approvals} == {"officer-1", "officer-2", "officer-3"}


def test_one_rejection_ends_it_whoever_approved(officers: KeyOfficers, request_: OperationRequest) -> None:
    approvals = [officers.approve(request_, each) for each in (officers.first, officers.second)]
    rejection = officers.approve(request_, officers.third, choice=Choice.REJECT)
    for given in itertools.permutations([*approvals, rejection]):
        verdict = officers.decide(request_, *given)
        assert verdict.status is Status.REJECTED
        assert [each.person for each in verdict.rejections] == ["officer-3"]
        assert verdict.findings[-1].rule is Rule.REQ_REJECTED
        assert verdict.counted(given.index(rejection)) == verdict.rejections[0]


def test_who_approved_may_still_reject_and_so_may_who_asked(officers: KeyOfficers, request_: OperationRequest) -> None:
    approval = officers.approve(request_, officers.first)
    rejection = officers.approve(request_, officers.first, choice=Choice.REJECT, date=NOW + MINUTE)
    assert officers.decide(request_, approval, rejection, now=NOW + MINUTE).status is Status.REJECTED
    own = officers.request(requester="officer:officer-1")
    taken_back = officers.approve(own, officers.first, choice=Choice.REJECT)
    assert officers.decide(own, taken_back).status is Status.REJECTED


def test_a_rejection_does_not_lapse_as_approvals_do(officers: KeyOfficers, request_: OperationRequest) -> None:
    rejection = officers.approve(request_, officers.first, choice=Choice.REJECT, expires=NOW + HOUR)
    assert officers.decide(request_, rejection, now=NOW + 2 * HOUR).status is Status.REJECTED


def test_a_request_lapses(officers: KeyOfficers) -> None:
    brief = officers.request(expires=NOW + HOUR)
    approvals = [officers.approve(brief, each) for each in (officers.first, officers.second)]
    assert officers.decide(brief, *approvals, now=NOW + HOUR - timedelta(seconds=1)).status is Status.APPROVED
    verdict = officers.decide(brief, *approvals, now=NOW + HOUR)
    assert (verdict.status, verdict.findings[-1].rule) == (Status.EXPIRED, Rule.REQ_EXPIRED)


def test_a_request_of_another_policy_is_void(officers: KeyOfficers) -> None:
    other = officers.request(policy="0" * 64)
    approvals = [officers.approve(other, each) for each in (officers.first, officers.second)]
    verdict = officers.decide(other, *approvals)
    assert (verdict.status, verdict.approvals, verdict.findings[0].rule) == (Status.VOID, (), Rule.REQ_POLICY)
    assert verdict.missing == 2


def test_what_needs_no_approval_has_no_request_that_could_be_approved(officers: KeyOfficers) -> None:
    free = officers.request(operation=KeyOperation.DISABLE)
    assert (officers.decide(free).status, officers.decide(free).missing) == (Status.VOID, 0)


# -- hostile twins: two approvals, of which one has one thing wrong ----------------------------------------------------

Twin = Callable[[KeyOfficers, OperationRequest], bytes]


def _revoked(officers: KeyOfficers, request: OperationRequest) -> bytes:
    leaver = officers.officer("officer-7")
    officers.pki.revoke(leaver)
    return officers.approve(request, leaver)


def _borrowed_key(officers: KeyOfficers, request: OperationRequest) -> bytes:
    """The second officer's certificate, the first one's key."""
    content = parse_signed_data(officers.approve(request, officers.second), content_type=CT_KEY_APPROVAL).content
    signer, key = officers.second, officers.first.key
    attributes = build_signed_attributes(CT_KEY_APPROVAL, content, signer=signer.certificate, signing_time=NOW)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signature = key.sign(attributes, ec.ECDSA(hashes.SHA256()))
    return assemble_signed_data(
        CT_KEY_APPROVAL, content, attributes, signature, signer=signer.certificate, chain=signer.chain
    )


def _signed_by(role: str) -> Twin:
    def make(officers: KeyOfficers, request: OperationRequest) -> bytes:
        pki = officers.pki
        credential = {"merchant": pki.merchant, "service": pki.service, "gateway": pki.gateway_signing}[role]()
        return officers.approve(request, credential)

    return make


TWINS: dict[str, tuple[Twin, Rule]] = {
    "no SignedData": (lambda o, r: b"", Rule.APR_FORM),
    "a byte more": (lambda o, r: o.approve(r, o.second) + b"\0", Rule.APR_FORM),
    "altered after signing": (
        lambda o, r: o.approve(r, o.second).replace(b"generate", b"generatf"),
        Rule.APR_FORM,
    ),
    "borrowed key": (_borrowed_key, Rule.APR_FORM),
    "decision on a case": (
        lambda o, r: o.second.sign(CT_DECISION, b"\x30\x00"),
        Rule.APR_FORM,
    ),
    "content is no approval": (lambda o, r: o.second.sign(CT_KEY_APPROVAL, b"\x30\x00"), Rule.APR_FORM),
    "officer of another hierarchy": (
        lambda o, r: o.approve(r, PkiFactory().officer("officer-2", roles=("security_officer",))),
        Rule.APR_CREDENTIAL,
    ),
    "merchant's certificate": (_signed_by("merchant"), Rule.APR_CREDENTIAL),
    "gateway's certificate": (_signed_by("gateway"), Rule.APR_CREDENTIAL),
    "revoked officer": (_revoked, Rule.APR_CREDENTIAL),
    "certificate not yet valid": (
        lambda o, r: o.approve(r, o.officer("officer-9", not_before=NOW + HOUR)),
        Rule.APR_CREDENTIAL,
    ),
    "certificate expired since": (
        lambda o, r: o.approve(r, o.officer("officer-9", not_after=NOW - MINUTE / 2), date=NOW - MINUTE),
        Rule.APR_CREDENTIAL,
    ),
    "of another request": (lambda o, r: o.approve(o.request(reason="another shop"), o.second), Rule.APR_REQUEST),
    "of the same asked a second later": (
        lambda o, r: o.approve(o.request(requested=NOW + timedelta(seconds=1)), o.second),
        Rule.APR_REQUEST,
    ),
    "of the same asked by another": (
        lambda o, r: o.approve(o.request(requester="merchant:M-9"), o.second),
        Rule.APR_REQUEST,
    ),
    "of another owner's key": (
        lambda o, r: o.approve(o.request(parameters={**PARAMETERS, "owner": "M-1"}), o.second),
        Rule.APR_REQUEST,
    ),
    "of another operation": (
        lambda o, r: o.approve(o.request(operation=KeyOperation.DESTROY), o.second),
        Rule.APR_REQUEST,
    ),
    "names another operation": (lambda o, r: o.approve(r, o.second, operation="destroy"), Rule.APR_OPERATION),
    "dated in the future": (lambda o, r: o.approve(r, o.second, date=NOW + HOUR), Rule.APR_TIME),
    "signed in the future": (lambda o, r: o.approve(r, o.second, signing_time=NOW + HOUR), Rule.APR_TIME),
    "signed before its date": (lambda o, r: o.approve(r, o.second, signing_time=NOW - HOUR), Rule.APR_TIME),
    "older than the request": (lambda o, r: o.approve(r, o.second, date=NOW - HOUR), Rule.APR_TIME),
    "signed after it lapsed": (
        lambda o, r: o.approve(r, o.second, date=NOW - MINUTE, expires=NOW - MINUTE / 2, signing_time=NOW),
        Rule.APR_TIME,
    ),
    "lapsed by its own word": (
        lambda o, r: o.approve(r, o.second, date=NOW - MINUTE, expires=NOW),
        Rule.APR_EXPIRED,
    ),
    "vetting officer": (lambda o, r: o.approve(r, o.officer("officer-9", "vetting_officer")), Rule.APR_ROLE),
    "role that the CPS does not know": (lambda o, r: o.approve(r, o.officer("officer-9", "key_master")), Rule.APR_ROLE),
    "service": (_signed_by("service"), Rule.APR_ROLE),
    "exclusive roles": (
        lambda o, r: o.approve(r, o.officer("officer-9", "security_officer", "auditor")),
        Rule.APR_EXCLUSIVE,
    ),
    "the same person again": (lambda o, r: o.approve(r, o.first, reason="really"), Rule.APR_PERSON),
    "the same person by another certificate": (lambda o, r: o.approve(r, o.officer("officer-1")), Rule.APR_PERSON),
}  # fmt: skip


@pytest.mark.parametrize("name", TWINS)
def test_an_approval_with_one_thing_wrong_does_not_count(
    name: str, officers: KeyOfficers, request_: OperationRequest
) -> None:
    make, rule = TWINS[name]
    verdict = officers.decide(request_, officers.approve(request_, officers.first), make(officers, request_))
    finding = verdict.about(1)
    assert verdict.status is Status.PENDING
    assert [each.person for each in verdict.approvals] == ["officer-1"]
    assert verdict.counted(1) is None
    assert finding is not None
    assert (finding.rule, finding.clause) == (rule, f"CPS {officers.policy.rules[rule].section} {rule}")
    assert str(finding) == f"{finding.clause}: {finding.message}"


@pytest.mark.parametrize("person", ["officer-1", "officer-2"])
def test_who_asked_does_not_approve(person: str, officers: KeyOfficers) -> None:
    own = officers.request(requester=f"officer:{person}")
    verdict = officers.decide(own, *(officers.approve(own, each) for each in (officers.first, officers.second)))
    assert verdict.status is Status.PENDING
    assert [each.rule for each in verdict.findings] == [Rule.APR_REQUESTER]
    enough = [officers.approve(own, each) for each in (officers.first, officers.second, officers.third)]
    assert officers.decide(own, *enough).status is Status.APPROVED


def test_an_approval_counts_for_a_day_whatever_it_says(officers: KeyOfficers, request_: OperationRequest) -> None:
    approvals = [officers.approve(request_, each, expires=NOW + 90 * DAY) for each in (officers.first, officers.second)]
    assert officers.decide(request_, *approvals, now=NOW + 24 * HOUR - MINUTE).status is Status.APPROVED
    verdict = officers.decide(request_, *approvals, now=NOW + 24 * HOUR, trust=officers.pki.trust())
    assert verdict.status is Status.PENDING
    assert {finding.rule for finding in verdict.findings} <= {Rule.APR_EXPIRED, Rule.APR_CREDENTIAL}


def test_a_certificate_revoked_after_it_approved_does_not_count_at_execution() -> None:
    officers = KeyOfficers()
    request = officers.request()
    approvals = [officers.approve(request, each) for each in (officers.first, officers.second)]
    assert officers.decide(request, *approvals).status is Status.APPROVED
    officers.pki.revoke(officers.second)
    verdict = officers.decide(request, *approvals)
    assert (verdict.status, [each.rule for each in verdict.findings]) == (Status.PENDING, [Rule.APR_CREDENTIAL])


def test_without_current_status_of_certificates_nothing_is_approved(
    officers: KeyOfficers, request_: OperationRequest
) -> None:
    approvals = [officers.approve(request_, each) for each in (officers.first, officers.second)]
    trust = officers.pki.trust()
    bare = type(trust)(trust.anchors, trust.intermediates)
    for changes in ({"trust": bare}, {"trust": type(trust)(())}, {"now": NOW + 3 * DAY}):
        assert officers.decide(request_, *approvals, **changes).status is Status.PENDING


def test_the_use_of_a_key_is_approved_by_what_the_policy_says_of_its_template(officers: KeyOfficers) -> None:
    parameters: dict[str, Any] = {"template": "brand-ca", "use": "certificate", "key": "brand/1", "input_sha256": "00"}
    use = officers.request(operation=KeyOperation.USE, parameters=parameters)
    approvals = [officers.approve(use, each) for each in (officers.first, officers.second)]
    assert officers.decide(use, *approvals).status is Status.APPROVED
    free = officers.request(operation=KeyOperation.USE, parameters={**parameters, "use": "crl"})
    assert officers.decide(free).status is Status.VOID


def test_a_policy_may_ask_for_three_of_two_roles(officers: KeyOfficers) -> None:
    built_in = built_in_policy()
    stricter = built_in.operations[KeyOperation.GENERATE].model_copy(
        update={"by": ("security_officer", "ca_operator"), "approvals": 3}
    )
    policy: Policy = built_in.model_copy(
        update={"operations": {**built_in.operations, KeyOperation.GENERATE: stricter}}
    )
    request = officers.request()
    operator = officers.officer("operator-1", "ca_operator")
    given = [officers.approve(request, each) for each in (officers.first, officers.second)]
    assert officers.decide(request, *given, policy=policy).missing == 1
    assert officers.decide(request, *given, officers.approve(request, operator), policy=policy).missing == 0


# Roles for a time


def stand_in(
    officers: KeyOfficers, *scope: str, begins: datetime = NOW - DAY, ends: datetime = NOW + DAY
) -> Credential:
    """Who vets, and is a security officer for a time."""
    grant = RoleGrant("security_officer", scope or None, begins, ends)
    return officers.officer("officer-9", "vetting_officer", grants=(grant,))


def test_who_stands_in_for_a_security_officer_approves_while_the_grant_lasts(
    officers: KeyOfficers, request_: OperationRequest
) -> None:
    approval = officers.approve(request_, stand_in(officers))
    verdict = officers.decide(request_, approval, officers.approve(request_, officers.first))
    assert verdict.status is Status.APPROVED


@pytest.mark.parametrize(
    ("scope", "changes", "why"),
    [
        (("merchant",), {}, "security_officer is held only for merchant"),
        ((), {"ends": NOW}, "the grant of security_officer ended"),
        ((), {"begins": NOW + timedelta(hours=1)}, "security_officer is granted from"),
    ],
)
def test_a_grant_in_a_scope_or_out_of_its_time_approves_nothing_on_keys(
    officers: KeyOfficers, request_: OperationRequest, scope: tuple[str, ...], changes: dict[str, datetime], why: str
) -> None:
    verdict = officers.decide(request_, officers.approve(request_, stand_in(officers, *scope, **changes)))
    assert verdict.missing == 2
    [finding] = verdict.findings
    assert finding.rule is Rule.APR_ROLE
    assert why in finding.message
