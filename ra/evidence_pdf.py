"""PDF as evidence: begins and ends as one, is not encrypted, and holds nothing that acts when it is opened.

The names that make a document act are looked for in the bytes of the whole file and in everything that is packed in
object streams (ISO 32000-1 7.5.7), after undoing `#xx` in names. Streams are unpacked with a limit, so that a small
file cannot become a large one here. A document that hides its objects in any other way (encryption, another filter on
an object stream, a predictor) is refused for that.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Iterator
from typing import Final

from runtime.language import Message

_END: Final = re.compile(rb"startxref\s+[0-9]+\s+%%EOF\s*\Z")
_TAIL: Final = 1024  # bytes from the end in which `startxref` stands
_ACTS: Final = re.compile(
    rb"/(JavaScript|Launch|Rendition|RichMedia|RichMediaExecute|EmbeddedFiles?|SubmitForm|ImportData|GoToE|XFA|Movie)"
    rb"(?=[\s/<>\[\]()%]|\Z)"
)
_SHORT: Final = re.compile(rb"/JS(?=[\s/<>\[\]()%])")
_ENCRYPTED: Final = re.compile(rb"/Encrypt(?=[\s/<>\[\]()%0-9])")
_ESCAPED: Final = re.compile(rb"#([0-9A-Fa-f]{2})")
_STREAM: Final = re.compile(rb"(?<!end)stream\r?\n")
_OBJECTS: Final = re.compile(rb"\s*[0-9]+\s+[0-9]+\s")  # an object stream begins with numbers and offsets
_DICTIONARY: Final = 2048  # bytes before `stream` that hold its dictionary
_HIDING: Final = re.compile(
    rb"/(ASCIIHexDecode|AHx|ASCII85Decode|A85|LZWDecode|LZW|RunLengthDecode|RL|Crypt|Predictor)\b"
)
_MOST_STREAMS: Final = 50_000
_MOST: Final = 64 << 20  # bytes that all object streams together unpack to


def pdf_fault(body: bytes) -> Message | None:
    """Why a PDF is not taken; None if it is. `body` begins with `%PDF-`."""
    if not _END.search(body[-_TAIL:]):
        return Message("it does not end as a PDF, or something follows behind its end")
    if _ENCRYPTED.search(_plain(body)):
        return Message("it is encrypted")
    extents = list(itertools.islice(_extents(body), _MOST_STREAMS + 1))
    if len(extents) > _MOST_STREAMS:
        return Message("it has more parts than a document needs")
    if _acts(body) or _SHORT.search(_plain(_outside(body, extents))):
        return _active()
    left = _MOST
    for begin, end in extents:
        names = _plain(_dictionary(body, begin))
        objects = b"/ObjStm" in names
        if objects and _HIDING.search(names):
            return Message("it hides its objects")
        unpacked = _unpacked(memoryview(body)[begin:end], left + 1, objects=objects)
        left -= len(unpacked)
        if left < 0:
            return Message("it unpacks to more than a document needs")
        if _acts(unpacked) or _SHORT.search(_plain(unpacked)):
            return _active()
    return None


def _active() -> Message:
    return Message("it does something when it is opened, or carries another file")


def _acts(data: bytes) -> bool:
    return _ACTS.search(_plain(data)) is not None


def _plain(data: bytes) -> bytes:
    """The data with `#xx` of names undone."""
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), data) if b"#" in data else data


def _extents(body: bytes) -> Iterator[tuple[int, int]]:
    """Where the bytes of each stream, or of what may be one, begin and end."""
    end = 0
    for found in _STREAM.finditer(body):
        begin = found.end()
        if 0 <= end < begin:
            end = body.find(b"endstream", begin)
        yield begin, end if end >= 0 else len(body)


def _dictionary(body: bytes, begin: int) -> bytes:
    """What stands between the beginning of its object and a stream."""
    head = body[max(begin - _DICTIONARY, 0) : begin]
    return head[head.rfind(b"obj") + 3 :]


def _outside(body: bytes, extents: list[tuple[int, int]]) -> bytes:
    parts, place = [], 0
    for begin, end in extents:
        if begin >= place:
            parts.append(body[place:begin])
            place = end
    return b" ".join([*parts, body[place:]])


def _unpacked(packed: memoryview, most: int, *, objects: bool) -> bytes:
    """The bytes of an object stream, `most` at most; nothing of any other stream."""
    unpacker = zlib.decompressobj()
    try:
        head = unpacker.decompress(packed, 256)
        if not objects and not _OBJECTS.match(head):
            return b""
        return head + unpacker.decompress(unpacker.unconsumed_tail, max(most - len(head), 1))
    except zlib.error:
        return bytes(packed) if objects else b""
