"""Holders' requests for one-time passwords, durable: the same request gets the same answer, also after a restart."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, delete, select, update

from gateway.errors import StateConflictError
from gateway.order import SALE
from gateway.password_tables import password_requests as table
from gateway.schema import orders
from gateway.store import OrderStore
from gateway.trace_numbers import next_stan, rrn_for
from kwbp.password import AskedPassword
from runtime.database import insert_new

_KEPT: Final = timedelta(days=1)
"""How long a request is known: far longer than it is judged to be fresh (K7), so that no repeat passes for a new one.

A card may ask every minute, day and night; the book does not grow by what nobody can send any more.
"""


@dataclass(frozen=True, slots=True)
class TraceNumbers:
    """DE 11 and DE 37 of one message, and the connector that it goes to."""

    stan: str
    rrn: str
    route: str


class PasswordBook:
    """Part of the order book's database."""

    def __init__(self, store: OrderStore) -> None:
        self._store = store

    async def answer(self, merchant_id: str, h_otp_req: bytes) -> bytes | None:
        """The answer that was given to a request (DER KwbpMessage), if it was."""
        return await self._store.look(self._answer, merchant_id, h_otp_req)

    def _answer(self, merchant_id: str, h_otp_req: bytes) -> bytes | None:
        query = select(table.c.answer).where(table.c.merchant_id == merchant_id, table.c.h_otp_req == h_otp_req)
        with self._store.reading() as connection:
            return connection.execute(query).scalar_one_or_none()

    async def ask(self, asked: AskedPassword, acquirer: str, now: datetime, *, route: str) -> TraceNumbers:
        """Write down that the bank is about to be asked, again if it was asked before, with new trace numbers.

        `route` is the connector of a first request; a later one goes where the first went, or the order meanwhile.

        :raises StateConflictError: another request of this merchant had the same RRPID (K3).
        """

        def job(connection: Connection) -> TraceNumbers:
            connection.execute(delete(table).where(table.c.asked_at < now - _KEPT))
            known = connection.execute(select(table.c.route).where(_is(asked))).one_or_none()
            went = known.route if known is not None else _route_of_order(connection, asked) or route
            if known is None:
                values = {
                    "merchant_id": asked.merchant_id,
                    "h_otp_req": asked.h_otp_req,
                    "rrpid": asked.rrpid,
                    "xid": asked.xid,
                    "amount": asked.amount.amount,
                    "asked_at": now,
                    "route": went,
                }
                if not insert_new(connection, table, **values):
                    # Another gateway was asked the same at the same moment, or the RRPID was used before.
                    went = connection.execute(select(table.c.route).where(_is(asked))).scalar_one_or_none()
                    if went is None:
                        raise StateConflictError("a fresh RRPID", "one that was used")
            stan = next_stan(connection, acquirer, now)
            return TraceNumbers(stan, rrn_for(stan, now), went)

        return await self._store.writer.run(job)

    async def answered(self, asked: AskedPassword, message: bytes) -> bytes:
        """Keep the answer (DER KwbpMessage) before it is given; of two the first is."""
        first = update(table).where(_is(asked), table.c.answer.is_(None)).values(answer=message)

        def job(connection: Connection) -> bytes:
            connection.execute(first)
            return bytes(connection.execute(select(table.c.answer).where(_is(asked))).scalar_one())

        return await self._store.writer.run(job)


def _is(asked: AskedPassword) -> ColumnElement[bool]:
    return and_(table.c.merchant_id == asked.merchant_id, table.c.h_otp_req == asked.h_otp_req)


def _route_of_order(connection: Connection, asked: AskedPassword) -> str | None:
    query = select(orders.c.route).where(orders.c.merchant_id == asked.merchant_id, orders.c.xid == asked.xid)
    return connection.execute(query.where(orders.c.kind == SALE)).scalar_one_or_none()
