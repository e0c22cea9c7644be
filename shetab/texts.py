"""Text beyond ASCII in a field: its character set on the wire, and one canonical form of what it says.

Names of merchants are typed on Arabic and Persian keyboards (ي and ی, ك and ک, three kinds of digits), and the code
pages of banks know only some of these. Inside there is one form, and lengths are those of the bytes on the wire.
"""

from __future__ import annotations

import codecs
import unicodedata
from functools import cached_property
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, model_validator

_JOINERS: Final = frozenset("\u200c\u200d")
"""Not printable by themselves, but part of the spelling of Persian words."""


class TextRule(BaseModel):
    """One entry of `texts:` in a dialect file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    charset: str
    """Name of the codec."""
    canonical: dict[str, str]
    """Letters that are written as another one."""
    sent_as: dict[str, str] = {}
    """Canonical letters that the character set lacks, by those that stand for them on the wire."""

    @cached_property
    def _to_canonical(self) -> dict[int, str]:
        return str.maketrans(self.canonical)

    @cached_property
    def _to_wire(self) -> dict[int, str]:
        return str.maketrans(self.sent_as)

    @model_validator(mode="after")
    def _letters_come_back(self) -> Self:
        try:
            codecs.lookup(self.charset)
        except LookupError:
            raise ValueError("the character set is unknown") from None
        for letter in (*self.canonical.values(), *self.sent_as):
            if self.form(letter) != letter or self.form(self.to_wire(letter)) != letter:
                raise ValueError(f"the letter U+{ord(letter):04X} does not come back from the wire")
        return self

    def form(self, text: str) -> str:
        """The canonical form: composed, one kind of each letter, digits 0 to 9."""
        return unicodedata.normalize("NFC", text).translate(self._to_canonical)

    def to_wire(self, text: str) -> str:
        """A text in the letters that the character set has."""
        return text.translate(self._to_wire)

    def broken_rule(self, value: str, size: int, *, canonical: bool) -> str | None:
        """The rule `value` breaks, as a slug, or None. :param size: the most bytes that it may have."""
        if not all(letter.isprintable() or letter in _JOINERS for letter in value):
            return "characters_must_be_printable"
        if canonical and self.form(value) != value:
            return "text_is_not_canonical"
        try:
            length = len((self.to_wire(value) if canonical else value).encode(self.charset))
        except UnicodeEncodeError:
            return f"characters_must_be_of_{self.charset}"
        return None if 1 <= length <= size else f"length_must_be_1_to_{size}"
