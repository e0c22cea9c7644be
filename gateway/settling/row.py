"""A request of rows 19 to 21, or a release, as the order book knows it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Self

from cryptography import x509
from sqlalchemy import Row

from gateway.order import OrderKey
from gateway.settling.states import SettlingState
from kwbp.settling import SettlingRequest, read_request
from shetab.message import Message


@dataclass(frozen=True, slots=True)
class Settling:
    """One row of `settlings`; see `gateway.schema` for the columns."""

    number: int
    merchant_id: str
    xid: bytes
    rrpid: bytes
    content_type: str | None
    request: bytes | None
    digest: bytes | None
    leaves: int | None
    state: SettlingState
    received_at: datetime
    changed_at: datetime
    runner: str | None
    stan: str
    rrn: str
    mti: str | None
    sent_fields: dict[str, str] | None
    attempts: int
    next_at: datetime
    auth_code: int | None
    rc: str | None
    approval: str | None
    settle_date: str | None
    date: datetime | None
    open_answer: bytes | None
    answer: bytes | None
    h_answer: bytes | None

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        """From a row that holds all columns of `settlings`."""
        values = {field.name: getattr(row, field.name) for field in fields(cls)}
        return cls(**{**values, "state": SettlingState(values["state"])})

    @property
    def order(self) -> OrderKey:
        """The order that it is about."""
        return OrderKey(self.merchant_id, self.xid)

    @property
    def is_release(self) -> bool:
        """Whether the gateway gives back by itself what is still held: there is no request, and no answer to one."""
        return self.leaves is not None

    @property
    def asked(self) -> SettlingRequest:
        """The request as it was signed."""
        if self.content_type is None or self.request is None:
            raise ValueError("nobody has asked for a release")
        return read_request(x509.ObjectIdentifier(self.content_type), self.request)

    @property
    def sent(self) -> Message:
        """The message as it was sent first, without the PAN."""
        if self.mti is None or self.sent_fields is None:
            raise ValueError("the request was not sent")
        return Message(self.mti, {int(field): value for field, value in self.sent_fields.items()})

    def __str__(self) -> str:
        return f"{self.merchant_id}/{self.xid.hex()}/{self.rrpid.hex()}"
