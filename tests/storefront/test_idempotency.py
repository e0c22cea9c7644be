"""The same message gets the same answer, however often and from however many; another message gets none of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kwbp import wallet as protocol
from kwbp.codes import ErrorCode
from kwbp.wrapper import KwbpMessage, unwrap
from pki.oids import CT_ERROR, CT_RECEIPT, MT_INVOICE
from storefront.merchant.documents import Document
from storefront.merchant.states import OrderState
from tests.support.payment_site import OPENING, now
from tests.support.shop_front import TOTAL, Customer, Front

REQUEST, PURCHASE = "/kwbp/invoice-request", "/kwbp/purchase"


def in_parallel(front: Front, path: str, message: bytes, times: int = 50) -> set[bytes]:
    """The different answers to `times` copies."""
    with ThreadPoolExecutor(25) as pool:
        return {response.content for response in pool.map(lambda _: front.post(path, message), range(times))}


def xid_of(invoice: bytes) -> bytes:
    xid = unwrap(invoice, expected=(MT_INVOICE,)).xid
    assert xid is not None
    return xid


def test_fifty_requests_at_once_are_one_invoice(front: Front, customer: Customer) -> None:
    message = customer.signed(customer.ask())
    with front.serving():
        (answer,) = in_parallel(front, REQUEST, message)
        assert front.post(REQUEST, message).content == answer
    with front.serving():
        assert front.post(REQUEST, message).content == answer
    with front.book() as book:
        (order,) = book.newest(10)
    assert order.state is OrderState.INVOICED
    assert order.xid == xid_of(answer)


def test_fifty_orders_at_once_are_one_order_one_debit_and_one_receipt(front: Front, customer: Customer) -> None:
    with front.serving():
        request = customer.ask()
        order = customer.accept(request, front.post(REQUEST, customer.signed(request)).content, front)
        message = customer.dual_signed(order)
        (answer,) = in_parallel(front, PURCHASE, message)
        assert front.post(PURCHASE, message).content == answer
    with front.serving():
        assert front.post(PURCHASE, message).content == answer
    receipt = unwrap(answer, expected=(CT_RECEIPT,))
    assert receipt.xid == order.oi.xid
    assert (front.line.count("/v1/auth"), front.line.count("/v1/ack")) == (1, 1)
    assert (customer.balance, front.debits()) == (OPENING - TOTAL, 1)


def test_another_request_may_not_use_the_rrpid(front: Front, customer: Customer) -> None:
    request = customer.ask()
    other = customer.ask(rrpid=request.body.rrpid, basket=(("golestan", 1),))
    with front.serving():
        first = front.post(REQUEST, customer.signed(request)).content
        message = customer.signed(other)
        refused = front.refused(REQUEST, message).body
        assert (refused.error_code, refused.clause) == (ErrorCode.BAD_MESSAGE_HEADER, "K3")
        with front.book() as book:
            (order,) = book.newest(10)
        assert order.xid == xid_of(first)


def test_of_two_requests_with_one_rrpid_at_once_one_gets_the_invoice(front: Front, customer: Customer) -> None:
    request = customer.ask()
    messages = [
        customer.signed(customer.ask(rrpid=request.body.rrpid, basket=(("golestan", quantity),)))
        for quantity in range(1, 11)
    ]
    with front.serving(), ThreadPoolExecutor(10) as pool:
        answers = [response.content for response in pool.map(lambda each: front.post(REQUEST, each), messages)]
        assert [unwrap_any(answer).msg_type for answer in answers].count(MT_INVOICE) == 1
        with front.book() as book:
            assert len(book.newest(10)) == 1


def unwrap_any(answer: bytes) -> KwbpMessage:
    return unwrap(answer, expected=(MT_INVOICE, CT_RECEIPT, CT_ERROR))


def test_another_order_for_the_invoice_is_refused_and_the_first_one_stays(front: Front, customer: Customer) -> None:
    with front.serving():
        request = customer.ask()
        invoice = front.post(REQUEST, customer.signed(request)).content
        first = customer.dual_signed(customer.accept(request, invoice, front))
        second = customer.dual_signed(customer.accept(request, invoice, front))
        answer = front.post(PURCHASE, first).content
        refused = front.refused(PURCHASE, second).body
        assert (refused.error_code, refused.clause) == (ErrorCode.XID_ALREADY_USED, "M9")
        assert front.post(PURCHASE, first).content == answer
        assert front.document(xid_of(invoice), Document.PURCHASE) == first
    assert front.line.count("/v1/auth") == 1
    assert (customer.balance, front.debits()) == (OPENING - TOTAL, 1)


def test_of_many_orders_for_one_invoice_at_once_one_is_taken(front: Front, customer: Customer) -> None:
    with front.serving(), ThreadPoolExecutor(10) as pool:
        request = customer.ask()
        invoice = front.post(REQUEST, customer.signed(request)).content
        orders = [customer.dual_signed(customer.accept(request, invoice, front)) for _ in range(10)]
        answers = [response.content for response in pool.map(lambda each: front.post(PURCHASE, each), orders)]
    assert [unwrap_any(answer).msg_type for answer in answers].count(CT_RECEIPT) == 1
    assert front.line.count("/v1/auth") == 1
    assert (customer.balance, front.debits()) == (OPENING - TOTAL, 1)


def test_an_order_for_another_invoice_may_not_use_the_rrpid(front: Front, customer: Customer) -> None:
    with front.serving():
        sent = []
        rrpid = bytes(range(20))
        for _ in range(2):
            request = customer.ask()
            answer = front.post(REQUEST, customer.signed(request)).content
            checked = customer.accept(request, answer, front).checked
            order = protocol.build_purchase(checked, customer.bank.card, rrpid=rrpid, now=now(), rng=lambda n: bytes(n))
            sent.append(customer.dual_signed(order))
        front.post(PURCHASE, sent[0])
        refused = front.refused(PURCHASE, sent[1]).body
    assert (refused.error_code, refused.clause) == (ErrorCode.BAD_MESSAGE_HEADER, "K3")
    assert front.debits() == 1


def test_an_unknown_purchase_is_refused(front: Front, customer: Customer, make_front: Callable[..., Front]) -> None:
    other = make_front()
    with front.serving(), other.serving():
        request = customer.ask()
        order = customer.accept(request, front.post(REQUEST, customer.signed(request)).content, front)
        refused = other.refused(PURCHASE, customer.dual_signed(order)).body
        assert (refused.error_code, refused.clause) == (ErrorCode.UNKNOWN_XID, "M2")
        assert other.line.sent == []


@pytest.mark.parametrize("path", [REQUEST, PURCHASE])
def test_either_path_takes_either_message(front: Front, customer: Customer, purchases: Path, path: str) -> None:
    """The message says what it is; a path that disagrees is no reason to lose an order."""
    with front.serving():
        request = customer.ask()
        order = customer.accept(request, front.post(path, customer.signed(request)).content, front)
        assert unwrap_any(front.post(path, customer.dual_signed(order)).content).msg_type == CT_RECEIPT
