"""Card data and money as types that cannot be mixed up, printed or logged by accident.

`Pan`, `Pin`, `Cvv2` and `Expiry` hold ASCII digits. They have no text form: `str()`, `format()` and pickling raise,
`repr()` shows the type alone, comparison takes constant time, and none can be a key of a dictionary. The one way to the
digits is `.reveal()`, which is easy to search for.
"""

from __future__ import annotations

import hmac
from typing import ClassVar, Final, NoReturn, Self, SupportsIndex, final

from shetab.errors import ValueFormatError

RIAL_LIMIT: Final = 10**12
"""First amount that DE 4 (n12) cannot carry."""


def luhn_check_digit(payload: str) -> str:
    """The digit that completes `payload` (ASCII digits without check digit) under ISO/IEC 7812-1 annex B."""
    total = 0
    for position, character in enumerate(reversed(payload)):
        digit = int(character)
        if position % 2 == 0:
            digit *= 2
            if digit > 9:
                digit -= 9
        total += digit
    return str(-total % 10)


def is_ascii_digits(text: str) -> bool:
    """True for one or more of 0-9 only: `str.isdigit` alone would let Persian digits and superscripts in."""
    return text.isascii() and text.isdigit()


class _SecretDigits:
    """Immutable ASCII digits without a text form."""

    __slots__ = ("_digits",)
    _digits: str
    _MIN: ClassVar[int]
    _MAX: ClassVar[int]

    def __init__(self, digits: str) -> None:
        name = type(self).__name__
        if not is_ascii_digits(digits):
            raise ValueFormatError(name, "only the digits 0-9 are allowed")
        if not self._MIN <= len(digits) <= self._MAX:
            raise ValueFormatError(name, f"must have {self._MIN} to {self._MAX} digits")
        object.__setattr__(self, "_digits", digits)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take ASCII digits (normalise Persian digits first, `shetab.iran.normalise_digits`).

        :raises ValueFormatError: wrong characters, length or check; the text is not in the error.
        """
        return cls(text)

    def reveal(self) -> str:
        """The digits, ASCII. Callers must not log, store or raise them."""
        return self._digits

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return hmac.compare_digest(self._digits, other._digits)

    __hash__ = None  # type: ignore[assignment]  # how Python spells "unhashable"; a dict key would be kept and shown

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __str__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} has no text form")

    def __format__(self, format_spec: str) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} has no text form")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} does not change")

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is not serialised")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self


@final
class Pan(_SecretDigits):
    """Primary account number: 16 to 19 digits, the last one the Luhn check digit (ISO/IEC 7812-1)."""

    __slots__ = ()
    _MIN, _MAX = 16, 19

    def __init__(self, digits: str) -> None:
        super().__init__(digits)
        if luhn_check_digit(digits[:-1]) != digits[-1]:
            raise ValueFormatError("Pan", "Luhn check digit is wrong")

    @property
    def masked(self) -> str:
        """First six and last four digits, `*` between: what a receipt may show (PCI DSS 3.4.1)."""
        return f"{self._digits[:6]}{'*' * (len(self._digits) - 10)}{self._digits[-4:]}"

    def has_bin(self, prefix: str) -> bool:
        """True if the PAN begins with the issuer identification number `prefix` (6 to 8 digits)."""
        return self._digits.startswith(prefix)

    @property
    def bin(self) -> str:
        """First six digits: public, it names the issuer only."""
        return self._digits[:6]


@final
class Pin(_SecretDigits):
    """Second PIN (رمز دوم) or one-time password: 4 to 12 digits, what ISO 9564-1 PIN blocks can carry."""

    __slots__ = ()
    _MIN, _MAX = 4, 12


@final
class Cvv2(_SecretDigits):
    """Card verification value printed on the card: 3 or 4 digits."""

    __slots__ = ()
    _MIN, _MAX = 3, 4


@final
class Expiry(_SecretDigits):
    """Expiry as the card and DE 14 have it: YYMM in the Jalali calendar, valid to the end of that month."""

    __slots__ = ()
    _MIN, _MAX = 4, 4

    def __init__(self, digits: str) -> None:
        super().__init__(digits)
        if not 1 <= int(digits[2:]) <= 12:
            raise ValueFormatError("Expiry", "month must be 01 to 12")


@final
class Rial(int):
    """Whole rial, 0 to 10¹²-1 (DE 4 is n12; the dialect has no decimals, whatever ISO 4217 says of IRR).

    Arithmetic gives a plain `int`; wrap the result again, so that each sum is checked against the range.
    """

    __slots__ = ()

    def __new__(cls, amount: int) -> Self:
        if isinstance(amount, bool) or not isinstance(amount, int):
            raise ValueFormatError("Rial", "amount must be an integer")
        if not 0 <= amount < RIAL_LIMIT:
            raise ValueFormatError("Rial", "amount must be 0 to 999999999999")
        return super().__new__(cls, amount)

    @classmethod
    def from_de4(cls, text: str) -> Self:
        """Read DE 4: exactly 12 ASCII digits.

        :raises ValueFormatError: any other text.
        """
        if len(text) != 12 or not is_ascii_digits(text):
            raise ValueFormatError("Rial", "DE 4 must have 12 digits")
        return cls(int(text))

    def to_de4(self) -> str:
        """DE 4: 12 ASCII digits, zero-filled on the left."""
        return f"{int(self):012d}"
