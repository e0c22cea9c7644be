"""What the bank network can do to an order, and where the money is afterwards.

Every fault ends in one of two ways: the merchant holds a signed approval and the buyer has paid once, or the buyer has
their money back. The ledger of the switch is asked, not the gateway.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kwbp.codes import AuthCode
from tests.support.payment_parties import Buyer, Shop, auth_res_of, error_of
from tests.support.payment_site import ANSWER_TIMEOUT, OPENING, Site, wait_for

AMOUNT = 150_000


@pytest.fixture(scope="module")
def hasty(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway that waits for an acknowledgement for two seconds only."""
    with site.gateway(site.gateway_home(tmp_path_factory.mktemp("hasty") / "home", ack_timeout=2.0)) as url:
        yield url


def _ends(shop: Shop, url: str, xid: bytes, state: str) -> dict[str, Any]:
    wait_for(lambda: shop.order(url, xid)["state"] == state)
    return shop.order(url, xid)


LOST = {
    "the request is lost": {"kind": "ignore"},
    "the answer is lost": {"kind": "drop"},
    "the answer's MAC is wrong": {"kind": "corrupt_mac"},
    "the answer is noise": {"kind": "garble"},
    "the answer has another STAN": {"kind": "wrong_stan"},
    "the answer names another amount": {"kind": "alter", "changed": {4: "000000150001"}},
    "the answer names another card": {"kind": "alter", "changed": {2: "6037991234567893"}},
    "the answer names another merchant": {"kind": "alter", "changed": {42: "OTHER-SHOP".ljust(15)}},
    "the connection breaks": {"kind": "disconnect"},
    "the answer says it came too late": {"kind": "alter", "changed": {39: "68"}},
    "the answer has a code of no table": {"kind": "alter", "changed": {39: "z9"}},
}


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST.keys())
def test_an_outcome_nobody_can_vouch_for_is_told_at_once_and_reversed(
    site: Site, gateway: str, shop: Shop, buyer: Buyer, fault: dict[str, Any]
) -> None:
    purchase = site.purchase(shop, buyer, AMOUNT)
    site.switch.admin.add_fault("0200", **fault)
    answer = shop.collect(gateway, purchase)
    assert purchase.checked_answer(answer).body.auth_code is AuthCode.NO_REPLY
    order = _ends(shop, gateway, purchase.xid, "REVERSED")
    assert order["reversal_reason"] == "no answer"
    assert buyer.balance == OPENING
    assert shop.collect(gateway, purchase) == answer  # never "approved", never "declined" afterwards
    assert site.switch.admin.is_balanced()


def test_an_approval_that_comes_late_is_filed_and_reversed(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    purchase = site.purchase(shop, buyer, AMOUNT)
    site.switch.admin.add_fault("0200", "delay", seconds=ANSWER_TIMEOUT + 1)
    answer = shop.collect(gateway, purchase)
    assert auth_res_of(answer).auth_code is AuthCode.NO_REPLY
    _ends(shop, gateway, purchase.xid, "REVERSED")
    assert buyer.balance == OPENING
    wait_for(lambda: shop.order(gateway, purchase.xid)["late_rc"] == "00")
    assert shop.order(gateway, purchase.xid)["state"] == "REVERSED"
    assert buyer.balance == OPENING


def test_an_answer_that_comes_twice_counts_once(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    purchase = site.purchase(shop, buyer, AMOUNT)
    site.switch.admin.add_fault("0200", "repeat")
    answer = shop.collect(gateway, purchase)
    assert purchase.checked_answer(answer).approved
    assert shop.acknowledge(gateway, purchase.ack(answer)) == b""
    assert shop.order(gateway, purchase.xid)["state"] == "ACKED"
    assert buyer.balance == OPENING - AMOUNT


@pytest.mark.parametrize("kind", ["ignore", "drop", "corrupt_mac", "disconnect", "garble"])
def test_a_reversal_is_repeated_until_it_is_acknowledged(
    site: Site, gateway: str, shop: Shop, buyer: Buyer, kind: Any
) -> None:
    purchase = site.purchase(shop, buyer, AMOUNT)
    site.switch.admin.add_fault("0200", "drop")
    site.switch.admin.add_fault("042x", kind, count=2)
    shop.collect(gateway, purchase)
    order = _ends(shop, gateway, purchase.xid, "REVERSED")
    assert order["reversal_attempts"] >= 3
    assert buyer.balance == OPENING
    told = site.switch.admin.transactions(reference=f"KWBP2 {purchase.xid.hex()}")
    assert [each.kind for each in told] == ["sale", "reversal"] or kind == "ignore"
    assert sum(each.kind == "reversal" for each in told) == 1
    assert site.switch.admin.is_balanced()


def test_an_approval_nobody_acknowledges_is_reversed(site: Site, hasty: str, buyer: Buyer) -> None:
    shop = site.new_shop()
    site.register(hasty, shop)
    purchase = site.purchase(shop, buyer, AMOUNT)
    answer = shop.collect(hasty, purchase)
    ack = purchase.ack(answer)
    assert buyer.balance == OPENING - AMOUNT
    order = _ends(shop, hasty, purchase.xid, "REVERSED")
    assert order["reversal_reason"] == "no acknowledgement"
    assert buyer.balance == OPENING
    error = error_of(shop.acknowledge(hasty, ack), ack, site)
    assert (error.error_code.protocol_name, error.clause) == ("ackTimeout", "B3")


def test_an_acknowledgement_in_time_stops_the_clock(site: Site, hasty: str, buyer: Buyer) -> None:
    shop = site.new_shop()
    site.register(hasty, shop)
    first, second = site.purchase(shop, buyer, AMOUNT), site.purchase(shop, buyer, AMOUNT)
    answer = shop.collect(hasty, first)
    ack = first.ack(answer)
    assert shop.acknowledge(hasty, ack) == b""
    shop.collect(hasty, second)
    _ends(shop, hasty, second.xid, "REVERSED")  # the clock has passed both by now
    assert shop.order(hasty, first.xid)["state"] == "ACKED"
    assert shop.acknowledge(hasty, ack) == b""  # the same acknowledgement again, late: it was taken
    assert buyer.balance == OPENING - AMOUNT


def test_a_merchant_may_give_an_approval_back(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    purchase = site.purchase(shop, buyer, AMOUNT)
    answer = shop.collect(gateway, purchase)
    back = purchase.ack(answer, accepted=False)
    assert shop.acknowledge(gateway, back) == b""
    order = _ends(shop, gateway, purchase.xid, "REVERSED")
    assert order["reversal_reason"] == "not accepted by the merchant"
    assert buyer.balance == OPENING
    assert shop.acknowledge(gateway, back) == b""
    keep = purchase.ack(answer, accepted=True)
    error = error_of(shop.acknowledge(gateway, keep), keep, site)
    assert (error.error_code.protocol_name, error.clause) == ("ackTimeout", "B3")


def test_reversals_wait_out_a_restart(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    home, shop = site.gateway_home(tmp_path / "home"), site.new_shop()
    site.switch.admin.add_fault("042x", "ignore", count=1000)
    with site.gateway(home) as url:
        site.register(url, shop)
        purchase = site.purchase(shop, buyer, AMOUNT)
        site.switch.admin.add_fault("0200", "drop")
        answer = shop.collect(url, purchase)
        wait_for(lambda: shop.order(url, purchase.xid)["reversal_attempts"] >= 1)
    assert buyer.balance == OPENING - AMOUNT
    site.switch.admin.clear_faults()
    with site.gateway(home) as url:
        _ends(shop, url, purchase.xid, "REVERSED")
        assert shop.collect(url, purchase) == answer
    assert buyer.balance == OPENING
