"""Hierarchies made by OpenSSL and GnuTLS are believed, and ours are believed by them.

`certtool` has no option to judge another moment than now, so this hierarchy is valid today.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pki import oids
from pki.cms_signed import parse_signed_data
from pki.crl import CrlSet, verify_crl
from pki.csr import parse_csr
from pki.errors import CmsError, PathError
from pki.path import Trust, validate_path
from pki.roles import PROFILES, Role, role_of
from tests.support.der_surgery import parse
from tests.support.judges import certtool, certtool_accepts, openssl, openssl_accepts
from tests.support.pki_factory import CONTENT, Credential, PkiFactory, pem, rsa_key

TODAY = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def pki() -> PkiFactory:
    return PkiFactory(now=TODAY)


@pytest.fixture
def home(pki: PkiFactory, tmp_path: Path) -> Path:
    pki.write(tmp_path)
    return tmp_path


@pytest.fixture(params=["p256", "rsa"])
def shop(request: pytest.FixtureRequest, pki: PkiFactory) -> Credential:
    return pki.merchant(key=rsa_key(1) if request.param == "rsa" else None)


class TestCerttoolJudges:
    def test_our_signed_data(self, shop: Credential, home: Path) -> None:
        signed = shop.sign(oids.CT_INVOICE, CONTENT)
        arguments = ("--p7-verify", "--inder", "--load-ca-certificate", home / "root.pem")
        assert b"Signature status: ok" in certtool(*arguments, stdin=signed)
        broken = parse(signed)
        signature = broken.at(1, 0, 4, 0, 5)
        signature.content = signature.content[:-1] + bytes((signature.content[-1] ^ 1,))
        assert not certtool_accepts(*arguments, stdin=broken.encode())

    def test_our_chains(self, shop: Credential, pki: PkiFactory, home: Path) -> None:
        (home / "chain.pem").write_bytes(pem(shop.certificate, *shop.chain))
        (home / "trusted.pem").write_bytes(pem(pki.root.certificate))
        assert b"Chain verification output: Verified" in certtool(
            "--verify", "--load-ca-certificate", home / "trusted.pem", "--infile", home / "chain.pem"
        )

    def test_our_crls(self, pki: PkiFactory, home: Path) -> None:
        for number, crl in enumerate(pki.crls()):
            (home / f"{number}.crl").write_bytes(pem(crl))
            (home / f"{number}.pem").write_bytes(pem(pki.authorities[number].certificate))
            assert (
                b"verified"
                in certtool(
                    "--verify-crl", "--load-ca-certificate", home / f"{number}.pem", "--infile", home / f"{number}.crl"
                ).lower()
            )


class TestOpensslJudges:
    def test_our_chains_and_policies(self, shop: Credential, home: Path) -> None:
        (home / "leaf.pem").write_bytes(pem(shop.certificate))
        arguments = (
            "verify", "-x509_strict", "-policy_check", "-explicit_policy", "-crl_check_all",
            "-CAfile", home / "root.pem", "-untrusted", home / "cas.pem", "-CRLfile", home / "crls.pem",
        )  # fmt: skip
        fits = oids.POLICY_MERCHANT_ONLINE.dotted_string
        other = oids.POLICY_GATEWAY.dotted_string
        assert openssl_accepts(*arguments, "-policy", fits, home / "leaf.pem")
        assert not openssl_accepts(*arguments, "-policy", other, home / "leaf.pem")

    def test_our_crls(self, pki: PkiFactory, home: Path) -> None:
        for authority in pki.authorities:
            (home / "ca.pem").write_bytes(pem(authority.certificate))
            assert openssl_accepts("crl", "-noout", "-CAfile", home / "ca.pem", stdin=pem(authority.crl(TODAY)))

    def test_our_signed_data(self, shop: Credential, home: Path) -> None:
        (home / "trusted.pem").write_bytes((home / "root.pem").read_bytes() + (home / "crls.pem").read_bytes())
        out = openssl(
            "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-CAfile", home / "trusted.pem",
            "-purpose", "any", "-crl_check_all", stdin=shop.sign(oids.CT_INVOICE, CONTENT),
        )  # fmt: skip
        assert out == CONTENT

    def test_our_signed_data_by_a_revoked_merchant(self, tmp_path: Path) -> None:
        world = PkiFactory(now=TODAY)
        shop = world.merchant()
        verdicts = []
        for _ in range(2):
            (tmp_path / "trusted.pem").write_bytes(pem(world.root.certificate, *world.crls()))
            signed = shop.sign(oids.CT_INVOICE, CONTENT)
            arguments = ("-CAfile", tmp_path / "trusted.pem", "-purpose", "any", "-crl_check_all")
            verdicts.append(openssl_accepts("cms", "-verify", "-binary", "-inform", "DER", *arguments, stdin=signed))
            world.revoke(shop)
        assert verdicts == [True, False]


OPENSSL_CONFIGURATION = """
[v3]
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
{lines}
"""
OPENSSL_USAGE = {
    "digital_signature": "digitalSignature",
    "content_commitment": "nonRepudiation",
    "key_encipherment": "keyEncipherment",
    "key_cert_sign": "keyCertSign",
    "crl_sign": "cRLSign",
}
SET_TYPE = {"rca": "0303070080", "bca": "03020001", "mca": "03020308", "mer": "03020640"}


class OpensslAuthority:
    """A root, brand and merchant CA and a merchant, made with the `openssl` command alone."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.make("root", Role.ROOT, None)
        self.make("brand", Role.BRAND, "root")
        self.make("mca", Role.MERCHANT_CA, "brand")
        self.make("shop", Role.MERCHANT, "mca")

    def make(self, name: str, role: Role, issuer: str | None) -> None:
        home, profile = self.home, PROFILES[role]
        usage = ",".join(OPENSSL_USAGE[usage] for usage in sorted(profile.key_usage))
        lines = [f"keyUsage = critical,{usage}"]
        lines.append(f"basicConstraints = critical,CA:{'TRUE' if profile.is_ca else 'FALSE'}")
        lines += [f"{oids.SET_CERTIFICATE_TYPE.dotted_string} = DER:{SET_TYPE[t]}" for t in profile.certificate_type]
        lines += [f"certificatePolicies = {policy.dotted_string}" for policy in profile.policies]
        (home / f"{name}.cnf").write_text(OPENSSL_CONFIGURATION.format(lines="\n".join(lines)))
        openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", home / f"{name}.key")
        openssl("req", "-new", "-key", home / f"{name}.key", "-subj", f"/C=IR/CN={name}", "-out", home / f"{name}.csr")
        parse_csr((home / f"{name}.csr").read_bytes())
        by = ("-CA", home / f"{issuer}.pem", "-CAkey", home / f"{issuer}.key", "-CAcreateserial")
        openssl("x509", "-req", "-in", home / f"{name}.csr", "-days", "30", "-sha256",
                "-extfile", home / f"{name}.cnf", "-extensions", "v3", "-out", home / f"{name}.pem",
                *(by if issuer else ("-signkey", home / f"{name}.key")))  # fmt: skip

    def certificate(self, name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.home / f"{name}.pem").read_bytes())

    def crl(self, name: str, *revoked: str) -> x509.CertificateRevocationList:
        home = self.home
        (home / f"{name}.index").touch()
        (home / f"{name}.number").write_text("01\n")
        configuration = home / f"{name}.ca.cnf"
        configuration.write_text(
            f"[ca]\ndefault_ca = d\n[d]\ndatabase = {home}/{name}.index\ncrlnumber = {home}/{name}.number\n"
            f"default_md = sha256\ndefault_crl_days = 1\ncrl_extensions = e\n[e]\nauthorityKeyIdentifier = keyid\n"
        )
        by = ("-config", configuration, "-cert", home / f"{name}.pem", "-keyfile", home / f"{name}.key")
        for victim in revoked:
            openssl("ca", *by, "-revoke", home / f"{victim}.pem")
        return x509.load_pem_x509_crl(openssl("ca", *by, "-gencrl"))

    def trust(self, *revoked: str) -> Trust:
        return Trust(
            anchors=(self.certificate("root"),),
            intermediates=(self.certificate("brand"), self.certificate("mca")),
            crls=CrlSet([self.crl("root"), self.crl("brand"), self.crl("mca", *revoked)]),
        )


class TestWhatOpensslIssues:
    def test_is_believed_until_it_is_revoked(self, tmp_path: Path) -> None:
        ca = OpensslAuthority(tmp_path)
        shop = ca.certificate("shop")
        assert role_of(shop) is Role.MERCHANT
        trust = ca.trust()
        path = validate_path(shop, trust=trust, now=datetime.now(UTC), roles=[Role.MERCHANT])
        assert [c.subject.rfc4514_string() for c in path.certificates] == [
            "CN=shop,C=IR",
            "CN=mca,C=IR",
            "CN=brand,C=IR",
            "CN=root,C=IR",
        ]
        with pytest.raises(PathError) as refused:
            validate_path(shop, trust=ca.trust("shop"), now=datetime.now(UTC), roles=[Role.MERCHANT])
        assert refused.value.reason == "revoked"


CERTTOOL_CA = """
cn = "GnuTLS root"
country = IR
ca
cert_signing_key
crl_signing_key
expiration_days = 30
add_extension = "2.23.42.7.1 0x0303070080"
crl_next_update = 1
crl_number = 7
"""


class TestWhatCerttoolIssues:
    def test_a_root_and_its_crl_are_believed(self, tmp_path: Path) -> None:
        template, key, root = tmp_path / "template", tmp_path / "key.pem", tmp_path / "root.pem"
        template.write_text(CERTTOOL_CA)
        key.write_bytes(rsa_key(2).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        certtool("--generate-self-signed", "--load-privkey", key, "--template", template, "--outfile", root)
        crl = tmp_path / "crl.pem"
        certtool("--generate-crl", "--load-ca-privkey", key, "--load-ca-certificate", root, "--template", template,
                 "--outfile", crl)  # fmt: skip
        certificate = x509.load_pem_x509_certificate(root.read_bytes())
        assert role_of(certificate) is Role.ROOT
        now = datetime.now(UTC)
        assert validate_path(certificate, trust=Trust((certificate,)), now=now, roles=[Role.ROOT])
        verify_crl(x509.load_pem_x509_crl(crl.read_bytes()), certificate, now)

    def test_its_signed_messages_are_not_in_the_profile(self, shop: Credential, tmp_path: Path) -> None:
        """It signs id-data, with PKCS#1 v1.5 or ECDSA, and binds no certificate."""
        certificate, key = shop.write(tmp_path, "shop")
        signed = tmp_path / "signed.p7s"
        (tmp_path / "content").write_bytes(CONTENT)
        certtool("--p7-sign", "--p7-time", "--load-certificate", certificate, "--load-privkey", key, "--outder",
                 "--infile", tmp_path / "content", "--outfile", signed)  # fmt: skip
        for expected in (oids.CT_INVOICE, oids.DATA):
            with pytest.raises(CmsError):
                parse_signed_data(signed.read_bytes(), content_type=expected)
