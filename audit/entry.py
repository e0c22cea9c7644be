"""One entry of the log and its canonical bytes.

A line is the canonical JSON (keys sorted by code point, no blanks, UTF-8, whole numbers only) of

    {"at":"2026-05-01T08:30:00.123456Z","entry":{…},"index":0}

and the leaf of the Merkle tree. So an auditor needs no program of ours: for a line's leaf hash,
`{ printf '\\0'; jq -cSj .; } | sha256sum`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import msgspec

from audit.errors import BrokenJournalError, EntryError
from audit.verify import MAX_LINE

JsonValue: TypeAlias = "str | int | bool | list[JsonValue] | dict[str, JsonValue] | None"

_MAX_DEPTH: Final = 8
_MAX_INTEGER: Final = 2**53 - 1  # what every JSON reader (jq, JavaScript) keeps exact
_AT: Final = re.compile(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z")
_PLAIN: Final = frozenset({str, bool, type(None)})
_AROUND: Final = len(b'{"at":"","entry":,"index":}') + len("2026-05-01T08:30:00.123456Z") + 19


@dataclass(frozen=True, slots=True)
class Entry:
    """A recorded entry: number from 0, time (RFC 3339, UTC, microseconds), the caller's object."""

    index: int
    at: str
    entry: Mapping[str, JsonValue]


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    at: str
    entry: dict[str, Any]
    index: int


_encoder: Final = msgspec.json.Encoder(order="sorted")
_decoder: Final = msgspec.json.Decoder(_Line)


def timestamp(moment: datetime) -> str:
    """RFC 3339 text of an aware time, in UTC with microseconds: always the same length, so that it sorts as text."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"


def encode(entry: Mapping[str, JsonValue]) -> bytes:
    """Canonical JSON of what is to be recorded.

    Raises EntryError when `entry` holds anything but text, whole numbers below 2^53, booleans, null, lists and
    objects, or when its line would exceed MAX_LINE bytes.
    """
    for key, value in entry.items():  # what most entries are made of, without a call for each
        if not isinstance(key, str):
            raise EntryError("a key that is no text")
        if type(value) not in _PLAIN:
            _check(value, 1)
    try:
        data = _encoder.encode(entry)
    except UnicodeEncodeError as error:  # a lone surrogate has no UTF-8
        raise EntryError("text that has no UTF-8 form") from error
    if len(data) > MAX_LINE - _AROUND:
        raise EntryError(f"entry of {len(data)} bytes, at most {MAX_LINE - _AROUND} are recorded")
    return data


def line(index: int, at: str, entry: bytes) -> bytes:
    """The line, without line feed, of entry number `index`: `at` as `timestamp` gives it, `entry` as `encode` does."""
    return b'{"at":"%b","entry":%b,"index":%d}' % (at.encode("ascii"), entry, index)


def decode(data: bytes, index: int) -> Entry:
    """Entry number `index` from its line, without line feed.

    Raises BrokenJournalError unless the line is exactly what `line` writes.
    """
    try:
        found = _decoder.decode(data)
        canonical = _encoder.encode(found)
    except msgspec.ValidationError as error:
        raise BrokenJournalError(index, "bad-shape", "the line is no entry of a log") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BrokenJournalError(index, "not-json", "the line is no JSON") from error
    if _AT.fullmatch(found.at) is None:
        raise BrokenJournalError(index, "bad-shape", "the line has no time of a log")
    if found.index != index:
        raise BrokenJournalError(index, "bad-index", f"found number {found.index}")
    if canonical != data:
        raise BrokenJournalError(index, "not-canonical", "the same content is written in other bytes")
    try:
        for value in found.entry.values():
            if type(value) not in _PLAIN:
                _check(value, 1)
    except EntryError as error:
        raise BrokenJournalError(index, "bad-shape", str(error)) from error
    return Entry(index, found.at, found.entry)


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
