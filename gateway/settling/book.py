"""What stands of an order, of a merchant's money and of its batches: read from the durable rows, in one transaction.

Nothing of it is kept in memory. Whoever judges a request reads it in the transaction that takes the request in, so two
requests cannot both be judged by what stood before either.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, or_, select

from gateway.order import Order
from gateway.schema import batch_requests, batches, entries, orders, settlings
from gateway.settling.row import Settling
from gateway.settling.states import SettlingState
from gateway.states import OrderState
from gateway.translation import SALE
from kwbp import fields
from kwbp.codes import AuthCode, EntryKind
from kwbp.settling import Batch, Batches, Capture, Credit, Entry, Standing
from kwbp.wrapper import unwrap
from pki.oids import CT_AUTH_RES

_TAKEN_BACK: Final = frozenset({OrderState.REV_QUEUED, OrderState.REVERSED, OrderState.REV_FAILED})


def standing_of(connection: Connection, order: Order | None) -> Standing | None:
    """The order as its answers and requests left it; None if there is none, or it was not approved."""
    if order is None or order.answer is None or order.auth_code != AuthCode.APPROVED:
        return None
    standing = Standing.of(
        unwrap(order.answer, expected=(CT_AUTH_RES,)).body,
        sale=order.mti == SALE,
        acknowledged=order.state is OrderState.ACKED,
    )
    if order.state in _TAKEN_BACK:
        standing = replace(standing, authorised=0, captures=())
    for row in of_order(connection, order):
        approved = row.state is SettlingState.ANSWERED and row.auth_code == AuthCode.APPROVED
        if row.leaves is not None:
            standing = _released(standing, row, row.leaves, approved=approved)
            continue
        standing = standing.taken_in(row.rrpid, row.digest or b"")
        if row.state is SettlingState.ANSWERED:
            standing = standing.concluded(row.asked.body, row.h_answer if approved else None)
    return _with_settled(connection, standing)


def _released(standing: Standing, row: Settling, leaves: int, *, approved: bool) -> Standing:
    """Of an order with a release: it is open as a request is, and what it gave back is not authorised any more."""
    if row.state is not SettlingState.ANSWERED:
        return replace(standing, open_rrpid=row.rrpid)
    return replace(standing, authorised=min(standing.authorised, leaves)) if approved else standing


def of_order(connection: Connection, order: Order) -> list[Settling]:
    """The requests about an order, in the order in which they were taken in."""
    mine = and_(settlings.c.merchant_id == order.merchant_id, settlings.c.xid == order.xid)
    rows = connection.execute(select(settlings).where(mine).order_by(settlings.c.number))
    return [Settling.of(row) for row in rows]


def _with_settled(connection: Connection, standing: Standing) -> Standing:
    """Captures and credits whose batch is closed are settled."""
    closed = closed_until(connection, standing.merchant_id)
    followed: list[Capture | Credit] = [*standing.captures, *standing.credits]
    if closed is None or not followed:
        return standing
    query = select(entries.c.h_answer).where(
        entries.c.h_answer.in_([each.h_answer for each in followed]), entries.c.date < closed
    )
    settled = {row.h_answer for row in connection.execute(query)}
    return replace(
        standing,
        captures=tuple(replace(each, settled=each.h_answer in settled) for each in standing.captures),
        credits=tuple(replace(each, settled=each.h_answer in settled) for each in standing.credits),
    )


# --- batches ----------------------------------------------------------------------------------------------------------


def newest_batch(connection: Connection, merchant_id: str) -> Batch | None:
    """The batch with the highest number."""
    query = select(batches).where(batches.c.merchant_id == merchant_id).order_by(batches.c.batch_id.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else Batch(row.batch_id, row.begins, row.until)


def batches_of(connection: Connection, merchant_id: str) -> Batches:
    """A merchant's batches, and every request about them."""
    query = select(batch_requests.c.rrpid, batch_requests.c.digest).where(batch_requests.c.merchant_id == merchant_id)
    requests = {row.rrpid: row.digest for row in connection.execute(query)}
    return Batches(merchant_id, newest_batch(connection, merchant_id), requests)


def closed_until(connection: Connection, merchant_id: str) -> datetime | None:
    """Where the last closed batch ended: no answer may be dated before it any more."""
    query = (
        select(batches.c.until)
        .where(batches.c.merchant_id == merchant_id, batches.c.until.is_not(None))
        .order_by(batches.c.batch_id.desc())
        .limit(1)
    )
    until: datetime | None = connection.execute(query).scalar_one_or_none()
    return until


def undecided(connection: Connection, merchant_id: str, until: datetime) -> bool:
    """Whether an answer dated before `until` may still become a movement of money.

    An order under way or not acknowledged may, and a request whose answer is dated but not signed.
    """
    order = select(orders.c.xid).where(
        orders.c.merchant_id == merchant_id,
        orders.c.state.in_((OrderState.SENT, OrderState.APPROVED)),
        orders.c.changed_at < until,
    )
    request = select(settlings.c.number).where(
        settlings.c.merchant_id == merchant_id,
        settlings.c.state == SettlingState.CONCLUDED,
        or_(settlings.c.date.is_(None), settlings.c.date < until),
    )
    return any(connection.execute(query.limit(1)).first() is not None for query in (order, request))


# --- entries ----------------------------------------------------------------------------------------------------------


def entries_since(connection: Connection, merchant_id: str, begins: datetime | None) -> list[Entry]:
    """The merchant's movements of money, from `begins` on."""
    query = select(entries).where(entries.c.merchant_id == merchant_id)
    rows = connection.execute(query if begins is None else query.where(entries.c.date >= begins))
    return entries_from(rows)


def entries_settled(connection: Connection, merchant_id: str, day: str) -> list[Entry]:
    """The merchant's movements that are advised and paid with `day` (ISO), in the order of their answers' dates."""
    mine = and_(entries.c.merchant_id == merchant_id, entries.c.settled_day == day)
    return entries_from(connection.execute(select(entries).where(mine).order_by(entries.c.date, entries.c.h_answer)))


def entries_from(rows: Iterable[Row[Any]]) -> list[Entry]:
    """From rows of `entries`."""
    return [
        Entry(
            kind=EntryKind(row.kind),
            xid=row.xid,
            h_answer=row.h_answer,
            amount=row.amount,
            date=fields.to_time(row.date),
        )
        for row in rows
    ]
