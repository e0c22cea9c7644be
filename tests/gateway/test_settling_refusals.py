"""Requests with one thing wrong, over the wire: refused with a signed Error, nothing sent, no card opened."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta

import pytest

from kwbp.fields import to_time
from kwbp.money import Money
from kwbp.settling import Followed
from tests.gateway.settling_shop import Collected, collected, request_message
from tests.gateway.test_settling_requests import AMOUNT
from tests.support.payment_parties import Buyer, Shop, error_of, now, signed_by
from tests.support.payment_site import OPENING, Site

Forge = Callable[[Site, Collected], bytes]


def _by_another_shop(site: Site, order: Collected) -> bytes:
    draft = order.credit(1)
    return draft.message(signed_by(site.new_shop().credential, draft))


def _flipped(site: Site, order: Collected) -> bytes:
    """The signature of another request of the same shop."""
    draft, other = order.credit(1), order.credit(2)
    return draft.message(signed_by(order.shop.credential, other))


def _with(**changes: object) -> Forge:
    return lambda site, order: request_message(order.shop, order.credit(1), **changes)


WRONG: dict[str, tuple[Forge, str, str]] = {
    "signed by another shop": (_by_another_shop, "roleNotAllowed", "H1"),
    "the header of another request": (_flipped, "wrapperMsgMismatch", "K2"),
    "for another gateway": (_with(gw_id="GW-2"), "gatewayMismatch", "H4"),
    "an order that does not exist": (_with(xid=bytes(20)), "unknownXid", "H2"),
    "an answer that was not given": (_with(h_answer=os.urandom(32)), "hashMismatch", "H6"),
    "more than was captured": (_with(amount=Money.rial(AMOUNT + 1)), "amountMismatch", "H9"),
    "an old date": (lambda site, order: _old(order), "clockSkew", "K7"),
}


def _old(order: Collected) -> bytes:
    return request_message(order.shop, order.credit(1), date=to_time(now() - timedelta(hours=1)))


@pytest.fixture(scope="module")
def order(site: Site, gateway: str) -> Collected:
    shop = site.new_shop()
    site.register(gateway, shop)
    return collected(site, gateway, shop, site.buyer(), AMOUNT)


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_one_wrong_thing_is_refused_and_nothing_happens(
    site: Site, order: Collected, case: tuple[Forge, str, str]
) -> None:
    forge, code, clause = case
    message = forge(site, order)
    opened = site.key_uses("gateway-vault")
    received = site.switch.admin.statistics()["received"]
    refusal = error_of(order.sent(message), message, site)
    assert (refusal.error_code.protocol_name, refusal.clause) == (code, clause)
    assert site.key_uses("gateway-vault") == opened
    assert site.switch.admin.statistics()["received"] == received
    assert order.purchase.buyer.balance == OPENING - AMOUNT


def test_nothing_follows_an_approval_that_was_not_acknowledged(
    site: Site, gateway: str, shop: Shop, buyer: Buyer
) -> None:
    """Until then it is the gateway's to take back: a request and the clock cannot both have it."""
    purchase = site.purchase(shop, buyer, AMOUNT)
    answer = shop.collect(gateway, purchase)
    checked = purchase.checked_answer(answer)
    early = Collected(gateway, purchase, Followed.authorisation(checked.signed), checked.signed)
    assert early.refused(early.auth_reversal(0)).clause == "H6"
    assert shop.acknowledge(gateway, purchase.ack(answer)) == b""
    early.done(early.auth_reversal(0))
    assert buyer.balance == OPENING


def test_nobody_settles_anothers_order(site: Site, gateway: str, order: Collected) -> None:
    other = site.new_shop()
    site.register(gateway, other)
    own_name = request_message(other, order.credit(1), merchant_id=other.merchant_id)
    refusal = error_of(other.post(gateway, "/v1/settling", own_name).content, own_name, site)
    assert (refusal.error_code.protocol_name, refusal.clause) == ("unknownXid", "H2")
    stolen = request_message(order.shop, order.credit(1))  # the right signature over another's connection
    refusal = error_of(other.post(gateway, "/v1/settling", stolen).content, stolen, site)
    assert (refusal.error_code.protocol_name, refusal.clause) == ("roleNotAllowed", "H1")


def test_a_merchant_that_was_switched_off_settles_nothing(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    order = collected(site, gateway, shop, buyer, AMOUNT)
    site.register(gateway, shop, active=False)
    assert order.refused(order.credit(1)).clause == "H1"


def test_a_sale_has_nothing_to_capture(order: Collected) -> None:
    assert order.refused(order.capture(1)).clause == "H9"
