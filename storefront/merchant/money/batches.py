"""Batches: which one is in turn, up to when its entries are whole, and how the two books' sums differ.

A batch is closed where both books hold the same entries. A purchase or a request whose outcome is not known yet may
still become an entry dated before this moment; the batch ends before the first of them, and they fall into the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from kwbp.codes import EntryKind
from kwbp.common import instant
from kwbp.settling import Batch, BatchTotals
from runtime.language import Message
from storefront.errors import MoneyRefused
from storefront.merchant import recall
from storefront.merchant.documents import Document
from storefront.merchant.money.book import MoneyBook
from storefront.merchant.states import OrderState


def to_open(newest: Batch | None) -> int:
    """The number of the batch that can be opened; raises MoneyRefused (L3) while one is open."""
    if newest is None:
        return 1
    if newest.until is None:
        raise MoneyRefused(
            Message(
                "batch {number} is open: close it first, with {command}",
                number=newest.batch_id,
                command="'kwbp merchant batch close'",
            ),
            clause="L3",
        )
    return newest.batch_id + 1


def to_close(newest: Batch | None) -> Batch:
    """The batch that is open; raises MoneyRefused (L3) if none is."""
    if newest is None or newest.until is not None:
        raise MoneyRefused(
            Message("no batch is open: open one with {command}", command="'kwbp merchant batch open'"), clause="L3"
        )
    return newest


def whole_until(book: MoneyBook, now: datetime) -> datetime:
    """Up to when the book holds every entry that there will be: `now`, or the beginning of what is still under way.

    Ask this before the sales are booked: what is concluded in between is then in one of the two.
    """
    moments = [now]
    for xid in book.orders.in_state(OrderState.PAID_PENDING):
        order = book.orders.find(xid)
        assert order is not None  # orders are never deleted
        moments.append(order.changed_at)
    for xid in book.orders.in_state(OrderState.AUTHORISED):
        moments.append(instant(recall.auth_res(book.orders.required(xid, Document.AUTH_RES)).body.date))
    moments += [each.created_at for each in book.open_requests() if not each.of_batch]
    return min(moments).replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class KindCompared:
    """What both books say of one kind of entries: how many, and rial."""

    kind: EntryKind
    own_count: int
    own_amount: int
    gateway_count: int
    gateway_amount: int

    @property
    def agrees(self) -> bool:
        return (self.own_count, self.own_amount) == (self.gateway_count, self.gateway_amount)


def compared(own: BatchTotals, gateway: BatchTotals) -> Sequence[KindCompared]:
    """Both books' sums, kind by kind."""
    mine = {each.kind: (each.count, each.amount) for each in own.totals}
    theirs = {each.kind: (each.count, each.amount) for each in gateway.totals}
    return [
        KindCompared(kind, *mine.get(kind, (0, 0)), *theirs.get(kind, (0, 0)))
        for kind in sorted(mine.keys() | theirs.keys())
    ]


@dataclass(frozen=True, slots=True)
class BatchView:
    """The sums of the own book up to `until`."""

    until: datetime
    totals: BatchTotals
