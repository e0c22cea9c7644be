"""We refuse every SignedData twin, and say which of them OpenSSL takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pki import oids
from pki.cms_signed import SignedData, parse_signed_data, verify_signature
from pki.der import sha256
from pki.errors import CmsError
from tests.support.der_surgery import Node, parse
from tests.support.judges import attime, openssl_accepts, openssl_version
from tests.support.pki_factory import CONTENT, NOW, Credential, PkiFactory, rsa_key
from tests.support.signed_data_twins import CASES, CERTIFICATES, SIGNATURE, SIGNATURE_ALGORITHM, Twin, make, oid


def judge(der: bytes) -> SignedData:
    signed = parse_signed_data(der, content_type=oids.CT_INVOICE)
    verify_signature(signed)
    return signed


def openssl_verifies(der: bytes, world: Path) -> bool:
    return openssl_accepts(
        "cms", "-verify", "-binary", "-inform", "DER", "-CAfile", world / "root.pem", "-purpose", "any",
        *attime(NOW), "-out", world / "content", stdin=der,
    )  # fmt: skip


def test_the_operating_table_leaves_an_honest_object_honest(pki: PkiFactory, merchant: Credential, world: Path) -> None:
    table = Twin(pki, merchant)
    table.sign_again()
    assert judge(table.tree.encode()).content == CONTENT
    assert openssl_verifies(table.tree.encode(), world)


def test_an_ess_cert_id_may_leave_issuer_and_serial_to_sid(pki: PkiFactory, merchant: Credential) -> None:
    """RFC 5035 4: issuerSerial is optional; the hash binds the certificate."""
    table = Twin(pki, merchant)
    del table.ess_cert_id.children[1]
    table.sign_again()
    assert judge(table.tree.encode()).signer == merchant.certificate


def test_what_is_embedded_is_certificates_and_nothing_else(pki: PkiFactory, merchant: Credential) -> None:
    table = Twin(pki, merchant)
    embedded = table.signed.at(CERTIFICATES).children
    embedded.insert(0, parse(b"\x30\x00"))  # the shortest element is the first of a SET OF
    with pytest.raises(CmsError) as refused:
        judge(table.tree.encode())
    assert refused.value.reason == "malformed"


@pytest.mark.parametrize("name", CASES)
def test_we_refuse(name: str, pki: PkiFactory, merchant: Credential) -> None:
    with pytest.raises(CmsError) as refused:
        judge(make(name, pki, merchant))
    assert refused.value.reason == CASES[name].reason
    assert refused.value.clause


@pytest.mark.skipif(openssl_version()[:2] != (3, 0), reason="verdicts were recorded with OpenSSL 3.0")
@pytest.mark.parametrize("name", CASES)
def test_openssl(name: str, pki: PkiFactory, merchant: Credential, world: Path) -> None:
    accepted = openssl_verifies(make(name, pki, merchant), world)
    assert accepted is CASES[name].openssl


class TestSignersKeys:
    """The object is honest; the key is not fit."""

    def test_a_small_rsa_key_is_refused(self, pki: PkiFactory) -> None:
        weak = pki.merchant(key=rsa_key(0, 2048))
        with pytest.raises(CmsError) as refused:
            judge(weak.sign(oids.CT_INVOICE, CONTENT))
        assert refused.value.reason == "weak_key"

    def test_an_unheard_of_kind_of_key_is_refused(self, pki: PkiFactory, merchant: Credential) -> None:
        table = Twin(pki, merchant)
        tree = parse(merchant.der)
        tree.at(0, 6, 0, 0).content = bytes.fromhex("2a8648ce3d0263")
        changed = [tree if c.encode() == merchant.der else c for c in table.signed.at(CERTIFICATES).children]
        table.signed.at(CERTIFICATES).children = sorted(changed, key=Node.encode)
        table.ess_cert_id.at(0).content = sha256(tree.encode())
        table.sign_again()
        with pytest.raises(CmsError) as refused:
            judge(table.tree.encode())
        assert refused.value.reason == "bad_algorithm"

    def test_an_unreadable_issuer_name_is_refused(self, pki: PkiFactory, merchant: Credential) -> None:
        table = Twin(pki, merchant)
        tree = parse(merchant.der)
        tree.at(0, 3, 2, 0, 1).content = b"\xff\xfe"
        changed = [tree if c.encode() == merchant.der else c for c in table.signed.at(CERTIFICATES).children]
        table.signed.at(CERTIFICATES).children = sorted(changed, key=Node.encode)
        table.ess_cert_id.at(0).content = sha256(tree.encode())
        table.sign_again()
        with pytest.raises(CmsError) as refused:
            judge(table.tree.encode())
        assert refused.value.reason == "malformed"

    def test_an_rsa_key_with_ecdsas_algorithm_is_refused(self, pki: PkiFactory, rsa_merchant: Credential) -> None:
        table = Twin(pki, rsa_merchant)
        table.signer_info.children[SIGNATURE_ALGORITHM] = Node(0x30, children=[oid(oids.ECDSA_WITH_SHA256)])
        with pytest.raises(CmsError) as refused:
            judge(table.tree.encode())
        assert refused.value.reason == "bad_algorithm"

    def test_a_pss_signature_that_is_one_byte_short_is_refused(self, pki: PkiFactory, rsa_merchant: Credential) -> None:
        table = Twin(pki, rsa_merchant)
        signature = table.signer_info.at(SIGNATURE)
        signature.content = signature.content[:-1]
        with pytest.raises(CmsError) as refused:
            judge(table.tree.encode())
        assert refused.value.reason == "bad_signature"
