"""Hostile twins of honest bytes: what breaks readers of DER, text and frames, one change or a few at a time.

DER is taken apart also where it travels inside an OCTET STRING or BIT STRING, and what is changed deep inside is framed
again on the way out, so that a change reaches the reader it is meant for instead of the first length check. The same
seed makes the same bytes: whatever is found can be made again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

LARGEST: Final = 262_144 + 64
"""Twins are cut at this size, bytes: just above what any reader takes."""

_CONSTRUCTED: Final = 0x20
_OCTET_STRING: Final = 0x04
_BIT_STRING: Final = 0x03
_DEEPEST: Final = 24


@dataclass(frozen=True, slots=True)
class Element:
    """A DER element of a document: where it starts, where its contents do, where it ends, what it lies in."""

    start: int
    content: int
    end: int
    parent: int  # number of the element around it; -1 outside


@lru_cache(maxsize=512)
def elements(data: bytes) -> tuple[Element, ...]:
    """Every element of `data` that can be framed again, also inside strings that hold DER; () if it is no DER."""
    found: list[Element] = []
    if not _walk(data, 0, len(data), -1, found, 0):
        return ()
    return tuple(found)


def _walk(data: bytes, at: int, end: int, parent: int, found: list[Element], depth: int) -> bool:
    """Add the elements that fill `at` to `end`; False, with nothing added, if they do not."""
    mark = len(found)
    while at < end:
        header = _header(data, at, end)
        if header is None:
            del found[mark:]
            return False
        content, stop = header
        found.append(Element(at, content, stop, parent))
        number = len(found) - 1
        tag = data[at]
        if depth < _DEEPEST and stop - content > 1:
            if tag & _CONSTRUCTED or (tag in (_OCTET_STRING, 0x80, 0x81) and data[content] in (0x30, 0x31)):
                _walk(data, content, stop, number, found, depth + 1)
            elif tag == _BIT_STRING and data[content : content + 2] == b"\x00\x30":
                _walk(data, content + 1, stop, number, found, depth + 1)
        at = stop
    return at == end


def _header(data: bytes, at: int, end: int) -> tuple[int, int] | None:
    if at + 2 > end or data[at] & 0x1F == 0x1F:
        return None
    size, content = data[at + 1], at + 2
    if size >= 0x80:
        octets = size & 0x7F
        if not 1 <= octets <= 4 or content + octets > end:
            return None
        size, content = int.from_bytes(data[content : content + octets], "big"), content + octets
    return (content, content + size) if content + size <= end else None


def length(size: int) -> bytes:
    """Length octets in the shortest definite form."""
    if size < 0x80:
        return bytes((size,))
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(octets),)) + octets


def replaced(data: bytes, number: int, new: bytes) -> bytes:
    """`data` with element `number` replaced by `new`, every length around it put right."""
    found = elements(data)
    element = found[number]
    start, end = element.start, element.end
    while element.parent >= 0:
        element = found[element.parent]
        content = data[element.content : start] + new + data[end : element.end]
        new = data[element.start : element.start + 1] + length(len(content)) + content
        start, end = element.start, element.end
    return data[:start] + new + data[end:]


_INTEGERS: Final = (
    b"\x00",
    b"\xff",
    b"\x01",
    b"\x02",
    b"\x03",
    b"\x7f",
    b"\x00\x80",
    b"\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x00\x80\x00\x00\x00\x00\x00\x00\x00",
    b"\x00\x00\x01",
    b"\xff\xff",
    b"",
    b"\x7f" + b"\xff" * 600,
    b"\x80" + bytes(64),
)
_IDENTIFIERS: Final = (
    b"",
    b"\x80\x01",
    b"\x88\x37\x03",
    b"\x2a" + b"\xff" * 40 + b"\x7f",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01",
    b"\x55\x1d\x0f",
    b"\x2a" * 3000,
    b"\x2a\x86",
    b"\x69" + b"\x81" * 200 + b"\x01",
)
_TEXTS: Final = (
    b"",
    b"\xff\xfe",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    "\u202e10\u202c".encode(),
    "\U0010ffff".encode() * 40,
    b"a" * 5000,
    ("a" + "\u0301" * 3000).encode(),
    b"\x00",
    "۱۰ ي ﷼".encode(),
    b" " * 900,
    "\ufdfa".encode() * 900,
)
_TIMES: Final = (
    b"20260230000000Z",
    b"99991231235959Z",
    b"00000101000000Z",
    b"20260321120000.5Z",
    b"20260321120000+0330",
    b"2026032112Z",
    b"260321120000Z",
    b"500101000000Z",
    b"20260321126000Z",
    b"20260321240000Z",
)
_FILLINGS: Final = {
    0x01: (b"\x00", b"\xff", b"\x01", b"", b"\xff\xff"),
    0x02: _INTEGERS,
    0x03: (b"", b"\x00", b"\x07", b"\x08\x00", b"\x07\xff", b"\x01\x00", b"\x00" * 70),
    0x04: (b"", bytes(20), bytes(32), bytes(33), b"\x30\x80", b"\x04" * 9000, b"\x30\x82\xff\xff"),
    0x05: (b"\x00",),
    0x06: _IDENTIFIERS,
    0x0A: _INTEGERS,
    0x0C: _TEXTS,
    0x12: _TEXTS,
    0x13: _TEXTS,
    0x16: _TEXTS,
    0x17: _TIMES,
    0x18: _TIMES,
}
_TAGS: Final = (
    b"\x00",
    b"\x01",
    b"\x02",
    b"\x03",
    b"\x04",
    b"\x05",
    b"\x06",
    b"\x09",
    b"\x0a",
    b"\x0c",
    b"\x13",
    b"\x17",
    b"\x18",
    b"\x1e",
    b"\x24",
    b"\x30",
    b"\x31",
    b"\x80",
    b"\x81",
    b"\xa0",
    b"\xa1",
    b"\xa4",
    b"\x1f\x81\x00",
    b"\x3f\x1e",
    b"\x7f\x81\x7f",
)
_TOKENS: Final = (
    b"",
    b"0",
    b"-1",
    b"1e999",
    b"NaN",
    b"Infinity",
    b"9" * 400,
    b"9" * 5000,
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b'"\\ud800"',
    b'"\\u0000"',
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\n",
    b"\r\n",
    b"\n\n",
    b"\t",
    b" ",
    b"\\",
    b'"',
    b"'",
    b":",
    b"- ",
    b"&a ",
    b"*a",
    b"!!python/name:os.system ",
    b"!!binary x",
    b"<<: ",
    b"? ",
    b"2020-99-99",
    b"0x10",
    b"1:30",
    b"---\n",
    b"...",
    b"%",
    b"=",
    b"====",
    b"+",
    b"/",
    b";",
    b",",
    b"(",
    b")",
    "\u2028".encode(),
    "\u0660".encode(),
    "\u202e".encode(),
    b"[" * 500,
    b"[" * 20_000,
    b'{"a":' * 600,
    b"- " * 3000,
    b"1," * 2000,
    b"a: " * 300,
    b"\xd9",
    b"[[]," * 800,
    b"x" * 3000,
)

Change = Callable[["Mutator", bytes], bytes]


class Mutator:
    """Makes twins of `pool` with the numbers of `rng`; `text` prefers what breaks JSON, YAML and lines."""

    def __init__(self, rng: random.Random, pool: Sequence[bytes], *, text: bool = False) -> None:
        self.rng = rng
        self.pool = pool
        self._text = text

    def twin(self) -> bytes:
        """A twin of one of the pool."""
        return self.twin_of(self.rng.choice(self.pool))

    def twin_of(self, data: bytes) -> bytes:
        """A twin of `data`: one change mostly, now and then up to four."""
        rng = self.rng
        for _ in range(1 if rng.random() < 0.6 else rng.randint(2, 4)):
            if self._text:
                change = rng.choice(_OF_TEXT)
            elif rng.random() < 0.75 and len(data) <= LARGEST and elements(data):
                change = rng.choice(_OF_DER)
            else:
                change = rng.choice(_OF_BYTES)
            data = change(self, data)[:LARGEST]
        return data

    # Changes of DER

    def _pick(self, data: bytes) -> int:
        return self.rng.randrange(len(elements(data)))

    def _foreign(self, data: bytes) -> bytes:
        """An element from here or from another document."""
        other = self.rng.choice(self.pool) if self.rng.random() < 0.5 else data
        found = elements(other) or elements(data)
        source = other if elements(other) else data
        element = self.rng.choice(found)
        return source[element.start : element.end]

    def _delete(self, data: bytes) -> bytes:
        return replaced(data, self._pick(data), b"")

    def _double(self, data: bytes) -> bytes:
        number = self._pick(data)
        element = elements(data)[number]
        return replaced(data, number, data[element.start : element.end] * 2)

    def _crowd(self, data: bytes) -> bytes:
        """Very many of one small element, or of the smallest there is."""
        number = self._pick(data)
        element = elements(data)[number]
        one = (
            data[element.start : element.end]
            if self.rng.random() < 0.5
            else self.rng.choice((b"\x05\x00", b"\x30\x00"))
        )
        times = self.rng.choice((9, 70, 600, 5000, 40_000))
        return replaced(data, number, one * min(times, 200_000 // max(1, len(one))))

    def _crowded_inside(self, data: bytes) -> bytes:
        """The same inside a constructed element."""
        number = self._pick(data)
        element = elements(data)[number]
        one = self.rng.choice((b"\x05\x00", b"\x30\x00", b"\x31\x00", b"\x04\x00", b"\x0c\x00", b"\x02\x01\x00"))
        content = one * self.rng.choice((1, 9, 513, 5000, 60_000))
        return replaced(data, number, data[element.start : element.start + 1] + length(len(content)) + content)

    def _swap(self, data: bytes) -> bytes:
        number = self._pick(data)
        found = elements(data)
        siblings = [n for n, each in enumerate(found) if each.parent == found[number].parent and n != number]
        if not siblings:
            return self._double(data)
        one, other = sorted((found[number], found[self.rng.choice(siblings)]), key=lambda each: each.start)
        between = data[one.end : other.start]
        new = data[other.start : other.end] + between + data[one.start : one.end]
        return data[: one.start] + new + data[other.end :]

    def _transplant(self, data: bytes) -> bytes:
        return replaced(data, self._pick(data), self._foreign(data))

    def _fill(self, data: bytes) -> bytes:
        number = self._pick(data)
        element = elements(data)[number]
        tag = data[element.start]
        content = self.rng.choice(_FILLINGS.get(tag, _FILLINGS[0x04]))
        return replaced(data, number, bytes((tag,)) + length(len(content)) + content)

    def _retag(self, data: bytes) -> bytes:
        number = self._pick(data)
        element = elements(data)[number]
        return replaced(data, number, self.rng.choice(_TAGS) + data[element.start + 1 : element.end])

    def _misspell_length(self, data: bytes) -> bytes:
        """Long where short would do, indefinite, far too large, or reserved."""
        number = self._pick(data)
        element = elements(data)[number]
        tag, content = data[element.start : element.start + 1], data[element.content : element.end]
        size = len(content)
        form = self.rng.randrange(6)
        if form == 0:
            octets = self.rng.choice((1, 2, 3, 4, 8, 20))
            new = tag + bytes((0x80 | octets,)) + (size % 256**octets).to_bytes(octets, "big") + content
        elif form == 1:
            new = tag + b"\x80" + content + b"\x00\x00"
        elif form == 2:
            new = (
                tag
                + self.rng.choice((b"\x84\xff\xff\xff\xff", b"\x88" + b"\xff" * 8, b"\x84\x7f\xff\xff\xff"))
                + content
            )
        elif form == 3:
            new = tag + b"\xff" + content
        elif form == 4:
            new = tag + length(size + self.rng.choice((1, 2, 100))) + content
        else:
            new = tag + length(max(0, size - 1)) + content
        return replaced(data, number, new)

    def _nest(self, data: bytes) -> bytes:
        """Wrap an element many times, or put a bomb of empty nesting in its place."""
        number = self._pick(data)
        element = elements(data)[number]
        inner = data[element.start : element.end] if self.rng.random() < 0.5 else b""
        tag = self.rng.choice((b"\x30", b"\x31", b"\xa0", b"\x24"))
        for _ in range(self.rng.choice((1, 2, 40, 400, 3000))):
            inner = tag + length(len(inner)) + inner
        return replaced(data, number, inner)

    # Changes of bytes

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return b"\x30"
        at = self.rng.randrange(len(data))
        return data[:at] + bytes((data[at] ^ 1 << self.rng.randrange(8),)) + data[at + 1 :]

    def _overwrite(self, data: bytes) -> bytes:
        at = self.rng.randint(0, len(data))
        new = self.rng.randbytes(self.rng.choice((1, 1, 2, 4, 16)))
        return data[:at] + new + data[at + len(new) :]

    def _insert(self, data: bytes) -> bytes:
        at = self.rng.randint(0, len(data))
        return data[:at] + self.rng.randbytes(self.rng.choice((1, 1, 2, 8, 64))) + data[at:]

    def _cut(self, data: bytes) -> bytes:
        one, other = sorted(self.rng.randint(0, len(data)) for _ in range(2))
        return data[:one] + data[other:] if self.rng.random() < 0.5 else data[:one]

    def _append(self, data: bytes) -> bytes:
        return data + self.rng.choice((b"\x00", b"\x00\x00", b"\x05\x00", b"\n", data[:64], bytes(5000)))

    def _splice(self, data: bytes) -> bytes:
        other = self.rng.choice(self.pool)
        return data[: self.rng.randint(0, len(data))] + other[self.rng.randint(0, len(other)) :]

    def _noise(self, _data: bytes) -> bytes:
        return self.rng.randbytes(self.rng.choice((0, 1, 2, 9, 100, 3000)))

    # Changes of text

    def _token(self, data: bytes) -> bytes:
        at = self.rng.randint(0, len(data))
        cut = self.rng.choice((0, 0, 1, 4, 20))
        return data[:at] + self.rng.choice(_TOKENS) + data[at + cut :]

    def _line(self, data: bytes) -> bytes:
        """Drop, double, move or multiply a line."""
        lines = data.split(b"\n")
        at = self.rng.randrange(len(lines))
        form = self.rng.randrange(4)
        if form == 0:
            del lines[at]
        elif form == 1:
            lines.insert(at, lines[at])
        elif form == 2:
            lines.insert(self.rng.randrange(len(lines)), lines.pop(at))
        else:
            lines[at:at] = [lines[at]] * min(2000, 100_000 // (len(lines[at]) + 1))
        return b"\n".join(lines)

    def _value(self, data: bytes) -> bytes:
        """Put a token in the place of a value of JSON or YAML."""
        places = [at for at, each in enumerate(data) if each in b":=,"]
        if not places:
            return self._token(data)
        at = self.rng.choice(places) + 1
        ends = [found for mark in (b",", b"\n", b"}", b"]", b";") if (found := data.find(mark, at)) >= 0]
        return data[:at] + self.rng.choice(_TOKENS) + data[min(ends, default=len(data)) :]


_OF_BYTES: Final[tuple[Change, ...]] = (
    Mutator._flip,
    Mutator._flip,
    Mutator._overwrite,
    Mutator._insert,
    Mutator._cut,
    Mutator._append,
    Mutator._splice,
    Mutator._noise,
)
_OF_DER: Final[tuple[Change, ...]] = (
    Mutator._delete,
    Mutator._double,
    Mutator._crowd,
    Mutator._crowded_inside,
    Mutator._swap,
    Mutator._transplant,
    Mutator._fill,
    Mutator._fill,
    Mutator._retag,
    Mutator._misspell_length,
    Mutator._misspell_length,
    Mutator._nest,
)
_OF_TEXT: Final[tuple[Change, ...]] = (
    *_OF_BYTES,
    Mutator._token,
    Mutator._token,
    Mutator._token,
    Mutator._line,
    Mutator._value,
    Mutator._value,
)
