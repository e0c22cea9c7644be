"""SignedData twins, each with exactly one thing wrong: the operating table and the operations.

Every twin starts as an honest object of a P-256 merchant. Where what is signed is changed, the merchant signs again,
so that the signature is not the thing that is wrong. `Case.openssl` says what `openssl cms -verify` of OpenSSL 3.0 does
with the same bytes: most of them it accepts. (With `-cades` it also looks at ESSCertIDv2; nobody is forced to say so.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ObjectIdentifier

from pki import oids
from pki.algorithms import SignatureSuite
from pki.der import LIMIT, encode, sha256
from tests.support.der_surgery import Node, indefinite, long_length, parse
from tests.support.pki_factory import CONTENT, NOW, Credential, PkiFactory

VERSION, DIGESTS, CONTENT_INFO, CERTIFICATES, SIGNERS = range(5)
SI_VERSION, SID, DIGEST_ALGORITHM, ATTRIBUTES, SIGNATURE_ALGORITHM, SIGNATURE = range(6)
SHA1 = parse(bytes.fromhex("300706052b0e03021a"))
SHA512 = parse(bytes.fromhex("300b0609608648016503040203"))


def oid(identifier: ObjectIdentifier) -> Node:
    return parse(encode(identifier))


class Twin:
    """An honest object on the operating table: `honest`, or one that is made for it."""

    def __init__(self, pki: PkiFactory, signer: Credential, honest: bytes | None = None) -> None:
        self.pki = pki
        self.signer = signer
        self.tree = parse(honest or signer.sign(oids.CT_INVOICE, CONTENT))

    @property
    def signed(self) -> Node:
        return self.tree.at(1, 0)

    @property
    def signer_info(self) -> Node:
        return self.signed.at(SIGNERS, 0)

    @property
    def attributes(self) -> list[Node]:
        return self.signer_info.at(ATTRIBUTES).children

    def attribute(self, identifier: ObjectIdentifier) -> Node:
        wanted = encode(identifier)
        return next(a for a in self.attributes if a.at(0).encode() == wanted)

    def drop(self, identifier: ObjectIdentifier) -> None:
        self.attributes.remove(self.attribute(identifier))

    @property
    def ess_cert_id(self) -> Node:
        return self.attribute(oids.AA_SIGNING_CERTIFICATE_V2).at(1, 0, 0, 0)

    def sign_again(self, *, in_order: bool = True) -> None:
        if in_order:
            self.attributes.sort(key=Node.encode)
        attributes = Node(0x31, children=self.attributes).encode()
        assert isinstance(self.signer.key, ec.EllipticCurvePrivateKey)
        self.signer_info.at(SIGNATURE).content = self.signer.key.sign(attributes, ec.ECDSA(hashes.SHA256()))


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


# The encoding


@twin("malformed", openssl=True)
def trailing_byte(t: Twin) -> bytes:
    return t.tree.encode() + b"\x00"


@twin("malformed", openssl=False)
def truncated(t: Twin) -> bytes:
    return t.tree.encode()[:-1]


@twin("malformed", openssl=False)
def empty(_: Twin) -> bytes:
    return b""


@twin("malformed", openssl=True)
def indefinite_length(t: Twin) -> bytes:
    return indefinite(t.tree.encode())


@twin("malformed", openssl=True)
def non_minimal_length(t: Twin) -> bytes:
    return long_length(t.tree.encode())


@twin("malformed", openssl=True)
def content_in_pieces(t: Twin) -> None:
    """A constructed OCTET STRING, as BER allows."""
    content = t.signed.at(CONTENT_INFO, 1)
    content.children = [Node(0x24, children=[Node(0x04, CONTENT[:3]), Node(0x04, CONTENT[3:])])]


@twin("malformed", openssl=False)
def attributes_out_of_order(t: Twin) -> None:
    t.attributes.reverse()


@twin("malformed", openssl=False)
def pem_instead_of_der(t: Twin) -> bytes:
    return b"-----BEGIN CMS-----\n"


@twin("too_big", openssl=True)
def oversize(t: Twin) -> bytes:
    return t.signer.sign(oids.CT_INVOICE, bytes(LIMIT))


# Content types


@twin("wrong_content_type", openssl=False)
def content_info_of_another_type(t: Twin) -> None:
    t.tree.children[0] = oid(oids.AUTH_ENVELOPED_DATA)


@twin("wrong_content_type", openssl=True)
def another_content_type(t: Twin) -> bytes:
    """An honest object, of another kind than the one expected."""
    return t.signer.sign(oids.CT_AUTH_REQ, CONTENT)


@twin("wrong_content_type", openssl=True)
def unknown_content_type(t: Twin) -> bytes:
    return t.signer.sign(ObjectIdentifier("2.25.99"), CONTENT)


@twin("wrong_content_type", openssl=True)
def content_type_changed_outside_only(t: Twin) -> None:
    t.signed.at(CONTENT_INFO).children[0] = oid(oids.CT_AUTH_REQ)


@twin("wrong_content_type", openssl=True)
def content_type_signed_is_another(t: Twin) -> None:
    t.attribute(oids.AA_CONTENT_TYPE).at(1).children[0] = oid(oids.CT_AUTH_REQ)
    t.sign_again()


@twin("wrong_content_type", openssl=True)
def plain_data(t: Twin) -> None:
    t.signed.at(CONTENT_INFO).children[0] = oid(oids.DATA)


@twin("malformed", openssl=False)
def detached_content(t: Twin) -> None:
    del t.signed.at(CONTENT_INFO).children[1]


# Signed attributes


@twin("malformed", openssl=True)
def no_signed_attributes(t: Twin) -> None:
    """The signature is over the content itself."""
    del t.signer_info.children[ATTRIBUTES]
    assert isinstance(t.signer.key, ec.EllipticCurvePrivateKey)
    t.signer_info.at(SIGNATURE - 1).content = t.signer.key.sign(CONTENT, ec.ECDSA(hashes.SHA256()))


@twin("malformed", openssl=True)
def forged_from_signed_attributes(t: Twin) -> None:
    """Nobody signed this: the old signed attributes become the content, and the old signature still fits.

    draft-ietf-lamps-cms-euf-cma-signeddata. The signer's one object makes a second one that it never meant.
    """
    attributes = Node(0x31, children=list(t.attributes)).encode()
    t.signed.at(CONTENT_INFO).children = [oid(oids.DATA), Node(0xA0, children=[Node(0x04, attributes)])]
    t.signed.at(VERSION).content = b"\x01"
    del t.signer_info.children[ATTRIBUTES]


@twin("malformed", openssl=True)
def forged_under_a_kwbp_content_type(t: Twin) -> None:
    attributes = Node(0x31, children=list(t.attributes)).encode()
    t.signed.at(CONTENT_INFO, 1).children = [Node(0x04, attributes)]
    del t.signer_info.children[ATTRIBUTES]


@twin("bad_attributes", openssl=False)
def content_type_attribute_missing(t: Twin) -> None:
    t.drop(oids.AA_CONTENT_TYPE)
    t.sign_again()


@twin("bad_attributes", openssl=False)
def message_digest_missing(t: Twin) -> None:
    t.drop(oids.AA_MESSAGE_DIGEST)
    t.sign_again()


@twin("bad_attributes", openssl=True)
def signing_time_missing(t: Twin) -> None:
    t.drop(oids.AA_SIGNING_TIME)
    t.sign_again()


@twin("bad_attributes", openssl=True)
def signing_certificate_missing(t: Twin) -> None:
    t.drop(oids.AA_SIGNING_CERTIFICATE_V2)
    t.sign_again()


@twin("bad_attributes", openssl=False)
def message_digest_twice(t: Twin) -> None:
    t.attributes.append(parse(t.attribute(oids.AA_MESSAGE_DIGEST).encode()))
    t.sign_again()


@twin("bad_attributes", openssl=False)
def signing_time_twice(t: Twin) -> None:
    t.attributes.append(parse(t.attribute(oids.AA_SIGNING_TIME).encode()))
    t.sign_again()


@twin("bad_attributes", openssl=False)
def signing_time_twice_instead_of_certificate(t: Twin) -> None:
    """Four attributes, but not the four."""
    t.drop(oids.AA_SIGNING_CERTIFICATE_V2)
    t.attributes.append(parse(t.attribute(oids.AA_SIGNING_TIME).encode()))
    t.sign_again()


@twin("bad_attributes", openssl=False)
def message_digest_with_two_values(t: Twin) -> None:
    values = t.attribute(oids.AA_MESSAGE_DIGEST).at(1).children
    values.append(Node(0x04, b"\xff" * 32))
    t.sign_again()


@twin("bad_attributes", openssl=False)
def message_digest_without_value(t: Twin) -> None:
    t.attribute(oids.AA_MESSAGE_DIGEST).at(1).children.clear()
    t.sign_again()


@twin("bad_attributes", openssl=True)
def unknown_attribute(t: Twin) -> None:
    t.attributes.append(Node(0x30, children=[oid(oids.CT_RECEIPT), Node(0x31, children=[Node(0x05)])]))
    t.sign_again()


@twin("bad_attributes", openssl=False)
def message_digest_that_is_no_octet_string(t: Twin) -> None:
    t.attribute(oids.AA_MESSAGE_DIGEST).at(1, 0).tag = 0x0C
    t.sign_again()


@twin("bad_attributes", openssl=True)
def signing_time_as_generalized_time_before_2050(t: Twin) -> None:
    t.attribute(oids.AA_SIGNING_TIME).at(1).children[0] = Node(0x18, b"20260321120000Z")
    t.sign_again()


@twin("bad_attributes", openssl=True)
def signing_time_with_fraction(t: Twin) -> None:
    t.attribute(oids.AA_SIGNING_TIME).at(1).children[0] = Node(0x18, b"20510321120000.5Z")
    t.sign_again()


@twin("bad_attributes", openssl=True)
def signing_time_without_zone(t: Twin) -> None:
    t.attribute(oids.AA_SIGNING_TIME).at(1).children[0] = Node(0x17, b"260321120000")
    t.sign_again()


@twin("bad_digest", openssl=False)
def content_changed(t: Twin) -> None:
    t.signed.at(CONTENT_INFO, 1, 0).content = CONTENT[:-1] + b"\x04"


@twin("bad_signature", openssl=False)
def content_changed_with_its_digest(t: Twin) -> None:
    other = CONTENT[:-1] + b"\x04"
    t.signed.at(CONTENT_INFO, 1, 0).content = other
    t.attribute(oids.AA_MESSAGE_DIGEST).at(1, 0).content = sha256(other)
    t.attributes.sort(key=Node.encode)


@twin("bad_digest", openssl=False)
def message_digest_cut_short(t: Twin) -> None:
    digest = t.attribute(oids.AA_MESSAGE_DIGEST).at(1, 0)
    digest.content = digest.content[:31]
    t.sign_again()


# The signer


@twin("signer_missing", openssl=False)
def sid_names_the_issuing_ca(t: Twin) -> None:
    """Issuer and serial of another certificate that is embedded too."""
    ca = t.pki.merchant_ca.certificate
    t.signer_info.at(SID).children = [
        parse(ca.issuer.public_bytes()),
        parse(encode(ca.serial_number)),
    ]


@twin("signer_mismatch", openssl=False)
def sid_names_another_issuer_with_the_same_serial(t: Twin) -> None:
    t.signer_info.at(SID).children[0] = parse(t.pki.gateway_ca.certificate.subject.public_bytes())


@twin("signer_mismatch", openssl=True)
def ess_cert_id_names_another_issuer(t: Twin) -> None:
    issuer = t.pki.gateway_ca.certificate.subject.public_bytes()
    t.ess_cert_id.at(1, 0, 0).children = [parse(issuer)]
    t.sign_again()


@twin("signer_mismatch", openssl=True)
def ess_cert_id_names_another_serial(t: Twin) -> None:
    t.ess_cert_id.at(1, 1).content = b"\x01"
    t.sign_again()


@twin("signer_missing", openssl=True)
def ess_cert_id_has_the_hash_of_another_certificate(t: Twin) -> None:
    t.ess_cert_id.at(0).content = sha256(t.pki.merchant_ca.credential.der)
    t.sign_again()


@twin("signer_missing", openssl=True)
def certificate_exchanged_for_another_on_the_same_key(t: Twin) -> None:
    """Key substitution: same key, same name, same serial, another certificate."""
    again = t.pki.merchant("M-1", key=t.signer.key, shop="Bankshop", serial=t.signer.certificate.serial_number)
    replaced = [parse(again.der) if c.encode() == t.signer.der else c for c in t.signed.at(CERTIFICATES).children]
    t.signed.at(CERTIFICATES).children = sorted(replaced, key=Node.encode)


@twin("bad_attributes", openssl=True)
def ess_cert_id_with_its_default_algorithm_written_out(t: Twin) -> None:
    """DER leaves defaults out."""
    t.ess_cert_id.children.insert(0, parse(bytes.fromhex("300b0609608648016503040201")))
    t.sign_again()


@twin("bad_attributes", openssl=True)
def ess_cert_id_by_sha1(t: Twin) -> None:
    t.ess_cert_id.children.insert(0, parse(SHA1.encode()))
    t.ess_cert_id.at(1).content = bytes(20)
    t.sign_again()


@twin("bad_attributes", openssl=True)
def two_ess_cert_ids(t: Twin) -> None:
    ids = t.attribute(oids.AA_SIGNING_CERTIFICATE_V2).at(1, 0, 0)
    ids.children.append(Node(0x30, children=[Node(0x04, sha256(t.pki.merchant_ca.credential.der))]))
    t.sign_again()


@twin("bad_attributes", openssl=True)
def no_ess_cert_id(t: Twin) -> None:
    t.attribute(oids.AA_SIGNING_CERTIFICATE_V2).at(1, 0, 0).children.clear()
    t.sign_again()


@twin("malformed", openssl=True)
def sid_by_key_identifier(t: Twin) -> None:
    ski = t.signer.certificate.extensions.get_extension_for_oid(ObjectIdentifier("2.5.29.14")).value.public_bytes()
    t.signer_info.children[SID] = Node(0x80, ski[2:])
    t.signer_info.at(SI_VERSION).content = b"\x03"


@twin("signer_count", openssl=False)
def nobody_signed(t: Twin) -> None:
    t.signed.at(SIGNERS).children.clear()


@twin("signer_count", openssl=True)
def signed_twice(t: Twin) -> None:
    other = Twin(t.pki, t.signer)
    other.sign_again()
    both = [t.signer_info, other.signer_info]
    t.signed.at(SIGNERS).children = sorted(both, key=Node.encode)


@twin("bad_signature", openssl=False)
def signature_of_another_object(t: Twin) -> None:
    other = Twin(t.pki, t.signer)
    other.attribute(oids.AA_SIGNING_TIME).at(1, 0).content = b"260321120001Z"
    other.sign_again()
    t.signer_info.at(SIGNATURE).content = other.signer_info.at(SIGNATURE).content


@twin("bad_signature", openssl=False)
def signature_empty(t: Twin) -> None:
    t.signer_info.at(SIGNATURE).content = b""


@twin("bad_signature", openssl=False)
def signature_of_zeros(t: Twin) -> None:
    """r = s = 0, which broken verifiers accept for every message."""
    t.signer_info.at(SIGNATURE).content = bytes.fromhex("3006020100020100")


# Certificates


@twin("malformed", openssl=False)
def no_certificates(t: Twin) -> None:
    del t.signed.children[CERTIFICATES]


@twin("signer_missing", openssl=False)
def certificate_of_the_signer_missing(t: Twin) -> None:
    certificates = t.signed.at(CERTIFICATES)
    certificates.children = [c for c in certificates.children if c.encode() != t.signer.der]


@twin("signer_missing", openssl=True)
def certificate_of_the_signer_twice(t: Twin) -> None:
    certificates = t.signed.at(CERTIFICATES).children
    certificates.append(parse(t.signer.der))
    certificates.sort(key=Node.encode)


@twin("too_many_certificates", openssl=True)
def nine_certificates(t: Twin) -> None:
    certificates = t.signed.at(CERTIFICATES).children
    certificates.extend(parse(t.pki.service().der) for _ in range(6))
    certificates.sort(key=Node.encode)


@twin("malformed", openssl=True)
def embedded_crls(t: Twin) -> None:
    crl = parse(t.pki.merchant_ca.crl(NOW).public_bytes(Encoding.DER))
    t.signed.children.insert(SIGNERS, Node(0xA1, children=[crl]))


# Versions and algorithms


@twin("bad_version", openssl=True)
def version_1(t: Twin) -> None:
    t.signed.at(VERSION).content = b"\x01"


@twin("bad_version", openssl=True)
def signer_info_version_3(t: Twin) -> None:
    t.signer_info.at(SI_VERSION).content = b"\x03"


@twin("bad_algorithm", openssl=True)
def two_digest_algorithms(t: Twin) -> None:
    t.signed.at(DIGESTS).children = sorted([t.signed.at(DIGESTS, 0), SHA512], key=Node.encode)


@twin("bad_algorithm", openssl=False)
def digest_algorithm_of_the_message_is_sha1(t: Twin) -> None:
    t.signed.at(DIGESTS).children = [SHA1]


@twin("bad_algorithm", openssl=False)
def no_digest_algorithm(t: Twin) -> None:
    t.signed.at(DIGESTS).children.clear()


@twin("bad_algorithm", openssl=False)
def digest_algorithm_of_the_signer_is_sha512(t: Twin) -> None:
    t.signer_info.children[DIGEST_ALGORITHM] = SHA512


@twin("bad_algorithm", openssl=True)
def unknown_signature_algorithm(t: Twin) -> None:
    t.signer_info.children[SIGNATURE_ALGORITHM] = Node(0x30, children=[oid(oids.CT_INVOICE)])


@twin("bad_algorithm", openssl=True)
def ecdsa_with_null_parameters(t: Twin) -> None:
    """RFC 5758 3.2: the parameters field must be absent."""
    t.signer_info.at(SIGNATURE_ALGORITHM).children.append(Node(0x05))


@twin("bad_algorithm", openssl=True)
def rsa_algorithm_for_an_ec_key(t: Twin) -> None:
    t.signer_info.children[SIGNATURE_ALGORITHM] = parse(SignatureSuite.RSA_PSS_SHA256.identifier)


@twin("bad_attributes", openssl=True)
def unsigned_attribute_that_is_no_time_stamp(t: Twin) -> None:
    attribute = Node(0x30, children=[oid(oids.CT_RECEIPT), Node(0x31, children=[Node(0x05)])])
    t.signer_info.children.append(Node(0xA1, children=[attribute]))


@twin("bad_attributes", openssl=True)
def two_time_stamps(t: Twin) -> None:
    tokens = [Node(0x30), Node(0x30, children=[Node(0x05)])]
    attribute = Node(0x30, children=[oid(oids.AA_TIME_STAMP_TOKEN), Node(0x31, children=tokens)])
    t.signer_info.children.append(Node(0xA1, children=[attribute]))


def make(name: str, pki: PkiFactory, merchant: Credential) -> bytes:
    """The bytes of one twin."""
    table = Twin(pki, merchant)
    made = CASES[name].operate(table)
    return table.tree.encode() if made is None else made
