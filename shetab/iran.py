"""Iranian identifiers: card prefixes and banks, IBAN (Sheba), national code, Persian digits."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shetab import tables_yaml
from shetab.errors import ValueFormatError
from shetab.types import Pan, is_ascii_digits, luhn_check_digit

IBAN_LENGTH: Final = 26
_IBAN: Final = re.compile(r"IR[0-9]{24}")
_COMPANY_ID: Final = 11
_COMPANY_WEIGHTS: Final = (29, 27, 23, 19, 17, 29, 27, 23, 19, 17)
_IR_AS_NUMBER: Final = "1827"  # I = 18, R = 27 (ISO 13616-1)

_TO_ASCII_DIGITS: Final = str.maketrans("۰۱۲۳۴۵۶۷۸۹٠١٢٣٤٥٦٧٨٩", "01234567890123456789")


def normalise_digits(text: str) -> str:
    """Persian (U+06F0…) and Arabic-Indic (U+0660…) digits as ASCII; everything else unchanged."""
    return text.translate(_TO_ASCII_DIGITS)


def luhn_is_valid(digits: str) -> bool:
    """True if the last of two or more ASCII digits is the Luhn check digit (ISO/IEC 7812-1 annex B)."""
    return len(digits) > 1 and is_ascii_digits(digits) and luhn_check_digit(digits[:-1]) == digits[-1]


def pan_from(payload: str) -> Pan:
    """The PAN that `payload` (15 to 18 ASCII digits) becomes with its Luhn check digit.

    :raises ValueFormatError: other characters or length.
    """
    if not is_ascii_digits(payload):
        raise ValueFormatError("Pan", "only the digits 0-9 are allowed")
    return Pan(payload + luhn_check_digit(payload))


def parse_national_code(text: str) -> str:
    """The 10 digits of a national code; 8 or 9 digits are filled with zeros on the left, as people drop them.

    :raises ValueFormatError: other characters or length, ten equal digits, or a wrong check digit.
    """
    if not is_ascii_digits(text) or not 8 <= len(text) <= 10:
        raise ValueFormatError("national code", "must have 10 digits")
    code = text.zfill(10)
    if len(set(code)) == 1:
        raise ValueFormatError("national code", "ten equal digits are not issued")
    remainder = sum(int(digit) * (10 - place) for place, digit in enumerate(code[:9])) % 11
    if int(code[9]) != (remainder if remainder < 2 else 11 - remainder):
        raise ValueFormatError("national code", "check digit is wrong")
    return code


def parse_company_id(text: str) -> str:
    """The 11 digits of a legal person's national identifier.

    The check digit is that of the Iranian scheme: the tenth digit plus 2 is added to each of the first ten, which are
    weighed 29, 27, 23, 19, 17, 29, 27, 23, 19, 17; the sum modulo 11, and 0 for 10.

    :raises ValueFormatError: other characters or length, eleven equal digits, or a wrong check digit.
    """
    if not is_ascii_digits(text) or len(text) != _COMPANY_ID:
        raise ValueFormatError("company id", "must have 11 digits")
    if len(set(text)) == 1:
        raise ValueFormatError("company id", "eleven equal digits are not issued")
    if text[-1] != company_check_digit(text[:-1]):
        raise ValueFormatError("company id", "check digit is wrong")
    return text


def company_check_digit(digits: str) -> str:
    """The check digit of the first 10 digits of a legal person's national identifier."""
    added = int(digits[9]) + 2
    weighed = sum((int(digit) + added) * weight for digit, weight in zip(digits, _COMPANY_WEIGHTS, strict=True))
    return str(weighed % 11 % 10)


def parse_iban(text: str) -> str:
    """An Iranian IBAN without spaces, `IR` and 24 digits, upper case.

    :raises ValueFormatError: other form, check digits 00, 01 or 99 (ISO 7064 never gives them), or mod 97 is not 1.
    """
    iban = text.replace(" ", "").upper()
    if not _IBAN.fullmatch(iban):
        raise ValueFormatError("IBAN", "must be IR and 24 digits")
    if iban[2:4] in ("00", "01", "99") or _mod_97(iban[4:], iban[2:4]) != 1:
        raise ValueFormatError("IBAN", "check digits are wrong")
    return iban


def build_iban(bank_code: str, account: str) -> str:
    """The IBAN of an account: bank code (3 digits), account kind 0, account number filled to 18 digits.

    :raises ValueFormatError: other characters or lengths.
    """
    if len(bank_code) != 3 or not is_ascii_digits(bank_code):
        raise ValueFormatError("IBAN", "bank code must have 3 digits")
    if not is_ascii_digits(account) or len(account) > 18:
        raise ValueFormatError("IBAN", "account must have 1 to 18 digits")
    bban = f"{bank_code}0{account:0>18}"
    return f"IR{98 - _mod_97(bban, '00'):02d}{bban}"


def _mod_97(bban: str, check_digits: str) -> int:
    return int(f"{bban}{_IR_AS_NUMBER}{check_digits}") % 97


class Bank(BaseModel):
    """One issuer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    iban_code: str = Field(pattern=r"^[0-9]{3}$")
    name_en: str
    name_fa: str
    bins: tuple[str, ...]


class Banks(BaseModel):
    """The issuers of `bins.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    banks: tuple[Bank, ...]

    @classmethod
    @cache
    def load(cls) -> Banks:
        """The table that comes with the product."""
        return cls.from_yaml(resources.files("shetab").joinpath("bins.yaml").read_text("utf-8"))

    @classmethod
    def from_yaml(cls, text: str) -> Self:
        """Read a table.

        :raises ValueError: unknown keys, or a prefix or bank code given twice.
        """
        return cls.model_validate(tables_yaml.load(text))

    @model_validator(mode="after")
    def _prefixes_are_unique(self) -> Self:
        prefixes = [prefix for bank in self.banks for prefix in bank.bins]
        codes = [bank.iban_code for bank in self.banks]
        if len(set(prefixes)) != len(prefixes) or len(set(codes)) != len(codes):
            raise ValueError("a card prefix or bank code belongs to two banks")
        return self

    def of_bin(self, prefix: str) -> Bank | None:
        """Bank of the first six digits of a card, None if unknown."""
        return next((bank for bank in self.banks if prefix[:6] in bank.bins), None)

    def of_iban(self, iban: str) -> Bank | None:
        """Bank of an IBAN that `parse_iban` gave, None if unknown."""
        return next((bank for bank in self.banks if bank.iban_code == iban[4:7]), None)
