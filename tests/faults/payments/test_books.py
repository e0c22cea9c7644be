"""The judge of a disturbed run finds each kind of mistake where it was planted, and nothing in books that agree.

Each test takes an order that is right in all books and makes one thing of it wrong.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kwbp.codes import AuthCode
from tests.faults.payments.books import (
    Account,
    AtGateway,
    AtMerchant,
    AtWallet,
    Booking,
    Books,
    Kind,
    Order,
    Stand,
    counted,
    judge,
)

XID = bytes(20)
APPROVED, DECLINED, NO_REPLY = int(AuthCode.APPROVED), int(AuthCode.DECLINED), int(AuthCode.NO_REPLY)


def booking(number: int, kind: str, amount: int, state: str = "approved", **moved: int) -> Booking:
    return Booking(number, kind, state, amount, tuple(moved.items()))


def sale(number: int = 1, amount: int = 100, state: str = "approved") -> Booking:
    return booking(number, "sale", amount, state, customer=-amount, intermediary=amount)


def taken_back(number: int = 2, amount: int = 100) -> Booking:
    return booking(number, "reversal", amount, customer=amount, intermediary=-amount)


def order(**changes: Any) -> Order:
    return replace(SOLD, **changes)


SOLD = Order(
    XID,
    "M-1",
    AtMerchant("RECEIPTED", 100, closed=True, paid=True, told=APPROVED, stand=Stand(100, 100)),
    AtGateway("ACKED", 100, closed=True, debited=True, told=APPROVED, stand=Stand(100, 100)),
    (sale(),),
    AtWallet("PAID", closed=True, paid=True),
)
REVERSED = Order(
    XID,
    "M-1",
    AtMerchant("REVERSED", 100, closed=True, paid=False, told=NO_REPLY),
    AtGateway("REVERSED", 100, closed=True, debited=False, told=NO_REPLY),
    (sale(state="reversed"), taken_back()),
    AtWallet("REVERSED", closed=True, paid=False),
)
REFUSED = Order(
    XID,
    "M-1",
    AtMerchant("DECLINED", 100, closed=True, paid=False, told=DECLINED),
    AtGateway("DECLINED", 100, closed=True, debited=False, told=DECLINED),
    (booking(1, "sale", 100, "declined"),),
    AtWallet("DECLINED", closed=True, paid=False),
)
HELD = Order(
    XID,
    "M-1",
    AtMerchant("RECEIPTED", 100, closed=True, paid=True, told=APPROVED, stand=Stand(100, 60, 20)),
    AtGateway("ACKED", 100, closed=True, debited=True, told=APPROVED, stand=Stand(100, 60, 20)),
    (
        booking(1, "hold", 100, customer=-100, held=100),
        booking(2, "capture", 60, held=-60, intermediary=60),
        booking(3, "credit", 20, intermediary=-20, customer=20),
    ),
    AtWallet("PAID", closed=True, paid=True),
)
NEVER_SENT = Order(XID, "M-1", replace(REFUSED.at_merchant, told=None), REFUSED.at_gateway)  # type: ignore[type-var]
RIGHT = {"sold": SOLD, "reversed": REVERSED, "refused": REFUSED, "held": HELD, "never sent": NEVER_SENT}


def kinds(wrong: Order) -> set[Kind]:
    found = judge(Books((wrong,)))
    assert all(each.xid == XID and each.said for each in found)
    return {each.kind for each in found}


@pytest.mark.parametrize("right", RIGHT.values(), ids=RIGHT.keys())
def test_books_that_agree_are_left_alone(right: Order) -> None:
    assert judge(Books((right,))) == []


def merchant(base: Order, **changes: Any) -> Order:
    assert base.at_merchant is not None
    return replace(base, at_merchant=replace(base.at_merchant, **changes))


def gateway(base: Order, **changes: Any) -> Order:
    assert base.at_gateway is not None
    return replace(base, at_gateway=replace(base.at_gateway, **changes))


def wallet(base: Order, **changes: Any) -> Order:
    assert base.at_wallet is not None
    return replace(base, at_wallet=replace(base.at_wallet, **changes))


PLANTED = {
    "debited twice": (replace(SOLD, at_issuer=(sale(1), sale(2))), Kind.DEBITED_TWICE),
    "sent twice": (replace(REFUSED, at_issuer=(*REFUSED.at_issuer, *REFUSED.at_issuer)), Kind.SENT_TWICE),
    "lost reversal": (replace(REVERSED, at_issuer=(sale(),)), Kind.LOST_REVERSAL),
    "reversed twice": (replace(REVERSED, at_issuer=(*REVERSED.at_issuer, taken_back(3))), Kind.WRONG_AMOUNT),
    "declined by the gateway, debited": (replace(REFUSED, at_issuer=(sale(),)), Kind.LOST_REVERSAL),
    "debit that the bank does not have": (replace(SOLD, at_issuer=()), Kind.LOST_DEBIT),
    "another amount at the bank": (replace(SOLD, at_issuer=(sale(amount=77),)), Kind.WRONG_AMOUNT),
    "another amount at the merchant": (merchant(SOLD, amount=77), Kind.WRONG_AMOUNT),
    "refund that the card did not get": (replace(HELD, at_issuer=HELD.at_issuer[:2]), Kind.WRONG_AMOUNT),
    "capture that the bank did not make": (replace(HELD, at_issuer=HELD.at_issuer[::2]), Kind.WRONG_AMOUNT),
    "left open by the gateway": (gateway(SOLD, closed=False, state="SENT"), Kind.UNRESOLVED),
    "left open by the merchant": (merchant(SOLD, closed=False, state="AUTHORISED"), Kind.UNRESOLVED),
    "left open in the wallet": (wallet(SOLD, closed=False, state="PENDING"), Kind.UNRESOLVED),
    "request left open by the gateway": (gateway(HELD, open_requests=1), Kind.UNRESOLVED),
    "request left open by the merchant": (merchant(HELD, open_requests=1), Kind.UNRESOLVED),
    "told declined, debited": (merchant(SOLD, told=DECLINED), Kind.TOLD_DECLINED),
    "closed as unpaid, debited": (merchant(SOLD, state="DECLINED", paid=False), Kind.TOLD_DECLINED),
    "shipped, not debited": (merchant(REVERSED, state="RECEIPTED", paid=True), Kind.TOLD_APPROVED),
    "shipped, never placed": (replace(SOLD, at_gateway=None, at_issuer=()), Kind.TOLD_APPROVED),
    "told otherwise than the gateway says": (gateway(REFUSED, told=APPROVED), Kind.DISAGREE),
    "standings differ": (merchant(HELD, stand=Stand(100, 60)), Kind.DISAGREE),
    "something stands of what was reversed": (gateway(REVERSED, stand=Stand(100)), Kind.DISAGREE),
    "paid in the wallet alone": (wallet(REVERSED, state="PAID", paid=True), Kind.DISAGREE),
    "unknown to the gateway": (replace(REVERSED, at_gateway=None), Kind.STRANGER),
    "unknown to the merchant": (replace(SOLD, at_merchant=None), Kind.STRANGER),
    "money out of nothing": (replace(SOLD, at_issuer=(booking(1, "sale", 100, customer=-100),)), Kind.LEDGER),
}


@pytest.mark.parametrize(("wrong", "kind"), PLANTED.values(), ids=PLANTED.keys())
def test_what_was_planted_is_found(wrong: Order, kind: Kind) -> None:
    assert kind in kinds(wrong)


def test_every_kind_is_planted_somewhere() -> None:
    of_books = {Kind.LOG, Kind.CANARY}
    assert {kind for _, kind in PLANTED.values()} | of_books == set(Kind)


def test_another_request_of_the_same_order_may_have_been_told_less() -> None:
    assert kinds(merchant(REVERSED, told=int(AuthCode.PI_PREVIOUSLY_USED))) == set()


@pytest.mark.parametrize(
    ("books", "kind"),
    [
        (Books((SOLD,), accounts=(Account("A", 5, 5),)), Kind.LEDGER),
        (Books((SOLD,), accounts=(Account("A", 5, 4), Account("B", -5, -5))), Kind.LEDGER),
        (Books((SOLD,), of_no_order=(sale(9),)), Kind.STRANGER),
        (Books((SOLD,), acquirer=("a posting that nothing caused",)), Kind.LEDGER),
        (Books((SOLD,), logs=("gateway.jsonl: entry 3: cut-tail",)), Kind.LOG),
        (Books((SOLD,), canaries=("gateway-1/log/gateway.log, at byte 7",)), Kind.CANARY),
    ],
)
def test_what_is_about_no_order_is_found_too(books: Books, kind: Kind) -> None:
    assert [each.kind for each in judge(books)] == [kind]


def test_a_ledger_that_adds_up_is_left_alone() -> None:
    assert judge(Books((SOLD,), accounts=(Account("A", 5, 5), Account("B", -5, -5)))) == []


def test_orders_are_counted_by_their_end() -> None:
    assert counted([SOLD, SOLD, REVERSED, order(at_gateway=None)]) == {"ACKED": 2, "REVERSED": 1, "never came": 1}
