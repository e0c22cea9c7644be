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
    """What the acquirer owes a merchant, in rial, negative if it is owed: the settle line.

    `sales` are those that stand and captures, `reversed` those that were taken back as a whole; `amount` is the sum of
    all that moved, credits and partial reversals deducted.
    """

    merchant: str
    sales: int
    amount: int
    reversed: int


@dataclass(frozen=True, slots=True)
class TransactionStatus:
    """One transaction as the switch recorded it: sale, hold, capture, credit or reversal."""

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


@dataclass(frozen=True, slots=True)
class Line:
    """A connection of an acquirer: from where, and who signed on over it."""

    peer: str
    institution: str | None


@dataclass(frozen=True, slots=True)
class ZoneKeyStatus:
    """A zone key of an acquirer: what may be shown of it. `state` is pending, current or previous."""

    institution: str
    kind: str
    index: int
    state: str
    check_value: str


@dataclass(frozen=True, slots=True)
class LedgerTotal:
    """All accounts of a kind: how many, their balances, the sum of their entries; rial. The two sums are the same."""

    kind: str
    accounts: int
    balance: int
    entries: int
