"""One entry of the journal and its canonical bytes.

A line is the canonical JSON (keys sorted by code point, no blanks, UTF-8, whole numbers only) of

    {"at": "2026-05-01T08:30:00.123456Z", "entry": {…}, "hash": "<64 hex>", "index": 0, "prev": "<64 hex>"}

where `hash` is the SHA-256 of the same object without `hash`, and `prev` the `hash` of the entry before (64 zeros for
the first). So an auditor needs no program of ours: `jq -cSj 'del(.hash)' | sha256sum` gives a line's hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, cast

import msgspec

from audit.errors import BrokenJournalError, EntryError

JsonValue: TypeAlias = "str | int | bool | list[JsonValue] | dict[str, JsonValue] | None"

GENESIS: Final = "0" * 64
"""`prev` of the first entry."""

MAX_LINE: Final = 65_536
"""Bytes of one line without its line feed. A record is about a structure, it does not hold it."""

_MAX_DEPTH: Final = 8
_MAX_INTEGER: Final = 2**53 - 1  # what every JSON reader (jq, JavaScript) keeps exact
_FIELDS: Final = frozenset({"at", "entry", "hash", "index", "prev"})
_encoder: Final = msgspec.json.Encoder(order="sorted")
_decoder: Final = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class Entry:
    """A recorded entry: number from 0, time (RFC 3339, UTC, microseconds), the caller's object, place in the chain."""

    index: int
    at: str
    entry: Mapping[str, JsonValue]
    prev: str
    hash: str


def timestamp(moment: datetime) -> str:
    """RFC 3339 text of an aware time, in UTC with microseconds: always the same length, so that it sorts as text."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def encode(index: int, at: str, entry: Mapping[str, JsonValue], prev: str) -> tuple[bytes, str]:
    """Canonical line (without line feed) and hash (hex) of entry number `index`.

    Raises EntryError when `entry` holds anything but text, whole numbers below 2^53, booleans, null, lists and
    objects, or when the line would exceed MAX_LINE bytes.
    """
    _check(entry, 0)
    try:
        # The members in their order, so that the entry is encoded once for the hash and the line.
        head = b'{"at":%b,"entry":%b' % (_encoder.encode(at), _encoder.encode(entry))
    except UnicodeEncodeError as error:  # a lone surrogate has no UTF-8
        raise EntryError("text that has no UTF-8 form") from error
    tail = b',"index":%d,"prev":%b}' % (index, _encoder.encode(prev))
    digest = hashlib.sha256(head + tail).hexdigest()
    line = b'%b,"hash":"%b"%b' % (head, digest.encode("ascii"), tail)
    if len(line) > MAX_LINE:
        raise EntryError(f"entry of {len(line)} bytes, at most {MAX_LINE} are recorded")
    return line, digest


def decode(line: bytes, *, index: int, prev: str) -> Entry:
    """Entry number `index` from its line, after `prev` (hex).

    Raises BrokenJournalError unless the line is exactly what `encode` writes.
    """
    try:
        fields: Any = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenJournalError(index, "not-json", "the line is no JSON") from error
    if (
        not isinstance(fields, dict)
        or fields.keys() != _FIELDS
        or not isinstance(fields["entry"], dict)
        or not isinstance(fields["at"], str)
    ):
        raise BrokenJournalError(index, "bad-shape", "the line is no journal entry")
    if fields["index"] != index:
        raise BrokenJournalError(index, "bad-index", f"found number {fields['index']!r}")
    if fields["prev"] != prev:
        raise BrokenJournalError(index, "bad-chain", f"follows {fields['prev']!r}, expected {prev}")
    try:
        canonical, digest = encode(index, fields["at"], fields["entry"], prev)
    except EntryError as error:
        raise BrokenJournalError(index, "bad-shape", str(error)) from error
    if fields["hash"] != digest:
        raise BrokenJournalError(index, "bad-hash", f"hash says {fields['hash']!r}, content gives {digest}")
    if canonical != line:
        raise BrokenJournalError(index, "not-canonical", "the same content was written in other bytes")
    return Entry(index, fields["at"], cast("dict[str, JsonValue]", fields["entry"]), prev, digest)


def _check(value: object, depth: int) -> None:
    if type(value) is str:
        return
    if depth > _MAX_DEPTH:
        raise EntryError(f"nested deeper than {_MAX_DEPTH}")
    if value is None or isinstance(value, (str, bool)):
        return
    if isinstance(value, int):
        if abs(value) > _MAX_INTEGER:
            raise EntryError("a number beyond 2^53 - 1: record it as text")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise EntryError("a key that is no text")
            _check(item, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check(item, depth + 1)
    else:
        # the value itself stays out of the message: it may be what must not be written anywhere
        raise EntryError(f"a value of type {type(value).__name__}")
