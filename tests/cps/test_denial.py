"""Deciding that a key is denied: two officers, about the same key."""

from __future__ import annotations

from datetime import timedelta

from cps.decide import Status
from cps.denial import DenialVerdict, decide_denial
from cps.rules import Rule
from pki.path import Trust
from tests.support.cps_cases import Office
from tests.support.pki_factory import NOW, PkiFactory

KEY = b"\x0a" * 32


def judge(office: Office, trust: Trust, *statements: bytes) -> DenialVerdict:
    return decide_denial(statements, office.pack, trust=trust, now=NOW)


def codes(verdict: DenialVerdict) -> list[tuple[Rule, str]]:
    return [(finding.code, finding.clause) for finding in verdict.findings]


def test_two_officers_deny_a_key(office: Office, trust: Trust) -> None:
    verdict = judge(office, trust, office.denial(KEY, office.vetter), office.denial(KEY, office.security))
    assert verdict.approved
    assert verdict.denial is not None
    assert verdict.denial.spki_sha256 == KEY
    assert [given.person for given in verdict.approvals] == ["officer-1", "officer-5"]


def test_one_officer_is_not_enough_and_the_same_twice_is_one(office: Office, trust: Trust) -> None:
    order = office.denial(KEY, office.vetter)
    assert judge(office, trust, order).status is Status.PENDING
    verdict = judge(office, trust, order, order)
    assert (verdict.status, codes(verdict)) == (Status.PENDING, [(Rule.SOD_PERSON, "CPS 5.2.2")])


def test_two_keys_are_denied_one_by_one(office: Office, trust: Trust) -> None:
    verdict = judge(office, trust, office.denial(KEY, office.vetter), office.denial(b"\x0b" * 32, office.security))
    assert (verdict.status, codes(verdict)) == (Status.PENDING, [(Rule.DENY_STATEMENT, "CPS 4.9.12")])


def test_a_person_without_the_role_denies_nothing(office: Office, trust: Trust) -> None:
    verdict = judge(office, trust, office.denial(KEY, office.approver))
    assert (verdict.status, verdict.denial) == (Status.REFUSED, None)
    assert codes(verdict) == [(Rule.DENY_ROLE, "CPS 4.9.12")]


def test_other_statements_are_none(office: Office, trust: Trust) -> None:
    order = office.revocation(office.pki.merchant().certificate, office.vetter)
    assert codes(judge(office, trust, order, b"no")) == [(Rule.DENY_STATEMENT, "CPS 4.9.12")] * 2


def test_a_statement_of_tomorrow_does_not_count(office: Office, trust: Trust) -> None:
    early = office.denial(KEY, office.vetter, date=NOW + timedelta(days=1))
    assert codes(judge(office, trust, early)) == [(Rule.DEC_TIME, "CPS 4.2.2")]


def test_a_revoked_officer_denies_nothing() -> None:
    pki = PkiFactory()
    here = Office(pki)
    order = here.denial(KEY, here.vetter)
    pki.revoke(here.vetter)
    assert codes(judge(here, pki.trust(), order)) == [(Rule.DEC_CREDENTIAL, "CPS 5.2.3")]
