"""Our own movements of money by the numbers that the network knows them by, and what a list showed of them before.

A movement may come into the books after the network's list was imported, and after persons took it for a difference.
What was only shown is settled by that. What was booked stands in the books twice then: it is a difference again, of
what is left of it, until a person says so; nobody is told by the totals, which agree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import date, datetime
from functools import partial
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, func, select, update

from gateway.acquirer.matching import OwnMovement
from gateway.acquirer.tables import corrections, differences
from gateway.order import SALE
from gateway.schema import entries, orders, settlings
from kwbp.codes import EntryKind
from runtime.after_commit import after_commit
from runtime.logging import get_logger
from shetab.settlement_list import SIGNS

MOVEMENTS: Final = {
    EntryKind.SALE: "debit",
    EntryKind.CAPTURE: "debit",
    EntryKind.SALE_REVERSAL: "debit_reversal",
    EntryKind.CAPTURE_REVERSAL: "debit_reversal",
    EntryKind.CREDIT: "credit",
    EntryKind.CREDIT_REVERSAL: "credit_reversal",
}
"""What a kind of entry is called in a settlement list."""
_log = get_logger("gateway.differences")


def movements(
    connection: Connection, *where: ColumnElement[bool], rrns: Collection[str] | None = None
) -> Iterable[OwnMovement]:
    """Entries with the numbers that the network knows them by: a sale by its order's, all else by its request's."""
    its_order = and_(
        orders.c.merchant_id == entries.c.merchant_id, orders.c.xid == entries.c.xid, orders.c.kind == SALE
    )
    its_request = settlings.c.h_answer == entries.c.h_answer
    columns = (entries.c.merchant_id, entries.c.kind, entries.c.amount, entries.c.business_day, orders.c.terminal_id)
    is_sale = entries.c.kind == int(EntryKind.SALE)
    sales = select(*columns, orders.c.stan, orders.c.rrn).join(orders, its_order).where(is_sale, *where)
    others = (
        select(*columns, settlings.c.stan, settlings.c.rrn)
        .join(orders, its_order)
        .join(settlings, its_request)
        .where(~is_sale, *where)
    )
    if rrns is not None:
        sales, others = sales.where(orders.c.rrn.in_(rrns)), others.where(settlings.c.rrn.in_(rrns))
    for query in (sales, others):
        for row in connection.execute(query):
            movement = MOVEMENTS[EntryKind(row.kind)]
            day = date.fromisoformat(row.business_day)
            yield OwnMovement(row.merchant_id, row.terminal_id, row.stan, row.rrn, movement, row.amount, day)


def settle_shown(
    connection: Connection, h_answer: bytes, merchant_id: str, route: str, day: date, now: datetime
) -> None:
    """What a list showed as nobody's is the movement that has just been entered; part of the transaction that did."""
    columns = differences.c
    # By the index that keeps a movement's differences apart: nearly always there is none.
    shown = and_(columns.route == route, columns.business_day == day.isoformat(), columns.merchant_id == merchant_id)
    waiting = and_(shown, columns.own_amount.is_(None), columns.state != "GONE")
    if connection.execute(select(columns.number).where(waiting).limit(1)).first() is None:
        return
    for own in movements(connection, entries.c.h_answer == h_answer):
        mine = and_(
            columns.terminal_id == own.terminal_id,
            columns.stan == own.stan,
            columns.rrn == own.rrn,
            columns.movement == own.movement,
        )
        for row in connection.execute(select(differences).where(waiting, mine).with_for_update()).all():
            booked = select(func.coalesce(func.sum(corrections.c.excess), 0))
            if int(connection.execute(booked.where(corrections.c.difference == row.number)).scalar_one()) == 0:
                values: dict[str, Any] = {"state": "GONE"}
            else:
                left = SIGNS[own.movement] * ((row.their_amount or own.amount) - own.amount)
                values = {"state": "OPEN", "excess": left, "found_at": now}
                told = {"number": row.number, "alarm": True}
                after_commit(connection, partial(_log.error, "what was corrected has come into the books", **told))
            connection.execute(update(differences).where(columns.number == row.number).values(values))
