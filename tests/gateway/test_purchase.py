"""Orders over the whole line of real parts: token, HSM service, repository, switch with accounts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kwbp.codes import AuthCode
from tests.support.payment_site import OPENING, Buyer, Shop, Site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site.running(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def gateway(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with site.gateway(site.gateway_home(tmp_path_factory.mktemp("gateway") / "home")) as url:
        yield url


@pytest.fixture(scope="module")
def shop(site: Site, gateway: str) -> Shop:
    shop = site.shop("M-1")
    site.register(gateway, shop)
    return shop


@pytest.fixture
def buyer(site: Site) -> Buyer:
    return site.buyer()


def test_an_honest_order_is_collected_and_acknowledged(site: Site, gateway: str, shop: Shop, buyer: Buyer) -> None:
    purchase = site.purchase(shop, buyer, 150_000)
    answer = shop.post(gateway, "/v1/auth", purchase.message)
    assert answer.status_code == 200, answer.text
    body = purchase.checked_answer(answer.content).body
    assert body.auth_code is AuthCode.APPROVED
    assert body.masked_pan == buyer.card.pan.masked
    assert buyer.balance == OPENING - 150_000
    taken = shop.post(gateway, "/v1/ack", purchase.ack(answer.content))
    assert (taken.status_code, taken.content) == (204, b"")
    state = shop.order_state(gateway, purchase.xid)
    assert (state["state"], state["amount"], state["rrn"]) == ("ACKED", 150_000, body.rrn)
