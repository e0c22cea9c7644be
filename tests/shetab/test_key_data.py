"""A zone key in DE 60 and 96."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shetab.errors import ValueFormatError
from shetab.key_data import ZoneKeyData


@given(st.binary(min_size=24, max_size=56), st.sampled_from([3, 6]))
def test_round_trip(wrapped: bytes, size: int) -> None:
    data = ZoneKeyData(wrapped, bytes(range(size)))
    fields = data.to_fields()
    assert len(fields[96]) == 48
    assert ZoneKeyData.from_fields(fields) == data


def test_a_key_of_16_bytes_is_as_it_always_was() -> None:
    assert ZoneKeyData(bytes(24), b"\x08\xd7\xb4").to_fields() == {60: "08D7B4", 96: "00" * 24}


@pytest.mark.parametrize(
    ("de60", "de96"),
    [
        ("", "00" * 24),
        ("08D7B4", ""),
        ("08D7B4", "00" * 23),
        ("08D7B4 ", "00" * 24),
        ("08D7B4 00 00", "00" * 24),
        ("08d7b4", "00" * 24),
        ("08D7", "00" * 24),
        ("08D7B4 0", "00" * 24),
        ("08D7B4 " + "00" * 200, "00" * 24),
        ("XYZ", "00" * 24),
        ("08D7B4", "0" * 47 + "X"),
    ],
)
def test_another_form_is_refused_without_a_digit_of_it(de60: str, de96: str) -> None:
    with pytest.raises(ValueFormatError) as refusal:
        ZoneKeyData.from_fields({60: de60, 96: de96})
    assert "08D7B4" not in str(refusal.value)
    with pytest.raises(ValueFormatError):
        ZoneKeyData.from_fields({})
