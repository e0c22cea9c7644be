"""SignedData: what we write, what we read, and what OpenSSL and GnuTLS make of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pki import oids
from pki.algorithms import SignatureSuite
from pki.cms_signed import (
    assemble_signed_data,
    build_signed_attributes,
    parse_signed_data,
    sign,
    sign_signed_attributes,
    verify_signature,
)
from pki.der import sha256
from pki.errors import CertificateError, CmsError
from pki.path import Trust, validate_path
from pki.roles import Role
from tests.support.der_surgery import Node, parse
from tests.support.judges import attime, openssl
from tests.support.pki_factory import CONTENT, NOW, Credential, PkiFactory, pem

OPENSSL_SIGN = ("-md", "sha256", "-nosmimecap", "-nodetach", "-binary", "-outform", "DER")
PSS = ("-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:digest")


class TestWhatWeWrite:
    @pytest.mark.parametrize("who", ["merchant", "rsa_merchant"])
    def test_is_what_we_read(self, who: str, request: pytest.FixtureRequest, trust: Trust) -> None:
        credential: Credential = request.getfixturevalue(who)
        der = credential.sign(oids.CT_INVOICE, CONTENT)
        signed = parse_signed_data(der, content_type=oids.CT_INVOICE)
        verify_signature(signed)
        assert signed.content_type == oids.CT_INVOICE
        assert signed.content == CONTENT
        assert signed.signer == credential.certificate
        assert set(signed.certificates) == {credential.certificate, *credential.chain}
        assert signed.signing_time == NOW
        assert (signed.der, signed.digest) == (der, sha256(der))
        assert signed.suite is SignatureSuite.for_key(credential.key.public_key())
        assert signed.time_stamp is None
        path = validate_path(signed.signer, signed.certificates, trust=trust, now=NOW, roles=[Role.MERCHANT])
        assert path.leaf == credential.certificate

    def test_is_read_with_certificates_that_were_read_before(self, merchant: Credential) -> None:
        first, second = (
            parse_signed_data(merchant.sign(oids.CT_INVOICE, CONTENT), content_type=oids.CT_INVOICE) for _ in range(2)
        )
        assert first.signer is second.signer
        assert first.certificates == second.certificates

    @pytest.mark.parametrize("who", ["merchant", "rsa_merchant"])
    def test_openssl_verifies(self, who: str, request: pytest.FixtureRequest, world: Path) -> None:
        credential: Credential = request.getfixturevalue(who)
        out = openssl(
            "cms", "-verify", "-binary", "-inform", "DER", "-CAfile", world / "root.pem", "-purpose", "any",
            "-cades", *attime(NOW), stdin=credential.sign(oids.CT_INVOICE, CONTENT),
        )  # fmt: skip
        assert out == CONTENT

    def test_has_the_shape_of_the_profile(self, invoice: bytes) -> None:
        signed = parse(invoice).at(1, 0)
        assert [child.tag for child in signed.children] == [0x02, 0x31, 0x30, 0xA0, 0x31]
        assert signed.at(0).content == b"\x03"
        signer_info = signed.at(4, 0)
        assert [child.tag for child in signer_info.children] == [0x02, 0x30, 0x30, 0xA0, 0x30, 0x04]
        assert len(signer_info.at(3).children) == 4

    def test_has_attributes_in_der_order(self, merchant: Credential) -> None:
        attributes = build_signed_attributes(oids.CT_INVOICE, CONTENT, signer=merchant.certificate, signing_time=NOW)
        members = [child.encode() for child in parse(attributes).children]
        assert attributes[0] == 0x31
        assert members == sorted(members)

    def test_carries_a_certificate_once_however_often_it_is_given(self, merchant: Credential) -> None:
        der = sign(
            oids.CT_INVOICE,
            CONTENT,
            key=merchant.key,
            signer=merchant.certificate,
            chain=(merchant.certificate, *merchant.chain, *merchant.chain),
            signing_time=NOW,
        )
        assert len(parse_signed_data(der, content_type=oids.CT_INVOICE).certificates) == 3

    def test_may_be_put_together_around_a_signature_from_elsewhere(self, merchant: Credential) -> None:
        """A token signs the attributes; everything else happens outside."""
        attributes = build_signed_attributes(oids.CT_INVOICE, CONTENT, signer=merchant.certificate, signing_time=NOW)
        signature = sign_signed_attributes(attributes, merchant.key)
        der = assemble_signed_data(
            oids.CT_INVOICE, CONTENT, attributes, signature, signer=merchant.certificate, chain=merchant.chain
        )
        signed = parse_signed_data(der, content_type=oids.CT_INVOICE)
        verify_signature(signed)
        assert signed.signed_attributes == attributes

    def test_loses_the_fraction_of_the_second_and_keeps_the_moment(self, merchant: Credential) -> None:
        tehran = timezone(timedelta(hours=3, minutes=30))
        moment = datetime(2026, 3, 21, 15, 30, 0, 999_999, tzinfo=tehran)
        signed = parse_signed_data(
            merchant.sign(oids.CT_INVOICE, CONTENT, signing_time=moment), content_type=oids.CT_INVOICE
        )
        assert signed.signing_time == NOW
        assert signed.signing_time.tzinfo is UTC

    @pytest.mark.parametrize(
        ("moment", "tag"),
        [(datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), 0x17), (datetime(2050, 1, 1, tzinfo=UTC), 0x18)],
        ids=["2049", "2050"],
    )
    def test_changes_to_generalized_time_in_2050(self, merchant: Credential, moment: datetime, tag: int) -> None:
        der = merchant.sign(oids.CT_INVOICE, CONTENT, signing_time=moment)
        times = [a.at(1, 0).tag for a in parse(der).at(1, 0, 4, 0, 3).children if a.at(1, 0).tag in (0x17, 0x18)]
        assert times == [tag]
        assert parse_signed_data(der, content_type=oids.CT_INVOICE).signing_time == moment


class TestWhatWeRefuseToWrite:
    def test_id_data(self, merchant: Credential) -> None:
        with pytest.raises(ValueError, match="id-data"):
            merchant.sign(oids.DATA, CONTENT)

    def test_a_time_without_a_zone(self, merchant: Credential) -> None:
        with pytest.raises(ValueError, match="aware"):
            merchant.sign(oids.CT_INVOICE, CONTENT, signing_time=NOW.replace(tzinfo=None))

    def test_a_signature_by_another_key_than_the_signers(self, merchant: Credential, pki: PkiFactory) -> None:
        with pytest.raises(ValueError, match="not the signer's"):
            sign(
                oids.CT_INVOICE,
                CONTENT,
                key=pki.merchant().key,
                signer=merchant.certificate,
                chain=(),
                signing_time=NOW,
            )

    def test_a_signature_by_a_key_without_a_suite(self, pki: PkiFactory) -> None:
        p384 = pki.merchant(key=ec.generate_private_key(ec.SECP384R1()))
        with pytest.raises(CertificateError):
            p384.sign(oids.CT_INVOICE, CONTENT)


class TestWhatOpensslWrites:
    def signed(self, credential: Credential, directory: Path, *more: str, cades: bool = True) -> bytes:
        certificate, key = credential.write(directory, "signer")
        (directory / "chain.pem").write_bytes(pem(*credential.chain))
        more += ("-cades",) if cades else ()
        return openssl(
            "cms", "-sign", "-signer", certificate, "-inkey", key, "-certfile", directory / "chain.pem",
            "-econtent_type", oids.CT_INVOICE.dotted_string, *OPENSSL_SIGN, *more, stdin=CONTENT,
        )  # fmt: skip

    @pytest.mark.parametrize("more", [(), ("-keyopt", "rsa_mgf1_md:sha256")], ids=["mgf1 by default", "mgf1 stated"])
    def test_with_pss_is_accepted(
        self, rsa_merchant: Credential, tmp_path: Path, trust: Trust, more: tuple[str, ...]
    ) -> None:
        signed = parse_signed_data(self.signed(rsa_merchant, tmp_path, *PSS, *more), content_type=oids.CT_INVOICE)
        verify_signature(signed)
        assert signed.content == CONTENT
        assert validate_path(signed.signer, signed.certificates, trust=trust, now=NOW, roles=[Role.MERCHANT])

    def test_with_ecdsa_is_accepted(self, merchant: Credential, tmp_path: Path) -> None:
        signed = parse_signed_data(self.signed(merchant, tmp_path), content_type=oids.CT_INVOICE)
        verify_signature(signed)
        assert signed.signer == merchant.certificate

    @pytest.mark.parametrize(
        ("name", "more", "reason"),
        [
            ("PKCS#1 v1.5", (), "bad_algorithm"),
            ("PSS with another salt", (*PSS[:2], "-keyopt", "rsa_pss_saltlen:20"), "bad_algorithm"),
            ("PSS with SHA-1 in MGF1", (*PSS, "-keyopt", "rsa_mgf1_md:sha1"), "bad_algorithm"),
            ("SHA-512", (*PSS, "-md", "sha512"), "bad_algorithm"),
            ("signer by key identifier", (*PSS, "-keyid"), "malformed"),
            ("no certificate of the signer", (*PSS, "-nocerts"), "signer_missing"),
        ],
    )
    def test_with_other_options_is_refused(
        self, rsa_merchant: Credential, tmp_path: Path, name: str, more: tuple[str, ...], reason: str
    ) -> None:
        with pytest.raises(CmsError) as refused:
            parse_signed_data(self.signed(rsa_merchant, tmp_path, *more), content_type=oids.CT_INVOICE)
        assert refused.value.reason == reason

    @pytest.mark.parametrize(
        ("more", "reason"),
        [(("-noattr",), "malformed"), ((), "bad_attributes")],
        ids=["no attributes", "no ESSCertIDv2"],
    )
    def test_without_binding_the_signer_is_refused(
        self, merchant: Credential, tmp_path: Path, more: tuple[str, ...], reason: str
    ) -> None:
        with pytest.raises(CmsError) as refused:
            parse_signed_data(self.signed(merchant, tmp_path, *more, cades=False), content_type=oids.CT_INVOICE)
        assert refused.value.reason == reason

    def test_streamed_as_ber_is_refused(self, merchant: Credential, tmp_path: Path) -> None:
        with pytest.raises(CmsError) as refused:
            parse_signed_data(self.signed(merchant, tmp_path, "-stream"), content_type=oids.CT_INVOICE)
        assert refused.value.reason == "malformed"

    def test_with_s_mime_capabilities_is_refused(self, merchant: Credential, tmp_path: Path) -> None:
        certificate, key = merchant.write(tmp_path, "signer")
        der = openssl(
            "cms", "-sign", "-signer", certificate, "-inkey", key, "-econtent_type", oids.CT_INVOICE.dotted_string,
            "-md", "sha256", "-cades", "-nodetach", "-binary", "-outform", "DER", stdin=CONTENT,
        )  # fmt: skip
        with pytest.raises(CmsError) as refused:
            parse_signed_data(der, content_type=oids.CT_INVOICE)
        assert refused.value.reason == "bad_attributes"


class TestTimeStamps:
    def test_a_token_may_be_added_without_breaking_the_signature(self, invoice: bytes) -> None:
        token = Node(0x30, children=[Node(0x02, b"\x01")])
        tree = parse(invoice)
        kind = Node(0x06, bytes.fromhex("2a864886f70d010910020e"))
        values = Node(0x31, children=[token])
        tree.at(1, 0, 4, 0).children.append(Node(0xA1, children=[Node(0x30, children=[kind, values])]))
        signed = parse_signed_data(tree.encode(), content_type=oids.CT_INVOICE)
        verify_signature(signed)
        assert signed.time_stamp == token.encode()
        assert signed.digest != sha256(invoice)
