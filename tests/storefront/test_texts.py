"""Each code of the protocol has a sentence in each language of the wallet."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest
from pydantic import ValidationError

from kwbp.codes import AuthCode, ErrorCode
from kwbp.text import text_fault
from storefront import strict_yaml
from storefront.wallet import texts
from storefront.wallet.texts import Language


def is_persian(text: str) -> bool:
    return any("\u0600" <= letter <= "\u06ff" for letter in text)


@pytest.mark.parametrize("code", ErrorCode, ids=lambda code: code.protocol_name)
def test_each_refusal_has_its_sentence(code: ErrorCode) -> None:
    persian, english = (texts.refusal(code, language) for language in Language)
    assert is_persian(persian)
    assert english.isascii()
    assert persian.endswith(".") == english.endswith(".")
    assert text_fault(persian) is text_fault(english) is None


@pytest.mark.parametrize("code", AuthCode, ids=lambda code: code.protocol_name)
def test_each_outcome_has_its_sentence(code: AuthCode) -> None:
    persian, english = (texts.outcome(code, language) for language in Language)
    assert is_persian(persian)
    assert english.isascii()


def test_only_an_approval_says_paid() -> None:
    says = {code for code in AuthCode if texts.outcome(code, Language.EN) == "Paid."}
    assert says == {AuthCode.APPROVED}


def test_different_codes_have_different_sentences() -> None:
    for language in Language:
        assert len({texts.refusal(code, language) for code in ErrorCode}) == len(ErrorCode)
        assert len({texts.outcome(code, language) for code in AuthCode}) == len(AuthCode)


def test_amounts_are_in_rial_and_toman_and_in_the_readers_digits() -> None:
    assert texts.amount(1_250_000, Language.EN) == "1,250,000 rial (125,000 toman)"
    assert texts.amount(1_250_001, Language.EN) == "1,250,001 rial"
    assert texts.amount(1_250_000, Language.FA) == "۱٬۲۵۰٬۰۰۰ ریال (۱۲۵٬۰۰۰ تومان)"
    assert texts.digits("608012", Language.FA) == "۶۰۸۰۱۲"


def test_an_unknown_label_is_an_error() -> None:
    with pytest.raises(KeyError):
        texts.label("no-such-label", Language.EN)


def document() -> dict[str, Any]:
    found = strict_yaml.load((files("storefront.wallet") / "texts.yaml").read_text("utf-8"))
    assert isinstance(found, dict)
    return found


def missing(found: dict[str, Any]) -> None:
    del found["refusals"]["bciStale"]


def unknown(found: dict[str, Any]) -> None:
    found["outcomes"]["maybe"] = {"fa": "شاید", "en": "Maybe."}


def one_language(found: dict[str, Any]) -> None:
    del found["outcomes"]["declined"]["fa"]


def empty(found: dict[str, Any]) -> None:
    found["labels"]["total"]["en"] = ""


def backwards(found: dict[str, Any]) -> None:
    found["refusals"]["bciStale"]["en"] = "Try\u202e again."


def number(found: dict[str, Any]) -> None:
    found["labels"]["total"]["en"] = 7


def section(found: dict[str, Any]) -> None:
    found["jokes"] = {}


@pytest.mark.parametrize("wrong", [missing, unknown, one_language, empty, backwards, number, section])
def test_a_file_with_one_fault_is_refused(wrong: Any) -> None:
    found = document()
    texts.read_texts(found)
    wrong(found)
    with pytest.raises(ValidationError):
        texts.read_texts(found)
