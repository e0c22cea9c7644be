"""The merchant's book of the money after the authorisation; every write is durable when it returns.

An order's `Standing` is not kept but read out of the signed answers each time: what the gateway's book does with a
request, this one does with the same request and the same answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, Final

from cryptography import x509
from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from kwbp import fields
from kwbp.codes import BatchStatus, EntryKind
from kwbp.common import instant
from kwbp.messages import AuthResTBS
from kwbp.settling import Batch, BatchAdminResTBS, Entry, SettlingResTBS, Standing, read_request, sale_entry
from kwbp.wrapper import wrap
from pki.der import sha256
from pki.oids import CT_BATCH_ADMIN_REQ
from runtime.database import insert_new
from runtime.language import Message
from shetab.errors import ValueFormatError
from shetab.jalali import IRAN_STANDARD_TIME, settlement_date
from storefront.errors import MoneyRefused
from storefront.merchant import recall
from storefront.merchant.documents import Document
from storefront.merchant.judged_by import JudgedBy
from storefront.merchant.money import schema
from storefront.merchant.money.states import RequestState
from storefront.merchant.schema import orders
from storefront.merchant.states import PAID
from storefront.merchant.store import OrderStore, as_text, as_time

_AT_ONCE: Final = 256
BATCHES: Final = b"batches"
"""What an open request is about that is of no order."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as kept; `der` is what is sent each time, `answer` the gateway's last word, both SignedData."""

    number: int
    wish: str
    asked: str
    rrpid: bytes
    content_type: x509.ObjectIdentifier
    xid: bytes | None
    state: RequestState
    der: bytes
    answer: bytes | None
    code: str | None
    clause: str | None
    created_at: datetime
    changed_at: datetime

    def message(self) -> bytes:
        """The KwbpMessage that carries it: for the same request, the same bytes."""
        return wrap(self.content_type, self.der, rrpid=self.rrpid, xid=self.xid)

    @property
    def of_batch(self) -> bool:
        return self.content_type == CT_BATCH_ADMIN_REQ


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A request that was signed and is to be kept."""

    wish: str
    asked: str
    rrpid: bytes
    content_type: x509.ObjectIdentifier
    xid: bytes | None
    der: bytes


class MoneyBook:
    """All access to what is kept after the authorisation."""

    def __init__(self, store: OrderStore) -> None:
        self.orders = store
        schema.metadata.create_all(store.engine)

    # --- requests -----------------------------------------------------------------------------------------------------

    async def take_in(self, new: NewRequest, *, now: datetime) -> Request:
        """Keep a request before it is sent; of a wish that is known, the request that it became.

        :raises MoneyRefused: the wish's name stands for another wish, or a request about the same is open.
        """
        about = new.xid or BATCHES
        row = {
            "wish": new.wish,
            "asked": new.asked,
            "rrpid": new.rrpid,
            "content_type": new.content_type.dotted_string,
            "xid": new.xid,
            "open_about": about,
            "state": RequestState.OPEN,
            "der": new.der,
            "created_at": as_text(now),
            "changed_at": as_text(now),
        }

        def job(connection: Connection) -> Request:
            known = _one(connection, schema.requests.c.wish == new.wish)
            if known is not None:
                return same_wish(known, new.asked)
            if _one(connection, schema.requests.c.open_about == about) is not None:
                raise still_open()
            connection.execute(insert(schema.requests).values(row))
            taken = _one(connection, schema.requests.c.wish == new.wish)
            assert taken is not None  # it was inserted in this transaction
            return taken

        return await self.orders.write(job)

    async def conclude(
        self,
        request: Request,
        state: RequestState,
        answer: bytes,
        *,
        code: str | None,
        clause: str | None = None,
        entry: Entry | None = None,
        business_day: date | None = None,
        batch: Batch | None = None,
        crls_used: Iterable[bytes] = (),
        now: datetime,
    ) -> None:
        """Keep the gateway's last word about an open request with all that follows from it, once; all or nothing.

        :param entry: what an approval adds to the batch, and :param business_day: where the network counts it.
        :param crls_used: DER of the CRLs by which the answer was judged.
        """
        used = tuple(crls_used)
        values = {
            "state": state,
            "open_about": None,
            "answer": answer,
            "h_answer": sha256(answer),
            "code": code,
            "clause": clause,
            "changed_at": as_text(now),
        }

        def job(connection: Connection) -> None:
            mine = (schema.requests.c.number == request.number, schema.requests.c.state == RequestState.OPEN)
            if connection.execute(update(schema.requests).where(*mine).values(values)).rowcount != 1:
                return
            if entry is not None and business_day is not None:
                insert_new(connection, schema.entries, **_entry_row(entry, business_day))
            if batch is not None:
                _put_batch(connection, batch)
            if request.xid is not None:
                JudgedBy(used).put(connection, request.xid)

        await self.orders.write(job)

    def request(self, number: int) -> Request:
        """One request; it must be there."""
        found = self._first(schema.requests.c.number == number)
        assert found is not None  # requests are never deleted
        return found

    def by_wish(self, wish: str) -> Request | None:
        """The request that a wish of this name became."""
        return self._first(schema.requests.c.wish == wish)

    def by_answer(self, h_answer: bytes) -> Request | None:
        """The request whose answer has this hash."""
        return self._first(schema.requests.c.h_answer == h_answer)

    def open_about(self, about: bytes) -> Request | None:
        """The open request about an order (XID) or the BATCHES."""
        return self._first(schema.requests.c.open_about == about)

    def open_requests(self) -> list[Request]:
        """Every request whose outcome is not known, in the order in which they were made."""
        return self._requests(schema.requests.c.state == RequestState.OPEN)

    def of_order(self, xid: bytes) -> list[Request]:
        """Every request about an order, in the order in which they were made."""
        return self._requests(schema.requests.c.xid == xid)

    def answered(self, xid: bytes) -> list[Request]:
        """The requests about an order whose final answer is here, in the order in which they were made."""
        return [each for each in self.of_order(xid) if each.state in (RequestState.APPROVED, RequestState.DECLINED)]

    def of_batches(self) -> list[Request]:
        """Every request about batches, in the order in which they were made."""
        return self._requests(schema.requests.c.xid.is_(None))

    # --- how an order stands ------------------------------------------------------------------------------------------

    def standing(self, xid: bytes) -> Standing | None:
        """The order as the gateway's book has it, as far as its answers are here; None if nothing was approved."""
        order = self.orders.find(xid)
        if order is None or order.state not in PAID:
            return None
        auth_res = self.orders.required(xid, Document.AUTH_RES)
        standing = Standing.of(auth_res, sale=self._is_sale(xid), acknowledged=True)
        for each in self.of_order(xid):
            if each.state is RequestState.REFUSED:  # the gateway did not take it in
                continue
            body = read_request(each.content_type, each.der).body
            standing = standing.taken_in(body.rrpid, sha256(each.der))
            if each.state is not RequestState.OPEN:
                approved = each.answer if each.state is RequestState.APPROVED else None
                standing = standing.concluded(body, None if approved is None else sha256(approved))
        return self._with_settled(standing)

    def _is_sale(self, xid: bytes) -> bool:
        return recall.auth_req(self.orders.required(xid, Document.AUTH_REQ)).capture_now

    def _with_settled(self, standing: Standing) -> Standing:
        """What is in a closed batch is settled."""
        closed = self._closed_until()
        if closed is None:
            return standing
        with self.orders.reading() as connection:
            rows = connection.execute(
                select(schema.entries.c.h_answer).where(
                    schema.entries.c.xid == standing.xid, schema.entries.c.date < as_text(closed)
                )
            )
            settled = {bytes(row.h_answer) for row in rows}
        auth_res = self.orders.required(standing.xid, Document.AUTH_RES)
        if instant(recall.auth_res(auth_res).body.date) < closed:  # also if the sale is not booked yet
            settled.add(standing.h_auth_res)
        return replace(
            standing,
            captures=tuple(replace(each, settled=each.h_answer in settled) for each in standing.captures),
            credits=tuple(replace(each, settled=each.h_answer in settled) for each in standing.credits),
        )

    # --- entries and batches ------------------------------------------------------------------------------------------

    async def book_sales(self) -> None:
        """Enter the sales concluded since this was called last. What a crash leaves out, the next call enters."""
        unbooked = (
            select(orders.c.xid)
            .outerjoin(schema.purchases, schema.purchases.c.xid == orders.c.xid)
            .where(orders.c.state.in_(PAID), schema.purchases.c.xid.is_(None))
        )
        with self.orders.reading() as connection:
            xids = [bytes(row.xid) for row in connection.execute(unbooked)]
        for start in range(0, len(xids), _AT_ONCE):  # written together, they share the syncs of the disk
            await asyncio.gather(*(self._book(xid) for xid in xids[start : start + _AT_ONCE]))

    async def _book(self, xid: bytes) -> None:
        """Enter the beginning of one order."""
        row: dict[str, Any] | None = None
        if self._is_sale(xid):
            auth_res = self.orders.required(xid, Document.AUTH_RES)
            row = _entry_row(sale_entry(auth_res), business_day_of(recall.auth_res(auth_res).body))

        def job(connection: Connection) -> None:
            if row is not None:
                insert_new(connection, schema.entries, **row)
            insert_new(connection, schema.purchases, xid=xid, sale=row is not None)

        await self.orders.write(job)

    def entries(self, begins: datetime | None, until: datetime) -> list[Entry]:
        """The movements answered at `begins` or later and before `until`, both whole seconds."""
        query = select(schema.entries).where(schema.entries.c.date < as_text(until))
        if begins is not None:
            query = query.where(schema.entries.c.date >= as_text(begins))
        with self.orders.reading() as connection:
            return [_entry(row) for row in connection.execute(query.order_by(schema.entries.c.date))]

    def entries_of_day(self, day: date) -> list[Entry]:
        """The movements that the network counts in a business day."""
        query = select(schema.entries).where(schema.entries.c.business_day == day.isoformat())
        with self.orders.reading() as connection:
            return [_entry(row) for row in connection.execute(query.order_by(schema.entries.c.date))]

    def newest_batch(self) -> Batch | None:
        """The batch that is open, or was closed last."""
        with self.orders.reading() as connection:
            row = connection.execute(select(schema.batches).order_by(schema.batches.c.batch_id.desc()).limit(1)).first()
        return None if row is None else Batch(row.batch_id, _maybe_time(row.begins), _maybe_time(row.until))

    def _closed_until(self) -> datetime | None:
        """Where the last closed batch ended."""
        with self.orders.reading() as connection:
            until = connection.execute(
                select(schema.batches.c.until)
                .where(schema.batches.c.until.is_not(None))
                .order_by(schema.batches.c.batch_id.desc())
                .limit(1)
            ).scalar()
        return _maybe_time(until)

    # --- advices ------------------------------------------------------------------------------------------------------

    async def keep_advice(self, business_date: str, part: int, parts: int, der: bytes, *, now: datetime) -> None:
        """Keep a part of a day's advice (SignedData); the first of a number stays."""
        row = {"business_date": business_date, "part": part, "parts": parts, "der": der, "stored_at": as_text(now)}
        await self.orders.write(lambda connection: insert_new(connection, schema.advices, **row))

    def advice(self, business_date: str) -> Mapping[int, bytes]:
        """The parts of a day's advice that came, by their numbers."""
        query = select(schema.advices).where(schema.advices.c.business_date == business_date)
        with self.orders.reading() as connection:
            return {row.part: bytes(row.der) for row in connection.execute(query)}

    # --- reading ------------------------------------------------------------------------------------------------------

    def _first(self, condition: ColumnElement[bool]) -> Request | None:
        with self.orders.reading() as connection:
            return _one(connection, condition)

    def _requests(self, condition: ColumnElement[bool]) -> list[Request]:
        with self.orders.reading() as connection:
            rows: Sequence[Row[Any]] = connection.execute(
                select(schema.requests).where(condition).order_by(schema.requests.c.number)
            ).all()
        return [_request(row) for row in rows]


def same_wish(known: Request, asked: str) -> Request:
    """The request that a wish became; raises MoneyRefused if another one had its name."""
    if known.asked != asked:
        raise MoneyRefused(Message("the name {wish} stands for another wish already", wish=known.wish))
    return known


def still_open() -> MoneyRefused:
    """H5, before anything is signed."""
    return MoneyRefused(
        Message("an earlier request is open: its outcome must be known first; the shop goes on asking"), clause="H5"
    )


def batch_of(answer: BatchAdminResTBS) -> Batch:
    """A batch as the gateway's answer has it."""
    closed = answer.status is BatchStatus.CLOSED
    return Batch(
        answer.batch_id,
        instant(answer.begins) if answer.begins is not None else None,
        instant(answer.until) if closed else None,
    )


def _put_batch(connection: Connection, batch: Batch) -> None:
    begins, until = (None if each is None else as_text(each) for each in (batch.begins, batch.until))
    insert_new(connection, schema.batches, batch_id=batch.batch_id, begins=begins, until=until)
    if until is not None:
        connection.execute(
            update(schema.batches)
            .where(schema.batches.c.batch_id == batch.batch_id, schema.batches.c.until.is_(None))
            .values(until=until)
        )


def _one(connection: Connection, condition: ColumnElement[bool]) -> Request | None:
    row = connection.execute(select(schema.requests).where(condition)).first()
    return None if row is None else _request(row)


def _request(row: Row[Any]) -> Request:
    return Request(
        number=row.number,
        wish=row.wish,
        asked=row.asked,
        rrpid=bytes(row.rrpid),
        content_type=x509.ObjectIdentifier(row.content_type),
        xid=None if row.xid is None else bytes(row.xid),
        state=RequestState(row.state),
        der=bytes(row.der),
        answer=None if row.answer is None else bytes(row.answer),
        code=row.code,
        clause=row.clause,
        created_at=as_time(row.created_at),
        changed_at=as_time(row.changed_at),
    )


def business_day_of(answer: AuthResTBS | SettlingResTBS) -> date:
    """The day in which the network counts an approval: its DE 15, else the day in Iran on which it was given."""
    given = instant(answer.date)
    if answer.settle_date is not None:
        with suppress(ValueFormatError):
            return settlement_date(answer.settle_date, given)
    return given.astimezone(IRAN_STANDARD_TIME).date()


def _entry_row(entry: Entry, day: date) -> dict[str, Any]:
    return {
        "h_answer": entry.h_answer,
        "xid": entry.xid,
        "kind": int(entry.kind),
        "amount": entry.amount,
        "date": as_text(instant(entry.date)),
        "business_day": day.isoformat(),
    }


def _entry(row: Row[Any]) -> Entry:
    return Entry(
        kind=EntryKind(row.kind),
        xid=bytes(row.xid),
        h_answer=bytes(row.h_answer),
        amount=row.amount,
        date=fields.to_time(as_time(row.date)),
    )


def _maybe_time(text: str | None) -> datetime | None:
    return None if text is None else as_time(text)
