"""Which characters names, organisations and reasons may be written in: one table for everybody who reads them.

A certificate's names are read by people and compared by machines, so no two texts may look alike. Unicode's general
security profile (UTS #39 section 3.1) is an allow list, and so is this one: letters of Persian and of Latin, ASCII
digits and punctuation, a few marks of both languages. A list of scripts that may not be mixed would let a name through
that is Cyrillic from end to end and reads as Latin; here it has no letter. Words are of one script (UTS #39 section
5.2, "single script", for each word, because `شرکت Example` is an honest name).

The ranges stand here and are not asked of the interpreter's Unicode data, so that a name is judged alike by every
service, whatever version of Python it runs on. The registration authority folds what people type before it comes here
(`ra.text_input`); here nothing is changed, only refused.

Lengths: X.520 counts characters of a UTF8String, 64 of them in a name; none of the letters below takes more than two
bytes, no mark more than three.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from runtime.language import Message, ToldError

ZWNJ: Final = "\u200c"  # zero-width non-joiner: Persian spelling needs it
MOST_MARKS: Final = 2  # vowel signs on one letter: shadda and a vowel


_Ranges = tuple[tuple[int, int], ...]
"""First and last code points."""


def _ranges(*ranges: tuple[int, int] | int) -> _Ranges:
    return tuple((each, each) if isinstance(each, int) else each for each in ranges)


def _set(*ranges: tuple[int, int] | int) -> frozenset[str]:
    return frozenset(chr(code) for first, last in _ranges(*ranges) for code in range(first, last + 1))


LATIN: Final = _set(
    (0x41, 0x5A), (0x61, 0x7A), (0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0xFF),
    # Latin Extended-A without what reads as another letter: dotless i, ligatures, kra, the n with an apostrophe, long s
    (0x0100, 0x0130), (0x0134, 0x0137), (0x0139, 0x013E), (0x0141, 0x0148), (0x014A, 0x017E),
    (0x0218, 0x021B),
)  # fmt: skip
PERSIAN: Final = _set(
    (0x0621, 0x063A), (0x0641, 0x0642), (0x0644, 0x0648), 0x067E, 0x0686, 0x0698, 0x06A9, 0x06AF, 0x06CC
)  # fmt: skip
"""The alphabet, hamza and its carriers, teh marbuta; ی and ک alone of the letters that Arabic has in another form."""
MARKS: Final = _set((0x064B, 0x0652), 0x0654, 0x0670)
"""Vowel signs of Persian, the hamza of `خانهٔ`, the small alef of `رحمٰن`."""
_HAMZA_ABOVE: Final = "\u0654"  # on heh alone: with other letters it is one character, or looks like one
DIGITS: Final = _set((0x30, 0x39))
COMMON: Final = DIGITS | _set(
    (0x20, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E),  # ASCII
    0xAB, 0xBB, 0x060C, 0x061B, 0x061F, 0x2013, 0x2014, 0x2019, 0x201C, 0x201D, 0x2026,  # «»،؛؟–—’“”…
)  # fmt: skip
WRITTEN: Final = LATIN | PERSIAN | MARKS | COMMON
NOT_JOINING: Final = frozenset("ءآأؤإاةدذرزژو")
"""Letters that join nothing after them: a non-joiner is not seen there."""

_INVISIBLE: Final = _ranges(
    0xAD, 0x034F, (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), 0x200B, 0x200D, (0x2060, 0x2065),
    (0x206A, 0x206F), 0x2800, 0x3164, (0xFE00, 0xFE0F), 0xFEFF, 0xFFA0, (0xFFF9, 0xFFFB), (0xE0000, 0xE0FFF),
)  # fmt: skip

# The first that holds a refused character says why; a character that none holds is of another alphabet.
_REASONS: Final[tuple[tuple[_Ranges, str], ...]] = (
    (_ranges((0x00, 0x1F), (0x7F, 0x9F), 0x2028, 0x2029), "{character} is a control character"),
    (
        _ranges(0x061C, (0x200E, 0x200F), (0x202A, 0x202E), (0x2066, 0x2069)),
        "{character} controls the direction of the text",
    ),
    (
        _INVISIBLE,
        "{character} is invisible",
    ),
    (_ranges(0xA0, 0x1680, (0x2000, 0x200A), 0x202F, 0x205F, 0x3000), "{character} is a space other than U+0020"),
    (_ranges((0x0660, 0x0669), (0x06F0, 0x06F9)), "{character} is a digit other than 0-9"),
    (
        _ranges(0x0640, 0x0643, 0x0649, 0x064A, 0x06C0, (0xFB50, 0xFDCF), (0xFDF0, 0xFDFF), (0xFE70, 0xFEFE)),
        "{character} is a form of a letter that Persian writes with another character",
    ),
    (_ranges((0xD800, 0xDFFF)), "{character} is half of a character"),
    (_ranges((0xE000, 0xF8FF), (0xF0000, 0xFFFFD), (0x100000, 0x10FFFD)), "{character} is for private use"),
    (
        _ranges((0xFDD0, 0xFDEF), *((plane * 0x10000 + 0xFFFE, plane * 0x10000 + 0xFFFF) for plane in range(17))),
        "{character} is no character",
    ),
)
OTHER_ALPHABET: Final = "{character} is of no alphabet that names are written in: Persian or Latin"
NOT_NFC: Final = "not in Unicode normalisation form C"
SPACES: Final = "a space at an end, or two in a row"
MIXED: Final = "{character} is of another script than the letters before it in the word"
NON_JOINER: Final = (
    "{character} stands where it joins nothing apart: only inside a Persian word, after a letter that joins"
)
STRAY_MARK: Final = "{character} stands on no Persian letter, or there are more than {most} on one"


def _within(character: str, ranges: _Ranges) -> bool:
    return any(first <= ord(character) <= last for first, last in ranges)


class TextError(ToldError, ValueError):
    """A text that is refused; what is told names at most one character and never the text."""


def named(character: str) -> str:
    """A character by its code point and name: `U+202E RIGHT-TO-LEFT OVERRIDE`."""
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()


def check_text(text: str) -> str:
    """The text itself; raises TextError unless it is written as names are (CPS 3.1.4)."""
    fault = text_fault(text)
    if fault is not None:
        raise TextError(fault)
    return text


def text_fault(text: str) -> Message | None:
    """Why `text` is refused, naming a character at most; None if it is as names are written, of whatever length."""
    fault = alphabet_fault(text, WRITTEN)
    if fault is not None:
        return fault
    if not unicodedata.is_normalized("NFC", text):
        return Message(NOT_NFC)
    if text != text.strip(" ") or "  " in text:
        return Message(SPACES)
    return spelling_fault(text)


def alphabet_fault(text: str, allowed: frozenset[str]) -> Message | None:
    """The first character of `text` that is not one of `allowed`, a non-joiner apart, and why it is refused."""
    for character in text:
        if character not in allowed and character != ZWNJ:
            why = next((sentence for ranges, sentence in _REASONS if _within(character, ranges)), OTHER_ALPHABET)
            return Message(why, character=named(character))
    return None


def spelling_fault(text: str) -> Message | None:
    """What is wrong with the words of a text whose characters are all allowed: scripts, non-joiners, vowel signs."""
    word: frozenset[str] | None = None  # the script of the letters so far
    base, marks = "", 0
    for place, character in enumerate(text):
        script = next((each for each in (LATIN, PERSIAN) if character in each), None)
        if character in MARKS:
            marks += 1
            if base not in PERSIAN or marks > MOST_MARKS or (character == _HAMZA_ABOVE and base != "ه"):
                return Message(STRAY_MARK, character=named(character), most=MOST_MARKS)
            continue
        if character == ZWNJ:
            if base not in PERSIAN - NOT_JOINING or text[place + 1 : place + 2] not in PERSIAN:
                return Message(NON_JOINER, character=named(character))
        elif script is not None and word not in (None, script):
            return Message(MIXED, character=named(character))
        else:
            word = script
        base, marks = character, 0
    return None
