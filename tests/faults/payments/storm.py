"""Many reversals due in one moment: the line was down while approvals ran out of time, and comes back.

    figures = run(folder, orders=60, database=POSTGRESQL, gateways=2)
    assert not figures.findings

Every order is a real one, approved by the bank network; its merchant never acknowledges. While the bank network is
away all of them fall due. When it is back, each must be taken back once, by whichever gateway, while new orders are
sold.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import httpx
from sqlalchemy import Engine, create_engine, func, select, text, update

from gateway.schema import orders
from gateway.states import OrderState
from kwbp.errors import ProtocolError
from runtime.problems import Problem
from tests.faults.payments.books import AtMerchant, Finding, Kind, Order, Stand, judge_order
from tests.faults.payments.reading import at_issuer, gateway_engine, gateway_orders
from tests.faults.payments.system import SQLITE, System
from tests.support.payment_parties import Buyer, Purchase
from tests.support.payment_site import wait_for

AMOUNT: Final = 150_000
SALES: Final = 4
"""New orders that are placed while money goes back."""
_AT_ONCE: Final = 6
_OF_ONE_CARD: Final = 3
"""Orders of each card: of one card they go back one after the other."""
_PATIENCE: Final = 300.0
_NOT_YET: Final = (httpx.HTTPError, Problem, ProtocolError, AssertionError)
"""What a merchant may meet that one gateway has just registered and the other does not know yet."""


@dataclass(frozen=True)
class Figures:
    """What a storm came to. Memory in bytes: by how much a gateway grew at most."""

    orders: int
    seconds: float
    attempts: int
    sold_meanwhile: int
    grown: int
    connections: int
    findings: list[Finding]

    def __str__(self) -> str:
        lines = [
            f"{self.orders} reversals in {self.seconds:.1f} s, {self.attempts} messages; a gateway grew by "
            f"{self.grown / 2**20:.0f} MiB, the database had {self.connections} connections at most; of {SALES} new "
            f"orders {self.sold_meanwhile} were sold before the last reversal ended"
        ]
        return "\n".join([*lines, *(f"  {each.kind}: {each.said}" for each in self.findings)])


def run(folder: Path, *, orders: int, database: str = SQLITE, gateways: int = 1) -> Figures:
    """One storm."""
    settings = {"ack_timeout": 3600.0, "answer_timeout": 10.0, "reversal_longest_pause": 5.0}
    with System.running(folder, random=Random(1), database=database, gateways=gateways, fronts=0, **settings) as system:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            buyers = [system.site.buyer() for _ in range(-(-orders // _OF_ONE_CARD))]
            placed = list(pool.map(lambda number: approved(system, buyers[number % len(buyers)]), range(orders)))
            switch, book = system.services["switch"], gateway_engine(system)
            switch.kill()
            before = [memory(each.process.pid) for each in system.of_kind("gateway") if each.process]
            fall_due(system)
            wait_for(lambda: in_state(book, OrderState.REV_QUEUED) == orders, within=_PATIENCE)
            switch.start()
            wait_for(switch.ready, every=0.1)
            began = time.monotonic()
            sold = [pool.submit(sale, system, system.site.buyer(), book) for _ in range(SALES)]
            connections = watch(book, lambda: in_state(book, OrderState.REVERSED) == orders)
            seconds = time.monotonic() - began
            after = [memory(each.process.pid) for each in system.of_kind("gateway") if each.process]
            meanwhile = sum(_told(each) for each in sold)
            attempts = attempted(book)
            book.dispose()
        findings = judged(system, placed)
    grown = max(now - then for then, now in zip(before, after, strict=True))
    return Figures(orders, seconds, attempts, meanwhile, grown, connections, findings)


def approved(system: System, buyer: Buyer) -> Purchase:
    """An order that is approved and that nobody acknowledges."""
    shop = system.desks[0]
    purchase = system.site.purchase(shop, buyer, AMOUNT)
    wait_for(lambda: _collected(system, purchase), every=0.2)
    return purchase


def sale(system: System, buyer: Buyer, book: Engine) -> bool:
    """A new order, tried anew until one is approved; whether something was still going back then."""
    while True:
        purchase = system.site.purchase(system.desks[1], buyer, AMOUNT)
        answer: list[bytes] = []
        with suppress(*_NOT_YET):
            answer.append(purchase.shop.collect(system.gateway_url, purchase))
            if purchase.checked_answer(answer[0]).approved:
                purchase.shop.acknowledge(system.gateway_url, purchase.ack(answer[0]))
                return in_state(book, OrderState.REV_QUEUED) > 0
        time.sleep(0.2)


def _told(sold: Future[bool]) -> bool:
    return sold.result(_PATIENCE)


def _collected(system: System, purchase: Purchase) -> bool:
    with suppress(*_NOT_YET):
        return purchase.checked_answer(purchase.shop.collect(system.gateway_url, purchase)).approved
    return False


def fall_due(system: System) -> None:
    """All approvals have stood long enough, in one moment."""
    url = system.database_url
    book = (
        create_engine(f"sqlite:///{system.gateways[0].db / 'gateway.sqlite'}", connect_args={"timeout": 30})
        if url is None
        else create_engine(url.replace("postgresql:", "postgresql+psycopg:", 1))
    )
    long_ago = system.people().replace(year=2020)
    with book.begin() as connection:
        standing = orders.c.state == OrderState.APPROVED
        connection.execute(update(orders).where(standing).values(ack_by=long_ago, ack_until=0))
    book.dispose()


def in_state(book: Engine, state: OrderState) -> int:
    """How many orders are in a state."""
    with book.connect() as connection:
        count = select(func.count()).select_from(orders).where(orders.c.state == state)
        return int(connection.execute(count).scalar_one())


def attempted(book: Engine) -> int:
    """Reversal messages that the order book has counted."""
    with book.connect() as connection:
        return int(connection.execute(select(func.sum(orders.c.reversal_attempts))).scalar_one())


def watch(book: Engine, done: Callable[[], bool]) -> int:
    """Wait until it is done; the most connections that the server had meanwhile (0 for a file)."""
    most, deadline = 0, time.monotonic() + _PATIENCE
    while not done():
        assert time.monotonic() < deadline, "not all were taken back"
        if book.dialect.name == "postgresql":
            with book.connect() as connection:
                asked = text("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
                most = max(most, int(connection.execute(asked).scalar_one()))
        time.sleep(0.1)
    return most


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) * 1024


def judged(system: System, placed: list[Purchase]) -> list[Finding]:
    """What is wrong: by the books, and if the bank network has another number of reversals of an order than one."""
    findings: list[Finding] = []
    bookings, book = at_issuer(system), dict(gateway_orders(gateway_engine(system)))
    for purchase in placed:
        xid = purchase.xid
        merchant = AtMerchant("told approved", AMOUNT, closed=True, paid=False, told=0, stand=Stand())
        findings += judge_order(Order(xid, purchase.shop.merchant_id, merchant, book[xid][1], tuple(bookings[xid])))
        back = [each for each in bookings[xid] if not each.of_money]
        if len(back) != 1:
            findings.append(Finding(Kind.SENT_TWICE, f"{len(back)} reversals are booked", xid))
    return findings
