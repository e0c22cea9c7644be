"""Orders over the whole line of real parts: token, HSM service, repository, switch with accounts."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.schema import metadata
from kwbp.codes import AuthCode, SaleKind
from shetab.types import Cvv2, Pin
from tests.support.payment_parties import Buyer, Shop, auth_res_of
from tests.support.payment_site import OPENING, Site, wait_for


def test_an_honest_order_is_collected_and_acknowledged(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    purchase = site.purchase(shop, buyer, 150_000)
    answer = shop.collect(gateway, purchase)
    body = purchase.checked_answer(answer).body
    assert body.auth_code is AuthCode.APPROVED
    assert body.masked_pan == buyer.card.pan.masked
    assert buyer.balance == OPENING - 150_000
    assert shop.acknowledge(gateway, purchase.ack(answer)) == b""
    order = shop.order(gateway, purchase.xid)
    assert (order["state"], order["amount"], order["rrn"]) == ("ACKED", 150_000, body.rrn)
    # DE 62: with it the issuer can ask for the signed order.
    (sale,) = site.switch.admin.transactions(reference=f"KWBP2 {purchase.xid.hex()}")
    assert (sale.rrn, sale.merchant, sale.amount) == (body.rrn, shop.merchant_id, 150_000)


def test_a_card_without_pin_is_for_the_issuer_to_judge(site: Site, gateway: str, shop: Shop) -> None:
    purchase = site.purchase(shop, site.buyer(with_pin=False))
    body = purchase.checked_answer(shop.collect(gateway, purchase)).body
    assert body.auth_code is not AuthCode.APPROVED


@pytest.mark.parametrize(
    ("wrong", "balance", "rc"),
    [
        ({}, 100_000, "51"),
        ({"pin2": Pin("99999")}, OPENING, "55"),
        ({"cvv2": Cvv2("000")}, OPENING, None),
    ],
    ids=["too little money", "wrong PIN", "wrong CVV2"],
)
def test_what_the_issuer_refuses_is_declined_and_costs_nothing(
    site: Site, gateway: str, shop: Shop, wrong: dict[str, Any], balance: int, rc: str | None
) -> None:
    buyer = site.buyer(balance=balance, **wrong)
    purchase = site.purchase(shop, buyer, 150_000)
    answer = shop.collect(gateway, purchase)
    body = purchase.checked_answer(answer).body
    assert body.auth_code is AuthCode.DECLINED
    assert rc is None or body.rc == rc
    assert buyer.balance == balance
    assert shop.order(gateway, purchase.xid)["state"] == "DECLINED"
    assert shop.collect(gateway, purchase) == answer
    # There is nothing to acknowledge, but a merchant that does is not wrong.
    assert shop.acknowledge(gateway, purchase.ack(answer)) == b""
    assert shop.order(gateway, purchase.xid)["state"] == "DECLINED"


def test_an_order_beyond_the_merchants_limit_never_reaches_the_switch(site: Site, gateway: str, buyer: Buyer) -> None:
    shop = site.new_shop()
    site.register(gateway, shop, order_limit=100_000)
    over, within = site.purchase(shop, buyer, 100_001), site.purchase(shop, buyer, 100_000)
    received = site.switch.admin.statistics()["received"].get("0200", 0)
    body = over.checked_answer(shop.collect(gateway, over)).body
    assert (body.auth_code, body.rc) == (AuthCode.DECLINED, "61")
    assert site.switch.admin.statistics()["received"].get("0200", 0) == received
    assert within.checked_answer(shop.collect(gateway, within)).approved


def test_an_authorisation_without_capture_holds_the_money(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    purchase = site.purchase(shop, buyer, sale_kind=SaleKind.AUTH_ONLY)
    answer = shop.collect(gateway, purchase)
    assert purchase.checked_answer(answer).approved
    assert buyer.balance == OPENING - purchase.amount
    (held,) = site.switch.admin.transactions(reference=f"KWBP2 {purchase.xid.hex()}")
    assert (held.kind, held.state, held.amount) == ("hold", "approved", purchase.amount)
    assert shop.acknowledge(gateway, purchase.ack(answer, accepted=False)) == b""
    wait_for(lambda: shop.order(gateway, purchase.xid)["state"] == "REVERSED")
    assert buyer.balance == OPENING


def test_a_hold_whose_answer_is_lost_is_given_back(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    site.switch.admin.add_fault("0100", "drop")
    purchase = site.purchase(shop, buyer, sale_kind=SaleKind.AUTH_ONLY)
    assert auth_res_of(shop.collect(gateway, purchase)).auth_code is AuthCode.NO_REPLY
    wait_for(lambda: shop.order(gateway, purchase.xid)["state"] == "REVERSED")
    assert buyer.balance == OPENING


def test_an_order_that_cannot_be_sent_is_declined_at_once(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    """The outcome is certain, so nothing has to be reversed and the buyer may try again."""
    purchase = site.purchase(shop, buyer)
    site.switch.admin.add_fault("0800", "ignore", count=1000)
    site.switch.admin.break_connections()
    try:
        body = auth_res_of(shop.collect(gateway, purchase))
    finally:
        site.switch.admin.clear_faults()
        site.switch.admin.break_connections()
    assert (body.auth_code, body.rc, body.stan) == (AuthCode.SYSTEM_ERROR, "96", None)
    assert shop.order(gateway, purchase.xid)["state"] == "DECLINED"
    assert buyer.balance == OPENING


def test_the_order_book_has_no_column_for_what_it_must_not_hold() -> None:
    columns = {column.name for table in metadata.tables.values() for column in table.columns}
    assert not columns & {"pan", "pin", "pin_block", "pin2", "cvv2", "expiry", "track2", "auth_req", "pi_envelope"}
