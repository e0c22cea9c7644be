"""Full lists, deltas and partitions together: what they say of one certificate."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.crl import CrlSet
from pki.crl_entries import Revocation
from pki.crl_scope import subject_of
from pki.errors import CertificateError, PathError
from pki.roles import Role
from tests.support.crls import at, crl, distribution_point
from tests.support.der_surgery import parse
from tests.support.pki_factory import DAY, NOW, Authority, PkiFactory, key_usage, p256, role_extensions

REVOKED = x509.ReasonFlags.key_compromise
HELD, RELEASED = x509.ReasonFlags.certificate_hold, x509.ReasonFlags.remove_from_crl
URI = "https://pki.example/part-1.crl"


@pytest.fixture(scope="module")
def authority() -> tuple[PkiFactory, Authority]:
    pki = PkiFactory()
    return pki, pki.merchant_ca


def certificate(authority: tuple[PkiFactory, Authority], *points: x509.DistributionPoint) -> x509.Certificate:
    """A merchant's, with these distribution points."""
    pki, issuer = authority
    extensions = role_extensions(Role.MERCHANT)
    if points:
        extensions["crl_distribution_points"] = (x509.CRLDistributionPoints(points), False)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "shop")])
    return pki.issue(issuer, subject, extensions).certificate


class Case:
    """One certificate and what lists say of it."""

    def __init__(self, authority: tuple[PkiFactory, Authority], *points: x509.DistributionPoint) -> None:
        self.issuer = authority[1]
        self.certificate = certificate(authority, *points)
        self.serial = self.certificate.serial_number

    def crl(self, number: int, reason: x509.ReasonFlags | None = None, **more: Any) -> x509.CertificateRevocationList:
        return crl(self.issuer, number, {} if reason is None else {self.serial: reason}, **more)

    def says(self, *crls: x509.CertificateRevocationList, now: datetime = NOW) -> str:
        """`good`, a CRLReason or the slug of the refusal; the same whatever the order of the lists."""
        answers = set()
        for order in (crls, crls[::-1]):
            try:
                found = CrlSet(order).status(self.certificate, self.issuer.certificate, now)
            except PathError as error:
                answers.add(error.reason)
            else:
                answers.add("good" if found is None else str(found.reason.value))
        (answer,) = answers
        return answer


@pytest.fixture
def case(authority: tuple[PkiFactory, Authority]) -> Case:
    return Case(authority)


@pytest.fixture
def pointed(authority: tuple[PkiFactory, Authority]) -> Case:
    """A certificate whose status stands in partition 1."""
    return Case(authority, at(URI))


class TestFullLists:
    def test_who_is_listed_is_revoked_and_who_is_held_as_well(self, case: Case) -> None:
        assert case.says(case.crl(1)) == "good"
        assert case.says(case.crl(1, REVOKED)) == "keyCompromise"
        assert case.says(case.crl(1, HELD)) == "certificateHold"
        found = CrlSet([case.crl(1, HELD)]).status(case.certificate, case.issuer.certificate, NOW)
        assert found == Revocation(NOW, HELD)
        assert found.held

    def test_the_higher_number_decides(self, case: Case) -> None:
        assert case.says(case.crl(1), case.crl(2, REVOKED)) == "keyCompromise"
        assert case.says(case.crl(1, HELD), case.crl(2)) == "good"

    def test_without_a_list_nothing_is_said(self, case: Case) -> None:
        assert case.says() == "crl_missing"

    def test_a_list_by_another_key_is_passed_over_if_there_is_another(self, case: Case) -> None:
        forged = case.crl(9, key=p256())
        assert case.says(forged) == "bad_signature"
        assert case.says(forged, case.crl(1, REVOKED)) == "keyCompromise"

    def test_the_newest_list_must_be_current_and_understood(self, case: Case) -> None:
        assert case.says(case.crl(1), case.crl(2, until=NOW - timedelta(minutes=1))) == "crl_expired"
        assert case.says(case.crl(1), now=NOW - DAY) == "crl_not_yet_valid"
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\x00")
        assert case.says(case.crl(1), case.crl(2, extensions=[unknown])) == "unknown_critical_extension"

    def test_what_was_computed_is_asked_again(self, case: Case) -> None:
        lists = CrlSet([case.crl(1, REVOKED)])
        first = lists.status(case.certificate, case.issuer.certificate, NOW)
        assert first == lists.status(case.certificate, case.issuer.certificate, NOW) != None  # noqa: E711

    def test_an_issuer_that_may_not_sign_lists_is_not_believed(self, authority: tuple[PkiFactory, Authority]) -> None:
        pki, mca = authority
        extensions = role_extensions(mca.role) | {"key_usage": (key_usage({"key_cert_sign"}), True)}
        silent = Authority(pki.issue(pki.brand, mca.certificate.subject, extensions), mca.role)
        with pytest.raises(PathError) as error:
            CrlSet([crl(silent, 1)]).status(certificate(authority), silent.certificate, NOW)
        assert error.value.reason == "bad_key_usage"

    def test_a_certificate_that_cannot_be_read_is_refused(self, case: Case) -> None:
        tree = parse(case.certificate.public_bytes(Encoding.DER))
        tree.at(0, 3, 2, 0, 1).content = b"\xff\xfe"  # the last name part: UTF8String that is none
        with pytest.raises(CertificateError) as error:
            subject_of(x509.load_der_x509_certificate(tree.encode()))
        assert error.value.reason == "bad_certificate"


class TestDeltas:
    def test_a_delta_adds_to_its_base(self, case: Case) -> None:
        assert case.says(case.crl(5), case.crl(6, REVOKED, base=5)) == "keyCompromise"
        assert case.says(case.crl(5, REVOKED), case.crl(6, base=5)) == "keyCompromise"
        assert case.says(case.crl(5), case.crl(6, base=5)) == "good"

    def test_a_delta_releases_what_was_held(self, case: Case) -> None:
        assert case.says(case.crl(5, HELD), case.crl(6, RELEASED, base=5)) == "good"
        assert case.says(case.crl(5, HELD), case.crl(6, REVOKED, base=5)) == "keyCompromise"

    def test_a_delta_may_stand_on_a_newer_list_than_its_base(self, case: Case) -> None:
        assert case.says(case.crl(5), case.crl(6, REVOKED, base=3)) == "keyCompromise"

    def test_of_two_deltas_the_newer_counts(self, case: Case) -> None:
        assert case.says(case.crl(5), case.crl(6, HELD, base=5), case.crl(7, RELEASED, base=5)) == "good"

    def test_a_full_list_supersedes_older_deltas(self, case: Case) -> None:
        assert case.says(case.crl(5), case.crl(6, HELD, base=5), case.crl(7)) == "good"
        assert case.says(case.crl(6), case.crl(6, REVOKED, base=5)) == "good"

    def test_a_delta_over_a_newer_list_proves_ours_old(self, case: Case) -> None:
        assert case.says(case.crl(5), case.crl(9, base=8)) == "crl_missing"

    def test_a_delta_alone_says_nothing(self, case: Case) -> None:
        assert case.says(case.crl(9, base=8)) == "crl_missing"

    def test_a_base_lives_as_long_as_the_delta_over_it(self, case: Case) -> None:
        ended = NOW - timedelta(minutes=1)
        assert case.says(case.crl(5, until=ended), case.crl(6, base=5)) == "good"
        assert case.says(case.crl(5), case.crl(6, base=5, until=ended)) == "crl_expired"

    def test_the_full_list_is_looked_for_without_its_deltas(self, case: Case) -> None:
        full = case.crl(5)
        lists = CrlSet([full, case.crl(6, REVOKED, base=5), case.crl(7, point=distribution_point(URI))])
        assert lists.of(case.issuer.certificate) == full


class TestPartitions:
    def test_a_partition_speaks_for_the_certificates_that_name_it(self, pointed: Case, case: Case) -> None:
        point = distribution_point(URI)
        assert pointed.says(pointed.crl(1, point=point)) == "good"
        assert pointed.says(pointed.crl(1, REVOKED, point=point)) == "keyCompromise"
        assert case.says(case.crl(1, point=point)) == "crl_missing"
        assert pointed.says(pointed.crl(1, point=distribution_point(URI + "2"))) == "crl_missing"

    def test_of_partition_and_full_list_the_newer_decides(self, pointed: Case) -> None:
        point = distribution_point(URI)
        assert pointed.says(pointed.crl(1), pointed.crl(2, REVOKED, point=point)) == "keyCompromise"
        assert pointed.says(pointed.crl(2), pointed.crl(1, HELD, point=point)) == "good"

    def test_a_delta_continues_lists_of_its_own_scope_only(self, pointed: Case) -> None:
        point = distribution_point(URI)
        partition, delta = pointed.crl(1, point=point), pointed.crl(3, REVOKED, base=1, point=point)
        assert pointed.says(partition, delta) == "keyCompromise"
        assert pointed.says(partition, pointed.crl(3, REVOKED, base=1)) == "good"

    @pytest.mark.parametrize(
        ("kind", "answer"),
        [
            ("only_contains_user_certs", "good"),
            ("only_contains_ca_certs", "crl_missing"),
            ("only_contains_attribute_certs", "crl_missing"),
        ],
    )
    def test_a_list_of_one_kind_covers_that_kind(self, pointed: Case, kind: str, answer: str) -> None:
        assert pointed.says(pointed.crl(1, point=distribution_point(URI, **{kind: True}))) == answer

    def test_a_list_of_cas_covers_a_ca_and_no_list_of_users_does(self, pki: PkiFactory) -> None:
        brand, mca = pki.brand, pki.merchant_ca.certificate
        for_cas = distribution_point(only_contains_ca_certs=True)
        assert CrlSet([crl(brand, 1, point=for_cas)]).status(mca, brand.certificate, NOW) is None
        users = CrlSet([crl(brand, 1, point=distribution_point(only_contains_user_certs=True))])
        with pytest.raises(PathError):
            users.status(mca, brand.certificate, NOW)

    def test_the_issuers_own_name_is_a_distribution_point(self, case: Case) -> None:
        own = distribution_point(full_name=[x509.DirectoryName(case.issuer.certificate.subject)])
        assert case.says(case.crl(1, REVOKED, point=own)) == "keyCompromise"

    def test_a_name_relative_to_the_issuer_is_completed(self, authority: tuple[PkiFactory, Authority]) -> None:
        relative = x509.RelativeDistinguishedName([x509.NameAttribute(x509.NameOID.COMMON_NAME, "part 1")])
        case = Case(authority, at(URI, full_name=None, relative_name=relative))
        whole = x509.DirectoryName(x509.Name([*case.issuer.certificate.subject.rdns, relative]))
        assert case.says(case.crl(1, point=distribution_point(relative_name=relative))) == "good"
        assert case.says(case.crl(1, point=distribution_point(full_name=[whole]))) == "good"

    def test_a_point_that_names_another_issuer_of_lists_does_not_count(
        self, authority: tuple[PkiFactory, Authority]
    ) -> None:
        other = x509.DirectoryName(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "other")]))
        case = Case(authority, at(URI, crl_issuer=[other]))
        assert case.says(case.crl(1, point=distribution_point(URI))) == "crl_missing"

    def test_lists_for_some_reasons_count_when_together_they_cover_all(self, case: Case) -> None:
        some = frozenset({x509.ReasonFlags.key_compromise, x509.ReasonFlags.ca_compromise})
        others = frozenset(x509.ReasonFlags) - some - {x509.ReasonFlags.unspecified, RELEASED}
        first = distribution_point(only_some_reasons=some)
        second = distribution_point(only_some_reasons=others)
        assert case.says(case.crl(1, point=first)) == "crl_missing"
        assert case.says(case.crl(1, REVOKED, point=first)) == "keyCompromise"
        assert case.says(case.crl(1, point=first), case.crl(2, point=second)) == "good"
        assert case.says(case.crl(1, point=first), case.crl(2, HELD, point=second)) == "certificateHold"
        assert case.says(case.crl(1, point=first), case.crl(2, HELD)) == "certificateHold"
        assert case.says(case.crl(3, point=first), case.crl(2)) == "good"

    def test_a_list_over_other_issuers_is_not_understood(self, case: Case) -> None:
        indirect = distribution_point(indirect_crl=True)
        assert case.says(case.crl(1), case.crl(2, point=indirect)) == "unknown_critical_extension"
