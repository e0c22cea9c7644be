"""What a shop takes, and how long it waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class ShopRules:
    """The rules of one merchant."""

    terminal_id: str
    """The terminal it is known by at the acquirer (DE 41)."""
    brands: frozenset[str]
    accepts_bin: Callable[[str], bool]
    """Whether cards of an issuer number (6 to 8 digits) are taken."""
    invoice_lifetime: timedelta = timedelta(minutes=15)
    patience: float = 60.0
    """Seconds for which a wallet is kept waiting for its receipt; the order itself goes on."""
    money_patience: float = 20.0
    """Seconds for which the merchant's people are kept waiting for an outcome; the request itself goes on."""
    inquiries: int = 300
    """Inquiries of wallets that the token answers in a minute."""
    inquiries_of_a_card: int = 20
    """The same, for one card."""
    passwords: int = 300
    """Requests for one-time passwords that are passed on in a minute."""
    passwords_of_a_purchase: int = 5
    """The same, about one invoice."""
    signed_refusals: int = 120
    """Errors that the token signs in a minute; beyond, they are bare."""
