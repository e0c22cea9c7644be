"""Typed signing: every structure is parsed and understood before a key signs it.

Other signing services sign any digest they are handed, so whoever holds the credential can have anything signed. Here
the caller sends the structure itself: a TBSCertificate, a TBSCertList, a message content, a CertificationRequestInfo.
It is parsed strictly, compared with the key that is to sign it, and only then becomes an order to sign; there is no
order for bytes that nobody can explain, and none for a digest.

Pure: no token, no clock, no log. A refusal is a `Problem` with status 422 that names the rule (RFC 9457).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Annotated, Any, Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cps.decision import parse_decision
from cps.errors import CpsError
from hsm_service.message import MessageWriter
from hsm_service.request import EXTENSION_REQUEST, CertificationRequestInfo
from hsm_service.templates import Template, content_type_name
from pki import oids
from pki.algorithms import certificate_signature_identifier
from pki.attestation import KeyAttestation
from pki.builder import assemble_certificate, assemble_crl
from pki.der import decode, encode
from pki.errors import CertificateError, DerError, PkiError
from pki.extensions import extensions_of
from pki.keys import screen_public_key, spki_der
from pki.roles import PROFILES, Role, role_of
from runtime.problems import Problem

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

ContentValidator = Callable[[bytes, x509.Certificate], None]
"""Judges one content type: takes the content (DER) and the certificate that will sign it.

Returns if the bytes are exactly one content of that type and whatever it says about its signer is true of this
certificate; otherwise raises an exception whose `detail` says what is wrong, in words that repeat nothing of the
content, and whose `clause` or `check` (of the protocol) names the rule. Errors of `pki` and `kwbp` are such exceptions.
"""

CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far ahead of our clock a caller's may be."""
MAX_CRL_AGE: Final = timedelta(hours=24)
"""How far back thisUpdate of a CRL may lie when it is signed."""

_MIN_SERIAL_BITS: Final = 64  # CA/Browser Forum 7.1: at least 64 bits of a CSPRNG
_MAX_SERIAL_BITS: Final = 159  # RFC 5280 4.1.2.2: 20 octets, positive
_PLACEHOLDER: Final = b"\x00"
_V3: Final = 2
_MAX_REQUEST: Final = 16_384

T = TypeVar("T")
X = TypeVar("X", bound=x509.ExtensionType)


@dataclass(frozen=True)
class SigningKey:
    """What the checks need to know of a key: its template, public half, and certificate chain (its own first)."""

    name: str
    version: int
    template: Template
    public_key: PublicKey
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def certificate(self) -> x509.Certificate:
        """The key's own certificate; a Problem 409 while it has none."""
        if not self.chain:
            raise Problem(409, "key-has-no-certificate", f"key {self.name} has no certificate yet: attach one first")
        return self.chain[0]

    @cached_property
    def writer(self) -> MessageWriter:
        """What writes the messages of this key; a Problem 409 while it has no certificate."""
        return MessageWriter(self.certificate, self.chain[1:])


@dataclass(frozen=True, slots=True)
class CertificateOrder:
    """A TBSCertificate that the key may sign."""

    tbs: bytes
    serial: int
    role: Role


@dataclass(frozen=True, slots=True)
class CrlOrder:
    """A TBSCertList that the key may sign, if its number is larger than the last."""

    tbs: bytes
    number: int
    revoked: int


@dataclass(frozen=True, slots=True)
class CmsOrder:
    """A content that the key may sign, with the signed attributes made for it (DER SET OF: what is signed)."""

    content_type: x509.ObjectIdentifier
    content: bytes
    signed_attributes: bytes


@dataclass(frozen=True, slots=True)
class RequestOrder:
    """A CertificationRequestInfo for the key itself."""

    info: bytes


# -- certificates ------------------------------------------------------------------------------------------------------


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
    with _reading("TBSCertificate"):
        return _check_certificate(tbs, key)


def _check_certificate(tbs: bytes, key: SigningKey) -> CertificateOrder:
    parsed = _decode(_TbsCertificate, tbs, "TBSCertificate")
    if parsed.version != _V3:
        raise _refuse("not-version-3", "a certificate is of version 3", "RFC 5280 4.1.2.1")
    _check_algorithm(parsed.signature, key)
    # With a signature of no value, so that the one parser of this product reads it.
    certificate = _decode(x509.Certificate, assemble_certificate(tbs, _PLACEHOLDER, key.public_key), "TBSCertificate")
    if certificate.tbs_certificate_bytes != tbs:
        raise _refuse("malformed", "not one TBSCertificate in DER", "RFC 5280 4.1")
    if not _MIN_SERIAL_BITS <= parsed.serial_number.bit_length() <= _MAX_SERIAL_BITS or parsed.serial_number < 0:
        raise _refuse("bad-serial", "a serial number is positive and has 64 to 159 bits", "RFC 5280 4.1.2.2")
    _check_extensions(certificate)
    role = _pki(lambda: role_of(certificate))
    if role not in key.template.issues:
        raise _refuse(
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
        raise _refuse("bad-validity", "notBefore is before notAfter", "RFC 5280 4.1.2.5")
    return CertificateOrder(tbs, parsed.serial_number, role)


def _check_extensions(certificate: x509.Certificate) -> None:
    for extension in _pki(lambda: extensions_of(certificate)):
        understood = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage)
        if extension.critical and not isinstance(extension.value, understood):
            raise _refuse(
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
        raise _from_pki(error) from None
    except (ValueError, UnsupportedAlgorithm):
        raise _refuse("weak-algorithm", "the subject's key is of no known kind", "RFC 5280 4.1.2.7") from None
    return spki_der(public_key)


def _check_self_signed(certificate: x509.Certificate, subject_key: bytes, key: SigningKey) -> None:
    if subject_key != spki_der(key.public_key):
        raise _refuse("foreign-root-key", "a root certificate is signed by its own key", "RFC 5280 3.2")
    if certificate.issuer.public_bytes() != certificate.subject.public_bytes():
        raise _refuse("issuer-mismatch", "issuer and subject of a root certificate are equal", "RFC 5280 3.2")
    if key.chain and certificate.subject.public_bytes() != key.certificate.subject.public_bytes():
        raise _refuse("issuer-mismatch", "the root's name is that of its attached certificate", "RFC 5280 4.1.2.4")
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key).digest
    named = _authority_key_identifier(certificate)
    if named not in {None, own}:
        raise _refuse("authority-key-mismatch", "authorityKeyIdentifier is not this key's", "RFC 5280 4.2.1.1")


def _check_issued(certificate: x509.Certificate, role: Role, subject_key: bytes, key: SigningKey) -> None:
    issuer = key.certificate
    if certificate.issuer.public_bytes() != issuer.subject.public_bytes():
        raise _refuse("issuer-mismatch", f"the issuer is not the subject of key {key.name}", "RFC 5280 4.1.2.4")
    if _authority_key_identifier(certificate) != _subject_key_identifier(issuer):
        raise _refuse("authority-key-mismatch", "authorityKeyIdentifier is not this key's", "RFC 5280 4.2.1.1")
    issuer_role = _pki(lambda: role_of(issuer))
    if PROFILES[role].issuer is not issuer_role:
        raise _refuse(
            "role-not-allowed", f"{role} certificates are not issued by a {issuer_role}", "KWBP global rule 4"
        )
    if subject_key == spki_der(key.public_key):
        raise _refuse("own-key", "the subject's key is the authority's own", "KWBP global rule 4")
    within = (
        issuer.not_valid_before_utc <= certificate.not_valid_before_utc
        and certificate.not_valid_after_utc <= issuer.not_valid_after_utc
    )
    if not within:
        raise _refuse("validity-outside-issuer", "the validity is not within the issuer's", "CPS 6.3.2")
    _check_path_length(certificate, issuer)


def _check_path_length(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    """A subordinate authority needs room in its issuer's path length and must leave less to its own."""
    own, above = _basic_constraints(certificate), _basic_constraints(issuer)
    if own is None or not own.ca or above is None or above.path_length is None:
        return
    if own.path_length is None or own.path_length >= above.path_length:
        raise _refuse("path-too-long", f"the issuer's path length is {above.path_length}", "RFC 5280 4.2.1.9")


def _basic_constraints(certificate: x509.Certificate) -> x509.BasicConstraints | None:
    return _extension(certificate, x509.BasicConstraints)


def _authority_key_identifier(signed: x509.Certificate | x509.CertificateRevocationList) -> bytes | None:
    found = _extension(signed, x509.AuthorityKeyIdentifier)
    return found.key_identifier if found is not None else None


def _subject_key_identifier(certificate: x509.Certificate) -> bytes:
    found = _extension(certificate, x509.SubjectKeyIdentifier)
    if found is not None:
        return found.digest
    public_key = certificate.public_key()
    assert isinstance(public_key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
    return x509.SubjectKeyIdentifier.from_public_key(public_key).digest


def _extension(signed: x509.Certificate | x509.CertificateRevocationList, kind: type[X]) -> X | None:
    try:
        return signed.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


# -- revocation lists --------------------------------------------------------------------------------------------------


def check_crl(tbs: bytes, key: SigningKey, *, now: datetime) -> CrlOrder:
    """An order to sign the DER TBSCertList `tbs`: a full CRL of the authority whose key `key` is.

    Refused (Problem 422): what is not one TBSCertList in DER, another signature algorithm, an issuer or authority key
    identifier that is not this key's, no number, a thisUpdate in the future or older than a day, a nextUpdate that is
    missing or past, a revocation in the future, a critical extension. Whether the number is larger than the last one is
    known to whoever signed the last one: `hsm_service.ledger`.
    """
    with _reading("TBSCertList"):
        return _check_crl(tbs, key, now)


def _check_crl(tbs: bytes, key: SigningKey, now: datetime) -> CrlOrder:
    _decode(asn1.TLV, tbs, "TBSCertList")
    crl = _decode(
        x509.CertificateRevocationList, assemble_crl(tbs, _PLACEHOLDER, key.public_key), "TBSCertList of this key"
    )
    if crl.tbs_certlist_bytes != tbs:
        raise _refuse("malformed", "not one TBSCertList in DER", "RFC 5280 5.1")
    issuer = key.certificate
    if crl.issuer.public_bytes() != issuer.subject.public_bytes():
        raise _refuse("issuer-mismatch", f"the issuer is not the subject of key {key.name}", "RFC 5280 5.1.2.3")
    extensions = _pki(lambda: extensions_of(crl))
    if any(extension.critical for extension in extensions):
        raise _refuse("unknown-critical-extension", "a full CRL has no critical extension", "RFC 5280 5.2")
    if _authority_key_identifier(crl) != _subject_key_identifier(issuer):
        raise _refuse("authority-key-mismatch", "authorityKeyIdentifier is not this key's", "RFC 5280 5.2.1")
    number = _extension(crl, x509.CRLNumber)
    if number is None:
        raise _refuse("crl-number-missing", "a CRL has a number", "RFC 5280 5.2.3")
    if not now - MAX_CRL_AGE <= crl.last_update_utc <= now + CLOCK_SKEW:
        raise _refuse("bad-this-update", "thisUpdate is now, at most a day ago", "RFC 5280 5.1.2.4")
    if crl.next_update_utc is None or crl.next_update_utc <= max(now, crl.last_update_utc):
        raise _refuse("bad-next-update", "nextUpdate is in the future", "RFC 5280 5.1.2.5")
    return CrlOrder(tbs, number.crl_number, _check_entries(crl, now))


def _check_entries(crl: x509.CertificateRevocationList, now: datetime) -> int:
    """Number of entries, each of them read."""
    serials = set()
    for entry in crl:
        serials.add(entry.serial_number)
        if entry.revocation_date_utc > now + CLOCK_SKEW:
            raise _refuse("bad-revocation-date", "a certificate is revoked in the future", "RFC 5280 5.1.2.6")
        if any(extension.critical for extension in entry.extensions):
            raise _refuse("unknown-critical-extension", "an entry has a critical extension", "RFC 5280 5.3")
    if len(serials) != len(crl):
        raise _refuse("repeated-entry", "a serial number is listed twice", "RFC 5280 5.1.2.6")
    return len(serials)


# -- messages ----------------------------------------------------------------------------------------------------------


def built_in_content_types() -> dict[str, ContentValidator]:
    """Validators of the contents that this package and the CPS define, by dotted OID."""
    return {
        oids.CT_KEY_ATTESTATION.dotted_string: _judge_attestation,
        oids.CT_DECISION.dotted_string: _judge_decision,
    }


def _judge_attestation(content: bytes, _signer: x509.Certificate) -> None:
    KeyAttestation.from_der(content)


def _judge_decision(content: bytes, _signer: x509.Certificate) -> None:
    try:
        parse_decision(content)
    except CpsError as error:
        raise _refuse("content-refused", str(error), None) from error


def check_cms(
    content_type: str,
    content: bytes,
    key: SigningKey,
    *,
    content_types: Mapping[str, ContentValidator],
    now: datetime,
) -> CmsOrder:
    """An order to sign `content` (DER) as `content_type` (dotted OID), with signed attributes that say `now`.

    Refused: a content type that is not in the key's list (403: this key does not serve it) or that this service was
    started without a judge for (501), a content that its judge refuses (422), a certificate not valid now (409).
    """
    if content_type not in key.template.content_type_oids:
        raise Problem(
            403,
            "content-type-not-allowed",
            f"key {key.name} does not sign {content_type_name(content_type)}; "
            f"it signs {', '.join(key.template.content_types)}",
        )
    validate = content_types.get(content_type)
    if validate is None:
        raise Problem(
            501, "content-type-unknown", f"this service cannot judge {content_type_name(content_type)}, so signs none"
        )
    signer = key.certificate
    if not signer.not_valid_before_utc <= now <= signer.not_valid_after_utc:
        raise Problem(
            409, "certificate-not-valid", f"the certificate of key {key.name} is not valid now", clause="CPS 6.3.2"
        )
    try:
        validate(content, signer)
    except Problem:
        raise
    except Exception as error:
        raise _judged(error) from error
    oid = x509.ObjectIdentifier(content_type)
    return CmsOrder(oid, content, key.writer.signed_attributes(oid, content, now))


def _judged(error: Exception) -> Exception:
    """A validator's refusal as a Problem; any other exception as it is, which then is a fault of ours."""
    detail = getattr(error, "detail", None)
    if not isinstance(detail, str):
        return error
    check = getattr(error, "check", None)
    clause = f"KWBP {check}" if check is not None else getattr(error, "clause", None)
    return _refuse("content-refused", detail or "the content is not what its type demands", clause)


# -- requests ----------------------------------------------------------------------------------------------------------


def check_request(info: bytes, key: SigningKey) -> RequestOrder:
    """An order to sign the DER CertificationRequestInfo `info`, the request of `key` for a certificate.

    Refused (Problem 422): what is not one CertificationRequestInfo in DER, another key than this one, an empty subject,
    attributes other than one extension request. What the request asks for is judged by the registration authority.
    """
    parsed = _decode(CertificationRequestInfo, info, "CertificationRequestInfo", limit=_MAX_REQUEST)
    if parsed.version != 0:
        raise _refuse("malformed", "a request is of version 1", "RFC 2986 4.1")
    if encode(parsed.subject_public_key_info) != spki_der(key.public_key):
        raise _refuse("foreign-public-key", f"the key in the request is not {key.name}", "RFC 2986 3")
    if not list(parsed.subject):
        raise _refuse("empty-subject", "a request names its subject", "RFC 2986 4.1")
    attributes = parsed.attributes.as_list()
    if [attribute.type for attribute in attributes] not in ([], [EXTENSION_REQUEST]):
        raise _refuse("unknown-attribute", "the only attribute is one extension request", "RFC 2985 5.4.2")
    return RequestOrder(info)


# -- what the checks share ---------------------------------------------------------------------------------------------


def _check_algorithm(named: asn1.TLV, key: SigningKey) -> None:
    if encode(named) != certificate_signature_identifier(key.public_key):
        raise _refuse(
            "algorithm-mismatch", f"the signature algorithm is not that of key {key.name}", "RFC 5280 4.1.2.3"
        )


@contextlib.contextmanager
def _reading(what: str) -> Iterator[None]:
    """Refuses what the parser, which reads some members only when asked for them, finds unreadable then."""
    try:
        yield
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension):
        raise _refuse("malformed", f"a member of the {what} cannot be read", "RFC 5280 4.1") from None


def _decode(cls: type[T], der: bytes, what: str, **limits: Any) -> T:
    try:
        return decode(cls, der, **limits)
    except DerError as error:
        raise _refuse(error.reason.replace("_", "-"), f"not one {what} in DER", error.clause) from None


def _pki(check: Callable[[], T]) -> T:
    try:
        return check()
    except CertificateError as error:
        raise _from_pki(error) from None


def _from_pki(error: PkiError) -> Problem:
    return _refuse(error.reason.replace("_", "-"), error.detail, error.clause)


def _refuse(slug: str, detail: str, clause: str | None) -> Problem:
    return Problem(422, slug, detail, clause=clause or None)
