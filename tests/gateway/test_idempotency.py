"""One order is collected once: whatever is sent again, however often, whoever restarts."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from kwbp.codes import AuthCode
from kwbp.wrapper import MEDIA_TYPE
from runtime.client import http_client
from tests.support.payment_parties import Buyer, Shop, auth_res_of, error_of
from tests.support.payment_site import OPENING, Site, wait_for


def _sales(site: Site, shop: Shop) -> int:
    """0200 that the switch has booked or refused for this merchant."""
    return sum(each.kind == "sale" and each.merchant == shop.merchant_id for each in site.switch.admin.transactions())


def test_a_hundred_parallel_repeats_make_one_debit_and_one_answer(
    site: Site, gateway: str, shop: Shop, buyer: Buyer
) -> None:
    purchase = site.purchase(shop, buyer, 150_000)
    before = site.switch.admin.statistics()["received"].get("0200", 0)
    opened, signed = site.key_uses("gateway-encryption"), site.key_uses("gateway-signing")
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: shop.collect(gateway, purchase), range(100)))
    assert len(set(answers)) == 1
    assert purchase.checked_answer(answers[0]).approved
    assert site.switch.admin.statistics()["received"]["0200"] == before + 1
    assert site.key_uses("gateway-encryption") == opened + 1
    assert site.key_uses("gateway-signing") == signed + 1
    assert buyer.balance == OPENING - 150_000


def test_a_repeat_after_a_restart_gets_the_stored_bytes(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    home, shop = site.gateway_home(tmp_path / "home"), site.new_shop()
    with site.gateway(home) as url:
        site.register(url, shop)
        purchase = site.purchase(shop, buyer, 150_000)
        first = shop.collect(url, purchase)
    with site.gateway(home) as url:
        assert shop.collect(url, purchase) == first
        assert shop.acknowledge(url, purchase.ack(first)) == b""
        assert shop.collect(url, purchase) == first
    assert buyer.balance == OPENING - 150_000


def test_another_request_for_the_order_is_told_that_it_was_used(
    site: Site, gateway: str, shop: Shop, buyer: Buyer
) -> None:
    purchase = site.purchase(shop, buyer, 150_000)
    first = shop.collect(gateway, purchase)
    other = shop.post(gateway, "/v1/auth", purchase.again()).content
    assert auth_res_of(other).auth_code is AuthCode.PI_PREVIOUSLY_USED
    assert shop.collect(gateway, purchase) == first
    assert buyer.balance == OPENING - 150_000


def test_another_request_waits_for_the_one_under_way(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    purchase = site.purchase(shop, buyer, 150_000)
    site.switch.admin.add_fault("0200", "delay", seconds=0.7)
    answers: list[bytes] = []
    first = threading.Thread(target=lambda: answers.append(shop.collect(gateway, purchase)))
    first.start()
    wait_for(lambda: not site.switch.admin.faults())
    other = shop.post(gateway, "/v1/auth", purchase.again()).content
    first.join()
    assert auth_res_of(other).auth_code is AuthCode.PI_PREVIOUSLY_USED
    assert purchase.checked_answer(answers[0]).approved
    assert _sales(site, shop) == 1


def test_a_forged_request_does_not_use_up_the_order(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    purchase = site.purchase(shop, buyer, 150_000)
    at = purchase.message.rindex(purchase.signed[-20:]) + 10  # inside the merchant's signature
    forged = purchase.message[:at] + bytes([purchase.message[at] ^ 1]) + purchase.message[at + 1 :]
    opened = site.key_uses("gateway-encryption")
    error = error_of(shop.post(gateway, "/v1/auth", forged).content, forged, site, signed=False)
    assert (error.error_code.protocol_name, error.clause) == ("signatureFailure", "G4")
    assert site.key_uses("gateway-encryption") == opened
    assert purchase.checked_answer(shop.collect(gateway, purchase)).approved


def test_a_merchant_that_hangs_up_finds_its_answer_later(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    purchase = site.purchase(shop, buyer, 150_000)
    site.switch.admin.add_fault("0200", "delay", seconds=0.7)
    hung_up = threading.Thread(target=_post_and_hang_up, args=(shop, gateway, purchase.message))
    hung_up.start()
    hung_up.join()
    assert purchase.checked_answer(shop.collect(gateway, purchase)).approved
    assert _sales(site, shop) == 1
    assert buyer.balance == OPENING - 150_000


def _post_and_hang_up(shop: Shop, url: str, message: bytes) -> None:
    with http_client(shop.tls, url, timeout=0.3) as client, pytest.raises(httpx.TimeoutException):
        client.post("/v1/auth", content=message, headers={"content-type": MEDIA_TYPE})
