"""How a value looks wherever it may have gone: every spelling that a service, a library or a careless line could use.

    Canary.digits("6037701234567893").found(haystack)      a card number, an account, an amount of many digits
    Canary.short("0512", tag=0x12)                         few digits: only where they stand as a value of their own
    Canary.text("خیابان ولیعصر …")                          words in any encoding
    Canary.octets(secret)                                  keys, secrets, identifiers

Few digits are anywhere by chance; they are searched for as a DER value, as a quoted JSON value, and as a data element.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import quote

PIECE: Final = 8
"""Digits in a row that are too many to stand together by chance."""
_SEPARATORS: Final = b" -_.,/:\t\xc2\xa0"
_HEXADECIMAL: Final = re.compile(rb"(?:[0-9a-fA-F]{2}){16,}")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{24,}")
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_OTHER_DIGITS: Final = {str(digit): (chr(0x06F0 + digit).encode(), chr(0x0660 + digit).encode()) for digit in range(10)}


@dataclass(frozen=True)
class Haystack:
    """Bytes to search, beside them the same with digits in ASCII and nothing between them."""

    raw: bytes
    squeezed: bytes

    @classmethod
    def of(cls, *parts: bytes) -> Self:
        raw = b"\n\n".join(parts)
        raw = b"\n\n".join((raw, *_decoded(raw)))
        plain = raw
        if b"\xdb" in raw or b"\xd9" in raw:
            for digit, others in _OTHER_DIGITS.items():
                for other in others:
                    plain = plain.replace(other, digit.encode())
        return cls(raw, plain.translate(None, _SEPARATORS))


@dataclass(frozen=True)
class Canary:
    """One value: forms to look for as they stand, and forms to look for among squeezed digits."""

    raw: frozenset[bytes]
    squeezed: frozenset[bytes] = frozenset()

    def found(self, haystack: Haystack) -> bool:
        return any(form in haystack.raw for form in self.raw) or any(
            form in haystack.squeezed for form in self.squeezed
        )

    def __or__(self, other: Canary) -> Canary:
        return Canary(self.raw | other.raw, self.squeezed | other.squeezed)

    @classmethod
    def digits(cls, value: str, *, pieces_from: int | None = None) -> Self:
        """A number of at least eight digits; `pieces_from` a place on, eight of them in a row are too much already."""
        assert len(value) >= PIECE
        parts = [value]
        if pieces_from is not None:
            parts += [value[at : at + PIECE] for at in range(pieces_from, len(value) - PIECE + 1)]
        raw = {form for part in parts for form in (*_encoded(part.encode()), *_packed(part))}
        number = int(value)
        if number.bit_length() > 40:  # fewer bytes are anywhere by chance
            raw |= {number.to_bytes((number.bit_length() + 7) // 8, "big"), b"%x" % number}
        return cls(frozenset(raw), frozenset({value.encode()}))

    @classmethod
    def short(cls, value: str, *, tag: int, names: tuple[str, ...] = ()) -> Self:
        """A few digits: as DER under `tag`, and as the JSON value of one of `names`; of six or more, in any quotes."""
        digits = value.encode()
        forms = {bytes([tag, len(digits)]) + digits}
        for name in names:
            forms |= {b'"%s":%s"%s"' % (name.encode(), space, digits) for space in (b"", b" ")}
        if len(digits) >= 6:
            forms |= {b'"%s"' % digits, b"'%s'" % digits, b"=%s" % digits, b": %s" % digits}
        return cls(frozenset(forms))

    @classmethod
    def text(cls, value: str) -> Self:
        raw = {
            *_encoded(value.encode()),
            value.encode("utf-16-le"),
            value.encode("utf-16-be"),
            json.dumps(value)[1:-1].encode(),
            quote(value).encode(),
        }
        return cls(frozenset(raw))

    @classmethod
    def octets(cls, value: bytes) -> Self:
        assert len(value) >= 8
        return cls(frozenset(_encoded(value)))


def _decoded(raw: bytes) -> Iterator[bytes]:
    """What long runs of hexadecimal or Base64 stand for: small values inside are not to be seen from outside."""
    for run in _HEXADECIMAL.findall(raw):
        yield bytes.fromhex(run.decode())
    for run in _BASE64.findall(raw):
        with suppress(ValueError):
            yield base64.b64decode(run.translate(_URL_SAFE) + b"==")


def _encoded(value: bytes) -> set[bytes]:
    """As it stands, in hexadecimal, in Base64 wherever it may begin there; and twice-encoded hexadecimal."""
    forms = {value, value.hex().encode(), value.hex().upper().encode(), value.hex().encode().hex().encode()}
    for shift in range(3):
        # Of the encoded text only what does not depend on the bytes before and after.
        whole = base64.b64encode(bytes(shift) + value)
        stable = whole[4 if shift else 0 : (shift + len(value)) // 3 * 4]
        forms |= {stable, stable.replace(b"+", b"-").replace(b"/", b"_")}
    if value.decode("latin-1").isdecimal():
        forms |= {value.decode().encode("utf-16-le"), value.decode().encode("utf-16-be")}
    return {form for form in forms if len(form) >= PIECE}


def _packed(digits: str) -> set[bytes]:
    """Two digits to a byte, at either half; too short ones are anywhere by chance."""
    even = digits if len(digits) % 2 == 0 else digits[:-1]
    odd = digits[1:] if len(digits) % 2 else digits[1:-1]
    return {packed for packed in (bytes.fromhex(even), bytes.fromhex(odd)) if len(packed) >= 6}
