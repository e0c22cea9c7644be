"""Clear PIN blocks of ISO 9564-1, formats 0 and 3, and their encryption under a double-length TDES zone PIN key.

Format 3 is preferred on a TDES link: format 0 gives the same block for the same PIN, PAN and key. No function turns a
block of one format into another: a PIN is built into a block once and checked once.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from shetab.errors import PinBlockError, ShetabError
from shetab.types import Pan, Pin

BLOCK_SIZE: Final = 8
_FILL_A_TO_F: Final = "ABCDEF"


class PinBlockFormat(IntEnum):
    """ISO 9564-1 control field of the formats this link knows."""

    FORMAT_0 = 0
    FORMAT_3 = 3


def build(block_format: PinBlockFormat, pin: Pin, pan: Pan, *, rng: Callable[[int], bytes]) -> bytes:
    """The clear 8-byte PIN block, ISO 9564-1 9.3.2 (format 0) or 9.3.5 (format 3).

    :param rng: `rng(n)` gives n random bytes; used by format 3 only.
    """
    digits = pin.reveal()
    head = f"{int(block_format):X}{len(digits):X}{digits}"
    count = 2 * BLOCK_SIZE - len(head)
    fill = "F" * count if block_format is PinBlockFormat.FORMAT_0 else _random_fill(count, rng)
    return _xor(bytes.fromhex(head + fill), _pan_field(pan))


def parse(block: bytes, pan: Pan, *, allowed: frozenset[PinBlockFormat] = frozenset(PinBlockFormat)) -> Pin:
    """The PIN of a clear block.

    :raises PinBlockError: one and the same error for a wrong size, format, length, digit or fill, and so for a block
        under a wrong key or PAN.
    """
    if len(block) != BLOCK_SIZE:
        raise PinBlockError
    text = _xor(block, _pan_field(pan)).hex().upper()
    control, length = int(text[0], 16), int(text[1], 16)
    digits, fill = text[2 : 2 + length], text[2 + length :]
    good_fill = {int(PinBlockFormat.FORMAT_0): "F", int(PinBlockFormat.FORMAT_3): _FILL_A_TO_F}.get(control, "")
    if control not in allowed or any(character not in good_fill for character in fill):
        raise PinBlockError
    try:
        return Pin.parse(digits)
    except ShetabError:
        pass
    raise PinBlockError


def encrypt(block: bytes, zone_pin_key: bytes) -> bytes:
    """TDES-ECB of one 8-byte block under the 16-byte key K1 ‖ K2 (keying option 2).

    :raises PinBlockError: block or key of another size.
    """
    encryptor = _cipher(block, zone_pin_key).encryptor()
    return encryptor.update(block) + encryptor.finalize()


def decrypt(block: bytes, zone_pin_key: bytes) -> bytes:
    """Inverse of `encrypt`.

    :raises PinBlockError: block or key of another size.
    """
    decryptor = _cipher(block, zone_pin_key).decryptor()
    return decryptor.update(block) + decryptor.finalize()


def _cipher(block: bytes, key: bytes) -> Cipher[modes.ECB]:
    if len(block) != BLOCK_SIZE or len(key) != 16:
        raise PinBlockError
    return Cipher(TripleDES(key + key[:8]), modes.ECB())  # noqa: S305  # a PIN block is one block, ISO 9564-1


def _pan_field(pan: Pan) -> bytes:
    """ISO 9564-1: 0000 and the 12 rightmost digits of the PAN without its check digit."""
    return bytes.fromhex(f"0000{pan.reveal()[-13:-1]}")


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def _random_fill(count: int, rng: Callable[[int], bytes]) -> str:
    """`count` letters A to F, each equally likely: bytes from 252 on are thrown away, 252 being a multiple of six."""
    fill = ""
    while len(fill) < count:
        fill += "".join(_FILL_A_TO_F[byte % 6] for byte in rng(count) if byte < 252)
    return fill[:count]
