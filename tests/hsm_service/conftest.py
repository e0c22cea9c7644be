from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hsm_service.vault import Vault
from tests.support.once import once_a_run
from tests.support.signing_site import Served, World, found, serving


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> World:
    """An installation with keys of every template; nobody changes it: work on a `copy`."""
    return once_a_run(tmp_path_factory, "signing-site", found)


@pytest.fixture
def world(founded: World, tmp_path: Path) -> World:
    """An installation of the test's own."""
    return founded.copy(tmp_path)


@pytest.fixture
def vault(world: World) -> Iterator[Vault]:
    """Its vault, open."""
    with world.vault() as vault:
        yield vault


@pytest.fixture(scope="module")
def served(founded: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The signing API on real tokens behind mutual TLS. A module that uses it opens no vault of its own."""
    world = founded.copy(tmp_path_factory.mktemp("served"))
    with serving(world, tmp_path_factory.mktemp("tls")) as served:
        yield served
