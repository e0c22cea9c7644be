"""The same money over every dialect, which is a line of the settings: real gateway, token, HSM service and switch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import pytest

from runtime.problems import Problem
from shetab.dialect import Dialect, Direction
from shetab.jalali import IRAN_STANDARD_TIME
from shetab.message import Message
from tests.gateway.settling_shop import collected
from tests.gateway.test_key_exchange import keys
from tests.gateway.test_settling_batches import IBAN, advice, days
from tests.support.payment_parties import Shop, now
from tests.support.payment_site import OPENING, Site, wait_for

AMOUNT: Final = 150_000

OURS: Final = """
name: ours
base: shetab93_binary
wire:
  fields:
    58: {name: agreed with this network alone, format: "ans ..10", show: clear}
  messages:
    "1200": {mandatory: [2, 3, 4, 7, 11, 12, 17, 19, 22, 24, 26, 32, 37, 41, 42, 43, 48, 49, 58, 62, 100]}
  rules:
    agreed: {kind: filled, messages: ["0200", "0201"], outside: 58, strict: true, cases: [{value: KWBP-2}]}
"""
"""A network that asks for one more field in its purchases."""


@contextmanager
def speaking(site: Site, dialect: str) -> Iterator[list[bytes]]:
    """The simulator of the site speaks this dialect for a while; what it reads meanwhile."""
    heard: list[bytes] = []

    class Listening(Dialect):
        def decode(self, raw: bytes, direction: Direction | None = None) -> Message:
            heard.append(raw)
            return super().decode(raw, direction)

    processor = site.switch.processor
    before = processor._rules
    processor._rules = replace(before, dialect=Listening.load(dialect))
    try:
        yield heard
    finally:
        processor._rules = before


@contextmanager
def on_both_ends(site: Site, folder: Path, dialect: str) -> Iterator[str]:
    """A gateway whose settings name the dialect; its URL."""
    home = site.gateway_home(folder, dialect=dialect)
    if dialect.endswith(".yaml"):
        (home.path / dialect).write_text(OURS, "utf-8")
    with speaking(site, home.dialect(dialect)), site.gateway(home) as url:
        yield url


@pytest.mark.parametrize("dialect", ["shetab87_binary", "shetab93_ascii", "shetab93_binary"])
def test_a_purchase_its_reversals_a_key_change_and_the_totals_of_the_day(
    site: Site, tmp_path: Path, dialect: str
) -> None:
    yesterday = now().astimezone(IRAN_STANDARD_TIME).date() - timedelta(days=1)
    site.switch.admin.cut_over(yesterday)
    try:
        with on_both_ends(site, tmp_path / "gateway", dialect) as url:
            shop, buyer = site.new_shop(), site.buyer()
            dropped = site.switch.admin.statistics()["dropped"]
            name = "کتاب‌فروشي تهران" if "93" in dialect else "Bookshop Tehran"
            site.register(url, shop, iban=IBAN, name=name)
            sale = collected(site, url, shop, buyer, AMOUNT)
            assert buyer.balance == OPENING - AMOUNT

            assert sale.ask(sale.auth_reversal(100_000)).approved
            assert sale.ask(sale.credit(30_000)).approved
            assert buyer.balance == OPENING - 70_000
            held = collected(site, url, shop, buyer, AMOUNT, hold=True)
            assert held.ask(held.capture(40_000)).approved

            state = keys(site, url, change=True)
            assert {each["index"] for each in state.values()}
            _answer_lost(site, url, shop)

            site.switch.admin.cut_over(None)
            wait_for(lambda: _is_advised(url, shop, yesterday))
            assert [(day["state"], day["in_balance"]) for day in days(url, shop)] == [("CLOSED", True)]
            assert site.switch.admin.statistics()["dropped"] == dropped
            assert site.switch.admin.is_balanced()
    finally:
        site.switch.admin.cut_over(None)


def _answer_lost(site: Site, url: str, shop: Shop) -> None:
    """The switch debits and its answer does not come: the gateway takes the money back."""
    buyer = site.buyer()
    site.switch.admin.add_fault("0200", "drop", count=1)
    purchase = site.purchase(shop, buyer, AMOUNT)
    assert not purchase.checked_answer(shop.collect(url, purchase)).approved
    wait_for(lambda: shop.order(url, purchase.xid)["state"] == "REVERSED")
    assert buyer.balance == OPENING


def _is_advised(url: str, shop: Shop, day: date) -> bool:
    try:
        advice(url, shop, day)
    except Problem as problem:
        if problem.type != "day-open":
            raise
        return False
    return True


def test_what_follows_names_its_original_by_the_time_in_it(site: Site, tmp_path: Path) -> None:
    """DE 56 is MTI, STAN and DE 12 of a message that was sent, whenever that was: another switch looks for them."""
    home = site.gateway_home(tmp_path / "gateway", dialect="shetab93_ascii")
    with speaking(site, "shetab93_ascii") as heard, site.gateway(home) as url:
        shop, buyer = site.new_shop(), site.buyer()
        site.register(url, shop)
        held = collected(site, url, shop, buyer, AMOUNT, hold=True)
        begun = now().replace(microsecond=0)
        wait_for(lambda: now() >= begun + timedelta(seconds=1))  # a capture is of another second than its hold
        capture = held.done(held.capture(40_000))
        assert held.ask(held.credit(10_000, capture)).approved
        other = held.done(held.capture(20_000))
        assert held.ask(held.capture_reversal(other)).approved
        assert held.ask(held.auth_reversal(100_000)).approved
    dialect = Dialect.load("shetab93_ascii")
    sent = [{piece.field: piece.value for piece in dialect.take_apart(raw)[0]} for raw in heard]
    told = {each["t"] + each["11"] + each["12"] for each in sent}
    named = {each["62"].split()[2]: each["56"][:22] for each in sent if "56" in each}
    assert named.keys() == {"CAPTURE", "CREDIT", "CAPREV", "AUTHREV"}
    assert set(named.values()) <= told


def test_a_field_more_is_a_line_in_a_file_that_the_settings_name(site: Site, tmp_path: Path) -> None:
    with on_both_ends(site, tmp_path / "gateway", "ours.yaml") as url:
        shop, buyer = site.new_shop(), site.buyer()
        site.register(url, shop)
        collected(site, url, shop, buyer, AMOUNT)
        assert buyer.balance == OPENING - AMOUNT


def test_a_name_that_the_dialect_cannot_write_is_not_registered(site: Site, gateway: str) -> None:
    shop = site.new_shop()
    with pytest.raises(Problem, match="printable ASCII"):
        site.register(gateway, shop, name="کتاب‌فروشی")
