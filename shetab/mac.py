"""Message authentication codes in software: for the switch simulator and as reference beside the token's.

ANSI X9.19 (ISO/IEC 9797-1 algorithm 3) for links that still use it, AES-CMAC (NIST SP 800-38B) truncated to 8 bytes
for ours. The input is `Dialect.mac_input`. Which of them a zone uses is agreed between its two ends (`shetab.zone`).
"""

from __future__ import annotations

import hmac
from enum import StrEnum
from typing import Final, Literal

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

from shetab.errors import MacFormatError

MAC_SIZE: Final = 8
_BLOCK: Final = 8


class MacAlgorithm(StrEnum):
    """How the messages of a zone are authenticated. The values are those of the settings and the dialects."""

    AES_CMAC = "aes-cmac"
    X9_19 = "x9.19"
    """ANSI X9.19, ISO/IEC 9797-1 algorithm 3 with padding method 1: zeros, up to whole blocks."""
    X9_19_PADDING_2 = "x9.19-padding-2"
    """The same with padding method 2: 80, then zeros."""

    @property
    def padding(self) -> Literal[1, 2] | None:
        """The padding method of ISO/IEC 9797-1; None for CMAC, which has its own."""
        match self:
            case MacAlgorithm.X9_19:
                return 1
            case MacAlgorithm.X9_19_PADDING_2:
                return 2
            case _:
                return None


def zone_mac(algorithm: MacAlgorithm, key: bytes, data: bytes) -> bytes:
    """The MAC of `data` as a zone of `algorithm` makes it, 8 bytes.

    :raises MacFormatError: a key of another length, or no data under padding method 1.
    """
    padding = algorithm.padding
    return message_mac(key, data) if padding is None else retail_mac(key, data, padding)


def verify_zone_mac(algorithm: MacAlgorithm, key: bytes, data: bytes, mac: bytes) -> bool:
    """True if `mac` (8 bytes) is the MAC of `data`. Constant time; False for a MAC of any other length."""
    return len(mac) == MAC_SIZE and hmac.compare_digest(zone_mac(algorithm, key, data), mac)


def aes_cmac(key: bytes, data: bytes) -> bytes:
    """AES-CMAC of `data`, all 16 bytes. `key` has 16, 24 or 32 bytes.

    :raises MacFormatError: a key of another length.
    """
    if len(key) not in (16, 24, 32):
        raise MacFormatError(f"an AES key has 16, 24 or 32 bytes, not {len(key)}")
    cmac = CMAC(algorithms.AES(key))
    cmac.update(data)
    return cmac.finalize()


def message_mac(key: bytes, data: bytes) -> bytes:
    """The MAC of our link: AES-CMAC, leftmost 8 bytes (SP 800-38B 6.2, MSB_64)."""
    return aes_cmac(key, data)[:MAC_SIZE]


def verify_message_mac(key: bytes, data: bytes, mac: bytes) -> bool:
    """True if `mac` (8 bytes) is the MAC of `data`. Constant time; False for a MAC of any other length."""
    return len(mac) == MAC_SIZE and hmac.compare_digest(message_mac(key, data), mac)


def retail_mac(key: bytes, data: bytes, padding: Literal[1, 2] = 1) -> bytes:
    """ANSI X9.19 retail MAC, 8 bytes: single DES CBC under K1, the last block decrypted with K2 and encrypted with K1.

    :param key: 16 bytes, K1 ‖ K2. :param padding: ISO/IEC 9797-1 method 1 (zeros) or 2 (80 00…), by agreement.
    :raises MacFormatError: a key of another length, or no data under padding 1.
    """
    if len(key) != 16:
        raise MacFormatError(f"a retail MAC key has 16 bytes, not {len(key)}")
    data = padded(data, padding)
    first, second = key[:8], key[8:]
    # Three equal keys make triple DES the single DES that `cryptography` no longer offers by itself.
    chain = Cipher(TripleDES(first * 3), modes.CBC(bytes(_BLOCK))).encryptor()
    last = (chain.update(data) + chain.finalize())[-_BLOCK:]
    opened = Cipher(TripleDES(second * 3), modes.ECB()).decryptor()  # noqa: S305  # one block, as X9.19 says
    middle = opened.update(last) + opened.finalize()
    closed = Cipher(TripleDES(first * 3), modes.ECB()).encryptor()  # noqa: S305  # as above
    return closed.update(middle) + closed.finalize()


def padded(data: bytes, padding: Literal[1, 2]) -> bytes:
    """`data` in whole blocks of 8 bytes, by padding method 1 or 2 of ISO/IEC 9797-1.

    :raises MacFormatError: no data under method 1, which could not be told from zeros.
    """
    if padding == 2:
        data += b"\x80"
    elif not data:
        raise MacFormatError("padding method 1 cannot carry an empty message")
    return data + bytes(-len(data) % _BLOCK)
