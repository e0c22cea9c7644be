"""Fingerprints as words, so that witnesses can compare aloud what nobody reads digit by digit.

A byte is a word. After the bytes comes one word more, that of a check byte: a Reed–Solomon check over GF(2^8), so that
one wrong word, or two words that changed places, never pass unnoticed. English words are SLIP-39's: 1,024 of them, in
four quarters used in turn (the even and odd words of the PGP word list, twice over), so that a word that was skipped or
repeated stands in a place where it cannot stand. Persian words are our own 256 (`words.fa.txt`); no two of them are one
letter apart, not even when letters that sound alike are taken for the same.

Ten bytes are shown unless all are asked for: who wanted another key to read the same would try 2^80 of them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache, reduce
from importlib.resources import files
from typing import Final, Literal

from shamir_mnemonic.wordlist import WORDLIST

from ca.errors import CeremonyError

Language = Literal["en", "fa"]

SHORT: Final = 10
"""Bytes of a fingerprint that are shown unless all are asked for: 80 bits."""
FINGERPRINT: Final = 32
"""Bytes of a whole fingerprint, SHA-256."""

_BYTE: Final = 256
_POLYNOMIAL: Final = 0x11D
_IN_A_LINE: Final = 4
# What keyboards confuse, and marks that do not sound.
_FOLDED: Final = str.maketrans({"ي": "ی", "ى": "ی", "ك": "ک", "أ": "ا", "إ": "ا", "\u200c": None, "\u0640": None})


def words(fingerprint: str | bytes, language: Language = "en", *, whole: bool = False) -> list[str]:
    """The words of a SHA-256 fingerprint (32 bytes, or hexadecimal with or without colons), the check word last.

    Eleven words for its first 80 bits; 33 if `whole`. Raises CeremonyError for what is no SHA-256 fingerprint.
    """
    data = _fingerprint(fingerprint)
    shown = data if whole else data[:SHORT]
    spelt = _words(language)
    quarters = len(spelt) // _BYTE
    return [spelt[place % quarters * _BYTE + byte] for place, byte in enumerate(bytes([*shown, _check(shown)]))]


def lines(fingerprint: str | bytes, language: Language = "en", *, whole: bool = False) -> list[str]:
    """The same, four words a line, as they are shown beside a fingerprint."""
    spoken = words(fingerprint, language, whole=whole)
    return [" ".join(spoken[start : start + _IN_A_LINE]) for start in range(0, len(spoken), _IN_A_LINE)]


def read_words(spoken: str | Iterable[str], language: Language = "en") -> bytes:
    """The bytes that words stand for, 10 or 32 of them, without the check byte.

    Raises CeremonyError: a word that is not in the list or not in its place, a wrong number of words, a check word that
    does not fit (then a word is wrong, or two have changed places).
    """
    heard = [_fold(word) for word in (spoken.split() if isinstance(spoken, str) else spoken)]
    spelt = _places(language)
    quarters = len(spelt) // _BYTE
    found = []
    for place, word in enumerate(heard):
        index = spelt.get(word)
        if index is None:
            raise CeremonyError(f"word {place + 1} is not in the list")
        quarter, byte = divmod(index, _BYTE)
        if quarter != place % quarters:
            raise CeremonyError(f"word {place + 1} cannot stand there: one was skipped, repeated or moved before it")
        found.append(byte)
    if len(found) not in {SHORT + 1, FINGERPRINT + 1}:
        raise CeremonyError(f"{len(found)} words; a fingerprint has {SHORT + 1}, or {FINGERPRINT + 1} in whole")
    *data, check = found
    if check != _check(bytes(data)):
        raise CeremonyError("the check word does not fit: a word is wrong, or two have changed places")
    return bytes(data)


def same(spoken: str | Iterable[str], fingerprint: str | bytes, language: Language = "en") -> bool:
    """Whether the words are those of the fingerprint. Raises CeremonyError as `read_words`."""
    return _fingerprint(fingerprint).startswith(read_words(spoken, language))


def _fingerprint(value: str | bytes) -> bytes:
    try:
        data = bytes.fromhex(value.replace(":", "")) if isinstance(value, str) else value
    except ValueError:
        data = b""
    if len(data) != FINGERPRINT:
        raise CeremonyError("a fingerprint is the SHA-256 digest of something: 32 bytes, 64 hexadecimal digits")
    return data


def _fold(word: str) -> str:
    return unicodedata.normalize("NFC", word).translate(_FOLDED).lower()


@cache
def _words(language: Language) -> tuple[str, ...]:
    if language == "en":
        return tuple(WORDLIST)
    return tuple(files("ca").joinpath("ceremony", "words.fa.txt").read_text(encoding="utf-8").split())


@cache
def _places(language: Language) -> dict[str, int]:
    return {_fold(word): place for place, word in enumerate(_words(language))}


def _check(data: bytes) -> int:
    """α times the value at α of the polynomial whose coefficients are the bytes and their number, in GF(2^8).

    Any one byte changed, and any two exchanged, change it. The check byte's own weight is 1, the last byte's is α: so
    these two exchanged do not fit, either.
    """
    return _times_alpha(reduce(lambda value, byte: _times_alpha(value) ^ byte, data, len(data)))


def _times_alpha(value: int) -> int:
    doubled = value << 1
    return doubled ^ _POLYNOMIAL if doubled & _BYTE else doubled
