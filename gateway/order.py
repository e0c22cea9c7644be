"""An order as the order book knows it: its key, and one row of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, Self

from sqlalchemy import Row

from gateway.states import OrderState

SALE: Final = "sale"
"""The one kind of order this gateway knows."""


@dataclass(frozen=True, slots=True)
class OrderKey:
    """What makes an order one order. Business identity only: nothing of it changes when a message is sent again."""

    merchant_id: str
    xid: bytes
    kind: str = SALE

    def __str__(self) -> str:
        return f"{self.merchant_id}/{self.xid.hex()}/{self.kind}"


@dataclass(frozen=True, slots=True)
class NewOrder:
    """What is known of an order when all its signatures have been verified. Amount in rial, digests SHA-256."""

    key: OrderKey
    request_digest: bytes
    rrpid: bytes
    terminal_id: str
    amount: int
    invoice: bytes
    dual_signature: bytes


@dataclass(frozen=True, slots=True)
class Order:
    """One row of `orders`; see `gateway.schema` for the columns."""

    merchant_id: str
    xid: bytes
    kind: str
    state: OrderState
    received_at: datetime
    changed_at: datetime
    runner: str | None
    request_digest: bytes
    rrpid: bytes
    terminal_id: str
    amount: int
    invoice: bytes
    dual_signature: bytes
    pan_sealed: bytes | None
    masked_pan: str | None
    acquirer: str | None
    business_day: str | None
    stan: str | None
    rrn: str | None
    route: str | None
    sent_fields: dict[str, str] | None
    approved: bool | None
    rc: str | None
    approval: str | None
    settle_date: str | None
    late_rc: str | None
    late_approved: bool | None
    late_approval: str | None
    late_at: datetime | None
    answer: bytes | None
    auth_code: int | None
    ack_by: datetime | None
    ack_boot: str | None
    ack_until: int | None
    auth_ack: bytes | None
    reversal_reason: str | None
    reversal_stan: str | None
    reversal_attempts: int
    reversal_next_at: datetime | None
    reversal_rc: str | None
    reversal_found_original: bool | None
    reversal_number: int
    reversal_queued_at: datetime | None
    reversal_until: datetime | None
    lapses_at: datetime | None
    card_id: bytes | None
    counted: list[dict[str, Any]] | None
    steps: int

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        """From a row that holds all columns of `orders`."""
        values = {field.name: getattr(row, field.name) for field in fields(cls)}
        return cls(**{**values, "state": OrderState(values["state"])})

    @property
    def mti(self) -> str:
        """Of the message that was sent for it: 0200 debits the card, 0100 only holds the money."""
        return (self.sent_fields or {}).get("0", "0200")

    @property
    def key(self) -> OrderKey:
        return OrderKey(self.merchant_id, self.xid, self.kind)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, stored before it is given: the DER KwbpMessage, and the AuthCode if it is an AuthRes."""

    message: bytes
    auth_code: int | None = None


@dataclass(frozen=True, slots=True)
class Promise:
    """How long an approval stands: `until` milliseconds after the start `boot` of a machine (`gateway.patience`)."""

    boot: str
    until: int


@dataclass(frozen=True, slots=True)
class UnclaimedAnswer:
    """An authenticated answer of the switch that no waiting request claimed. Without DE 2 and DE 44."""

    mti: str
    acquirer: str | None
    stan: str | None
    rrn: str | None
    terminal_id: str | None
    rc: str | None
    approval: str | None
    approved: bool
    route: str | None = None
    """The connector that it came by, who may speak of its own orders alone; None: this gateway says so itself."""
