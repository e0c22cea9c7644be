"""Faults at exact points, where a campaign meets them by luck alone.

The bank network is killed with messages that had just come and others that were just booked and not answered, of
captures, refunds, reversals in part, and what takes them back; over the line, over a direct host's, over HTTP/JSON.
And a gateway's clock is set forward while approvals wait for their acknowledgement.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final, TypeAlias

import httpx
import pytest

from gateway.states import OrderState
from kwbp.common import Draft
from kwbp.settling import Followed
from runtime.client import http_client, raise_problem
from runtime.problems import Problem
from tests.faults.payments.books import AtMerchant, Order, Stand, judge_order
from tests.faults.payments.fall import Fall, forget
from tests.faults.payments.reading import at_issuer, gateway_orders, order_book
from tests.faults.payments.system import System
from tests.gateway.connectors.test_routed_orders import hosts
from tests.gateway.settling_shop import Collected, collected, request_message
from tests.support.payment_parties import Shop
from tests.support.payment_site import CARD_BIN, Site, wait_for

AMOUNT: Final = 150_000
PART: Final = 60_000
WAYS: Final = ("switch", "direct", "wallet")
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Way:
    """A gateway that reaches the bank by one connector, and a shop that is known there."""

    url: str
    database: Path
    shop: Shop


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("exact") / "run"
    # Nobody's approval runs out by itself, and gateways that share a line and no database change no keys.
    own = {"ack_timeout": 600.0, "answer_timeout": 10.0, "key_change_at_sign_on": False}
    with System.running(folder, random=Random(7), fronts=0, **own) as system:
        yield system


@pytest.fixture(scope="module")
def ways(system: System) -> Iterator[list[Way]]:
    """A gateway for each connector; the switch's is the system's own."""
    site, found = system.site, []
    with ExitStack() as stack:
        for name in WAYS:
            if name == "switch":
                home, url = system.gateways[0], system.gateway_url
            else:
                home = site.gateway_home(
                    system.folder / name, connectors=hosts(site), routes={"prefixes": {CARD_BIN: name}}
                )
                url = stack.enter_context(site.gateway_process(home)).url
                wait_for(lambda url=url: up(site, url))  # type: ignore[misc]
            shop = site.new_shop()
            site.register(url, shop)
            found.append(Way(url, home.db / "gateway.sqlite", shop))
        yield found


def up(site: Site, url: str) -> bool:
    """Whether every line of a gateway is up."""
    with http_client(site.tls("operator"), url) as client:
        return {line["state"] for line in raise_problem(client.get("/v1/links")).json()} == {"up"}


# --- what is asked for ------------------------------------------------------------------------------------------------


def captured(order: Collected) -> tuple[Draft[Any], Stand]:
    return order.capture(PART), Stand(AMOUNT, PART)


def capture_taken_back(order: Collected) -> tuple[Draft[Any], Stand]:
    return order.capture_reversal(order.done(order.capture(PART))), Stand(AMOUNT)


def hold_reversed_in_part(order: Collected) -> tuple[Draft[Any], Stand]:
    return order.auth_reversal(PART), Stand(PART)


def sale_reversed_in_part(order: Collected) -> tuple[Draft[Any], Stand]:
    return order.auth_reversal(PART), Stand(PART, PART)


def refunded(order: Collected) -> tuple[Draft[Any], Stand]:
    return order.credit(PART), Stand(AMOUNT, AMOUNT, PART)


def refund_taken_back(order: Collected) -> tuple[Draft[Any], Stand]:
    credit: Followed = order.done(order.credit(PART))
    return order.credit_reversal(credit), Stand(AMOUNT, AMOUNT)


Wish: TypeAlias = Callable[[Collected], tuple[Draft[Any], Stand]]
HOLDS: Final[tuple[Wish, ...]] = (captured, capture_taken_back, hold_reversed_in_part)
SALES: Final[tuple[Wish, ...]] = (sale_reversed_in_part, refunded, refund_taken_back)


@dataclass
class Asked:
    """One request about an order, and what must stand of the order once it is approved."""

    way: Way
    order: Collected
    draft: Draft[Any]
    stand: Stand

    def __post_init__(self) -> None:
        self.message = request_message(self.order.shop, self.draft)
        self.done = False

    @property
    def xid(self) -> bytes:
        return self.order.purchase.xid

    def tried(self) -> bool:
        """Ask, with the same bytes; whether it is approved. Anything but open or approved is wrong."""
        try:
            answer = self.order.judged(self.draft, self.message, self.order.sent(self.message))
        except (httpx.HTTPError, Problem, AssertionError):
            return False  # 503: it is asked again
        assert answer.open or answer.approved, answer.body
        self.done = self.done or answer.approved
        return self.done


def test_the_bank_network_falls_with_messages_that_came_and_messages_that_are_booked(
    system: System, ways: list[Way]
) -> None:
    """One fall: each wish by each way stands at both points when it comes."""
    switch = system.services["switch"]
    wanted = [(way, wish) for way in ways for wish in (*HOLDS, *SALES)]
    with ThreadPoolExecutor(4) as few, ThreadPoolExecutor(2 * len(wanted)) as people:
        asked = list(few.map(lambda each: prepared(system, *each), [*wanted, *wanted]))
        come, booked = ({each.xid.hex() for each in some} for some in (asked[: len(wanted)], asked[len(wanted) :]))
        Fall(frozenset(come), frozenset(booked)).plan(system.folder)
        waiting = [people.submit(each.tried) for each in asked]
        wait_for(lambda: not switch.runs)
        forget(system.folder)
        assert not any(each.result() for each in waiting)  # nobody was told that it is done
        switch.start()
        wait_for(lambda: all(list(people.map(Asked.tried, asked))), every=0.2)
    bookings = at_issuer(system)
    for each in asked:
        ((_, at_gateway),) = [found for xid, found in gateway_orders(order_book(each.way.database)) if xid == each.xid]
        merchant = AtMerchant("paid", AMOUNT, closed=True, paid=True, told=0, stand=each.stand)
        order = Order(each.xid, each.way.shop.merchant_id, merchant, at_gateway, tuple(bookings[each.xid]))
        assert list(judge_order(order)) == []


def prepared(system: System, way: Way, wish: Wish) -> Asked:
    order = collected(system.site, way.url, way.shop, system.site.buyer(), AMOUNT, hold=wish in HOLDS)
    return Asked(way, order, *wish(order))


# --- clocks -----------------------------------------------------------------------------------------------------------


def test_a_clock_set_forward_takes_nothing_back_before_its_time(system: System) -> None:
    """Of two approvals one has stood as long as was promised: it alone is taken back by a clock hours ahead."""
    site, gateway = system.site, system.services["gateway-1"]
    shop, url, database = system.desks[0], system.gateway_url, system.gateways[0].db / "gateway.sqlite"
    young, old = (site.purchase(shop, site.buyer()) for _ in range(2))
    answer = shop.collect(url, young)
    assert young.checked_answer(answer).approved
    assert old.checked_answer(shop.collect(url, old)).approved
    gateway.clock.move(2 * 3600)
    assert state_of(database, old.xid) is state_of(database, young.xid) is OrderState.APPROVED
    with closing(sqlite3.connect(database, timeout=30)) as book, book:
        book.execute("UPDATE orders SET ack_until = 0 WHERE xid = ?", [old.xid])
    wait_for(lambda: state_of(database, old.xid) is OrderState.REVERSED)
    assert state_of(database, young.xid) is OrderState.APPROVED
    gateway.clock.move(system.people.offset)
    assert shop.acknowledge(url, young.ack(answer)) == b""
    assert state_of(database, young.xid) is OrderState.ACKED


def state_of(database: Path, xid: bytes) -> OrderState:
    with closing(sqlite3.connect(database, timeout=30)) as book:
        ((state,),) = book.execute("SELECT state FROM orders WHERE xid = ?", [xid]).fetchall()
    return OrderState(state)
