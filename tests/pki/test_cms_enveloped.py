"""AuthEnvelopedData: sealed and opened by us and by OpenSSL, and hostile twins refused while they are still bytes.

Each twin has exactly one thing wrong. `openssl` says what `openssl cms -decrypt` of OpenSSL 3.0 does with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import shake_256
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.x509 import ObjectIdentifier

from pki import oids
from pki.cms_enveloped import SealingSuite, parse_auth_enveloped, seal
from pki.der import LIMIT, encode, sha256
from pki.errors import CertificateError, CmsError
from tests.support.der_surgery import Node, indefinite, long_length, parse
from tests.support.judges import openssl, openssl_version, run
from tests.support.pki_factory import CONTENT, Credential, PkiFactory, rsa_key, unseal

VERSION, RECIPIENTS, CONTENT_INFO, MAC = range(4)
RI_VERSION, RID, KEY_ALGORITHM, ENCRYPTED_KEY = range(4)
PLAINTEXT = b"a card, an expiry and a secret: " + CONTENT
OAEP = ("-keyopt", "rsa_padding_mode:oaep")
SHA256_OAEP = (*OAEP, "-keyopt", "rsa_oaep_md:sha256")


class Stream:
    """Repeatable bytes in place of randomness."""

    def __init__(self, seed: bytes = b"seed") -> None:
        self.seed = seed
        self.taken = 0

    def __call__(self, size: int) -> bytes:
        self.taken += size
        return shake_256(self.seed).digest(self.taken)[-size:]


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
        assert sealed.recipient_issuer == gateway.certificate.issuer


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


class Twin:
    """An honest sealed object on the operating table."""

    def __init__(self, gateway: Credential) -> None:
        self.gateway = gateway
        self.tree = parse(seal(PLAINTEXT, gateway.certificate, SealingSuite.OAEP_SHA256, rng=Stream()))

    @property
    def enveloped(self) -> Node:
        return self.tree.at(1, 0)

    @property
    def recipient(self) -> Node:
        return self.enveloped.at(RECIPIENTS, 0)

    @property
    def content(self) -> Node:
        return self.enveloped.at(CONTENT_INFO)

    @property
    def cipher(self) -> Node:
        return self.content.at(1)


@dataclass(frozen=True)
class Case:
    operate: Callable[[Twin], bytes | None]
    reason: str
    openssl: bool


CASES: dict[str, Case] = {}


def twin(reason: str, *, openssl: bool) -> Callable[[Callable[[Twin], bytes | None]], None]:
    """Register an operation: it changes the tree in place, or returns the bytes itself."""

    def register(operate: Callable[[Twin], bytes | None]) -> None:
        CASES[operate.__name__] = Case(operate, reason, openssl)

    return register


def oid(identifier: ObjectIdentifier) -> Node:
    return parse(encode(identifier))


@twin("malformed", openssl=True)
def trailing_byte(t: Twin) -> bytes:
    return t.tree.encode() + b"\x00"


@twin("malformed", openssl=False)
def truncated(t: Twin) -> bytes:
    return t.tree.encode()[:-1]


@twin("malformed", openssl=True)
def indefinite_length(t: Twin) -> bytes:
    return indefinite(t.tree.encode())


@twin("malformed", openssl=True)
def non_minimal_length(t: Twin) -> bytes:
    return long_length(t.tree.encode())


@twin("malformed", openssl=True)
def ciphertext_in_pieces(t: Twin) -> None:
    whole = t.content.at(2).content
    t.content.children[2] = Node(0xA0, children=[Node(0x04, whole[:5]), Node(0x04, whole[5:])])


@twin("too_big", openssl=True)
def oversize(t: Twin) -> bytes:
    return seal(bytes(LIMIT), t.gateway.certificate, SealingSuite.OAEP_SHA256, rng=Stream())


@twin("wrong_content_type", openssl=False)
def content_info_of_another_type(t: Twin) -> None:
    t.tree.children[0] = oid(oids.SIGNED_DATA)


@twin("wrong_content_type", openssl=True)
def content_of_another_type(t: Twin) -> None:
    t.content.children[0] = oid(oids.CT_INVOICE)


@twin("malformed", openssl=False)
def no_ciphertext(t: Twin) -> None:
    del t.content.children[2]


@twin("bad_algorithm", openssl=False)
def stream_cipher_with_parameters_of_gcm(t: Twin) -> None:
    t.cipher.children = [oid(ObjectIdentifier("2.16.840.1.101.3.4.1.43")), Node(0x30, children=gcm(bytes(12)))]


@twin("malformed", openssl=True)
def stream_cipher(t: Twin) -> None:
    """CVE-2026-34182: AES-256-OFB in the clothes of an authenticated cipher; nothing is authenticated."""
    t.cipher.children = [oid(ObjectIdentifier("2.16.840.1.101.3.4.1.43")), Node(0x04, bytes(16))]
    t.content.at(2).content = bytes(40)
    t.enveloped.at(MAC).content = bytes(16)


def gcm(nonce: bytes, icv_len: int | None = 16) -> list[Node]:
    size = [] if icv_len is None else [Node(0x02, bytes((icv_len,)))]
    return [Node(0x04, nonce), *size]


@twin("malformed", openssl=True)
def tag_of_one_byte(t: Twin) -> None:
    t.cipher.at(1, 1).content = b"\x01"
    t.enveloped.at(MAC).content = t.enveloped.at(MAC).content[:1]


@twin("bad_algorithm", openssl=True)
def tag_length_that_is_not_the_tags(t: Twin) -> None:
    t.cipher.at(1, 1).content = b"\x0c"


@twin("malformed", openssl=True)
def tag_of_twelve_bytes(t: Twin) -> None:
    t.enveloped.at(MAC).content = t.enveloped.at(MAC).content[:12]
    t.cipher.at(1, 1).content = b"\x0c"


@twin("malformed", openssl=False)
def tag_length_left_to_its_default(t: Twin) -> None:
    """RFC 5084: the default is 12."""
    del t.cipher.at(1).children[1]


@twin("malformed", openssl=False)
def nonce_of_sixteen_bytes(t: Twin) -> None:
    """Re-encrypted honestly under the same content key: GCM takes any nonce, the profile does not."""
    nonce = bytes(16)
    cipher = Cipher(algorithms.AES(Stream()(32)), modes.GCM(nonce)).encryptor()
    t.content.at(2).content = cipher.update(PLAINTEXT) + cipher.finalize()
    t.enveloped.at(MAC).content = cipher.tag
    t.cipher.at(1, 0).content = nonce


@twin("bad_algorithm", openssl=False)
def aes_128(t: Twin) -> None:
    t.cipher.children[0] = oid(ObjectIdentifier("2.16.840.1.101.3.4.1.6"))


@twin("bad_algorithm", openssl=False)
def unknown_cipher(t: Twin) -> None:
    t.cipher.children[0] = oid(oids.CT_INVOICE)


@twin("bad_algorithm", openssl=False)
def key_transport_rewritten_to_pkcs1(t: Twin) -> None:
    t.recipient.children[KEY_ALGORITHM] = parse(bytes.fromhex("300d06092a864886f70d0101010500"))


@twin("bad_algorithm", openssl=False)
def unknown_key_transport(t: Twin) -> None:
    t.recipient.children[KEY_ALGORITHM] = Node(0x30, children=[oid(oids.CT_INVOICE)])


@twin("bad_algorithm", openssl=False)
def oaep_without_parameters(t: Twin) -> None:
    t.recipient.children[KEY_ALGORITHM] = Node(0x30, children=[oid(oids.RSAES_OAEP)])


@twin("malformed", openssl=True)
def two_recipients(t: Twin) -> None:
    other = parse(t.recipient.encode())
    other.at(ENCRYPTED_KEY).content = bytes(384)
    other.at(RID, 1).content = b"\x01"
    t.enveloped.at(RECIPIENTS).children = sorted([t.recipient, other], key=Node.encode)


@twin("malformed", openssl=False)
def no_recipient(t: Twin) -> None:
    t.enveloped.at(RECIPIENTS).children.clear()


@twin("malformed", openssl=True)
def originator_info(t: Twin) -> None:
    certificate = Node(0xA0, children=[parse(t.gateway.der)])
    t.enveloped.children.insert(1, Node(0xA0, children=[certificate]))


@twin("malformed", openssl=False)
def authenticated_attributes(t: Twin) -> None:
    t.enveloped.children.insert(MAC, Node(0xA1, children=[attribute()]))


@twin("malformed", openssl=False)
def unauthenticated_attributes(t: Twin) -> None:
    t.enveloped.children.append(Node(0xA2, children=[attribute()]))


def attribute() -> Node:
    return Node(0x30, children=[oid(oids.CT_RECEIPT), Node(0x31, children=[Node(0x05)])])


@twin("bad_version", openssl=True)
def version_2(t: Twin) -> None:
    t.enveloped.at(VERSION).content = b"\x02"


@twin("bad_version", openssl=True)
def recipient_version_2(t: Twin) -> None:
    t.recipient.at(RI_VERSION).content = b"\x02"


@twin("malformed", openssl=False)
def no_mac(t: Twin) -> None:
    del t.enveloped.children[MAC]


def make(name: str, gateway: Credential) -> bytes:
    table = Twin(gateway)
    return CASES[name].operate(table) or table.tree.encode()


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
@pytest.mark.parametrize("name", CASES)
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
