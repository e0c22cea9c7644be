"""What a revocation list on disk says of itself, read around its entries, of which there may be any number."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Final

from cryptography import x509

from pki.der import tlv

_SEQUENCE: Final = 0x30
_HEAD: Final = 6  # identifier and length octets, at most
_LARGEST: Final = 64 * 1024  # bytes around the entries
_PLACEHOLDER: Final = b"\x03\x02\x00\x00"


@dataclass(frozen=True, slots=True)
class CrlOutline:
    """A list without its entries; `base_number` is a delta's."""

    number: int
    base_number: int | None
    this_update: datetime
    next_update: datetime


def crl_outline(file: BinaryIO) -> CrlOutline:
    """Read a list of ours (version 2, with nextUpdate and a number); ValueError for anything else. Nothing is verified.

    What stands around the entries is put together and read as a list of its own.
    """
    _tag, start, _length = _element(file, 0)
    _tag, place, length = _element(file, start)
    end = place + length
    members: list[bytes] = []
    while place < end:
        tag, content, size = _element(file, place)
        # Version, algorithm, issuer, two times: the next SEQUENCE is the entries.
        if not (len(members) == 5 and tag == _SEQUENCE):
            members.append(_read(file, place, content + size - place))
        place = content + size
    if len(members) < 6:
        raise ValueError("not a list of ours")
    around = x509.load_der_x509_crl(tlv(_SEQUENCE, tlv(_SEQUENCE, b"".join(members)) + members[1] + _PLACEHOLDER))
    try:
        number = around.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        raise ValueError("a list without a number") from None
    bases = [each.value.crl_number for each in around.extensions if isinstance(each.value, x509.DeltaCRLIndicator)]
    if around.next_update_utc is None:
        raise ValueError("a list without nextUpdate")
    return CrlOutline(number, bases[0] if bases else None, around.last_update_utc, around.next_update_utc)


def _element(file: BinaryIO, place: int) -> tuple[int, int, int]:
    """Tag, place of the content and its length of the DER element at `place`."""
    head = _read(file, place, 2)
    if head[1] < 0x80:
        return head[0], place + 2, head[1]
    octets = head[1] & 0x7F
    if not 1 <= octets <= _HEAD - 2:
        raise ValueError("a length is not one of a list")
    return head[0], place + 2 + octets, int.from_bytes(_read(file, place + 2, octets))


def _read(file: BinaryIO, place: int, size: int) -> bytes:
    if size > _LARGEST:
        raise ValueError("what stands around the entries is too long")
    file.seek(place)
    data = file.read(size)
    if len(data) < size:
        raise ValueError("it ends before its end")
    return data
