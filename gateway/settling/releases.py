"""What nobody captured of a hold in time is given back by the gateway itself, also where a part was captured.

A hold lapses (`orders.lapses_at`), at the latest before its card must be forgotten. One of which nothing was done is
reversed as an order (`gateway.reversal`). Of any other the rest is released: a row of `settlings` that no merchant has
asked for, sent as a partial reversal (0420 or 0421, DE 95: what was captured) by `gateway.settling.forwarding`, which
counts it on the disk before it leaves and repeats it until the network's answer can be believed. As the one open row of
its order it keeps out captures; the database lets in no second one, of this gateway or another. Once the network has
taken it, no more is authorised than was captured.

What the network refuses to take back is tried again a day later, until the card is forgotten: each time the operator
is told. A capture that is reversed later is held again, and lapses again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, insert, select, update

from gateway.errors import StanExhaustedError
from gateway.order import Order
from gateway.order_rows import done_about, get, is_order, noted
from gateway.schema import orders, settlings
from gateway.settling.book import standing_of
from gateway.settling.row import Settling
from gateway.settling.states import SettlingState
from gateway.settling.store import LET_ALONE, SettlingStore
from gateway.states import OrderState
from gateway.store import OrderStore
from gateway.trace_numbers import next_stan
from kwbp.codes import AuthCode
from runtime.after_commit import after_commit
from runtime.logging import get_logger

REASON: Final = "hold lapsed"
_AGAIN: Final = timedelta(days=1)
_RRPID_SIZE: Final = 20
_log = get_logger("gateway.releases")


class Releases:
    """Takes up what is to be released, and ends it; in between it is `gateway.settling.forwarding`'s."""

    def __init__(
        self, orders_: OrderStore, store: SettlingStore, *, acquirer: str, rng: Callable[[int], bytes]
    ) -> None:
        self._orders = orders_
        self._store = store
        self._acquirer = acquirer
        self._rng = rng

    async def take(self, next_at: datetime, now: datetime, limit: int) -> list[Settling]:
        """TAKEN: what lapsed, the longest waiting first.

        :param next_at: when somebody else may work on it.
        """
        taken = []
        for order in await self._orders.look(self._lapsed, now, limit):
            try:
                row = await self._take(order, next_at, now)
            except StanExhaustedError:  # at midnight there are some again
                _log.error("no trace number is left for a release", order=str(order.key), alarm=True)
                break
            if row is not None:
                _log.warning("hold released", order=str(order.key), left=row.leaves)
                taken.append(row)
        return taken

    def _lapsed(self, now: datetime, limit: int) -> list[Order]:
        query = select(orders).where(_is_over(now), done_about()).order_by(orders.c.lapses_at).limit(limit)
        with self._orders.reading() as connection:
            return [Order.of(row) for row in connection.execute(query)]

    async def _take(self, seen: Order, next_at: datetime, now: datetime) -> Settling | None:
        """None: another gateway was quicker, or nothing is to be given back, or not now."""
        rrpid = self._rng(_RRPID_SIZE)

        def job(connection: Connection) -> Settling | None:
            order = get(connection, seen.key, lock=True)
            standing = standing_of(connection, order)
            lapses = order.state is OrderState.ACKED and order.lapses_at is not None and order.lapses_at <= now
            if standing is None or order.pan_sealed is None or not lapses:
                return None
            if standing.open_rrpid is not None:
                _lapse_at(connection, order, now + LET_ALONE)
                return None
            _lapse_at(connection, order, None)
            if standing.captured == standing.authorised:
                return None
            row = connection.execute(
                insert(settlings)
                .values(
                    merchant_id=order.merchant_id,
                    xid=order.xid,
                    rrpid=rrpid,
                    leaves=standing.captured,
                    state=SettlingState.TAKEN,
                    received_at=now,
                    changed_at=now,
                    runner=self._orders.replica,
                    stan=next_stan(connection, self._acquirer, now),
                    rrn=order.rrn or "",
                    attempts=0,
                    next_at=next_at,
                )
                .returning(settlings)
            ).one()
            noted(connection, order, now, {"reason": REASON, "left": standing.captured})
            return Settling.of(row)

        return await self._orders.writer.run(job)

    async def ended(self, row: Settling, now: datetime, *, auth_code: int, rc: str | None) -> Settling:
        """ANSWERED: by the network's word it is done, or it is refused and will be tried again.

        :raises StateConflictError: another gateway was quicker.
        """

        def job(connection: Connection) -> Settling:
            order = get(connection, row.order, lock=True)
            moved = self._store.moved(connection, row, SettlingState.ANSWERED, now, auth_code=auth_code, rc=rc)
            noted(connection, order, now, {"released": auth_code == AuthCode.APPROVED, "rc": rc})
            if auth_code != AuthCode.APPROVED:
                _lapse_at(connection, order, now + _AGAIN)
                told = {"order": str(order.key), "rc": rc}
                after_commit(
                    connection, partial(_log.error, "the network does not release what is held", **told, alarm=True)
                )
            elif row.leaves == 0:  # nothing can follow any more
                connection.execute(update(orders).where(is_order(order.key)).values(pan_sealed=None))
            return moved

        return await self._orders.writer.run(job)


def _is_over(now: datetime) -> ColumnElement[bool]:
    card = and_(orders.c.state == OrderState.ACKED, orders.c.pan_sealed.is_not(None))
    return and_(orders.c.lapses_at <= now, card)


def _lapse_at(connection: Connection, order: Order, at: datetime | None) -> None:
    connection.execute(update(orders).where(is_order(order.key)).values(lapses_at=at))
