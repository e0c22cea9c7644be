"""One simulator on free ports for all tests; each test has an acquirer and a customer of its own.

The customer has a card and 1 000 000 rial. After each test the books must balance and no fault may wait.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from runtime.settings import Home
from shetab.types import Rial
from switch.records import Account, IssuedCard
from switch.service import RunningSwitch, running
from tests.support.acquirer import ACQUIRER, Acquirer, write_zone_keys

OPENING = 1_000_000

_codes = (f"{ACQUIRER}{number:05d}" for number in itertools.count(1))


@dataclass(frozen=True)
class Customer:
    account: Account
    card: IssuedCard


@dataclass(frozen=True)
class Zone:
    """Keys shared by both ends, and the installation they are in."""

    home: Home
    pin_key: bytes
    mac_key: bytes


def new_zone(home: Home) -> Zone:
    home.create()
    return Zone(home, *write_zone_keys(home.secrets))


@pytest.fixture(scope="session")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Zone:
    return new_zone(Home(tmp_path_factory.mktemp("switch")))


@pytest.fixture(scope="session")
def running_switch(zone: Zone) -> Iterator[RunningSwitch]:
    with running(zone.home) as started:
        yield started


@pytest.fixture
def switch(running_switch: RunningSwitch) -> Iterator[RunningSwitch]:
    yield running_switch
    running_switch.faults.clear()
    assert running_switch.bank.is_balanced()


@pytest.fixture
def customer(switch: RunningSwitch) -> Customer:
    account = switch.bank.open_account("603770", holder="Member One", balance=Rial(OPENING))
    return Customer(account, switch.bank.issue_card(account.iban))


@pytest.fixture
def line(switch: RunningSwitch, zone: Zone) -> Acquirer:
    """An acquirer that the switch knows, not yet connected."""
    code = next(_codes)
    switch.bank.register_acquirer(code, f"Acquirer {code}")
    return Acquirer(switch.host, switch.port, zone.pin_key, zone.mac_key, code=code)


@pytest.fixture
def acquirer(line: Acquirer) -> Iterator[Acquirer]:
    """Connected and signed on."""
    with line:
        line.sign_on()
        yield line
