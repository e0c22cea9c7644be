"""PKCS#10 requests of token keys: what is signed, and the request afterwards (RFC 2986).

Made by callers as well as by the service: the caller composes the CertificationRequestInfo, the service checks that it
is about the key that signs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ExtensionOID

from hsm_service.service import KeyInfo
from pki.algorithms import certificate_signature_identifier
from pki.der import any_value, encode, tlv
from pki.errors import PkiError
from pki.names import parse_name
from runtime.problems import Problem

EXTENSION_REQUEST: Final = x509.ObjectIdentifier("1.2.840.113549.1.9.14")  # RFC 2985 5.4.2
_SEQUENCE: Final = 0x30


@asn1.sequence
class Attribute:
    """Attribute (RFC 2986 4.1)."""

    type: x509.ObjectIdentifier
    values: asn1.SetOf[asn1.TLV]


@asn1.sequence
class CertificationRequestInfo:
    """CertificationRequestInfo (RFC 2986 4.1)."""

    version: int
    subject: x509.Name
    subject_public_key_info: asn1.TLV
    attributes: Annotated[asn1.SetOf[Attribute], asn1.Implicit(0)]


@asn1.sequence
class _Extension:
    id: x509.ObjectIdentifier
    value: bytes  # critical is absent: FALSE is its default


@asn1.sequence
class _CertificationRequest:
    info: asn1.TLV
    algorithm: asn1.TLV
    signature: asn1.BitString


def request_info(subject: bytes, san_uris: Sequence[str], spki: bytes) -> bytes:
    """CertificationRequestInfo (DER) for `subject` (DER Name) and the key `spki` (DER SubjectPublicKeyInfo).

    `san_uris`, if any, are asked for as subjectAltName. DerError if `subject` is not one Name, ValueError for a URI
    that is not ASCII.
    """
    attributes = []
    if san_uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in san_uris])
        extension = _Extension(id=ExtensionOID.SUBJECT_ALTERNATIVE_NAME, value=names.public_bytes())
        extensions = any_value(tlv(_SEQUENCE, encode(extension)))
        attributes.append(Attribute(type=EXTENSION_REQUEST, values=asn1.SetOf([extensions])))
    return encode(
        CertificationRequestInfo(
            version=0,
            subject=parse_name(subject),
            subject_public_key_info=any_value(spki),
            attributes=asn1.SetOf(attributes),
        )
    )


def compose_request(subject: bytes, san_uris: Sequence[str], key: KeyInfo) -> bytes:
    """`request_info` for a key as the service describes it; Problem 409 or 422 instead of other errors."""
    if not key.public_key:
        raise Problem(409, "key-misused", f"key {key.name} is a secret key and asks for no certificate")
    try:
        return request_info(subject, san_uris, key.public_key)
    except PkiError as error:
        raise Problem(422, "bad-subject", "the subject is not one Name in DER", clause=error.clause) from None
    except ValueError:
        raise Problem(422, "bad-uri", "a URI is ASCII", clause="RFC 5280 4.2.1.6") from None


def assemble_request(info: bytes, signature: bytes, public_key: PublicKeyTypes) -> bytes:
    """PKCS#10 request (DER) from its CertificationRequestInfo and a signature as certificates have it."""
    algorithm = any_value(certificate_signature_identifier(public_key))
    return encode(
        _CertificationRequest(info=any_value(info), algorithm=algorithm, signature=asn1.BitString(signature, 0))
    )
