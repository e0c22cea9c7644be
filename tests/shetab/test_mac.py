"""MACs: the vectors, OpenSSL's CMAC, and that a wrong MAC never verifies."""

from __future__ import annotations

import shutil
import subprocess
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shetab.errors import MacFormatError
from shetab.mac import aes_cmac, message_mac, retail_mac, verify_message_mac

_TEXT = b"0200KWBP-MAC-TEST"
_RETAIL_KEY = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
_AES_KEY = bytes(range(16))


@pytest.mark.parametrize(("padding", "mac"), [(1, "7425C2B8AB5E6107"), (2, "17D0AB9BF4BEBD04")])
def test_retail_mac_vectors(padding: Literal[1, 2], mac: str) -> None:
    assert retail_mac(_RETAIL_KEY, _TEXT, padding).hex().upper() == mac


def test_retail_mac_of_whole_blocks_needs_padding_in_method_2_only() -> None:
    assert retail_mac(_RETAIL_KEY, bytes(8), 1) == retail_mac(_RETAIL_KEY, bytes(5), 1)
    assert retail_mac(_RETAIL_KEY, bytes(8), 2) != retail_mac(_RETAIL_KEY, bytes(5), 2)
    assert len(retail_mac(_RETAIL_KEY, b"", 2)) == 8


def test_aes_cmac_vector() -> None:
    assert aes_cmac(_AES_KEY, _TEXT).hex().upper() == "CC9BFC140B019E0709F66CF46FBD31C3"
    assert message_mac(_AES_KEY, _TEXT).hex().upper() == "CC9BFC140B019E07"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_computes_the_same_cmac() -> None:
    done = subprocess.run(
        ["openssl", "mac", "-cipher", "AES-128-CBC", "-macopt", f"hexkey:{_AES_KEY.hex()}", "CMAC"],
        input=_TEXT,
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode("ascii").strip() == aes_cmac(_AES_KEY, _TEXT).hex().upper()


@given(st.binary(min_size=1, max_size=64), st.integers(0, 63))
def test_a_mac_with_one_bit_changed_does_not_verify(data: bytes, bit: int) -> None:
    mac = message_mac(_AES_KEY, data)
    assert verify_message_mac(_AES_KEY, data, mac)
    forged = (int.from_bytes(mac, "big") ^ 1 << bit).to_bytes(8, "big")
    assert not verify_message_mac(_AES_KEY, data, forged)


@pytest.mark.parametrize("mac", [b"", bytes(7), aes_cmac(_AES_KEY, _TEXT)])
def test_a_mac_of_another_length_does_not_verify(mac: bytes) -> None:
    assert not verify_message_mac(_AES_KEY, _TEXT, mac)


def test_wrong_keys_and_empty_input() -> None:
    with pytest.raises(MacFormatError):
        aes_cmac(bytes(8), _TEXT)
    with pytest.raises(MacFormatError):
        retail_mac(bytes(24), _TEXT)
    with pytest.raises(MacFormatError):
        retail_mac(_RETAIL_KEY, b"", 1)
