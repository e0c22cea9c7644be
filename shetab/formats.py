"""Field formats of a dialect: the notation of the tables ("n 6", "n ..19", "b 8"), and the checks behind it.

`pyiso8583` looks at lengths only: it encodes letters in an amount and decodes an MTI of "99ZZ". These checks run on
every field in both directions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_NOTATION: Final = re.compile(r"(?P<kind>n|a|an|ans|z|b|x\+n) (?P<variable>\.\.)?(?P<size>[1-9][0-9]{0,2})")

_CHARACTERS: Final[dict[str, re.Pattern[str]]] = {
    "n": re.compile(r"[0-9]*"),
    "a": re.compile(r"[A-Za-z]*"),
    "an": re.compile(r"[0-9A-Za-z]*"),
    "ans": re.compile(r"[ -~]*"),
    "z": re.compile(r"[0-9=D]*"),
    "b": re.compile(r"[0-9A-F]*"),
    "x+n": re.compile(r"[CD][0-9]*"),
}


def _in_range(low: int, high: int) -> Callable[[str], bool]:
    return lambda text: low <= int(text) <= high


# Days run to 31 in every month: a date without a year cannot be checked closer, and Jalali months have 31 days too.
_PARTS: Final[dict[str, Callable[[str], bool]]] = {
    "YY": _in_range(0, 99),
    "MM": _in_range(1, 12),
    "DD": _in_range(1, 31),
    "hh": _in_range(0, 23),
    "mm": _in_range(0, 59),
    "ss": _in_range(0, 59),
}


@dataclass(frozen=True, slots=True)
class FieldFormat:
    """One parsed notation. `size` is the length in characters on the wire: a binary field of 8 bytes has 16."""

    kind: str
    variable: bool
    size: int

    @classmethod
    def parse(cls, notation: str) -> FieldFormat:
        """Read "n 6" (fixed), "ans ..999" (variable) or "b 8" (bytes, sent as upper-case hexadecimal).

        :raises ValueError: the notation is not one of the table; this is an error of the dialect file.
        """
        match = _NOTATION.fullmatch(notation)
        if match is None:
            raise ValueError(f"unknown field format {notation!r}")
        size = int(match["size"]) * (2 if match["kind"] == "b" else 1)
        if match["kind"] == "x+n":
            size += 1  # the sign letter stands before the digits and is not counted by the notation
        return cls(kind=match["kind"], variable=match["variable"] is not None, size=size)

    @property
    def length_digits(self) -> int:
        """Digits of the length prefix: 0 for a fixed field, 2 (LL) or 3 (LLL)."""
        if not self.variable:
            return 0
        return 2 if self.size <= 99 else 3

    def broken_rule(self, value: str) -> str | None:
        """The rule that `value` breaks, as a slug, or None."""
        if not _CHARACTERS[self.kind].fullmatch(value):
            return f"characters_must_be_{self.kind}"
        if self.variable and not 1 <= len(value) <= self.size:
            return f"length_must_be_1_to_{self.size}"
        if not self.variable and len(value) != self.size:
            return f"length_must_be_{self.size}"
        if self.kind == "b" and len(value) % 2:
            return "length_must_be_even"
        return None


def split_date_pattern(pattern: str) -> tuple[str, ...]:
    """Cut "MMDDhhmmss" into its two-letter parts.

    :raises ValueError: an unknown part; this is an error of the dialect file.
    """
    parts = tuple(pattern[at : at + 2] for at in range(0, len(pattern), 2))
    if unknown := [part for part in parts if part not in _PARTS]:
        raise ValueError(f"unknown date part {unknown[0]!r}")
    return parts


def matches_date_pattern(parts: tuple[str, ...], digits: str) -> bool:
    """True if each two digits of `digits` are in the range of their part."""
    return all(_PARTS[part](digits[2 * at : 2 * at + 2]) for at, part in enumerate(parts))


def describe(value: str) -> str:
    """Class of a value for an error message: length and kinds of characters, no character of it."""
    kinds = {
        "digits": any("0" <= c <= "9" for c in value),
        "letters": any(c.isascii() and c.isalpha() for c in value),
        "other ASCII": any(c.isascii() and not c.isalnum() for c in value),
        "other than ASCII": any(not c.isascii() for c in value),
    }
    named = ", ".join(kind for kind, present in kinds.items() if present)
    return f"{len(value)} characters: {named}" if named else "empty"
