"""Open purchases are closed by the gateway's signed word: the merchant asks, over faults and restarts; wallets too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kwbp.codes import AuthCode, ErrorCode, PurchaseStatus
from kwbp.inquiry import build_inquiry
from kwbp.inquiry.answer import GatewayStatus, MerchantStatus
from kwbp.wrapper import unwrap
from pki.oids import CT_INQ_RES
from storefront.merchant import settlement
from storefront.merchant.states import OrderState
from storefront.wallet.purchase import PurchaseState, closed_by
from tests.support.payment_site import OPENING, Site, now, wait_for
from tests.support.shop_front import BASKET, Customer, Front, answer_lost, replies, unreachable

S = PurchaseStatus


def state_of(front: Front, xid: bytes) -> OrderState:
    order = front.order(xid)
    assert order is not None
    return order.state


def left_open(site: Site, front: Front, customer: Customer, purchases: Path) -> bytes:
    """A purchase about which the bank said nothing; its money is not back yet. The shop must be serving."""
    site.switch.admin.add_fault("0200", "drop")
    with customer.shopping(front, purchases) as buyer:
        outcome = buyer.order(buyer.request_invoice(BASKET), **customer.typed)
    assert outcome.state is PurchaseState.PENDING
    return outcome.xid


@pytest.mark.parametrize("fault", [unreachable, answer_lost, replies(os.urandom(300)), replies(b"", status=204)])
def test_what_is_no_answer_closes_nothing_and_is_asked_again(
    site: Site, front: Front, customer: Customer, purchases: Path, fault: Any
) -> None:
    with front.serving():
        front.line.faults.append(_only("/v1/auth"))
        front.line.faults.append(fault)
        xid = left_open(site, front, customer, purchases)
        wait_for(lambda: state_of(front, xid) is OrderState.REVERSED)
    inquiries = [body for path, body in front.line.sent if path == "/v1/inquiry"]
    assert len(inquiries) >= 2
    assert len(set(inquiries)) == len(inquiries)  # each with a challenge of its own
    assert (customer.balance, front.debits()) == (OPENING, 0)


def _only(path: str) -> Any:
    async def passes(request: Any, forward: Any) -> Any:
        assert request.url.path == path
        return await forward(request)

    return passes


@pytest.mark.parametrize("step", ["unknown", "told", "reversed"])
def test_a_merchant_that_falls_asks_again_after_its_start(
    site: Site, front: Front, customer: Customer, purchases: Path, step: str
) -> None:
    with front.serving(fall=step), customer.shopping(front, purchases) as buyer:
        site.switch.admin.add_fault("0200", "drop")
        checked = buyer.request_invoice(BASKET)
        xid = checked.invoice.xid
        buyer.order(checked, **customer.typed)
        wait_for(lambda: state_of(front, xid) in (OrderState.UNKNOWN, OrderState.REVERSED))
        wait_for(lambda: front.line.count("/v1/inquiry") > 0 or step == "unknown")
    with front.serving():
        wait_for(lambda: state_of(front, xid) is OrderState.REVERSED)
        with customer.shopping(front, purchases) as buyer:
            assert buyer.resume(xid).state is PurchaseState.REVERSED
    assert (customer.balance, front.debits()) == (OPENING, 0)


def test_an_issuer_that_was_not_there_debited_nothing(
    site: Site, front: Front, customer: Customer, purchases: Path
) -> None:
    """Response code 91 is told as noReply, and the gateway knows that no money moved: nothing has to be reversed."""
    site.switch.admin.add_fault("0200", "refuse", rc="91")
    with front.serving(), customer.shopping(front, purchases) as buyer:
        outcome = buyer.order(buyer.request_invoice(BASKET), **customer.typed)
        assert outcome.state is PurchaseState.PENDING
        wait_for(lambda: state_of(front, outcome.xid) is OrderState.REVERSED, within=20)
        assert buyer.resume(outcome.xid).state is PurchaseState.REVERSED
    assert (customer.balance, front.debits()) == (OPENING, 0)


def test_the_wallet_believes_the_gateway_alone(site: Site, front: Front, customer: Customer, purchases: Path) -> None:
    """A merchant that says "reversed" without the gateway's word is refused; the purchase stays open."""
    with front.serving():
        xid = left_open(site, front, customer, purchases)
        wait_for(lambda: state_of(front, xid) is OrderState.REVERSED)
        change(front, "DELETE FROM documents WHERE kind = 'gateway-status'")
        with customer.shopping(front, purchases) as buyer, pytest.raises(Exception, match="U3"):
            buyer.resume(xid)
    assert (purchases / xid.hex() / "gateway-status.p7s").exists() is False


@pytest.mark.parametrize(
    ("fault", "word"), [({"kind": "ignore"}, S.REVERSING), ({"kind": "alter", "changed": {39: "13"}}, S.UNSETTLED)]
)
def test_what_the_gateway_says_of_an_open_purchase_reaches_the_buyer(
    site: Site, front: Front, customer: Customer, purchases: Path, fault: Any, word: PurchaseStatus
) -> None:
    """That the money is being given back; or, where the network refuses that, that people must settle it."""
    front.rules["inquiries_of_a_card"] = 300  # this buyer is impatient
    site.switch.admin.add_fault("042x", count=1000, **fault)
    try:
        with front.serving(), customer.shopping(front, purchases) as buyer:
            xid = left_open(site, front, customer, purchases)
            wait_for(lambda: buyer.resume(xid).word is word, every=0.25)
            assert buyer.resume(xid).state is PurchaseState.PENDING
            assert state_of(front, xid) is OrderState.UNKNOWN
    finally:
        site.switch.admin.clear_faults()


def test_no_refusal_of_the_merchant_ends_what_the_gateway_left_open(
    site: Site, front: Front, customer: Customer, purchases: Path
) -> None:
    """A shop that has lost its order book refuses, signed; the gateway's word that nobody knows stays what counts."""
    with front.serving():
        xid = left_open(site, front, customer, purchases)
        before = (purchases / xid.hex() / "receipt.p7s").read_bytes()
        change(front, "DELETE FROM documents", "DELETE FROM order_crls", "DELETE FROM orders")
        with customer.shopping(front, purchases) as buyer:
            outcome = buyer.resume(xid)
    assert outcome.refusal is not None
    assert (outcome.state, outcome.refusal.code) == (PurchaseState.PENDING, ErrorCode.UNKNOWN_XID)
    assert (purchases / xid.hex() / "receipt.p7s").read_bytes() == before


def test_an_answer_that_cannot_be_judged_any_more_does_not_keep_a_purchase_open(
    site: Site, front: Front, customer: Customer, purchases: Path
) -> None:
    with front.serving():
        xid = left_open(site, front, customer, purchases)
        change(front, "UPDATE documents SET der = x'00' WHERE kind = 'answer'")
        wait_for(lambda: state_of(front, xid) is OrderState.REVERSED)
        with customer.shopping(front, purchases) as buyer:
            assert buyer.resume(xid).state is PurchaseState.REVERSED
            assert buyer.resume(xid).state is PurchaseState.REVERSED


def change(front: Front, *statements: str) -> None:
    """Damage the shop's order book."""
    with front.book() as book, book._engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def test_a_strangers_card_learns_nothing(site: Site, front: Front, customer: Customer, purchases: Path) -> None:
    with front.serving():
        with customer.shopping(front, purchases) as buyer:
            paid = buyer.order(buyer.request_invoice(BASKET), **customer.typed)
        stranger = Customer.of(site)
        assert refusal(front, stranger, paid.xid) == (ErrorCode.ROLE_NOT_ALLOWED, "Q1")
        assert refusal(front, customer, os.urandom(20)) == (ErrorCode.UNKNOWN_XID, "Q2")


@pytest.mark.parametrize("limit", ["inquiries", "inquiries_of_a_card"])
def test_answered_inquiries_of_wallets_are_counted(
    site: Site, front: Front, customer: Customer, purchases: Path, limit: str
) -> None:
    """Those that are refused use up nothing of what all wallets share."""
    front.rules[limit] = 1
    with front.serving():
        with customer.shopping(front, purchases) as buyer:
            xid = buyer.request_invoice(BASKET).invoice.xid
        stranger = Customer.of(site)
        for _ in range(3):
            assert refusal(front, stranger, xid) == (ErrorCode.ROLE_NOT_ALLOWED, "Q1")
            assert refusal(front, customer, os.urandom(20)) == (ErrorCode.UNKNOWN_XID, "Q2")
        answer = front.post("/kwbp/inquiry", asking(front, customer, xid))
        unwrap(answer.content, expected=(CT_INQ_RES,))
        assert refusal(front, customer, xid) == (ErrorCode.RATE_LIMITED, "Q1")


def test_a_card_does_not_use_up_the_inquiries_of_another(site: Site, front: Front, purchases: Path) -> None:
    front.rules["inquiries_of_a_card"] = 1
    with front.serving():
        for asker in (Customer.of(site), Customer.of(site)):
            with asker.shopping(front, purchases) as buyer:
                xid = buyer.request_invoice(BASKET).invoice.xid
            unwrap(front.post("/kwbp/inquiry", asking(front, asker, xid)).content, expected=(CT_INQ_RES,))
            assert refusal(front, asker, xid) == (ErrorCode.RATE_LIMITED, "Q1")


def asking(front: Front, asker: Customer, xid: bytes) -> bytes:
    """This card's inquiry, as KwbpMessage."""
    return asker.signed(
        build_inquiry(rrpid=os.urandom(20), xid=xid, merchant_id=front.merchant_id, chall=os.urandom(32), now=now())
    )


def refusal(front: Front, asker: Customer, xid: bytes) -> tuple[ErrorCode, str]:
    """With what this card's inquiry is refused."""
    body = front.refused("/kwbp/inquiry", asking(front, asker, xid)).body
    return body.error_code, body.clause


# --- what closes an order ---------------------------------------------------------------------------------------------


class _Answer:
    def __init__(self, code: AuthCode) -> None:
        self.auth_code = code


def word(status: PurchaseStatus, code: AuthCode | None = None) -> Any:
    return GatewayStatus(status, b"", None, _Answer(code) if code is not None else None, now())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("told", "merchant", "wallet"),
    [
        (word(S.REVERSED), OrderState.REVERSED, PurchaseState.REVERSED),
        (word(S.REVERSED, AuthCode.APPROVED), OrderState.REVERSED, PurchaseState.REVERSED),
        (word(S.CONCLUDED, AuthCode.DECLINED), OrderState.DECLINED, PurchaseState.DECLINED),
        (word(S.CONCLUDED), OrderState.DECLINED, PurchaseState.DECLINED),
        (word(S.CONCLUDED, AuthCode.APPROVED), None, None),
        (word(S.IN_PROGRESS), None, None),
        (word(S.REVERSING), None, None),
        (word(S.UNSETTLED), None, None),
    ],
)
def test_what_closes_an_open_purchase(told: Any, merchant: OrderState | None, wallet: PurchaseState | None) -> None:
    assert settlement.closed_by(told) is merchant
    assert closed_by(MerchantStatus(told.status, b"", None, told)) is wallet


def test_without_the_gateways_word_nothing_is_closed() -> None:
    assert closed_by(MerchantStatus(S.CONCLUDED, b"", b"receipt", None)) is None
