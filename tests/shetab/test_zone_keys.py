"""Zone keys from components: XOR, check values, and custodians who contribute nothing."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shetab.errors import ValueFormatError
from shetab.zone_keys import aes_kcv, combine, parse_component, tdes_kcv, with_odd_parity


def test_components_combine_by_xor_in_any_order() -> None:
    first, second, third = os.urandom(16), os.urandom(16), os.urandom(16)
    assert combine([first, second, third]) == combine([third, first, second])
    assert combine([combine([first, second]), second]) == first


def test_component_file_is_one_line_of_hexadecimal() -> None:
    assert parse_component(b"000102030405060708090a0B0C0D0E0F\n") == bytes(range(16))


@pytest.mark.parametrize("text", [b"", b"00" * 16, b"01" * 15, b"01" * 17, b"0x" + b"01" * 15, b"zz" * 16, b"0" * 31])
def test_wrong_component_files(text: bytes) -> None:
    with pytest.raises(ValueFormatError) as refusal:
        parse_component(text)
    assert refusal.value.__context__ is None or not text


@pytest.mark.parametrize(
    "components",
    [[], [bytes(range(16))], [bytes(range(16))] * 2, [bytes(range(16)), bytes(range(24))]],
    ids=["none", "one", "cancelling", "sizes"],
)
def test_wrong_components(components: list[bytes]) -> None:
    with pytest.raises(ValueFormatError):
        combine(components)


def test_check_values() -> None:
    # The first is printed in many HSM manuals, the second comes from `openssl mac` over sixteen zero bytes.
    assert tdes_kcv(bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")) == "08D7B4"
    assert aes_kcv(bytes(range(16))) == "BE7ED6"


@given(st.binary(min_size=16, max_size=16))
def test_odd_parity(key: bytes) -> None:
    adjusted = with_odd_parity(key)
    assert all(byte.bit_count() % 2 == 1 for byte in adjusted)
    assert all(a & 0xFE == b & 0xFE for a, b in zip(key, adjusted, strict=True))
    assert tdes_kcv(key) == tdes_kcv(adjusted)
