"""The merchant's order book: one row an order, changed only by compare-and-set, and every signed object.

What is stored is what was sent or received, byte for byte: a repeat is answered from here, and evidence is exported
from here. CRLs are kept by content, with the orders that were judged by them, so that a dispute years later is judged
by the status of that day.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from weakref import WeakSet

from sqlalchemy import (
    Connection,
    Engine,
    Row,
    Select,
    bindparam,
    create_engine,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.pool import NullPool

from pki.der import sha256
from runtime.database import insert_all_new, insert_new, open_database
from runtime.group_writer import GroupWriter
from storefront.errors import DocumentMissing, RrpidAlreadyUsed, XidAlreadyUsed
from storefront.merchant.documents import Document
from storefront.merchant.judged_by import KnownLists
from storefront.merchant.schema import crls, documents, metadata, order_crls, orders, proofs
from storefront.merchant.states import PAID, UNFINISHED, OrderState, may_follow

T = TypeVar("T")

# Composed once: composing takes longer than asking SQLite does, and each payment asks a score of times.
_BY_XID: Final = select(orders).where(orders.c.xid == bindparam("value"))
_BY_RRPID: Final = select(orders).where(orders.c.rrpid == bindparam("value"))
_DOCUMENT: Final = select(documents.c.der).where(
    documents.c.xid == bindparam("xid"), documents.c.kind == bindparam("kind")
)
_DOCUMENTS: Final = select(documents.c.kind, documents.c.der).where(documents.c.xid == bindparam("xid"))
_CREATE: Final = insert(orders)
_MOVE: Final = (
    update(orders)
    .where(orders.c.xid == bindparam("this"), orders.c.state == bindparam("before"))
    .values(state=bindparam("after"), changed_at=bindparam("time"))
)
_ANSWERED: Final = _MOVE.values(auth_code=bindparam("code"), rrn=bindparam("reference"))
_ORDERED: Final = _MOVE.values(h_purchase=bindparam("h"), purchase_rrpid=bindparam("rrpid_used"))
_RRPID_USED: Final = select(orders.c.xid).where(
    orders.c.purchase_rrpid == bindparam("value"), orders.c.xid != bindparam("this")
)
_PROOFS: Final = select(proofs.c.name, proofs.c.der).where(proofs.c.xid == bindparam("xid"))


@dataclass(frozen=True, slots=True)
class Order:
    """One order as stored; times are UTC."""

    xid: bytes
    state: OrderState
    rrpid: bytes
    h_request: bytes
    h_purchase: bytes | None
    amount: int
    rrn: str | None
    auth_code: int | None
    created_at: datetime
    changed_at: datetime

    @property
    def paid(self) -> bool:
        """Whether the goods may be shipped."""
        return self.state in PAID


class OrderStore:
    """All access to the order book. Writes go through a `GroupWriter`; each is durable when it returns.

    Reads have connections of their own: those of `open_database` take the write lock, and would wait for each sync.
    Of a file, each thread keeps one, which begins no transaction: to fetch one each time takes longer than to ask.
    """

    COMPLETE: Final = "complete"
    """The proof that no other is missing."""

    def __init__(self, engine: Engine, reader: Engine) -> None:
        metadata.create_all(engine)
        self._engine = engine
        self._reader = reader
        self._mine = threading.local()
        self._kept: WeakSet[Connection] = WeakSet()
        self._lists = KnownLists()
        self._writer = GroupWriter(engine, "merchant")
        self._writer.start()

    @classmethod
    def open(cls, target: Path | str) -> Self:
        """Open an order book by path (SQLite) or URL, and make it if it is new. Close it when done."""
        engine = open_database(target)
        if engine.dialect.name != "sqlite":
            return cls(engine, engine)
        reader = create_engine(
            engine.url,
            connect_args={"check_same_thread": False, "timeout": 30},
            isolation_level="AUTOCOMMIT",
            poolclass=NullPool,  # kept here, by as many threads as ask; one that ends gives its own up
        )
        event.listen(reader, "connect", lambda connection, _: connection.execute("PRAGMA query_only=ON"))
        return cls(engine, reader)

    @property
    def engine(self) -> Engine:
        """For whoever keeps tables of its own beside these (`storefront.merchant.money`)."""
        return self._engine

    async def write(self, job: Callable[[Connection], T]) -> T:
        """Run `job` in a transaction of the one writer; what it did is durable when this returns."""
        return await self._writer.run(job)

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection that only reads; what it finds is read before the next is asked for."""
        if self._reader is self._engine:  # to a server: it may have been cut
            return self._reader.connect()
        kept: Connection | None = getattr(self._mine, "connection", None)
        if kept is None or kept.closed or kept.invalidated:
            kept = self._mine.connection = self._reader.connect()
            self._kept.add(kept)
        return nullcontext(kept)

    def close(self) -> None:
        """Finish what is queued, then close. May be called twice."""
        self._writer.close()
        while self._kept:
            self._kept.pop().close()
        self._engine.dispose()
        self._reader.dispose()

    async def create(
        self,
        *,
        xid: bytes,
        rrpid: bytes,
        h_request: bytes,
        amount: int,
        stored: Mapping[Document, bytes],
        now: datetime,
    ) -> None:
        """Store a new order in state INVOICED with its documents; raises RrpidAlreadyUsed."""

        def job(connection: Connection) -> None:
            if connection.execute(_BY_RRPID, {"value": rrpid}).first() is not None:
                raise RrpidAlreadyUsed
            time = as_text(now)
            row = {
                "xid": xid,
                "state": OrderState.INVOICED,
                "rrpid": rrpid,
                "h_request": h_request,
                "amount": amount,
                "created_at": time,
                "changed_at": time,
            }
            connection.execute(_CREATE, row)
            _put(connection, xid, stored, now)

        await self._writer.run(job)

    async def move(
        self,
        xid: bytes,
        before: OrderState,
        after: OrderState,
        *,
        now: datetime,
        stored: Mapping[Document, bytes] | None = None,
        crls_used: Iterable[bytes] = (),
        rrn: str | None = None,
        auth_code: int | None = None,
    ) -> None:
        """Change the state by compare-and-set and store documents with it, all or nothing.

        :param crls_used: DER of the CRLs by which the change was judged.
        :param rrn: DE 37, :param auth_code: of AuthRes, where the change brings one.
        :raises XidAlreadyUsed: the order is not in state `before`. :raises ValueError: no order goes this way.
        """
        if not may_follow(before, after):
            raise ValueError(f"an order does not go from {before} to {after}")
        used = self._lists.judged_by(crls_used)
        values: dict[str, Any] = {"this": xid, "before": before, "after": after, "time": as_text(now)}
        statement = _MOVE
        if auth_code is not None:
            statement = _ANSWERED
            values |= {"code": auth_code, "reference": rrn}

        def job(connection: Connection) -> None:
            if connection.execute(statement, values).rowcount != 1:
                raise XidAlreadyUsed
            _put(connection, xid, stored or {}, now)
            used.put(connection, xid)

        await self._writer.run(job)
        self._lists.committed(used)

    async def conclude(self, xid: bytes, receipt: Mapping[Document, bytes], *, now: datetime) -> None:
        """AUTHORISED through ACKED to RECEIPTED in one transaction, with the receipt; raises XidAlreadyUsed."""
        time, s = as_text(now), OrderState

        def job(connection: Connection) -> None:
            for before, after in ((s.AUTHORISED, s.ACKED), (s.ACKED, s.RECEIPTED)):
                values = {"this": xid, "before": before, "after": after, "time": time}
                if connection.execute(_MOVE, values).rowcount != 1:
                    raise XidAlreadyUsed
            _put(connection, xid, receipt, now)

        await self._writer.run(job)

    def require_free(self, xid: bytes, rrpid: bytes) -> None:
        """Raises what `order` would if it had to judge by what is stored now."""
        with self.reading() as connection:
            if connection.execute(_RRPID_USED, {"value": rrpid, "this": xid}).first() is not None:
                raise RrpidAlreadyUsed
            row = connection.execute(_BY_XID, {"value": xid}).first()
        if row is None or row.state != OrderState.INVOICED:
            raise XidAlreadyUsed

    async def order(
        self,
        xid: bytes,
        *,
        rrpid: bytes,
        purchase: bytes,
        now: datetime,
        auth_req: bytes | None = None,
        crls_used: Iterable[bytes] = (),
    ) -> None:
        """M9: INVOICED to PAID_PENDING by the buyer's message `purchase`, once.

        :param rrpid: of the PReq. :param auth_req: what the gateway will be asked with, if it is signed already.
        :raises XidAlreadyUsed: another message was faster, or the same one. :raises RrpidAlreadyUsed: K3.
        """
        used = self._lists.judged_by(crls_used)
        values = {"this": xid, "before": OrderState.INVOICED, "after": OrderState.PAID_PENDING}
        values |= {"time": as_text(now), "h": sha256(purchase), "rrpid_used": rrpid}
        stored = {Document.PURCHASE: purchase} | ({} if auth_req is None else {Document.AUTH_REQ: auth_req})

        def job(connection: Connection) -> None:
            if connection.execute(_RRPID_USED, {"value": rrpid, "this": xid}).first() is not None:
                raise RrpidAlreadyUsed
            if connection.execute(_ORDERED, values).rowcount != 1:
                raise XidAlreadyUsed
            _put(connection, xid, stored, now)
            used.put(connection, xid)

        await self._writer.run(job)
        self._lists.committed(used)

    async def replace(self, xid: bytes, state: OrderState, kind: Document, der: bytes, *, now: datetime) -> None:
        """Put a newer object in the place of one that the gateway will never take; raises XidAlreadyUsed.

        :param state: the order must be in it, and stays there.
        """

        def job(connection: Connection) -> None:
            current = connection.execute(select(orders.c.state).where(orders.c.xid == xid)).scalar_one()
            if current != state:
                raise XidAlreadyUsed
            connection.execute(
                update(documents)
                .where(documents.c.xid == xid, documents.c.kind == kind.value)
                .values(der=der, stored_at=as_text(now))
            )

        await self._writer.run(job)

    async def keep(self, xid: bytes, stored: Mapping[Document, bytes], *, now: datetime) -> None:
        """Store documents of an order that keeps its state. The first one of a kind stays."""
        await self._writer.run(lambda connection: _put(connection, xid, stored, now))

    async def keep_first(self, xid: bytes, kind: Document, der: bytes, *, now: datetime) -> bytes:
        """As `keep`; returns the one that is stored: `der`, or one that was there."""
        row = {"xid": xid, "kind": kind.value, "der": der, "stored_at": as_text(now)}
        new = await self._writer.run(lambda connection: insert_new(connection, documents, **row))
        return der if new else self.required(xid, kind)

    async def prove(
        self, xid: bytes, found: Mapping[str, bytes], *, now: datetime, crls_used: Iterable[bytes] = ()
    ) -> None:
        """Store proofs (by name) of what the order rests on, with the CRLs by which they were judged.

        The first of a name stays.
        """
        used, time = self._lists.judged_by(crls_used), as_text(now)
        rows = [{"xid": xid, "name": name, "der": der, "stored_at": time} for name, der in found.items()]

        def job(connection: Connection) -> None:
            insert_all_new(connection, proofs, rows)
            used.put(connection, xid)

        await self._writer.run(job)
        self._lists.committed(used)

    def proofs(self, xid: bytes) -> dict[str, bytes]:
        """The proofs of an order, by name."""
        with self.reading() as connection:
            rows = connection.execute(_PROOFS, {"xid": xid}).all()
        return {row.name: bytes(row.der) for row in rows if row.name != self.COMPLETE}

    def unproven(self, limit: int = 1000) -> list[bytes]:
        """XIDs of orders that the gateway answered and whose proofs are not complete, the newest first."""
        complete = select(proofs.c.xid).where(proofs.c.xid == documents.c.xid, proofs.c.name == self.COMPLETE)
        query = (
            select(documents.c.xid)
            .where(documents.c.kind == Document.AUTH_RES.value, ~complete.exists())
            .order_by(documents.c.stored_at.desc())
            .limit(limit)
        )
        with self.reading() as connection:
            return [bytes(row.xid) for row in connection.execute(query)]

    def find(self, xid: bytes) -> Order | None:
        """The order of this XID."""
        return self._one(_BY_XID, xid)

    def find_by_rrpid(self, rrpid: bytes) -> Order | None:
        """The order that the invoice request of this RRPID made."""
        return self._one(_BY_RRPID, rrpid)

    def document(self, xid: bytes, kind: Document) -> bytes | None:
        """One stored object."""
        with self.reading() as connection:
            row = connection.execute(_DOCUMENT, {"xid": xid, "kind": kind.value}).first()
        return None if row is None else bytes(row.der)

    def required(self, xid: bytes, kind: Document) -> bytes:
        """One object that the order must have in its state; raises DocumentMissing."""
        der = self.document(xid, kind)
        if der is None:
            raise DocumentMissing(f"the order book has no {kind} of {xid.hex()}")
        return der

    def documents(self, xid: bytes) -> dict[Document, bytes]:
        """All stored objects of an order."""
        with self.reading() as connection:
            rows = connection.execute(_DOCUMENTS, {"xid": xid}).all()
        return {Document(row.kind): bytes(row.der) for row in rows}

    def crls(self, xid: bytes) -> list[bytes]:
        """The CRLs (DER) by which the order was judged."""
        with self.reading() as connection:
            rows = connection.execute(
                select(crls.c.der).join(order_crls, order_crls.c.sha256 == crls.c.sha256).where(order_crls.c.xid == xid)
            ).all()
        return [bytes(row.der) for row in rows]

    def unfinished(self) -> list[Order]:
        """Orders that a merchant which starts again must drive on."""
        with self.reading() as connection:
            rows = connection.execute(
                select(orders).where(orders.c.state.in_(UNFINISHED)).order_by(orders.c.created_at)
            ).all()
        return [_order(row) for row in rows]

    def in_state(self, state: OrderState) -> list[bytes]:
        """XIDs of all orders in this state, the oldest first."""
        with self.reading() as connection:
            rows = connection.execute(select(orders.c.xid).where(orders.c.state == state).order_by(orders.c.created_at))
            return [bytes(row.xid) for row in rows]

    def newest(self, limit: int) -> list[Order]:
        """The newest orders, newest first."""
        with self.reading() as connection:
            rows = connection.execute(select(orders).order_by(orders.c.created_at.desc()).limit(limit)).all()
        return [_order(row) for row in rows]

    def _one(self, query: Select[Any], value: bytes) -> Order | None:
        with self.reading() as connection:
            row = connection.execute(query, {"value": value}).first()
        return None if row is None else _order(row)


def _put(connection: Connection, xid: bytes, stored: Mapping[Document, bytes], now: datetime) -> None:
    time = as_text(now)
    rows = [{"xid": xid, "kind": kind.value, "der": der, "stored_at": time} for kind, der in stored.items()]
    insert_all_new(connection, documents, rows)


def _order(row: Row[Any]) -> Order:
    return Order(
        xid=bytes(row.xid),
        state=OrderState(row.state),
        rrpid=bytes(row.rrpid),
        h_request=bytes(row.h_request),
        h_purchase=None if row.h_purchase is None else bytes(row.h_purchase),
        amount=row.amount,
        rrn=row.rrn,
        auth_code=row.auth_code,
        created_at=as_time(row.created_at),
        changed_at=as_time(row.changed_at),
    )


def as_text(time: datetime) -> str:
    """A time as the tables hold it: UTC, whole seconds, in the order of time."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def as_time(text: str) -> datetime:
    """The time that `as_text` wrote."""
    return datetime.fromisoformat(text)  # strptime takes twenty times as long
