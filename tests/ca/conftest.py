"""One office (hierarchy, officers, services) for the session; a CA in service for each test.

The office lives now: TLS and `certtool` look at the machine's clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.ca_world import CaWorld
from tests.support.cps_cases import Office
from tests.support.pki_factory import PkiFactory


def new_office() -> Office:
    """An office with a hierarchy of its own."""
    return Office(PkiFactory(now=datetime.now(UTC).replace(microsecond=0)))


@pytest.fixture(scope="session")
def office() -> Office:
    return new_office()


@pytest.fixture
def fresh_office() -> Office:
    """One whose officers a test may revoke."""
    return new_office()


@pytest.fixture
def world(tmp_path: Path, office: Office) -> Iterator[CaWorld]:
    made = CaWorld(tmp_path, office)
    yield made
    made.close()
