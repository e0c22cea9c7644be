"""What the tests of the gateway share: a moment, an order book, orders in it, a line to a scripted switch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from gateway.links.intake import MessageAuthentication
from gateway.links.link import SwitchLink
from gateway.links.settings import Address, LinkSettings
from gateway.merchants import Merchant, MerchantRegistry
from gateway.order import NewOrder, OrderKey
from gateway.store import OrderStore
from shetab.framing import Framing
from shetab.message import Message
from switch.service import RunningSwitch
from tests.support.databases import gateway_database
from tests.support.payment_parties import Buyer, Shop
from tests.support.payment_site import Site
from tests.support.scripted_switch import DIALECT, MAC_KEY, ScriptedSwitch, SoftwareMac

T = TypeVar("T")

NOW: Final = datetime(2026, 3, 21, 12, 0, 0, tzinfo=UTC)
ACQUIRER: Final = "581672"
SHOP: Final = Merchant("M-1", "T0000001", "Bookshop Tehran", "5942")


class Clock:
    """A clock that a test moves."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run one test's coroutine in a loop of its own."""
    return asyncio.run(coroutine)


async def until(condition: Callable[[], object], *, within: float = 120.0) -> None:
    """Wait until `condition()` holds; a test fails if it never does."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110  # what is waited for may be in another process
            await asyncio.sleep(0.005)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(tmp_path: Path) -> Iterator[OrderStore]:
    """An empty order book with one registered merchant."""
    with OrderStore.open(gateway_database("sqlite", tmp_path)) as store:
        run(MerchantRegistry(store).register(SHOP, NOW))
        yield store


def new_order(number: int = 1, *, amount: int = 150_000) -> NewOrder:
    """An order of the shop, told apart by `number`."""
    return NewOrder(
        key=OrderKey(SHOP.merchant_id, number.to_bytes(20, "big")),
        request_digest=number.to_bytes(32, "big"),
        rrpid=number.to_bytes(20, "little"),
        terminal_id=SHOP.terminal_id,
        amount=amount,
        invoice=b"signed invoice",
        dual_signature=b"dual signature",
    )


class LateCounter:
    """Trace numbers for a line without an order book."""

    def __init__(self) -> None:
        self._last = 900_000

    async def __call__(self) -> str:
        self._last += 1
        return f"{self._last:06d}"


def link_settings(port: int, **changes: Any) -> LinkSettings:
    """Settings with short times: no test waits for the clock of production."""
    quick: dict[str, Any] = {
        "connect_timeout": 5.0,
        "management_timeout": 5.0,
        "echo_interval": 60.0,
        "first_pause": 0.01,
        "longest_pause": 0.05,
        "institution": ACQUIRER,
        "framing": Framing(),
    }
    return LinkSettings(**{"addresses": (Address("127.0.0.1", port),), **quick, **changes})


@asynccontextmanager
async def line(
    switch: ScriptedSwitch | RunningSwitch,
    *,
    on_unclaimed: Callable[[Message], Awaitable[None]] | None = None,
    clock: Callable[[], datetime] = lambda: NOW,
    key: bytes = MAC_KEY,
    mac: MessageAuthentication | None = None,
    on_key: Callable[[Message], Awaitable[str]] | None = None,
    wait: bool = True,
    **settings: Any,
) -> AsyncIterator[SwitchLink]:
    """A running line to `switch`, signed on unless `wait` is false."""

    async def ignore(_message: Message) -> None:
        return None

    link = SwitchLink(
        link_settings(switch.port, **settings),
        DIALECT,
        mac or SoftwareMac(key),
        next_stan=LateCounter(),
        on_unclaimed=on_unclaimed or ignore,
        clock=clock,
        rng=lambda size: bytes(size),
        on_key=on_key,
    )
    task = asyncio.create_task(link.run())
    try:
        if wait:
            await until(lambda: link.signed_on)
        yield link
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# --- real parts -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Token, HSM service, repository and switch, for all tests of this package."""
    with Site.running(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def gateway(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway with its own order book for the tests of one module; its URL."""
    with site.gateway(site.gateway_home(tmp_path_factory.mktemp("gateway") / "home")) as url:
        yield url


@pytest.fixture
def shop(site: Site, gateway: str) -> Shop:
    """A merchant of the test's own, registered at the gateway."""
    shop = site.new_shop()
    site.register(gateway, shop)
    return shop


@pytest.fixture
def buyer(site: Site) -> Buyer:
    """A customer with 10,000,000 rial and a card."""
    return site.buyer()


@pytest.fixture(autouse=True)
def no_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test inherits the faults of another."""
    yield
    if "site" in request.fixturenames:
        request.getfixturevalue("site").switch.admin.clear_faults()
