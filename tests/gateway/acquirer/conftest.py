"""Books of an acquirer, on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.acquirer.books import Books
from tests.kwbp.world import World
from tests.support.databases import DATABASES, gateway_database
from tests.support.pki_factory import PkiFactory


@pytest.fixture(scope="session")
def invoice() -> bytes:
    """Signed by a merchant whose certificate is bound to the account of the factory."""
    return World(PkiFactory()).purchase().invoice_signed


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return gateway_database(request.param, tmp_path)


@pytest.fixture
def opened(database: str, tmp_path: Path, invoice: bytes) -> Iterator[Callable[..., Books]]:
    """Opens books; they are closed at the end."""
    made: list[Books] = []

    def open_(**changes: Any) -> Books:
        made.append(Books.open(database, tmp_path, invoice, **changes))
        return made[-1]

    yield open_
    for each in made:
        each.store.close()


@pytest.fixture
def books(opened: Callable[..., Books]) -> Books:
    return opened()
