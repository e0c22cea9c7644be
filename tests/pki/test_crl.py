"""CRLs: whose they are, whether they are in force, who is on them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from pki.crl import CrlSet, IndexedCrl, verify_crl
from pki.errors import CertificateError, PathError
from tests.support.crls import distribution_point
from tests.support.der_surgery import Node, parse, resigned, with_unused_bit
from tests.support.pki_factory import DAY, NOW, Authority, PkiFactory, key_usage, p256, role_extensions


@pytest.fixture
def mca(pki: PkiFactory) -> Authority:
    """The merchant CA with nothing revoked."""
    return replace(pki.merchant_ca, revoked={}, crl_number=7)


def refused(crl: x509.CertificateRevocationList, issuer: Authority, now: datetime = NOW) -> str:
    with pytest.raises(PathError) as error:
        verify_crl(crl, issuer.certificate, now)
    return error.value.reason


def crl_from(tree: Node, issuer: Authority) -> x509.CertificateRevocationList:
    """The CRL with its changed TBS signed anew by the CA's own key."""
    return x509.load_der_x509_crl(resigned(tree, issuer.credential.key))


def test_a_current_crl_of_the_issuer_speaks_for_it(mca: Authority) -> None:
    crl = mca.crl(NOW)
    verify_crl(crl, mca.certificate, NOW)
    indexed = IndexedCrl(crl)
    verify_crl(indexed, mca.certificate, NOW)
    verify_crl(indexed, mca.certificate, NOW)  # from memory
    assert indexed.number == 7


def test_time_is_asked_each_time_though_the_signature_is_remembered(mca: Authority) -> None:
    indexed = IndexedCrl(mca.crl(NOW))
    verify_crl(indexed, mca.certificate, NOW)
    with pytest.raises(PathError) as error:
        verify_crl(indexed, mca.certificate, NOW + 2 * DAY)
    assert error.value.reason == "crl_expired"


def test_a_crl_is_in_force_from_this_update_to_next_update_inclusive(mca: Authority) -> None:
    crl = mca.crl(NOW)
    second = timedelta(seconds=1)
    verify_crl(crl, mca.certificate, NOW - timedelta(hours=1))
    verify_crl(crl, mca.certificate, NOW + DAY)
    assert refused(crl, mca, NOW - timedelta(hours=1) - second) == "crl_not_yet_valid"
    assert refused(crl, mca, NOW + DAY + second) == "crl_expired"


def test_a_crl_that_never_expires_is_refused(mca: Authority) -> None:
    tree = parse(mca.crl(NOW).public_bytes(Encoding.DER))
    del tree.at(0).children[4]
    assert refused(crl_from(tree, mca), mca) == "crl_expired"


def test_a_crl_of_another_name_is_refused(pki: PkiFactory, mca: Authority) -> None:
    assert refused(pki.gateway_ca.crl(NOW), mca) == "bad_signature"


def test_a_crl_signed_by_another_key_is_refused(mca: Authority) -> None:
    assert refused(mca.crl(NOW, key=p256()), mca) == "bad_signature"


def test_a_crl_signed_with_another_algorithm_is_refused(mca: Authority) -> None:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(mca.certificate.subject)
        .last_update(NOW)
        .next_update(NOW + DAY)
    )
    assert refused(builder.sign(mca.credential.key, hashes.SHA512()), mca) == "bad_signature"


def test_a_crl_of_a_ca_that_may_not_sign_crls_is_refused(pki: PkiFactory) -> None:
    extensions = role_extensions(pki.merchant_ca.role)
    for usage in (None, (key_usage({"key_cert_sign"}), True)):
        changed = {k: v for k, v in extensions.items() if k != "key_usage"} | ({"key_usage": usage} if usage else {})
        silent = Authority(pki.issue(pki.brand, pki.merchant_ca.certificate.subject, changed), pki.merchant_ca.role)
        assert refused(silent.crl(NOW), silent) == "bad_key_usage"


PARTITION = distribution_point("https://pki.example/part-1.crl")


@pytest.mark.parametrize("extension", [PARTITION, x509.DeltaCRLIndicator(1)], ids=["partition", "delta"])
def test_a_crl_that_tells_only_part_of_the_truth_is_refused(mca: Authority, extension: x509.ExtensionType) -> None:
    crl = mca.crl(NOW, extensions=[(extension, True)])
    assert refused(crl, mca) == "unknown_critical_extension"
    verify_crl(crl, mca.certificate, NOW, partial=True)


def test_a_list_over_other_issuers_is_refused_even_as_a_part(mca: Authority) -> None:
    crl = mca.crl(NOW, extensions=[(distribution_point(indirect_crl=True), True)])
    with pytest.raises(PathError) as error:
        verify_crl(crl, mca.certificate, NOW, partial=True)
    assert error.value.reason == "unknown_critical_extension"


def test_a_critical_crl_number_is_understood(mca: Authority) -> None:
    tree = parse(mca.crl(NOW).public_bytes(Encoding.DER))
    number = tree.at(0, 5, 0, 0)
    number.children.insert(1, Node(0x01, b"\xff"))
    verify_crl(crl_from(tree, mca), mca.certificate, NOW)


def test_an_entry_with_a_critical_extension_spoils_the_list(mca: Authority) -> None:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(mca.certificate.subject)
        .last_update(NOW)
        .next_update(NOW + DAY)
    )
    other = x509.CertificateIssuer([x509.DirectoryName(mca.certificate.subject)])
    entry = x509.RevokedCertificateBuilder().serial_number(4).revocation_date(NOW).add_extension(other, critical=True)
    crl = builder.add_revoked_certificate(entry.build()).sign(mca.credential.key, hashes.SHA256())
    with pytest.raises(PathError) as error:
        _ = IndexedCrl(crl).revoked
    assert error.value.reason == "unknown_critical_extension"


def test_a_crl_with_unreadable_extensions_is_refused(mca: Authority) -> None:
    tree = parse(mca.crl(NOW).public_bytes(Encoding.DER))
    tree.at(0, 5, 0, 0, 1).content = b"\x02\x05"
    with pytest.raises(CertificateError) as error:
        IndexedCrl(crl_from(tree, mca))
    assert error.value.reason == "bad_extension"


def test_a_signature_that_is_not_whole_octets_is_refused(mca: Authority) -> None:
    """The library verifies it all the same: two files, one CRL."""
    der = with_unused_bit(lambda: mca.crl(NOW).public_bytes(Encoding.DER))
    crl = x509.load_der_x509_crl(der)
    assert crl.is_signature_valid(mca.credential.key.public_key())
    with pytest.raises(CertificateError) as error:
        IndexedCrl(crl)
    assert error.value.reason == "bad_crl"


def test_an_entry_that_cannot_be_read_spoils_the_list(mca: Authority) -> None:
    mca.revoked[4711] = NOW
    tree = parse(mca.crl(NOW).public_bytes(Encoding.DER))
    reason = parse(bytes.fromhex("300c300a0603551d15040302010a"))  # CRLReason as INTEGER, not ENUMERATED
    tree.at(0, 5, 0).children.append(reason)
    with pytest.raises(PathError) as error:
        _ = IndexedCrl(crl_from(tree, mca)).revoked
    assert error.value.reason == "bad_extension"


def test_a_list_is_read_from_its_bytes(mca: Authority) -> None:
    mca.revoked[4711] = NOW
    crl = mca.crl(NOW)
    indexed = IndexedCrl.from_der(crl.public_bytes(Encoding.DER))
    assert (indexed.fingerprint, 4711 in indexed.revoked) == (IndexedCrl(crl).fingerprint, True)
    with pytest.raises(CertificateError) as error:
        IndexedCrl.from_der(b"\x30\x00")
    assert error.value.reason == "bad_crl"


class TestCrlSet:
    def test_a_set_finds_the_list_of_an_issuer(self, pki: PkiFactory) -> None:
        crls = pki.crls()
        found = CrlSet(crls)
        assert len(found) == 6
        for authority, crl in zip(pki.authorities, crls, strict=True):
            assert found.of(authority.certificate) == crl
        assert list(found) == list(crls)

    def test_a_ca_without_list_has_none(self, pki: PkiFactory, mca: Authority) -> None:
        assert CrlSet().of(mca.certificate) is None
        assert CrlSet([pki.gateway_ca.crl(NOW)]).of(mca.certificate) is None

    def test_a_list_of_another_key_under_the_same_name_is_not_of_the_issuer(self, pki: PkiFactory) -> None:
        renewed = pki.authority(pki.merchant_ca.role, pki.brand)
        assert renewed.certificate.subject == pki.merchant_ca.certificate.subject
        assert CrlSet([renewed.crl(NOW)]).of(pki.merchant_ca.certificate) is None

    def test_a_list_that_names_no_key_is_of_the_issuer_by_name(self, mca: Authority) -> None:
        crl = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(mca.certificate.subject)
            .last_update(NOW)
            .next_update(NOW + DAY)
            .sign(mca.credential.key, hashes.SHA256())
        )
        assert CrlSet([crl]).of(mca.certificate) == crl

    def test_the_higher_number_is_in_force_whatever_the_order(self, mca: Authority) -> None:
        old, new = mca.crl(NOW, number=9), mca.crl(NOW, number=10)
        assert CrlSet([old, new]).of(mca.certificate) == new
        assert CrlSet([new, old]).of(mca.certificate) == new

    def test_the_digest_changes_with_any_list_and_not_with_the_order(self, pki: PkiFactory, mca: Authority) -> None:
        first, second, third = mca.crl(NOW, number=1), mca.crl(NOW, number=2), pki.gateway_ca.crl(NOW)
        digest = CrlSet([first, third]).digest
        assert len(digest) == 32
        assert CrlSet([third, first]).digest == digest
        assert len({digest, CrlSet([first]).digest, CrlSet([second, third]).digest, CrlSet().digest}) == 4

    def test_an_indexed_list_may_be_in_many_sets(self, mca: Authority) -> None:
        first = CrlSet([mca.crl(NOW, number=1)])
        second = CrlSet([*first.indexed, mca.crl(NOW, number=2)])
        assert second.indexed[0] is first.indexed[0]
        assert second.of(mca.certificate) == second.indexed[1].crl
