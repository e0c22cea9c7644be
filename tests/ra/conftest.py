"""One office for the session; a CA and an RA in service for each test."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.cps_cases import Office
from tests.support.pki_factory import PkiFactory
from tests.support.ra_world import RaWorld


def new_office() -> Office:
    """An office that lives now, as TLS wants it."""
    return Office(PkiFactory(now=datetime.now(UTC).replace(microsecond=0)))


@pytest.fixture(scope="session")
def office() -> Office:
    return new_office()


@pytest.fixture
def fresh_office() -> Office:
    """One whose officers a test may revoke."""
    return new_office()


@pytest.fixture
def world(tmp_path: Path, office: Office) -> Iterator[RaWorld]:
    made = RaWorld(tmp_path, office)
    yield made
    made.close()
