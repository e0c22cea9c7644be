"""Deciding on revocations: one officer is enough, the wrong one is not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from cps.decide import RevocationVerdict, Status, decide_revocation
from cps.decision import Revocation
from cps.model import OrderReason, load_pack
from cps.revocation import Target
from cps.rules import Rule
from pki.extensions import RoleGrant
from pki.names import name
from pki.oids import CT_REVOCATION
from pki.path import Trust
from tests.cps.test_model import TEXT
from tests.support.cps_cases import BIN, COMMITMENT, MINUTE, Office
from tests.support.pki_factory import NOW, Credential, PkiFactory, p256

TWO_PERSONS = TEXT.replace(
    "deadline: PT24H\n    steps: [{name: revoke, by: [vetting_officer, security_officer], count: 1}]",
    "deadline: PT24H\n    steps: [{name: revoke, by: [vetting_officer, security_officer], count: 2}]",
)


@pytest.fixture(scope="session")
def certificate(office: Office) -> x509.Certificate:
    return office.pki.merchant().certificate


def judge(office: Office, trust: Trust, *statements: bytes) -> RevocationVerdict:
    return decide_revocation(statements, office.pack, trust=trust, now=NOW)


def judge_about(office: Office, trust: Trust, statement: bytes, target: Target) -> RevocationVerdict:
    """As who knows the certificate that it is about, and whose card it is."""

    def find(_order: Revocation) -> Target:
        return target

    return decide_revocation([statement], office.pack, trust=trust, now=NOW, find=find)


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
    assert verdict.publish_by == NOW + timedelta(hours=24)  # `revoke_publish`: sooner than the reason's five days


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
    before, after = TEXT.index("  privilegeWithdrawn:"), TEXT.index("  certificateHold:")
    pack = load_pack(TEXT[:before] + TEXT[after:])
    order = office.revocation(certificate, office.vetter, reason="privilegeWithdrawn")
    verdict = decide_revocation([order], pack, trust=trust, now=NOW)
    assert codes(verdict) == [(Rule.REV_REASON, "CPS 4.9.1")]


class TestByTheHolder:
    """Whoever signs with the very key may suspend it, and revoke it for what only they know."""

    @pytest.mark.parametrize("reason", ["certificateHold", "keyCompromise", "cessationOfOperation"])
    def test_the_holder_may(self, office: Office, trust: Trust, reason: OrderReason) -> None:
        own = office.pki.merchant("M-3")
        order = office.revocation(own.certificate, own, reason=reason)
        verdict = judge_about(office, trust, order, Target(own.certificate))
        assert verdict.approved
        assert [(given.step, given.person) for given in verdict.approvals] == [("holder", "urn:kwbp:merchant:M-3")]

    @pytest.mark.parametrize("reason", ["removeFromCRL", "superseded", "affiliationChanged", "privilegeWithdrawn"])
    def test_other_reasons_are_for_officers(self, office: Office, trust: Trust, reason: OrderReason) -> None:
        own = office.pki.merchant("M-3")
        order = office.revocation(own.certificate, own, reason=reason)
        verdict = judge_about(office, trust, order, Target(own.certificate))
        assert codes(verdict) == [(Rule.DEC_CREDENTIAL, "CPS 5.2.3")]

    def test_also_while_it_is_suspended(self) -> None:
        pki = PkiFactory()
        here = Office(pki)
        own = pki.merchant("M-3")
        pki.revoke(own)
        order = here.revocation(own.certificate, own)
        assert judge_about(here, pki.trust(), order, Target(own.certificate)).approved

    def test_a_cardholder_is_named_by_the_commitment(self, office: Office, trust: Trust) -> None:
        own = office.pki.cardholder(COMMITMENT)
        order = office.revocation(own.certificate, own)
        (given,) = judge_about(office, trust, order, Target(own.certificate)).approvals
        assert given.person == COMMITMENT

    def test_another_member_may_not(self, office: Office, trust: Trust, certificate: x509.Certificate) -> None:
        order = office.revocation(certificate, office.pki.merchant("M-4"))
        assert codes(judge_about(office, trust, order, Target(certificate))) == [(Rule.DEC_CREDENTIAL, "CPS 5.2.3")]

    def test_who_does_not_know_the_certificate_takes_no_word_of_its_holder(self, office: Office, trust: Trust) -> None:
        own = office.pki.merchant("M-3")
        assert not judge(office, trust, office.revocation(own.certificate, own)).approved


class TestByTheRegistrationAuthority:
    """Its own key ends what nobody accepted, in the days after the time for that, and nothing else (CPS 4.4.1)."""

    @pytest.mark.parametrize("days", [14, 21])
    def test_what_was_not_accepted_it_revokes(self, office: Office, trust: Trust, days: int) -> None:
        card = self.issued(office, days)
        verdict = judge_about(office, trust, self.order(office, card), Target(card))
        assert verdict.approved
        assert [(given.step, given.person) for given in verdict.approvals] == [("system", "urn:kwbp:service:ra")]

    @pytest.mark.parametrize(
        ("days", "reason"),
        [
            pytest.param(13.9, "cessationOfOperation", id="while-it-may-be-accepted"),
            pytest.param(21.1, "cessationOfOperation", id="long-in-use"),
            pytest.param(14, "keyCompromise", id="another-reason"),
        ],
    )
    def test_it_may_nothing_else(self, office: Office, trust: Trust, days: float, reason: OrderReason) -> None:
        card = self.issued(office, days)
        verdict = judge_about(office, trust, self.order(office, card, reason), Target(card))
        assert codes(verdict) == [(Rule.REV_ROLE, "CPS 4.9.2")]

    def test_it_revokes_nothing_that_is_not_known_here(self, office: Office, trust: Trust) -> None:
        verdict = judge(office, trust, self.order(office, self.issued(office, 14)))
        assert codes(verdict) == [(Rule.REV_ROLE, "CPS 4.9.2")]

    def test_a_pack_that_lets_it_name_another_reason_still_lets_it_use_one(self, office: Office, trust: Trust) -> None:
        text = TEXT.replace(
            '  superseded:\n    section: "4.9.1/superseded"',
            '  superseded:\n    by_system: true\n    section: "4.9.1/superseded"',
        )
        card = self.issued(office, 14)
        verdict = decide_revocation(
            [self.order(office, card, "superseded")],
            load_pack(text),
            trust=trust,
            now=NOW,
            find=lambda _order: Target(card),
        )
        assert codes(verdict) == [(Rule.REV_ROLE, "CPS 4.9.2")]

    @staticmethod
    def issued(office: Office, days: float) -> x509.Certificate:
        return office.pki.cardholder(COMMITMENT, not_before=NOW - timedelta(days=days)).certificate

    @staticmethod
    def order(office: Office, card: x509.Certificate, reason: OrderReason = "cessationOfOperation") -> bytes:
        return office.revocation(card, office.ra, reason=reason)


class TestByTheIssuerBank:
    """The bank of a card, by the key that confirms cards."""

    @pytest.mark.parametrize("reason", ["certificateHold", "removeFromCRL", "keyCompromise", "privilegeWithdrawn"])
    def test_it_may_for_its_own_cards(self, office: Office, trust: Trust, reason: OrderReason) -> None:
        card = office.pki.cardholder(COMMITMENT).certificate
        verdict = judge_about(office, trust, office.revocation(card, office.bank, reason=reason), Target(card, BIN))
        assert verdict.approved
        assert [given.step for given in verdict.approvals] == ["issuer-bank"]

    @pytest.mark.parametrize(
        ("bin_", "reason"),
        [
            pytest.param("627412", "keyCompromise", id="the-card-of-another-bank"),
            pytest.param(None, "keyCompromise", id="no-card"),
            pytest.param(BIN, "superseded", id="a-reason-of-officers"),
        ],
    )
    def test_it_may_nothing_else(self, office: Office, trust: Trust, bin_: str | None, reason: OrderReason) -> None:
        card = office.pki.cardholder(COMMITMENT).certificate
        verdict = judge_about(office, trust, office.revocation(card, office.bank, reason=reason), Target(card, bin_))
        assert codes(verdict) == [(Rule.REV_ROLE, "CPS 4.9.2")]

    def test_a_bank_whose_certificate_is_revoked_orders_nothing(self) -> None:
        pki = PkiFactory()
        here = Office(pki)
        card = pki.cardholder(COMMITMENT).certificate
        pki.revoke(here.bank)
        verdict = judge_about(here, pki.trust(), here.revocation(card, here.bank), Target(card, BIN))
        assert codes(verdict) == [(Rule.DEC_CREDENTIAL, "CPS 5.2.3")]


def test_a_suspension_has_an_end_and_a_deadline(office: Office, trust: Trust, certificate: x509.Certificate) -> None:
    order = office.revocation(certificate, office.vetter, reason="certificateHold")
    verdict = judge(office, trust, order)
    assert verdict.order is not None
    assert verdict.order.kind == "suspend"
    assert (verdict.publish_by, verdict.release_by) == (NOW + timedelta(hours=24), NOW + timedelta(days=30))
    assert not verdict.denylist_key


def test_an_officer_releases(office: Office, trust: Trust, certificate: x509.Certificate) -> None:
    verdict = judge(office, trust, office.revocation(certificate, office.security, reason="removeFromCRL"))
    assert verdict.order is not None
    assert verdict.order.kind == "release"
    assert [given.step for given in verdict.approvals] == ["release"]
    assert verdict.release_by is None


class TestReleasingAnOfficer:
    """Whoever releases an officer makes one: not oneself, and not as somebody's stand-in (CPS 5.2.1, 5.2.4)."""

    def test_another_officer_may(self, office: Office, trust: Trust) -> None:
        held = office.officer("officer-42", "vetting_officer").certificate
        assert self.released(office, trust, held, office.security).approved

    def test_nobody_releases_a_certificate_of_their_own(self, office: Office, trust: Trust) -> None:
        held = office.officer("officer-42", "vetting_officer").certificate
        second = office.officer("officer-42", "vetting_officer")
        verdict = self.released(office, trust, held, second)
        assert (verdict.status, codes(verdict)) == (Status.REFUSED, [(Rule.SOD_OWN, "CPS 5.2.4")])

    @pytest.mark.parametrize("scope", [None, ("officer",)])
    def test_who_stands_in_for_another_does_not(
        self, office: Office, trust: Trust, scope: tuple[str, ...] | None
    ) -> None:
        held = office.officer("officer-42", "vetting_officer").certificate
        granted = RoleGrant("security_officer", scope, NOW - timedelta(days=1), NOW + timedelta(days=1))
        stand_in = office.officer("officer-43", grants=(granted,))
        verdict = self.released(office, trust, held, stand_in)
        assert codes(verdict) == [(Rule.REV_ROLE, "CPS 4.9.2")]
        revoking = office.revocation(held, stand_in)
        assert judge_about(office, trust, revoking, Target(held)).approved

    @staticmethod
    def released(office: Office, trust: Trust, held: x509.Certificate, by: Credential) -> RevocationVerdict:
        return judge_about(office, trust, office.revocation(held, by, reason="removeFromCRL"), Target(held))


@pytest.mark.parametrize("reason", ["certificateHold", "removeFromCRL", "affiliationChanged"])
def test_an_authority_is_not_suspended(office: Office, trust: Trust, reason: OrderReason) -> None:
    authority = office.pki.gateway_ca.certificate
    order = office.revocation(authority, office.security, reason=reason)
    assert codes(judge_about(office, trust, order, Target(authority))) == [(Rule.REV_TARGET, "CPS 4.9.1")]


def test_only_an_authority_has_a_ca_to_compromise(office: Office, trust: Trust, certificate: x509.Certificate) -> None:
    authority = office.pki.gateway_ca.certificate
    compromised = office.revocation(authority, office.security, reason="cACompromise")
    verdict = judge_about(office, trust, compromised, Target(authority))
    assert verdict.approved
    assert verdict.denylist_key
    order = office.revocation(certificate, office.security, reason="cACompromise")
    assert codes(judge_about(office, trust, order, Target(certificate))) == [(Rule.REV_TARGET, "CPS 4.9.1")]


def test_a_certificate_without_basic_constraints_is_a_members() -> None:
    key = p256()
    bare = (
        x509.CertificateBuilder()
        .subject_name(name(cn="bare"))
        .issuer_name(name(cn="bare"))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    assert not Target(bare).is_authority


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
