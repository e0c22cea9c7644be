"""What officers sign: decisions on cases, orders about certificates, and keys that are denied.

    DecisionTBS ::= SEQUENCE {
      version          INTEGER (1),
      applicationId    UTF8String (SIZE(1..64)),
      revisionDigest   OCTET STRING (SIZE(32)),    -- SHA-256 of the revision's canonical form
      evidenceDigest   OCTET STRING (SIZE(32)),    -- SHA-256 over the evidence on file
      step             UTF8String (SIZE(1..64)),
      verdict          INTEGER { approve(0), reject(1) },
      reason           UTF8String (SIZE(0..500)),
      date             GeneralizedTime,
      expires          GeneralizedTime,
      code             [0] UTF8String (SIZE(1..40)) OPTIONAL } -- why, by the statement's list: of rejections, always

    RevocationTBS ::= SEQUENCE {
      version          INTEGER (1),
      issuerKeyId      OCTET STRING (SIZE(1..64)), -- subjectKeyIdentifier of the issuing CA
      serial           INTEGER,
      reason           UTF8String,                 -- a CRLReason by its name in RFC 5280 5.3.1: certificateHold
      date             GeneralizedTime,            -- suspends, removeFromCRL releases, the others revoke for good
      invalidityDate   [0] GeneralizedTime OPTIONAL }

    KeyDenialTBS ::= SEQUENCE {
      version          INTEGER (1),
      spkiSha256       OCTET STRING (SIZE(32)),    -- SHA-256 of the key's SubjectPublicKeyInfo
      reason           UTF8String (SIZE(1..500)),
      date             GeneralizedTime }

Each is the content of a CMS SignedData (`pki.cms_signed`, CT_DECISION, CT_REVOCATION, CT_KEY_DENIAL) by the officer's
key, or an order by the holder's or the issuer bank's, so a decision is a signature over the digests of exactly what is
approved, and nothing that is edited later keeps it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Annotated, Final, TypeVar

from cryptography.hazmat import asn1

from cps.errors import StatementError
from cps.model import HOLD, ORDER_REASONS, RELEASE, OrderReason
from cps.rejection import CODE
from cps.written_text import TextError, check_text
from pki.der import decode, encode
from pki.errors import DerError

VERSION: Final = 1
MAX_SIZE: Final = 4096
MAX_SERIAL_BITS: Final = 160  # RFC 5280 4.1.2.2: 20 octets


class Choice(IntEnum):
    """The verdict of a decision."""

    APPROVE = 0
    REJECT = 1


class Kind(StrEnum):
    """What an order does to the status of a certificate."""

    REVOKE = "revoke"
    SUSPEND = "suspend"
    RELEASE = "release"

    @classmethod
    def of(cls, reason: OrderReason) -> Kind:
        """RFC 5280 5.3.1: certificateHold suspends, removeFromCRL releases, every other reason revokes for good."""
        return {HOLD: cls.SUSPEND, RELEASE: cls.RELEASE}.get(reason, cls.REVOKE)


@asn1.sequence
class DecisionTBS:
    """DER form of a decision."""

    version: int
    application_id: Annotated[str, asn1.Size(min=1, max=64)]
    revision_digest: Annotated[bytes, asn1.Size(min=32, max=32)]
    evidence_digest: Annotated[bytes, asn1.Size(min=32, max=32)]
    step: Annotated[str, asn1.Size(min=1, max=64)]
    verdict: int
    reason: Annotated[str, asn1.Size(min=0, max=500)]
    date: asn1.GeneralizedTime
    expires: asn1.GeneralizedTime
    code: Annotated[str | None, asn1.Implicit(0)] = None


@asn1.sequence
class RevocationTBS:
    """DER form of a revocation order."""

    version: int
    issuer_key_id: Annotated[bytes, asn1.Size(min=1, max=64)]
    serial: int
    reason: str
    date: asn1.GeneralizedTime
    invalidity_date: Annotated[asn1.GeneralizedTime | None, asn1.Implicit(0)]


@asn1.sequence
class KeyDenialTBS:
    """DER form of a denied key."""

    version: int
    spki_sha256: Annotated[bytes, asn1.Size(min=32, max=32)]
    reason: Annotated[str, asn1.Size(min=1, max=500)]
    date: asn1.GeneralizedTime


_Statement = TypeVar("_Statement", DecisionTBS, RevocationTBS, KeyDenialTBS)


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision: `choice` on `step` of the case with these digests (SHA-256); times are aware UTC.

    `code` is why a case is rejected, by the list of the statement (`cps.rejection`); of an approval it is None.
    """

    application_id: str
    revision_digest: bytes
    evidence_digest: bytes
    step: str
    choice: Choice
    reason: str
    date: datetime
    expires: datetime
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Revocation:
    """An order about the certificate `serial` of the CA with this subjectKeyIdentifier; its reason says what to do."""

    issuer_key_id: bytes
    serial: int
    reason: OrderReason
    date: datetime
    invalidity_date: datetime | None = None

    @property
    def kind(self) -> Kind:
        return Kind.of(self.reason)


@dataclass(frozen=True, slots=True)
class KeyDenial:
    """That the key with this SHA-256 of its SubjectPublicKeyInfo may never be certified."""

    spki_sha256: bytes
    reason: str
    date: datetime


def build_decision(decision: Decision) -> bytes:
    """DER of DecisionTBS. Raises ValueError if a time is not aware or not a whole second, StatementError on sizes, and
    for a rejection without a code or an approval with one.
    """
    return _encode(
        DecisionTBS(
            version=VERSION,
            application_id=decision.application_id,
            revision_digest=decision.revision_digest,
            evidence_digest=decision.evidence_digest,
            step=decision.step,
            verdict=decision.choice.value,
            reason=decision.reason,
            date=time_of(decision.date),
            expires=time_of(decision.expires),
            code=_code(decision.choice, decision.code),
        )
    )


def parse_decision(der: bytes) -> Decision:
    """Read DecisionTBS. Raises StatementError unless it is exactly one, of version 1, lasting some time."""
    tbs = _decode(DecisionTBS, der)
    if tbs.verdict not in Choice.__members__.values():
        raise StatementError("the verdict is neither approve nor reject")
    decision = Decision(
        application_id=tbs.application_id,
        revision_digest=tbs.revision_digest,
        evidence_digest=tbs.evidence_digest,
        step=tbs.step,
        choice=Choice(tbs.verdict),
        reason=_reason(tbs.reason),
        date=instant_of(tbs.date),
        expires=instant_of(tbs.expires),
        code=_code(Choice(tbs.verdict), tbs.code),
    )
    if decision.expires <= decision.date:
        raise StatementError("the decision expires before it is made")
    return decision


def build_revocation(order: Revocation) -> bytes:
    """DER of RevocationTBS. Raises ValueError if a time is not aware or not a whole second, StatementError on sizes."""
    return _encode(
        RevocationTBS(
            version=VERSION,
            issuer_key_id=order.issuer_key_id,
            serial=order.serial,
            reason=order.reason,
            date=time_of(order.date),
            invalidity_date=None if order.invalidity_date is None else time_of(order.invalidity_date),
        )
    )


def parse_revocation(der: bytes) -> Revocation:
    """Read RevocationTBS. Raises StatementError unless it is exactly one, of version 1, with a known reason."""
    tbs = _decode(RevocationTBS, der)
    if tbs.reason not in ORDER_REASONS:
        raise StatementError("the reason is not one for which certificates are revoked")
    if tbs.serial <= 0 or tbs.serial.bit_length() > MAX_SERIAL_BITS:
        raise StatementError("the serial number is not one of a certificate")
    return Revocation(
        issuer_key_id=tbs.issuer_key_id,
        serial=tbs.serial,
        reason=tbs.reason,
        date=instant_of(tbs.date),
        invalidity_date=None if tbs.invalidity_date is None else instant_of(tbs.invalidity_date),
    )


def build_key_denial(denial: KeyDenial) -> bytes:
    """DER of KeyDenialTBS. Raises ValueError if a time is not aware or not a whole second, StatementError on sizes."""
    return _encode(
        KeyDenialTBS(version=VERSION, spki_sha256=denial.spki_sha256, reason=denial.reason, date=time_of(denial.date))
    )


def parse_key_denial(der: bytes) -> KeyDenial:
    """Read KeyDenialTBS. Raises StatementError unless it is exactly one, of version 1."""
    tbs = _decode(KeyDenialTBS, der)
    return KeyDenial(spki_sha256=tbs.spki_sha256, reason=_reason(tbs.reason), date=instant_of(tbs.date))


def _code(choice: Choice, code: str | None) -> str | None:
    """The code of a rejection; that the statement lists it is for `cps.decide` to say."""
    if choice is Choice.APPROVE and code is not None:
        raise StatementError("an approval gives no code of a rejection")
    if choice is Choice.REJECT and (code is None or re.fullmatch(CODE, code) is None):
        raise StatementError("a rejection gives the code of its reason")
    return code


def _reason(text: str) -> str:
    """A reason is read by people, and copied into the log: it reads as what it is."""
    try:
        return check_text(text)
    except TextError as error:
        raise StatementError("the reason: {fault}", fault=error) from None


def _encode(tbs: DecisionTBS | RevocationTBS | KeyDenialTBS) -> bytes:
    try:
        return encode(tbs)
    except ValueError:
        raise StatementError("a field is longer or shorter than the statement allows") from None


def _decode(cls: type[_Statement], der: bytes) -> _Statement:
    try:
        tbs = decode(cls, der, limit=MAX_SIZE)
    except DerError:
        raise StatementError("not a {kind} in DER", kind=cls.__name__) from None
    if tbs.version != VERSION:
        raise StatementError(
            "{kind} of version {found}, not {expected}", kind=cls.__name__, found=tbs.version, expected=VERSION
        )
    return tbs


def time_of(instant: datetime) -> asn1.GeneralizedTime:
    """A time of a statement in DER; ValueError unless it is aware and a whole second."""
    if instant.tzinfo is None or instant.microsecond:
        raise ValueError("times of statements are aware and whole seconds")
    return asn1.GeneralizedTime(instant.astimezone(UTC))


def instant_of(time: asn1.GeneralizedTime) -> datetime:
    """A time of a statement from DER (aware UTC); StatementError unless it is a whole second."""
    instant = time.as_datetime()
    if instant.microsecond:
        raise StatementError("times of statements are whole seconds")
    return instant
