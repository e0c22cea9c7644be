"""The certificate extensions of KWBP, each a frozen value.

All are non-critical: as critical ones they make `openssl verify` fail with "unhandled critical extension". What they
say is bound to the holder by the CA's signature all the same, and code that needs one refuses its absence.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, ClassVar, Final, Self, TypeVar

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pki import oids
from pki.algorithms import SEALING_IDENTIFIERS, SealingSuite
from pki.der import decode, encode, numeric_string, numeric_text, sha256, tlv
from pki.errors import UNREADABLE, CertificateError, DerError
from pki.keys import spki_sha256

T = TypeVar("T", bound=x509.ExtensionType)

_SEQUENCE: Final = 0x30
_LIMIT: Final = 4096


def extensions_of(certificate: x509.Certificate | x509.CertificateRevocationList) -> x509.Extensions:
    """Read the extensions; CertificateError `bad_extension` if one is malformed or appears twice (RFC 5280 4.2)."""
    try:
        return certificate.extensions
    except UNREADABLE:
        raise CertificateError("bad_extension", "malformed or repeated extension", clause="RFC 5280 4.2") from None


def subject_key_id(extensions: x509.Extensions) -> bytes | None:
    """The subjectKeyIdentifier, if stated (RFC 5280 4.2.1.2)."""
    return next((e.value.digest for e in extensions if isinstance(e.value, x509.SubjectKeyIdentifier)), None)


def authority_key_id(extensions: x509.Extensions) -> bytes | None:
    """The keyIdentifier of authorityKeyIdentifier, if stated (RFC 5280 4.2.1.1)."""
    return next((e.value.key_identifier for e in extensions if isinstance(e.value, x509.AuthorityKeyIdentifier)), None)


def extension_value(extensions: x509.Extensions, kind: type[T]) -> T | None:
    """The value of the extension of this kind; None without it."""
    return next((extension.value for extension in extensions if isinstance(extension.value, kind)), None)


class _Extension(ABC):
    """What all of them share: finding the extension by its OID and framing it."""

    OID: ClassVar[x509.ObjectIdentifier]

    @abstractmethod
    def to_der(self) -> bytes:
        """The extension value, DER."""

    @classmethod
    @abstractmethod
    def from_der(cls, der: bytes) -> Self:
        """Read the extension value; DerError or ValueError if it is not one."""

    def to_extension(self) -> x509.UnrecognizedExtension:
        """Make the extension value for a certificate builder, to be added with `critical=False`."""
        return x509.UnrecognizedExtension(self.OID, self.to_der())

    @classmethod
    def from_certificate(cls, certificate: x509.Certificate) -> Self | None:
        """Read it from a certificate; None if absent, CertificateError `bad_extension` if present but malformed."""
        try:
            value = extensions_of(certificate).get_extension_for_oid(cls.OID).value
        except x509.ExtensionNotFound:
            return None
        try:
            return cls.from_der(value.public_bytes())
        except (DerError, ValueError):
            name = oids.NAMES.get(cls.OID, cls.OID.dotted_string)
            raise CertificateError("bad_extension", f"malformed {name}", clause="RFC 5280 4.2") from None


@dataclass(frozen=True)
class CertificateType(_Extension):
    """SET's certificateType: a BIT STRING naming what the holder is (SET Book 2; OID 2.23.42.7.1)."""

    OID: ClassVar[x509.ObjectIdentifier] = oids.SET_CERTIFICATE_TYPE
    NAMES: ClassVar[tuple[str, ...]] = ("card", "mer", "pgwy", "cca", "mca", "pca", "gca", "bca", "rca", "acq")

    bits: frozenset[str]

    def __post_init__(self) -> None:
        if not self.bits or not self.bits <= set(self.NAMES):
            raise ValueError("certificateType names at least one of SET's ten types")

    def to_der(self) -> bytes:
        """Named bits, trailing zero bits cut off (X.690 11.2.2)."""
        positions = [self.NAMES.index(bit) for bit in self.bits]
        octets = bytearray(max(positions) // 8 + 1)
        for position in positions:
            octets[position // 8] |= 0x80 >> position % 8
        return encode(asn1.BitString(bytes(octets), 7 - max(positions) % 8))

    @classmethod
    @lru_cache(maxsize=64)  # of few different ones
    def from_der(cls, der: bytes) -> Self:
        """Read the named bits; ValueError for an unknown bit or a trailing zero bit."""
        value = decode(asn1.BitString, der, limit=_LIMIT)
        octets = value.as_bytes()
        size = len(octets) * 8 - value.padding_bits()
        positions = [n for n in range(size) if octets[n // 8] & 0x80 >> n % 8]
        if size > len(cls.NAMES) or not positions or positions[-1] != size - 1:
            raise ValueError("not named bits of certificateType in DER")
        return cls(frozenset(cls.NAMES[n] for n in positions))


@asn1.sequence
class _MerchantName:
    name: Annotated[str, asn1.Explicit(1)]


@asn1.sequence
class _MerchantData:
    mer_id: str
    mer_acquirer_bin: asn1.TLV  # NumericString
    mer_name_seq: Annotated[list[_MerchantName], asn1.Size(1, 1)]
    mer_country: int
    mer_auth_flag: Annotated[bool, asn1.Default(True)]


@dataclass(frozen=True)
class MerchantData(_Extension):
    """SET's merchantData: who the merchant is to its acquirer (SET Book 2; OID 2.23.42.7.2).

    `merchant_id` at most 30 characters, `acquirer_bin` 6 to 8 digits, `name` at most 50 characters, `country` ISO 3166
    numeric (Iran 364), `online` SET's merAuthFlag. SET's SETString is UTF8String here.
    """

    OID: ClassVar[x509.ObjectIdentifier] = oids.SET_MERCHANT_DATA

    merchant_id: str
    acquirer_bin: str
    name: str
    country: int
    online: bool

    def __post_init__(self) -> None:
        _check_length("merchant id", self.merchant_id, 30)
        _check_length("merchant name", self.name, 50)
        _check_bin(self.acquirer_bin)
        if not 0 < self.country < 1000:
            raise ValueError("country is an ISO 3166 numeric code")

    def to_der(self) -> bytes:
        """SEQUENCE { merID, merAcquirerBIN, merNameSeq, merCountry, merAuthFlag DEFAULT TRUE }."""
        return encode(
            _MerchantData(
                mer_id=self.merchant_id,
                mer_acquirer_bin=numeric_string(self.acquirer_bin),
                mer_name_seq=[_MerchantName(name=self.name)],
                mer_country=self.country,
                mer_auth_flag=self.online,
            )
        )

    @classmethod
    def from_der(cls, der: bytes) -> Self:
        """Read the extension value; DerError or ValueError outside the ranges above."""
        data = decode(_MerchantData, der, limit=_LIMIT)
        return cls(
            merchant_id=data.mer_id,
            acquirer_bin=numeric_text(data.mer_acquirer_bin),
            name=data.mer_name_seq[0].name,
            country=data.mer_country,
            online=data.mer_auth_flag,
        )


@asn1.sequence
class _GatewayData:
    gateway_id: str
    acquirer_bin: asn1.TLV  # NumericString


@dataclass(frozen=True)
class GatewayData(_Extension):
    """Which gateway this is, for which acquirer: SEQUENCE { gatewayID UTF8String, acquirerBIN NumericString }."""

    OID: ClassVar[x509.ObjectIdentifier] = oids.EXT_GATEWAY_DATA

    gateway_id: str
    acquirer_bin: str

    def __post_init__(self) -> None:
        _check_length("gateway id", self.gateway_id, 30)
        _check_bin(self.acquirer_bin)

    def to_der(self) -> bytes:
        """DER of the sequence above."""
        return encode(_GatewayData(gateway_id=self.gateway_id, acquirer_bin=numeric_string(self.acquirer_bin)))

    @classmethod
    def from_der(cls, der: bytes) -> Self:
        """Read the extension value; DerError or ValueError outside the ranges above."""
        data = decode(_GatewayData, der, limit=_LIMIT)
        return cls(gateway_id=data.gateway_id, acquirer_bin=numeric_text(data.acquirer_bin))


@asn1.sequence
class _AccountBinding:
    salt: Annotated[bytes, asn1.Size.exact(16)]
    digest: Annotated[bytes, asn1.Size.exact(32)]


@dataclass(frozen=True)
class AccountBinding(_Extension):
    """The settlement account of a merchant, committed to but not printed: a salted SHA-256 of the IBAN.

    It lets whoever knows the IBAN check it. It does not hide the IBAN from a search of all account numbers of a bank,
    since the salt stands beside the digest; it keeps the IBAN out of sight and out of indexes.
    """

    OID: ClassVar[x509.ObjectIdentifier] = oids.EXT_ACCOUNT_BINDING

    salt: bytes
    digest: bytes

    def __post_init__(self) -> None:
        if len(self.salt) != 16 or len(self.digest) != 32:
            raise ValueError("salt of 16 bytes and digest of 32 bytes")

    @classmethod
    def of(cls, iban: str, salt: bytes) -> Self:
        """Commit to `iban` (electronic format, ISO 13616: no spaces, capitals) under a fresh 16-byte `salt`."""
        if re.fullmatch(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", iban) is None:
            raise ValueError("not an IBAN in electronic format")
        return cls(salt=salt, digest=sha256(b"KWBP-account-binding-v1" + salt + iban.encode("ascii")))

    def to_der(self) -> bytes:
        """SEQUENCE { salt OCTET STRING (SIZE(16)), digest OCTET STRING (SIZE(32)) }."""
        return encode(_AccountBinding(salt=self.salt, digest=self.digest))

    @classmethod
    def from_der(cls, der: bytes) -> Self:
        """Read the extension value; DerError for other sizes."""
        data = decode(_AccountBinding, der, limit=_LIMIT)
        return cls(salt=data.salt, digest=data.digest)


@asn1.sequence
class _RoleGrant:
    role: str
    scope: Annotated[list[str] | None, asn1.Implicit(0)]
    not_before: asn1.GeneralizedTime
    not_after: asn1.GeneralizedTime


@dataclass(frozen=True)
class RoleGrant:
    """A role for a time, from `not_before` until just before `not_after` (aware, whole seconds).

    `scope` are the classes of members whose cases and certificates it counts for; None: whatever the role is for.
    """

    role: str
    scope: tuple[str, ...] | None
    not_before: datetime
    not_after: datetime

    def __post_init__(self) -> None:
        _check_length("role", self.role, 64)
        if self.scope is not None and not (1 <= len(self.scope) <= 16 and len(set(self.scope)) == len(self.scope)):
            raise ValueError("a scope names one to sixteen different classes")
        for each in self.scope or ():
            _check_length("class", each, 64)
        if any(each.tzinfo is None or each.microsecond for each in (self.not_before, self.not_after)):
            raise ValueError("times of a grant are aware and whole seconds")
        if self.not_after <= self.not_before:
            raise ValueError("a grant ends after it begins")

    def in_effect(self, at: datetime) -> bool:
        """Whether the role is held by it at `at`, for whatever is in its scope."""
        return self.not_before <= at < self.not_after

    def covers(self, member_class: str | None) -> bool:
        """Whether its scope holds the class; None stands for what is of no class, which no narrower scope holds."""
        return self.scope is None or member_class in self.scope


@asn1.sequence
class _OfficerData:
    person_id: str
    organisation: str
    roles: Annotated[list[str], asn1.Size(0, 16)]
    grants: Annotated[list[_RoleGrant] | None, asn1.Implicit(0)]


@dataclass(frozen=True)
class OfficerData(_Extension):
    """What an officer may decide, and for whom.

        OfficerData ::= SEQUENCE {
          personID      UTF8String,
          organisation  UTF8String,
          roles         SEQUENCE OF UTF8String,                -- in full, as long as the certificate lasts
          grants        [0] SEQUENCE OF RoleGrant OPTIONAL }   -- for a time, some for certain classes only

        RoleGrant ::= SEQUENCE {
          role          UTF8String,
          scope         [0] SEQUENCE OF UTF8String OPTIONAL,
          notBefore     GeneralizedTime,
          notAfter      GeneralizedTime }

    At least one role or grant.
    """

    OID: ClassVar[x509.ObjectIdentifier] = oids.EXT_OFFICER_DATA

    person_id: str
    organisation: str
    roles: tuple[str, ...]
    grants: tuple[RoleGrant, ...] = ()

    def __post_init__(self) -> None:
        _check_length("person id", self.person_id, 64)
        _check_length("organisation", self.organisation, 64)
        if len(self.roles) > 16 or len(set(self.roles)) != len(self.roles) or not self.roles + self.grants:
            raise ValueError("one to sixteen different roles")
        for role in self.roles:
            _check_length("role", role, 64)
        if len(self.grants) > 16:
            raise ValueError("at most sixteen grants")

    def held(self, at: datetime) -> frozenset[str]:
        """All roles held at `at`, whatever their scope."""
        return frozenset(self.roles).union(each.role for each in self.grants if each.in_effect(at))

    def to_der(self) -> bytes:
        """DER of the sequence above."""
        grants = [
            _RoleGrant(
                role=each.role,
                scope=None if each.scope is None else list(each.scope),
                not_before=asn1.GeneralizedTime(each.not_before.astimezone(UTC)),
                not_after=asn1.GeneralizedTime(each.not_after.astimezone(UTC)),
            )
            for each in self.grants
        ]
        return encode(
            _OfficerData(
                person_id=self.person_id,
                organisation=self.organisation,
                roles=list(self.roles),
                grants=grants or None,
            )
        )

    @classmethod
    def from_der(cls, der: bytes) -> Self:
        """Read the extension value; DerError or ValueError outside the ranges above."""
        data = decode(_OfficerData, der, limit=_LIMIT)
        if data.grants is not None and not data.grants:
            raise ValueError("grants without a grant")
        return cls(
            person_id=data.person_id,
            organisation=data.organisation,
            roles=tuple(data.roles),
            grants=tuple(
                RoleGrant(
                    role=each.role,
                    scope=None if each.scope is None else tuple(each.scope),
                    not_before=each.not_before.as_datetime(),
                    not_after=each.not_after.as_datetime(),
                )
                for each in data.grants or ()
            ),
        )


@asn1.sequence
class _Capabilities:
    members: list[asn1.TLV]


@dataclass(frozen=True)
class SealingSuites(_Extension):
    """The sealing suites a gateway's token can open, strongest first, as smimeCapabilities (RFC 4262, RFC 3560 5)."""

    OID: ClassVar[x509.ObjectIdentifier] = oids.SMIME_CAPABILITIES

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        known = {str(suite) for suite in SealingSuite}
        if not self.names or len(set(self.names)) != len(self.names) or not set(self.names) <= known:
            raise ValueError("at least one known sealing suite, none twice")

    def to_der(self) -> bytes:
        """SEQUENCE OF SMIMECapability, each the AlgorithmIdentifier of one suite."""
        return tlv(_SEQUENCE, b"".join(SealingSuite(name).identifier for name in self.names))

    @classmethod
    def from_der(cls, der: bytes) -> Self:
        """Read the known suites, ignoring other capabilities (RFC 8551 2.5.2); ValueError if none remains."""
        members = decode(_Capabilities, tlv(_SEQUENCE, der), limit=_LIMIT).members
        suites = (SEALING_IDENTIFIERS.get(encode(member)) for member in members)
        return cls(names=tuple(str(suite) for suite in suites if suite is not None))


@dataclass(frozen=True)
class IdentityChecked(_Extension):
    """When registers were last asked about the holder of a re-keyed certificate, as a GeneralizedTime.

    A certificate that came of a case with every step of its class does not have it: there it is its notBefore.
    """

    OID: ClassVar[x509.ObjectIdentifier] = oids.EXT_IDENTITY_CHECKED

    at: datetime

    def __post_init__(self) -> None:
        if self.at.tzinfo is None or self.at.microsecond:
            raise ValueError("an aware time, in whole seconds")

    def to_der(self) -> bytes:
        """GeneralizedTime in UTC (X.690 11.7)."""
        return encode(asn1.GeneralizedTime(self.at.astimezone(UTC)))

    @classmethod
    def from_der(cls, der: bytes) -> Self:
        """Read the time; ValueError unless it is a whole second."""
        return cls(decode(asn1.GeneralizedTime, der, limit=_LIMIT).as_datetime())

    @classmethod
    def of(cls, certificate: x509.Certificate) -> datetime:
        """When the holder of a member's certificate was last checked (aware UTC); CertificateError if unreadable."""
        stated = cls.from_certificate(certificate)
        return certificate.not_valid_before_utc if stated is None else stated.at


@asn1.sequence
class _AlgorithmIdentifier:
    algorithm: x509.ObjectIdentifier
    parameters: asn1.Null | None


@asn1.sequence
class _HashedRootKey:
    hash_alg: _AlgorithmIdentifier
    hash_value: bytes


@dataclass(frozen=True)
class HashedRootKey(_Extension):
    """The key of the next root, named by the root in force: SHA-256 of its SubjectPublicKeyInfo (RFC 8649 2).

    It replaces SET's hashedRootKey, which is bound to SHA-1.
    """

    OID: ClassVar[x509.ObjectIdentifier] = oids.EXT_HASHED_ROOT_KEY

    digest: bytes

    def __post_init__(self) -> None:
        if len(self.digest) != 32:
            raise ValueError("a SHA-256 has 32 bytes")

    @classmethod
    def of(cls, public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> Self:
        """Name the next root by its public key."""
        return cls(spki_sha256(public_key))

    def to_der(self) -> bytes:
        """SEQUENCE { hashAlg AlgorithmIdentifier, hashValue OCTET STRING }; SHA-256 has no parameters (RFC 5754 2)."""
        sha256_identifier = _AlgorithmIdentifier(algorithm=oids.SHA256, parameters=None)
        return encode(_HashedRootKey(hash_alg=sha256_identifier, hash_value=self.digest))

    @classmethod
    def from_der(cls, der: bytes) -> Self:
        """Read the extension value; ValueError for a hash other than SHA-256, with which nothing could be compared."""
        value = decode(_HashedRootKey, der, limit=_LIMIT)
        if value.hash_alg.algorithm != oids.SHA256:
            raise ValueError("the hash is not SHA-256")
        return cls(value.hash_value)


def _check_length(what: str, text: str, longest: int) -> None:
    if not 1 <= len(text) <= longest:
        raise ValueError(f"{what} has 1 to {longest} characters")


def _check_bin(text: str) -> None:
    if re.fullmatch(r"[0-9]{6,8}", text) is None:
        raise ValueError("acquirer BIN has 6 to 8 digits")
