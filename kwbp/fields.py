"""Forms of the fields that messages are made of, beyond what their ASN.1 types say.

`cryptography.hazmat.asn1` checks tags, lengths of mandatory strings and canonical encoding. It has no NumericString
and no SIZE for OPTIONAL fields; these, text for people, and times are checked here. Refusals are `decodingFailure`, K1.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from cryptography.hazmat import asn1

from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from kwbp.text import text_fault

VERSION: Final = 2
"""Version of the protocol, in the wrapper and in every signed content."""

Id20 = Annotated[bytes, asn1.Size.exact(20)]
"""XID and RRPID: 20 random bytes."""
Hash32 = Annotated[bytes, asn1.Size.exact(32)]
"""SHA-256 digest, HMAC-SHA-256, challenge or salt: 32 bytes."""
Der = Annotated[bytes, asn1.Size(1, 262_144)]
"""An OCTET STRING that wraps another object's DER."""

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,29}")
"""merchantID (DE 42), gwID: ASCII, as in the certificates."""
TERMINAL: Final = re.compile(r"[A-Za-z0-9]{1,8}")
"""terminalID (DE 41)."""
BRAND: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,31}")
BIN: Final = re.compile(r"[0-9]{6,8}")
"""Issuer identification number of a card, ISO/IEC 7812-1."""
ACQUIRER: Final = re.compile(r"[0-9]{6,8}")
"""Acquiring institution (DE 32), as in merchantData and gatewayData."""
SKU: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Article number: for machines; people read the name beside it."""
LANGUAGE: Final = re.compile(r"[a-z]{2,3}(-[A-Z]{2})?")
RESPONSE_CODE: Final = re.compile(r"[0-9A-Z]{2,3}")
"""DE 39: two characters (1987), three digits (1993)."""
STAN: Final = re.compile(r"[0-9]{6}")
"""DE 11."""
RRN: Final = re.compile(r"[0-9A-Za-z]{12}")
"""DE 37."""
APPROVAL: Final = re.compile(r"[0-9A-Za-z]{6}")
"""DE 38."""
MASKED_PAN: Final = re.compile(r"[0-9]{6}\*{6,9}[0-9]{4}")
SETTLE_DATE: Final = re.compile(r"(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])")
"""DE 15, MMDD, as the switch sent it."""
BUSINESS_DATE: Final = re.compile(r"[0-9]{8}")
"""A day of settlement, YYYYMMDD."""
IBAN: Final = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}")
"""Electronic format, ISO 13616: no spaces, capitals."""
CHECK_ID: Final = re.compile(r"([A-Z][0-9]{1,2})?")


def refuse(field: str, fault: str) -> ProtocolError:
    """The refusal of a field: which one and what is wrong with its form, never its value."""
    return ProtocolError(ErrorCode.DECODING_FAILURE, "K1", f"{field}: {fault}")


def check_version(version: int) -> None:
    """Only version 2: there is nothing to negotiate, and a downgrade must not look like a choice."""
    if version < VERSION:
        raise ProtocolError(ErrorCode.VERSION_TOO_OLD, "K1", f"version must be {VERSION}")
    if version > VERSION:
        raise ProtocolError(ErrorCode.VERSION_TOO_NEW, "K1", f"version must be {VERSION}")


def check_pattern(field: str, value: str, pattern: re.Pattern[str]) -> None:
    """The whole of `value` matches `pattern`."""
    if pattern.fullmatch(value) is None:
        raise refuse(field, f"must match {pattern.pattern}")


def check_optional(field: str, value: str | None, pattern: re.Pattern[str]) -> None:
    """As `check_pattern`, if the field is there."""
    if value is not None:
        check_pattern(field, value, pattern)


def check_text(field: str, value: str, *, longest: int, multiline: bool = False) -> None:
    """Text for people: 1 to `longest` characters without spoofing (`kwbp.text`)."""
    if not 1 <= len(value) <= longest:
        raise refuse(field, f"must have 1 to {longest} characters")
    fault = text_fault(value, multiline=multiline)
    if fault is not None:
        raise refuse(field, fault)


def check_size(field: str, value: bytes | None, *, smallest: int, largest: int) -> None:
    """Length of an OPTIONAL OCTET STRING in bytes, if it is there."""
    if value is not None and not smallest <= len(value) <= largest:
        raise refuse(field, f"must have {smallest} to {largest} bytes")


def check_times(*fields: tuple[str, asn1.GeneralizedTime | None]) -> None:
    """Whole seconds only: one instant has one encoding."""
    for name, value in fields:
        if value is not None and value.as_datetime().microsecond:
            raise refuse(name, "must be in whole seconds")


def to_time(instant: datetime) -> asn1.GeneralizedTime:
    """An aware instant as GeneralizedTime: UTC, whole seconds (the fraction is cut off, not rounded up)."""
    return asn1.GeneralizedTime(instant.astimezone(UTC).replace(microsecond=0))
