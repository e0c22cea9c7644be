"""Zone keys from components: each custodian holds one, the key is their XOR (ISO 11568-2 4.4).

New working keys travel under the zone master key (ZMK), another AES-128 key of components, by AES key wrap (RFC 3394).

A component file is one line of hexadecimal text, upper or lower case. The zone PIN key (ZPK) is a double-length TDES
key, the zone MAC key (ZAK) an AES-128 key: 16 bytes either way.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from shetab.errors import ValueFormatError
from shetab.mac import aes_cmac

KEY_SIZE: Final = 16


def parse_component(text: bytes) -> bytes:
    """The 16 bytes of a component file.

    :raises ValueFormatError: not 32 hexadecimal digits, or all zero (a custodian who contributes nothing).
    """
    try:
        component = binascii.unhexlify(text.strip())
    except binascii.Error:
        component = b""
    if len(component) != KEY_SIZE or not any(component):
        raise ValueFormatError("zone key component", "must be 32 hexadecimal digits, not all zero")
    return component


def combine(components: Sequence[bytes]) -> bytes:
    """XOR of two or more components of 16 bytes.

    :raises ValueFormatError: fewer than two, another size, or components that cancel out.
    """
    if len(components) < 2 or any(len(component) != KEY_SIZE for component in components):
        raise ValueFormatError("zone key", "needs at least two components of 16 bytes")
    key = bytes(KEY_SIZE)
    for component in components:
        key = bytes(a ^ b for a, b in zip(key, component, strict=True))
    if not any(key):
        raise ValueFormatError("zone key", "components cancel out")
    return key


def with_odd_parity(key: bytes) -> bytes:
    """`key` with the lowest bit of each byte set for odd parity, as DES keys are kept (some tokens insist)."""
    return bytes((byte & 0xFE) | (1 - (byte >> 1).bit_count() % 2) for byte in key)


def tdes_kcv(key: bytes) -> str:
    """Key check value of a ZPK: first 3 bytes of eight zero bytes encrypted, as 6 hexadecimal digits (ANSI X9.24-1)."""
    encryptor = Cipher(TripleDES(key + key[:8]), modes.ECB()).encryptor()  # noqa: S305  # the definition of a KCV
    return (encryptor.update(bytes(8)) + encryptor.finalize())[:3].hex().upper()


def aes_kcv(key: bytes) -> str:
    """Key check value of a ZAK: first 3 bytes of the CMAC of sixteen zero bytes (ANSI X9.24-1 annex A), hexadecimal."""
    return aes_cmac(key, bytes(16))[:3].hex().upper()


HIGHEST_INDEX: Final = 99


def next_index(index: int) -> int:
    """The index of the key that follows the one of `index`: 1 after 99."""
    return index % HIGHEST_INDEX + 1


def wrap(master: bytes, key: bytes) -> bytes:
    """A working key (16 bytes) under the zone master key (16 bytes): 24 bytes (RFC 3394)."""
    return aes_key_wrap(master, key)


def unwrap(master: bytes, wrapped: bytes) -> bytes:
    """The working key in `wrapped`.

    :raises ValueFormatError: it is not one under this master key.
    """
    try:
        return aes_key_unwrap(master, wrapped)
    except (InvalidUnwrap, ValueError):
        raise ValueFormatError("wrapped zone key", "must be 24 bytes under the zone master key") from None
