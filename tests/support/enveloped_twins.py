"""AuthEnvelopedData twins, each with exactly one thing wrong: the operating table and the operations.

Every twin starts as an honest object. `Case.openssl` says whether `openssl cms -decrypt` of OpenSSL 3.0 opens the same
bytes; None where 3.0.22 and the releases before it do not agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import shake_256

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.x509 import ObjectIdentifier

from pki import oids
from pki.cms_enveloped import SealingSuite, seal
from pki.der import LIMIT, encode
from tests.support.der_surgery import Node, indefinite, long_length, parse
from tests.support.pki_factory import CONTENT, Credential

VERSION, RECIPIENTS, CONTENT_INFO, MAC = range(4)
RI_VERSION, RID, KEY_ALGORITHM, ENCRYPTED_KEY = range(4)
PLAINTEXT = b"a card, an expiry and a secret: " + CONTENT


class Stream:
    """Repeatable bytes in place of randomness."""

    def __init__(self, seed: bytes = b"seed") -> None:
        self.seed = seed
        self.taken = 0

    def __call__(self, size: int) -> bytes:
        self.taken += size
        return shake_256(self.seed).digest(self.taken)[-size:]


class Twin:
    """An honest sealed object on the operating table: `honest`, or one that is made for it."""

    def __init__(self, gateway: Credential, honest: bytes | None = None) -> None:
        self.gateway = gateway
        self.tree = parse(honest or seal(PLAINTEXT, gateway.certificate, SealingSuite.OAEP_SHA256, rng=Stream()))

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
    openssl: bool | None


CASES: dict[str, Case] = {}


def twin(reason: str, *, openssl: bool | None) -> Callable[[Callable[[Twin], bytes | None]], None]:
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


@twin("malformed", openssl=None)
def stream_cipher(t: Twin) -> None:
    """CVE-2026-34182: AES-256-OFB in the clothes of an authenticated cipher; nothing is authenticated."""
    t.cipher.children = [oid(ObjectIdentifier("2.16.840.1.101.3.4.1.43")), Node(0x04, bytes(16))]
    t.content.at(2).content = bytes(40)
    t.enveloped.at(MAC).content = bytes(16)


def gcm(nonce: bytes, icv_len: int | None = 16) -> list[Node]:
    size = [] if icv_len is None else [Node(0x02, bytes((icv_len,)))]
    return [Node(0x04, nonce), *size]


@twin("malformed", openssl=None)
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


@twin("malformed", openssl=None)
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


def make(name: str, gateway: Credential, honest: bytes | None = None) -> bytes:
    """The bytes of one twin."""
    table = Twin(gateway, honest)
    return CASES[name].operate(table) or table.tree.encode()
