"""DER: one value, one encoding, one limit."""

from __future__ import annotations

from typing import Annotated

import pytest
from cryptography.hazmat import asn1
from hypothesis import given
from hypothesis import strategies as st

from pki import der
from pki.der import remembered
from pki.errors import DerError, PkiError
from tests.support.der_surgery import indefinite, long_length


@asn1.sequence
class Pair:
    number: int
    flag: Annotated[bool, asn1.Default(False)]


PAIR = bytes.fromhex("30060201070101ff")


def test_decode_reads_what_encode_writes() -> None:
    pair = der.decode(Pair, PAIR)
    assert (pair.number, pair.flag) == (7, True)
    assert der.encode(pair) == PAIR


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("truncated", PAIR[:-1]),
        ("empty", b""),
        ("trailing byte", PAIR + b"\x00"),
        ("indefinite length", indefinite(PAIR)),
        ("long length", long_length(PAIR)),
        ("another tag", b"\x31" + PAIR[1:]),
        ("integer with a leading zero", bytes.fromhex("3007020200070101ff")),
        ("boolean true that is not ff", bytes.fromhex("3006020107010101")),
        ("default written out", bytes.fromhex("3006020107010100")),
        ("member missing", bytes.fromhex("30030101ff")),
        ("member too many", bytes.fromhex("30090201070101ff020101")),
    ],
)
def test_decode_refuses_everything_but_the_one_encoding(name: str, data: bytes) -> None:
    with pytest.raises(DerError) as refused:
        der.decode(Pair, data)
    assert refused.value.reason in {"malformed", "not_canonical"}


def test_decode_refuses_a_value_that_the_parser_takes_but_would_write_otherwise() -> None:
    with pytest.raises(DerError) as refused:
        der.decode(LaxPair, bytes.fromhex("3003020107"))
    assert refused.value.reason == "not_canonical"


@asn1.sequence
class LaxPair:
    """Stands for a structure whose parser tolerates another spelling: it reads one number and writes another."""

    number: int

    def __post_init__(self) -> None:
        self.number += 1


def test_decode_refuses_more_bytes_than_its_limit_before_reading_them() -> None:
    with pytest.raises(DerError) as refused:
        der.decode(Pair, PAIR, limit=7)
    assert refused.value.reason == "too_big"
    assert der.decode(Pair, PAIR, limit=8).number == 7


def test_errors_never_quote_the_bytes_they_refuse() -> None:
    with pytest.raises(DerError) as refused:
        der.decode(Pair, b"\x30\x06secret")
    assert "secret" not in str(refused.value)
    assert isinstance(refused.value, PkiError)
    assert refused.value.clause == "KWBP global rule 1"


def test_sha256_is_the_known_one() -> None:
    assert der.sha256(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65_535, 65_536])
def test_tlv_writes_the_minimal_length(size: int) -> None:
    assert der.tlv(0x04, bytes(size)) == der.encode(bytes(size))


def test_any_value_keeps_an_element_as_it_is() -> None:
    assert der.encode(der.any_value(PAIR)) == PAIR
    with pytest.raises(DerError):
        der.any_value(PAIR + b"\x00")


def test_numeric_string_has_its_own_tag() -> None:
    value = der.numeric_string("603799")
    assert der.encode(value) == b"\x12\x06603799"
    assert der.numeric_text(value) == "603799"


@pytest.mark.parametrize("text", ["", "60379a", "60 799", "۶۰۳۷۹۹", "²"])
def test_numeric_string_takes_ascii_digits_only(text: str) -> None:
    with pytest.raises(ValueError, match="ASCII digits"):
        der.numeric_string(text)


@pytest.mark.parametrize("data", [b"\x12\x00", b"\x12\x02 1", b"\x0c\x011", b"\x12\x021a"])
def test_numeric_text_refuses_other_strings(data: bytes) -> None:
    with pytest.raises(DerError):
        der.numeric_text(der.any_value(data))


@given(st.binary(max_size=64))
def test_whatever_decodes_has_exactly_those_bytes(data: bytes) -> None:
    try:
        pair = der.decode(Pair, data)
    except DerError:
        return
    assert der.encode(pair) == data


def test_what_is_remembered_is_short_and_was_no_error() -> None:
    asked: list[bytes] = []

    @remembered(2, longest=3)
    def size(data: bytes) -> int:
        asked.append(data)
        if not data:
            raise ValueError("empty")
        return len(data)

    assert [size(data) for data in (b"abc", b"abc", b"abcd", b"abcd")] == [3, 3, 4, 4]
    for _ in range(2):
        with pytest.raises(ValueError, match="empty"):
            size(b"")
    assert asked == [b"abc", b"abcd", b"abcd", b"", b""]
