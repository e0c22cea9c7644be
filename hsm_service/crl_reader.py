"""Typed signing of a revocation list that comes in pieces, so that one of any size is judged without being held.

What stands around the entries is put together and judged as a list of its own by `hsm_service.typed_crl`: every rule
about issuer, number, times and extensions is the same one. Entries are judged while they pass: each is, byte for byte,
one of the few DER shapes that our authorities write (RFC 5280 5.1.2.6, 5.3): a positive serial of at most 20 octets, a
revocation date that is not in the future, and at most a reason and an invalidity date, neither critical.

No serial may be listed twice. To remember a million of them would take the memory that this way of signing is there to
save, so serials must come in ascending order: then the last one is all that needs to be known. (A DER INTEGER of a
positive number sorts as its bytes do: first the length, then the value.) `ca.crl_encoder` writes them so.
"""

from __future__ import annotations

import hashlib
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from hsm_service.judging import CLOCK_SKEW, SigningKey, refuse
from hsm_service.schemes import Scheme, x509_scheme
from hsm_service.typed_crl import CrlOrder, check_crl
from pki.der import tlv
from runtime.problems import Problem

LARGEST: Final = 256 * 1024 * 1024
"""Bytes of a TBSCertList: some five million entries."""

_LARGEST_MARGIN: Final = 16 * 1024  # bytes of what stands before the entries, and of what stands after them
_SEQUENCE: Final = 0x30
_INTEGER: Final = 0x02
_EXTENSIONS: Final = 0xA0
_TIMES: Final = (0x17, 0x18)
_CLAUSE: Final = "RFC 5280 5.1"

_MOST_OFTEN: Final = (17, 16, 15, 18, 19, 20, *range(14, 0, -1))
"""Octets of a serial number, those of 128 random bits first: alternatives are tried in this order."""


def _serial(size: int) -> bytes:
    """A positive INTEGER of `size` content octets in its shortest form, as a pattern."""
    head = b"\x02" + re.escape(bytes((size,)))
    if size == 1:
        return head + rb"[\x01-\x7f]"
    return head + rb"(?:[\x01-\x7f][\x00-\xff]{%d}|\x00[\x80-\xff][\x00-\xff]{%d})" % (size - 1, size - 2)


_DAY: Final = (
    rb"(?:[0-4][0-9](?:(?:0[13578]|1[02])(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)(?:0[1-9]|[12][0-9]|30)"
    rb"|02(?:0[1-9]|1[0-9]|2[0-8]))|(?:[024][048]|[13][26])0229)"
)
"""YYMMDD of 2000 to 2049. What lies beyond is in the future, and will be a GeneralizedTime."""
_MOMENT: Final = _DAY + rb"(?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]Z"
_UTC_TIME: Final = rb"\x17\x0d" + _MOMENT
_REASON: Final = rb"\x30\x0a\x06\x03\x55\x1d\x15\x04\x03\x0a\x01[\x01-\x06\x08-\x0a]"
_INVALIDITY: Final = rb"\x30\x18\x06\x03\x55\x1d\x18\x04\x11\x18\x0f20" + _MOMENT
_REMOVED: Final = b"\x55\x1d\x15\x04\x03\x0a\x01\x08"

_EXTENDED: Final = (
    (rb"\x30\x0c" + _REASON, 14),
    (b"", 0),
    (rb"\x30\x26" + _REASON + _INVALIDITY, 40),
    (rb"\x30\x1a" + _INVALIDITY, 28),
)
"""What may follow the date, and how many octets it has."""
_ENTRY: Final = b"|".join(
    b"(?:"
    + b"|".join(re.escape(bytes((2 + size + 15 + more,))) + _serial(size) for size in _MOST_OFTEN)
    + b")"
    + _UTC_TIME
    + extensions
    for extensions, more in _EXTENDED
)
_ENTRIES: Final = re.compile(rb"(?:\x30(?:" + _ENTRY + rb"))*+", re.DOTALL)
"""As many whole entries as there are, each in its exact form; all of fixed length, so it never looks back far."""
_ANY_SERIAL: Final = b"|".join(re.escape(bytes((size,))) + rb"[\x00-\xff]{%d}" % size for size in _MOST_OFTEN)
_FIELDS: Final = re.compile(
    rb"\x30[\x00-\xff](\x02(?:" + _ANY_SERIAL + rb"))\x17\x0d([0-9]{12}Z)"
    rb"(?:\x30(?:\x0c\x30[\x00-\xff]{11}|\x26\x30[\x00-\xff]{37}|\x1a\x30[\x00-\xff]{25}))?",
    re.DOTALL,
)
"""Serial and date of each entry, among bytes that are known to be entries.

The next entry may be as long as extensions are; but a SEQUENCE comes first in those, an INTEGER in an entry.
"""
_LONGEST_ENTRY: Final = 2 + 22 + 15 + 40


@dataclass(frozen=True, slots=True)
class ReadCrl:
    """A list that the key may sign, if its number is larger than the last: `order.tbs` has no entries.

    `digest` is what the token signs, `input_sha256` (hex) what is recorded; both are of all bytes that came.
    """

    order: CrlOrder
    revoked: int
    size: int
    digest: bytes
    input_sha256: str


class CrlReader:
    """Takes the DER TBSCertList in pieces of any size with `feed`, then `finish`. Both raise Problem 422 (or 413)."""

    def __init__(self, key: SigningKey, *, now: datetime, last: int | None, is_full: Callable[[int], bool]) -> None:
        """As `check_crl`."""
        self.key: Final = key
        self.scheme: Final[Scheme] = x509_scheme(key)
        self._now = now
        self._last = last
        self._is_full = is_full
        self._latest = (now + CLOCK_SKEW).astimezone(UTC).strftime("%y%m%d%H%M%SZ").encode()
        self._hashes = {name: hashlib.new(name) for name in {"sha256", self.scheme.hash.name}}
        self._step: Callable[[], bool] = self._read_head
        self._buffer = b""
        self._head = b""
        self._tail = 0  # bytes after the entries, which end the list
        self._entries_left = 0
        self._size = 0
        self._expected: int | None = None
        self._serial = b""
        self._revoked = 0
        self._removed = False

    def feed(self, piece: bytes) -> None:
        """The next bytes of the list."""
        self._size += len(piece)
        if self._size > LARGEST or (self._expected is not None and self._size > self._expected):
            raise _too_large() if self._size > LARGEST else _malformed("it goes on after its end")
        for each in self._hashes.values():
            each.update(piece)
        self._buffer += piece
        while self._step():
            pass

    def finish(self) -> ReadCrl:
        """What was read, once all of it came."""
        if self._expected is None or self._size != self._expected:
            raise _malformed("it ends before its end")
        if self._entries_left:
            raise _malformed("an entry is not one that an authority of ours writes")
        if self._tail and self._buffer[0] != _EXTENSIONS:
            raise _malformed("after the entries come the extensions")
        around = tlv(_SEQUENCE, self._head + self._buffer)
        order = check_crl(around, self.key, now=self._now, last=self._last, is_full=self._is_full)
        if order.revoked:
            raise _malformed("the entries stand in one place")
        if self._removed and order.scope != "delta":
            raise refuse("bad-reason", "removeFromCRL stands in deltas alone", "RFC 5280 5.3.1")
        digest, sha256 = self._hashes[self.scheme.hash.name].digest(), self._hashes["sha256"].hexdigest()
        return ReadCrl(order, self._revoked, self._size, digest, sha256)

    def _read_head(self) -> bool:
        """Reads up to the first entry; False while more must come."""
        data = self._buffer
        outer = _header(data, 0)
        if outer is None:
            return False
        tag, start, length = outer
        if tag != _SEQUENCE:
            raise _malformed("it is no SEQUENCE")
        self._expected = start + length
        if self._expected > LARGEST:
            raise _too_large()
        if self._size > self._expected:
            raise _malformed("it goes on after its end")
        place = start
        for wanted in ((_INTEGER,), (_SEQUENCE,), (_SEQUENCE,), _TIMES, _TIMES):
            element = _header(data, place)
            if element is None or len(data) < element[1] + element[2]:
                return self._wait_for_head()
            if element[0] not in wanted:
                if wanted is _TIMES and place > start:
                    break  # no nextUpdate, which is refused later
                raise _malformed("its members are in another order")
            place = element[1] + element[2]
        element = _header(data, place)
        if element is None:
            return self._wait_for_head() if place < self._expected else self._without_entries(data, start)
        if element[0] != _SEQUENCE:
            return self._without_entries(data, start)
        if not element[2]:
            raise _malformed("no entries are left out, not listed empty")
        self._head = data[start:place]
        self._entries_left = element[2]
        self._tail = self._expected - element[1] - element[2]
        self._buffer = data[element[1] :]
        if not 0 <= self._tail <= _LARGEST_MARGIN:
            raise _malformed("its lengths contradict each other")
        self._step = self._read_entries
        return True

    def _wait_for_head(self) -> bool:
        if len(self._buffer) > _LARGEST_MARGIN:
            raise _malformed("what stands before the entries is too long")
        return False

    def _without_entries(self, data: bytes, start: int) -> bool:
        assert self._expected is not None  # the head was read
        if self._expected > _LARGEST_MARGIN:
            raise _malformed("what stands before the entries is too long")
        self._buffer = data[start:]
        self._step = _nothing
        return False

    def _read_entries(self) -> bool:
        found = _ENTRIES.match(self._buffer, 0, self._entries_left)
        assert found is not None  # no entry at all is a match, too
        end = found.end()
        if end:
            self._check(_FIELDS.findall(self._buffer, 0, end))
            self._removed = self._removed or self._buffer.find(_REMOVED, 0, end) >= 0
            self._buffer = self._buffer[end:]
            self._entries_left -= end
        if not self._entries_left:
            self._step = _nothing
        elif len(self._buffer) >= min(_LONGEST_ENTRY, self._entries_left):
            raise _malformed("an entry is not one that an authority of ours writes")
        return False

    def _check(self, entries: list[tuple[bytes, bytes]]) -> None:
        serials = [serial for serial, _date in entries]
        if max([date for _serial, date in entries]) > self._latest:
            raise refuse("bad-revocation-date", "a certificate is revoked in the future", "RFC 5280 5.1.2.6")
        if self._serial >= serials[0] or not all(map(operator.lt, serials, islice(serials, 1, None))):
            raise refuse("repeated-entry", "serial numbers ascend, each is listed once", "RFC 5280 5.1.2.6")
        self._serial = serials[-1]
        self._revoked += len(serials)


def _nothing() -> bool:
    return False


def _header(data: bytes, place: int) -> tuple[int, int, int] | None:
    """Tag, place of the content and its length, of the DER element at `place`; None while its head is not there."""
    if len(data) < place + 2:
        return None
    tag, first = data[place], data[place + 1]
    if first < 0x80:
        return tag, place + 2, first
    octets = first & 0x7F
    if not 1 <= octets <= 4:
        raise _malformed("a length is not in DER")
    if len(data) < place + 2 + octets:
        return None
    length = int.from_bytes(data[place + 2 : place + 2 + octets])
    if length < 0x80 or length >> 8 * (octets - 1) == 0:
        raise _malformed("a length is not in DER")
    return tag, place + 2 + octets, length


def _malformed(detail: str) -> Problem:
    return refuse("malformed", f"not one TBSCertList in DER: {detail}", _CLAUSE)


def _too_large() -> Problem:
    return Problem(413, "structure-too-large", f"a crl has at most {LARGEST} bytes")
