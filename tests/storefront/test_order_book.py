"""The merchant's order book: one way forward, all or nothing, and still there after the process is gone."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pki.der import sha256
from runtime.group_writer import DatabaseUnavailableError
from storefront.errors import DocumentMissing, RrpidAlreadyUsed, XidAlreadyUsed
from storefront.merchant.documents import Document
from storefront.merchant.schema import metadata
from storefront.merchant.states import MOVES, PAID, UNFINISHED, OrderState, may_follow
from storefront.merchant.store import OrderStore

T = TypeVar("T")
NOW = datetime(2026, 3, 21, 12, 0, 0, tzinfo=UTC)
XID, RRPID = b"x" * 20, b"r" * 20


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[OrderStore]:
    store = OrderStore.open(tmp_path / "merchant.sqlite")
    yield store
    store.close()


def create(book: OrderStore, number: int = 0) -> bytes:
    xid = bytes([number]) * 20 if number else XID
    rrpid = bytes([number]) * 20 if number else RRPID
    run(
        book.create(
            xid=xid,
            rrpid=rrpid,
            h_request=sha256(rrpid),
            amount=150_000,
            stored={Document.INVOICE: b"invoice"},
            now=NOW,
        )
    )
    return xid


def order(book: OrderStore, xid: bytes = XID, **changes: Any) -> None:
    run(book.order(xid, **({"rrpid": sha256(xid)[:20], "purchase": b"preq", "now": NOW} | changes)))


def advance(book: OrderStore, state: OrderState) -> None:
    """Take a new order to a state."""
    create(book)
    ways = {
        OrderState.INVOICED: (),
        OrderState.PAID_PENDING: (),
        OrderState.AUTHORISED: (OrderState.AUTHORISED,),
        OrderState.ACKED: (OrderState.AUTHORISED, OrderState.ACKED),
        OrderState.RECEIPTED: (OrderState.AUTHORISED, OrderState.ACKED, OrderState.RECEIPTED),
        OrderState.DECLINED: (OrderState.DECLINED,),
        OrderState.UNKNOWN: (OrderState.UNKNOWN,),
        OrderState.REVERSED: (OrderState.UNKNOWN, OrderState.REVERSED),
    }
    if state is not OrderState.INVOICED:
        order(book)
    before = OrderState.PAID_PENDING
    for after in ways[state]:
        run(book.move(XID, before, after, now=NOW))
        before = after


@pytest.mark.parametrize(("before", "after"), list(product(OrderState, OrderState)), ids=lambda state: state.value)
def test_an_order_goes_forward_only(book: OrderStore, before: OrderState, after: OrderState) -> None:
    advance(book, before)
    if (before, after) == (OrderState.INVOICED, OrderState.PAID_PENDING):
        order(book)
    elif may_follow(before, after):
        run(book.move(XID, before, after, now=NOW))
    else:
        with pytest.raises(ValueError, match="does not go"):
            run(book.move(XID, before, after, now=NOW))
        return
    found = book.find(XID)
    assert found is not None
    assert (found.state, found.paid) == (after, after in PAID)


def test_every_state_is_an_end_or_is_driven_on() -> None:
    ends = {state for state, after in MOVES.items() if not after}
    assert ends == {OrderState.RECEIPTED, OrderState.DECLINED, OrderState.REVERSED}
    assert set(OrderState) - ends - {OrderState.INVOICED, OrderState.UNKNOWN} == UNFINISHED


def test_open_orders_are_found(book: OrderStore) -> None:
    assert book.in_state(OrderState.UNKNOWN) == []
    advance(book, OrderState.UNKNOWN)
    assert book.in_state(OrderState.UNKNOWN) == [XID]
    assert book.in_state(OrderState.REVERSED) == []


def test_a_move_from_another_state_stores_nothing(book: OrderStore) -> None:
    advance(book, OrderState.AUTHORISED)
    with pytest.raises(XidAlreadyUsed):
        run(
            book.move(
                XID,
                OrderState.PAID_PENDING,
                OrderState.DECLINED,
                now=NOW,
                stored={Document.ANSWER: b"no"},
                crls_used=[b"crl"],
            )
        )
    assert book.document(XID, Document.ANSWER) is None
    assert book.crls(XID) == []


def test_an_invoice_is_ordered_once_and_by_its_own_rrpid(book: OrderStore) -> None:
    create(book)
    second = create(book, 2)
    order(book, rrpid=b"p" * 20, crls_used=[b"crl-1", b"crl-2", b"crl-1"])
    with pytest.raises(XidAlreadyUsed):
        order(book, rrpid=b"q" * 20, purchase=b"another")
    with pytest.raises(RrpidAlreadyUsed):
        order(book, second, rrpid=b"p" * 20)
    assert book.document(XID, Document.PURCHASE) == b"preq"
    assert sorted(book.crls(XID)) == [b"crl-1", b"crl-2"]


def test_orders_that_were_judged_by_the_same_crls_share_them(book: OrderStore) -> None:
    for number in (1, 2):
        order(book, create(book, number), crls_used=[b"crl-1", b"crl-2"])
        assert sorted(book.crls(bytes([number]) * 20)) == [b"crl-1", b"crl-2"]


def test_crls_of_a_change_that_failed_are_kept_with_the_next(book: OrderStore) -> None:
    create(book)
    with pytest.raises(XidAlreadyUsed):
        run(book.move(XID, OrderState.PAID_PENDING, OrderState.DECLINED, now=NOW, crls_used=[b"crl"]))
    order(book, crls_used=[b"crl"])
    assert book.crls(XID) == [b"crl"]
    assert [each.xid for each in book.unfinished()] == [XID]


def test_a_second_invoice_for_one_request_is_not_stored(book: OrderStore) -> None:
    create(book)
    with pytest.raises(RrpidAlreadyUsed):
        run(book.create(xid=b"y" * 20, rrpid=RRPID, h_request=b"", amount=1, stored={}, now=NOW))
    assert book.find(b"y" * 20) is None


def test_the_first_document_of_a_kind_stays_unless_it_is_replaced_in_its_state(book: OrderStore) -> None:
    advance(book, OrderState.PAID_PENDING)
    for der in (b"first", b"second"):
        run(book.keep(XID, {Document.AUTH_REQ: der}, now=NOW))
    assert book.required(XID, Document.AUTH_REQ) == b"first"
    run(book.replace(XID, OrderState.PAID_PENDING, Document.AUTH_REQ, b"anew", now=NOW))
    assert book.required(XID, Document.AUTH_REQ) == b"anew"
    run(book.move(XID, OrderState.PAID_PENDING, OrderState.AUTHORISED, now=NOW, auth_code=0, rrn="608012000123"))
    with pytest.raises(XidAlreadyUsed):
        run(book.replace(XID, OrderState.PAID_PENDING, Document.AUTH_REQ, b"late", now=NOW))
    assert book.required(XID, Document.AUTH_REQ) == b"anew"
    with pytest.raises(DocumentMissing):
        book.required(XID, Document.RECEIPT)


def test_what_was_stored_is_there_when_the_book_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "merchant.sqlite"
    first = OrderStore.open(path)
    advance(first, OrderState.AUTHORISED)
    before = first.find(XID)
    first.close()
    first.close()
    with pytest.raises(DatabaseUnavailableError):
        run(first.keep(XID, {Document.RECEIPT: b""}, now=NOW))
    again = OrderStore.open(path)
    assert again.find(XID) == before
    assert again.find_by_rrpid(RRPID) == before
    assert again.documents(XID) == {Document.INVOICE: b"invoice", Document.PURCHASE: b"preq"}
    again.close()


def test_a_reader_writes_nothing(book: OrderStore) -> None:
    create(book)
    with book._reader.connect() as connection, pytest.raises(Exception, match="readonly"):
        connection.exec_driver_sql("DELETE FROM documents")


def test_the_newest_orders_come_first(book: OrderStore) -> None:
    for number in (1, 2, 3):
        create(book, number)
    assert len(book.newest(2)) == 2


def test_the_order_book_has_no_column_for_what_it_must_not_hold() -> None:
    columns = {column.name for table in metadata.tables.values() for column in table.columns}
    assert not columns & {"pan", "pin", "pin2", "cvv2", "expiry", "card"}


def test_threads_that_read_and_end_leave_no_connection_open(book: OrderStore) -> None:
    create(book)
    found: list[object] = []

    def read() -> None:
        found.append(book.find(XID))

    def opened() -> int:
        gc.collect()
        return sum(isinstance(each, sqlite3.Connection) for each in gc.get_objects())

    read()
    before = opened()
    for _ in range(12):
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    assert len(found) == 13
    assert None not in found
    assert opened() == before


def test_as_many_threads_as_like_read_at_a_time(book: OrderStore) -> None:
    create(book)
    together, found = threading.Barrier(32), list[object]()

    def read() -> None:
        found.append(book.find(XID))
        together.wait(60)  # its connection is kept meanwhile

    threads = [threading.Thread(target=read) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 32


def test_what_was_read_before_keeps_no_old_state(book: OrderStore) -> None:
    create(book)
    for state in (OrderState.INVOICED, OrderState.PAID_PENDING):
        found = book.find(XID)
        assert found is not None
        assert found.state is state
        if state is OrderState.INVOICED:
            order(book)
