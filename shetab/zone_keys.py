"""Zone keys from components: each custodian holds one, the key is their XOR (ISO 11568-2 4.4).

New working keys travel under the zone master key (ZMK), an AES key of components, by AES key wrap (RFC 3394).

A component file is one line of hexadecimal text, upper or lower case, as long as the key. Parity bits of DES keys are
no part of a key: components may have any, the key that they make has odd parity.

An X9.19 MAC key K1 ‖ K2 comes as a pair: the chain of the MAC is single DES under K1, which a token does with a triple
DES key of three equal parts. So that K1 need never be outside a token, both are wrapped, and sent, one after the other.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Final, Literal

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from shetab.errors import ValueFormatError
from shetab.mac import aes_cmac, retail_mac

KeyAlgorithm = Literal["des2", "des3", "aes-128", "aes-256"]
KEY_SIZES: Final[dict[KeyAlgorithm, int]] = {"des2": 16, "des3": 24, "aes-128": 16, "aes-256": 32}
KEY_SIZE: Final = 16
WRAPPING: Final = 8
"""Bytes that AES key wrap adds."""
_PART: Final = 8

_WEAK_PARTS: Final = frozenset(
    bytes.fromhex(each)
    for each in (
        *("0101010101010101", "FEFEFEFEFEFEFEFE", "E0E0E0E0F1F1F1F1", "1F1F1F1F0E0E0E0E"),
        *("011F011F010E010E", "1F011F010E010E01", "01E001E001F101F1", "E001E001F101F101"),
        *("01FE01FE01FE01FE", "FE01FE01FE01FE01", "1FE01FE00EF10EF1", "E01FE01FF10EF10E"),
        *("1FFE1FFE0EFE0EFE", "FE1FFE1FFE0EFE0E", "E0FEE0FEF1FEF1FE", "FEE0FEE0FEF1FEF1"),
    )
)
"""The weak and semi-weak keys of DES, with odd parity (NIST SP 800-67 rev. 2, 3.4.2)."""


def parse_component(text: bytes, size: int = KEY_SIZE) -> bytes:
    """The `size` bytes of a component file.

    :raises ValueFormatError: not that many hexadecimal digits, or all zero (a custodian who contributes nothing).
    """
    try:
        component = binascii.unhexlify(text.strip())
    except binascii.Error:
        component = b""
    if len(component) != size or not any(component):
        raise ValueFormatError("zone key component", f"must be {2 * size} hexadecimal digits, not all zero")
    return component


def combine(components: Sequence[bytes]) -> bytes:
    """XOR of two or more components, all of 16, 24 or 32 bytes.

    :raises ValueFormatError: fewer than two, another size or several, two that are equal, or that cancel out.
    """
    sizes = {len(component) for component in components}
    if len(components) < 2 or len(sizes) != 1 or not sizes <= set(KEY_SIZES.values()):
        raise ValueFormatError("zone key", "needs at least two components of 16, 24 or 32 bytes, all of one size")
    if len(set(components)) != len(components):
        raise ValueFormatError("zone key", "two components are equal and cancel out")
    key = bytes(sizes.pop())
    for component in components:
        key = bytes(a ^ b for a, b in zip(key, component, strict=True))
    if not any(key):
        raise ValueFormatError("zone key", "components cancel out")
    return key


def check_strength(algorithm: KeyAlgorithm, key: bytes) -> None:
    """Nothing, or what forbids `key` as one of `algorithm`.

    :raises ValueFormatError: another size; or triple DES with a weak or semi-weak part, or with two parts that are
        equal, which would be single or double DES (NIST SP 800-67 rev. 2, 3.4).
    """
    if len(key) != KEY_SIZES[algorithm]:
        raise ValueFormatError("zone key", f"of {algorithm} has {KEY_SIZES[algorithm]} bytes")
    if algorithm in ("des2", "des3"):
        odd = with_odd_parity(key)
        parts = [odd[at : at + _PART] for at in range(0, len(odd), _PART)]
        if len(set(parts)) != len(parts) or _WEAK_PARTS.intersection(parts):
            raise ValueFormatError("zone key", "has equal or weak parts: it would be no stronger than single DES")


def with_odd_parity(key: bytes) -> bytes:
    """`key` with the lowest bit of each byte set for odd parity, as DES keys are kept (some tokens insist)."""
    return bytes((byte & 0xFE) | (1 - (byte >> 1).bit_count() % 2) for byte in key)


def tdes_kcv(key: bytes) -> str:
    """Key check value of a TDES key: first 3 bytes of eight zero bytes encrypted, hexadecimal (ANSI X9.24-1)."""
    encryptor = Cipher(TripleDES((key + key[:_PART])[:24]), modes.ECB()).encryptor()  # noqa: S305  # as a KCV is defined
    return (encryptor.update(bytes(8)) + encryptor.finalize())[:3].hex().upper()


def aes_kcv(key: bytes) -> str:
    """Key check value of an AES key: first 3 bytes of the CMAC of sixteen zero bytes (ANSI X9.24-1 annex A)."""
    return aes_cmac(key, bytes(16))[:3].hex().upper()


def pair_kcv(key: bytes) -> str:
    """Check value of an X9.19 key: that of the TDES key, and the first 3 bytes of the MAC of sixteen zero bytes.

    12 hexadecimal digits. The second half tells whether the single DES part is that of the same key.
    """
    return tdes_kcv(key) + retail_mac(key, bytes(16))[:3].hex().upper()


def kcv(algorithm: KeyAlgorithm, key: bytes, *, pair: bool = False) -> str:
    """The check value of a key of `algorithm`, hexadecimal; `pair` for one of X9.19."""
    if pair:
        return pair_kcv(key)
    return tdes_kcv(key) if algorithm in ("des2", "des3") else aes_kcv(key)


HIGHEST_INDEX: Final = 99


def next_index(index: int) -> int:
    """The index of the key that follows the one of `index`: 1 after 99."""
    return index % HIGHEST_INDEX + 1


def single_des_part(key: bytes) -> bytes:
    """K1 of an X9.19 key as triple DES of three equal parts, which is single DES: 24 bytes."""
    return key[:_PART] * 3


def wrap(master: bytes, key: bytes) -> bytes:
    """A working key under the zone master key (16 or 32 bytes): 8 bytes longer than the key (RFC 3394)."""
    return aes_key_wrap(master, key)


def wrap_pair(master: bytes, key: bytes) -> bytes:
    """An X9.19 key under the zone master key: K1 ‖ K2 wrapped (24 bytes), then `single_des_part` wrapped (32 bytes)."""
    return wrap(master, key) + wrap(master, single_des_part(key))


def unwrap(master: bytes, wrapped: bytes) -> bytes:
    """The working key in `wrapped`.

    :raises ValueFormatError: it is not one under this master key.
    """
    try:
        return aes_key_unwrap(master, wrapped)
    except (InvalidUnwrap, ValueError):
        raise ValueFormatError("wrapped zone key", "must be a key under the zone master key") from None


def unwrap_pair(master: bytes, wrapped: bytes) -> bytes:
    """The X9.19 key K1 ‖ K2 in `wrapped`.

    :raises ValueFormatError: it is not one under this master key, or its two parts belong to different keys.
    """
    first = KEY_SIZES["des2"] + WRAPPING
    key = unwrap(master, wrapped[:first])
    if unwrap(master, wrapped[first:]) != single_des_part(key):
        raise ValueFormatError("wrapped zone key", "has a single DES part of another key")
    return key
