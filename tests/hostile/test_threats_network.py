"""Threats on the way to the gateway and behind it, with everything real: token, HSM service, gateway, switch.

One test for each row of the threat table, named after it (`threats.yaml`). After each, the ledger of the bank is asked
where the money is, not the gateway.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from kwbp.codes import AuthCode, ErrorCode, PurchaseStatus
from kwbp.errors import ProtocolError
from kwbp.gateway import receive_auth_req
from kwbp.wrapper import unwrap
from pki.oids import CT_AUTH_REQ
from tests.gateway.test_inquiry import asked
from tests.gateway.test_refusals import resigned, rewrapped
from tests.hostile.receivers import Receivers
from tests.kwbp.world import Purchase as PurePurchase
from tests.kwbp.world import World
from tests.support.payment_parties import Buyer, Shop, auth_res_of, error_of
from tests.support.payment_site import ANSWER_TIMEOUT, OPENING, Site, wait_for

AMOUNT: Final = 150_000


def sales(site: Site, shop: Shop) -> int:
    """0200 of this merchant that the switch has booked or refused."""
    return sum(each.kind == "sale" and each.merchant == shop.merchant_id for each in site.switch.admin.transactions())


def ends(shop: Shop, url: str, xid: bytes, state: str) -> dict[str, Any]:
    """The order, once it is in this state."""
    wait_for(lambda: shop.order(url, xid)["state"] == state)
    return shop.order(url, xid)


def test_01_replay_of_purchase_and_authorisation_requests(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    """One AuthReq a hundred times at once: one debit, one answer; and a second one about the same order gets none."""
    purchase = site.purchase(shop, buyer, AMOUNT)
    opened, signed = site.key_uses("gateway-encryption"), site.key_uses("gateway-signing")
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: shop.collect(gateway, purchase), range(100)))
    assert len(set(answers)) == 1
    assert purchase.checked_answer(answers[0]).approved
    assert (site.key_uses("gateway-encryption"), site.key_uses("gateway-signing")) == (opened + 1, signed + 1)
    again = shop.post(gateway, "/v1/auth", purchase.again()).content
    assert auth_res_of(again).auth_code is AuthCode.PI_PREVIOUSLY_USED
    assert (sales(site, shop), buyer.balance) == (1, OPENING - AMOUNT)


def test_02_replay_in_another_session_or_on_another_day(
    site: Site, buyer: Buyer, tmp_path: Path, world: World, purchase: PurePurchase, to: Receivers
) -> None:
    """A gateway that was restarted knows what it answered; one that never saw it finds it too old on the next day."""
    home, shop = site.gateway_home(tmp_path / "home"), site.new_shop()
    with site.gateway(home) as url:
        site.register(url, shop)
        order = site.purchase(shop, buyer, AMOUNT)
        first = shop.collect(url, order)
    with site.gateway(home) as url:
        assert shop.collect(url, order) == first
        again = shop.post(url, "/v1/auth", order.again()).content
        assert auth_res_of(again).auth_code is AuthCode.PI_PREVIOUSLY_USED
    assert (sales(site, shop), buyer.balance) == (1, OPENING - AMOUNT)

    tomorrow = world.now + timedelta(days=1)
    trust = world.pki.trust(tomorrow)
    messages = to.honest(purchase)
    for name in ("InvoiceReq", "Invoice", "PReq", "AuthReq"):
        message, read = messages[name]
        with pytest.raises(ProtocolError) as caught:
            read(message, trust=trust, now=tomorrow)
        assert caught.value.code in (ErrorCode.MESSAGE_TOO_OLD, ErrorCode.INVOICE_EXPIRED)


def test_13_late_switch_response_after_timeout(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    purchase = site.purchase(shop, buyer, AMOUNT)
    site.switch.admin.add_fault("0200", "delay", seconds=ANSWER_TIMEOUT + 1)
    answer = shop.collect(gateway, purchase)
    assert auth_res_of(answer).auth_code is AuthCode.NO_REPLY
    wait_for(lambda: shop.order(gateway, purchase.xid)["late_rc"] == "00")
    ends(shop, gateway, purchase.xid, "REVERSED")
    assert buyer.balance == OPENING
    assert shop.collect(gateway, purchase) == answer
    assert site.switch.admin.is_balanced()


def test_14_duplicate_or_mismatched_switch_response(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    twice, wrong = site.purchase(shop, buyer, AMOUNT), site.purchase(shop, buyer, AMOUNT)
    site.switch.admin.add_fault("0200", "repeat")
    answer = shop.collect(gateway, twice)
    assert shop.acknowledge(gateway, twice.ack(answer)) == b""
    assert shop.order(gateway, twice.xid)["state"] == "ACKED"
    site.switch.admin.add_fault("0200", "wrong_stan")
    answer = shop.collect(gateway, wrong)
    assert wrong.checked_answer(answer).body.auth_code is AuthCode.NO_REPLY
    ends(shop, gateway, wrong.xid, "REVERSED")
    assert (sales(site, shop), buyer.balance) == (2, OPENING - AMOUNT)
    assert site.switch.admin.is_balanced()


def test_15_lost_reversal_answer(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    purchase = site.purchase(shop, buyer, AMOUNT)
    site.switch.admin.add_fault("0200", "disconnect")
    site.switch.admin.add_fault("042x", "drop", count=2)
    shop.collect(gateway, purchase)
    order = ends(shop, gateway, purchase.xid, "REVERSED")
    assert order["reversal_attempts"] >= 3
    told = site.switch.admin.transactions(reference=f"KWBP2 {purchase.xid.hex()}")
    assert [each.kind for each in told] == ["sale", "reversal"]
    assert buyer.balance == OPENING


@pytest.fixture(scope="module")
def hasty(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway that waits for an acknowledgement for four seconds only."""
    with site.gateway(site.gateway_home(tmp_path_factory.mktemp("hasty") / "home", ack_timeout=4.0)) as url:
        yield url


def test_18_merchant_denies_having_received_the_result(site: Site, hasty: str, buyer: Buyer) -> None:
    """It acknowledged nothing, so the money is back by itself; and whoever asks is told so over the gateway's name."""
    shop = site.new_shop()
    site.register(hasty, shop)
    purchase = site.purchase(shop, buyer, AMOUNT)
    answer = shop.collect(hasty, purchase)
    ack = purchase.ack(answer)
    assert buyer.balance == OPENING - AMOUNT
    order = ends(shop, hasty, purchase.xid, "REVERSED")
    assert order["reversal_reason"] == "no acknowledgement"
    assert buyer.balance == OPENING
    told = asked(hasty, purchase)
    assert told.status is PurchaseStatus.REVERSED
    assert shop.collect(hasty, purchase) == answer  # the gateway tells the same again: it has nothing to hide
    assert error_of(shop.acknowledge(hasty, ack), ack, site).error_code is ErrorCode.ACK_TIMEOUT


def test_40_denial_of_service_by_expensive_cryptography(
    site: Site, gateway: str, shop: Shop, buyer: Buyer, world: World, purchase: PurePurchase
) -> None:
    """Ten thousand pieces of junk are refused by the structure of the first bytes; at the gateway no key opens for any.

    What the refusals themselves cost, signatures of Error messages, has a budget.
    """
    order = site.purchase(shop, buyer, AMOUNT)
    honest = purchase.auth_req_message
    kinds = [
        b"", b"junk" * 1000, b"\x30\x80\x00\x00", honest[:-1], honest + b"\x00", honest[:200] + honest[400:],
        purchase.preq_message, honest.replace(purchase.dual_signed, purchase.dual_signed[::-1]),
        honest.replace(purchase.order.pi_envelope, bytes(len(purchase.order.pi_envelope))), bytes(257 * 1024),
    ]  # fmt: skip
    for number in range(10_000):
        with pytest.raises(ProtocolError) as caught:
            receive_auth_req(unwrap(kinds[number % len(kinds)], expected=[CT_AUTH_REQ]))
        assert caught.value.check in ("K1", "K2", "K4")

    opened, signed = site.key_uses("gateway-encryption"), site.key_uses("gateway-signing")
    stranger = site.new_shop()  # certified, registered nowhere
    hostile = [
        *kinds[1:5],
        rewrapped(order, b"\x30\x00"),
        rewrapped(order, order.signed[:-1]),
        resigned(order, pi_envelope=b"\x30\x00"),
        resigned(order, terminal_id="T9999999"),
    ]
    for number in range(100):
        sender = stranger if number % 10 == 0 else shop
        assert sender.post(gateway, "/v1/auth", hostile[number % len(hostile)]).status_code == 200
    assert shop.post(gateway, "/v1/auth", bytes(256 * 1024 + 1)).status_code == 413
    assert site.key_uses("gateway-encryption") == opened
    assert site.key_uses("gateway-signing") - signed <= 120
    assert order.checked_answer(shop.collect(gateway, order)).approved
