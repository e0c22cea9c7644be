"""What people type, folded into the one spelling that is kept: digits, Persian letters, spaces, non-joiners.

A keyboard decides whether a name has ی or ي and a number ۱ or 1; the applicant does not, and no officer sees it. So
each field of each form has one entry in `FORMS`, which says how it is written, and what comes in is folded that way
before anything reads it: the revision, and with it the digest that officers sign, is the same whatever it was typed on.
Folding never guesses: what is not merely another spelling (a control of direction, a letter of another alphabet) stays
as it is and is refused by name (`cps.written_text`, `cps.written_host`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Final

from cps.model import MemberClass, Pack
from cps.rules import Rule
from cps.written_text import LATIN, MARKS, NOT_JOINING, PERSIAN, ZWNJ, TextError, check_text
from ra.errors import InvalidSubmissionError
from runtime.language import Message
from shetab.errors import ValueFormatError
from shetab.iran import normalise_digits, parse_company_id, parse_iban, parse_national_code

Fold = Callable[[str], str]

_LETTERS: Final = (
    ("\u0640", ""),  # tatweel only stretches a word
    ("\u064a", "\u06cc"), ("\u0649", "\u06cc"), ("\u0643", "\u06a9"),  # ي ى ك as Persian writes them
    ("\u06cc\u0654", "\u0626"), ("\u06c0", "\u0647\u0654"),  # ئ is one character, the ۀ of خانهٔ is two
)  # fmt: skip
_LETTERS_OF_BOTH: Final = LATIN | PERSIAN
_SPACES: Final = re.compile(" {2,}")
MAX_REASON: Final = 500  # characters, as in a signed decision (`cps.decision`)


def digits(text: str) -> str:
    """Persian and Arabic-Indic digits as 0-9; spaces around the field away."""
    return normalise_digits(text).strip(" ")


def spaced_digits(text: str) -> str:
    """As `digits`, for numbers that people write in groups: spaces inside away too, letters upper case."""
    return normalise_digits(text).replace(" ", "").upper()


def moment(value: object) -> object:
    """A time as people type it: RFC 3339 with any digits; what is no text is left to whoever reads it."""
    return digits(value) if isinstance(value, str) else value


def host(text: str) -> str:
    """Lower case: hosts have no other (RFC 4343). Digits of an ASCII host as 0-9; other letters stay, to be refused."""
    folded = digits(text)
    return folded.lower() if folded.isascii() else text


def name(text: str) -> str:
    """A name, organisation, source or reason in the spelling that is kept; see the module."""
    forms = "".join(unicodedata.normalize("NFKC", each) if _presentation_form(each) else each for each in text)
    forms = unicodedata.normalize("NFC", forms)
    for letters in _LETTERS:
        forms = forms.replace(*letters)
    joined = _without_idle_joiners(normalise_digits(forms))
    return unicodedata.normalize("NFC", _SPACES.sub(" ", joined).strip(" "))


FORMS: Final[Mapping[MemberClass, Mapping[str, Fold]]] = {
    "cardholder": {"commitment": str.strip, "bin": digits},
    "merchant": {
        "merchant_id": digits,
        "name": name,
        "organisation": name,
        "country": digits,
        "acquirer_bin": digits,
        "origin": host,
        "iban": spaced_digits,
        "hosts": host,
        "company_id": spaced_digits,
    },
    "gateway": {"gateway_id": digits, "name": name, "organisation": name, "acquirer_bin": digits, "hosts": host},
    "officer": {"person_id": digits, "name": name, "organisation": name},
}
"""How each field of a subject is written; one that is missing here is no text, or one of a closed list."""

_CHECKED: Final[Mapping[str, tuple[Callable[[str], str], Rule]]] = {
    "iban": (parse_iban, Rule.ID_IBAN),
    "company_id": (parse_company_id, Rule.ID_COMPANY),
    "national_code": (parse_national_code, Rule.ID_PERSON),
}
"""Numbers with check digits: who reads them, and the rule that they are right."""


def folded(member_class: MemberClass, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a subject, each in its one spelling; what is no text is left to whoever reads it."""
    form = FORMS[member_class]
    return {field: _fold(form[field], value) if field in form else value for field, value in fields.items()}


def text(field: str, value: str, *, needed: bool = False, longest: int = MAX_REASON, clause: str) -> str:
    """A text of a form that is no part of a subject: a reason, the source of evidence; empty if not `needed`.

    Raises InvalidSubmissionError naming the field, the character and `clause`.
    """
    spelt = name(value)
    if needed and not spelt:
        raise InvalidSubmissionError("{field}: a reason is needed", clause=clause, field=field)
    if len(spelt) > longest:
        raise InvalidSubmissionError("{field}: at most {most} characters", clause=clause, field=field, most=longest)
    try:
        return check_text(spelt)
    except TextError as error:
        raise InvalidSubmissionError("{field}: {fault}", clause=clause, field=field, fault=error) from None


def checked(field: str, value: str, pack: Pack) -> str:
    """A number with check digits (`iban`, `company_id`, `national_code`), in its one spelling.

    Raises InvalidSubmissionError that names the field and what is wrong with it. The right check digits are not told:
    with them a mistyped number would pass.
    """
    parse, rule = _CHECKED[field]
    try:
        return parse(spaced_digits(value))
    except ValueFormatError as error:
        raise InvalidSubmissionError(
            "{field}: {fault}", clause=pack.clause(rule), field=field, fault=Message(error.rule)
        ) from None


def _fold(fold: Fold, value: Any) -> Any:
    if isinstance(value, str):
        return fold(value)
    if isinstance(value, list | tuple):
        return [_fold(fold, each) for each in value]
    return value


def _presentation_form(character: str) -> bool:
    return "\ufb50" <= character <= "\ufdfb" or "\ufe70" <= character <= "\ufefc"


def _without_idle_joiners(text: str) -> str:
    """The text without non-joiners that nobody sees: at an end of a word, doubled, after a letter that joins nothing.

    Those inside a word of another script stay, and are refused.
    """
    kept: list[str] = []
    base = ""
    for place, character in enumerate(text):
        if character == ZWNJ:
            following = text[place + 1 : place + 2]
            between = base in _LETTERS_OF_BOTH and following in _LETTERS_OF_BOTH
            if not between or (following in PERSIAN and base in NOT_JOINING):
                continue
        elif character not in MARKS:
            base = character
        kept.append(character)
    return "".join(kept)
