"""GCM from single blocks is the GCM of independent software."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from hsm_service.gcm_from_blocks import open_sealed

KEYS = st.binary(min_size=32, max_size=32)
NONCES = st.binary(min_size=12, max_size=12)


def opened(key: bytes, nonce: bytes, sealed: bytes, aad: bytes) -> bytes | None:
    return open_sealed(Cipher(algorithms.AES(key), modes.ECB()).encryptor().update, nonce, sealed, aad)  # noqa: S305


@settings(max_examples=40, deadline=None)
@given(KEYS, NONCES, st.binary(max_size=100), st.binary(max_size=40))
def test_what_independent_software_sealed_opens(key: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> None:
    assert opened(key, nonce, AESGCM(key).encrypt(nonce, plaintext, aad), aad) == plaintext


@settings(max_examples=40, deadline=None)
@given(KEYS, NONCES, st.binary(max_size=40), st.data())
def test_a_single_changed_bit_anywhere_does_not_open(
    key: bytes, nonce: bytes, plaintext: bytes, data: st.DataObject
) -> None:
    sealed = bytearray(AESGCM(key).encrypt(nonce, plaintext, None))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    assert opened(key, nonce, bytes(sealed), b"") is None


@settings(max_examples=10, deadline=None)
@given(KEYS, NONCES)
def test_additional_data_is_authenticated(key: bytes, nonce: bytes) -> None:
    sealed = AESGCM(key).encrypt(nonce, b"content", b"right")
    assert opened(key, nonce, sealed, b"wrong") is None
