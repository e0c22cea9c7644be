"""AES-GCM for a token that has the block cipher but not the mode (NIST SP 800-38D), for keys that are used once.

The token enciphers the counter blocks; what is left to do in the host is an XOR and the GHASH polynomial. The key does
not leave the token, but the hash subkey H does, and who knows H can forge under the same key. For the content key of
one sealed order that is nothing: it opens one message, whose plaintext the host is about to see, and is destroyed. For
a key that lives on it would be the end, so keys that seal do not use this.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final

_BLOCK: Final = 16
_NONCE: Final = 12
# x^128 + x^7 + x^2 + x + 1 with the bits in GCM's order (SP 800-38D 6.3)
_REDUCTION: Final = 0xE1 << 120


def open_sealed(
    encrypt_blocks: Callable[[bytes], bytes], nonce: bytes, sealed: bytes, aad: bytes = b""
) -> bytes | None:
    """The plaintext of ciphertext ‖ tag (16 bytes) under a nonce of 12, or None if the tag is wrong.

    `encrypt_blocks` enciphers any number of blocks of 16 bytes, each by itself. It is called once, whether the tag is
    right or not.
    """
    ciphertext, tag = sealed[:-_BLOCK], sealed[-_BLOCK:]
    count = -(-len(ciphertext) // _BLOCK)
    # the block for H, then J0, whose keystream masks the tag, then the counters of the content (SP 800-38D 7.2)
    counters = b"".join(nonce + number.to_bytes(4) for number in range(1, count + 2))
    stream = encrypt_blocks(bytes(_BLOCK) + counters)
    lengths = (8 * len(aad)).to_bytes(8) + (8 * len(ciphertext)).to_bytes(8)
    digest = _ghash(stream[:_BLOCK], _padded(aad) + _padded(ciphertext) + lengths)
    plaintext = _xor(ciphertext, stream[2 * _BLOCK :])
    return plaintext if hmac.compare_digest(_xor(digest, stream[_BLOCK : 2 * _BLOCK]), tag) else None


def _ghash(subkey: bytes, blocks: bytes) -> bytes:
    """GHASH (SP 800-38D 6.4)."""
    powers = []  # H times x^0 … x^127
    value = int.from_bytes(subkey)
    for _ in range(128):
        powers.append(value)
        value = (value >> 1) ^ (_REDUCTION if value & 1 else 0)
    total = 0
    for at in range(0, len(blocks), _BLOCK):
        total ^= int.from_bytes(blocks[at : at + _BLOCK])
        product = 0
        for place, power in enumerate(powers):
            product ^= power * (total >> (127 - place) & 1)
        total = product
    return total.to_bytes(_BLOCK)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _BLOCK)


def _xor(left: bytes, right: bytes) -> bytes:
    """XOR over the length of the shorter."""
    return bytes(a ^ b for a, b in zip(left, right, strict=False))
