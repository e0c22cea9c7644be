"""The ASN.1 of SignedData as far as the profile knows it (RFC 5652, RFC 5035): no member that it does not allow.

What a value of these types must hold besides is said by `pki.cms_signed`, and by `pki.cms_joined` for two signers.
"""

from __future__ import annotations

from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat import asn1

from pki.crowding import Members


@asn1.sequence
class Attribute:
    type: x509.ObjectIdentifier
    values: asn1.SetOf[asn1.TLV]


@asn1.sequence
class IssuerAndSerialNumber:
    issuer: asn1.TLV  # Name, compared as bytes with that of the certificate
    serial_number: int


@asn1.sequence
class SignerInfo:
    version: int
    sid: IssuerAndSerialNumber
    digest_algorithm: asn1.TLV
    signed_attrs: Annotated[asn1.SetOf[Attribute], asn1.Implicit(0)]
    signature_algorithm: asn1.TLV
    signature: bytes
    unsigned_attrs: Annotated[asn1.SetOf[Attribute] | None, asn1.Implicit(1)]


@asn1.sequence
class EncapsulatedContentInfo:
    content_type: x509.ObjectIdentifier
    content: Annotated[bytes, asn1.Explicit(0)]


@asn1.sequence
class SignedData:
    version: int
    digest_algorithms: asn1.SetOf[asn1.TLV]
    encap_content_info: EncapsulatedContentInfo
    certificates: Annotated[asn1.SetOf[asn1.TLV], asn1.Implicit(0)]  # each is a Certificate: `pki.cms_signed`
    signer_infos: asn1.SetOf[SignerInfo]


@asn1.sequence
class ContentInfo:
    content_type: x509.ObjectIdentifier
    content: Annotated[SignedData, asn1.Explicit(0)]


_ATTRIBUTES: Final = Members(64, {0x30: Members(2, {0x31: Members(64)})})
_SETS: Final = Members(64, {0x30: Members(8, {0xA0: _ATTRIBUTES, 0xA1: _ATTRIBUTES})})  # of algorithms, of signers
_SIGNED_DATA: Final = Members(8, {0x31: _SETS, 0xA0: Members(64)})
MEMBERS: Final = Members(2, {0xA0: Members(1, {0x30: _SIGNED_DATA})})
"""How many members a ContentInfo may have where. The profile allows far fewer; which rule is broken is said later."""


@asn1.sequence
class GeneralNames:
    directory_name: Annotated[asn1.TLV, asn1.Explicit(4)]


@asn1.sequence
class IssuerSerial:
    issuer: GeneralNames
    serial_number: int


@asn1.sequence
class EssCertIdV2:
    cert_hash: Annotated[bytes, asn1.Size.exact(32)]  # hashAlgorithm is absent: SHA-256 is its default
    issuer_serial: IssuerSerial | None


@asn1.sequence
class SigningCertificateV2:
    certs: Annotated[list[EssCertIdV2], asn1.Size(1, 1)]
