"""How many members the parts of a structure may have, counted before anything is made of them.

The DER parser makes an object of each member of a SEQUENCE OF or SET OF, and looks at their number when it has made
them all: two bytes on the wire become more than eighty in memory, some milliseconds, and then a refusal. Whoever sends
such a crowd is refused here for the price of the first few. What is short needs no counting: it cannot become much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pki.errors import DerError

UNCOUNTED: Final = 16_384
"""Bytes of what is never counted."""

_LONG_FORM: Final = 0x80
_LONGEST_LENGTH: Final = 4  # octets; the parser takes no longer one either


@dataclass(frozen=True)
class Members:
    """An element has at most `most` members; those with a tag of `inner` (identifier octet) are looked into, too."""

    most: int
    inner: Mapping[int, Members] = field(default_factory=dict)


def check_members(der: bytes, members: Members) -> None:
    """Refuse a structure with more members somewhere than its type allows. Anything else is the parser's to refuse.

    Raises DerError `malformed`.
    """
    if len(der) <= UNCOUNTED:
        return
    found = _content(der, 0, len(der))
    waiting = [] if found is None else [(members, *found)]
    while waiting:
        allowed, at, end = waiting.pop()
        count = 0
        while at < end:
            count += 1
            if count > allowed.most:
                raise DerError("malformed", f"more than {allowed.most} members", clause="KWBP global rule 1")
            found = _content(der, at, end)
            if found is None:
                return
            inner = allowed.inner.get(der[at])
            if inner is not None:
                waiting.append((inner, *found))
            at = found[1]


def _content(der: bytes, at: int, end: int) -> tuple[int, int] | None:
    """Where the contents of the element at `at` begin and end; None if it does not lie before `end`."""
    content = at + 2
    if content > end:
        return None
    size = der[at + 1]
    if size >= _LONG_FORM:
        octets = size - _LONG_FORM
        if not 1 <= octets <= _LONGEST_LENGTH or content + octets > end:
            return None
        size, content = int.from_bytes(der[content : content + octets], "big"), content + octets
    return (content, content + size) if content + size <= end else None
