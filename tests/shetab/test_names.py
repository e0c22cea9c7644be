"""Names compared folded: two spellings of one name are one, two names stay two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shetab.errors import ValueFormatError
from shetab.iran import company_check_digit, parse_company_id
from shetab.names import fold_name, same_name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("شرکت کتاب", "شركت كتاب", id="arabic-kaf"),
        pytest.param("بازرگانی", "بازرگاني", id="arabic-yeh"),
        pytest.param("کتاب‌فروشی", "کتاب فروشی", id="joiner-and-space"),
        pytest.param("کتاب‌فروشی", "کتابفروشی", id="joiner-and-nothing"),
        pytest.param("شعبهٔ ۱۲", "شعبه 12", id="hamza-and-digits"),
        pytest.param("آفتاب", "افتاب", id="madda"),
        pytest.param("Bookshop  Co.", "BOOKSHOP CO", id="case-and-points"),
        pytest.param("مُحَمَّد", "محمد", id="vowel-signs"),
        pytest.param("سـلام", "سلام", id="lengthening"),
    ],
)
def test_two_spellings_are_one_name(one: str, other: str) -> None:
    assert fold_name(one) == fold_name(other)
    assert same_name(one, ["something else", other])


@pytest.mark.parametrize(("one", "other"), [("کتاب", "کباب"), ("شعبه 12", "شعبه 21"), ("Bookshop", "Bookshops")])
def test_two_names_stay_two(one: str, other: str) -> None:
    assert not same_name(one, [other])


def test_a_name_of_nothing_is_nobodys() -> None:
    assert not same_name("", [""])
    assert not same_name("‌ ", ["‌ "])


@given(st.text(max_size=40))
def test_folding_twice_changes_nothing_more(text: str) -> None:
    assert fold_name(fold_name(text)) == fold_name(text)


@pytest.mark.parametrize("code", ["10380284790", "14007650912"])
def test_identifiers_of_companies_have_a_check_digit(code: str) -> None:
    assert parse_company_id(code) == code
    assert company_check_digit(code[:-1]) == code[-1]


@pytest.mark.parametrize("code", ["10380284791", "1038028479", "11111111111", "1038028479a", "۱۰۳۸۰۲۸۴۷۹۰"])
def test_other_identifiers_are_refused(code: str) -> None:
    with pytest.raises(ValueFormatError):
        parse_company_id(code)
