"""A merchant that ends at any moment: started again, it brings every order to its end, and nothing happens twice.

`fall` ends the work right after a step, in the server's own process; the server is then stopped and started on the same
order book. Two steps are also done the hard way: a process that kills itself (SIGKILL).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from kwbp import merchant as protocol
from kwbp.codes import ErrorCode
from kwbp.common import read_signed
from kwbp.fields import to_time
from kwbp.messages import ErrorTBS
from kwbp.structure import encode
from kwbp.wrapper import unwrap
from pki.oids import CT_AUTH_ACK, CT_ERROR
from storefront.merchant import recall
from storefront.merchant.documents import Document
from storefront.merchant.states import OrderState
from storefront.merchant.store import OrderStore
from storefront.wallet.purchase import PurchaseState, ShopUnreachable
from storefront.wallet.records import all_purchases
from tests.support.payment_site import OPENING, Site, now, wait_for
from tests.support.shop_front import BASKET, TOTAL, Clock, Customer, Forward, Front

# step → the state in which the order book is left
STEPS = {
    "ordered": OrderState.PAID_PENDING,
    "requested": OrderState.PAID_PENDING,
    "answered": OrderState.PAID_PENDING,
    "authorised": OrderState.AUTHORISED,
    "acknowledged": OrderState.AUTHORISED,
    "acked": OrderState.ACKED,
    "receipted": OrderState.RECEIPTED,
}


def ordered_and_lost(front: Front, customer: Customer, purchases: Path) -> bytes:
    """An order to a merchant that falls: no receipt comes. The XID."""
    with customer.shopping(front, purchases) as buyer:
        checked = buyer.request_invoice(BASKET)
        with pytest.raises(ShopUnreachable):
            buyer.order(checked, **customer.typed)
    (kept,) = all_purchases(purchases)
    assert kept.state is PurchaseState.SIGNED
    return kept.record.xid


def state_of(front: Front, xid: bytes) -> OrderState:
    order = front.order(xid)
    assert order is not None
    return order.state


def paid_once(front: Front, customer: Customer, purchases: Path, xid: bytes) -> None:
    with customer.shopping(front, purchases) as buyer:
        outcome = buyer.resume(xid)
    assert outcome.state is PurchaseState.PAID
    assert state_of(front, xid) is OrderState.RECEIPTED
    assert (customer.balance, front.debits()) == (OPENING - TOTAL, 1)


@pytest.mark.parametrize("step", [*STEPS])
def test_started_again_it_ends_the_order_before_anybody_asks(
    make_front: Callable[..., Front], customer: Customer, purchases: Path, step: str
) -> None:
    front = make_front()
    # A merchant that dies with a receipt in its memory has none any more: the next one comes through ACKED.
    first = "authorised" if step == "acked" else step
    with front.serving(fall=first), customer.shopping(front, purchases) as buyer:
        checked = buyer.request_invoice(BASKET)
        if step == "ordered":
            with pytest.raises(ShopUnreachable):
                buyer.order(checked, **customer.typed)
        else:
            # The order stands still, but the merchant is alive: it says that the outcome is open. Only after the last
            # step is there a receipt to give.
            outcome = buyer.order(checked, **customer.typed)
            assert outcome.state is (PurchaseState.PAID if step == "receipted" else PurchaseState.PENDING)
    xid = checked.invoice.xid
    if first != step:
        with front.serving(fall=step):
            wait_for(lambda: state_of(front, xid) is STEPS[step])
    assert state_of(front, xid) is STEPS[step]
    # Nothing leaves before it is in the book, and nothing that says "paid" is there before the money is safe.
    assert (front.document(xid, Document.AUTH_REQ) is not None) == (front.document(xid, Document.PURCHASE) is not None)
    for kind in (Document.RECEIPT, Document.ANSWER):
        assert (front.document(xid, kind) is not None) == (step == "receipted")
    with front.serving():
        wait_for(lambda: state_of(front, xid) is OrderState.RECEIPTED)
        paid_once(front, customer, purchases, xid)
    requests = {body for path, body in front.line.sent if path == "/v1/auth"}
    assert len(requests) == 1  # the same bytes each time


def test_an_invoice_outlives_a_crash_before_it_was_sent(front: Front, customer: Customer) -> None:
    message = customer.signed(customer.ask())
    with front.serving(fall="invoiced"):
        assert front.post("/kwbp/invoice-request", message).status_code == 500
    with front.serving():
        answer = front.post("/kwbp/invoice-request", message).content
    with front.book() as book:
        (order,) = book.newest(10)
    assert book_answer(front, order.xid) == answer


def book_answer(front: Front, xid: bytes) -> bytes | None:
    return front.document(xid, Document.INVOICE_ANSWER)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["requested", "acknowledged"])
def test_killed_it_ends_the_order_when_it_is_started_again(
    make_front: Callable[..., Front], customer: Customer, purchases: Path, step: str
) -> None:
    front = make_front(in_token=step == "requested")
    with front.process(fatal=step) as dying:
        xid = ordered_and_lost(front, customer, purchases)
        front.wait_killed(dying)
    assert state_of(front, xid) is STEPS[step]
    with front.process():
        wait_for(lambda: state_of(front, xid) is OrderState.RECEIPTED)
        paid_once(front, customer, purchases, xid)


# --- interruptions that outlast the two minutes of K7 ---


LONG_AGO = Clock(timedelta(seconds=-200))


def ordered_long_ago(front: Front, customer: Customer, purchases: Path) -> bytes:
    """An order that the merchant took three minutes ago, and asked nobody about. Its gateway it knew from before."""
    clock = Clock()
    with front.serving(fall="requested", clock=clock):
        assert front.post("/kwbp/invoice-request", customer.signed(customer.ask())).status_code == 200
        clock.offset = LONG_AGO.offset
        with customer.shopping(front, purchases, clock=LONG_AGO) as buyer:
            return buyer.order(buyer.request_invoice(BASKET), **customer.typed).xid


def test_a_request_that_grew_too_old_is_signed_anew(front: Front, customer: Customer, purchases: Path) -> None:
    """Three minutes ago it was signed; then the merchant was away."""
    xid = ordered_long_ago(front, customer, purchases)
    with front.serving():
        wait_for(lambda: state_of(front, xid) is OrderState.RECEIPTED)
        paid_once(front, customer, purchases, xid)
    kept = front.document(xid, Document.AUTH_REQ)
    assert kept is not None
    assert recall.auth_req(kept).attempt == 2
    assert front.line.count("/v1/auth") == 2


def test_a_request_that_grew_too_old_for_its_invoice_ends_as_refused(
    front: Front, customer: Customer, purchases: Path
) -> None:
    front.rules["invoice_lifetime"] = timedelta(seconds=190)
    xid = ordered_long_ago(front, customer, purchases)
    with front.serving(), customer.shopping(front, purchases) as buyer:
        outcome = buyer.resume(xid)
        assert outcome.refusal is not None
        assert (outcome.state, outcome.refusal.code) == (PurchaseState.REFUSED, ErrorCode.MESSAGE_TOO_OLD)
        assert state_of(front, xid) is OrderState.DECLINED
    assert (customer.balance, front.debits()) == (OPENING, 0)


def test_an_acknowledgement_that_grew_too_old_is_signed_anew(front: Front, customer: Customer, purchases: Path) -> None:
    with front.serving(fall="authorised"), customer.shopping(front, purchases) as buyer:
        xid = buyer.order(buyer.request_invoice(BASKET), **customer.typed).xid
    with front.book() as book:
        _age_acknowledgement(front, book, xid)
    with front.serving():
        wait_for(lambda: state_of(front, xid) is OrderState.RECEIPTED)
        paid_once(front, customer, purchases, xid)
    assert front.line.count("/v1/ack") == 2


def _age_acknowledgement(front: Front, book: OrderStore, xid: bytes) -> None:
    """What is in the book after the merchant was away for three minutes."""
    then = now() - timedelta(seconds=200)
    approval = recall.auth_res(book.required(xid, Document.AUTH_RES))
    body = protocol.build_auth_ack(approval, accepted=True, now=then).body
    assert body.date == to_time(then)
    old = front.credential.sign(CT_AUTH_ACK, encode(body), signing_time=then)
    asyncio.run(book.replace(xid, OrderState.AUTHORISED, Document.AUTH_ACK, old, now=now()))


@pytest.fixture(scope="module")
def hasty(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway that waits for an acknowledgement for one second only."""
    with site.gateway(site.gateway_home(tmp_path_factory.mktemp("hasty") / "home", ack_timeout=1.0)) as url:
        yield url


def sales(front: Front) -> list[str]:
    """What became of this merchant's sales at the switch."""
    made = front.site.switch.admin.transactions()
    return [each.state for each in made if each.kind == "sale" and each.merchant == front.merchant_id]


@pytest.mark.parametrize("step", ["answered", "authorised"])
def test_away_until_the_gateway_took_the_money_back_it_says_so(
    make_front: Callable[..., Front], hasty: str, customer: Customer, purchases: Path, step: str
) -> None:
    front = make_front(at=hasty)
    with front.serving(fall=step), customer.shopping(front, purchases) as buyer:
        xid = buyer.order(buyer.request_invoice(BASKET), **customer.typed).xid
    wait_for(lambda: sales(front) == ["reversed"])
    with front.serving(), customer.shopping(front, purchases) as buyer:
        wait_for(lambda: state_of(front, xid) is OrderState.REVERSED)
        outcome = buyer.resume(xid)
    answer = front.document(xid, Document.ANSWER)
    assert answer is not None
    refusal = read_signed(ErrorTBS, CT_ERROR, unwrap(answer, expected=(CT_ERROR,)).body).body
    assert refusal.error_code is ErrorCode.ACK_TIMEOUT
    assert outcome.state is PurchaseState.REVERSED
    assert (customer.balance, front.debits()) == (OPENING, 0)


def test_a_refused_order_is_told_the_same_after_a_restart(front: Front, customer: Customer, purchases: Path) -> None:
    front.register(active=False)
    with front.serving(), customer.shopping(front, purchases) as buyer:
        outcome = buyer.order(buyer.request_invoice(BASKET), **customer.typed)
    assert outcome.refusal is not None
    assert (outcome.state, outcome.refusal.code) == (PurchaseState.REFUSED, ErrorCode.ROLE_NOT_ALLOWED)
    front.register()
    with front.serving(), customer.shopping(front, purchases) as buyer:
        assert buyer.resume(outcome.xid).state is PurchaseState.REFUSED  # never another answer for the same order
    assert front.debits() == 0


def test_a_receipt_that_was_signed_with_an_acknowledgement_in_vain_is_never_seen(
    make_front: Callable[..., Front], hasty: str, customer: Customer, purchases: Path
) -> None:
    front = make_front(at=hasty)
    front.rules["patience"] = 1.0

    async def no_acknowledgement(request: httpx.Request, forward: Forward) -> httpx.Response:
        if request.url.path == "/v1/ack" and sales(front) != ["reversed"]:
            raise httpx.ConnectError("no route")
        return await forward(request)

    front.line.always = no_acknowledgement
    with front.serving(), customer.shopping(front, purchases) as buyer:
        xid = buyer.order(buyer.request_invoice(BASKET), **customer.typed).xid
        wait_for(lambda: state_of(front, xid) is OrderState.REVERSED)
        assert buyer.resume(xid).state is PurchaseState.REVERSED
    assert front.document(xid, Document.RECEIPT) is None
    assert (customer.balance, front.debits()) == (OPENING, 0)


@pytest.mark.parametrize("after", [OrderState.ACKED, OrderState.UNKNOWN])
def test_a_receipt_that_waits_in_memory_counts_only_for_an_order_that_nobody_else_has_moved(
    front: Front, customer: Customer, purchases: Path, after: OrderState
) -> None:
    """Two processes on one order book: the other one heard of the acknowledgement first, or that it was too late."""
    front.rules["patience"] = 1.0

    async def moved_meanwhile(request: httpx.Request, forward: Forward) -> httpx.Response:
        response = await forward(request)
        if request.url.path == "/v1/ack":
            with front.book() as other:
                (order,) = other.newest(1)
                told = {} if after is OrderState.ACKED else {Document.ANSWER: b"too late"}
                await other.move(order.xid, OrderState.AUTHORISED, after, now=now(), stored=told)
        return response

    front.line.always = moved_meanwhile
    with front.serving():
        xid = unreceipted(front, customer) if after is OrderState.UNKNOWN else receipted(front, customer, purchases)
    assert (front.document(xid, Document.RECEIPT) is not None) == (after is OrderState.ACKED)
    assert state_of(front, xid) is (OrderState.RECEIPTED if after is OrderState.ACKED else OrderState.UNKNOWN)
    assert front.line.count("/v1/ack") == 1


def receipted(front: Front, customer: Customer, purchases: Path) -> bytes:
    with customer.shopping(front, purchases) as buyer:
        outcome = buyer.order(buyer.request_invoice(BASKET), **customer.typed)
    assert outcome.state is PurchaseState.PAID
    return outcome.xid


def unreceipted(front: Front, customer: Customer) -> bytes:
    request = customer.ask()
    answer = front.post("/kwbp/invoice-request", customer.signed(request)).content
    order = customer.accept(request, answer, front)
    assert front.post("/kwbp/purchase", customer.dual_signed(order)).content == b"too late"
    return order.oi.xid
