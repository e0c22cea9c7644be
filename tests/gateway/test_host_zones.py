"""A switch and a bank with zones of their own, at one gateway; all parts are real."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from gateway_keys import zone_keys
from runtime.client import http_client, raise_problem
from runtime.problems import Problem
from runtime.settings import Home, SwitchSettings
from runtime.zone_settings import ZoneSettings
from shetab.subfields import ZONE_KEY_KINDS
from shetab.zone import SWITCH_ZONE
from shetab.zone_keys import next_index
from switch.service import running as running_switch
from tests.support.payment_parties import Buyer
from tests.support.payment_site import ACQUIRER, OPENING, Site, wait_for
from tests.support.ports import free_port

AMOUNT: Final = 10_000
BANK: Final = "saman"
BIN: Final = "621986"
KINDS: Final = {"pin_key": "des3", "mac_key": "aes-256", "master_key": "aes-256"}
DIALECT: Final = "shetab93_ascii"


class TwoZones:
    """A site whose gateway works with the switch and with a bank, each under keys of its own."""

    def __init__(self, site: Site, bank: Any) -> None:
        self.site = site
        self.at_bank = copy.copy(site)
        self.at_bank.switch = bank

    def buyers(self) -> dict[str, Buyer]:
        return {SWITCH_ZONE: self.site.buyer(), BANK: self.at_bank.buyer(issuer=BIN)}

    def pays(self, url: str, buyer: Buyer) -> bool:
        shop = self.site.new_shop()
        self.site.register(url, shop)
        purchase = self.site.purchase(shop, buyer, AMOUNT)
        return bool(purchase.checked_answer(shop.collect(url, purchase)).approved)

    def keys(self, url: str, change: str | None = None) -> dict[tuple[str, str], dict[str, Any]]:
        with http_client(self.site.tls("operator"), url) as client:
            if change is not None:
                raise_problem(client.post("/v1/zone-keys:change", params={"zone": change}))
            return {(each["zone"], each["key"]): each for each in raise_problem(client.get("/v1/zone-keys")).json()}


@pytest.fixture(scope="module")
def zones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoZones]:
    port, folder = free_port(), tmp_path_factory.mktemp("two-zones")
    hosts = {BANK: {"kind": "iso8583", "addresses": [f"127.0.0.1:{port}"], "dialect": DIALECT, "zone": KINDS}}
    with Site.running(folder, hosts=hosts, prefixes={BIN: BANK}) as site:
        home = Home(tmp_path_factory.mktemp("bank"))
        home.create()
        for theirs, ours in zip(zone_keys.ZONE_KEYS, zone_keys.keys_of(BANK), strict=True):
            for brought, held in zip(theirs.files(home.secrets), ours.files(site.home.secrets), strict=True):
                brought.touch(mode=0o600)
                brought.write_bytes(held.read_bytes())
        settings = SwitchSettings(
            port=port, admin_port=free_port(), dialect=DIALECT, zone=ZoneSettings.model_validate(KINDS)
        )
        with running_switch(home, settings, acquirers=(ACQUIRER,)) as bank:
            yield TwoZones(site, bank)


def test_orders_go_under_the_keys_of_their_own_zone_before_and_after_a_change(zones: TwoZones, tmp_path: Path) -> None:
    site, buyers = zones.site, zones.buyers()
    with site.gateway(site.gateway_home(tmp_path / "home")) as url:
        wait_for(lambda: {each["state"] for each in _lines(site, url)} == {"up"})
        assert all(zones.pays(url, buyer) for buyer in buyers.values())
        before, after = zones.keys(url), zones.keys(url, change=BANK)
        theirs = zones.at_bank.switch.processor._rules.ring
        for kind in ZONE_KEY_KINDS:
            assert after[SWITCH_ZONE, kind] == before[SWITCH_ZONE, kind]
            assert after[BANK, kind]["index"] == next_index(before[BANK, kind]["index"])
            ours = (after[BANK, kind]["index"], after[BANK, kind]["check_value"])
            wait_for(lambda kind=kind, ours=ours: _of(theirs.keys(ACQUIRER, kind)[0]) == ours)
        assert all(zones.pays(url, buyer) for buyer in buyers.values())
        with pytest.raises(Problem) as refused:
            zones.keys(url, change="melli")
        assert refused.value.type == "no-key-exchange"
    assert {buyer.balance for buyer in buyers.values()} == {OPENING - 2 * AMOUNT}
    # A key for each PIN of the bank's cards, and none for those of the switch: theirs are sealed as orders are opened.
    lent = [
        entry["keys"] for entry in _journal(site) if (entry["event"], entry.get("operation")) == ("intent", "seal-pin")
    ]
    assert [[each.split("/")[0] for each in keys] for keys in lent] == [["zone-pin-saman"]] * 2
    for switch in (site.switch, zones.at_bank.switch):
        assert switch.admin.statistics()["dropped"] == {}
        assert switch.admin.is_balanced()


def test_an_order_of_another_zone_than_its_route_is_not_sent(zones: TwoZones, tmp_path: Path) -> None:
    """The key service has the routes of before: the PIN of the card is sealed for another than it would go to."""
    site, buyer = zones.site, zones.at_bank.buyer(issuer=BIN)
    home = site.gateway_home(tmp_path / "home", routes={"prefixes": {BIN: "switch"}})
    shop = site.new_shop()
    with site.gateway(home) as url:
        site.register(url, shop)
        purchase = site.purchase(shop, buyer, AMOUNT)
        refused = shop.post(url, "/v1/auth", purchase.message)
        assert (refused.status_code, shop.order(url, purchase.xid)["state"]) == (503, "VERIFIED")
    with site.gateway(site.gateway_home(tmp_path / "home")) as url:  # put right, the same order is collected
        wait_for(lambda: {each["state"] for each in _lines(site, url)} == {"up"})
        assert purchase.checked_answer(shop.collect(url, purchase)).approved
    assert buyer.balance == OPENING - AMOUNT


def _journal(site: Site) -> list[dict[str, Any]]:
    lines = (site.home.audit / "hsm.jsonl").read_text().splitlines()
    return [json.loads(line)["entry"] for line in lines]


def _lines(site: Site, url: str) -> list[dict[str, Any]]:
    with http_client(site.tls("operator"), url) as client:
        found: list[dict[str, Any]] = raise_problem(client.get("/v1/links")).json()
    return found


def _of(key: Any) -> tuple[int, str]:
    return key.index, key.check_value
