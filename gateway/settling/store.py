"""Every step of a request of rows 19 to 21, durable before the step's effect.

A request is taken in by the transaction that judged it against the order as it stands; from then on it is the order's
one open request, which an index of the database guards too. A step is a compare-and-set on the request's state.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, Connection, and_, exists, insert, or_, select, update

from gateway.errors import StateConflictError, UnknownOrderError
from gateway.order import SALE, Order, OrderKey
from gateway.order_rows import of_routes
from gateway.schema import orders, settlings
from gateway.settling.book import closed_until, of_order, standing_of
from gateway.settling.days import day_to_enter
from gateway.settling.entries import enter, entering
from gateway.settling.row import Settling
from gateway.settling.states import SettlingState, may_follow
from gateway.states import OrderState
from gateway.store import OrderStore
from gateway.trace_numbers import next_stan, rrn_for
from kwbp.codes import AuthCode
from kwbp.common import instant
from kwbp.settling import CapRevReqTBS, CredReqTBS, SettlingRequest, SettlingResTBS, Standing, is_repeated
from kwbp.settling.request import check_against_book
from runtime.after_commit import after_commit
from runtime.logging import get_logger

T = TypeVar("T")

_log = get_logger("gateway.settling")
_WAITING: Final = (SettlingState.TAKEN, SettlingState.SENT, SettlingState.CONCLUDED)
LET_ALONE: Final = timedelta(hours=1)
"""How long a hold that should lapse is let alone after something was done about it."""


class SettlingStore:
    """The requests in the order book's database."""

    def __init__(self, store: OrderStore) -> None:
        self._store = store

    # --- looking ------------------------------------------------------------------------------------------------------

    async def look(self, query: Callable[..., T], *arguments: Any) -> T:
        """As `OrderStore.look`: for the event loop."""
        return await self._store.look(query, *arguments)

    def find(self, key: OrderKey, rrpid: bytes) -> Settling | None:
        """The request as last committed, or None."""
        with self._store.reading() as connection:
            return _find(connection, key, rrpid)

    def of_key(self, key: OrderKey) -> list[Settling]:
        """The requests about the order of this key, oldest first; none if there is no such order."""
        order = self._store.find(key)
        return [] if order is None else self.of_order(order)

    def of_order(self, order: Order) -> list[Settling]:
        """The requests about an order, oldest first."""
        with self._store.reading() as connection:
            return of_order(connection, order)

    def order_and_standing(self, key: OrderKey) -> tuple[Order | None, Standing | None]:
        """The order and what stands of it, as last committed."""
        with self._store.reading() as connection:
            order = _order(connection, key)
            return order, standing_of(connection, order)

    def due(self, now: datetime, limit: int, *, routes: Collection[str | None]) -> list[Settling]:
        """Requests without their final answer whose next attempt is due, the longest waiting first.

        Those that a connector must be asked about only if it is one of `routes` (see `of_routes`).
        """
        waiting = and_(settlings.c.state.in_(_WAITING), settlings.c.next_at <= now)
        its_order = and_(orders.c.merchant_id == settlings.c.merchant_id, orders.c.xid == settlings.c.xid)
        reachable = exists().where(its_order, orders.c.kind == SALE, of_routes(routes))
        waiting = and_(waiting, or_(settlings.c.state == SettlingState.CONCLUDED, reachable))
        query = select(settlings).where(waiting).order_by(settlings.c.next_at).limit(limit)
        with self._store.reading() as connection:
            return [Settling.of(row) for row in connection.execute(query)]

    def of_trace(self, stan: str | None, rrn: str | None) -> Settling | None:
        """The request that is open under this STAN and RRN."""
        this = and_(settlings.c.stan == stan, settlings.c.rrn == rrn, settlings.c.state.in_(_WAITING))
        with self._store.reading() as connection:
            row = connection.execute(select(settlings).where(this)).first()
        return None if row is None else Settling.of(row)

    # --- steps --------------------------------------------------------------------------------------------------------

    async def take(
        self, request: SettlingRequest, *, acquirer: str, next_at: datetime, now: datetime
    ) -> tuple[Settling, bool]:
        """TAKEN: judged by the order as it stands in this transaction (H2, H3, H5 to H9), it holds the order.

        Its signature must have been verified. :param next_at: when somebody else may work on it.
        :returns: the row, and whether it is new; a repeat that came in meanwhile has one already.
        :raises ProtocolError: see `kwbp.checks`; nothing is kept.
        """
        body = request.body
        key = OrderKey(body.merchant_id, body.xid)

        def job(connection: Connection) -> tuple[Settling, bool]:
            order = _order(connection, key, lock=True)
            standing = standing_of(connection, order)
            if is_repeated(request, standing):
                return _get(connection, key, body.rrpid), False
            if order is None or standing is None:
                raise UnknownOrderError("the merchant has no order of this XID")
            check_against_book(body, standing)
            stan = next_stan(connection, acquirer, now)
            connection.execute(
                insert(settlings).values(
                    merchant_id=key.merchant_id,
                    xid=key.xid,
                    rrpid=body.rrpid,
                    content_type=request.content_type.dotted_string,
                    request=request.received.signed.der,
                    digest=request.digest,
                    state=SettlingState.TAKEN,
                    received_at=now,
                    changed_at=now,
                    runner=self._store.replica,
                    stan=stan,
                    # A credit is a transaction of its own; whatever else is about an earlier one keeps that one's.
                    rrn=rrn_for(stan, now) if isinstance(body, CredReqTBS) else _rrn(connection, order, body.h_answer),
                    attempts=0,
                    next_at=next_at,
                )
            )
            return _get(connection, key, body.rrpid), True

        return await self._store.writer.run(job)

    async def sending(
        self, row: Settling, mti: str, sent: Mapping[int, str], next_at: datetime, now: datetime
    ) -> Settling:
        """SENT, one attempt more: must be awaited before the first byte leaves. `sent` is without the PAN."""
        values: dict[str, Any] = {"attempts": row.attempts + 1, "next_at": next_at}
        if row.state is SettlingState.TAKEN:
            values |= {"mti": mti, "sent_fields": {str(field): value for field, value in sent.items()}}
        return await self._step(row, SettlingState.SENT, now, **values)

    async def postpone(self, row: Settling, next_at: datetime) -> None:
        """Look at it again at `next_at`; nothing was sent, or nothing could be signed."""
        mine = and_(_is(row), settlings.c.state == row.state, settlings.c.attempts == row.attempts)
        await self._store.writer.run(
            lambda connection: connection.execute(update(settlings).where(mine).values(next_at=next_at))
        )

    async def conclude(
        self,
        row: Settling,
        now: datetime,
        *,
        auth_code: int,
        rc: str | None = None,
        approval: str | None = None,
        settle_date: str | None = None,
    ) -> Settling:
        """CONCLUDED: the outcome is known; the answer is dated, not before the end of the last closed batch."""
        values = {"auth_code": auth_code, "rc": rc, "approval": approval, "settle_date": settle_date}
        return await self._dated(row, now, **values)

    async def date_again(self, row: Settling, now: datetime) -> Settling:
        """CONCLUDED again, dated now: the signature comes too late for the date that it had."""
        return await self._dated(row, now)

    async def _dated(self, row: Settling, now: datetime, **values: Any) -> Settling:
        def job(connection: Connection) -> Settling:
            entering(connection, row.merchant_id)
            closed = closed_until(connection, row.merchant_id)
            date = now.replace(microsecond=0)
            date = date if closed is None else max(date, closed)
            return self.moved(connection, row, SettlingState.CONCLUDED, now, date=date, **values)

        return await self._store.writer.run(job)

    async def answered(
        self, row: Settling, answer: SettlingResTBS, message: bytes, h_answer: bytes, now: datetime
    ) -> Settling:
        """ANSWERED; an approval that moves a merchant's money goes into the entries.

        :param answer: what was signed. :param message: DER KwbpMessage. :param h_answer: hash of the SignedData in it.
        :raises StateConflictError: it was dated anew meanwhile.
        """

        def job(connection: Connection) -> Settling:
            entering(connection, row.merchant_id)
            order = _order(connection, row.order, lock=True)
            before = standing_of(connection, order)
            same = settlings.c.date == row.date
            values = {"answer": message, "h_answer": h_answer}
            moved = self.moved(connection, row, SettlingState.ANSWERED, now, same, **values)
            if row.auth_code != AuthCode.APPROVED or before is None:
                return moved
            body = row.asked.body
            after = before.concluded(body, h_answer)  # keeps 0 ≤ refunded ≤ captured ≤ authorised, or raises
            mine = and_(orders.c.merchant_id == row.merchant_id, orders.c.xid == row.xid)
            if after.authorised == 0:  # nothing can follow any more
                connection.execute(update(orders).where(mine).values(pan_sealed=None))
            elif isinstance(body, CapRevReqTBS):  # held again, and its time may be over
                again = and_(mine, orders.c.lapses_at.is_(None))
                connection.execute(update(orders).where(again).values(lapses_at=now + LET_ALONE))
            entry = before.entry(body, answer, h_answer)
            if entry is not None and order is not None:
                day = day_to_enter(connection, row.settle_date, instant(entry.date))
                enter(connection, row.merchant_id, entry, day, order.route, now)
            return moved

        return await self._store.writer.run(job)

    async def told_open(self, row: Settling, message: bytes) -> Settling:
        """Keep the noReply that is given while the outcome is open; the first one counts."""
        mine = and_(_is(row), settlings.c.open_answer.is_(None))

        def job(connection: Connection) -> Settling:
            connection.execute(update(settlings).where(mine).values(open_answer=message))
            return _get(connection, row.order, row.rrpid)

        return await self._store.writer.run(job)

    async def forget_pans(self, before: datetime, now: datetime) -> int:
        """Drop the sealed PANs of acknowledged orders of before `before`, if nothing about them is open.

        Without it a hold can be neither captured nor released any more: one that has not lapsed yet lapses now, and
        its card is kept until that was tried. The operator is told of what the network would not take back.
        """
        its = and_(settlings.c.merchant_id == orders.c.merchant_id, settlings.c.xid == orders.c.xid)
        card = and_(orders.c.state == OrderState.ACKED, orders.c.pan_sealed.is_not(None), orders.c.changed_at < before)
        refused = and_(settlings.c.leaves.is_not(None), settlings.c.auth_code != int(AuthCode.APPROVED))
        untried = and_(orders.c.lapses_at.is_not(None), ~exists().where(its, refused))
        old = and_(card, ~exists().where(its, settlings.c.state.in_(_WAITING)), ~untried)

        def job(connection: Connection) -> int:
            connection.execute(update(orders).where(card, untried, orders.c.lapses_at > now).values(lapses_at=now))
            for row in connection.execute(select(orders).where(old)).all():
                order = Order.of(row)
                standing = standing_of(connection, order)
                if standing is not None and standing.captured < standing.authorised:
                    told = {"order": str(order.key), "held": standing.authorised - standing.captured, "alarm": True}
                    what = "not released, and the card is forgotten: only its bank can now"
                    after_commit(connection, partial(_log.error, what, **told))
            return connection.execute(update(orders).where(old).values(pan_sealed=None)).rowcount

        return await self._store.writer.run(job)

    async def _step(self, row: Settling, after: SettlingState, now: datetime, **values: Any) -> Settling:
        return await self._store.writer.run(lambda connection: self.moved(connection, row, after, now, **values))

    def moved(
        self,
        connection: Connection,
        row: Settling,
        after: SettlingState,
        now: datetime,
        *also: ColumnElement[bool],
        **values: Any,
    ) -> Settling:
        """Compare-and-set of the state; part of the caller's transaction."""
        if not may_follow(row.state, after, release=row.is_release):
            raise StateConflictError(f"one that may become {after}", row.state)
        mine = and_(_is(row), settlings.c.state == row.state, settlings.c.attempts == row.attempts, *also)
        values |= {"state": after, "changed_at": now, "runner": self._store.replica}
        changed = connection.execute(update(settlings).where(mine).values(values).returning(settlings)).one_or_none()
        if changed is None:
            raise StateConflictError(row.state, _get(connection, row.order, row.rrpid).state)
        return Settling.of(changed)


def _get(connection: Connection, key: OrderKey, rrpid: bytes) -> Settling:
    row = _find(connection, key, rrpid)
    if row is None:
        raise UnknownOrderError("there is no such request")
    return row


def _find(connection: Connection, key: OrderKey, rrpid: bytes) -> Settling | None:
    this = and_(settlings.c.merchant_id == key.merchant_id, settlings.c.xid == key.xid, settlings.c.rrpid == rrpid)
    row = connection.execute(select(settlings).where(this)).one_or_none()
    return None if row is None else Settling.of(row)


def _is(row: Settling) -> ColumnElement[bool]:
    return and_(settlings.c.number == row.number, settlings.c.rrpid == row.rrpid)


def _order(connection: Connection, key: OrderKey, *, lock: bool = False) -> Order | None:
    this = and_(orders.c.merchant_id == key.merchant_id, orders.c.xid == key.xid, orders.c.kind == key.kind)
    query = select(orders).where(this)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else Order.of(row)


def _rrn(connection: Connection, order: Order, h_answer: bytes) -> str:
    """DE 37 of what an answer approved: of a capture or credit by its hash, else of the order."""
    query = select(settlings.c.rrn).where(settlings.c.h_answer == h_answer)
    return str(connection.execute(query).scalar_one_or_none() or order.rrn or "")
