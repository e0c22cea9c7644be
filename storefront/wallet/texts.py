"""What the wallet tells a person, in Persian and English.

A refusal is said in the words of whoever must decide what to do next, not in those of the protocol; the protocol's own
code and check follow in brackets for support. The sentences are data, `texts.yaml`: one for each code that the protocol
has, so that no person ever meets a bare number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, field_validator

from kwbp.codes import AuthCode, ErrorCode
from kwbp.text import text_fault
from storefront import strict_yaml


class Language(StrEnum):
    """Languages of the wallet, RFC 5646 tags."""

    FA = "fa"
    EN = "en"


def _clean(text: str) -> str:
    if not text or text_fault(text) is not None:
        raise ValueError(f"text is {text_fault(text) or 'empty'}")
    return text


Sentence = Annotated[str, AfterValidator(_clean)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Bilingual(_Model):
    """One text in each language."""

    fa: Sentence
    en: Sentence

    def __getitem__(self, language: Language) -> str:
        return self.en if language is Language.EN else self.fa


class Texts(_Model):
    """All texts; keys of the first two are the protocol's names of the codes, each of them, no other."""

    refusals: Mapping[str, Bilingual]
    outcomes: Mapping[str, Bilingual]
    labels: Mapping[str, Bilingual]

    @field_validator("refusals")
    @classmethod
    def _each_refusal(cls, texts: Mapping[str, Bilingual]) -> Mapping[str, Bilingual]:
        return _complete(texts, (code.protocol_name for code in ErrorCode))

    @field_validator("outcomes")
    @classmethod
    def _each_outcome(cls, texts: Mapping[str, Bilingual]) -> Mapping[str, Bilingual]:
        return _complete(texts, (code.protocol_name for code in AuthCode))


def read_texts(document: Any) -> Texts:
    """Texts out of a parsed file; raises pydantic.ValidationError naming what is missing, unknown or out of form."""
    return Texts.model_validate(document)


def refusal(code: ErrorCode, language: Language) -> str:
    """A refusal in one sentence."""
    return _texts().refusals[code.protocol_name][language]


def outcome(code: AuthCode, language: Language) -> str:
    """The gateway's answer in one sentence."""
    return _texts().outcomes[code.protocol_name][language]


def label(key: str, language: Language) -> str:
    """A word or two beside a value. Raises KeyError for a key that is not in the file."""
    return _texts().labels[key][language]


_PERSIAN_DIGITS: Final = str.maketrans("0123456789,", "۰۱۲۳۴۵۶۷۸۹٬")


def digits(text: str, language: Language) -> str:
    """Persian digits for Persian readers. Never for protocol bytes, logs or files."""
    return text.translate(_PERSIAN_DIGITS) if language is Language.FA else text


def amount(rial: int, language: Language) -> str:
    """An amount in rial, and in toman in brackets: people reckon in toman, the protocol signs rial."""
    shown = f"{rial:,} {label('rial', language)}"
    if rial % 10 == 0:
        shown += f" ({rial // 10:,} {label('toman', language)})"
    return digits(shown, language)


@cache
def _texts() -> Texts:
    return read_texts(strict_yaml.load((files("storefront.wallet") / "texts.yaml").read_text("utf-8")))


def _complete(texts: Mapping[str, Bilingual], expected: Iterable[str]) -> Mapping[str, Bilingual]:
    names = set(expected)
    if texts.keys() != names:
        raise ValueError(f"expected one text a code; different: {', '.join(sorted(texts.keys() ^ names))}")
    return texts
