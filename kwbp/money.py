"""Money on the wire: always currency, amount and exponent together, so that rial never turns into toman or dollar."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat import asn1

from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from shetab.types import RIAL_LIMIT, Rial

RIAL_CURRENCY: Final = 364
"""ISO 4217 numeric code of the Iranian rial."""
RIAL_EXPONENT: Final = 0
"""Decimal places: none (KWBP global rule 1), although ISO 4217 lists two for the rial."""


@asn1.sequence
class Money:
    """`SEQUENCE { currency INTEGER, amount INTEGER, exp INTEGER }`; only (364, 0..10¹²-1, 0) is valid."""

    currency: int
    amount: int
    exp: int

    @classmethod
    def rial(cls, amount: int) -> Money:
        """Whole rial as Money; the range is checked by `validate`."""
        return cls(currency=RIAL_CURRENCY, amount=amount, exp=RIAL_EXPONENT)

    def validate(self, check: str = "K1") -> None:
        """Refuse every currency, exponent and amount outside the profile.

        :raises ProtocolError: amountMismatch.
        """
        if (self.currency, self.exp) != (RIAL_CURRENCY, RIAL_EXPONENT):
            raise ProtocolError(ErrorCode.AMOUNT_MISMATCH, check, "money must be rial (364) with exponent 0")
        if not 0 <= self.amount < RIAL_LIMIT:
            raise ProtocolError(ErrorCode.AMOUNT_MISMATCH, check, "amount must be 0 to 999999999999 rial")

    def to_rial(self) -> Rial:
        """The amount as `Rial`."""
        return Rial(self.amount)

    def __eq__(self, other: object) -> bool:
        """All three members; 10 rial with exponent 1 is another statement than 100 rial, not an equal one."""
        if not isinstance(other, Money):
            return NotImplemented
        return (self.currency, self.amount, self.exp) == (other.currency, other.amount, other.exp)

    def __hash__(self) -> int:
        return hash((self.currency, self.amount, self.exp))

    def __repr__(self) -> str:
        return f"Money(currency={self.currency}, amount={self.amount}, exp={self.exp})"


def check_payable(amount: Money) -> None:
    """An amount that somebody is to pay: Money in form, and not zero.

    :raises ProtocolError: amountMismatch (K1).
    """
    amount.validate()
    if amount.amount == 0:
        raise ProtocolError(ErrorCode.AMOUNT_MISMATCH, "K1", "amount must be more than 0 rial")
