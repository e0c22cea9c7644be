"""What goes over the wire in EST (RFC 7030, RFC 8951): base64, certs-only messages, what a request should look like.

    CsrAttrs ::= SEQUENCE SIZE (0..MAX) OF AttrOrOID
    AttrOrOID ::= CHOICE (oid OBJECT IDENTIFIER, attribute Attribute{{AttrSet}})

An allowed kind of key is an attribute: id-ecPublicKey with a curve, or rsaEncryption with the least size as an INTEGER
(RFC 8951 3.2.4's reading of RFC 7030 4.5.2, RFC 9908 3.2). Several kinds are several attributes, and a client takes
one. challengePassword is not listed: nobody is asked to link a request to a TLS connection (`ra.est`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from cps.model import KeyRule
from pki.der import encode, tlv

_WHITE: Final = b" \t\r\n"
_LINE: Final = 64  # characters
_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_EC: Final = "1.2.840.10045.2.1"
_RSA: Final = "1.2.840.113549.1.1.1"
_CURVES: Final = {"P-256": "1.2.840.10045.3.1.7", "P-384": "1.3.132.0.34"}
_SIGNED_WITH: Final = {
    _EC: ("1.2.840.10045.4.3.2", "1.2.840.10045.4.3.3"),  # ecdsa-with-SHA256, -SHA384
    _RSA: ("1.2.840.113549.1.1.11", "1.2.840.113549.1.1.12"),  # sha256WithRSAEncryption, sha384…
}


def from_base64(body: bytes) -> bytes:
    """The bytes behind a body of RFC 4648 4; ValueError otherwise.

    Blanks, tabs and ends of line may stand anywhere (RFC 8951 3.1); nothing else that is not of the alphabet may, nor
    bits that are not zero at the end.
    """
    text = body.translate(None, _WHITE)
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None
    if not data or base64.b64encode(data) != text:
        raise ValueError("not base64 in its one spelling")
    return data


def to_base64(data: bytes) -> bytes:
    """RFC 4648 4 in lines, as `openssl base64 -d` reads it."""
    text = base64.b64encode(data)
    return b"".join(text[at : at + _LINE] + b"\r\n" for at in range(0, len(text), _LINE))


def certs_only(certificates: Sequence[x509.Certificate]) -> bytes:
    """A Simple PKI Response (RFC 5272 4.1) with these certificates: SignedData, DER, that nobody signed."""
    return pkcs7.serialize_certificates(list(certificates), Encoding.DER)


def csr_attributes(rule: KeyRule) -> bytes:
    """CsrAttrs (DER) for keys that a rule of the CPS allows, and what requests for them may be signed with."""
    attributes: list[bytes] = []
    algorithms: list[str] = []
    for kind in rule.any_of:
        attributes += [_attribute(_EC, _oid(_CURVES[curve])) for curve in kind.ec]
        algorithms += _SIGNED_WITH[_EC] if kind.ec else ()
        if kind.rsa is not None:
            attributes.append(_attribute(_RSA, encode(kind.rsa.min)))
            algorithms += _SIGNED_WITH[_RSA]
    return tlv(_SEQUENCE, b"".join((*attributes, *map(_oid, dict.fromkeys(algorithms)))))


def _attribute(kind: str, value: bytes) -> bytes:
    return tlv(_SEQUENCE, _oid(kind) + tlv(_SET, value))


def _oid(dotted: str) -> bytes:
    return encode(x509.ObjectIdentifier(dotted))
