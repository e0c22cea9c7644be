"""PIN blocks of ISO 9564-1: formats 0 and 3 under a TDES zone PIN key, format 4 under an AES one.

Format 3 is preferred on a TDES link: format 0 gives the same block for the same PIN, PAN and key. Format 4 has two
fields of 16 bytes, that of the PIN and that of the PAN, which are joined between two encryptions (9.4.2.3). No function
turns a block of one format into another: a PIN is built into a block once and checked once. Formats 1 and 2, which no
PAN is bound to, do not exist here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from enum import IntEnum
from typing import Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from shetab.errors import PinBlockError, ShetabError
from shetab.types import Pan, Pin

BLOCK_SIZE: Final = 8
"""Bytes of a block of format 0 or 3."""
AES_BLOCK_SIZE: Final = 16
"""Bytes of a block of format 4, and of each of its fields."""
_FILL_A_TO_F: Final = "ABCDEF"


class PinBlockFormat(IntEnum):
    """ISO 9564-1 control field of the formats this link knows."""

    FORMAT_0 = 0
    FORMAT_3 = 3
    FORMAT_4 = 4

    @property
    def block_size(self) -> int:
        """Bytes of the encrypted block, as DE 52 carries it."""
        return AES_BLOCK_SIZE if self is PinBlockFormat.FORMAT_4 else BLOCK_SIZE


_TDES_FORMATS: Final = frozenset({PinBlockFormat.FORMAT_0, PinBlockFormat.FORMAT_3})


def build(block_format: PinBlockFormat, pin: Pin, pan: Pan, *, rng: Callable[[int], bytes]) -> bytes:
    """The clear 8-byte PIN block, ISO 9564-1 9.3.2 (format 0) or 9.3.5 (format 3).

    :param rng: `rng(n)` gives n random bytes; used by format 3 only.
    :raises PinBlockError: format 4, which has two fields and no clear block (`pin_field`, `pan_field`).
    """
    if block_format not in _TDES_FORMATS:
        raise PinBlockError
    digits = pin.reveal()
    head = f"{int(block_format):X}{len(digits):X}{digits}"
    count = 2 * BLOCK_SIZE - len(head)
    fill = "F" * count if block_format is PinBlockFormat.FORMAT_0 else _random_fill(count, rng)
    return _xor(bytes.fromhex(head + fill), _pan_field(pan))


def parse(block: bytes, pan: Pan, *, allowed: frozenset[PinBlockFormat] = _TDES_FORMATS) -> Pin:
    """The PIN of a clear block of format 0 or 3.

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
    return _pin(digits)


# -- format 4 (ISO 9564-1 9.4.2) ---------------------------------------------------------------------------------------


def pin_field(pin: Pin, *, rng: Callable[[int], bytes]) -> bytes:
    """The plain text PIN field of format 4, 16 bytes: 4, length, digits, fill of A, 8 random bytes (9.4.2.2)."""
    digits = pin.reveal()
    return bytes.fromhex(f"4{len(digits):X}{digits}".ljust(AES_BLOCK_SIZE, "A")) + rng(8)


def pan_field(pan: Pan) -> bytes:
    """The plain text PAN field of format 4, 16 bytes: digits beyond twelve, the PAN, zeros (9.4.2.2)."""
    digits = pan.reveal()
    padded = digits.rjust(12, "0")
    return bytes.fromhex(f"{max(0, len(digits) - 12):X}{padded}".ljust(2 * AES_BLOCK_SIZE, "0"))


def parse_pin_field(field: bytes) -> Pin:
    """The PIN of a plain text PIN field of format 4.

    :raises PinBlockError: one and the same error for a wrong size, format, length, digit or fill.
    """
    if len(field) != AES_BLOCK_SIZE:
        raise PinBlockError
    text = field[:BLOCK_SIZE].hex().upper()
    length = int(text[1], 16)
    digits, fill = text[2 : 2 + length], text[2 + length :]
    if text[0] != "4" or fill.strip("A"):
        raise PinBlockError
    return _pin(digits)


# -- blocks as DE 52 carries them --------------------------------------------------------------------------------------


def seal(
    block_format: PinBlockFormat, pin: Pin, pan: Pan, zone_pin_key: bytes, *, rng: Callable[[int], bytes]
) -> bytes:
    """The encrypted block: 8 bytes under a TDES key of 16 or 24 (formats 0 and 3), 16 under an AES key (format 4).

    :raises PinBlockError: the key does not fit the format.
    """
    if block_format in _TDES_FORMATS:
        return encrypt(build(block_format, pin, pan, rng=rng), zone_pin_key)
    encryptor = _aes(zone_pin_key).encryptor()
    first = encryptor.update(pin_field(pin, rng=rng))
    return encryptor.update(_xor(first, pan_field(pan)))


def unseal(block: bytes, pan: Pan, zone_pin_key: bytes, *, block_format: PinBlockFormat) -> Pin:
    """The PIN of an encrypted block, which must be of `block_format`.

    :raises PinBlockError: one and the same error for whatever is wrong: size, key, format, PAN, length, digit, fill.
    """
    if block_format in _TDES_FORMATS:
        return parse(decrypt(block, zone_pin_key), pan, allowed=frozenset({block_format}))
    if len(block) != AES_BLOCK_SIZE:
        raise PinBlockError
    decryptor = _aes(zone_pin_key).decryptor()
    joined = decryptor.update(block)
    return parse_pin_field(decryptor.update(_xor(joined, pan_field(pan))))


def encrypt(block: bytes, zone_pin_key: bytes) -> bytes:
    """TDES-ECB of one 8-byte block under a key of 16 bytes, K1 ‖ K2 (keying option 2), or 24 (option 1).

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
    if len(block) != BLOCK_SIZE or len(key) not in (16, 24):
        raise PinBlockError
    return Cipher(TripleDES((key + key[:8])[:24]), modes.ECB())  # noqa: S305  # a PIN block is one block, ISO 9564-1


def _aes(key: bytes) -> Cipher[modes.ECB]:
    if len(key) not in (16, 32):
        raise PinBlockError
    return Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305  # single blocks, as ISO 9564-1 9.4.2.3 says


def _pin(digits: str) -> Pin:
    pin = None
    with contextlib.suppress(ShetabError):
        pin = Pin.parse(digits)
    # Raised out here: the exception of the parser would be its context.
    if pin is None:
        raise PinBlockError
    return pin


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
