"""A payout and a payment file, as their rows say; see `gateway.acquirer.payouts` for what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Self

from sqlalchemy import Row


class PayoutState(StrEnum):
    """See `gateway.acquirer.payouts`; the value is what the database holds."""

    CREATED = "CREATED"
    CARRIED = "CARRIED"
    SENT = "SENT"
    PAID = "PAID"
    RETURNED = "RETURNED"


@dataclass(frozen=True, slots=True)
class Payout:
    """A row of `payouts`; amounts in rial."""

    number: int
    merchant_id: str
    business_day: str
    attempt: int
    reference: str
    state: PayoutState
    gross: int
    fees: int
    brought_forward: int
    amount: int
    carried_forward: int
    iban: str | None
    beneficiary: str
    created_at: datetime
    created_by: str
    file: int | None
    sent_at: datetime | None
    sent_by: str | None
    paid_at: datetime | None
    returned_at: datetime | None
    answered_by: str | None
    reason: str | None

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        """From a row that holds all columns of `payouts`."""
        values = {field.name: getattr(row, field.name) for field in fields(cls)}
        return cls(**{**values, "state": PayoutState(values["state"])})

    @property
    def day(self) -> date:
        return date.fromisoformat(self.business_day)


@dataclass(frozen=True, slots=True)
class Left:
    """A merchant's day that was not paid out, and why: `no-account`, `account-not-bound`, or a reason of
    `gateway.acquirer.day_end.OpenReason`.
    """

    merchant_id: str
    business_day: date
    reason: str


@dataclass(frozen=True, slots=True)
class PaymentFile:
    """A payment file; `total` in rial."""

    number: int
    message_id: str
    digest: str
    content: bytes
    count: int
    total: int
    made_at: datetime
    made_by: str

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        """From a row that holds all columns of `payment_files`."""
        return cls(**{field.name: getattr(row, field.name) for field in fields(cls)})
