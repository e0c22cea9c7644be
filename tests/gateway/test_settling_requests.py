"""Captures, credits and reversals at a real gateway and switch: the money is where the signed answers say it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from kwbp.codes import AuthCode
from tests.gateway.settling_shop import Collected, collected, request_message
from tests.support.payment_parties import Buyer, Shop
from tests.support.payment_site import ACQUIRER, OPENING, Site

AMOUNT = 150_000


@pytest.fixture
def held(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> Collected:
    """An order whose money is only held."""
    return collected(site, gateway, shop, buyer, AMOUNT, hold=True)


@pytest.fixture
def sale(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> Collected:
    """An order that was captured with its authorisation."""
    return collected(site, gateway, shop, buyer, AMOUNT)


def gets(site: Site, shop: Shop) -> int:
    """Rial that the acquirer owes the shop, as the switch counts."""
    return {line.merchant: line.amount for line in site.switch.admin.merchant_totals(ACQUIRER)}.get(shop.merchant_id, 0)


def test_money_is_held_and_then_captured_in_parts(site: Site, held: Collected, shop: Shop, buyer: Buyer) -> None:
    assert (buyer.balance, gets(site, shop)) == (OPENING - AMOUNT, 0)
    for amount in (100_000, 50_000):
        answer = held.ask(held.capture(amount))
        assert (answer.approved, answer.body.rc) == (True, "00")
    assert (buyer.balance, gets(site, shop)) == (OPENING - AMOUNT, AMOUNT)
    refusal = held.refused(held.capture(1))
    assert (refusal.error_code.protocol_name, refusal.clause) == ("amountMismatch", "H9")
    assert site.switch.admin.is_balanced()


def test_a_capture_is_taken_back_and_the_money_is_held_again(
    site: Site, held: Collected, shop: Shop, buyer: Buyer
) -> None:
    capture = held.done(held.capture(AMOUNT))
    held.done(held.capture_reversal(capture))
    assert (buyer.balance, gets(site, shop)) == (OPENING - AMOUNT, 0)
    held.done(held.capture(60_000))
    held.done(held.auth_reversal(60_000))
    assert (buyer.balance, gets(site, shop)) == (OPENING - 60_000, 60_000)
    assert site.switch.admin.is_balanced()


def test_an_authorisation_is_reversed_in_part_and_then_whole(
    site: Site, held: Collected, shop: Shop, buyer: Buyer
) -> None:
    held.done(held.auth_reversal(40_000))
    assert buyer.balance == OPENING - 40_000
    held.done(held.auth_reversal(0))
    assert (buyer.balance, gets(site, shop)) == (OPENING, 0)
    assert held.refused(held.capture(1)).clause == "H9"


def test_a_sale_is_reversed_in_part_and_then_whole(site: Site, sale: Collected, shop: Shop, buyer: Buyer) -> None:
    assert gets(site, shop) == AMOUNT
    sale.done(sale.auth_reversal(90_000))
    assert (buyer.balance, gets(site, shop)) == (OPENING - 90_000, 90_000)
    sale.done(sale.auth_reversal(0))
    assert (buyer.balance, gets(site, shop)) == (OPENING, 0)
    assert sale.refused(sale.credit(1)).clause == "H6"


def test_credits_give_back_no_more_than_was_captured(site: Site, sale: Collected, shop: Shop, buyer: Buyer) -> None:
    sale.done(sale.credit(100_000))
    second = sale.done(sale.credit(50_000))
    assert (buyer.balance, gets(site, shop)) == (OPENING, 0)
    assert sale.refused(sale.credit(1)).clause == "H9"
    sale.done(sale.credit_reversal(second))
    assert (buyer.balance, gets(site, shop)) == (OPENING - 50_000, 50_000)
    assert site.switch.admin.is_balanced()


def test_a_capture_is_credited(site: Site, held: Collected, shop: Shop, buyer: Buyer) -> None:
    capture = held.done(held.capture(100_000))
    credit = held.done(held.credit(30_000, capture))
    assert (buyer.balance, gets(site, shop)) == (OPENING - AMOUNT + 30_000, 70_000)
    assert held.refused(held.capture_reversal(capture)).clause == "H9"  # what was credited is not taken back too
    held.done(held.credit_reversal(credit))
    held.done(held.capture_reversal(capture))
    assert (buyer.balance, gets(site, shop)) == (OPENING - AMOUNT, 0)


def test_the_same_bytes_get_the_same_answer_and_move_nothing(sale: Collected, buyer: Buyer) -> None:
    draft = sale.credit(10_000)
    message = request_message(sale.shop, draft)
    first = sale.sent(message)
    assert sale.judged(draft, message, first).approved
    assert [sale.sent(message) for _ in range(3)] == [first] * 3
    assert buyer.balance == OPENING - AMOUNT + 10_000


def test_what_the_switch_declines_is_final_and_changes_nothing(site: Site, sale: Collected, buyer: Buyer) -> None:
    """The card has spent the credit: it cannot be taken back."""
    credit = sale.done(sale.credit(AMOUNT))
    poor = site.switch.admin
    poor.add_fault("0420", "refuse", rc="51")
    draft = sale.credit_reversal(credit)
    message = request_message(sale.shop, draft)
    first = sale.sent(message)
    answer = sale.judged(draft, message, first)
    assert (answer.body.auth_code, answer.body.rc, answer.open) == (AuthCode.DECLINED, "51", False)
    assert sale.sent(message) == first
    assert buyer.balance == OPENING
    sale.done(sale.credit_reversal(credit))  # asked anew, it can be done
    assert buyer.balance == OPENING - AMOUNT


def test_without_a_line_nothing_is_sent_and_the_merchant_may_ask_anew(
    site: Site, sale: Collected, buyer: Buyer
) -> None:
    site.switch.admin.add_fault("0800", "ignore", count=1000)
    site.switch.admin.break_connections()
    try:
        answer = sale.ask(sale.credit(10_000))
    finally:
        site.switch.admin.clear_faults()
        site.switch.admin.break_connections()
    assert (answer.body.auth_code, answer.body.rc) == (AuthCode.SYSTEM_ERROR, "96")
    assert buyer.balance == OPENING - AMOUNT


def test_an_order_whose_card_was_forgotten_is_not_settled_any_more(
    site: Site, tmp_path: Path, shop: Shop, buyer: Buyer
) -> None:
    home = site.gateway_home(tmp_path / "home")
    with site.gateway(home) as url:
        site.register(url, shop)
        order = collected(site, url, shop, buyer, AMOUNT)
    home = site.gateway_home(tmp_path / "home", card_kept=0.000001)
    with site.gateway(home) as url:  # it tidies up when it starts
        order.url = url
        answer = order.ask(order.credit(1))
        assert (answer.body.auth_code, answer.body.stan) == (AuthCode.INVALID_TRANSACTION, None)
    assert buyer.balance == OPENING - AMOUNT
