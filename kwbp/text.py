"""Text that a person will read, kept from saying one thing to the eye and another to the machine (threat 41).

Rules for every UTF8String of the protocol that is shown to people:

- NFC (Unicode normalization form C);
- no control and format characters: no bidirectional controls, no zero-width characters; the one exception is ZERO WIDTH
  NON-JOINER between two letters, which Persian spelling needs;
- no characters that are letters by name and blank to the eye (Hangul fillers, variation selectors…);
- no space but U+0020, none at either end of a line, no two in a row;
- digits are ASCII: `۱۰` and `10` would be two texts for one price, and `10²` is a price that a person may misread. A
  program that shows the text may well print Persian digits;
- Persian letters where Persian and Arabic have look-alikes: ی and ک (U+06CC, U+06A9), not ي, ى and ك; no letters of the
  presentation forms, which look like the ordinary ones; the rial sign ﷼ is no such letter;
- a line holds at most four combining marks in a row, so that no mark reaches into the line above.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final

_ZERO_WIDTH_NON_JOINER: Final = "\u200c"
_ARABIC_LOOKALIKES: Final = frozenset("\u064a\u0649\u0643")  # ARABIC YEH, ALEF MAKSURA, KAF
# Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties.txt that is not already of category Cf or Cn
_BLANK_LETTERS: Final = frozenset(
    [
        "\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u180b", "\u180c", "\u180d", "\u180f", "\u3164", "\uffa0",
        "\u2800",  # BRAILLE PATTERN BLANK: not default-ignorable, yet shows nothing
    ]
)  # fmt: skip
_REFUSED_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_MAX_COMBINING: Final = 4


@lru_cache(maxsize=128)  # the terms of a shop come with every invoice; a field bounds its text before it is judged
def text_fault(text: str, *, multiline: bool = False) -> str | None:
    """What is wrong with `text` as text for people, in a few English words without the text itself; None if nothing.

    `multiline` allows LINE FEED between non-blank lines. An empty text has no fault: lengths are the field's affair.
    """
    lines = text.split("\n") if multiline else [text]
    for line in lines:
        if line != line.strip(" ") or "  " in line or (len(lines) > 1 and not line):
            return "blank line, or spaces at an end or in a row"
    if text.isascii():
        return None if all(line.isprintable() for line in lines) else "control character"
    if not unicodedata.is_normalized("NFC", text):
        return "not in normalization form C"
    for line in lines:
        fault = _line_fault(line)
        if fault is not None:
            return fault
    return None


def _line_fault(line: str) -> str | None:
    combining = 0
    for position, character in enumerate(line):
        category = unicodedata.category(character)
        if character == _ZERO_WIDTH_NON_JOINER:
            if not _between_letters(line, position):
                return "zero width non-joiner that is not between two letters"
        elif category in _REFUSED_CATEGORIES:
            return "control or invisible character"
        elif character in _BLANK_LETTERS or "\ufe00" <= character <= "\ufe0f" or character >= "\U000e0000":
            return "letter that shows nothing"
        elif category == "Zs" and character != " ":
            return "space other than U+0020"
        elif character.isdigit() and not character.isascii():
            return "digit other than 0-9"
        elif character in _ARABIC_LOOKALIKES or _is_presentation_form(character):
            return "Arabic letter where Persian has its own"
        combining = combining + 1 if category in ("Mn", "Me") else 0
        if combining > _MAX_COMBINING:
            return "too many combining marks"
    return None


def _is_presentation_form(character: str) -> bool:
    return "\ufb50" <= character <= "\ufdfb" or "\ufe70" <= character <= "\ufefc"


def _between_letters(line: str, position: int) -> bool:
    neighbours = line[position - 1 : position] + line[position + 1 : position + 2]
    return len(neighbours) == 2 and all(unicodedata.category(character)[0] in "LM" for character in neighbours)
