"""Names as registers spell them, made comparable: Persian and Arabic letters, spaces, digits, marks.

A name typed on an Arabic keyboard (ي, ك, ة, ى), with other digits, with a zero-width non-joiner or a space where the
register has none, is still the same name. Two names are the same if their folded forms are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Final

from shetab.iran import normalise_digits

_LETTERS: Final = str.maketrans("يىئكةۀأإآؤ", "یییکههاااو")
_JOINED: Final = frozenset({"Zs", "Cf", "Cc", "Zl", "Zp", "Mn", "Lm"})
"""What is dropped: spaces, joiners and direction marks, vowel signs, the lengthening stroke."""


def fold_name(text: str) -> str:
    """The comparable form of a name; not for people to read."""
    letters = normalise_digits(unicodedata.normalize("NFKC", text)).translate(_LETTERS)
    # After the letters: NFKD would take the hamza off letters that are already plain, and the ring off others.
    plain = unicodedata.normalize("NFKD", letters).casefold()
    return "".join(char for char in plain if unicodedata.category(char) not in _JOINED and char.isalnum())


def same_name(name: str, others: Iterable[str]) -> bool:
    """Whether one of `others` is the same name; an empty one is none."""
    folded = fold_name(name)
    return bool(folded) and any(fold_name(other) == folded for other in others)
