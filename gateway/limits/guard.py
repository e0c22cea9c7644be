"""What the path of an order asks of limits: that cards are known by the right key, and what the order would use."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from gateway.limits.card_key import CardKey
from gateway.limits.counting import Claim
from gateway.limits.watched import WatchedRules
from gateway.merchants import Merchant
from gateway.order import Order
from shetab.types import Pan

_BEGINNING: Final = 8
"""Digits of the PAN that rules may look at: those that tell the issuer."""


class Limits:
    """The rules in force, and which key cards are told apart by. Without a file nothing is limited."""

    def __init__(self, rules: WatchedRules | None = None) -> None:
        self.watched: Final = rules or WatchedRules(None)
        self.card_key: Final = CardKey()

    def claims(self, order: Order, merchant: Merchant, pan: Pan, now: datetime) -> list[Claim]:
        """What a VERIFIED order uses of the rules; raises LimitExceededError if it alone is more than one allows."""
        return self.watched.rules.claims(
            merchant_id=merchant.merchant_id,
            mcc=merchant.mcc,
            digits=pan.reveal()[:_BEGINNING],
            card_id=order.card_id or b"",
            amount=order.amount,
            now=now,
        )
