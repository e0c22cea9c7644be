"""Iranian identifiers: vectors of the design, and their neighbours that must be refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shetab.errors import ValueFormatError
from shetab.iran import (
    Banks,
    build_iban,
    luhn_is_valid,
    normalise_digits,
    pan_from,
    parse_iban,
    parse_national_code,
)


@pytest.mark.parametrize(
    ("payload", "pan"),
    [
        ("603770100000000", "6037701000000007"),
        ("621986100000000", "6219861000000009"),
        ("603799123456789", "6037991234567893"),
    ],
)
def test_luhn_vectors(payload: str, pan: str) -> None:
    assert pan_from(payload).reveal() == pan
    assert luhn_is_valid(pan)
    assert not luhn_is_valid(payload + str((int(pan[-1]) + 1) % 10))


@pytest.mark.parametrize("text", ["", "0", "603770100000000x", "۶۰۳۷۷۰۱۰۰۰۰۰۰۰۰۷"])
def test_luhn_of_something_else(text: str) -> None:
    assert not luhn_is_valid(text)


def test_a_pan_is_made_of_ascii_digits() -> None:
    with pytest.raises(ValueFormatError):
        pan_from("60377010000000x")


@pytest.mark.parametrize("code", ["0012345679", "0499370899"])
def test_national_code_vectors(code: str) -> None:
    assert parse_national_code(code) == code


def test_national_code_gets_its_leading_zeros_back() -> None:
    assert parse_national_code("12345679") == "0012345679"
    assert parse_national_code("499370899") == "0499370899"


@pytest.mark.parametrize("text", ["1111111111", "0012345678", "1234567", "00123456790", "001234567x", ""])
def test_wrong_national_codes(text: str) -> None:
    with pytest.raises(ValueFormatError):
        parse_national_code(text)


def test_iban_builder_vector() -> None:
    assert build_iban("056", "123456789012345678") == "IR570560123456789012345678"


@pytest.mark.parametrize("iban", ["IR820540102680020817909002", "IR062960000000100324200001"])
def test_iban_vectors(iban: str) -> None:
    assert parse_iban(iban) == iban
    assert parse_iban(" ".join(iban[at : at + 4].lower() for at in range(0, 26, 4))) == iban


@pytest.mark.parametrize(
    "text",
    [
        "IR820540102680020817909003",  # one digit changed
        "IR82054010268002081790900",  # short
        "IR8205401026800208179090021",  # long
        "DE820540102680020817909002",
        "IR8205401026800208179O9002",
        "",
    ],
)
def test_wrong_ibans(text: str) -> None:
    with pytest.raises(ValueFormatError):
        parse_iban(text)


@given(st.integers(0, 999), st.integers(0, 10**18 - 1))
def test_a_built_iban_is_valid_and_the_other_spelling_of_its_check_digits_is_not(bank: int, account: int) -> None:
    iban = build_iban(f"{bank:03d}", str(account))
    assert parse_iban(iban) == iban
    check = int(iban[2:4])
    for other in (check - 97, check + 97):  # equal modulo 97, reserved by ISO 7064
        if 0 <= other <= 99:
            with pytest.raises(ValueFormatError):
                parse_iban(f"IR{other:02d}{iban[4:]}")


@pytest.mark.parametrize(("bank", "account"), [("56", "1"), ("05x", "1"), ("056", ""), ("056", "1" * 19)])
def test_no_iban_of_wrong_parts(bank: str, account: str) -> None:
    with pytest.raises(ValueFormatError):
        build_iban(bank, account)


def test_persian_and_arabic_digits_become_ascii() -> None:
    assert normalise_digits("۰۱۲۳۴۵۶۷۸۹ ٠١٢٣٤٥٦٧٨٩ 0123456789 کارت") == "0123456789 0123456789 0123456789 کارت"


def test_banks() -> None:
    banks = Banks.load()
    parsian = banks.of_iban("IR820540102680020817909002")
    assert parsian is not None
    assert parsian.bins == ("622106", "627884", "639194")
    keshavarzi = banks.of_bin("60377010")
    assert keshavarzi is not None
    assert (keshavarzi.iban_code, keshavarzi.name_en) == ("016", "Keshavarzi")
    assert banks.of_bin("400000") is None
    assert banks.of_iban("IR062960000000100324200001") is None


@pytest.mark.parametrize(
    "second",
    [
        '{iban_code: "001", name_en: b, name_fa: b, bins: ["2"]}',
        '{iban_code: "002", name_en: b, name_fa: b, bins: ["1"]}',
    ],
)
def test_a_prefix_or_code_of_two_banks_is_refused(second: str) -> None:
    with pytest.raises(ValueError, match="belongs to two banks"):
        Banks.from_yaml(f'banks: [{{iban_code: "001", name_en: a, name_fa: a, bins: ["1"]}}, {second}]')
