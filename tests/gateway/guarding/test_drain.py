"""SIGTERM with purchases under way: no new ones, those begun come to their end, the line is signed off, exit 0."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from runtime.client import http_client
from tests.support.payment_parties import Purchase
from tests.support.payment_site import OPENING, Site, wait_for

AMOUNT = 150_000
AT_ONCE = 6


def _collected(url: str, purchase: Purchase) -> httpx.Response | None:
    try:
        return purchase.shop.post(url, "/v1/auth", purchase.message)
    except httpx.HTTPError:  # it does not listen any more, or closed a connection that was idle
        return None


def test_what_was_begun_comes_to_its_end_and_nothing_new_is(site: Site, tmp_path: Path) -> None:
    home = site.gateway_home(tmp_path / "home", notice=1.0)
    shop, buyers = site.new_shop(), [site.buyer() for _ in range(AT_ONCE + 1)]
    site.switch.admin.add_fault("0200", "delay", count=AT_ONCE, seconds=2.0)
    with site.gateway_process(home) as gateway, ThreadPoolExecutor(AT_ONCE) as pool:
        site.register(gateway.url, shop)
        assert _lines(site) == 1
        managed = site.switch.admin.statistics()["received"]["0800"]
        purchases = [site.purchase(shop, buyer, AMOUNT) for buyer in buyers]
        *begun, late = purchases
        answers = [pool.submit(_collected, gateway.url, each) for each in begun]
        wait_for(lambda: len(site.switch.admin.faults()) == 0)  # all of them are at the switch
        with http_client(shop.tls, gateway.url) as client:
            assert client.get("/health/ready").status_code == 200
            gateway.process.send_signal(signal.SIGTERM)
            wait_for(lambda: client.get("/health/ready").status_code == 503, every=0.01)
            assert client.get("/health/live").status_code == 200
            refused = client.post("/v1/auth", content=late.message, headers={"content-type": "application/vnd.kwbp"})
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:kwbp:problem:stopping")
        assert int(refused.headers["retry-after"]) >= 1
        for purchase, answer in zip(begun, answers, strict=True):
            found = answer.result()
            assert found is not None
            assert purchase.checked_answer(found.content).approved
        assert gateway.process.wait(60) == 0
        assert _lines(site) == 0
        assert site.switch.admin.statistics()["received"]["0800"] == managed + 1, "it signed off"
    for buyer in buyers[:-1]:
        assert buyer.balance == OPENING - AMOUNT
    assert buyers[-1].balance == OPENING


def _lines(site: Site) -> int:
    """Lines over which somebody is signed on."""
    return sum(1 for each in site.switch.admin._call("GET", "/v1/lines") if each["institution"] is not None)


def test_a_gateway_that_ends_under_load_loses_nothing_and_doubles_nothing(site: Site, tmp_path: Path) -> None:
    """Whoever had no answer asks the next gateway: each card is debited once."""
    home = site.gateway_home(tmp_path / "home")
    shop, buyers = site.new_shop(), [site.buyer() for _ in range(12)]
    purchases = [site.purchase(shop, buyer, AMOUNT) for buyer in buyers]
    with ThreadPoolExecutor(4) as pool:
        with site.gateway_process(home) as gateway:
            site.register(gateway.url, shop)
            answers = [pool.submit(_collected, gateway.url, each) for each in purchases]
            wait_for(lambda: any(each.done() for each in answers), every=0.005)
            gateway.process.send_signal(signal.SIGTERM)
            first = [each.result() for each in answers]
            assert gateway.process.wait(60) == 0
        with site.gateway_process(home) as gateway:
            for purchase, answer in zip(purchases, first, strict=True):
                again = _collected(gateway.url, purchase)
                assert again is not None
                assert purchase.checked_answer(again.content).approved
                if answer is not None and answer.status_code == 200:
                    assert again.content == answer.content
    assert [buyer.balance for buyer in buyers] == [OPENING - AMOUNT] * len(buyers)
