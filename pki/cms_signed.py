"""SignedData as KWBP uses it: a closed profile of RFC 5652 (KWBP global rule 2).

General CMS lets an attacker choose: no signed attributes (and then what was signed is ambiguous), a content type that
contradicts them, a signer found by a name that several certificates share, parameters by default. Here every choice is
made: one signer, four signed attributes exactly once, the signer bound by the hash of its certificate, algorithms
compared as bytes. OpenSSL and GnuTLS read and write what this profile allows.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import Final, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from pki import cms_structures as structures
from pki import oids
from pki.algorithms import SHA256_IDENTIFIER, SHA256_IDENTIFIERS, SIGNATURE_IDENTIFIERS, SignatureSuite
from pki.der import any_value, decode, encode, remembered, sha256, tlv
from pki.errors import UNREADABLE, CertificateError, CmsError, DerError
from pki.keys import screen_public_key

MAX_CERTIFICATES: Final = 8
_REMEMBERED: Final = 1024
"""Embedded certificates that are kept as they were read: the same signers and authorities come with every message."""
_CLAUSE: Final = "KWBP global rule 2"
_SEQUENCE: Final = 0x30
_PSS: Final = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)


@dataclass(frozen=True)
class SignedData:
    """One signed object whose structure is in the profile. Its signature is not verified yet: `verify_signature`.

    `content` is the DER of the signed content, `signing_time` aware UTC, `der` the whole ContentInfo and `digest` its
    SHA-256, `signed_attributes` the SET OF Attribute whose bytes are signed, `time_stamp` an RFC 3161 token or None,
    `further` the DER of the signed attribute that was asked for beside the four.
    """

    content_type: x509.ObjectIdentifier
    content: bytes
    certificates: tuple[x509.Certificate, ...]
    signer: x509.Certificate
    signing_time: datetime
    der: bytes
    digest: bytes
    signed_attributes: bytes
    message_digest: bytes
    suite: SignatureSuite
    signature: bytes
    time_stamp: bytes | None
    further: bytes | None = None


def parse_signed_data(
    der: bytes, *, content_type: x509.ObjectIdentifier, further: x509.ObjectIdentifier | None = None
) -> SignedData:
    """Read a ContentInfo with SignedData over `content_type`; structure and allow-lists only, no cryptography.

    `further` is a signed attribute that must be there beside the four; without it there are the four.

    Raises CmsError with reason `malformed` (not DER, or a member outside the profile is present or missing, among them
    signedAttrs), `too_big`, `not_canonical`, `wrong_content_type`, `bad_version`, `bad_algorithm`, `bad_attributes`
    (an attribute missing, repeated or unknown), `signer_count`, `too_many_certificates`, `signer_missing` (no embedded
    certificate has the hash of ESSCertIDv2), `signer_mismatch` (sid and ESSCertIDv2 name different certificates).
    """
    try:
        info = decode(structures.ContentInfo, der, members=structures.MEMBERS)
        embedded = [_embedded(encode(member)) for member in info.content.certificates.as_list()]
    except DerError as error:
        raise CmsError(error.reason, "not a SignedData of the profile", clause=_CLAUSE) from None
    if info.content_type != oids.SIGNED_DATA:
        raise _refuse("wrong_content_type", "ContentInfo is not SignedData")
    signed = info.content
    encapsulated = signed.encap_content_info
    if content_type == oids.DATA or encapsulated.content_type != content_type:
        raise _refuse("wrong_content_type", "eContentType is not the one expected")
    signer_infos = signed.signer_infos.as_list()
    if len(signer_infos) != 1:
        raise _refuse("signer_count", f"{len(signer_infos)} signers, not one")
    signer_info = signer_infos[0]
    if signed.version != 3 or signer_info.version != 1:  # RFC 5652 5.1, 5.3
        raise _refuse("bad_version", "SignedData is version 3, SignerInfo version 1")
    suite = _suite(signed, signer_info)
    attributes = signer_info.signed_attrs.as_list()
    values = _single_values(attributes, _SIGNED_ATTRIBUTES if further is None else _SIGNED_ATTRIBUTES | {further})
    if len(embedded) > MAX_CERTIFICATES:
        raise _refuse("too_many_certificates", f"more than {MAX_CERTIFICATES} certificates")
    try:
        if _object_identifier(values[oids.AA_CONTENT_TYPE]) != content_type:
            raise _refuse("wrong_content_type", "the content type signed is not that of the content")
        message_digest = decode(bytes, values[oids.AA_MESSAGE_DIGEST])
        signing_time = _read_time(values[oids.AA_SIGNING_TIME])
        ess = _ess_cert_id(values[oids.AA_SIGNING_CERTIFICATE_V2])
    except DerError:
        raise _refuse("bad_attributes", "a signed attribute is malformed") from None
    return SignedData(
        content_type=content_type,
        content=encapsulated.content,
        certificates=tuple(each.certificate for each in embedded),
        signer=_signer(embedded, signer_info.sid, ess),
        signing_time=signing_time,
        der=der,
        digest=sha256(der),
        signed_attributes=encode(asn1.SetOf(attributes)),
        message_digest=message_digest,
        suite=suite,
        signature=signer_info.signature,
        time_stamp=_time_stamp(signer_info),
        further=None if further is None else values[further],
    )


def _suite(signed: structures.SignedData, signer_info: structures.SignerInfo) -> SignatureSuite:
    digests = [encode(algorithm) for algorithm in signed.digest_algorithms.as_list()]
    if len(digests) != 1 or not SHA256_IDENTIFIERS.issuperset((*digests, encode(signer_info.digest_algorithm))):
        raise _refuse("bad_algorithm", "digest algorithm is SHA-256 alone")
    suite = SIGNATURE_IDENTIFIERS.get(encode(signer_info.signature_algorithm))
    if suite is None:
        raise _refuse("bad_algorithm", "signature algorithm is RSASSA-PSS (SHA-256, salt 32) or ecdsa-with-SHA256")
    return suite


_SIGNED_ATTRIBUTES: Final = frozenset(
    {oids.AA_CONTENT_TYPE, oids.AA_MESSAGE_DIGEST, oids.AA_SIGNING_TIME, oids.AA_SIGNING_CERTIFICATE_V2}
)


def _single_values(
    attributes: list[structures.Attribute], expected: frozenset[x509.ObjectIdentifier]
) -> dict[x509.ObjectIdentifier, bytes]:
    values = {attribute.type: attribute.values.as_list() for attribute in attributes}
    if len(attributes) != len(expected) or values.keys() != expected:
        raise _refuse(
            "bad_attributes",
            "signed attributes are contentType, messageDigest, signingTime, signingCertificateV2, once",
        )
    if any(len(members) != 1 for members in values.values()):
        raise _refuse("bad_attributes", "each signed attribute has one value")
    return {kind: encode(members[0]) for kind, members in values.items()}


# The same few come with every message.
@remembered(64)
def _object_identifier(der: bytes) -> x509.ObjectIdentifier:
    return decode(x509.ObjectIdentifier, der)


@remembered(_REMEMBERED)
def _ess_cert_id(der: bytes) -> structures.EssCertIdV2:
    return decode(structures.SigningCertificateV2, der).certs[0]


def _time_stamp(signer_info: structures.SignerInfo) -> bytes | None:
    if signer_info.unsigned_attrs is None:
        return None
    attributes = signer_info.unsigned_attrs.as_list()
    if len(attributes) != 1 or attributes[0].type != oids.AA_TIME_STAMP_TOKEN:
        raise _refuse("bad_attributes", "the only unsigned attribute allowed is one time-stamp token")
    tokens = attributes[0].values.as_list()
    if len(tokens) != 1:
        raise _refuse("bad_attributes", "the only unsigned attribute allowed is one time-stamp token")
    return encode(tokens[0])


def _read_time(der: bytes) -> datetime:
    """UTCTime up to 2049, GeneralizedTime without fraction from 2050 on (RFC 5652 11.3)."""
    if der[:1] == b"\x17":
        return _read_utc_time(der)
    time = decode(asn1.GeneralizedTime, der).as_datetime().replace(tzinfo=UTC)
    if time.year < 2050 or time.microsecond:
        raise DerError("not_canonical", "time before 2050 is UTCTime, and has no fraction", clause="RFC 5652 11.3")
    return time


@remembered(_REMEMBERED)  # a request and the objects in it are of few different seconds
def _read_utc_time(der: bytes) -> datetime:
    return decode(asn1.UTCTime, der).as_datetime().replace(tzinfo=UTC)


def _write_time(time: datetime) -> asn1.UTCTime | asn1.GeneralizedTime:
    utc = time.astimezone(UTC).replace(microsecond=0)
    return asn1.UTCTime(utc) if utc.year < 2050 else asn1.GeneralizedTime(utc)


class _Embedded:
    """A certificate that came with a message, and what its bytes say of it as a signer."""

    def __init__(self, der: bytes) -> None:
        self.certificate: Final = decode(x509.Certificate, der)
        self.sha256: Final = sha256(der)

    @cached_property
    def issuer_and_serial(self) -> tuple[bytes, int]:
        """The DER issuer name and the serial number; CmsError `malformed` if the name cannot be read."""
        try:
            return self.certificate.issuer.public_bytes(), self.certificate.serial_number
        except UNREADABLE:
            raise _refuse("malformed", "unreadable issuer name of the signer") from None


@remembered(_REMEMBERED)
def _embedded(der: bytes) -> _Embedded:
    return _Embedded(der)


def _signer(
    embedded: Sequence[_Embedded], sid: structures.IssuerAndSerialNumber, ess: structures.EssCertIdV2
) -> x509.Certificate:
    found = [
        each
        for each in embedded
        if each.sha256 == ess.cert_hash and each.certificate.serial_number == sid.serial_number
    ]
    if len(found) != 1:
        raise _refuse(
            "signer_missing", "one embedded certificate must have the serial of sid and the hash of ESSCertIDv2"
        )
    own = found[0].issuer_and_serial
    named = [(encode(sid.issuer), sid.serial_number)]
    if ess.issuer_serial is not None:
        named.append((encode(ess.issuer_serial.issuer.directory_name), ess.issuer_serial.serial_number))
    if any(names != own for names in named):
        raise _refuse("signer_mismatch", "signer identifier and ESSCertIDv2 name different certificates")
    return found[0].certificate


def _refuse(reason: str, detail: str) -> CmsError:
    return CmsError(reason, detail, clause=_CLAUSE)


@lru_cache(maxsize=_REMEMBERED)
def _verifying_key(signer: x509.Certificate) -> tuple[PublicKeyTypes, SignatureSuite]:
    """The key of a certificate and what it signs with: they depend on its bytes alone. What raises is not kept."""
    try:
        key = signer.public_key()
        screen_public_key(key)
        return key, SignatureSuite.for_key(key)
    except CertificateError as error:
        raise CmsError(error.reason, error.detail, clause=error.clause) from None
    except UNREADABLE:
        raise _refuse("bad_algorithm", "unknown kind of signer key") from None


def verify_signature(signed_data: SignedData) -> None:
    """Check messageDigest and the signature under the signer's key (RFC 5652 5.6); the path is the caller's next step.

    Raises CmsError `bad_digest`, `weak_key`, `bad_algorithm` (key of another kind than the algorithm), `bad_signature`.
    """
    if not hmac.compare_digest(sha256(signed_data.content), signed_data.message_digest):
        raise _refuse("bad_digest", "content does not have the digest that was signed")
    key, suite = _verifying_key(signed_data.signer)
    if suite is not signed_data.suite:
        raise _refuse("bad_algorithm", "signature algorithm does not fit the signer's key")
    try:
        if suite is SignatureSuite.RSA_PSS_SHA256:
            cast(rsa.RSAPublicKey, key).verify(
                signed_data.signature, signed_data.signed_attributes, _PSS, hashes.SHA256()
            )
        else:
            cast(ec.EllipticCurvePublicKey, key).verify(
                signed_data.signature, signed_data.signed_attributes, ec.ECDSA(hashes.SHA256())
            )
    except InvalidSignature:
        raise _refuse("bad_signature", "signature is not by the signer's key") from None


def build_signed_attributes(
    content_type: x509.ObjectIdentifier,
    content: bytes,
    *,
    signer: x509.Certificate,
    signing_time: datetime,
    further: tuple[x509.ObjectIdentifier, bytes] | None = None,
) -> bytes:
    """Make the four signed attributes as DER `SET OF Attribute` (tag 0x31): exactly the bytes that are signed.

    `further` is one more attribute, its value as DER.

    `signing_time` is aware and loses its fraction of a second. ValueError for id-data, which is never signed here.
    """
    if content_type == oids.DATA:
        raise ValueError("id-data is not a content type that is signed")
    if signing_time.tzinfo is None:
        raise ValueError("signing_time must be an aware datetime")
    ess = structures.EssCertIdV2(
        cert_hash=sha256(signer.public_bytes(Encoding.DER)),
        issuer_serial=structures.IssuerSerial(
            issuer=structures.GeneralNames(directory_name=any_value(signer.issuer.public_bytes())),
            serial_number=signer.serial_number,
        ),
    )
    attributes = {
        oids.AA_CONTENT_TYPE: encode(content_type),
        oids.AA_SIGNING_TIME: encode(_write_time(signing_time)),
        oids.AA_MESSAGE_DIGEST: encode(sha256(content)),
        oids.AA_SIGNING_CERTIFICATE_V2: encode(structures.SigningCertificateV2(certs=[ess])),
    }
    if further is not None:
        attributes[further[0]] = further[1]
    return encode(
        asn1.SetOf(
            [
                structures.Attribute(type=kind, values=asn1.SetOf([any_value(value)]))
                for kind, value in attributes.items()
            ]
        )
    )


@asn1.sequence
class _AttributeSet:
    attributes: asn1.SetOf[structures.Attribute]


def assemble_signed_data(
    content_type: x509.ObjectIdentifier,
    content: bytes,
    signed_attributes: bytes,
    signature: bytes,
    *,
    signer: x509.Certificate,
    chain: Sequence[x509.Certificate],
) -> bytes:
    """Put content, signed attributes (SET tag) and signature together as a DER ContentInfo.

    `chain` are the CA certificates above the signer, without the root, in any order. Nothing is verified here.
    """
    suite = SignatureSuite.for_key(signer.public_key())
    digest_algorithm = any_value(SHA256_IDENTIFIER)
    attributes = decode(_AttributeSet, tlv(_SEQUENCE, signed_attributes)).attributes
    signer_info = structures.SignerInfo(
        version=1,
        sid=structures.IssuerAndSerialNumber(
            issuer=any_value(signer.issuer.public_bytes()), serial_number=signer.serial_number
        ),
        digest_algorithm=digest_algorithm,
        signed_attrs=attributes,
        signature_algorithm=any_value(suite.identifier),
        signature=signature,
        unsigned_attrs=None,
    )
    signed = structures.SignedData(
        version=3,
        digest_algorithms=asn1.SetOf([digest_algorithm]),
        encap_content_info=structures.EncapsulatedContentInfo(content_type=content_type, content=content),
        certificates=asn1.SetOf(
            [any_value(each.public_bytes(Encoding.DER)) for each in dict.fromkeys((signer, *chain))]
        ),
        signer_infos=asn1.SetOf([signer_info]),
    )
    return encode(structures.ContentInfo(content_type=oids.SIGNED_DATA, content=signed))


def sign_signed_attributes(signed_attributes: bytes, key: PrivateKeyTypes) -> bytes:
    """Sign with `key` as its suite demands: RSA → PSS, SHA-256, salt 32; P-256 → ECDSA, SHA-256 (DER r, s)."""
    if SignatureSuite.for_key(key.public_key()) is SignatureSuite.RSA_PSS_SHA256:
        return cast(rsa.RSAPrivateKey, key).sign(signed_attributes, _PSS, hashes.SHA256())
    return cast(ec.EllipticCurvePrivateKey, key).sign(signed_attributes, ec.ECDSA(hashes.SHA256()))


def sign(
    content_type: x509.ObjectIdentifier,
    content: bytes,
    *,
    key: PrivateKeyTypes,
    signer: x509.Certificate,
    chain: Sequence[x509.Certificate],
    signing_time: datetime,
    further: tuple[x509.ObjectIdentifier, bytes] | None = None,
) -> bytes:
    """Sign DER `content` as `content_type` with a key held in memory; returns the DER ContentInfo.

    `further` as in `build_signed_attributes`. ValueError if `key` is not the key of `signer`.
    """
    if key.public_key() != signer.public_key():
        raise ValueError("the key is not the signer's")
    attributes = build_signed_attributes(
        content_type, content, signer=signer, signing_time=signing_time, further=further
    )
    signature = sign_signed_attributes(attributes, key)
    return assemble_signed_data(content_type, content, attributes, signature, signer=signer, chain=chain)
