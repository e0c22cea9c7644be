"""One outside world for all tests; each test has an RA of its own. Faults do not outlive the test that planned them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.client import TlsFiles
from tests.support.ca_world import CaWorld
from tests.support.cps_cases import Office
from tests.support.registers_world import AskingRa, Outside, outside_world
from tests.support.tls import tls_issuer


@pytest.fixture(scope="session")
def outside_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    with outside_world(tmp_path_factory.mktemp("outside")) as outside:
        yield outside


@pytest.fixture
def outside(outside_of_all: Outside) -> Iterator[Outside]:
    yield outside_of_all
    outside_of_all.registers.faults.clear()


@pytest.fixture(scope="session")
def ca_of_all(tmp_path_factory: pytest.TempPathFactory, office: Office) -> Iterator[CaWorld]:
    ca = CaWorld(tmp_path_factory.mktemp("ca"), office)
    yield ca
    ca.close()


@pytest.fixture
def ca(ca_of_all: CaWorld, office: Office) -> Iterator[CaWorld]:
    """A CA whose clock is set back after each test."""
    yield ca_of_all
    ca_of_all.clock.now = office.now


@pytest.fixture
def make(tmp_path: Path, office: Office, outside: Outside, ca: CaWorld) -> Iterator[Callable[..., AskingRa]]:
    """Makes RAs over one folder: the second one is the first after a restart."""
    made: list[AskingRa] = []

    def new(**options: Any) -> AskingRa:
        made.append(AskingRa(tmp_path, office, outside, ca, **options))
        return made[-1]

    yield new
    for each in made:
        each.close()


@pytest.fixture
def ra(make: Callable[..., AskingRa]) -> AskingRa:
    return make()


@pytest.fixture(scope="session")
def office_root(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """The RA's identity under a root that nobody else knows."""
    return tls_issuer(tmp_path_factory.mktemp("elsewhere"))("ra", uri="urn:kwbp:service:ra")
