"""Whatever a form was typed on, its revision is the same; what is not merely another spelling is refused by name."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cps.dossier import Author, CpsPin, Revision
from cps.model import MemberClass, Purpose
from cps.written_text import PERSIAN, text_fault
from ra import text_input
from ra.errors import InvalidSubmissionError
from ra.submission import Content, Submission, understand
from runtime.language import Language
from shetab.iran import company_check_digit
from tests.support.cps_cases import BIN, COMMITMENT, IBAN, Office, csr
from tests.support.pki_factory import p256

COMPANY = "1038028479" + company_check_digit("1038028479")
SALT = "01" * 16
KEY = csr(p256())
FORMS: Mapping[MemberClass, dict[str, Any]] = {
    "cardholder": {"commitment": COMMITMENT, "bin": BIN},
    "merchant": {
        "merchant_id": "M-10",
        "name": "کتاب‌فروشی یکتا 24",
        "organisation": "شرکت کتاب یکتا",
        "country": 364,
        "acquirer_bin": BIN,
        "origin": "https://bookshop.example:8443",
        "iban": IBAN,
        "iban_salt": SALT,
        "hosts": ["bookshop.example", "127.0.0.1"],
        "company_id": COMPANY,
    },
    "gateway": {
        "gateway_id": "GW-1",
        "name": "درگاه یکتا",
        "organisation": "شرکت پرداخت یکتا",
        "acquirer_bin": BIN,
        "suites": ["oaep-sha256"],
        "hosts": ["gateway.example"],
    },
    "officer": {
        "person_id": "officer-9",
        "name": "کیان یکتا",
        "organisation": "مرکز ثبت‌نام",
        "roles": ["vetting_officer"],
    },
}
PERSIAN_DIGITS = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")
ARABIC_DIGITS = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
ARABIC_LETTERS = str.maketrans("یک", "يك")


def typed(value: Any, table: dict[int, Any]) -> Any:
    if isinstance(value, list):
        return [typed(each, table) for each in value]
    return str(value).translate(table)


def spelt(member_class: MemberClass, field: str, value: Any) -> list[Any]:
    """The same value as other keyboards write it."""
    if field in {"commitment", "roles", "suites", "iban_salt"}:
        return []
    ways = [typed(value, PERSIAN_DIGITS), typed(value, ARABIC_DIGITS)]
    if field in {"name", "organisation"}:
        maksura, stretched = str(value).replace("ی", "ى"), str(value).replace("تا", "تـا")
        shaped = "".join(f"{each}" if each != "ک" else "\ufb8e" for each in str(value))  # KEHEH ISOLATED FORM
        ways += [typed(value, ARABIC_LETTERS), maksura, stretched, shaped]
        ways += [
            f" {value}  ",
            str(value).replace(" ", "   "),
            f"\u200c{value}\u200c",
            str(value).replace(" ", "\u200c "),
        ]
        ways += [unicodedata.normalize("NFD", str(value))]
    if field in {"iban", "company_id"}:
        ways += [" ".join(str(value)), str(value).lower()]
    if field in {"origin", "hosts"}:
        ways += [typed(value, str.maketrans("b", "B"))]
    return ways


def read(office: Office, member_class: MemberClass, fields: Mapping[str, Any], code: str | None = None) -> Content:
    csrs: dict[Purpose, bytes] = {"signing": KEY}
    return understand(Submission(fields, csrs, code), member_class, office.pack, rng=bytes)


def digest(office: Office, content: Content) -> bytes:
    return Revision(
        application_id="a",
        number=1,
        authors=(Author(person="applicant-1"),),
        subject=content.subject,
        csrs=content.digests,
        cps=CpsPin.of(office.pack),
    ).digest


SPELLINGS = [
    pytest.param(member_class, field, way, id=f"{member_class}-{field}-{number}")
    for member_class, form in FORMS.items()
    for field, value in form.items()
    for number, way in enumerate(spelt(member_class, field, value))
]


@pytest.mark.parametrize(("member_class", "field", "way"), SPELLINGS)
def test_however_a_field_is_typed_the_digest_is_the_same(
    office: Office, member_class: MemberClass, field: str, way: Any
) -> None:
    clean = digest(office, read(office, member_class, FORMS[member_class]))
    assert digest(office, read(office, member_class, {**FORMS[member_class], field: way})) == clean


@pytest.mark.parametrize("way", ["0010350829", "10350829", "۰۰۱۰۳۵۰۸۲۹", "٠٠١٠٣٥٠٨٢٩", " 001 0350829"])
def test_a_national_code_is_kept_with_ten_ascii_digits(office: Office, way: str) -> None:
    assert read(office, "merchant", FORMS["merchant"], way).national_code == "0010350829"


# One thing wrong with each

_BAD_NAMES = {
    "override": ("کتاب\u202e", "U+202E RIGHT-TO-LEFT OVERRIDE"),
    "isolate": ("\u2067کتاب", "U+2067 RIGHT-TO-LEFT ISOLATE"),
    "mark": ("کتاب\u200e", "U+200E LEFT-TO-RIGHT MARK"),
    "mixed": ("Bookکتاب", "U+06A9 ARABIC LETTER KEHEH"),
    "cyrillic": ("Bооkshop", "U+043E CYRILLIC SMALL LETTER O"),
    "invisible": ("Book\u2060shop", "U+2060 WORD JOINER"),
    "non-joiner in latin": ("Book\u200cshop", "U+200C ZERO WIDTH NON-JOINER"),
    "private": ("Book\uf8ff", "U+F8FF"),
    "control": ("Book\x00", "U+0000"),
    "tab": ("Book\tshop", "U+0009"),
    "too long": ("ک" * 65, "too_long"),
    "empty": ("", "too_short"),
    "blank": (" \u200c ", "too_short"),
    "no text": (7, "string_type"),
}
_BAD: dict[str, dict[str, tuple[Any, str]]] = {
    "name": _BAD_NAMES,
    "organisation": _BAD_NAMES,
    "commitment": {"short": ("A" * 42, "pattern"), "digits": ("۱" * 43, "pattern"), "none": (None, "string_type")},
    "bin": {"short": ("12345", "pattern"), "letter": ("60377O", "pattern")},
    "acquirer_bin": {"short": ("12345", "pattern"), "invisible": ("603770\u200b", "pattern")},
    "merchant_id": {"empty": ("", "pattern"), "space": ("M 1", "pattern"), "homograph": ("М-1", "pattern")},
    "gateway_id": {"long": ("G" * 31, "pattern"), "override": ("GW\u202e", "pattern")},
    "person_id": {"slash": ("../9", "pattern"), "fullwidth": ("ｏfficer", "pattern")},
    "country": {"none": ("Iran", "int_parsing"), "zero": (0, "greater_than_equal")},
    "iban": {"other country": ("DE" + IBAN[2:], "pattern"), "short": (IBAN[:-1], "pattern")},
    "iban_salt": {"short": ("01" * 15, "too_short")},
    "origin": {
        "http": ("http://a.example", "an origin is https://"),
        "homograph": ("https://bооkshop.example", "U+043E CYRILLIC SMALL LETTER O"),
        "idn": ("https://xn--80ak6aa92e.com", "U+0430 CYRILLIC SMALL LETTER A"),
        "port": ("https://a.example:65536", "a port is"),
    },
    "hosts": {
        "idn": (["xn--80ak6aa92e.com"], "U+0430 CYRILLIC SMALL LETTER A"),
        "wildcard": (["*.example"], "U+002A ASTERISK"),
        "label": (["a..example"], "a label of a host"),
    },
    "company_id": {"short": ("1038028479", "pattern")},
    "suites": {"none": ([], "too_short"), "other": (["rsa"], "literal_error")},
    "roles": {"no list": ("vetting_officer", "tuple_type")},
}
TWINS = [
    pytest.param(member_class, field, bad, told, id=f"{member_class}-{field}-{wrong}")
    for member_class, form in FORMS.items()
    for field in form
    for wrong, (bad, told) in _BAD[field].items()
]


@pytest.mark.parametrize(("member_class", "field", "bad", "told"), TWINS)
def test_one_thing_wrong_is_refused_with_field_and_clause_and_without_the_value(
    office: Office, member_class: MemberClass, field: str, bad: Any, told: str
) -> None:
    with pytest.raises(InvalidSubmissionError) as refused:
        read(office, member_class, {**FORMS[member_class], field: bad})
    assert refused.value.clause == "CPS 3.1.4"
    assert field in str(refused.value)
    assert told in str(refused.value)
    if isinstance(bad, str) and len(bad) > 6:
        assert bad not in str(refused.value)


@pytest.mark.parametrize("member_class", FORMS)
def test_a_field_that_the_class_does_not_have_is_refused(office: Office, member_class: MemberClass) -> None:
    with pytest.raises(InvalidSubmissionError, match="colour: extra_forbidden"):
        read(office, member_class, {**FORMS[member_class], "colour": "red"})


@pytest.mark.parametrize(
    ("field", "value", "clause", "told"),
    [
        pytest.param("iban", "IR99" + IBAN[4:], "CPS 3.2.2", "iban: check digits are wrong", id="iban"),
        pytest.param("iban", "IR00" + IBAN[4:], "CPS 3.2.2", "iban: check digits are wrong", id="iban-00"),
        pytest.param("company_id", "10380284791", "CPS 3.2.2", "company_id: check digit is wrong", id="company"),
        pytest.param("company_id", "1" * 11, "CPS 3.2.2", "company_id: eleven equal digits", id="company-equal"),
    ],
)  # fmt: skip
def test_a_wrong_check_digit_is_named_and_the_right_one_not_told(
    office: Office, field: str, value: str, clause: str, told: str
) -> None:
    with pytest.raises(InvalidSubmissionError) as refused:
        read(office, "merchant", {**FORMS["merchant"], field: value})
    assert (refused.value.clause, told in str(refused.value)) == (clause, True)
    assert not any(each.isdigit() for each in str(refused.value))


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("0010350828", "national_code: check digit is wrong"),
        ("۱۱۱۱۱۱۱۱۱۱", "national_code: ten equal digits"),
        ("1234", "national_code: must have 10 digits"),
        ("00103508 2O", "national_code: must have 10 digits"),
    ],
)
def test_a_national_code_that_is_none_is_refused(office: Office, code: str, told: str) -> None:
    with pytest.raises(InvalidSubmissionError) as refused:
        read(office, "cardholder", FORMS["cardholder"], code)
    assert refused.value.clause == "CPS 3.2.3"
    assert told in str(refused.value)


def test_what_is_wrong_with_a_name_is_told_in_persian(office: Office) -> None:
    with pytest.raises(InvalidSubmissionError) as refused:
        read(office, "merchant", {**FORMS["merchant"], "name": "کتاب\u202e"})
    assert "جهت متن را" in refused.value.text(Language.FA)


# Reasons and sources


def test_a_reason_is_folded_and_may_be_empty() -> None:
    assert text_input.text("reason", "  فروشگاه كتاب   بسته شد ۲ ", clause="CPS 4.2") == "فروشگاه کتاب بسته شد 2"
    assert text_input.text("reason", "", clause="CPS 4.2") == ""


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("x" * 501, "reason: at most 500 characters"),
        ("closed\n2026 approved", "reason: U+000A is a control character"),
        ("closed\u202edevorppa", "reason: U+202E RIGHT-TO-LEFT OVERRIDE"),
    ],
)
def test_a_reason_that_reads_as_another_is_refused(value: str, told: str) -> None:
    with pytest.raises(InvalidSubmissionError) as refused:
        text_input.text("reason", value, clause="CPS 4.2")
    assert refused.value.clause == "CPS 4.2"
    assert told in str(refused.value)


@given(st.text(max_size=30))
def test_folding_twice_is_folding_once(text: str) -> None:
    assert text_input.name(text_input.name(text)) == text_input.name(text)


@given(st.lists(st.text(st.sampled_from([*sorted(PERSIAN), "ي", "ك", "ى", "ۀ", "ـ", "\u200c", "٣", "۳"]), min_size=1)))
def test_whatever_an_arabic_keyboard_writes_is_a_persian_name(words: list[str]) -> None:
    assert text_fault(text_input.name(" ".join(words))) is None


def test_every_text_field_of_every_class_says_how_it_is_written() -> None:
    for member_class, form in FORMS.items():
        texts = {field for field, value in form.items() if isinstance(value, str | int)} | {"hosts"} & form.keys()
        assert set(text_input.FORMS[member_class]) == texts - {"iban_salt"}
