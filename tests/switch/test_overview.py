"""What the network looks like from above: everything is there, masked, and agrees with the counter."""

from __future__ import annotations

from typing import Any

import httpx

from switch.service import RunningSwitch
from tests.support.acquirer import Acquirer
from tests.switch.conftest import OPENING, Customer


def read(switch: RunningSwitch, path: str) -> Any:
    return switch.admin._call("GET", f"/v1/{path}")


def test_a_sale_is_seen_from_above(switch: RunningSwitch, acquirer: Acquirer, customer: Customer) -> None:
    assert acquirer.ask(acquirer.sale(customer.card, 150_000))[39] == "00"
    transaction = read(switch, "transactions?reference=")  # the filter of before still filters
    assert transaction == []
    newest = read(switch, "accounts?limit=200")
    account = next(each for each in newest if each["iban"] == customer.account.iban)
    assert account["balance"] == OPENING - 150_000
    card = next(each for each in read(switch, "cards") if each["card_id"] == customer.card.card_id)
    assert card["masked_pan"] == customer.card.masked_pan
    ledger = read(switch, "ledger")
    assert ledger["balanced"]
    assert all(each["balance"] == each["entries"] for each in ledger["totals"])
    assert {each["kind"] for each in ledger["totals"]} >= {"customer", "cash", "intermediary"}


def test_lines_and_keys_are_seen_without_what_is_secret(switch: RunningSwitch, acquirer: Acquirer) -> None:
    signed_on = {each["institution"] for each in read(switch, "lines")}
    assert acquirer.code in signed_on
    keys = [each for each in read(switch, "zone-keys") if each["institution"] == acquirer.code]
    assert {each["kind"] for each in keys} == {"zone-mac", "zone-pin"}
    assert all(set(each) == {"institution", "kind", "index", "state", "check_value"} for each in keys)
    assert all(len(each["check_value"]) == 6 for each in keys)


def test_nothing_of_it_is_told_without_the_token(switch: RunningSwitch) -> None:
    for path in ("accounts", "cards", "ledger", "lines", "zone-keys", "transactions", "faults"):
        assert httpx.get(f"{switch.admin_url}/v1/{path}").status_code == 401, path
