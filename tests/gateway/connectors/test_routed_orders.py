"""Orders whose cards are not the switch's: another connector collects them, and whatever follows goes there too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kwbp.codes import AuthCode
from runtime.client import http_client, raise_problem
from tests.support.payment_parties import Buyer, Shop
from tests.support.payment_site import CARD_BIN, OPENING, Site, wait_for

AMOUNT = 150_000


def hosts(site: Site) -> dict[str, Any]:
    """The bank of the site by two other ways: its JSON over HTTPS, and its line as that of a direct host."""
    switch = site.settings["switch"]
    return {
        "wallet": {"kind": "http", "url": f"https://127.0.0.1:{switch['authoriser_port']}", "mac": True},
        "direct": {"kind": "iso8583", "addresses": [f"127.0.0.1:{switch['port']}"], "dialect": "shetab87_ascii"},
    }


def routed_home(site: Site, folder: Path, connector: str) -> Any:
    return site.gateway_home(
        folder, connectors=hosts(site), routes={"prefixes": {CARD_BIN[:4]: "switch", CARD_BIN: connector}}
    )


@pytest.fixture(scope="module", params=["wallet", "direct"])
def routed(request: pytest.FixtureRequest, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway that sends the cards of the site's bank to `request.param`."""
    home = routed_home(site, tmp_path_factory.mktemp("routed") / "home", request.param)
    with site.gateway(home) as url:
        wait_for(lambda: {line["state"] for line in looked_up(site, url, "/v1/links")} == {"up"})
        yield url


@pytest.fixture
def way(routed: str, request: pytest.FixtureRequest) -> str:
    name: str = request.node.callspec.params["routed"]
    return name


@pytest.fixture
def seller(site: Site, routed: str) -> Shop:
    shop = site.new_shop()
    site.register(routed, shop)
    return shop


def looked_up(site: Site, url: str, path: str) -> list[dict[str, Any]]:
    with http_client(site.tls("operator"), url) as client:
        found: list[dict[str, Any]] = raise_problem(client.get(path)).json()
    return found


def sent(site: Site, url: str, connector: str) -> int:
    return sum(line["sent"] for line in looked_up(site, url, "/v1/links") if line["connector"] == connector)


def ends(shop: Shop, url: str, xid: bytes, state: str) -> None:
    wait_for(lambda: shop.order(url, xid)["state"] == state)


def test_an_order_is_collected_once_by_the_connector_of_its_card(
    site: Site, routed: str, way: str, seller: Shop, buyer: Buyer
) -> None:
    before = sent(site, routed, way)
    purchase = site.purchase(seller, buyer, AMOUNT)
    answer = seller.collect(routed, purchase)
    assert purchase.checked_answer(answer).approved
    assert seller.collect(routed, purchase) == answer
    assert buyer.balance == OPENING - AMOUNT
    assert sent(site, routed, way) == before + 1
    assert seller.acknowledge(routed, purchase.ack(answer)) == b""


@pytest.mark.parametrize("kind", ["drop", "corrupt_mac", "wrong_amount"])
def test_an_outcome_nobody_can_vouch_for_is_reversed_there(
    site: Site, routed: str, way: str, seller: Shop, buyer: Buyer, kind: str
) -> None:
    purchase = site.purchase(seller, buyer, AMOUNT)
    site.switch.admin.add_fault("0200", kind)  # type: ignore[arg-type]
    answer = seller.collect(routed, purchase)
    assert purchase.checked_answer(answer).body.auth_code is AuthCode.NO_REPLY
    ends(seller, routed, purchase.xid, "REVERSED")
    assert buyer.balance == OPENING
    assert site.switch.admin.is_balanced()


def test_a_reversal_is_repeated_there_and_booked_once(
    site: Site, routed: str, way: str, seller: Shop, buyer: Buyer
) -> None:
    purchase = site.purchase(seller, buyer, AMOUNT)
    answer = seller.collect(routed, purchase)
    site.switch.admin.add_fault("042x", "drop")
    seller.acknowledge(routed, purchase.ack(answer, accepted=False))
    ends(seller, routed, purchase.xid, "REVERSED")
    assert buyer.balance == OPENING
    assert site.switch.admin.is_balanced()


def test_a_route_is_kept_for_life_whatever_becomes_of_the_table(site: Site, tmp_path: Path, buyer: Buyer) -> None:
    home = routed_home(site, tmp_path / "home", "wallet")
    shop = site.new_shop()
    with site.gateway(home) as url:
        wait_for(lambda: {line["state"] for line in looked_up(site, url, "/v1/links")} == {"up"})
        site.register(url, shop)
        purchase = site.purchase(shop, buyer, AMOUNT)
        answer = shop.collect(url, purchase)
        assert purchase.checked_answer(answer).approved
    # All cards go to the switch now, and the connector of the order is not there at all: its reversal waits.
    text = home.config.read_text()
    home.config.write_text(_without_connectors(text))
    with site.gateway(home) as url:
        shop.acknowledge(url, purchase.ack(answer, accepted=False))
        order = shop.order(url, purchase.xid)
        assert (order["state"], order["reversal_attempts"]) == ("REV_QUEUED", 0)
        assert sent(site, url, "switch") <= 2  # sign-on, an echo at most
        assert buyer.balance == OPENING - AMOUNT
    home.config.write_text(text.replace(f'{CARD_BIN} = "wallet"', f'{CARD_BIN} = "switch"'))
    with site.gateway(home) as url:
        ends(shop, url, purchase.xid, "REVERSED")
        assert sent(site, url, "wallet") >= 1
        assert buyer.balance == OPENING


def _without_connectors(text: str) -> str:
    lines = [line for line in text.splitlines() if not line.startswith(("connectors =", "routes ="))]
    return "\n".join(lines) + "\n"


def test_the_operator_sees_lines_and_routes(site: Site, routed: str, way: str) -> None:
    lines = {line["connector"]: line for line in looked_up(site, routed, "/v1/links")}
    assert set(lines) == {"switch", "direct", "wallet"}
    assert lines["wallet"]["tls"] is True
    assert json.dumps(lines)
    routes = looked_up(site, routed, "/v1/routes")
    assert [(row["prefix"], row["connector"]) for row in routes] == [
        (CARD_BIN[:4], "switch"),
        (CARD_BIN, way),
        (None, "switch"),
    ]
    assert all(row["signed_on"] for row in routes)
