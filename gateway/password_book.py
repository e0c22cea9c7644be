"""Holders' requests for one-time passwords, durable: the same request gets the same answer, also after a restart."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
    and_,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from gateway.errors import StateConflictError
from gateway.schema import Instant, metadata
from gateway.store import OrderStore
from gateway.trace_numbers import next_stan, rrn_for
from kwbp.password import AskedPassword

table: Final = Table(
    "password_requests",
    metadata,
    Column("merchant_id", String, ForeignKey("merchants.merchant_id"), primary_key=True),
    Column("h_otp_req", LargeBinary(32), primary_key=True, doc="SHA-256 of the sealed OTPReq"),
    Column("rrpid", LargeBinary(20), nullable=False),
    Column("xid", LargeBinary(20), nullable=False),
    Column("amount", BigInteger, nullable=False, doc="rial"),
    Column("asked_at", Instant, nullable=False, index=True),
    Column("answer", LargeBinary, doc="the KwbpMessage with the OTPRes, for every repeat (DER)"),
    UniqueConstraint("merchant_id", "rrpid"),
)
"""Neither card nor password is in it."""

_KEPT: Final = timedelta(days=1)
"""How long a request is known: far longer than it is judged to be fresh (K7), so that no repeat passes for a new one.

A card may ask every minute, day and night; the book does not grow by what nobody can send any more.
"""


@dataclass(frozen=True, slots=True)
class TraceNumbers:
    """DE 11 and DE 37 of one message."""

    stan: str
    rrn: str


class PasswordBook:
    """Part of the order book's database."""

    def __init__(self, store: OrderStore) -> None:
        self._store = store

    def answer(self, merchant_id: str, h_otp_req: bytes) -> bytes | None:
        """The answer that was given to a request (DER KwbpMessage), if it was."""
        query = select(table.c.answer).where(table.c.merchant_id == merchant_id, table.c.h_otp_req == h_otp_req)
        with self._store.reading() as connection:
            return connection.execute(query).scalar_one_or_none()

    async def ask(self, asked: AskedPassword, acquirer: str, now: datetime) -> TraceNumbers:
        """Write down that the bank is about to be asked, again if it was asked before, with new trace numbers.

        :raises StateConflictError: another request of this merchant had the same RRPID (K3).
        """

        def job(connection: Connection) -> TraceNumbers:
            connection.execute(delete(table).where(table.c.asked_at < now - _KEPT))
            known = connection.execute(select(table.c.rrpid).where(_is(asked))).one_or_none()
            if known is None:
                values = {
                    "merchant_id": asked.merchant_id,
                    "h_otp_req": asked.h_otp_req,
                    "rrpid": asked.rrpid,
                    "xid": asked.xid,
                    "amount": asked.amount.amount,
                    "asked_at": now,
                }
                try:
                    connection.execute(insert(table).values(values))
                except IntegrityError:
                    raise StateConflictError("a fresh RRPID", "one that was used") from None
            stan = next_stan(connection, acquirer, now)
            return TraceNumbers(stan, rrn_for(stan, now))

        return await self._store.writer.run(job)

    async def answered(self, asked: AskedPassword, message: bytes) -> None:
        """Keep the answer (DER KwbpMessage) before it is given."""

        def job(connection: Connection) -> None:
            connection.execute(update(table).where(_is(asked)).values(answer=message))

        await self._store.writer.run(job)


def _is(asked: AskedPassword) -> ColumnElement[bool]:
    return and_(table.c.merchant_id == asked.merchant_id, table.c.h_otp_req == asked.h_otp_req)
