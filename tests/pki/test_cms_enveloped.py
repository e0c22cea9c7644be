"""AuthEnvelopedData: sealed and opened by us and by OpenSSL, and hostile twins refused while they are still bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import rsa

from pki.cms_enveloped import SealingSuite, parse_auth_enveloped, seal
from pki.der import sha256
from pki.errors import CertificateError, CmsError
from tests.support.enveloped_twins import CASES, MAC, PLAINTEXT, Stream, Twin, make
from tests.support.judges import openssl, openssl_version, run
from tests.support.pki_factory import Credential, PkiFactory, rsa_key, unseal

OAEP = ("-keyopt", "rsa_padding_mode:oaep")
SHA256_OAEP = (*OAEP, "-keyopt", "rsa_oaep_md:sha256")


def private(credential: Credential) -> rsa.RSAPrivateKey:
    assert isinstance(credential.key, rsa.RSAPrivateKey)
    return credential.key


def sealed_by_openssl(gateway: Credential, directory: Path, *options: str, cipher: str = "-aes-256-gcm") -> bytes:
    certificate, _ = gateway.write(directory, "gateway")
    return openssl(
        "cms", "-encrypt", "-binary", cipher, "-recip", certificate, "-outform", "DER", *options, stdin=PLAINTEXT
    )


def opened_by_openssl(sealed: bytes, gateway: Credential, directory: Path) -> bytes | None:
    certificate, key = gateway.write(directory, "gateway")
    done = run("openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-recip", certificate, "-inkey", key,
               stdin=sealed)  # fmt: skip
    return done.stdout if done.returncode == 0 else None


class TestSeal:
    @pytest.mark.parametrize("suite", SealingSuite)
    def test_what_we_seal_we_read_and_open(self, gateway: Credential, suite: SealingSuite) -> None:
        der = seal(PLAINTEXT, gateway.certificate, suite, rng=Stream())
        sealed = parse_auth_enveloped(der)
        assert sealed.suite is suite
        assert sealed.is_for(gateway.certificate)
        assert (len(sealed.nonce), len(sealed.tag), len(sealed.encrypted_key)) == (12, 16, 384)
        assert len(sealed.ciphertext) == len(PLAINTEXT)
        assert (sealed.der, sealed.digest) == (der, sha256(der))
        assert unseal(der, private(gateway)) == PLAINTEXT

    @pytest.mark.parametrize("suite", SealingSuite)
    def test_what_we_seal_openssl_opens(self, gateway: Credential, suite: SealingSuite, tmp_path: Path) -> None:
        der = seal(PLAINTEXT, gateway.certificate, suite, rng=Stream())
        assert opened_by_openssl(der, gateway, tmp_path) == PLAINTEXT

    def test_nothing_at_all_can_be_sealed(self, gateway: Credential) -> None:
        der = seal(b"", gateway.certificate, SealingSuite.OAEP_SHA256, rng=Stream())
        assert unseal(der, private(gateway)) == b""

    def test_key_and_nonce_come_from_the_generator_given(self, gateway: Credential) -> None:
        rng = Stream()
        first = parse_auth_enveloped(seal(PLAINTEXT, gateway.certificate, SealingSuite.OAEP_SHA1, rng=rng))
        assert rng.taken == 32 + 12
        again = parse_auth_enveloped(seal(PLAINTEXT, gateway.certificate, SealingSuite.OAEP_SHA1, rng=Stream()))
        other = parse_auth_enveloped(seal(PLAINTEXT, gateway.certificate, SealingSuite.OAEP_SHA1, rng=Stream(b"2")))
        assert (first.nonce, first.ciphertext) == (again.nonce, again.ciphertext)
        assert (first.nonce, first.ciphertext) != (other.nonce, other.ciphertext)
        assert first.encrypted_key != again.encrypted_key

    def test_only_an_rsa_key_can_be_sealed_to(self, merchant: Credential) -> None:
        with pytest.raises(CmsError) as refused:
            seal(PLAINTEXT, merchant.certificate, SealingSuite.OAEP_SHA256, rng=Stream())
        assert refused.value.reason == "bad_algorithm"

    def test_a_weak_key_is_not_sealed_to(self, pki: PkiFactory) -> None:
        weak = pki.gateway_encryption(key=rsa_key(0, 2048))
        with pytest.raises(CertificateError) as refused:
            seal(PLAINTEXT, weak.certificate, SealingSuite.OAEP_SHA256, rng=Stream())
        assert refused.value.reason == "weak_key"

    def test_it_is_for_one_certificate_only(self, pki: PkiFactory, gateway: Credential) -> None:
        sealed = parse_auth_enveloped(seal(PLAINTEXT, gateway.certificate, SealingSuite.OAEP_SHA1, rng=Stream()))
        renewed = pki.gateway_encryption()
        assert renewed.key == gateway.key
        assert not sealed.is_for(renewed.certificate)
        assert sealed.recipient_serial == gateway.certificate.serial_number
        assert sealed.recipient_issuer == gateway.certificate.issuer.public_bytes()


class TestWhatOpensslSeals:
    @pytest.mark.parametrize(
        ("options", "suite"),
        [
            (OAEP, SealingSuite.OAEP_SHA1),
            (SHA256_OAEP, SealingSuite.OAEP_SHA256),
            ((*SHA256_OAEP, "-keyopt", "rsa_mgf1_md:sha256"), SealingSuite.OAEP_SHA256),
        ],
        ids=["sha1", "sha256", "sha256 stated twice"],
    )
    def test_is_read_and_opened(
        self, gateway: Credential, tmp_path: Path, options: tuple[str, ...], suite: SealingSuite
    ) -> None:
        der = sealed_by_openssl(gateway, tmp_path, *options)
        sealed = parse_auth_enveloped(der)
        assert sealed.suite is suite
        assert sealed.is_for(gateway.certificate)
        assert unseal(der, private(gateway)) == PLAINTEXT

    @pytest.mark.parametrize(
        ("name", "options", "cipher", "reason"),
        [
            ("PKCS#1 v1.5 key transport", (), "-aes-256-gcm", "bad_algorithm"),
            ("CBC EnvelopedData", OAEP, "-aes-256-cbc", "malformed"),
            ("AES-128", OAEP, "-aes-128-gcm", "bad_algorithm"),
            ("OAEP with SHA-512", (*OAEP, "-keyopt", "rsa_oaep_md:sha512"), "-aes-256-gcm", "bad_algorithm"),
            (
                "OAEP with a label",
                (*SHA256_OAEP, "-keyopt", "rsa_oaep_label:00"),
                "-aes-256-gcm",
                "bad_algorithm",
            ),
            (
                "MGF1 with another hash",
                (*SHA256_OAEP, "-keyopt", "rsa_mgf1_md:sha1"),
                "-aes-256-gcm",
                "bad_algorithm",
            ),
            ("recipient by key identifier", (*OAEP, "-keyid"), "-aes-256-gcm", "malformed"),
            ("streamed as BER", (*OAEP, "-stream"), "-aes-256-gcm", "malformed"),
        ],
    )
    def test_with_other_options_is_refused(
        self, gateway: Credential, tmp_path: Path, name: str, options: tuple[str, ...], cipher: str, reason: str
    ) -> None:
        der = sealed_by_openssl(gateway, tmp_path, *options, cipher=cipher)
        assert opened_by_openssl(der, gateway, tmp_path) == PLAINTEXT
        with pytest.raises(CmsError) as refused:
            parse_auth_enveloped(der)
        assert refused.value.reason == reason

    def test_for_a_shared_secret_or_a_key_agreement_is_refused(self, pki: PkiFactory, tmp_path: Path) -> None:
        agreed = sealed_by_openssl(pki.gateway_encryption(key=pki.make_key()), tmp_path)
        shared = openssl(
            "cms", "-encrypt", "-binary", "-aes-256-gcm", "-secretkey", "00" * 32, "-secretkeyid", "01",
            "-outform", "DER", stdin=PLAINTEXT,
        )  # fmt: skip
        for der in (agreed, shared):
            with pytest.raises(CmsError) as refused:
                parse_auth_enveloped(der)
            assert refused.value.reason == "malformed"


def test_the_operating_table_leaves_an_honest_object_honest(gateway: Credential, tmp_path: Path) -> None:
    honest = Twin(gateway).tree.encode()
    assert unseal(honest, private(gateway)) == PLAINTEXT
    assert opened_by_openssl(honest, gateway, tmp_path) == PLAINTEXT


@pytest.mark.parametrize("name", CASES)
def test_we_refuse_before_any_key_is_used(name: str, gateway: Credential) -> None:
    with pytest.raises(CmsError) as refused:
        parse_auth_enveloped(make(name, gateway))
    assert refused.value.reason == CASES[name].reason
    assert refused.value.clause


@pytest.mark.skipif(openssl_version()[:2] != (3, 0), reason="verdicts were recorded with OpenSSL 3.0")
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.openssl is not None])
def test_openssl(name: str, gateway: Credential, tmp_path: Path) -> None:
    assert (opened_by_openssl(make(name, gateway), gateway, tmp_path) is not None) is CASES[name].openssl


@pytest.mark.parametrize("where", ["ciphertext", "tag", "nonce"])
def test_a_flipped_byte_is_in_the_profile_and_fails_at_the_tag(gateway: Credential, where: str) -> None:
    table = Twin(gateway)
    node = {"ciphertext": table.content.at(2), "tag": table.enveloped.at(MAC), "nonce": table.cipher.at(1, 0)}[where]
    node.content = bytes((node.content[0] ^ 1,)) + node.content[1:]
    parse_auth_enveloped(table.tree.encode())
    with pytest.raises(InvalidTag):
        unseal(table.tree.encode(), private(gateway))
