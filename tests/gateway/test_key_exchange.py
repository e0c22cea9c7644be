"""Zone keys changed under traffic, and by a gateway that is killed while they change; all parts are real."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runtime.client import http_client, raise_problem
from runtime.problems import Problem
from shetab.subfields import ZONE_KEY_KINDS, ZoneKeyKind
from shetab.zone_keys import next_index
from tests.support.payment_parties import Buyer, Shop
from tests.support.payment_site import ACQUIRER, OPENING, Site, wait_for

AMOUNT = 10_000
CHANGES = 3
PURCHASES = 8


def keys(site: Site, url: str, *, change: bool = False) -> dict[str, dict[str, Any]]:
    """The zone keys in use as the gateway's operator sees them, after new ones came if `change`."""
    with http_client(site.tls("operator"), url) as client:
        asked = client.post("/v1/zone-keys:change") if change else client.get("/v1/zone-keys")
        return {each["key"]: each for each in raise_problem(asked).json()}


def theirs(site: Site, kind: ZoneKeyKind) -> tuple[int, str]:
    """Index and check value of the key that the switch uses."""
    key = site.switch.processor._rules.ring.keys(ACQUIRER, kind)[0]
    return key.index, key.check_value


def test_purchases_under_way_while_the_keys_are_changed_have_one_outcome_each(
    site: Site, gateway: str, shop: Shop, buyer: Buyer
) -> None:
    purchases = [site.purchase(shop, buyer, AMOUNT) for _ in range(PURCHASES)]
    dropped, first = site.switch.admin.statistics()["dropped"], keys(site, gateway)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(shop.collect, gateway, each) for each in purchases]
        states = [keys(site, gateway, change=True) for _ in range(CHANGES)]
        outcomes = [
            purchase.checked_answer(answer.result()) for purchase, answer in zip(purchases, answers, strict=True)
        ]
    assert all(outcome.approved for outcome in outcomes)  # the line was honest: none is unknown
    assert {shop.order(gateway, each.xid)["state"] for each in purchases} == {"APPROVED"}
    assert buyer.balance == OPENING - PURCHASES * AMOUNT
    assert site.switch.admin.statistics()["dropped"] == dropped
    assert site.switch.admin.is_balanced()
    for kind, before in first.items():
        indexes = [before["index"], *(state[kind]["index"] for state in states)]
        assert indexes[1:] == [next_index(each) for each in indexes[:-1]]
        assert len({before["check_value"], *(state[kind]["check_value"] for state in states)}) == CHANGES + 1


def test_both_ends_state_the_same_check_values(site: Site, gateway: str) -> None:
    changed = keys(site, gateway, change=True)
    for kind in ZONE_KEY_KINDS:
        ours = (changed[kind]["index"], changed[kind]["check_value"])
        wait_for(lambda kind=kind, ours=ours: theirs(site, kind) == ours)  # its answer is on the way


def test_a_line_that_breaks_is_said_and_the_keys_stay(site: Site, gateway: str) -> None:
    before = keys(site, gateway)
    site.switch.admin.add_fault("0800", "disconnect", count=1)
    with pytest.raises(Problem) as refusal:
        keys(site, gateway, change=True)
    assert refusal.value.type == "key-change-failed"
    after = keys(site, gateway)
    assert {kind: after[kind]["index"] for kind in after} == {kind: before[kind]["index"] for kind in before}
    wait_for(lambda: site._is_ready(gateway))
    assert keys(site, gateway, change=True)["zone-mac"]["index"] == next_index(before["zone-mac"]["index"])


@pytest.mark.slow
@pytest.mark.parametrize("step", ["zone-mac-came", "zone-mac-taken", "zone-pin-taken"])
def test_killed_before_the_key_was_answered_both_ends_find_a_common_one(
    site: Site, tmp_path: Path, buyer: Buyer, step: str
) -> None:
    home, shop = site.gateway_home(tmp_path / "home", key_change_at_sign_on=True), site.new_shop()
    with site.gateway_process(home, fatal=step, ready=False) as dying:
        dying.wait_killed()
    with site.gateway_process(site.gateway_home(tmp_path / "home")) as again:
        site.register(again.url, shop)
        purchase = site.purchase(shop, buyer, AMOUNT)
        assert purchase.checked_answer(shop.collect(again.url, purchase)).approved
        held = keys(site, again.url)
        assert theirs(site, "zone-mac") == (held["zone-mac"]["index"], held["zone-mac"]["check_value"])
        assert keys(site, again.url, change=True)["zone-pin"]["index"] == next_index(held["zone-pin"]["index"])
    assert buyer.balance == OPENING - AMOUNT
    assert site.switch.admin.is_balanced()
