"""Small sound documents of every type that evidence may be, made here byte by byte."""

from __future__ import annotations

import struct
import zlib
from typing import Final


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


PNG_HEAD: Final = b"\x89PNG\r\n\x1a\n"
IHDR: Final = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
IDAT: Final = png_chunk(b"IDAT", zlib.compress(b"\x00\x7f"))
IEND: Final = png_chunk(b"IEND", b"")
PNG: Final = PNG_HEAD + IHDR + IDAT + IEND


def jpeg_part(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(data) + 2).to_bytes(2, "big") + data


JPEG: Final = (
    b"\xff\xd8"
    + jpeg_part(0xE0, b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00")
    + b"\xff"  # a fill byte (B.1.1.2)
    + jpeg_part(0xDB, bytes(65))
    + jpeg_part(0xDA, b"\x01\x01\x00\x00\x3f\x00")
    + b"\x12\xff\x00\x34\xff\xd0\x56"
    + b"\xff\xd9"
)


def tiff(order: str = "<", entries: bytes | None = None, following: int = 0) -> bytes:
    """One page, 1 × 1."""
    fields = [(256, 3, 1, 1), (257, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 1)]
    packed = entries if entries is not None else b"".join(struct.pack(f"{order}HHII", *each) for each in fields)
    count = struct.pack(f"{order}H", len(packed) // 12)
    head = (b"II*\x00" if order == "<" else b"MM\x00*") + struct.pack(f"{order}I", 8)
    return head + count + packed + struct.pack(f"{order}I", following)


def pdf(*objects: bytes, tail: bytes = b"") -> bytes:
    """A PDF of one empty page, with further `objects`, a cross-reference table and `tail` behind the end."""
    parts = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 72 72] >>",
        *objects,
    ]
    body, places = b"%PDF-1.7\n", []
    for number, part in enumerate(parts, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    table = b"xref\n0 %d\n0000000000 65535 f \n" % (len(parts) + 1)
    table += b"".join(b"%010d 00000 n \n" % place for place in places)
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(parts) + 1, len(body))
    return body + table + trailer + tail


def stream(content: bytes, entries: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(content), entries, content)


def object_stream(content: bytes, entries: bytes = b"/Filter /FlateDecode") -> bytes:
    """Objects packed into a stream: `content` is the one object numbered 9."""
    return stream(zlib.compress(b"9 0 " + content), b"/Type /ObjStm /N 1 /First 4 " + entries)


PDF: Final = pdf(stream(zlib.compress(b"0 0 m"), b"/Filter /FlateDecode"), object_stream(b"<< /Kind /Harmless >>"))
CMS: Final = bytes.fromhex("300f06092a864886f70d010702a0020500")
TEXT: Final = "قرارداد پذیرندگی\n".encode()
ZIP: Final = b"PK\x05\x06" + bytes(18)
"""An empty archive."""
