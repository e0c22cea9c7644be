"""DER in and out: one value, one encoding, one size limit (X.690; KWBP global rule 1).

Structures are classes of `cryptography.hazmat.asn1`, whose parser is strict about tags, lengths, booleans, integers,
SET order and trailing bytes. On top of it stands the canonical re-encode check, so that no second spelling of a
signed structure exists, whatever the parser may come to tolerate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, Final, TypeVar

from cryptography.hazmat import asn1

from pki.crowding import Members, check_members
from pki.errors import UNREADABLE, DerError

T = TypeVar("T")

LIMIT: Final = 262_144
"""Largest object accepted, bytes (KWBP global rule 7)."""

_NUMERIC_STRING: Final = 0x12
_CLAUSE: Final = "KWBP global rule 1"


def decode(cls: type[T], data: bytes, *, limit: int = LIMIT, members: Members | None = None) -> T:
    """Read the DER bytes `data` as `cls` (a type of `cryptography.hazmat.asn1`).

    `members` says how many members its parts have at most, where the type alone lets them be very many.

    Raises DerError: `too_big` above `limit` bytes, `malformed` if it is not `cls` in DER, `not_canonical` if encoding
    the value again gives other bytes.
    """
    if len(data) > limit:
        raise DerError("too_big", f"{len(data)} bytes, at most {limit}", clause="KWBP global rule 7")
    if members is not None:
        check_members(data, members)
    try:
        value = asn1.decode_der(cls, data)
    except UNREADABLE:
        raise DerError("malformed", f"not a {getattr(cls, '__name__', cls)} in DER", clause=_CLAUSE) from None
    if asn1.encode_der(value) != data:
        raise DerError("not_canonical", "the value has another DER encoding", clause=_CLAUSE)
    return value


def remembered(size: int, *, longest: int = 8192) -> Callable[[Callable[[bytes], T]], Callable[[bytes], T]]:
    """Decorate a pure function of bytes: its last `size` results are kept, of at most `longest` bytes each.

    So what strangers send takes up at most `size` times `longest` bytes. What raises is not kept.
    """

    def decorate(function: Callable[[bytes], T]) -> Callable[[bytes], T]:
        kept = lru_cache(maxsize=size)(function)

        @wraps(function)
        def call(data: bytes) -> T:
            return kept(data) if len(data) <= longest else function(data)

        return call

    return decorate


def encode(value: Any) -> bytes:
    """Write a value of `cryptography.hazmat.asn1` in DER; ValueError if it breaks its own SIZE or type."""
    return asn1.encode_der(value)


def sha256(data: bytes) -> bytes:
    """SHA-256 of `data`, 32 bytes."""
    return hashlib.sha256(data).digest()


def tlv(tag: int, content: bytes) -> bytes:
    """Frame `content` with a one-byte identifier octet and the minimal definite length (X.690 10.1)."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def any_value(data: bytes) -> asn1.TLV:
    """Read one complete DER element as an opaque value, for ANY fields."""
    return decode(asn1.TLV, data)


def numeric_string(text: str) -> asn1.TLV:
    """Make a NumericString of ASCII digits; ValueError otherwise."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError("NumericString takes ASCII digits")
    return any_value(tlv(_NUMERIC_STRING, text.encode("ascii")))


def numeric_text(value: asn1.TLV) -> str:
    """Read a NumericString of one or more digits (no spaces); DerError `malformed` otherwise."""
    content = bytes(value.data)
    if value.tag_bytes != bytes((_NUMERIC_STRING,)) or not content.isdigit():
        raise DerError("malformed", "not a NumericString of digits", clause=_CLAUSE)
    return content.decode("ascii")
