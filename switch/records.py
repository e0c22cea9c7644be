"""What the bank's counter and the switch tell: plain records, money in rial."""

from __future__ import annotations

from dataclasses import dataclass

from shetab.types import Cvv2, Expiry, Pan, Pin


@dataclass(frozen=True, slots=True)
class Account:
    """An account as the counter shows it; `balance` in rial."""

    iban: str
    kind: str
    holder: str
    bank: str
    balance: int


@dataclass(frozen=True, slots=True)
class IssuedCard:
    """A new card with all that is printed on it and the PIN of its letter. Given out once."""

    card_id: str
    iban: str
    masked_pan: str
    pan: Pan
    expiry: Expiry
    cvv2: Cvv2
    pin2: Pin


@dataclass(frozen=True, slots=True)
class CardStatus:
    """What the counter may show of a card."""

    card_id: str
    iban: str
    masked_pan: str
    state: str
    wrong_tries: int


@dataclass(frozen=True, slots=True)
class MerchantTotal:
    """Sales of one merchant that stand, in rial: what the acquirer owes it. The settle line."""

    merchant: str
    sales: int
    amount: int
    reversed: int


@dataclass(frozen=True, slots=True)
class TransactionStatus:
    """One sale or reversal as the switch recorded it."""

    kind: str
    state: str
    rc: str
    rrn: str
    stan: str
    merchant: str
    terminal: str
    amount: int
    masked_pan: str
    reference: str
