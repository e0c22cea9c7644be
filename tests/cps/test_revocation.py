"""Deciding on revocations: one officer is enough, the wrong one is not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509

from cps.decide import RevocationVerdict, Status, decide_revocation
from cps.model import load_pack
from cps.rules import Rule
from pki.oids import CT_REVOCATION
from pki.path import Trust
from tests.cps.test_model import TEXT
from tests.support.cps_cases import MINUTE, Office
from tests.support.pki_factory import NOW, PkiFactory

TWO_PERSONS = TEXT.replace(
    "deadline: PT24H\n    steps: [{name: revoke, by: [vetting_officer, security_officer], count: 1}]",
    "deadline: PT24H\n    steps: [{name: revoke, by: [vetting_officer, security_officer], count: 2}]",
)


@pytest.fixture(scope="session")
def certificate(office: Office) -> x509.Certificate:
    return office.pki.merchant().certificate


def judge(office: Office, trust: Trust, *statements: bytes) -> RevocationVerdict:
    return decide_revocation(statements, office.pack, trust=trust, now=NOW)


def codes(verdict: RevocationVerdict) -> list[tuple[Rule, str]]:
    return [(finding.code, finding.clause) for finding in verdict.findings]


@pytest.mark.parametrize("role", ["vetting_officer", "security_officer"])
def test_one_officer_revokes(office: Office, trust: Trust, certificate: x509.Certificate, role: str) -> None:
    hand = office.officer("officer-40", role)
    verdict = judge(office, trust, office.revocation(certificate, hand))
    assert verdict.approved
    assert verdict.order is not None
    assert verdict.order.serial == certificate.serial_number
    issuer = office.pki.merchant_ca.certificate
    ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert verdict.order.issuer_key_id == ski
    assert [(given.step, given.person) for given in verdict.approvals] == [("revoke", "officer-40")]
    assert verdict.publish_by == NOW + timedelta(hours=24)
    assert verdict.denylist_key


def test_only_a_compromised_key_goes_on_the_denylist(
    office: Office, trust: Trust, certificate: x509.Certificate
) -> None:
    order = office.revocation(certificate, office.vetter, reason="cessationOfOperation")
    verdict = judge(office, trust, order)
    assert verdict.approved
    assert not verdict.denylist_key
    assert verdict.publish_by == NOW + timedelta(days=5)


def test_an_old_order_still_revokes(office: Office, certificate: x509.Certificate) -> None:
    order = office.revocation(certificate, office.vetter)
    later = NOW + timedelta(days=60)
    assert decide_revocation([order], office.pack, trust=office.pki.trust(later), now=later).approved


def test_no_statement_revokes_nothing(office: Office, trust: Trust) -> None:
    verdict = judge(office, trust)
    assert (verdict.status, verdict.order, verdict.publish_by) == (Status.REFUSED, None, None)


def test_a_person_without_the_role_does_not_revoke(office: Office, trust: Trust, certificate: x509.Certificate) -> None:
    verdict = judge(office, trust, office.revocation(certificate, office.approver))
    assert verdict.status is Status.REFUSED
    assert codes(verdict) == [(Rule.REV_ROLE, "CPS 4.9.2")]
    assert verdict.order is not None  # what was asked for, so that it can be reported


def test_a_service_does_not_revoke(office: Office, trust: Trust, certificate: x509.Certificate) -> None:
    assert codes(judge(office, trust, office.revocation(certificate, office.ra))) == [(Rule.REV_ROLE, "CPS 4.9.2")]


def test_an_officer_of_exclusive_roles_does_not_revoke(
    office: Office, trust: Trust, certificate: x509.Certificate
) -> None:
    both = office.officer("officer-41", "vetting_officer", "auditor")
    assert codes(judge(office, trust, office.revocation(certificate, both))) == [(Rule.SOD_EXCLUSIVE, "CPS 5.2.4")]


def test_a_merchant_does_not_revoke(office: Office, trust: Trust, certificate: x509.Certificate) -> None:
    verdict = judge(office, trust, office.revocation(certificate, office.pki.merchant()))
    assert codes(verdict) == [(Rule.DEC_CREDENTIAL, "CPS 5.2.3")]


def test_a_revoked_officer_does_not_revoke(certificate: x509.Certificate) -> None:
    pki = PkiFactory()
    here = Office(pki)
    order = here.revocation(certificate, here.vetter)
    pki.revoke(here.vetter)
    assert codes(judge(here, pki.trust(), order)) == [(Rule.DEC_CREDENTIAL, "CPS 5.2.3")]


@pytest.mark.parametrize(
    ("date", "signing_time"),
    [
        pytest.param(NOW + 3 * MINUTE, NOW + 3 * MINUTE, id="in-the-future"),
        pytest.param(NOW, NOW + 3 * MINUTE, id="signed-in-the-future"),
        pytest.param(NOW, NOW - 3 * MINUTE, id="signed-before-it-was-written"),
        pytest.param(NOW - 61 * MINUTE, NOW, id="signed-long-after"),
    ],
)
def test_an_order_is_signed_when_it_says(
    office: Office, trust: Trust, certificate: x509.Certificate, date: object, signing_time: object
) -> None:
    order = office.revocation(certificate, office.vetter, date=date, signing_time=signing_time)  # type: ignore[arg-type]
    assert codes(judge(office, trust, order)) == [(Rule.DEC_TIME, "CPS 4.2.2")]


def test_another_signed_statement_is_no_order(office: Office, trust: Trust) -> None:
    decision = office.decision(office.merchant_case(), "vet", office.vetter)
    assert codes(judge(office, trust, decision)) == [(Rule.REV_STATEMENT, "CPS 4.9.3")]


def test_a_signed_order_that_says_nothing_readable_is_none(office: Office, trust: Trust) -> None:
    verdict = judge(office, trust, office.vetter.sign(CT_REVOCATION, b"\x30\x00"))
    assert codes(verdict) == [(Rule.REV_STATEMENT, "CPS 4.9.3")]
    assert verdict.order is None


def test_a_reason_that_the_statement_does_not_list_revokes_nothing(
    office: Office, trust: Trust, certificate: x509.Certificate
) -> None:
    before, after = TEXT.index("  privilegeWithdrawn:"), TEXT.index("# The sentence of each rule")
    pack = load_pack(TEXT[:before] + TEXT[after:])
    order = office.revocation(certificate, office.vetter, reason="privilegeWithdrawn")
    verdict = decide_revocation([order], pack, trust=trust, now=NOW)
    assert codes(verdict) == [(Rule.REV_REASON, "CPS 4.9.1")]


class TestWhereTwoPersonsAreNeeded:
    """A pack that asks for two."""

    pack = load_pack(TWO_PERSONS)

    def test_one_is_not_enough(self, office: Office, trust: Trust, certificate: x509.Certificate) -> None:
        order = office.revocation(certificate, office.vetter)
        verdict = decide_revocation([order], self.pack, trust=trust, now=NOW)
        assert (verdict.status, verdict.publish_by, verdict.denylist_key) == (Status.PENDING, None, False)

    def test_two_are(self, office: Office, trust: Trust, certificate: x509.Certificate) -> None:
        orders = [office.revocation(certificate, hand) for hand in (office.vetter, office.security)]
        assert decide_revocation(orders, self.pack, trust=trust, now=NOW).approved

    def test_the_same_twice_is_one(self, office: Office, trust: Trust, certificate: x509.Certificate) -> None:
        order = office.revocation(certificate, office.vetter)
        verdict = decide_revocation([order, order], self.pack, trust=trust, now=NOW)
        assert verdict.status is Status.PENDING
        assert codes(verdict) == [(Rule.SOD_PERSON, "CPS 5.2.2")]

    def test_two_orders_about_two_certificates_are_one_each(
        self, office: Office, trust: Trust, certificate: x509.Certificate
    ) -> None:
        orders = [
            office.revocation(certificate, office.vetter),
            office.revocation(office.pki.merchant("M-2").certificate, office.security),
        ]
        verdict = decide_revocation(orders, self.pack, trust=trust, now=NOW)
        assert verdict.status is Status.PENDING
        assert codes(verdict) == [(Rule.REV_STATEMENT, "CPS 4.9.3")]

    def test_an_order_that_does_not_count_does_not_choose_the_certificate(
        self, office: Office, trust: Trust, certificate: x509.Certificate
    ) -> None:
        other = office.pki.merchant("M-2").certificate
        orders = [
            office.revocation(other, office.approver),
            office.revocation(certificate, office.vetter),
            office.revocation(certificate, office.security),
        ]
        verdict = decide_revocation(orders, self.pack, trust=trust, now=NOW)
        assert verdict.approved
        assert verdict.order is not None
        assert verdict.order.serial == certificate.serial_number
