"""The disk of the gateway's PostgreSQL is full: orders are refused for now, none is lost, all goes on with room."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from kwbp.codes import AuthCode
from tests.support.payment_parties import Buyer, Purchase, Shop, auth_res_of
from tests.support.payment_site import Site, wait_for
from tests.support.postgres import Cluster
from tests.support.small_disk import SmallDisk, small_disk

AMOUNT = 150_000
MEGABYTES = 192
"""A cluster has some 60 at its start, and its log grows by 16 at a time."""
MOST = 400
"""Orders that fit at most into what pages, and the log that is begun, have free on a full disk."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_full_disk_refuses_orders_for_now_and_loses_none(site: Site, tmp_path: Path) -> None:
    with small_disk(MEGABYTES) as disk:
        cluster = Cluster.start(within=disk.folder)
        try:
            home = site.gateway_home(tmp_path / "home", database=cluster.database(), lease=2.0)
            with site.gateway_process(home) as gateway:
                shop = site.new_shop()
                site.register(gateway.url, shop)
                _scenario(site, gateway.url, shop, disk, cluster)
        finally:
            cluster.stop()


def _scenario(site: Site, url: str, shop: Shop, disk: SmallDisk, cluster: Cluster) -> None:
    before = site.purchase(shop, site.buyer(), AMOUNT)
    answer = shop.collect(url, before)
    assert before.checked_answer(answer).approved
    disk.fill()
    sold, refused = _until_refused(site, url, shop)
    for each in (refused, site.purchase(shop, site.buyer(), AMOUNT)):
        _refused_for_now(shop.post(url, "/v1/auth", each.message))
    _refused_for_now(shop.post(url, "/v1/ack", before.ack(answer)))
    disk.make_room()
    if not cluster.runs:  # it ends when it cannot write its log, and whoever runs it starts it again
        cluster.resume()
    wait_for(lambda: shop.post(url, "/v1/ack", before.ack(answer)).status_code == 204, every=0.2)
    wait_for(lambda: shop.post(url, "/v1/auth", refused.message).status_code == 200, every=0.2)
    for purchase in (before, *sold, refused):
        _has_one_outcome(url, shop, purchase, purchase.buyer)
    assert site.switch.admin.is_balanced()


def _until_refused(site: Site, url: str, shop: Shop) -> tuple[list[Purchase], Purchase]:
    """Orders that found room still, and the first that found none."""
    sold, buyer = list[Purchase](), site.buyer(balance=MOST * AMOUNT)
    for _ in range(MOST):
        purchase = site.purchase(shop, buyer, AMOUNT)
        response = shop.post(url, "/v1/auth", purchase.message)
        if response.status_code != 200:
            _refused_for_now(response)
            return sold, purchase
        assert purchase.checked_answer(response.content).approved
        sold.append(purchase)
    raise AssertionError("the disk was not full")


def _refused_for_now(response: httpx.Response) -> None:
    """Neither declined nor taken: to be sent again."""
    assert response.status_code == 503, response.text
    assert response.json()["type"].endswith("order-book-unavailable"), response.text
    assert response.headers["retry-after"]


def _has_one_outcome(url: str, shop: Shop, purchase: Purchase, buyer: Buyer) -> None:
    """Approved and debited; or, if it may have left when its outcome found no room, given back. Never declined."""
    answer = shop.collect(url, purchase)
    code = auth_res_of(answer).auth_code
    debited = {each.state for each in buyer.site.switch.admin.transactions(reference=f"KWBP2 {purchase.xid.hex()}")}
    if code is AuthCode.APPROVED:
        assert debited == {"approved"}
        assert shop.order(url, purchase.xid)["state"] in ("APPROVED", "ACKED")
        return
    assert code is AuthCode.NO_REPLY
    wait_for(lambda: shop.order(url, purchase.xid)["state"] == "REVERSED", every=0.2)
