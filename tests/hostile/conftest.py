"""What the hostile tests share: one world of software keys; one site of real parts, made when a test asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runtime.settings import Home
from tests.hostile.receivers import Receivers
from tests.kwbp.world import Purchase, World
from tests.support.payment_parties import Buyer, Shop
from tests.support.payment_site import Site
from tests.support.pki_factory import PkiFactory


@pytest.fixture(scope="session")
def world() -> World:
    return World(PkiFactory())


@pytest.fixture(scope="session")
def purchase(world: World) -> Purchase:
    """An honest, approved purchase."""
    return world.purchase()


@pytest.fixture(scope="session")
def other(world: World) -> Purchase:
    """Another purchase of the same buyer at the same shop for the same goods."""
    return world.purchase()


@pytest.fixture(scope="session")
def to(world: World, purchase: Purchase) -> Receivers:
    """Everybody who receives a message of the honest purchase."""
    return Receivers(world, purchase)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Token, HSM service, repository and switch."""
    with Site.running(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="session")
def gateway_home(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Where the gateway keeps its book, journal and log."""
    return site.gateway_home(tmp_path_factory.mktemp("gateway") / "home")


@pytest.fixture(scope="session")
def gateway(site: Site, gateway_home: Home) -> Iterator[str]:
    """A gateway; its URL."""
    with site.gateway(gateway_home) as url:
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
