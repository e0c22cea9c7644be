"""Typed signing of certificates: is this TBSCertificate one that the authority's key may sign? (RFC 5280 4.1)

What the certificate rests on, the approval of its holder, is judged by `hsm_service.typed_approval`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1

from hsm_service.judging import (
    MAX_SERIAL_BITS,
    MIN_SERIAL_BITS,
    PLACEHOLDER,
    SigningKey,
    check_algorithm,
    from_pki,
    parse,
    reading,
    refuse,
    sound,
)
from pki.builder import assemble_certificate
from pki.der import encode
from pki.errors import PkiError
from pki.extensions import extensions_of
from pki.keys import screen_public_key, spki_der
from pki.roles import PROFILES, Role, read_role, role_of

_V3: Final = 2
_UNDERSTOOD: Final = frozenset({x509.BasicConstraints.oid, x509.KeyUsage.oid, x509.ExtendedKeyUsage.oid})

X = TypeVar("X", bound=x509.ExtensionType)


Extensions = Mapping[x509.ObjectIdentifier, x509.Extension[x509.ExtensionType]]


@dataclass(frozen=True, slots=True)
class CertificateOrder:
    """A TBSCertificate that the key may sign, and what was read of it; `subject` and `subject_key` (SPKI) are DER."""

    tbs: bytes
    serial: int
    role: Role
    certificate: x509.Certificate
    subject: bytes
    subject_key: bytes
    extensions: Extensions
    not_before: datetime
    not_after: datetime


@asn1.sequence
class _TbsCertificate:
    """TBSCertificate, version 3, without the unique identifiers that RFC 5280 4.1.2.8 forbids."""

    version: Annotated[int, asn1.Explicit(0)]
    serial_number: int
    signature: asn1.TLV
    issuer: asn1.TLV
    validity: asn1.TLV
    subject: asn1.TLV
    subject_public_key_info: asn1.TLV
    extensions: Annotated[asn1.TLV, asn1.Explicit(3)]


def check_certificate(tbs: bytes, key: SigningKey) -> CertificateOrder:
    """An order to sign the DER TBSCertificate `tbs` with the CA key `key`.

    Refused (Problem 422): what is not one TBSCertificate in DER, another signature algorithm than the key's, a bad
    serial, an issuer or authority key identifier that is not this key's, a validity outside the issuer's, a subject key
    that is weak or the CA's own, a role (certificateType, policy, keyUsage, CA flag) that the key's template or the
    issuer's own role does not issue, a path length that the issuer's does not leave room for, an unknown critical
    extension. A key without certificate signs nothing but its own self-signed root certificate.
    """
    with reading("TBSCertificate"):
        return _check_certificate(tbs, key)


def _check_certificate(tbs: bytes, key: SigningKey) -> CertificateOrder:
    parsed = parse(_TbsCertificate, tbs, "TBSCertificate")
    if parsed.version != _V3:
        raise refuse("not-version-3", "a certificate is of version 3", "RFC 5280 4.1.2.1")
    check_algorithm(parsed.signature, key)
    # With a signature of no value, so that the one parser of this product reads it.
    certificate = parse(x509.Certificate, assemble_certificate(tbs, PLACEHOLDER, key.public_key), "TBSCertificate")
    if certificate.tbs_certificate_bytes != tbs:
        raise refuse("malformed", "not one TBSCertificate in DER", "RFC 5280 4.1")
    if not MIN_SERIAL_BITS <= parsed.serial_number.bit_length() <= MAX_SERIAL_BITS or parsed.serial_number < 0:
        raise refuse("bad-serial", "a serial number is positive and has 64 to 159 bits", "RFC 5280 4.1.2.2")
    extensions = _extensions(certificate)
    role = sound(lambda: read_role(certificate))
    if role not in key.template.issues:
        raise refuse(
            "role-not-allowed",
            f"keys of template {key.template.name} do not issue {role} certificates",
            "KWBP global rule 4",
        )
    order = CertificateOrder(
        tbs,
        parsed.serial_number,
        role,
        certificate,
        encode(parsed.subject),
        _subject_key(certificate),
        extensions,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )
    if role is Role.ROOT:
        _check_self_signed(order, key)
    else:
        _check_issued(order, encode(parsed.issuer), key)
    if order.not_before >= order.not_after:
        raise refuse("bad-validity", "notBefore is before notAfter", "RFC 5280 4.1.2.5")
    return order


def _extensions(certificate: x509.Certificate) -> Extensions:
    """By their OIDs; refuses a critical one that is not understood."""
    found = {extension.oid: extension for extension in sound(lambda: extensions_of(certificate))}
    for extension in found.values():
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise refuse(
                "unknown-critical-extension",
                f"the critical extension {extension.oid.dotted_string} is not understood",
                "RFC 5280 4.2",
            )
    return found


def _subject_key(certificate: x509.Certificate) -> bytes:
    """SubjectPublicKeyInfo of a sound subject key."""
    try:
        public_key = certificate.public_key()
        screen_public_key(public_key)
    except PkiError as error:
        raise from_pki(error) from None
    except (ValueError, UnsupportedAlgorithm):
        raise refuse("weak-algorithm", "the subject's key is of no known kind", "RFC 5280 4.1.2.7") from None
    return spki_der(public_key)


def _check_self_signed(order: CertificateOrder, key: SigningKey) -> None:
    subject = order.certificate.subject.public_bytes()
    if order.subject_key != key.spki:
        raise refuse("foreign-root-key", "a root certificate is signed by its own key", "RFC 5280 3.2")
    if order.certificate.issuer.public_bytes() != subject:
        raise refuse("issuer-mismatch", "issuer and subject of a root certificate are equal", "RFC 5280 3.2")
    if key.chain and subject != key.issuer.name:
        raise refuse("issuer-mismatch", "the root's name is that of its attached certificate", "RFC 5280 4.1.2.4")
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key).digest
    if _authority_key(order.extensions) not in {None, own}:
        raise refuse("authority-key-mismatch", "authorityKeyIdentifier is not this key's", "RFC 5280 4.2.1.1")


def _check_issued(order: CertificateOrder, issuer_name: bytes, key: SigningKey) -> None:
    issuer = key.issuer
    if issuer_name != issuer.name:
        order.certificate.issuer.public_bytes()  # one that cannot be read is refused as such
        raise refuse("issuer-mismatch", f"the issuer is not the subject of key {key.name}", "RFC 5280 4.1.2.4")
    if _authority_key(order.extensions) != issuer.key_identifier:
        raise refuse("authority-key-mismatch", "authorityKeyIdentifier is not this key's", "RFC 5280 4.2.1.1")
    role, issuer_role = order.role, sound(lambda: role_of(issuer.certificate))
    if issuer_role not in PROFILES[role].issuers:
        raise refuse("role-not-allowed", f"{role} certificates are not issued by a {issuer_role}", "KWBP global rule 4")
    if order.subject_key == key.spki:
        raise refuse("own-key", "the subject's key is the authority's own", "KWBP global rule 4")
    if not (issuer.not_before <= order.not_before and order.not_after <= issuer.not_after):
        raise refuse("validity-outside-issuer", "the validity is not within the issuer's", "CPS 6.3.2")
    _check_path_length(order.extensions, issuer.path_length)


def _check_path_length(extensions: Extensions, above: int | None) -> None:
    """A subordinate authority needs room in its issuer's path length and must leave less to its own."""
    own = value_of(extensions, x509.BasicConstraints)
    if own is None or not own.ca or above is None:
        return
    if own.path_length is None or own.path_length >= above:
        raise refuse("path-too-long", f"the issuer's path length is {above}", "RFC 5280 4.2.1.9")


def _authority_key(extensions: Extensions) -> bytes | None:
    """The keyIdentifier of the issuer, None if it is not stated (RFC 5280 4.2.1.1)."""
    found = value_of(extensions, x509.AuthorityKeyIdentifier)
    return None if found is None else found.key_identifier


def value_of(extensions: Extensions, kind: type[X]) -> X | None:
    """The extension of this class, None if it is absent."""
    found = extensions.get(kind.oid)
    if found is None:
        return None
    assert isinstance(found.value, kind)  # the parser has a class for each OID that it knows
    return found.value
