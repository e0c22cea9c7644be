"""What the tests of the storefront share: one payment site, one gateway, merchants and customers on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storefront.wallet import container
from tests.support.payment_site import Site
from tests.support.shop_front import Customer, Front


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Token, HSM service, repository and switch, for all tests of this package."""
    with Site.running(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="session")
def gateway(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway; its URL."""
    with site.gateway(site.gateway_home(tmp_path_factory.mktemp("gateway") / "home")) as url:
        yield url


@pytest.fixture
def make_front(site: Site, gateway: str, tmp_path: Path) -> Callable[..., Front]:
    """Makes merchants, registered at the gateway."""

    def make(*, at: str = gateway, **changes: Any) -> Front:
        return Front.of(site, at, tmp_path / "merchant", **changes)

    return make


@pytest.fixture
def front(make_front: Callable[..., Front]) -> Front:
    """A merchant that keeps its own key, not serving yet."""
    return make_front()


@pytest.fixture
def customer(site: Site) -> Customer:
    """A customer with 10,000,000 rial and a card."""
    return Customer.of(site)


@pytest.fixture
def purchases(tmp_path: Path) -> Path:
    """Folder of a wallet's purchases."""
    return tmp_path / "wallet" / "purchases"


@pytest.fixture(autouse=True)
def no_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test inherits the faults of another."""
    yield
    if "site" in request.fixturenames:
        request.getfixturevalue("site").switch.admin.clear_faults()


@pytest.fixture(scope="module")
def cheap_guesses() -> Iterator[None]:
    """Wallets that are sealed in milliseconds, for tests of what is in them; what a guess costs others look at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(container, "_MEMORY_KIB", 8 * 1024)
        patch.setattr(container, "_PASSES", 1)
        yield
