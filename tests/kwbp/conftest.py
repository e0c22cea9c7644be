"""One world for the session; the purchases in it are never changed, only copied."""

from __future__ import annotations

import pytest

from tests.kwbp.settling import Settling
from tests.kwbp.world import Purchase, World
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
def settling(world: World) -> Settling:
    """The same parties after the authorisation."""
    return Settling(world)
