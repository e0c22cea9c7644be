"""PIN blocks: the vectors, formats 0 and 3, and one error for whatever is wrong."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from shetab.errors import PinBlockError
from shetab.iran import pan_from
from shetab.pin_block import (
    PinBlockFormat,
    build,
    decrypt,
    encrypt,
    pan_field,
    parse,
    parse_pin_field,
    seal,
    unseal,
)
from shetab.types import Pan, Pin

_PAN = Pan("6037991234567893")
_KEY = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")

pins = st.text("0123456789", min_size=4, max_size=12).map(Pin)
pans = st.text("0123456789", min_size=15, max_size=18).map(pan_from)
formats = st.sampled_from([PinBlockFormat.FORMAT_0, PinBlockFormat.FORMAT_3])


def _no_randomness(count: int) -> bytes:
    raise AssertionError(f"{count} random bytes were asked for")


def test_format_0_vector() -> None:
    block = build(PinBlockFormat.FORMAT_0, Pin("12345"), _PAN, rng=_no_randomness)
    assert block.hex().upper() == "05124DCEDCBA9876"
    assert encrypt(block, _KEY).hex().upper() == "F92D1CFCC2103E10"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_encrypts_the_same_block_to_the_same_bytes() -> None:
    block = os.urandom(8)
    done = subprocess.run(
        ["openssl", "enc", "-des-ede-ecb", "-K", _KEY.hex(), "-nopad"], input=block, capture_output=True, check=True
    )
    assert done.stdout == encrypt(block, _KEY)


def test_format_3_fills_with_a_to_f_and_skips_bytes_that_would_favour_some() -> None:
    served = iter([bytes([252, 253, 254, 255, 0, 1, 2, 3, 4]), bytes([5, 6, 7, 8, 9, 10, 11, 12, 13])])
    block = build(PinBlockFormat.FORMAT_3, Pin("12345"), _PAN, rng=lambda count: next(served)[:count])
    pan_field = bytes.fromhex("0000799123456789")
    clear = bytes(a ^ b for a, b in zip(block, pan_field, strict=True)).hex().upper()
    assert clear == "3512345" + "ABCDEFABC"


@given(formats, pins, pans)
def test_round_trip(block_format: PinBlockFormat, pin: Pin, pan: Pan) -> None:
    block = build(block_format, pin, pan, rng=os.urandom)
    assert parse(decrypt(encrypt(block, _KEY), _KEY), pan) == pin


def test_format_0_repeats_itself_and_format_3_does_not() -> None:
    def twice(block_format: PinBlockFormat) -> int:
        return len({build(block_format, Pin("1234"), _PAN, rng=os.urandom) for _ in range(2)})

    assert (twice(PinBlockFormat.FORMAT_0), twice(PinBlockFormat.FORMAT_3)) == (1, 2)


def test_a_format_that_was_not_agreed_is_refused() -> None:
    block = build(PinBlockFormat.FORMAT_0, Pin("12345"), _PAN, rng=_no_randomness)
    with pytest.raises(PinBlockError):
        parse(block, _PAN, allowed=frozenset({PinBlockFormat.FORMAT_3}))


@pytest.mark.parametrize(
    "clear",
    [
        "1512345FFFFFFFFF",  # control 1
        "4512345AAAAAAAAA",  # control 4
        "03123FFFFFFFFFFF",  # 3 digits
        "0D1234567890123F",  # 13 digits
        "0512A45FFFFFFFFF",  # a letter in the PIN
        "0512345FFFFFFFF0",  # fill
        "3512345AAAAAAAA9",  # fill of format 3
        "0F12345678901234",
        "0000000000000000",
    ],
)
def test_one_error_for_whatever_is_wrong(clear: str) -> None:
    block = bytes(a ^ b for a, b in zip(bytes.fromhex(clear), bytes.fromhex("0000799123456789"), strict=True))
    with pytest.raises(PinBlockError) as refusal:
        parse(block, _PAN)
    assert str(refusal.value) == str(PinBlockError())
    assert refusal.value.__context__ is None


@given(pins)
def test_another_pan_does_not_open_it(pin: Pin) -> None:
    block = build(PinBlockFormat.FORMAT_0, pin, _PAN, rng=_no_randomness)
    with contextlib.suppress(PinBlockError):  # most often it does not even look like a PIN
        assert parse(block, Pan("6219861000000009")) != pin


@pytest.mark.parametrize(("block", "key"), [(bytes(7), _KEY), (bytes(8), bytes(32)), (bytes(8), b"")])
def test_wrong_sizes(block: bytes, key: bytes) -> None:
    with pytest.raises(PinBlockError):
        encrypt(block, key)
    with pytest.raises(PinBlockError):
        decrypt(block, key)


def test_a_clear_block_has_8_bytes() -> None:
    with pytest.raises(PinBlockError):
        parse(bytes(16), _PAN)


_AES_KEY = bytes(range(16))
_FOUR = PinBlockFormat.FORMAT_4


def _four(field: str, pan: Pan = _PAN) -> bytes:
    """An encrypted block of format 4 around this PIN field, whatever it says."""
    encryptor = Cipher(algorithms.AES(_AES_KEY), modes.ECB()).encryptor()  # noqa: S305  # single blocks
    first = encryptor.update(bytes.fromhex(field) + bytes(8))
    return encryptor.update(bytes(a ^ b for a, b in zip(first, pan_field(pan), strict=True)))


@given(pins, pans)
def test_format_4_round_trip(pin: Pin, pan: Pan) -> None:
    block = seal(_FOUR, pin, pan, _AES_KEY, rng=os.urandom)
    assert len(block) == _FOUR.block_size == 16
    assert unseal(block, pan, _AES_KEY, block_format=_FOUR) == pin
    assert seal(_FOUR, pin, pan, _AES_KEY, rng=os.urandom) != block


def test_an_honest_field_opens() -> None:
    assert unseal(_four("4512345AAAAAAAAA"), _PAN, _AES_KEY, block_format=_FOUR) == Pin("12345")


@pytest.mark.parametrize(
    "field",
    [
        "3512345AAAAAAAAA",  # control nibble
        "0512345AAAAAAAAA",
        "4312345AAAAAAAAA",  # length 3: too short, and a digit in the fill
        "43123AAAAAAAAAAA",  # too short
        "4D1234567890123A",  # too long
        "45123A5AAAAAAAAA",  # no digit
        "4512345AAAAAAAAB",  # fill
        "4512345FFFFFFFFF",  # fill of format 0
        "4612345AAAAAAAAA",  # length one too many
    ],
)
def test_twins_of_format_4_are_refused_alike(field: str) -> None:
    with pytest.raises(PinBlockError) as refusal:
        unseal(_four(field), _PAN, _AES_KEY, block_format=_FOUR)
    assert (str(refusal.value), refusal.value.__context__) == (str(PinBlockError()), None)


@pytest.mark.parametrize("block_format", PinBlockFormat)
def test_another_key_pan_or_size_is_refused_alike(block_format: PinBlockFormat) -> None:
    key, other = (_AES_KEY, bytes(16)) if block_format is _FOUR else (_KEY, _KEY[::-1])
    block = seal(block_format, Pin("12345"), _PAN, key, rng=os.urandom)
    for wrong, pan, with_key in (
        (block, _PAN, other),
        (block[:-1], _PAN, key),
        (block + block, _PAN, key),
        (block, _PAN, bytes(7)),
        (block, Pan("6037701000000007"), key),
    ):
        opened = None
        with contextlib.suppress(PinBlockError):  # formats 0 and 3 show another PAN as another PIN, at best
            opened = unseal(wrong, pan, with_key, block_format=block_format)
        assert opened != Pin("12345")
        assert opened is None or block_format is not _FOUR


def test_no_format_is_turned_into_another() -> None:
    for built in PinBlockFormat:
        block = seal(built, Pin("12345"), _PAN, _AES_KEY if built is _FOUR else _KEY, rng=os.urandom)
        for said in set(PinBlockFormat) - {built}:
            with pytest.raises(PinBlockError):
                unseal(block, _PAN, _AES_KEY if said is _FOUR else _KEY, block_format=said)
    with pytest.raises(PinBlockError):
        build(_FOUR, Pin("12345"), _PAN, rng=os.urandom)
    with pytest.raises(PinBlockError):
        parse_pin_field(bytes(8))
