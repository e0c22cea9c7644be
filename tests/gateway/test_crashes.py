"""A gateway killed at any step: nothing is collected twice, nothing stays collected that nobody knows of.

The gateway runs as a process and kills itself (SIGKILL) right after the step in question; then it is started again on
the same order book, and the merchant, which got no answer, sends the same bytes again.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import httpx
import pytest

from kwbp.codes import AuthCode
from tests.support.payment_parties import Buyer, Purchase, Shop, auth_res_of
from tests.support.payment_site import OPENING, Site, wait_for

AMOUNT = 150_000
pytestmark = pytest.mark.slow


def _approved(site: Site, shop: Shop) -> int:
    """Sales of this merchant that moved money, taken back since or not."""
    return sum(
        each.kind == "sale" and each.merchant == shop.merchant_id and each.state in ("approved", "reversed")
        for each in site.switch.admin.transactions()
    )


def _collect_from_the_dying(shop: Shop, url: str, purchase: Purchase) -> None:
    with pytest.raises(httpx.TransportError):
        shop.post(url, "/v1/auth", purchase.message)


@pytest.mark.parametrize("step", ["received", "verified"])
def test_killed_before_anything_was_sent_the_order_starts_over(
    site: Site, tmp_path: Path, buyer: Buyer, step: str
) -> None:
    home, shop = site.gateway_home(tmp_path / "home"), site.new_shop()
    purchase = site.purchase(shop, buyer, AMOUNT)
    with site.gateway_process(home, fatal=step) as dying:
        site.register(dying.url, shop)
        _collect_from_the_dying(shop, dying.url, purchase)
        dying.wait_killed()
    assert (buyer.balance, _approved(site, shop)) == (OPENING, 0)
    with site.gateway_process(home) as again:
        assert shop.order(again.url, purchase.xid)["state"] == step.upper()
        assert purchase.checked_answer(shop.collect(again.url, purchase)).approved
    assert (buyer.balance, _approved(site, shop)) == (OPENING - AMOUNT, 1)


@pytest.mark.parametrize("step", ["sent", "answered", "signed"])
def test_killed_after_it_may_have_been_sent_the_order_is_reversed(
    site: Site, tmp_path: Path, buyer: Buyer, step: str
) -> None:
    home, shop = site.gateway_home(tmp_path / "home"), site.new_shop()
    purchase = site.purchase(shop, buyer, AMOUNT)
    with site.gateway_process(home, fatal=step) as dying:
        site.register(dying.url, shop)
        _collect_from_the_dying(shop, dying.url, purchase)
        dying.wait_killed()
    debited = step != "sent"
    assert (buyer.balance, _approved(site, shop)) == (OPENING - AMOUNT * debited, int(debited))
    with site.gateway_process(home) as again:
        answer = shop.collect(again.url, purchase)
        assert auth_res_of(answer).auth_code is AuthCode.NO_REPLY
        wait_for(lambda: shop.order(again.url, purchase.xid)["state"] == "REVERSED")
        assert shop.collect(again.url, purchase) == answer
    assert (buyer.balance, _approved(site, shop)) == (OPENING, int(debited))
    assert site.switch.admin.is_balanced()


def test_killed_after_the_answer_was_stored_the_merchant_gets_it(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    home, shop = site.gateway_home(tmp_path / "home"), site.new_shop()
    purchase = site.purchase(shop, buyer, AMOUNT)
    with site.gateway_process(home, fatal="stored") as dying:
        site.register(dying.url, shop)
        _collect_from_the_dying(shop, dying.url, purchase)
        dying.wait_killed()
    with site.gateway_process(home) as again:
        answer = shop.collect(again.url, purchase)
        assert purchase.checked_answer(answer).approved
        assert shop.acknowledge(again.url, purchase.ack(answer)) == b""
    assert (buyer.balance, _approved(site, shop)) == (OPENING - AMOUNT, 1)


def test_killed_after_the_acknowledgement_was_stored_it_counts(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    home, shop = site.gateway_home(tmp_path / "home", ack_timeout=3.0), site.new_shop()
    purchase = site.purchase(shop, buyer, AMOUNT)
    with site.gateway_process(home, fatal="acknowledged") as dying:
        site.register(dying.url, shop)
        ack = purchase.ack(shop.collect(dying.url, purchase))
        with pytest.raises(httpx.TransportError):
            shop.post(dying.url, "/v1/ack", ack)
        dying.wait_killed()
    with site.gateway_process(home) as again:
        assert shop.acknowledge(again.url, ack) == b""
        assert shop.order(again.url, purchase.xid)["state"] == "ACKED"
    assert (buyer.balance, _approved(site, shop)) == (OPENING - AMOUNT, 1)


@pytest.mark.parametrize("step", ["reversal-queued", "reversal-attempt", "reversal-answered", "reversal-finished"])
def test_killed_during_a_reversal_the_money_is_given_back_once(
    site: Site, tmp_path: Path, buyer: Buyer, step: str
) -> None:
    home, shop = site.gateway_home(tmp_path / "home"), site.new_shop()
    purchase = site.purchase(shop, buyer, AMOUNT)
    site.switch.admin.add_fault("0200", "drop")
    with site.gateway_process(home, fatal=step) as dying:
        site.register(dying.url, shop)
        with contextlib.suppress(httpx.TransportError):  # the reversal may begin before the answer has left
            shop.post(dying.url, "/v1/auth", purchase.message)
        dying.wait_killed()
    with site.gateway_process(home) as again:
        wait_for(lambda: shop.order(again.url, purchase.xid)["state"] == "REVERSED")
        assert auth_res_of(shop.collect(again.url, purchase)).auth_code is AuthCode.NO_REPLY
    assert (buyer.balance, _approved(site, shop)) == (OPENING, 1)
    assert site.switch.admin.is_balanced()


def test_a_second_gateway_on_the_same_order_book_does_not_start(site: Site, tmp_path: Path) -> None:
    home = site.gateway_home(tmp_path / "home")
    with site.gateway_process(home), site.gateway_process(home, ready=False) as second:
        assert second.process.wait(60) != 0
