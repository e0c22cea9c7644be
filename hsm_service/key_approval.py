"""What an officer signs about an operation request: the content of id-kwbp-ct-keyApproval.

    KeyApprovalTBS ::= SEQUENCE {
      version    INTEGER (1),
      request    OCTET STRING (SIZE(32)),     -- SHA-256 of the request's canonical form
      operation  UTF8String (SIZE(1..64)),    -- as the request names it, so that the signature can be read alone
      verdict    INTEGER { approve(0), reject(1) },
      reason     UTF8String (SIZE(0..500)),
      date       GeneralizedTime,
      expires    GeneralizedTime }

It is the content of a CMS SignedData by the officer's own key (`pki.cms_signed`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

from cryptography.hazmat import asn1

from cps.decision import Choice
from hsm_service.operation_request import RequestError
from pki.der import decode, encode
from pki.errors import DerError

VERSION: Final = 1
MAX_SIZE: Final = 4096


@asn1.sequence
class KeyApprovalTBS:
    """DER form of an approval."""

    version: int
    request: Annotated[bytes, asn1.Size(min=32, max=32)]
    operation: Annotated[str, asn1.Size(min=1, max=64)]
    verdict: int
    reason: Annotated[str, asn1.Size(min=0, max=500)]
    date: asn1.GeneralizedTime
    expires: asn1.GeneralizedTime


@dataclass(frozen=True, slots=True)
class KeyApproval:
    """`choice` on the request with this digest (SHA-256, 32 bytes); times are aware UTC in whole seconds."""

    request: bytes
    operation: str
    choice: Choice
    reason: str
    date: datetime
    expires: datetime


def build_approval(approval: KeyApproval) -> bytes:
    """DER of KeyApprovalTBS; RequestError if a field is longer or a time other than the structure allows."""
    try:
        return encode(
            KeyApprovalTBS(
                version=VERSION,
                request=approval.request,
                operation=approval.operation,
                verdict=approval.choice.value,
                reason=approval.reason,
                date=_time(approval.date),
                expires=_time(approval.expires),
            )
        )
    except ValueError:
        raise RequestError("a field of the approval is longer or shorter than it may be") from None


def parse_approval(der: bytes) -> KeyApproval:
    """Read KeyApprovalTBS; RequestError unless it is exactly one, of version 1, lasting some time."""
    try:
        tbs = decode(KeyApprovalTBS, der, limit=MAX_SIZE)
    except DerError:
        raise RequestError("not a KeyApprovalTBS in DER") from None
    if tbs.version != VERSION:
        raise RequestError(f"an approval of version {tbs.version}, not {VERSION}")
    if tbs.verdict not in Choice.__members__.values():
        raise RequestError("the verdict is neither approve nor reject")
    date, expires = _instant(tbs.date), _instant(tbs.expires)
    if expires <= date:
        raise RequestError("the approval expires before it is made")
    return KeyApproval(tbs.request, tbs.operation, Choice(tbs.verdict), tbs.reason, date, expires)


def _time(instant: datetime) -> asn1.GeneralizedTime:
    if instant.tzinfo is None or instant.microsecond:
        raise ValueError("times of approvals are aware and whole seconds")
    return asn1.GeneralizedTime(instant.astimezone(UTC))


def _instant(time: asn1.GeneralizedTime) -> datetime:
    instant = time.as_datetime()
    if instant.microsecond:
        raise RequestError("times of approvals are whole seconds")
    return instant
