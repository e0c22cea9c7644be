"""PNG, JPEG and TIFF as evidence: the structure is walked to the last byte; no pixel is decoded."""

from __future__ import annotations

import struct
import zlib
from typing import Final

from runtime.language import Message

_PNG_HEAD: Final = 8
_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})  # JPEG markers without a length
_TIFF_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_MOST_ENTRIES: Final = 100_000  # of all directories of a TIFF together


def png_fault(body: bytes) -> Message | None:
    """Why the bytes are no PNG (ISO/IEC 15948) from end to end; they begin like one."""
    place, first, kind = _PNG_HEAD, True, b""
    while kind != b"IEND":
        head = body[place : place + 8]
        if len(head) < 8:
            return Message("it ends in the middle")
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        data, crc = body[place + 8 : place + 8 + length], body[place + 8 + length : place + 12 + length]
        if len(crc) < 4 or zlib.crc32(kind + data).to_bytes(4, "big") != crc or first != (kind == b"IHDR"):
            return Message("its parts are damaged or out of order")
        place, first = place + 12 + length, False
    return _nothing_behind(place, body)


def jpeg_fault(body: bytes) -> Message | None:
    """Why the bytes are no JPEG (ISO/IEC 10918-1) from end to end; they begin like one."""
    place, scanned = 2, False
    while True:
        if body[place : place + 1] != b"\xff" or len(body) < place + 2:
            return Message("it ends in the middle") if place >= len(body) else Message("its parts are damaged")
        marker = body[place + 1]
        if marker == 0xD9:
            return _nothing_behind(place + 2, body) if scanned else Message("it shows nothing")
        if marker == 0xFF or marker in _STANDALONE:
            place += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(body[place + 2 : place + 4], "big")
        if marker == 0x00 or length < 2 or place + 2 + length > len(body):
            return Message("its parts are damaged")
        place += 2 + length
        if marker == 0xDA:
            scanned, place = True, _end_of_scan(body, place)


def _end_of_scan(body: bytes, place: int) -> int:
    """Where the marker after entropy-coded data stands: stuffed zeros and restarts belong to the data."""
    while True:
        place = body.find(b"\xff", place)
        if place < 0:
            return len(body)
        following = body[place + 1 : place + 2]
        if following and following[0] != 0x00 and not 0xD0 <= following[0] <= 0xD7:
            return place
        place += 2


def tiff_fault(body: bytes) -> Message | None:
    """Why the bytes are no TIFF 6.0: every directory and every value lies inside, no directory comes twice."""
    order = "<" if body[:2] == b"II" else ">"
    seen: set[int] = set()
    entries = 0
    try:
        (place,) = struct.unpack_from(f"{order}I", body, 4)
        while place:
            if place in seen or place < 8 or entries > _MOST_ENTRIES:
                return Message("its parts are damaged")
            seen.add(place)
            (count,) = struct.unpack_from(f"{order}H", body, place)
            entries += count
            for number in range(count):
                _tag, kind, values, where = struct.unpack_from(f"{order}HHII", body, place + 2 + 12 * number)
                size = _TIFF_SIZES.get(kind, 0) * values
                if not size or (size > 4 and where + size > len(body)):
                    return Message("its parts are damaged")
            (place,) = struct.unpack_from(f"{order}I", body, place + 2 + 12 * count)
    except struct.error:
        return Message("it ends in the middle")
    return None if seen else Message("it shows nothing")


def _nothing_behind(end: int, body: bytes) -> Message | None:
    return None if end == len(body) else Message("something follows behind its end")
