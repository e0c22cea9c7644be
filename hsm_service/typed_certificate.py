"""Typed signing of certificates: is this TBSCertificate one that the authority's key may sign? (RFC 5280 4.1)

What the certificate rests on, the approval of its holder, is judged by `hsm_service.typed_approval`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1

from hsm_service.judging import (
    MAX_SERIAL_BITS,
    MIN_SERIAL_BITS,
    PLACEHOLDER,
    SigningKey,
    authority_key_identifier,
    check_algorithm,
    extension_value,
    from_pki,
    parse,
    reading,
    refuse,
    sound,
    subject_key_identifier,
)
from pki.builder import assemble_certificate
from pki.errors import PkiError
from pki.extensions import extensions_of
from pki.keys import screen_public_key, spki_der
from pki.roles import PROFILES, Role, role_of

_V3: Final = 2


@dataclass(frozen=True, slots=True)
class CertificateOrder:
    """A TBSCertificate that the key may sign."""

    tbs: bytes
    serial: int
    role: Role
    certificate: x509.Certificate


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
    _check_extensions(certificate)
    role = sound(lambda: role_of(certificate))
    if role not in key.template.issues:
        raise refuse(
            "role-not-allowed",
            f"keys of template {key.template.name} do not issue {role} certificates",
            "KWBP global rule 4",
        )
    subject_key = _subject_key(certificate)
    if role is Role.ROOT:
        _check_self_signed(certificate, subject_key, key)
    else:
        _check_issued(certificate, role, subject_key, key)
    if certificate.not_valid_before_utc >= certificate.not_valid_after_utc:
        raise refuse("bad-validity", "notBefore is before notAfter", "RFC 5280 4.1.2.5")
    return CertificateOrder(tbs, parsed.serial_number, role, certificate)


def _check_extensions(certificate: x509.Certificate) -> None:
    for extension in sound(lambda: extensions_of(certificate)):
        understood = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage)
        if extension.critical and not isinstance(extension.value, understood):
            raise refuse(
                "unknown-critical-extension",
                f"the critical extension {extension.oid.dotted_string} is not understood",
                "RFC 5280 4.2",
            )


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


def _check_self_signed(certificate: x509.Certificate, subject_key: bytes, key: SigningKey) -> None:
    if subject_key != spki_der(key.public_key):
        raise refuse("foreign-root-key", "a root certificate is signed by its own key", "RFC 5280 3.2")
    if certificate.issuer.public_bytes() != certificate.subject.public_bytes():
        raise refuse("issuer-mismatch", "issuer and subject of a root certificate are equal", "RFC 5280 3.2")
    if key.chain and certificate.subject.public_bytes() != key.certificate.subject.public_bytes():
        raise refuse("issuer-mismatch", "the root's name is that of its attached certificate", "RFC 5280 4.1.2.4")
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key).digest
    named = authority_key_identifier(certificate)
    if named not in {None, own}:
        raise refuse("authority-key-mismatch", "authorityKeyIdentifier is not this key's", "RFC 5280 4.2.1.1")


def _check_issued(certificate: x509.Certificate, role: Role, subject_key: bytes, key: SigningKey) -> None:
    issuer = key.certificate
    if certificate.issuer.public_bytes() != issuer.subject.public_bytes():
        raise refuse("issuer-mismatch", f"the issuer is not the subject of key {key.name}", "RFC 5280 4.1.2.4")
    if authority_key_identifier(certificate) != subject_key_identifier(issuer):
        raise refuse("authority-key-mismatch", "authorityKeyIdentifier is not this key's", "RFC 5280 4.2.1.1")
    issuer_role = sound(lambda: role_of(issuer))
    if issuer_role not in PROFILES[role].issuers:
        raise refuse("role-not-allowed", f"{role} certificates are not issued by a {issuer_role}", "KWBP global rule 4")
    if subject_key == spki_der(key.public_key):
        raise refuse("own-key", "the subject's key is the authority's own", "KWBP global rule 4")
    within = (
        issuer.not_valid_before_utc <= certificate.not_valid_before_utc
        and certificate.not_valid_after_utc <= issuer.not_valid_after_utc
    )
    if not within:
        raise refuse("validity-outside-issuer", "the validity is not within the issuer's", "CPS 6.3.2")
    _check_path_length(certificate, issuer)


def _check_path_length(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    """A subordinate authority needs room in its issuer's path length and must leave less to its own."""
    own, above = _basic_constraints(certificate), _basic_constraints(issuer)
    if own is None or not own.ca or above is None or above.path_length is None:
        return
    if own.path_length is None or own.path_length >= above.path_length:
        raise refuse("path-too-long", f"the issuer's path length is {above.path_length}", "RFC 5280 4.2.1.9")


def _basic_constraints(certificate: x509.Certificate) -> x509.BasicConstraints | None:
    return extension_value(certificate, x509.BasicConstraints)
